package access

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/storage"
)

// MaxCubbyhole is how much a token may keep in its cubbyhole, in bytes as JSON.
const MaxCubbyhole = 256 << 10

const (
	cubbyholeFolder  = "access/cubbyhole"
	cubbyholeVersion = 1
)

// A cubbyhole is what a token keeps for itself, in one record, so that it goes
// with the token in one deletion. That of a wrapping token has the answer.
type cubbyhole struct {
	Version  int                        `json:"version"`
	Secrets  map[string]json.RawMessage `json:"secrets,omitempty"` // JSON objects, by path
	Status   int                        `json:"status,omitempty"`
	Response json.RawMessage            `json:"response,omitempty"`
}

func (id ID) cubbyholePath() string {
	name := hex.EncodeToString(id[:])
	return cubbyholeFolder + "/" + name[:2] + "/" + name[2:]
}

func readCubbyhole(tx *storage.Tx, id ID) ([]byte, error) {
	value, err := tx.Get(id.cubbyholePath())
	if err != nil {
		return nil, fmt.Errorf("reading a cubbyhole: %w", err)
	}
	return value, nil
}

func decodeCubbyhole(value []byte) (*cubbyhole, error) {
	c := &cubbyhole{Version: cubbyholeVersion}
	if value == nil {
		return c, nil
	}
	if err := json.Unmarshal(value, c); err != nil {
		return nil, fmt.Errorf("decoding a cubbyhole: %w: %w", storage.ErrCorrupt, err)
	}
	if c.Version != cubbyholeVersion {
		return nil, fmt.Errorf("decoding a cubbyhole: %w: record version %d, this program reads %d", storage.ErrFormat, c.Version, cubbyholeVersion)
	}
	return c, nil
}

// cubbyhole returns that of a token that [Lookup] or [Use] returned.
func (t *Token) cubbyhole(tx *storage.Tx) (*cubbyhole, error) {
	value := t.left
	if value == nil {
		var err error
		if value, err = readCubbyhole(tx, t.id); err != nil {
			return nil, err
		}
	}
	return decodeCubbyhole(value)
}

// Secret returns what the token keeps at a path, a JSON object; nil when there
// is nothing.
func (t *Token) Secret(tx *storage.Tx, path string) (json.RawMessage, error) {
	c, err := t.cubbyhole(tx)
	if err != nil {
		return nil, err
	}
	return c.Secrets[path], nil
}

// Secrets lists the names in a folder of the token's cubbyhole, "" for all of
// it, sorted; those of folders end in a slash.
func (t *Token) Secrets(tx *storage.Tx, folder string) ([]string, error) {
	c, err := t.cubbyhole(tx)
	if err != nil {
		return nil, err
	}
	if folder != "" {
		folder += "/"
	}
	var names []string
	for path := range c.Secrets {
		if name, ok := strings.CutPrefix(path, folder); ok {
			if i := strings.IndexByte(name, '/'); i >= 0 {
				name = name[:i+1]
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// SetSecret keeps a JSON object at a path of the token's cubbyhole; nil deletes
// what is there. The error is [ErrDenied] when the token is no more, and
// [storage.ErrTooLarge] when the cubbyhole would be.
func (t *Token) SetSecret(tx *storage.Tx, path string, object json.RawMessage) error {
	r, err := read(tx, t.id)
	if err != nil {
		return err
	}
	if r == nil || r.Revoked { // nothing would delete the record
		return ErrDenied
	}
	c, err := t.cubbyhole(tx)
	if err != nil {
		return err
	}
	if object == nil {
		delete(c.Secrets, path)
	} else {
		if c.Secrets == nil {
			c.Secrets = make(map[string]json.RawMessage)
		}
		c.Secrets[path] = object
	}
	value, err := json.Marshal(c)
	switch {
	case err != nil:
		return fmt.Errorf("encoding a cubbyhole: %w", err)
	case len(value) > MaxCubbyhole && object != nil:
		return fmt.Errorf("%w: a cubbyhole has at most %d bytes in all", storage.ErrTooLarge, MaxCubbyhole)
	}
	if err := tx.Put(t.id.cubbyholePath(), value); err != nil {
		return fmt.Errorf("writing a cubbyhole: %w", err)
	}
	return nil
}
