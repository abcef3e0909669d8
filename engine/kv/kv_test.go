package kv

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

var start = time.Date(2026, 3, 22, 2, 24, 6, 945319214, time.UTC)

// keep is an engine over a real store, with a clock that the test moves.
type keep struct {
	testing.TB
	path  string
	store *storage.Store
	e     Engine
	now   time.Time

	passes int // transactions of the last repeat
}

// newKeep checks the whole store when the test ends.
func newKeep(t testing.TB) *keep {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keep.db")
	slots := []storage.Slot{{Name: "test", Type: "static", KeyID: "k", RootGeneration: 1, Blob: []byte("blob"), Created: start}}
	if err := storage.Create(path, storage.NewUUID(), root, slots, nil, options); err != nil {
		t.Fatal(err)
	}
	return openKeep(t, path)
}

var (
	root    = bytes.Repeat([]byte{7}, 32)
	options = storage.Options{InitialMmapSize: 1 << 24}
)

// openKeep opens a store that newKeep has made.
func openKeep(t testing.TB, path string) *keep {
	t.Helper()
	s, err := storage.Open(path, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r, err := s.Check(context.Background()); err != nil || !r.OK() {
			t.Errorf("checking store: %v, %v", r.Damage, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Unseal(root); err != nil {
		t.Fatal(err)
	}
	return &keep{TB: t, path: path, store: s, e: Engine{Prefix: "mounts/7f3a"}, now: start}
}

func (k *keep) update(fn func(*storage.Tx) error) error {
	return k.store.Update(context.Background(), fn)
}

// repeat runs fn in transactions until there is no more to do.
func (k *keep) repeat(fn func(*storage.Tx) (more bool, err error)) error {
	k.passes = 0
	for more := true; more; {
		k.passes++
		if err := k.update(func(tx *storage.Tx) (err error) {
			more, err = fn(tx)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (k *keep) view(fn func(*storage.Tx) error) error {
	return k.store.View(context.Background(), fn)
}

func (k *keep) data(raw string) Data {
	k.Helper()
	d, err := Parse("data", []byte(raw))
	if err != nil {
		k.Fatalf("Parse(%s): %v", raw, err)
	}
	return d
}

func (k *keep) put(path, raw string, cas *int) (m Meta, err error) {
	k.Helper()
	d := k.data(raw)
	err = k.update(func(tx *storage.Tx) (err error) {
		m, err = k.e.Put(tx, path, d, cas, k.now)
		return err
	})
	return m, err
}

func (k *keep) putV1(path, raw string) error {
	k.Helper()
	d := k.data(raw)
	return k.update(func(tx *storage.Tx) error {
		return V1{k.e.Prefix}.Put(tx, path, V1Secret{Data: d, Written: k.now})
	})
}

func (k *keep) mustPut(path, raw string) Meta {
	k.Helper()
	m, err := k.put(path, raw, nil)
	k.must(err)
	return m
}

func (k *keep) patch(path, raw string, cas *int) (m Meta, err error) {
	k.Helper()
	patch, err := NewMerge(k.data(raw))
	if err != nil {
		return m, err
	}
	for {
		err = k.update(func(tx *storage.Tx) (err error) {
			m, err = k.e.Patch(tx, path, patch, cas, k.now)
			return err
		})
		if !errors.Is(err, ErrUnprepared) {
			return m, err
		}
		k.must(k.view(func(tx *storage.Tx) error { return k.e.Prepare(tx, path, patch) }))
	}
}

func (k *keep) get(path string, version uint64) (s Secret, err error) {
	err = k.view(func(tx *storage.Tx) (err error) {
		s, err = k.e.Get(tx, path, version, k.now)
		return err
	})
	return s, err
}

func (k *keep) metadata(path string) (m Metadata, err error) {
	err = k.view(func(tx *storage.Tx) (err error) {
		m, err = k.e.Metadata(tx, path)
		return err
	})
	return m, err
}

func (k *keep) putMetadata(path string, s Settings, custom string, cas ...int) error {
	k.Helper()
	return k.changeMetadata(Engine.PutMetadata, path, s, custom, cas)
}

func (k *keep) patchMetadata(path string, s Settings, custom string, cas ...int) error {
	k.Helper()
	return k.changeMetadata(Engine.PatchMetadata, path, s, custom, cas)
}

// changeMetadata takes a cas or none.
func (k *keep) changeMetadata(change func(Engine, *storage.Tx, string, Settings, Data, *int, time.Time) error, path string, s Settings, custom string, cas []int) error {
	k.Helper()
	d := k.data(custom)
	var at *int
	if len(cas) > 0 {
		at = &cas[0]
	}
	return k.update(func(tx *storage.Tx) error { return change(k.e, tx, path, s, d, at, k.now) })
}

func (k *keep) config(s Settings) error {
	return k.update(func(tx *storage.Tx) error { return k.e.PutConfig(tx, s) })
}

func (k *keep) delete(path string) error {
	return k.update(func(tx *storage.Tx) error { return k.e.Delete(tx, path, k.now) })
}

func (k *keep) deleteVersions(path string, n ...uint64) error {
	return k.update(func(tx *storage.Tx) error { return k.e.DeleteVersions(tx, path, n, k.now) })
}

func (k *keep) undelete(path string, n ...uint64) error {
	return k.update(func(tx *storage.Tx) error { return k.e.Undelete(tx, path, n, k.now) })
}

func (k *keep) destroy(path string, n ...uint64) error {
	return k.repeat(func(tx *storage.Tx) (bool, error) { return k.e.Destroy(tx, path, n) })
}

func (k *keep) deleteMetadata(path string) error {
	return k.repeat(func(tx *storage.Tx) (bool, error) { return k.e.DeleteMetadata(tx, path) })
}

func (k *keep) list(folder string) (names []string, err error) {
	err = k.view(func(tx *storage.Tx) (err error) {
		names, err = k.e.List(tx, folder)
		return err
	})
	return names, err
}

func (k *keep) scan(folder string, most int) (paths []string, err error) {
	err = k.view(func(tx *storage.Tx) (err error) {
		paths, err = k.e.Scan(tx, folder, most)
		return err
	})
	return paths, err
}

// dump returns every record beneath the mount, path to value.
func (k *keep) dump() map[string]string {
	k.Helper()
	all := map[string]string{}
	var walk func(tx *storage.Tx, folder string) error
	walk = func(tx *storage.Tx, folder string) error {
		names, err := tx.List(folder)
		if err != nil {
			return err
		}
		for _, name := range names {
			path := folder + "/" + name
			if sub, isFolder := strings.CutSuffix(path, "/"); isFolder {
				err = walk(tx, sub)
			} else {
				var b []byte
				b, err = tx.Get(path)
				all[strings.TrimPrefix(path, k.e.Prefix+"/")] = string(b)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	k.must(k.view(func(tx *storage.Tx) error { return walk(tx, k.e.Prefix) }))
	return all
}

func (k *keep) must(err error) {
	k.Helper()
	if err != nil {
		k.Fatal(err)
	}
}

func (k *keep) wantErr(err, want error) {
	k.Helper()
	if !errors.Is(err, want) {
		k.Fatalf("error %v, want %v", err, want)
	}
}

// wantData reads a version and compares its data; "" is for a version that is
// gone.
func (k *keep) wantData(path string, version uint64, want string) Secret {
	k.Helper()
	s, err := k.get(path, version)
	k.must(err)
	if string(s.Data) != want || (s.Data == nil) != (want == "") {
		k.Fatalf("version %d of %q is %s, want %s", version, path, s.Data, want)
	}
	return s
}

func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s is %+v, want %+v", what, got, want)
	}
}
