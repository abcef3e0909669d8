package transit

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Errors of keys outside of a keep.
var (
	// ErrNoKey means that a mount has no key of a name.
	ErrNoKey = errors.New("there is no such key")
	// ErrNotSymmetric means that a key is not one with which its holder could decrypt alone.
	ErrNotSymmetric = errors.New("it is no symmetric key, or others are derived from it")
	// ErrExported means that what should be an exported key is none.
	ErrExported = errors.New("it is no exported key")
	// ErrCiphertext means that an exported key does not open a ciphertext.
	ErrCiphertext = errors.New("the exported key does not open it")
)

// An Exported is a symmetric key outside of a keep. Its JSON is what the route export
// answers, so that this can be read too.
type Exported struct {
	Name string         `json:"name"`
	Type string         `json:"type"`
	Keys map[int][]byte `json:"keys"` // by version
}

// Export reads a key of a mount from an unsealed store, also one that may not be
// exported: whoever opens a store has all that is in it. The versions that
// min_decryption_version forbids are among those returned.
func Export(tx *storage.Tx, m *api.Mount, name string) (*Exported, error) {
	e := engine{m.Prefix()}
	if err := checkName(name); err != nil {
		return nil, err
	}
	p, err := e.policy(tx, name)
	switch {
	case err != nil:
		return nil, err
	case p == nil:
		return nil, fmt.Errorf("%w: %s", ErrNoKey, name)
	case !kindOf(p.Type).symmetric() || p.Derived:
		return nil, fmt.Errorf("%w: %s is of the type %s", ErrNotSymmetric, name, p.Type)
	}
	x := &Exported{Name: name, Type: p.Type, Keys: make(map[int][]byte)}
	for n := max(p.First, p.MinAvailable); n <= p.Latest; n++ {
		v, err := e.record(tx, p.ID, n)
		if err == nil && v == nil {
			err = fmt.Errorf("reading version %d of a key: %w: it is missing", n, storage.ErrCorrupt)
		}
		if err != nil {
			return nil, err
		}
		x.Keys[n] = v.Secret
	}
	return x, x.check()
}

// ParseExported reads the JSON of an exported key.
func ParseExported(b []byte) (*Exported, error) {
	x := new(Exported)
	if err := json.Unmarshal(b, x); err != nil {
		return nil, fmt.Errorf("%w: decoding its JSON failed", ErrExported) // whose error would tell of the key
	}
	return x, x.check()
}

func (x *Exported) check() error {
	k := kindOf(x.Type)
	switch {
	case k == nil:
		return fmt.Errorf("%w: it has the type %.100q", ErrExported, x.Type)
	case !k.symmetric():
		return fmt.Errorf("%w: it is of the type %s", ErrNotSymmetric, k.name)
	case len(x.Keys) == 0:
		return fmt.Errorf("%w: it has no version", ErrExported)
	}
	for n, key := range x.Keys {
		if n < 1 || len(key) != k.size {
			return fmt.Errorf("%w: version %d has %d bytes, not %d", ErrExported, n, len(key), k.size)
		}
	}
	return nil
}

// Latest is the latest version of the key.
func (x *Exported) Latest() int {
	latest := 0
	for n := range x.Keys {
		latest = max(latest, n)
	}
	return latest
}

// Open decrypts a ciphertext of the engine ("vault:v1:...") without associated data.
func (x *Exported) Open(ciphertext []byte) (plaintext []byte, err error) {
	plaintext, _, _, err = x.open(ciphertext)
	return plaintext, err
}

// Local makes of a ciphertext of any version what the key of the latest version opens
// by itself: the nonce, then what AES-GCM or the AEAD of the type has made.
func (x *Exported) Local(ciphertext []byte) ([]byte, error) {
	plaintext, raw, n, err := x.open(ciphertext)
	latest := x.Latest()
	if err != nil || n == latest {
		return raw, err
	}
	aead, err := kindOf(x.Type).random(x.Keys[latest])
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, plaintext, nil), nil
}

func (x *Exported) open(ciphertext []byte) (plaintext, raw []byte, n int, err error) {
	n, encoded, err := splitVersion(ciphertext, "it does not begin with vault:v", "invalid ciphertext")
	if err != nil {
		return nil, nil, 0, fmt.Errorf("%w: %w", ErrCiphertext, err)
	}
	if raw, err = decodeBase64(encoded); err != nil {
		return nil, nil, 0, fmt.Errorf("%w: what follows its version is no base64", ErrCiphertext)
	}
	key := x.Keys[n]
	if key == nil {
		return nil, nil, 0, fmt.Errorf("%w: version %d is not among those that were exported", ErrCiphertext, n)
	}
	aead, err := kindOf(x.Type).random(key)
	if err == nil && len(raw) < aead.Overhead() {
		err = errShort
	}
	if err == nil {
		plaintext, err = aead.Open(nil, nil, raw, nil)
	}
	if err != nil {
		return nil, nil, 0, fmt.Errorf("%w: %w", ErrCiphertext, err)
	}
	return plaintext, raw, n, nil
}

// Text is a version of the key in base64.
func (x *Exported) Text(n int) string { return base64.StdEncoding.EncodeToString(x.Keys[n]) }
