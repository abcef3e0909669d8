package jwt

import (
	"log/slog"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
	"github.com/sealkeep/sealkeep/storage/storagetest"
)

// A frame is as much of one as configurations need.
type frame struct{ api.Frame }

func (frame) Time() time.Time          { return time.Now() }
func (frame) Permit(*storage.Tx) error { return nil }
func (frame) Log() *slog.Logger        { return slog.New(slog.DiscardHandler) }

// TestIssuer asserts that fetched keys outlive the re-encryption of the configuration,
// and that they are fetched anew when an operator writes it.
func TestIssuer(t *testing.T) {
	i := newKeyServer(t)
	i.publish("ed")
	m := new(method)
	r := &api.Request{Context: t.Context(), Store: storagetest.New(t), Mount: &api.Mount{UUID: "a"}, Frame: frame{}}
	put := func(role string) {
		t.Helper()
		if _, err := m.putConfig(r, &configInput{JWKSURL: i.URL + "/keys", JWKSCA: i.ca(), DefaultRole: role}); err != nil {
			t.Fatal(err)
		}
		i.publish("ed") // counts from here
	}
	login := func(what string, fetches int) *issuer {
		t.Helper()
		is, err := m.issuer(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := is.verifier.Verify(t.Context(), issue(t, "EdDSA", "ed", "ed", map[string]any{})); err != nil {
			t.Fatal(err)
		}
		if n := i.fetches(); n != fetches {
			t.Errorf("%s: the keys were fetched %d times, want %d", what, n, fetches)
		}
		return is
	}
	put("one")
	first := login("the first login", 1)
	if err := r.Store.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Store.Reencrypt(t.Context(), 1000, func(uint64) {}); err != nil {
		t.Fatal(err)
	}
	if second := login("re-encrypted", 1); second.version == first.version {
		t.Error("the version is the same")
	}
	put("one")
	login("written as it was", 1)
	put("two")
	if third := login("changed", 1); third.config.DefaultRole != "two" {
		t.Errorf("the default role is %q", third.config.DefaultRole)
	}
}
