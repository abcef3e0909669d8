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
	berrors "go.etcd.io/bbolt/errors"
)

// Options of a store. The zero value means the defaults.
type Options struct {
	// InitialMmapSize is how many bytes of address space are mapped at once.
	// Until the file is that large, a reader never delays a writer. Default
	// 64 GiB on 64-bit systems, 256 MiB elsewhere; it costs no memory.
	InitialMmapSize int64
	// LockTimeout bounds the wait for the file lock. Default 2 s.
	LockTimeout time.Duration
	// ViewTimeout bounds a View, and with it the pages that it keeps from
	// being reused. Default 30 s.
	ViewTimeout time.Duration
	// Logger is told of slow functions, failed commits and recoveries.
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

	// The newest reader version that this program satisfies. A store needs it
	// while its keyring has revoked slots.
	latestReader = keyringRevoked
)

// header is the part of a store that anybody can read.
type header struct {
	Format  int       `json:"format"`
	Reader  int       `json:"reader"`
	UUID    string    `json:"uuid"`
	Created time.Time `json:"created"`
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

	mu    sync.RWMutex // guards the three below; held briefly
	db    *handle      // nil while recovering and after Close
	keys  *keyring     // nil while sealed
	quara []string

	// The committer's own, once unsealed.
	digest   digest // of the last commit
	nextRoot []byte // root key of the last change of the keyring: after a failed commit it may be the one

	views   sync.Mutex
	open    map[*Tx]time.Time // running Views and their start
	viewEnd *sync.Cond

	stats stats
}

type stats struct{ commits, updates, failures, refused atomic.Uint64 }

// NewUUID returns a random UUID for a new store.
func NewUUID() string { return uuid.NewString() }

// Create makes a new store at path with its keyring under root and the slots
// that hold root. first, if not nil, writes the first values in the same
// transaction. The store appears at path complete or not at all. The file has
// mode 0600, its folder is made with 0700 if only that one is missing. A file
// already at path gives ErrExists.
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
	// A link, unlike a rename, never replaces what another process has put
	// there meanwhile.
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

// boltOptions are those of every handle. The free list is written, so that
// opening does not scan the file; hashmap is the form that stays quick when
// the list is long.
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

// Open opens the store at path, sealed. It never creates one: a missing file
// is fs.ErrNotExist. It waits for the lock for LockTimeout at most and then
// gives ErrLocked with the holder's name. A file that is no store, or is
// damaged where it is needed to open, is ErrCorrupt; a newer format ErrFormat.
func Open(path string, o Options) (*Store, error) {
	s := &Store{
		path: path, o: o.withDefaults(),
		queue: make(chan *update, maxQueue), closing: make(chan struct{}), done: make(chan struct{}),
		open: make(map[*Tx]time.Time),
	}
	s.viewEnd = sync.NewCond(&s.views)
	switch fi, err := os.Stat(path); {
	case err != nil:
		return nil, fmt.Errorf("opening store: %w", err)
	case !fi.Mode().IsRegular():
		return nil, fmt.Errorf("opening store %s: not a regular file", path)
	case fi.Size() == 0:
		// bbolt would make it a new, empty database.
		return nil, fmt.Errorf("opening store %s: %w", path, corrupt("file", "is empty"))
	case fi.Mode().Perm()&0o077 != 0:
		s.o.Logger.Warn("store was open to others; setting mode 0600", "path", path, "mode", fi.Mode().Perm().String())
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, fmt.Errorf("opening store: %w", err)
		}
	}
	if err := s.openDB(); err != nil {
		return nil, fmt.Errorf("opening store %s: %w", path, err)
	}
	go s.commitLoop()
	return s, nil
}

// openDB opens the file and reads what is in clear.
func (s *Store) openDB() (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	db := &handle{path: s.path}
	o := boltOptions(s.o)
	o.OpenFile = func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		db.file, err = os.OpenFile(name, flag, mode)
		return db.file, err
	}
	if db.DB, err = openBolt(s.path, o); err != nil {
		if errors.Is(err, ErrCorrupt) && db.file != nil {
			_ = leave(db.file) // bbolt panicked
		}
		return boltOpenError(s.path, err)
	}
	db.pageSize = db.Info().PageSize
	defer func() {
		if err != nil {
			_ = db.close()
		}
	}()
	if !db.stands() { // compacted or restored while this one waited for the lock
		return fmt.Errorf("%w: its file was replaced just now; try again", ErrLocked)
	}
	if err := db.mapFile(s.o.InitialMmapSize); err != nil {
		return err
	}
	if s.header, err = db.readHeader(); err != nil {
		return err
	}
	s.mu.Lock()
	s.db = db
	s.mu.Unlock()
	return nil
}

func openBolt(path string, o *bolt.Options) (db *bolt.DB, err error) {
	defer catch(&err, "file")
	return bolt.Open(path, 0o600, o)
}

func boltOpenError(path string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("%w: %s", ErrLocked, lockHolder(path))
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
		return corrupt("file", "not a store, or both meta pages are damaged (%v)", err)
	}
	return err
}

func (h *handle) readHeader() (head header, err error) {
	defer catch(&err, "file")
	err = h.View(func(btx *bolt.Tx) (err error) {
		head, err = readHeader(&trees{h: h, btx: btx})
		return err
	})
	return head, err
}

func readHeader(ts *trees) (h header, err error) {
	for _, name := range [][]byte{bucketMeta, bucketSlots, bucketData, bucketBlobs} {
		if _, err := ts.of(name); err != nil {
			return h, fmt.Errorf("%w (or this is no sealkeep store)", err)
		}
	}
	head, err := ts.get(bucketMeta, keyHeader)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(head, &h); err != nil {
		return h, corrupt("file", "malformed header")
	}
	if h.Reader > latestReader {
		return h, fmt.Errorf("%w: it is format %d and needs a version that reads format %d; this one reads up to %d: install a newer sealkeep",
			ErrFormat, h.Format, h.Reader, latestReader)
	}
	if h.Format < 1 || uuid.Validate(h.UUID) != nil {
		return h, corrupt("file", "malformed header")
	}
	return h, nil
}

// catch turns a panic of bbolt, or a memory fault on the mapped file, into
// ErrCorrupt, which names where it was.
func catch(err *error, where string) {
	if r := recover(); r != nil {
		*err = corrupt(quote(where), "%v", told(r))
	}
}

// told is what a panic says, in words where it is a fault of the mapped file.
func told(r any) any {
	if _, fault := r.(interface{ Addr() uintptr }); fault {
		return "a page cannot be read: the file was cut short, or the disk does not give it"
	}
	return r
}

// UUID names the store. It is in clear, and every record is bound to it.
func (s *Store) UUID() string { return s.header.UUID }

// Path is where the store lies.
func (s *Store) Path() string { return s.path }

// handle gives the open database and the keys.
func (s *Store) handle() (*handle, *keyring, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.db != nil:
		return s.db, s.keys, nil
	case s.isClosing():
		return nil, nil, ErrClosed
	}
	return nil, nil, ErrUnavailable
}

func (s *Store) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// Slots is the table of slots as it stands on disk: a hint for opening, that
// nobody has vouched for. Slots that do not decode are left out, and logged.
func (s *Store) Slots() (slots []Slot, err error) {
	err = s.raw(func(ts *trees) error {
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

// raw runs fn over one state of the file, sealed or not.
func (s *Store) raw(fn func(*trees) error) (err error) {
	t := &Tx{}
	s.enter(t, s.o.Now())
	defer s.leave(t)
	db, _, err := s.handle()
	if err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer catch(&err, "reading")
	return db.View(func(btx *bolt.Tx) error { return fn(&trees{h: db, btx: btx}) })
}

// Unseal opens the keyring with the root key. ErrRootKey: it is not this
// store's. ErrCorrupt: the keyring or the digest is damaged or from another
// state of the store. Of an unsealed store it only checks the key.
func (s *Store) Unseal(root []byte) error {
	// In the committer's turn, so that no commit stands between the digest
	// that is read and the one that is kept.
	err := s.alone(context.Background(), func(ts *trees) (func(), error) {
		rec, err := ts.get(bucketMeta, keyKeyring)
		if err != nil {
			return nil, err
		}
		k, err := openKeyring(rec, s.header.UUID, root)
		if err != nil || !s.Sealed() {
			return nil, err
		}
		return nil, s.setKeys(ts, nil, k)
	})
	if err != nil {
		return fmt.Errorf("unsealing: %w", err)
	}
	return nil
}

// setKeys makes k the keyring, with the digest that belongs to it, unless the
// store has been sealed since old was read. Only the committer calls it.
func (s *Store) setKeys(ts *trees, old, k *keyring) error {
	rec, err := ts.get(bucketMeta, keyDigest)
	if err != nil {
		return err
	}
	slots, err := ts.of(bucketSlots)
	if err != nil {
		return err
	}
	bad, err := k.quarantine(slots)
	if err != nil {
		return err
	}
	d, err := k.decodeDigest(rec)
	if err != nil {
		return fmt.Errorf("%w (or an older keyring was put back)", err)
	}
	if d.keyring != k.Generation {
		return corrupt("keyring", "generation %d where the last commit left %d: an older keyring or digest was put back", k.Generation, d.keyring)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == old {
		s.keys, s.quara, s.digest = k, bad, d
	}
	return nil
}

// Seal forgets the keys: new transactions get ErrSealed. It returns when the
// running ones have ended, which ViewTimeout bounds.
func (s *Store) Seal() {
	s.mu.Lock()
	k := s.keys
	s.keys, s.quara = nil, nil
	s.mu.Unlock()
	if k == nil {
		return
	}
	// Whatever this answers, the committer has let go of the keys.
	_ = s.alone(context.Background(), func(*trees) (func(), error) { return nil, nil })
	s.waitViews()
	k.wipe()
}

// enter makes those who close the handle wait for a reader, which comes here
// before it takes the handle, and leaves when it has let go of it. They have taken
// the handle away before they wait.
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

// waitViews returns when the Views that run now have ended. Those that begin
// meanwhile find the state that the caller has set before.
func (s *Store) waitViews() {
	s.views.Lock()
	defer s.views.Unlock()
	running := slices.Collect(maps.Keys(s.open))
	for slices.ContainsFunc(running, func(t *Tx) bool { _, ok := s.open[t]; return ok }) {
		s.viewEnd.Wait()
	}
}

// Sealed tells whether the store has no keys in memory.
func (s *Store) Sealed() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.keys == nil
}

// Quarantined names the slots on disk that the keyring does not know, or knows
// with another content. They are never used.
func (s *Store) Quarantined() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.quara)
}

// Fingerprint is that of the root key, or "" while sealed.
func (s *Store) Fingerprint() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.keys == nil {
		return ""
	}
	return Fingerprint(s.keys.root)
}

// Close seals and closes. It waits for running transactions.
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
	s.mu.Lock()
	db := s.db
	s.db = nil
	s.mu.Unlock()
	if db == nil {
		return nil
	}
	s.waitViews()
	if err := db.close(); err != nil {
		return fmt.Errorf("closing store: %w", err)
	}
	return nil
}

// Stats are figures for metrics; the counts are since Open.
type Stats struct {
	Commits, Updates, Failures uint64
	Waiting                    int           // updates, for their turn
	Refused                    uint64        // updates, because too many waited
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
	if db, _, err := s.handle(); err == nil {
		st.FreePages = db.Stats().FreePageN
	}
	return st
}
