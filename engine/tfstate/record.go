package tfstate

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

const recordVersion = 1

// An engine is the states of one mount.
type engine struct{ prefix string }

// of returns the engine of a request and the path of its state.
func of(r *api.Request) (engine, string) { return engine{r.Prefix()}, r.Param("path") }

// A head is what is known of a state without its content.
type head struct {
	Version  int       `json:"version"`
	ID       string    `json:"id"`      // of the folders of its versions
	Last     int       `json:"last"`    // number of the newest version; 0: there is none yet
	First    int       `json:"first"`   // of the oldest that may still be there
	Current  *version  `json:"current"` // the newest; nil: there is none yet
	Deleted  time.Time `json:"deleted,omitzero"`
	Settings Settings  `json:"settings,omitzero"`
}

// A version is one that was written of a state.
type version struct {
	Number     int       `json:"version"`
	Serial     uint64    `json:"serial"`
	Lineage    string    `json:"lineage"`
	Time       time.Time `json:"time"`
	Size       int64     `json:"size"` // bytes
	SHA256     string    `json:"sha256"`
	MD5        []byte    `json:"md5"`
	Terraform  string    `json:"terraform_version,omitempty"` // that wrote it, or OpenTofu's
	Encrypted  bool      `json:"encrypted"`                   // by OpenTofu
	Who        string    `json:"who"`                         // display name of the token
	From       string    `json:"from,omitempty"`              // address
	Operation  string    `json:"operation,omitempty"`         // of the lock, or what was done here
	LineageNew bool      `json:"lineage_changed,omitempty"`
	SerialBack bool      `json:"serial_went_back,omitempty"`
}

func (e engine) headPath(path string) string { return e.prefix + "/state/" + path }

func (e engine) versionPath(id string, n int) string {
	return fmt.Sprintf("%s/version/%s/%010d", e.prefix, id, n)
}

func (e engine) dataPath(id string, n int) string {
	return fmt.Sprintf("%s/data/%s/%010d", e.prefix, id, n)
}

// head returns that of a state, nil when there is none.
func (e engine) head(tx *storage.Tx, path string) (*head, error) {
	h := new(head)
	ok, err := e.get(tx, e.headPath(path), "a state's record", h)
	if !ok {
		return nil, err
	}
	return h, nil
}

// live is head for a state that has content: ErrAbsent where it has none, or is
// deleted.
func (e engine) live(tx *storage.Tx, path string) (*head, error) {
	h, err := e.head(tx, path)
	if err == nil && (h == nil || h.Current == nil || !h.Deleted.IsZero()) {
		err = api.ErrAbsent
	}
	return h, err
}

// version returns a version of a state, ErrAbsent when it is not there.
func (e engine) version(tx *storage.Tx, h *head, n int) (*version, error) {
	v := new(version)
	ok, err := e.get(tx, e.versionPath(h.ID, n), "a version of a state", v)
	if err == nil && !ok {
		err = api.ErrAbsent
	}
	return v, err
}

// get decodes a record and reports whether there is one.
func (e engine) get(tx *storage.Tx, path, what string, into any) (bool, error) {
	value, err := tx.Get(path)
	if err != nil || value == nil {
		return false, err
	}
	if err := json.Unmarshal(value, into); err != nil {
		return false, fmt.Errorf("decoding %s: %w: %w", what, storage.ErrCorrupt, err)
	}
	return true, nil
}

func (e engine) put(tx *storage.Tx, path string, record any) error {
	value, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encoding a record: %w", err)
	}
	return tx.Put(path, value)
}

// newID is a name for the folders of a new state's versions.
func newID() string {
	id := storage.NewUUID()
	return id[len(id)-12:]
}

// checkPath refuses what cannot be the path of a state: its last segment would be taken
// for the address of its lock.
func checkPath(path string) error {
	if path == "lock" || strings.HasSuffix(path, "/lock") {
		return api.Invalid.Errorf("a state cannot be called lock: the address with /lock at its end is that of a state's lock")
	}
	return nil
}
