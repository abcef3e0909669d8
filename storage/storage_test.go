package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// newStore makes an unsealed store that is checked when the test ends.
func newStore(t testing.TB, slots ...Slot) (*Store, []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.db")
	root := NewRootKey()
	if err := Create(path, NewUUID(), root, slots, nil, Options{}); err != nil {
		t.Fatal(err)
	}
	return reopen(t, path, root), root
}

// reopen opens and unseals the store at path, to be checked and closed at the
// end of the test.
func reopen(t testing.TB, path string, root []byte) *Store {
	t.Helper()
	s, err := Open(path, Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeChecked(t, s, root) })
	if err := s.Unseal(root); err != nil {
		t.Fatal(err)
	}
	return s
}

func closeChecked(t testing.TB, s *Store, root []byte) {
	t.Helper()
	if s.Sealed() {
		if err := s.Unseal(root); errors.Is(err, ErrClosed) {
			return // the test closed it
		} else if err != nil {
			t.Errorf("unsealing to check: %v", err)
		}
	}
	r, err := s.Check(context.Background())
	if err != nil || !r.OK() {
		t.Errorf("check at the end: %v %v", err, r.Damage)
	}
	path := s.Path()
	if err := s.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	damage, err := CheckPages(path, 0)
	if err != nil || len(damage) > 0 {
		t.Errorf("pages at the end: %v %v", err, damage)
	}
	boltCheck(t, path)
}

func put(t testing.TB, s *Store, path, value string) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.Put(path, []byte(value)) }); err != nil {
		t.Fatalf("put %s: %v", path, err)
	}
}

func get(s *Store, path string) (v []byte, err error) {
	err = s.View(context.Background(), func(tx *Tx) (err error) {
		v, err = tx.Get(path)
		return err
	})
	return v, err
}

func mustGet(t testing.TB, s *Store, path string) string {
	t.Helper()
	v, err := get(s, path)
	if err != nil {
		t.Fatalf("get %s: %v", path, err)
	}
	if v == nil {
		return "(none)"
	}
	return string(v)
}

func (s *Store) rawTx(fn func(*bolt.Tx) error) error {
	return s.raw(func(ts *trees, _ *keyring) error { return fn(ts.btx) })
}

// ring is the keyring of an unsealed store.
func (s *Store) ring() *keyring { return s.state.Load().keys }

func quarantined(t testing.TB, s *Store) []string {
	t.Helper()
	table, err := s.SlotTable()
	if err != nil {
		t.Fatal(err)
	}
	return table.Quarantined
}

// boltCheck is what bbolt itself finds in a file.
func boltCheck(t testing.TB, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_ = db.View(func(btx *bolt.Tx) error {
		for err := range btx.Check() {
			t.Errorf("bbolt's check: %v", err)
		}
		return nil
	})
}

// edit changes a closed store's file with bbolt alone, as a thief or a fault
// would.
func edit(t testing.TB, path string, fn func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(fn); err != nil {
		t.Fatal(err)
	}
}

func list(t testing.TB, s *Store, folder string) string {
	t.Helper()
	var names []string
	err := s.View(t.Context(), func(tx *Tx) (err error) {
		names, err = tx.List(folder)
		return err
	})
	if err != nil {
		t.Fatalf("list %s: %v", folder, err)
	}
	return strings.Join(names, " ")
}

func TestValues(t *testing.T) {
	s, root := newStore(t)
	put(t, s, "a", "1")
	put(t, s, "a/b", "2")
	put(t, s, "a/b/c/d", "3")
	put(t, s, "a/z", "")
	put(t, s, "top", strings.Repeat("x", MaxValue))
	for folder, want := range map[string]string{"": "a a/ top", "a": "b b/ z", "a/": "b b/ z", "a/b": "c/", "a/b/c": "d", "none": "", "a/z": ""} {
		if got := list(t, s, folder); got != want {
			t.Errorf("list %q = %q, want %q", folder, got, want)
		}
	}
	put(t, s, "a", "one")
	if err := s.Update(t.Context(), func(tx *Tx) error { return errors.Join(tx.Delete("a/b"), tx.Delete("never")) }); err != nil {
		t.Fatal(err)
	}
	path := s.Path()
	s.Close()
	s = reopen(t, path, root)
	for p, want := range map[string]string{"a": "one", "a/b": "(none)", "a/b/c/d": "3", "a/z": "", "never": "(none)"} {
		if got := mustGet(t, s, p); got != want {
			t.Errorf("get %q = %q, want %q", p, got, want)
		}
	}
	if got := list(t, s, "a"); got != "b/ z" {
		t.Errorf("list a = %q", got)
	}
}

func TestLimits(t *testing.T) {
	s, _ := newStore(t)
	long := strings.Repeat("s", MaxSegment)
	deep := strings.Repeat("d/", MaxDepth-1) + "d"
	put(t, s, long, "v")
	put(t, s, deep, "v")
	put(t, s, "any\x00byte\xff but slash", "v")
	for _, p := range []string{"", "/", "a/", "/a", "a//b", long + "s", deep + "/d", strings.Repeat(long+"/", 4)} {
		err := s.Update(t.Context(), func(tx *Tx) error { return tx.Put(p, nil) })
		if !errors.Is(err, ErrPath) {
			t.Errorf("put %.40q: %v, want ErrPath", p, err)
		}
		if _, err := get(s, p); !errors.Is(err, ErrPath) {
			t.Errorf("get %.40q: %v, want ErrPath", p, err)
		}
	}
	err := s.Update(t.Context(), func(tx *Tx) error { return tx.Put("big", make([]byte, MaxValue+1)) })
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if err := s.View(t.Context(), func(tx *Tx) error { return tx.Put("a", nil) }); !errors.Is(err, ErrReadOnly) {
		t.Errorf("write in view: %v", err)
	}
}

func TestSealing(t *testing.T) {
	s, root := newStore(t)
	put(t, s, "a", "1")
	if got, want := s.Fingerprint(), Fingerprint(root); got != want || len(got) != 23 {
		t.Errorf("fingerprint %q, want %q", got, want)
	}
	s.Seal()
	s.Seal()
	if !s.Sealed() || s.Fingerprint() != "" {
		t.Error("not sealed")
	}
	if _, err := get(s, "a"); !errors.Is(err, ErrSealed) {
		t.Errorf("get: %v", err)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { return nil }); !errors.Is(err, ErrSealed) {
		t.Errorf("update: %v", err)
	}
	if err := s.Rotate(t.Context()); !errors.Is(err, ErrSealed) {
		t.Errorf("rotate: %v", err)
	}
	for _, bad := range [][]byte{nil, root[:31], NewRootKey()} {
		if err := s.Unseal(bad); !errors.Is(err, ErrRootKey) {
			t.Errorf("unseal with a wrong key of %d bytes: %v", len(bad), err)
		}
	}
	if err := s.Unseal(root); err != nil {
		t.Fatal(err)
	}
	if err := s.Unseal(NewRootKey()); !errors.Is(err, ErrRootKey) {
		t.Errorf("wrong key on an unsealed store: %v", err)
	}
	if got := mustGet(t, s, "a"); got != "1" {
		t.Errorf("after unsealing: %q", got)
	}
}

// Close waits for who reads the file without keys, and does not keep him from it.
func TestCloseWaits(t *testing.T) {
	s, _ := newStore(t)
	s.Seal() // which waits, too
	inside, outcome := make(chan struct{}), make(chan error, 2)
	go func() {
		outcome <- s.raw(func(ts *trees, _ *keyring) error {
			close(inside)
			for began := time.Now(); time.Since(began) < 10*time.Second; runtime.Gosched() {
				// It is taken away, and closed when this has ended.
				if _, err := s.usable(); errors.Is(err, ErrClosed) {
					_, err = ts.of(bucketSlots)
					return err
				}
			}
			return errors.New("the handle was not taken away")
		})
	}()
	<-inside
	go func() { outcome <- s.Close() }()
	for range 2 {
		select {
		case err := <-outcome:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the reader and Close wait for each other")
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "s.db")
	root := NewRootKey()
	if _, err := Open(path, Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Error("opening created a folder")
	}
	failed := errors.New("no")
	err := Create(path, NewUUID(), root, nil, func(*Tx) error { return failed }, Options{})
	if !errors.Is(err, failed) {
		t.Errorf("create: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
		t.Errorf("a failed creation left %v", left)
	}
	first := func(tx *Tx) error { return tx.Put("first", []byte("value")) }
	if err := Create(path, NewUUID(), root, nil, first, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, NewUUID(), root, nil, nil, Options{}); !errors.Is(err, ErrExists) {
		t.Errorf("second create: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	s := reopen(t, path, root)
	if got := mustGet(t, s, "first"); got != "value" {
		t.Errorf("first = %q", got)
	}
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
		if fi, _ := os.Stat(p); fi.Mode() != want {
			t.Errorf("%s has mode %v, want %v", filepath.Base(p), fi.Mode(), want)
		}
	}
	_, err = Open(path, Options{LockTimeout: 1})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("locked: %v", err)
	}
	for name, content := range map[string]string{"empty": "", "text": "not a store", "pages": strings.Repeat("\x00", 1<<16)} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(p, Options{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if now, _ := os.ReadFile(p); string(now) != content {
			t.Errorf("%s: opening changed the file", name)
		}
	}
	if _, err := Open(dir, Options{}); err == nil {
		t.Error("a folder opened")
	}
}

func TestNewerFormat(t *testing.T) {
	s, root := newStore(t)
	path := s.Path()
	s.Close()
	for head, want := range map[string]error{
		`{"format":7,"reader":1,"uuid":"` + s.UUID() + `"}`: nil,
		`{"format":7,"reader":3,"uuid":"` + s.UUID() + `"}`: ErrFormat,
		`{"format":1,"reader":1,"uuid":"short"}`:            ErrCorrupt,
		`{`:                                                 ErrCorrupt,
	} {
		edit(t, path, func(btx *bolt.Tx) error { return btx.Bucket(bucketMeta).Put(keyHeader, []byte(head)) })
		s, err := Open(path, Options{})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", head, err, want)
		}
		if err == nil {
			closeChecked(t, s, root)
		}
	}
}

func TestRotate(t *testing.T) {
	s, root := newStore(t)
	put(t, s, "old", "1")
	for term := uint32(2); term < 5; term++ {
		if err := s.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		ks, err := s.KeyStatus(t.Context())
		if err != nil || ks.Term != term || ks.Writes != 0 || ks.Installed.IsZero() {
			t.Fatalf("after rotation: %+v %v", ks, err)
		}
		put(t, s, fmt.Sprint("term", term), "v")
	}
	if ks, _ := s.KeyStatus(t.Context()); ks.Writes != 1 {
		t.Errorf("writes = %d", ks.Writes)
	}
	path := s.Path()
	s.Close()
	s = reopen(t, path, root)
	if got := mustGet(t, s, "old") + mustGet(t, s, "term2") + mustGet(t, s, "term4"); got != "1vv" {
		t.Errorf("after rotations: %q", got)
	}
	edit := func(term uint32) {
		rec, _ := s.ring().encodePath(fmt.Sprint("term", term))
		_ = s.rawTx(func(btx *bolt.Tx) error {
			if _, got, _, _ := splitRecord(btx.Bucket(bucketData).Get(rec)); got != term {
				t.Errorf("record under term %d, want %d", got, term)
			}
			return nil
		})
	}
	edit(2)
	edit(4)
}

func TestBlobs(t *testing.T) {
	s, root := newStore(t)
	big := strings.Repeat("0123456789abcdef", 3*MaxValue/16) + "tail"
	for _, content := range []string{big, "small", ""} {
		b, err := s.WriteBlob(t.Context(), strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), func(tx *Tx) error { return tx.PutBlob("state/b", b) }); err != nil {
			t.Fatal(err)
		}
		err = s.Update(t.Context(), func(tx *Tx) error { return tx.PutBlob("state/other", b) })
		if !errors.Is(err, ErrPath) {
			t.Errorf("one blob at two paths: %v", err)
		}
		if got := readBlob(t, s, "state/b"); got != content {
			t.Errorf("blob of %d bytes reads as %d", len(content), len(got))
		}
	}
	if _, err := get(s, "state/b"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("get of a blob: %v", err)
	}
	// An upload that was never referred to; of those that were replaced nothing is left.
	left, err := s.WriteBlob(t.Context(), strings.NewReader(big))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.SweepBlobs(t.Context(), 3600e9); n != 0 || err != nil {
		t.Errorf("swept %d young chunks, %v", n, err)
	}
	if n, err := s.SweepBlobs(t.Context(), -3600e9); n != 4 || err != nil {
		t.Errorf("swept %d chunks, %v; want 4", n, err)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.PutBlob("late", left) }); !errors.Is(err, ErrPath) {
		t.Errorf("put of a swept blob: %v", err)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.Delete("state/b") }); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Check(t.Context()); err != nil || !r.OK() || r.Values != 0 {
		t.Errorf("%+v %v", r, err)
	}
	// A chunk that is gone.
	b, err := s.WriteBlob(t.Context(), strings.NewReader(big))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.PutBlob("p", b) }); err != nil {
		t.Fatal(err)
	}
	path := s.Path()
	s.Close()
	edit(t, path, func(btx *bolt.Tx) error { return btx.Bucket(bucketBlobs).Delete(chunkKey(b.ID, 1)) })
	s, err = Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Unseal(root); err != nil {
		t.Fatal(err)
	}
	err = s.View(t.Context(), func(tx *Tx) error { return copyBlob(tx, "p", new(strings.Builder)) })
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("missing chunk: %v", err)
	}
	if r, err := s.Check(t.Context()); err != nil || r.OK() {
		t.Errorf("missing chunk passed the check: %v", err)
	}
}
