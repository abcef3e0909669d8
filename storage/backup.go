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
	copyStep   = 8 << 20  // bytes that a backup copies between two looks at whether it is still wanted
	spaceSpare = 16 << 20 // bytes of the disk that a copy leaves to the store itself
)

// Backup copies the store, as it was after one commit, to a new file at path
// with mode 0600, and checks the pages of the copy. The store may be in use,
// and sealed: what is copied is ciphertext, with its slots. The file is there
// whole and durable, or not at all. ErrExists: there is one already.
// syscall.ENOSPC: the disk has no room for a copy, or not enough that the store
// could still grow; nothing of it is left.
//
// It costs a copy of the file, by the kernel where it can. While that runs
// pages that writers let go are not used again; and it ends with ErrSealed,
// ErrClosed or ErrUnavailable when the store is sealed, closed, or has to read
// its file anew.
func (s *Store) Backup(ctx context.Context, path string) (info Info, err error) {
	if _, err := os.Lstat(path); err == nil {
		return info, fmt.Errorf("backing up to %s: %w", path, ErrExists)
	}
	if err := s.writable(ctx); err != nil { // or the copy would have a free list that does not hold
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
	// What has been copied goes to the disk while the rest is being copied.
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

// moveNew gives the file at tmp the name path, which no file has.
func moveNew(tmp, path string) error {
	// A link, unlike a rename, never replaces what another process has put
	// there meanwhile.
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

// copyTo copies one state of the file, and tells now and then that it has written
// more.
func (s *Store) copyTo(ctx context.Context, to *os.File, written chan<- struct{}) (err error) {
	// Registered as a View, so that nobody closes the handle meanwhile.
	t := &Tx{store: s}
	s.enter(t, s.o.Now())
	defer s.leave(t)
	db, btx, keys, err := s.snapshot()
	if err != nil {
		return err
	}
	defer func() { _ = btx.Rollback() }() // it only lets its pages go
	from, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer from.Close()
	if !db.stands() {
		return corrupt("file", "another file stands in its place")
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
		default: // it has been told
		}
	}
	return nil
}

// firstPages takes what bbolt writes of a backup first: both meta pages, which
// only it can make of a transaction. The rest is copied quicker without it.
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

// stands tells whether the open file is still the one at its path.
func (h *handle) stands() bool {
	open, err := h.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(h.path)
	return err == nil && os.SameFile(open, there)
}

// checkSpace tells whether n bytes more fit on the disk of a file that is to be
// written, with something to spare: a full disk fails the store's commits.
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

// Generation counts the commits of the store. It is authentic, and so tells
// which of two copies of one store, and of one lineage, is the newer. ErrSealed.
func (s *Store) Generation(ctx context.Context) (n uint64, err error) {
	err = s.View(ctx, func(t *Tx) error {
		d, err := t.storedDigest()
		n = d.generation
		return err
	})
	return n, err
}
