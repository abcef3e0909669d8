package cubbyhole

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage/storagetest"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/storage"
)

// newToken writes a token, and returns it as a request has it.
func newToken(t *testing.T, s *storage.Store, now time.Time) (tok *access.Token) {
	t.Helper()
	err := s.Update(t.Context(), func(tx *storage.Tx) error {
		secret, err := access.CreateRoot(tx, "", now)
		if err != nil {
			return err
		}
		key, err := access.ReadKey(tx)
		if err != nil {
			return err
		}
		id, err := key.ID(secret)
		if err != nil {
			return err
		}
		tok, err = access.Lookup(tx, id, now)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestCubbyhole(t *testing.T) {
	s, now := storagetest.New(t), time.Now()
	one, other := newToken(t, s, now), newToken(t, s, now)
	update := func(fn func(*storage.Tx) error) error { return s.Update(t.Context(), fn) }
	put := func(tok *access.Token, path, object string) error {
		return update(func(tx *storage.Tx) error { return Put(tx, tok, path, json.RawMessage(object)) })
	}
	names := func(tok *access.Token, folder string) (names []string) {
		t.Helper()
		err := s.View(t.Context(), func(tx *storage.Tx) (err error) {
			names, err = List(tx, tok, folder)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	for _, path := range []string{"a", "a/b", "a/c/d", "z", "é/x"} {
		if err := put(one, path, `{"at":"`+path+`"}`); err != nil {
			t.Fatal(err)
		}
	}
	for folder, want := range map[string][]string{"": {"a", "a/", "z", "é/"}, "a": {"b", "c/"}, "a/c": {"d"}, "z": nil, "b": nil} {
		if got := names(one, folder); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", folder, got, want)
		}
	}
	if names := names(other, ""); names != nil {
		t.Errorf("another token sees %q", names)
	}
	if err := put(one, "a", `{"at":"new"}`); err != nil {
		t.Fatal(err)
	}
	if err := update(func(tx *storage.Tx) error { return Delete(tx, one, "a/b") }); err != nil {
		t.Fatal(err)
	}
	err := s.View(t.Context(), func(tx *storage.Tx) error {
		for path, want := range map[string]string{"a": `{"at":"new"}`, "a/b": "", "a/c/d": `{"at":"a/c/d"}`, "": ""} {
			if got, err := Get(tx, one, path); err != nil || string(got) != want {
				t.Errorf("%q: %s %v", path, got, err)
			}
		}
		record, err := one.Cubbyhole(tx)
		if want := `{"version":1,"secrets":{"a":{"at":"new"},"a/c/d":{"at":"a/c/d"},"z":{"at":"z"},"é/x":{"at":"é/x"}}}`; string(record) != want {
			t.Errorf("the record is %s, want %s", record, want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// As much as it may hold, and no more.
	large := `{"a":"` + strings.Repeat("x", Max-200) + `"}`
	if err := put(other, "a", large); err != nil {
		t.Fatal(err)
	}
	if err := put(other, "b", large); !errors.Is(err, storage.ErrTooLarge) || !strings.Contains(err.Error(), "at most 262144 bytes") {
		t.Errorf("too much: %v", err)
	}
	if names := names(other, ""); !slices.Equal(names, []string{"a"}) {
		t.Errorf("%q", names)
	}
	// What ended with its token does not come back.
	if err := update(func(tx *storage.Tx) error { _, err := access.Revoke(tx, one.ID()); return err }); err != nil {
		t.Fatal(err)
	}
	if names := names(one, ""); names != nil {
		t.Errorf("of a revoked token %q are left", names)
	}
	if err := put(one, "a", `{}`); !errors.Is(err, access.ErrDenied) {
		t.Errorf("a revoked token wrote: %v", err)
	}
	if err := update(func(tx *storage.Tx) error { return Delete(tx, one, "a") }); !errors.Is(err, access.ErrDenied) {
		t.Errorf("a revoked token deleted: %v", err)
	}
}

// FuzzRecord: whatever the record is, it is read or refused.
func FuzzRecord(f *testing.F) {
	for _, seed := range []string{`{"version":1,"secrets":{"a/b":{"k":1}}}`, `{"version":1,"status":200,"response":{}}`, `{"version":2}`, `{`, ``, `null`, `{"version":1,"secrets":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decode(value)
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(again); err != nil {
			t.Fatal(err)
		}
	})
}
