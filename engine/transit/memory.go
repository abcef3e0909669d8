package transit

import (
	"crypto"
	"crypto/cipher"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// maxMemory is about how many bytes of parsed keys are in memory at most.
const maxMemory = 32 << 20

// A key is one that is ready for use. It is shared, and never changed but for the
// versions that it has parsed.
type key struct {
	policy
	*kind
	name string

	engine engine
	memory *memory
	at     storage.Version // of the policy's record
	used   atomic.Bool     // since memory last made room
	bytes  int             // guarded by memory.mu

	mu       sync.RWMutex
	versions map[int]*version
}

// A version is one of a key, ready for use.
type version struct {
	number     int
	prefix     string // of what it encrypts: "vault:v1:"
	created    time.Time
	secret     []byte // a symmetric or hmac key, or what others are derived from
	hmac       []byte // the key for HMACs
	convergent int
	aead       cipher.AEAD      // of a symmetric key that is not derived; with random nonces
	private    crypto.Signer    // nil: of a symmetric or a derived key, or only the public key is there
	public     crypto.PublicKey // of an asymmetric key that is not derived
	der        []byte           // of public, PKIX
	chain      [][]byte         // certificates in DER
}

// load returns a key for use in this transaction, nil when there is none.
func (e engine) load(tx *storage.Tx, name string) (*key, error) {
	path := e.policyPath(name)
	at, err := tx.Version(path)
	if err != nil || at == (storage.Version{}) {
		return nil, err
	}
	m := tx.Kept(memoryKey{}, newMemory).(*memory)
	if k := m.find(path, at); k != nil {
		return k, nil
	}
	p, err := e.policy(tx, name)
	if err != nil || p == nil {
		return nil, err
	}
	k := &key{policy: *p, kind: kindOf(p.Type), name: name, engine: e, memory: m, at: at, versions: make(map[int]*version)}
	m.put(path, k)
	return k, nil
}

// usable is load for what uses a key: there must be one that is not soft-deleted.
func (e engine) usable(tx *storage.Tx, name string) (*key, error) {
	k, err := e.load(tx, name)
	switch {
	case err != nil:
		return nil, err
	case k == nil:
		return nil, errKeyNotFound
	case k.SoftDeleted:
		return nil, errSoftDeleted
	}
	return k, nil
}

// version returns a version in the transaction that has loaded the key. One that is
// not there, or below min_decryption_version, is errNoVersion.
func (k *key) version(tx *storage.Tx, n int) (*version, error) {
	if n < k.MinDecryption || n > k.Latest {
		return nil, errNoVersion
	}
	k.mu.RLock()
	v := k.versions[n]
	k.mu.RUnlock()
	if v != nil {
		return v, nil
	}
	r, err := k.engine.record(tx, k.ID, n)
	if err == nil && r == nil {
		err = fmt.Errorf("%w: it is missing", storage.ErrCorrupt)
	}
	if err == nil {
		v, err = k.parse(n, r)
	}
	if err != nil {
		if errors.Is(err, errOtherKind) {
			err = fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
		}
		return nil, fmt.Errorf("reading version %d of the key %q: %w", n, k.name, err)
	}
	k.mu.Lock()
	if is := k.versions[n]; is != nil { // another was quicker
		k.mu.Unlock()
		return is, nil
	}
	k.versions[n] = v
	k.mu.Unlock()
	k.memory.grow(k.engine.policyPath(k.name), k, k.kind.memory())
	return v, nil
}

// parse makes a version ready for use.
func (k *key) parse(n int, r *record) (v *version, err error) {
	v = &version{number: n, prefix: "vault:v" + strconv.Itoa(n) + ":", created: r.Created, secret: r.Secret, hmac: r.HMAC, convergent: r.Convergent, der: r.Public, chain: r.Chain}
	switch {
	case k.kind.hmac:
		if v.hmac = r.Secret; len(v.hmac) == 0 {
			err = fmt.Errorf("%w: an hmac key without a key", storage.ErrCorrupt)
		}
	case k.symmetric():
		if len(r.Secret) != k.size {
			return nil, fmt.Errorf("%w: a key of %d bytes, not %d", storage.ErrCorrupt, len(r.Secret), k.size)
		}
		if !k.Derived {
			v.aead, err = k.random(r.Secret)
		}
	case k.Derived: // ed25519
		_, err = k.parsePrivate(r.Secret)
	case len(r.Secret) > 0:
		if v.private, err = k.parsePrivate(r.Secret); err == nil {
			v.public = v.private.Public()
		}
	default:
		v.public, err = k.parsePublic(r.Public)
	}
	return v, err
}

// memory has the keys that were used last, of all mounts, as long as the store is
// unsealed.
type memory struct {
	mu    sync.RWMutex
	keys  map[string]*key // by the path of the policy
	bytes int
	most  int
	uses  uses
}

type memoryKey struct{} // of the store's Kept

func newMemory() any { return &memory{keys: make(map[string]*key), most: maxMemory} }

// policyMemory is about how many bytes a key takes beside its versions.
const policyMemory = 1 << 10

// find returns the key of a policy's record at a version, nil if it is not there.
func (m *memory) find(path string, at storage.Version) *key {
	m.mu.RLock()
	k := m.keys[path]
	m.mu.RUnlock()
	if k == nil || k.at != at {
		return nil
	}
	if !k.used.Load() {
		k.used.Store(true)
	}
	return k
}

func (m *memory) put(path string, k *key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(path)
	m.keys[path] = k
	k.bytes = policyMemory
	m.bytes += k.bytes
	m.makeRoom()
}

// grow notes that a key takes more memory.
func (m *memory) grow(path string, k *key, bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[path] != k {
		return
	}
	k.bytes += bytes
	m.bytes += bytes
	m.makeRoom()
}

func (m *memory) drop(path string) {
	if k := m.keys[path]; k != nil {
		m.bytes -= k.bytes
		delete(m.keys, path)
	}
}

// makeRoom drops keys, in no order, those that were used since it last came by only
// after it has come by again.
func (m *memory) makeRoom() {
	for m.bytes > m.most {
		for path, k := range m.keys {
			if m.bytes > m.most && !k.used.Swap(false) {
				m.drop(path)
			}
		}
	}
}
