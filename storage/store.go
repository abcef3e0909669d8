package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"
)

// Options of a store. The zero value means the defaults.
type Options struct {
	// InitialMmapSize is how many bytes of address space are mapped at first.
	// Until the file outgrows that, a reader never delays a writer. Default
	// 64 GiB on 64-bit systems, 256 MiB elsewhere; it costs no memory.
	InitialMmapSize int64
	// LockTimeout bounds the wait for the file lock. Default 2 s.
	LockTimeout time.Duration
	// ViewTimeout bounds a View, and so how long it keeps pages from being
	// reused. Default 30 s.
	ViewTimeout time.Duration
	// Logger logs slow functions, failed commits and recoveries.
	// Default: nothing is logged.
	Logger *slog.Logger
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.InitialMmapSize <= 0 {
		if o.InitialMmapSize = 64 << 30; ^uint(0)>>32 == 0 {
			o.InitialMmapSize = 256 << 20
		}
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = 2 * time.Second
	}
	if o.ViewTimeout <= 0 {
		o.ViewTimeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

const (
	formatVersion = 1 // what this version writes
	readerVersion = 1 // the oldest version that can read it

	// The newest reader version that this program has. A store requires it
	// while its keyring has revoked slots.
	latestReader = keyringRevoked
)

// header is the part of a store that anybody can read.
type header struct {
	Format  int       `json:"format"`
	Reader  int       `json:"reader"`
	UUID    string    `json:"uuid"`
	Created time.Time `json:"created"`
	Lineage
}

// Lineage names the line of commits to which a store belongs: if two copies of a
// store have the same one, their generations say which is newer. Each restore
// begins a new lineage. It is neither encrypted nor authenticated.
type Lineage struct {
	ID     string `json:"lineage,omitempty"`        // "" before the first restore
	Parent string `json:"parent_lineage,omitempty"` // of the restored backup
	Forked uint64 `json:"forked,omitempty"`         // generation at which ID began; 0: not known
}

var (
	bucketMeta  = []byte("meta")
	bucketSlots = []byte("slots")
	bucketData  = []byte("data")
	bucketBlobs = []byte("blobs")

	keyHeader  = []byte("store")
	keyKeyring = []byte("keyring")
	keyDigest  = []byte("digest")
)

// Store is an open store. Its methods may be called from any goroutine.
type Store struct {
	path   string
	o      Options
	header header

	queue   chan *update
	closing chan struct{} // closed by Close
	done    chan struct{} // closed when the committer has ended

	state atomic.Pointer[state]
	mu    sync.RWMutex // held to replace the state, and to copy a root key from it

	digest digest // of the last commit; owned by the committer once unsealed

	views   sync.Mutex
	open    map[*Tx]time.Time // running Views and their start
	viewEnd *sync.Cond

	stats stats
}

// state is what a transaction begins with. It is never modified, only replaced as
// a whole.
//
// bbolt's commit makes a new keyring visible to readers before it returns, so
// next holds the keyring being committed, with the number of its transaction: a
// reader compares its snapshot with that to know which keyring to use.
type state struct {
	h      *handle  // nil while recovering and after Close
	keys   *keyring // nil while sealed
	from   uint64   // the transaction that keys were read from or stored in
	next   *keyring // being committed, or nil
	nextID uint64   // the transaction that commits next
	kept   *kept    // nil while sealed
}

// keyring returns the keyring of a transaction's snapshot, or nil while sealed.
func (st *state) keyring(txid uint64) (*keyring, error) {
	switch {
	case st.keys == nil:
		return nil, nil
	case st.next != nil && txid >= st.nextID:
		return st.next, nil
	case txid < st.from:
		return nil, corrupt("file", "it has gone back to transaction %d, before %d", txid, st.from)
	}
	return st.keys, nil
}

// change replaces the state.
func (s *Store) change(edit func(*state)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := *s.state.Load()
	edit(&st)
	s.state.Store(&st)
}

// usable returns the state if it has an open handle.
func (s *Store) usable() (*state, error) {
	switch st := s.state.Load(); {
	case st.h != nil:
		return st, nil
	case s.isClosing():
		return nil, ErrClosed
	}
	return nil, ErrUnavailable
}

// snapshot begins a read transaction and returns it with its keyring, which is nil
// while sealed. The caller has called enter.
func (s *Store) snapshot() (h *handle, btx *bolt.Tx, keys *keyring, err error) {
	defer catch(&err, "beginning transaction")
	for {
		st, err := s.usable()
		if err != nil {
			return nil, nil, nil, err
		}
		btx, err := st.h.Begin(false)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("beginning transaction: %w", err)
		}
		if s.state.Load() == st {
			if keys, err = st.keyring(uint64(btx.ID())); err == nil {
				return st.h, btx, keys, nil
			}
		}
		_ = btx.Rollback() // just releases its pages
		if err != nil {
			return nil, nil, nil, err
		}
	}
}

type stats struct{ commits, updates, failures, refused atomic.Uint64 }

// NewUUID returns a random UUID for a new store.
func NewUUID() string { return uuid.NewString() }

// Create creates a store at path with its keyring under root and the slots
// that hold root. first, if not nil, writes the first values in the same
// transaction. The store appears at path complete or not at all. The file has
// mode 0600; its folder is created with mode 0700 if only that one is missing.
// ErrExists: path already exists.
func Create(path, id string, root []byte, slots []Slot, first func(*Tx) error, o Options) (err error) {
	o = o.withDefaults()
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("creating store: %w", err)
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("creating store %s: %w", path, ErrExists)
	}
	tmp := path + ".new-" + id
	defer os.Remove(tmp)
	if err := create(tmp, id, root, slots, first, o); err != nil {
		return fmt.Errorf("creating store %s: %w", path, err)
	}
	// A link, unlike a rename, never replaces a file that another process
	// created in the meantime.
	if err := os.Link(tmp, path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("creating store %s: %w", path, ErrExists)
	} else if err != nil {
		return fmt.Errorf("creating store: %w", err)
	}
	return syncDir(dir)
}

func create(tmp, id string, root []byte, slots []Slot, first func(*Tx) error, o Options) (err error) {
	h := header{Format: formatVersion, Reader: readerVersion, UUID: id, Created: o.Now().UTC()}
	head, err := json.Marshal(h)
	if err != nil {
		return err
	}
	entries := make([]slotEntry, len(slots))
	recs := make([][]byte, len(slots))
	for i, s := range slots {
		if recs[i], err = s.encode(); err != nil {
			return err
		}
		entries[i] = s.entry(recs[i])
	}
	k, err := newKeyring(id, root, entries, h.Created)
	if err != nil {
		return err
	}
	ring, err := k.encode()
	if err != nil {
		return err
	}
	db, err := bolt.Open(tmp, 0o600, boltOptions(o))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := db.Close(); err == nil {
			err = cerr
		}
	}()
	return db.Update(func(btx *bolt.Tx) error {
		var b [4]*bolt.Bucket
		for i, name := range [][]byte{bucketMeta, bucketSlots, bucketData, bucketBlobs} {
			if b[i], err = btx.CreateBucket(name); err != nil {
				return err
			}
		}
		for i, s := range slots {
			if err := b[1].Put([]byte(s.Name), recs[i]); err != nil {
				return err
			}
		}
		tx := &Tx{ctx: context.Background(), keys: k, btx: btx, write: &writes{digest: digest{generation: 1, keyring: 1}, keys: make(map[string]struct{})}}
		if first != nil {
			if err := first(tx); err != nil {
				return err
			}
		}
		d, err := tx.write.digest.encode(k)
		if err != nil {
			return err
		}
		for key, v := range map[string][]byte{string(keyHeader): head, string(keyKeyring): ring, string(keyDigest): d} {
			if err := b[0].Put([]byte(key), v); err != nil {
				return err
			}
		}
		return nil
	})
}

// boltOptions returns the options of every handle. The free list is written, so
// that opening does not scan the file; as a hashmap it stays fast when it is long.
func boltOptions(o Options) *bolt.Options {
	return &bolt.Options{
		Timeout:         o.LockTimeout,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: int(o.InitialMmapSize),
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing folder: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing folder: %w", err)
	}
	return nil
}

// catch turns a panic of bbolt, or a memory fault on the mapped file, into
// ErrCorrupt, naming where it happened.
func catch(err *error, where string) {
	if r := recover(); r != nil {
		*err = corrupt(quote(where), "%v", told(r))
	}
}

// told returns the value of a panic or, for a fault on the mapped file, an
// explanation.
func told(r any) any {
	if _, fault := r.(interface{ Addr() uintptr }); fault {
		return "a page cannot be read: the file was cut short, or the disk does not give it"
	}
	return r
}

// UUID returns the UUID of the store. It is not encrypted, and every record is
// bound to it.
func (s *Store) UUID() string { return s.header.UUID }

// Lineage returns the lineage that the store had when it was opened.
func (s *Store) Lineage() Lineage { return s.header.Lineage }

// Fork begins a new lineage, in one commit: from now on the store diverges from
// other copies of it.
func (s *Store) Fork(ctx context.Context) error {
	err := s.writable(ctx)
	if err == nil {
		err = s.alone(ctx, func(ts *trees) (*effect, error) {
			head, err := readHeader(ts)
			if err != nil {
				return nil, err
			}
			head.Lineage = Lineage{ID: NewUUID(), Parent: head.ID}
			if !s.Sealed() {
				head.Forked = s.digest.generation + 1
			}
			rec, err := json.Marshal(head)
			if err != nil {
				return nil, err
			}
			return &effect{digest: s.digest}, ts.btx.Bucket(bucketMeta).Put(keyHeader, rec)
		})
	}
	if err != nil {
		return fmt.Errorf("beginning a new lineage: %w", err)
	}
	return nil
}

// Path returns the path of the store's file.
func (s *Store) Path() string { return s.path }

func (s *Store) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// Slots returns the slots as stored on disk: a hint for opening, which is not
// authenticated. Slots that do not decode are left out, and logged.
func (s *Store) Slots() (slots []Slot, err error) {
	err = s.raw(func(ts *trees, _ *keyring) error {
		t, err := ts.of(bucketSlots)
		if err != nil {
			return err
		}
		var bad []string
		if slots, bad, err = readSlots(t); len(bad) > 0 {
			s.o.Logger.Error("slots on disk do not decode", "slots", bad)
		}
		return err
	})
	return slots, err
}

// raw runs fn over one state of the file, sealed or not, with its keyring.
func (s *Store) raw(fn func(*trees, *keyring) error) (err error) {
	t := &Tx{}
	s.enter(t, s.o.Now())
	defer s.leave(t)
	h, btx, keys, err := s.snapshot()
	if err != nil {
		return err
	}
	defer func() { _ = btx.Rollback() }() // just releases its pages
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer catch(&err, "reading")
	return fn(&trees{h: h, btx: btx}, keys)
}

// Unseal opens the keyring with the root key. ErrRootKey: it is not this
// store's. ErrCorrupt: the keyring or the digest is damaged or from another
// state of the store. If the store is unsealed, Unseal only checks the key.
func (s *Store) Unseal(root []byte) error {
	// Run by the committer, so that no commit comes between reading the digest
	// and keeping it.
	err := s.alone(context.Background(), func(ts *trees) (*effect, error) {
		rec, err := ts.get(bucketMeta, keyKeyring)
		if err != nil {
			return nil, err
		}
		k, err := openKeyring(rec, s.header.UUID, root)
		if err != nil || !s.Sealed() {
			return nil, err
		}
		d, err := k.readDigest(ts)
		if err != nil {
			return nil, err
		}
		s.digest = d
		s.change(func(st *state) { st.keys, st.from, st.kept = k, uint64(ts.btx.ID())-1, new(kept) })
		return nil, nil
	})
	if err != nil {
		return fmt.Errorf("unsealing: %w", err)
	}
	return nil
}

// readDigest reads the digest of a state, and checks that the keyring belongs to
// that state, too.
func (k *keyring) readDigest(ts *trees) (digest, error) {
	rec, err := ts.get(bucketMeta, keyDigest)
	if err != nil {
		return digest{}, err
	}
	d, err := k.decodeDigest(rec)
	switch {
	case err != nil:
		return d, fmt.Errorf("%w (or an older keyring was put back)", err)
	case d.keyring != k.Generation:
		return d, corrupt("keyring", "generation %d where the last commit left %d: an older keyring or digest was put back", k.Generation, d.keyring)
	}
	return d, nil
}

// Seal forgets the keys. Running transactions get ErrSealed when they next use
// theirs, new ones at once.
func (s *Store) Seal() {
	s.mu.Lock()
	was := s.state.Load()
	s.state.Store(&state{h: was.h})
	s.mu.Unlock()
	if was.keys == nil {
		return
	}
	was.keys.sealed.Store(true)
	// Whatever this returns, the committer no longer uses the keys.
	_ = s.alone(context.Background(), func(*trees) (*effect, error) { return nil, nil })
	s.waitViews()
	s.mu.Lock() // roots may be copying a key
	defer s.mu.Unlock()
	was.keys.wipe()
	if was.next != nil {
		was.next.wipe()
	}
}

// enter registers a reader, so that the handle is not closed under it. A reader
// enters before it takes the handle, and leaves after it is done with it. Whoever
// closes the handle first removes it from the state and then waits.
func (s *Store) enter(t *Tx, began time.Time) {
	s.views.Lock()
	defer s.views.Unlock()
	s.open[t] = began
}

func (s *Store) leave(t *Tx) {
	s.views.Lock()
	defer s.views.Unlock()
	delete(s.open, t)
	s.viewEnd.Broadcast()
}

// waitViews returns when the Views running now have ended. Views that begin in the
// meantime see the state that the caller set before.
func (s *Store) waitViews() {
	s.views.Lock()
	defer s.views.Unlock()
	running := slices.Collect(maps.Keys(s.open))
	for slices.ContainsFunc(running, func(t *Tx) bool { _, ok := s.open[t]; return ok }) {
		s.viewEnd.Wait()
	}
}

// Sealed reports whether the store has no keys in memory.
func (s *Store) Sealed() bool { return s.state.Load().keys == nil }

// Fingerprint returns the fingerprint of the root key, or "" while sealed.
func (s *Store) Fingerprint() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	keys := s.state.Load().keys
	if keys == nil {
		return ""
	}
	return Fingerprint(keys.root)
}

// Close seals and closes the store. Running transactions get ErrSealed or ErrClosed
// when they next use the store; Close waits for them.
func (s *Store) Close() error {
	s.Seal()
	s.mu.Lock()
	if s.isClosing() {
		s.mu.Unlock()
		return nil
	}
	close(s.closing)
	s.mu.Unlock()
	<-s.done
	h := s.state.Load().h
	if h == nil {
		return nil
	}
	h.gone.Store(true)
	s.change(func(st *state) { st.h = nil })
	s.waitViews()
	if err := errors.Join(h.unpark(), h.close()); err != nil {
		return fmt.Errorf("closing store: %w", err)
	}
	return nil
}

// Stats holds figures for metrics. The counts begin at Open.
type Stats struct {
	Commits, Updates, Failures uint64
	Waiting                    int           // updates waiting for their turn
	Refused                    uint64        // updates refused because too many waited
	Views                      int           // running now
	OldestView                 time.Duration // 0 without one
	FileBytes                  int64
	FreePages                  int
}

// Stats reads the figures. It takes no transaction.
func (s *Store) Stats() Stats {
	st := Stats{Commits: s.stats.commits.Load(), Updates: s.stats.updates.Load(), Failures: s.stats.failures.Load(), Waiting: len(s.queue), Refused: s.stats.refused.Load()}
	s.views.Lock()
	st.Views = len(s.open)
	for _, began := range s.open {
		st.OldestView = max(st.OldestView, s.o.Now().Sub(began))
	}
	s.views.Unlock()
	if fi, err := os.Stat(s.path); err == nil {
		st.FileBytes = fi.Size()
	}
	if h := s.state.Load().h; h != nil {
		st.FreePages = h.Stats().FreePageN
	}
	return st
}
