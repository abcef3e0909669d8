package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	copyStep   = 8 << 20  // bytes that a backup copies between checks for cancellation
	spaceSpare = 16 << 20 // bytes of free space that a copy leaves for the store to grow
)

// Backup copies the store, as it was after one commit, to a new file at path
// with mode 0600, and checks the pages of the copy. The store may be in use, or
// sealed: the copy is ciphertext, with its slots. The file appears complete and
// durable, or not at all. ErrExists: path already exists. syscall.ENOSPC: the
// disk has no room for a copy, or too little for the store to grow beside it;
// nothing is left behind.
//
// It costs a copy of the file, by the kernel where possible. While it runs, pages
// that writers free are not reused. It ends with ErrSealed, ErrClosed or
// ErrUnavailable when the store is sealed or closed, or has to reopen its file.
func (s *Store) Backup(ctx context.Context, path string) (info Info, err error) {
	if _, err := os.Lstat(path); err == nil {
		return info, fmt.Errorf("backing up to %s: %w", path, ErrExists)
	}
	if err := s.writable(ctx); err != nil { // otherwise the copy could have a wrong free list
		return info, fmt.Errorf("backing up: %w", err)
	}
	tmp := path + ".part"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return info, fmt.Errorf("backing up: %s: %w", tmp, ErrExists)
	} else if err != nil {
		return info, fmt.Errorf("backing up: %w", err)
	}
	defer os.Remove(tmp)
	defer f.Close()
	// Sync what has been copied while the rest is being copied.
	written, synced := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		var err error
		for range written {
			err = errors.Join(err, f.Sync())
		}
		synced <- err
	}()
	err = s.copyTo(ctx, f, written)
	if err == nil {
		written <- struct{}{} // a sync begins after the last byte
	}
	close(written)
	if err == nil {
		info, err = inspect(f)
	}
	if serr := <-synced; err == nil {
		err = serr
	}
	if err == nil && info.UUID != s.UUID() {
		err = corrupt("file", "the copy is of store %s", info.UUID)
	}
	if err == nil {
		err = moveNew(tmp, path)
	}
	if err != nil {
		return Info{}, fmt.Errorf("backing up to %s: %w", path, err)
	}
	return info, nil
}

// moveNew renames the file at tmp to path, which must not exist.
func moveNew(tmp, path string) error {
	// A link, unlike a rename, never replaces a file that another process
	// created in the meantime.
	if err := os.Link(tmp, path); errors.Is(err, fs.ErrExist) {
		return ErrExists
	} else if err != nil {
		return err
	}
	if err := os.Remove(tmp); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// copyTo copies one state of the file. It sends on written after each step.
func (s *Store) copyTo(ctx context.Context, to *os.File, written chan<- struct{}) (err error) {
	// Registered as a View, so that the handle is not closed in the meantime.
	t := &Tx{store: s}
	s.enter(t, s.o.Now())
	defer s.leave(t)
	db, btx, keys, err := s.snapshot()
	if err != nil {
		return err
	}
	defer func() { _ = btx.Rollback() }() // just releases its pages
	from, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer from.Close()
	if !db.stands() {
		return corrupt("file", "another file is in its place")
	}
	size := btx.Size()
	if err := checkSpace(to.Name(), size); err != nil {
		return err
	}
	head := firstPages{want: 2 * db.pageSize}
	if _, err := btx.WriteTo(&head); !errors.Is(err, errEnough) {
		return fmt.Errorf("reading the meta pages: %w", err)
	}
	if _, err := to.Write(head.b); err != nil {
		return err
	}
	if _, err := from.Seek(int64(len(head.b)), io.SeekStart); err != nil {
		return err
	}
	for left := size - int64(len(head.b)); left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case s.isClosing():
			return ErrClosed
		case db.gone.Load():
			return ErrUnavailable
		case keys != nil && keys.sealed.Load():
			return ErrSealed
		}
		n, err := io.CopyN(to, from, min(left, copyStep))
		if err == io.EOF {
			return corrupt("file", "it ends %d bytes before its last page", left-n)
		} else if err != nil {
			return err
		}
		left -= n
		select {
		case written <- struct{}{}:
		default: // a signal is already pending
		}
	}
	return nil
}

// firstPages keeps the first pages of a bbolt backup: the two meta pages, which
// only bbolt can make for a transaction. The rest is copied faster without bbolt.
type firstPages struct {
	b    []byte
	want int
}

var errEnough = errors.New("enough")

func (f *firstPages) Write(p []byte) (int, error) {
	if len(f.b) == f.want {
		return 0, errEnough
	}
	f.b = append(f.b, p...)
	return len(p), nil
}

// stands reports whether the open file is still the one at its path.
func (h *handle) stands() bool {
	open, err := h.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(h.path)
	return err == nil && os.SameFile(open, there)
}

// checkSpace returns an error unless the disk of the file at path has room for n
// bytes and some to spare: on a full disk the store's commits fail.
func checkSpace(path string, n int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &st); err != nil {
		return fmt.Errorf("looking for free space: %w", err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < n+spaceSpare {
		return fmt.Errorf("%w: a copy needs %d MiB, %d of them to spare, and %s has %d MiB",
			syscall.ENOSPC, (n+spaceSpare)>>20, spaceSpare>>20, filepath.Dir(path), free>>20)
	}
	return nil
}

// Generation counts the commits of the store. It is authenticated, so it shows
// which of two copies of one store, and of one lineage, is newer. ErrSealed.
func (s *Store) Generation(ctx context.Context) (n uint64, err error) {
	err = s.View(ctx, func(t *Tx) error {
		d, err := t.storedDigest()
		n = d.generation
		return err
	})
	return n, err
}
