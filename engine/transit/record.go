package transit

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// format is that of all records.
const format = 1

// A policy is the settings of a key.
type policy struct {
	ID   string `json:"id"` // of the folder with the versions
	Type string `json:"type"`

	Derived              bool   `json:"derived,omitempty"`
	KDF                  string `json:"kdf,omitempty"` // of a derived key
	Convergent           bool   `json:"convergent,omitempty"`
	Exportable           bool   `json:"exportable,omitempty"`
	AllowPlaintextBackup bool   `json:"allow_plaintext_backup,omitempty"`
	DeletionAllowed      bool   `json:"deletion_allowed,omitempty"`
	SoftDeleted          bool   `json:"soft_deleted,omitempty"`
	Imported             bool   `json:"imported,omitempty"`
	AllowRotation        bool   `json:"allow_rotation,omitempty"` // of an imported key
	KeySize              int    `json:"key_size,omitempty"`       // bytes of an hmac key

	Latest        int `json:"latest"`                   // version
	MinDecryption int `json:"min_decryption"`           // 1 or more
	MinEncryption int `json:"min_encryption,omitempty"` // 0: the latest by default, none is forbidden
	MinAvailable  int `json:"min_available,omitempty"`  // 0: as 1
	First         int `json:"first"`                    // lowest version that may still have a record

	AutoRotate time.Duration `json:"auto_rotate,omitempty"` // 0: never
	Rotated    time.Time     `json:"rotated"`               // when the latest version was made
	Backup     *event        `json:"backup,omitempty"`      // the last one
	Restore    *event        `json:"restore,omitempty"`
}

// An event is when something was done to a key, and what was the latest version then.
type event struct {
	Time    time.Time `json:"time"`
	Version int       `json:"version"`
}

// Key derivation functions, as they are shown.
const (
	kdfHKDF    = "hkdf_sha256"
	kdfCounter = "hmac-sha256-counter" // of keys that an old Vault has made
)

// convergent is the one version of convergent encryption that is offered: those
// before it took the nonce from the caller.
const convergent = 3

// A record is a version of a key.
type record struct {
	Created    time.Time `json:"created"`
	Secret     []byte    `json:"secret,omitempty"`     // a symmetric key; 64 bytes of ed25519; PKCS #8 of others; nil: there is only the public key
	HMAC       []byte    `json:"hmac,omitempty"`       // the key for HMACs; of an hmac key the secret itself is that
	Public     []byte    `json:"public,omitempty"`     // PKIX, of an asymmetric key that is not derived
	Convergent int       `json:"convergent,omitempty"` // version of the encryption
	Chain      [][]byte  `json:"chain,omitempty"`      // certificates, that of the public key first
}

// config is what holds for all keys of a mount.
type config struct {
	DisableUpsert bool `json:"disable_upsert"`
}

// engine is what a mount has.
type engine struct{ prefix string }

// of is the engine and the name of the key that a request is for.
func of(r *api.Request) (e engine, name string) {
	return engine{r.Prefix()}, r.Param("name")
}

func (e engine) policyPath(name string) string { return e.prefix + "/policy/" + name }
func (e engine) folder(id string) string       { return e.prefix + "/key/" + id }
func (e engine) configPath() string            { return e.prefix + "/config/keys" }

func (e engine) versionPath(id string, n int) string { return e.folder(id) + "/" + strconv.Itoa(n) }

// policy reads the settings of a key, nil when there is none.
func (e engine) policy(tx *storage.Tx, name string) (*policy, error) {
	p := new(policy)
	found, err := get(tx, e.policyPath(name), p)
	if err == nil && found {
		err = p.check()
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key %q: %w", name, err)
	}
	if !found {
		return nil, nil
	}
	return p, nil
}

// check refuses a policy that no program has written.
func (p *policy) check() error {
	k := kindOf(p.Type)
	if k == nil {
		return fmt.Errorf("%w: a key of the type %.100q", storage.ErrFormat, p.Type)
	}
	if p.Derived && !k.derives() || p.Convergent && !(p.Derived && k.symmetric()) {
		return fmt.Errorf("%w: its type cannot be derived from", storage.ErrCorrupt)
	}
	if p.ID == "" || p.Latest < 1 || p.MinDecryption < 1 || p.MinDecryption > p.Latest || p.MinEncryption < 0 || p.MinEncryption > p.Latest ||
		p.MinAvailable < 0 || p.MinAvailable > p.Latest || p.First < 1 || p.First > p.Latest {
		return fmt.Errorf("%w: its versions contradict one another", storage.ErrCorrupt)
	}
	return nil
}

func (e engine) putPolicy(tx *storage.Tx, name string, p *policy) error {
	return put(tx, e.policyPath(name), p)
}

// record reads a version of a key, nil when there is none.
func (e engine) record(tx *storage.Tx, id string, n int) (*record, error) {
	v := new(record)
	found, err := get(tx, e.versionPath(id, n), v)
	if err != nil {
		return nil, fmt.Errorf("reading version %d of a key: %w", n, err)
	}
	if !found {
		return nil, nil
	}
	return v, nil
}

// putVersion writes a version of a key. The policy must be written in the same
// transaction.
func (e engine) putVersion(tx *storage.Tx, p *policy, n int, v *record) error {
	return put(tx, e.versionPath(p.ID, n), v)
}

// add makes a version the latest of a key, and writes both.
func (e engine) add(tx *storage.Tx, name string, p *policy, v *record, now time.Time) error {
	v.Created = now.UTC()
	p.Latest++
	p.Rotated = v.Created
	if err := e.putVersion(tx, p, p.Latest, v); err != nil {
		return err
	}
	return e.putPolicy(tx, name, p)
}

func get(tx *storage.Tx, path string, to any) (found bool, err error) {
	b, err := tx.Get(path)
	if err != nil || b == nil {
		return false, err
	}
	return true, decode(b, to)
}

func decode(b []byte, to any) error {
	switch {
	case len(b) == 0:
		return fmt.Errorf("%w: an empty record", storage.ErrCorrupt)
	case b[0] != format:
		return fmt.Errorf("%w: record version %d, this program reads %d", storage.ErrFormat, b[0], format)
	}
	if err := json.Unmarshal(b[1:], to); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	return nil
}

func put(tx *storage.Tx, path string, from any) error {
	b, err := encode(from)
	if err == nil {
		err = tx.Put(path, b)
	}
	if err != nil {
		return fmt.Errorf("writing a record of a key: %w", err)
	}
	return nil
}

func encode(from any) ([]byte, error) {
	b, err := json.Marshal(from)
	return append([]byte{format}, b...), err
}
