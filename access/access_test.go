package access

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage/storagetest"

	"github.com/sealkeep/sealkeep/storage"
)

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
		tok, err = lookupIn(tx, token, time.Now())
		return err
	})
	return tok, err
}

// lookupIn finds a token by its secret.
func lookupIn(tx *storage.Tx, token string, now time.Time) (*Token, error) {
	key, err := ReadKey(tx)
	if err != nil {
		return nil, err
	}
	id, err := key.ID(token)
	if err != nil {
		return nil, err
	}
	return Lookup(tx, id, now)
}

func TestRootToken(t *testing.T) {
	s := storagetest.New(t)
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
		if !got.Root() || !got.Alive(now.AddDate(100, 0, 0)) || got.Limited() {
			t.Errorf("the root token has limits: %+v", got)
		}
	}
	for _, secret := range []string{"", token + "x", token[:len(token)-1], strings.ToUpper(token), "a b", "é", strings.Repeat("x", MaxToken+1)} {
		if _, err := lookup(t, s, secret); !errors.Is(err, ErrDenied) {
			t.Errorf("%q: %v, want ErrDenied", secret, err)
		}
	}
}

func TestChosenTokenIsChecked(t *testing.T) {
	s := storagetest.New(t)
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

// The token is neither a name nor a value in the store, whoever could decrypt it.
func TestTokenIsNotStored(t *testing.T) {
	s := storagetest.New(t)
	token := createRoot(t, s, "", time.Now())
	err := s.View(t.Context(), func(tx *storage.Tx) error {
		secret := strings.TrimPrefix(token, "hvs.")
		for _, path := range records(t, tx, "access") {
			value, err := tx.Get(path)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(path, secret) || bytes.Contains(value, []byte(secret)) {
				t.Errorf("the record gives the token away: %s %s", path, value)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// records lists the records below a folder.
func records(t *testing.T, tx *storage.Tx, folder string) (paths []string) {
	t.Helper()
	names, err := tx.List(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if sub, ok := strings.CutSuffix(name, "/"); ok {
			paths = append(paths, records(t, tx, folder+"/"+sub)...)
		} else {
			paths = append(paths, folder+"/"+name)
		}
	}
	return paths
}

func TestDamagedRecords(t *testing.T) {
	s := storagetest.New(t)
	token := createRoot(t, s, "", time.Now())
	for value, want := range map[string]error{
		"{":                          storage.ErrCorrupt,
		"":                           storage.ErrCorrupt,
		`{"version":0}`:              storage.ErrFormat,
		`{"version":3}`:              storage.ErrFormat,
		`{"version":2,"parent":"x"}`: storage.ErrCorrupt,
	} {
		err := s.Update(t.Context(), func(tx *storage.Tx) error {
			return tx.Put(records(t, tx, tokenFolder)[0], []byte(value))
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lookup(t, s, token); !errors.Is(err, want) {
			t.Errorf("record %q: %v, want %v", value, err, want)
		}
	}
}
