// Package cubbyhole is where each token keeps what no other token sees, not even
// root: Vault's cubbyhole, at the fixed path cubbyhole/.
//
// The paths of a request lie in the caller's own cubbyhole. It ends with its token,
// however that ends: revoked, expired or used up.
//
// # Cost
//
// All that a token keeps is one record of at most [Max] bytes. So every operation
// is one Get, a write one Get of the token and one Put more, and each decodes or
// encodes the whole record.
//
// # Format
//
// The record stands beside the token's (see package access), as
//
//	{"version":1,"secrets":{"<path>":{...},...}}
//
// with a JSON object for each path. A record that does not decode is
// [storage.ErrCorrupt], one of another version [storage.ErrFormat].
package cubbyhole

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/storage"
)

// Max is how many bytes a token may keep in its cubbyhole, as JSON.
const Max = 256 << 10

const recordVersion = 1

type record struct {
	Version int                        `json:"version"`
	Secrets map[string]json.RawMessage `json:"secrets,omitempty"` // JSON objects, by path
}

func decode(value []byte) (*record, error) {
	r := &record{Version: recordVersion}
	if value == nil {
		return r, nil
	}
	if err := json.Unmarshal(value, r); err != nil {
		return nil, fmt.Errorf("decoding a cubbyhole: %w: %w", storage.ErrCorrupt, err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("decoding a cubbyhole: %w: record version %d, this program reads %d", storage.ErrFormat, r.Version, recordVersion)
	}
	return r, nil
}

func read(tx *storage.Tx, t *access.Token) (*record, error) {
	value, err := t.Cubbyhole(tx)
	if err != nil {
		return nil, err
	}
	return decode(value)
}

// Get returns the JSON object that a token keeps at a path, nil when there is none.
func Get(tx *storage.Tx, t *access.Token, path string) (json.RawMessage, error) {
	r, err := read(tx, t)
	if err != nil {
		return nil, err
	}
	return r.Secrets[path], nil
}

// List returns the names in a folder of a token's cubbyhole, "" for the top, sorted.
// Those of folders end in a slash.
func List(tx *storage.Tx, t *access.Token, folder string) ([]string, error) {
	r, err := read(tx, t)
	if err != nil {
		return nil, err
	}
	if folder != "" {
		folder += "/"
	}
	var names []string
	for path := range r.Secrets {
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

// Put keeps a JSON object at a path. The error is [access.ErrDenied] when the token
// is no more, and [storage.ErrTooLarge] when the cubbyhole would hold more than [Max].
func Put(tx *storage.Tx, t *access.Token, path string, object json.RawMessage) error {
	r, err := read(tx, t)
	if err != nil {
		return err
	}
	if r.Secrets == nil {
		r.Secrets = make(map[string]json.RawMessage)
	}
	r.Secrets[path] = object
	value, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding a cubbyhole: %w", err)
	}
	if err := checkSize(len(value)); err != nil {
		return err
	}
	return t.PutCubbyhole(tx, value)
}

func checkSize(n int) error {
	if n > Max {
		return fmt.Errorf("%w: a cubbyhole has at most %d bytes in all", storage.ErrTooLarge, Max)
	}
	return nil
}

// Delete removes what a token keeps at a path, if anything. The error is
// [access.ErrDenied] when the token is no more.
func Delete(tx *storage.Tx, t *access.Token, path string) error {
	r, err := read(tx, t)
	if err != nil {
		return err
	}
	delete(r.Secrets, path)
	value, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding a cubbyhole: %w", err)
	}
	return t.PutCubbyhole(tx, value)
}
