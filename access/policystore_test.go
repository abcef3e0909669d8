package access

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/storage/storagetest"

	"github.com/sealkeep/sealkeep/storage"
)

func TestPolicyStore(t *testing.T) {
	store := storagetest.New(t)
	do := func(fn func(tx *storage.Tx) error) {
		t.Helper()
		if err := store.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	const text = `path "a" { capabilities = ["read"] }`
	do(func(tx *storage.Tx) error {
		for name, want := range map[string]bool{"root": true, "ROOT": true, "default": true, "Response-Wrapping": true, "web": false, "": false, strings.Repeat("/", 400): false} {
			if p, err := GetPolicy(tx, name); err != nil || (p != nil) != want {
				t.Errorf("%q: %v %v", name, p, err)
			}
		}
		for _, name := range []string{"Web", "team/web", "50%", "a b", strings.Repeat("n", storage.MaxSegment)} {
			if err := PutPolicy(tx, mustParse(t, name, text)); err != nil {
				return err
			}
			if p, err := GetPolicy(tx, name); err != nil || p == nil || p.Text != text || p.Name != strings.ToLower(name) {
				t.Errorf("%q: %v %v", name, p, err)
			}
		}
		want := []string{"50%", "a b", "default", strings.Repeat("n", storage.MaxSegment), "team/web", "web", "root"}
		if names, err := ListPolicies(tx); err != nil || !slices.Equal(names, want) {
			t.Errorf("%q %v", names, err)
		}
		if err := DeletePolicy(tx, "TEAM/web"); err != nil {
			return err
		}
		if p, err := GetPolicy(tx, "team/web"); err != nil || p != nil {
			t.Errorf("%v %v", p, err)
		}
		return PutPolicy(tx, mustParse(t, "default", text))
	})
	do(func(tx *storage.Tx) error {
		if p, err := GetPolicy(tx, "default"); err != nil || p.Text != text {
			t.Errorf("%v %v", p, err)
		}
		for _, err := range []error{PutPolicy(tx, &Policy{Name: "Root"}), PutPolicy(tx, &Policy{}), PutPolicy(tx, &Policy{Name: strings.Repeat("n", storage.MaxSegment+1)}),
			DeletePolicy(tx, "root"), DeletePolicy(tx, "Default"), PutPolicy(tx, &Policy{Name: WrappingPolicy}), DeletePolicy(tx, WrappingPolicy)} {
			if !errors.Is(err, ErrInvalid) {
				t.Error(err)
			}
		}
		return nil
	})
	for value, want := range map[string]error{`{`: storage.ErrCorrupt, `{"version":2}`: storage.ErrFormat, `{"version":1,"text":"path"}`: storage.ErrFormat} {
		do(func(tx *storage.Tx) error {
			if err := tx.Put(policyPath("bad"), []byte(value)); err != nil {
				return err
			}
			if p, err := GetPolicy(tx, "bad"); p != nil || !errors.Is(err, want) || errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v %v", value, p, err)
			}
			return nil
		})
	}
}
