package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// Open opens the store at path, sealed. It never creates one: a missing file
// is fs.ErrNotExist. It waits at most LockTimeout for the lock and then returns
// ErrLocked with the holder's name. ErrCorrupt: the file is not a store, or too
// damaged to be opened. ErrFormat: its format is too new.
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
		// bbolt would turn it into a new, empty database.
		return nil, fmt.Errorf("opening store %s: %w", path, corrupt("file", "is empty"))
	case fi.Mode().Perm()&0o077 != 0:
		s.o.Logger.Warn("store was open to others; setting mode 0600", "path", path, "mode", fi.Mode().Perm().String())
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, fmt.Errorf("opening store: %w", err)
		}
	}
	h, head, err := openHandle(path, s.o)
	if err != nil {
		return nil, fmt.Errorf("opening store %s: %w", path, err)
	}
	s.header = head
	s.state.Store(&state{h: h})
	go s.commitLoop()
	return s, nil
}

// openHandle locks the file, checks what bbolt will trust, has bbolt open it, and
// reads the unencrypted header. It reads the free list, and writes only what it
// has to repair.
func openHandle(path string, o Options) (_ *handle, head header, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, head, err
	}
	if err := lock(f, unix.LOCK_EX, o.LockTimeout); err != nil {
		f.Close()
		return nil, head, err
	}
	h := &handle{path: path, file: f}
	defer func() {
		if err != nil {
			_ = h.close()
		}
	}()
	if !h.stands() { // compacted or restored while this one waited for the lock
		return nil, head, fmt.Errorf("%w: its file was replaced just now; try again", ErrLocked)
	}
	if err := h.mapFile(o.InitialMmapSize); err != nil {
		return nil, head, err
	}
	if err := h.look(o.Logger); err != nil {
		return nil, head, err
	}
	opts := boltOptions(o)
	opts.OpenFile = func(string, int, os.FileMode) (*os.File, error) { return f, nil } // already locked
	if h.DB, err = openBolt(path, opts); err != nil {
		return nil, head, err
	}
	head, err = h.readHeader()
	return h, head, err
}

// look checks the meta pages and the free list, which is all that bbolt reads when
// it opens a file: bbolt allocates memory for as many numbers as the file says, and
// the process ends if it cannot. A list that cannot be read is replaced by an empty
// one; its pages are found when the list is verified.
func (h *handle) look(log *slog.Logger) (err error) {
	defer catch(&err, "file")
	ms, err := h.metas()
	if err != nil {
		return err
	}
	h.pageSize, h.damage = int(ms.pageSize), ms.damage
	if ms.damage != nil {
		log.Error("a meta page of the store is damaged", "path", h.path, "error", ms.damage)
	}
	if ms.mended {
		if err := ms.meta.write(h.file, ms.page); err != nil {
			return fmt.Errorf("mending a meta page: %w", err)
		}
	}
	data, err := h.upTo(int(ms.pages * ms.pageSize))
	if err != nil {
		return err
	}
	l, err := readList(data, &ms.meta)
	if err != nil {
		log.Error("the list of free pages cannot be read; an empty one takes its place until the free pages have been found", "path", h.path, "error", err)
		if err := writeList(h.file, ms.meta, nil); err != nil {
			return fmt.Errorf("replacing the free list: %w", err)
		}
		return h.look(log)
	}
	h.listed = l.sum
	return nil
}

// metas reads the meta pages of the file as it is now.
func (h *handle) metas() (metas, error) {
	fi, err := h.file.Stat()
	if err != nil {
		return metas{}, err
	}
	data, err := h.upTo(int(fi.Size()))
	if err != nil {
		return metas{}, err
	}
	return readMetas(data)
}

// lock takes the lock of a file, as bbolt does, or returns ErrLocked after wait.
func lock(f *os.File, how int, wait time.Duration) error {
	for until := time.Now().Add(wait); ; time.Sleep(50 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case !errors.Is(err, unix.EWOULDBLOCK):
			return err
		case time.Now().After(until):
			return fmt.Errorf("%w: %s", ErrLocked, lockHolder(f.Name()))
		}
	}
}

func openBolt(path string, o *bolt.Options) (db *bolt.DB, err error) {
	defer catch(&err, "file")
	return bolt.Open(path, 0o600, o)
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
