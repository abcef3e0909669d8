// Package storagetest makes stores for tests.
package storagetest

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/sealkeep/sealkeep/storage"
)

// New returns an unsealed store in a temporary folder. The store is checked and
// closed at the end of the test.
func New(t testing.TB) *storage.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keep.db")
	root := storage.NewRootKey()
	slot := storage.Slot{Name: "one", Type: "static", RootGeneration: 1, Blob: []byte("x")}
	if err := storage.Create(path, storage.NewUUID(), root, []storage.Slot{slot}, nil, storage.Options{}); err != nil {
		t.Fatal(err)
	}
	s, err := storage.Open(path, storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r, err := s.Check(context.Background()); err != nil || !r.OK() {
			t.Errorf("the store does not check: %v, %+v", err, r)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Unseal(root); err != nil {
		t.Fatal(err)
	}
	return s
}
