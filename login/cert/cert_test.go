package cert

import (
	"crypto/x509"
	"errors"
	"testing"

	"github.com/sealkeep/sealkeep/storage/storagetest"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/storage"
)

// TestStill: what was proven holds until a role, a list or the configuration of the
// mount is written, and what is read after that has it.
func TestStill(t *testing.T) {
	store := storagetest.New(t)
	ca := certify(t, nil, "ca", authority)
	leaf := certify(t, ca, "leaf", nil)
	mount, other := &api.Mount{UUID: "m"}, &api.Mount{UUID: "other"}
	r := &api.Request{Context: t.Context(), Store: store, Mount: mount}
	m := new(method)
	update := func(fn func(*storage.Tx) error) error { return store.Update(t.Context(), fn) }
	put := func(mount *api.Mount, path string, data any) func() error {
		return func() error {
			return update(func(tx *storage.Tx) error { return login.WriteRecord(tx, mount.Prefix()+path, recordKind, data) })
		}
	}
	role := &Role{Name: "ca", Certificate: ca.pem()}
	for _, c := range []struct {
		what    string
		change  func() error
		changed bool
		in      bool // the leaf logs in after that
	}{
		{"the first role", put(mount, "/certs/ca", role), true, true},
		{"the same role again", put(mount, "/certs/ca", role), true, true},
		{"a role of another mount", put(other, "/certs/ca", role), false, true},
		{"a list of another mount", put(other, "/crls/a", []string{leaf.SerialNumber.String()}), false, true},
		{"a list", put(mount, "/crls/a", []string{leaf.SerialNumber.String()}), true, false},
		{"the configuration", put(mount, "/config", Config{}), true, false},
		{"no list", func() error {
			return update(func(tx *storage.Tx) error { return tx.Delete(mount.Prefix() + "/crls/a") })
		}, true, true},
		{"no role", func() error {
			return update(func(tx *storage.Tx) error { return tx.Delete(mount.Prefix() + "/certs/ca") })
		}, true, false},
	} {
		before, still, err := m.all(r, mount)
		if err != nil {
			t.Fatal(err)
		}
		if err := update(still); err != nil {
			t.Errorf("before %s: %v", c.what, err)
		}
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		if err := update(still); errors.Is(err, api.ErrChanged) != c.changed || err != nil && !c.changed {
			t.Errorf("after %s: %v", c.what, err)
		}
		after, _, err := m.all(r, mount)
		if err != nil || (before == after) == c.changed {
			t.Errorf("after %s: read anew %v, %v", c.what, before != after, err)
		}
		if _, err := after.Match([]*x509.Certificate{leaf.Certificate}, "", certTime); (err == nil) != c.in {
			t.Errorf("after %s: %v", c.what, err)
		}
	}
}
