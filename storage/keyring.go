package storage

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	daead "github.com/tink-crypto/tink-go/v2/daead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
)

const (
	rootKeySize   = 32
	digestKeySize = 32
)

// keyring is everything that the root key opens. It is a value: a change
// makes a new keyring, and a transaction keeps the one with which it began.
type keyring struct {
	keyringJSON

	uuid   string
	root   []byte
	sealed *atomic.Bool // the store is being sealed: nobody may use this keyring, or one made from it, any more
	terms  map[uint32]tink.AEAD
	names  *daead.AESSIV

	folders folderCache
	macs    sync.Pool // of HMACs under the digest key
}

// keyringJSON is the stored form.
type keyringJSON struct {
	Version        int         `json:"version"` // 1; 2 with Revoked
	Generation     uint64      `json:"generation"`
	RootGeneration uint64      `json:"root_generation"`
	Terms          []term      `json:"terms"` // ascending; the last one encrypts
	NameKey        []byte      `json:"name_key"`
	DigestKey      []byte      `json:"digest_key"`
	Slots          []slotEntry `json:"slots"`

	// Revoked makes the keyring version 2. A program that knows only version 1
	// refuses it; otherwise its next change would drop the list, and it could
	// wrap the root key for a revoked slot.
	Revoked []Revoked `json:"revoked,omitempty"`
}

// The versions of a keyring, and of the header's reader.
const (
	keyringFirst   = 1
	keyringRevoked = 2
)

type term struct {
	Term      uint32    `json:"term"` // from 1
	Key       []byte    `json:"key"`
	Installed time.Time `json:"installed"`
}

// slotEntry is the authoritative word on a slot.
type slotEntry struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	KeyID  string `json:"key_id"`
	SHA256 []byte `json:"sha256"` // of the stored slot record
}

// NewRootKey returns 32 random bytes.
func NewRootKey() []byte { return randomBytes(rootKeySize) }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails, crypto/rand says
	return b
}

// Fingerprint returns a short public name of a root key, by which a person can
// see that a store was substituted: 80 bits of HKDF-SHA-256 (RFC 5869), in hex.
func Fingerprint(root []byte) string {
	b, err := hkdf.Expand(sha256.New, root, "sealkeep/1 fingerprint", 10)
	if err != nil {
		panic(err) // only for lengths that SHA-256 cannot give
	}
	h := hex.EncodeToString(b)
	return h[0:5] + "-" + h[5:10] + "-" + h[10:15] + "-" + h[15:20]
}

func newKeyring(uuid string, root []byte, slots []slotEntry, now time.Time) (*keyring, error) {
	return keyringJSON{
		Version:        keyringFirst,
		Generation:     1,
		RootGeneration: 1,
		Terms:          []term{{Term: 1, Key: randomBytes(32), Installed: now.UTC()}},
		NameKey:        randomBytes(daead.AESSIVKeySize),
		DigestKey:      randomBytes(digestKeySize),
		Slots:          slots,
	}.ready(uuid, slices.Clone(root))
}

// ready checks a keyring and makes its ciphers.
func (j keyringJSON) ready(uuid string, root []byte) (*keyring, error) {
	if j.Version != keyringFirst && j.Version != keyringRevoked {
		return nil, fmt.Errorf("%w: keyring version %d", ErrFormat, j.Version)
	}
	if len(j.Terms) == 0 || len(j.DigestKey) != digestKeySize || len(root) != rootKeySize {
		return nil, corrupt("keyring", "keys are missing")
	}
	k := &keyring{keyringJSON: j, uuid: uuid, root: root, sealed: new(atomic.Bool), terms: make(map[uint32]tink.AEAD, len(j.Terms))}
	for i, t := range j.Terms {
		if t.Term == 0 || i > 0 && t.Term <= j.Terms[i-1].Term {
			return nil, corrupt("keyring", "terms are out of order")
		}
		a, err := newXAES(t.Key)
		if err != nil {
			return nil, corrupt("keyring", "term %d: %v", t.Term, err)
		}
		k.terms[t.Term] = a
	}
	var err error
	if k.names, err = daead.NewAESSIV(j.NameKey); err != nil {
		return nil, corrupt("keyring", "name key: %v", err)
	}
	return k, nil
}

// change returns the next keyring: a copy of k, changed by edit.
func (k *keyring) change(edit func(*keyringJSON)) (*keyring, error) {
	j := k.keyringJSON
	j.Terms, j.Slots, j.Revoked = slices.Clone(j.Terms), slices.Clone(j.Slots), slices.Clone(j.Revoked)
	j.Generation++
	edit(&j)
	j.Version = keyringFirst
	if len(j.Revoked) > 0 {
		j.Version = keyringRevoked
	}
	next, err := j.ready(k.uuid, k.root)
	if err == nil {
		next.sealed = k.sealed
	}
	return next, err
}

// newest returns the term that encrypts.
func (k *keyring) newest() term { return k.Terms[len(k.Terms)-1] }

// seal encrypts plaintext for purpose and path under the newest term.
func (k *keyring) seal(kind byte, purpose, path string, plaintext []byte) ([]byte, error) {
	t := k.newest().Term
	return sealRecord(k.terms[t], kind, t, plaintext, associated(formatName, purpose, k.uuid, path))
}

// open is the inverse of seal, for any term. It also returns the kind of the
// record, which must authenticate for purpose if it is kindValue, and for
// purposePointer if it is kindPointer.
func (k *keyring) open(rec []byte, purpose, path string) (kind byte, plaintext []byte, err error) {
	kind, t, ct, ok := splitRecord(rec)
	if !ok {
		return 0, nil, corrupt(purpose+" "+quote(path), "record of %d bytes is too short", len(rec))
	}
	switch {
	case kind == kindPointer && purpose == purposeValue:
		purpose = purposePointer
	case kind != kindValue:
		return 0, nil, corrupt(purpose+" "+quote(path), "unknown kind %d", kind)
	}
	a, ok := k.terms[t]
	if !ok {
		return 0, nil, corrupt(purpose+" "+quote(path), "no key for term %d", t)
	}
	plaintext, err = a.Decrypt(ct, associated(formatName, purpose, k.uuid, path))
	if err != nil {
		return 0, nil, corrupt(purpose+" "+quote(path), "does not authenticate: edited, or copied from another place or store")
	}
	return kind, plaintext, nil
}

// encode returns the keyring's record, under the root key.
func (k *keyring) encode() ([]byte, error) {
	plain, err := json.Marshal(k.keyringJSON)
	if err != nil {
		return nil, fmt.Errorf("encoding keyring: %w", err)
	}
	defer clear(plain)
	a, err := newXAES(k.root)
	if err != nil {
		return nil, err
	}
	return sealRecord(a, kindValue, 0, plain, associated(formatName, purposeKeyring, k.uuid, ""))
}

// openKeyring decrypts a keyring. ErrRootKey: a well-formed record does not
// authenticate under root; which of the two is wrong cannot be known.
func openKeyring(rec []byte, uuid string, root []byte) (*keyring, error) {
	kind, t, ct, ok := splitRecord(rec)
	if !ok || kind != kindValue || t != 0 {
		return nil, corrupt("keyring", "malformed record of %d bytes", len(rec))
	}
	if len(root) != rootKeySize {
		return nil, fmt.Errorf("%w: %d bytes, not %d", ErrRootKey, len(root), rootKeySize)
	}
	a, err := newXAES(root)
	if err != nil {
		return nil, err
	}
	plain, err := a.Decrypt(ct, associated(formatName, purposeKeyring, uuid, ""))
	if err != nil {
		return nil, fmt.Errorf("%w: the keyring does not authenticate", ErrRootKey)
	}
	defer clear(plain)
	var j keyringJSON
	if err := json.Unmarshal(plain, &j); err != nil {
		return nil, corrupt("keyring", "not JSON")
	}
	return j.ready(uuid, slices.Clone(root))
}

// wipe zeroes the key bytes that this package owns, as a best effort: the
// expanded keys inside the ciphers stay until the collector reuses them.
func (k *keyring) wipe() {
	clear(k.root)
	clear(k.NameKey)
	clear(k.DigestKey)
	for _, t := range k.Terms {
		clear(t.Key)
	}
}
