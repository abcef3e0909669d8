package storage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"
)

// recover drops the handle after a failed commit and reopens the file, as the
// package comment says. It returns when the store can be read again, or is
// closing.
func (s *Store) recover(h *handle, cause error) {
	s.o.Logger.Error("a write to the store failed; reading the file anew", "path", s.path, "error", cause)
	h.gone.Store(true)
	s.change(func(st *state) { st.h = nil })
	s.refusing(s.waitViews)
	abandon(h)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		var err error
		s.refusing(func() { err = s.reopen() })
		if err == nil {
			s.o.Logger.Info("the store is usable again", "path", s.path)
			return
		}
		s.o.Logger.Error("the store cannot be used", "path", s.path, "error", err, "retry_in", wait)
		closing := false
		s.refusing(func() { closing = !s.pause(wait) })
		if closing {
			return
		}
	}
}

// pause waits for d. It reports false if the store is closing.
func (s *Store) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.closing:
		return false
	}
}

// refusing runs fn and, until it returns, refuses the updates that wait for the
// committer.
func (s *Store) refusing(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	for {
		select {
		case u := <-s.queue:
			u.done <- ErrUnavailable
		case <-done:
			return
		}
	}
}

// abandon closes a handle that can no longer be trusted.
func abandon(h *handle) {
	defer func() { _ = recover() }()
	_ = h.close()
}

// reopen opens the file and makes its newest state durable: the kernel may
// hold pages that it failed to write as if they were clean.
func (s *Store) reopen() (err error) {
	h, _, err := openHandle(s.path, s.o)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			abandon(h)
		}
	}()
	if err := rewrite(h.file, 2*h.pageSize); err != nil { // both meta pages
		return err
	}
	return s.reload(h)
}

// reload adopts the current state of the file. After a failed change of the
// keyring, that may be the state before or after the change.
func (s *Store) reload(h *handle) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer catch(&err, "reading")
	btx, err := h.Begin(false)
	if err != nil {
		return fmt.Errorf("beginning transaction: %w", err)
	}
	defer func() { _ = btx.Rollback() }() // just releases its pages
	ts := &trees{h: h, btx: btx}
	was, roots := s.roots()
	if roots == nil {
		s.change(func(st *state) { st.h = h })
		return nil
	}
	rec, err := ts.get(bucketMeta, keyKeyring)
	if err != nil {
		return err
	}
	var k *keyring
	for _, root := range roots {
		if k, err = openKeyring(rec, s.header.UUID, root); !errors.Is(err, ErrRootKey) {
			break
		}
	}
	if err != nil {
		return err
	}
	k.sealed = was.keys.sealed
	d, err := k.readDigest(ts)
	if err != nil {
		return err
	}
	s.digest = d
	s.change(func(st *state) {
		st.h = h
		st.install(was.keys, k, uint64(btx.ID()))
	})
	return nil
}

// roots returns the state and copies of the root keys, one of which is the
// file's. It returns no keys while sealed.
func (s *Store) roots() (st *state, roots [][]byte) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st = s.state.Load()
	for _, k := range []*keyring{st.keys, st.next} {
		if k != nil {
			roots = append(roots, bytes.Clone(k.root))
		}
	}
	return st, roots
}

// rewrite reads the first n bytes of a file and writes them back, durably.
func rewrite(f *os.File, n int) error {
	buf := make([]byte, n)
	if _, err := f.ReadAt(buf, 0); err != nil {
		return fmt.Errorf("rewriting meta pages: %w", err)
	}
	if _, err := f.WriteAt(buf, 0); err != nil {
		return fmt.Errorf("rewriting meta pages: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("rewriting meta pages: %w", err)
	}
	return nil
}
