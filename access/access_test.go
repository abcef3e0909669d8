package access

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

func newStore(t *testing.T) *storage.Store {
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

func createRoot(t *testing.T, s *storage.Store, id string, now time.Time) string {
	t.Helper()
	var token string
	err := s.Update(t.Context(), func(tx *storage.Tx) (err error) {
		token, err = CreateRoot(tx, id, now)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func lookup(t *testing.T, s *storage.Store, token string) (tok *Token, err error) {
	t.Helper()
	err = s.View(t.Context(), func(tx *storage.Tx) (err error) {
		tok, err = Lookup(tx, token)
		return err
	})
	return tok, err
}

func TestRootToken(t *testing.T) {
	s := newStore(t)
	if _, err := lookup(t, s, "hvs.nobody"); !errors.Is(err, ErrDenied) {
		t.Errorf("without any token: %v, want ErrDenied", err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	token := createRoot(t, s, "", now)
	if !strings.HasPrefix(token, "hvs.") || len(token) < 28 {
		t.Errorf("token %q has not the shape of one", token)
	}
	other := createRoot(t, s, "", now)
	chosen := createRoot(t, s, "root", now)
	if token == other || chosen != "root" {
		t.Errorf("tokens %q %q %q", token, other, chosen)
	}
	for _, secret := range []string{token, other, chosen} {
		got, err := lookup(t, s, secret)
		if err != nil {
			t.Fatalf("%q: %v", secret, err)
		}
		if got.DisplayName != "root" || !got.Created.Equal(now) || got.Type != "service" || !got.Orphan || got.Path != "auth/token/root" {
			t.Errorf("token is %+v", got)
		}
		if got.Accessor == "" || strings.Contains(secret, got.Accessor) {
			t.Errorf("accessor %q of token %q", got.Accessor, secret)
		}
		if err := Authorize(got, "sys/seal", Sudo); err != nil {
			t.Errorf("root may not: %v", err)
		}
	}
	for _, secret := range []string{"", token + "x", token[:len(token)-1], strings.ToUpper(token), "a b", "é", strings.Repeat("x", MaxToken+1)} {
		if _, err := lookup(t, s, secret); !errors.Is(err, ErrDenied) {
			t.Errorf("%q: %v, want ErrDenied", secret, err)
		}
	}
}

func TestChosenTokenIsChecked(t *testing.T) {
	s := newStore(t)
	for _, id := range []string{"a b", "a\n", "ä", strings.Repeat("x", MaxToken+1)} {
		err := s.Update(t.Context(), func(tx *storage.Tx) error {
			_, err := CreateRoot(tx, id, time.Now())
			return err
		})
		if !errors.Is(err, ErrToken) {
			t.Errorf("%q: %v, want ErrToken", id, err)
		}
	}
}

func TestNoPolicyNoAccess(t *testing.T) {
	for _, tok := range []*Token{nil, {}, {Policies: []string{"default", "roots"}}} {
		if err := Authorize(tok, "secret/data/a", Read); !errors.Is(err, ErrDenied) {
			t.Errorf("%+v: %v, want ErrDenied", tok, err)
		}
		if got := Capabilities(tok, "secret/data/a"); len(got) != 1 || got[0] != "deny" {
			t.Errorf("%+v: capabilities %v", tok, got)
		}
	}
}

// The token is neither a name nor a value in the store, whoever could decrypt it.
func TestTokenIsNotStored(t *testing.T) {
	s := newStore(t)
	token := createRoot(t, s, "", time.Now())
	err := s.View(t.Context(), func(tx *storage.Tx) error {
		names, err := tx.List("access/token")
		if err != nil || len(names) != 1 {
			t.Fatalf("records %v: %v", names, err)
		}
		value, err := tx.Get("access/token/" + names[0])
		if err != nil {
			t.Fatal(err)
		}
		secret := strings.TrimPrefix(token, "hvs.")
		if strings.Contains(names[0], secret) || bytes.Contains(value, []byte(secret)) {
			t.Errorf("the record gives the token away: %s %s", names[0], value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDamagedRecords(t *testing.T) {
	s := newStore(t)
	token := createRoot(t, s, "", time.Now())
	for value, want := range map[string]error{
		"{":             storage.ErrCorrupt,
		"":              storage.ErrCorrupt,
		`{"version":2}`: storage.ErrFormat,
	} {
		err := s.Update(t.Context(), func(tx *storage.Tx) error {
			names, err := tx.List("access/token")
			if err != nil {
				return err
			}
			return tx.Put("access/token/"+names[0], []byte(value))
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lookup(t, s, token); !errors.Is(err, want) {
			t.Errorf("record %q: %v, want %v", value, err, want)
		}
	}
}
