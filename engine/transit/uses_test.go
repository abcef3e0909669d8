package transit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// enter makes a token of a display name that the next calls are with.
func (k *keep) enter(name string, ttl time.Duration) *access.Token {
	k.Helper()
	t := &access.Token{Type: "service", Orphan: true, DisplayName: name, Policies: []string{"p"}, Created: k.now}
	if ttl > 0 {
		t.TTL, t.Expires = ttl, k.now.Add(ttl)
	}
	err := k.store.Update(context.Background(), func(tx *storage.Tx) error {
		_, err := access.Create(tx, "", t)
		return err
	})
	if err != nil {
		k.Fatal(err)
	}
	k.token = t
	return t
}

// uses are who has used a key, as its route tells it.
func (k *keep) uses(name string) (list []string) {
	k.Helper()
	for _, u := range k.must(api.Read, "keys/"+name+"/uses", "").Data.(usesAnswer).Uses {
		list = append(list, fmt.Sprint(u.DisplayName, " ", u.LastUse.Sub(start.Truncate(time.Second)), " ", u.Works))
	}
	return list
}

func (k *keep) wantUses(name string, want ...string) {
	k.Helper()
	if got := k.uses(name); fmt.Sprint(got) != fmt.Sprint(want) {
		k.Errorf("uses of %s: %q, want %q", name, got, want)
	}
}

// writes is the generation of the store, which each transaction that writes adds to.
func (k *keep) writes() uint64 {
	k.Helper()
	n, err := k.store.Generation(context.Background())
	if err != nil {
		k.Fatal(err)
	}
	return n
}

func TestUses(t *testing.T) {
	k := newKeep(t)
	k.must(api.Write, "keys/a", "")
	k.must(api.Write, "keys/b", "")
	k.wantUses("a")
	vault := k.enter("vault", 0)
	k.enter("short", time.Hour)

	// Each use counts, and none writes.
	before := k.writes()
	ciphertext := k.must(api.Write, "encrypt/a", `{"plaintext":"YQ=="}`)
	k.must(api.Write, "datakey/wrapped/b", "")
	k.must(api.Write, "hmac/b", `{"input":"YQ=="}`)
	k.token, k.now = vault, start.Add(10*time.Second)
	k.must(api.Write, "decrypt/a", string(ciphertext.Data.(encoded)))
	k.must(api.Read, "keys/b", "")
	if k.writes() != before {
		t.Error("a use has written something")
	}
	k.must(api.Write, "keys/signing", `{"type":"ed25519"}`)
	k.must(api.Write, "sign/signing", `{"input":"YQ=="}`)
	k.wantUses("a", "vault 10s true", "short 0s true")
	k.wantUses("b", "short 0s true")
	k.wantUses("signing", "vault 10s true")

	// What was refused is no use.
	k.token = nil
	k.must(api.Write, "encrypt/b", `{"plaintext":"YQ=="}`)
	k.token = vault
	k.refuse("encryption key not found", api.Write, "decrypt/none", `{"ciphertext":"vault:v1:"}`)
	k.wantUses("b", "short 0s true")

	// Tidy writes them, at most once a minute, and they outlive the memory.
	k.tidy(0)
	saved := k.writes()
	k.now = start.Add(time.Hour)
	k.must(api.Write, "rewrap/a", string(ciphertext.Data.(encoded)))
	k.now = start.Add(59 * time.Second)
	k.tidy(0)
	if k.writes() != saved {
		t.Error("uses were written twice within a minute")
	}
	k.now = start.Add(time.Hour)
	k.tidy(0)
	k.tidy(0)
	root, _, err := k.store.RootKey()
	if err != nil {
		t.Fatal(err)
	}
	k.store.Seal()
	if err := k.store.Unseal(root); err != nil {
		t.Fatal(err)
	}
	k.wantUses("a", "vault 1h0m0s true", "short 0s false")

	// A rotation loses nothing.
	k.must(api.Write, "keys/a/rotate", "")
	k.wantUses("a", "vault 1h0m0s true", "short 0s false")
	if _, err := k.call(api.Read, "keys/none/uses", ""); !errors.Is(err, api.ErrAbsent) {
		t.Error(err)
	}
}

func TestDeletingAUsedKey(t *testing.T) {
	k := newKeep(t)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		k.must(api.Write, "keys/"+name, "")
		k.must(api.Write, "keys/"+name+"/config", `{"deletion_allowed":true}`)
	}
	admin := k.enter("admin", 0)
	vault := k.enter("vault", 0)
	use := func(name string) { k.must(api.Write, "encrypt/"+name, `{"plaintext":"YQ=="}`) }
	use("a")
	use("b")
	use("c")
	k.token = admin
	use("d")
	k.enter("short", time.Hour)
	use("e")
	k.token = admin

	// What another needs stays, until that was soft-deleted, which can be taken back.
	refused := func(name string) {
		t.Helper()
		_, err := k.call(api.Delete, "keys/"+name, "")
		told, ok := errors.AsType[*api.Error](err)
		if !ok || !strings.Contains(told.Text, vault.Accessor+" (vault)") || !strings.Contains(told.Text, "keys/"+name+"/soft-delete") {
			t.Errorf("deleting %s: %v", name, err)
		}
	}
	refused("a")
	k.tidy(0)
	refused("a")
	if a := k.must(api.Delete, "keys/a/soft-delete", ""); len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], vault.Accessor+" (vault)") {
		t.Errorf("soft-deleting warns of %q", a.Warnings)
	}
	k.must(api.Delete, "keys/a", "")

	// The key made under the name of a deleted one has no past.
	k.must(api.Write, "keys/a", "")
	k.wantUses("a")

	// What the same token has used, or nobody any more, goes at once.
	k.must(api.Delete, "keys/d", "")
	k.now = start.Add(2 * time.Hour)
	k.must(api.Delete, "keys/e", "")
	k.now = start.Add(recentUses - time.Second)
	refused("b")
	k.now = start.Add(recentUses + 2*time.Second)
	k.must(api.Delete, "keys/b", "")
	k.tidy(0)
	var left []string
	err := k.store.View(context.Background(), func(tx *storage.Tx) (err error) {
		left, err = tx.List(k.e.prefix + "/use")
		return err
	})
	if err != nil || len(left) != 1 {
		t.Errorf("there are records of %d keys, %v; only c has one", len(left), err)
	}
}

// Neither the memory nor the record of a key grows without end; those who still live stay the longest.
func TestManyUses(t *testing.T) {
	k := newKeep(t)
	k.must(api.Write, "keys/a", "")
	for round := range 3 {
		k.now = start.Add(time.Duration(round) * time.Hour)
		vault := k.enter("vault", 0)
		k.must(api.Write, "encrypt/a", `{"plaintext":"YQ=="}`)
		for i := range usesKept {
			k.token = &access.Token{Accessor: fmt.Sprint("gone-", round, "-", i), DisplayName: "ci"}
			k.now = k.now.Add(time.Second)
			k.must(api.Write, "encrypt/a", `{"plaintext":"YQ=="}`)
		}
		k.tidy(0)
		if vault.Accessor == "" {
			t.Fatal("no accessor")
		}
	}
	list := k.uses("a")
	if got := strings.Count(strings.Join(list, "\n"), "vault"); len(list) != usesKept || got != 3 {
		t.Errorf("%d uses, %d of them by tokens that live", len(list), got)
	}

	u := new(uses)
	r := &api.Request{Now: start, Caller: api.Caller{Token: new(access.Token)}}
	for i := range usesNoted + 100 {
		r.Caller.Token.Accessor = fmt.Sprint(i)
		u.note(r, &key{policy: policy{ID: "id"}, engine: k.e})
	}
	if len(u.notes) != usesNoted {
		t.Errorf("%d notes", len(u.notes))
	}
	if n := testing.AllocsPerRun(100, func() { u.note(r, &key{policy: policy{ID: "id"}, engine: k.e}) }); n > 1 { // the key of the test
		t.Errorf("%v allocations for a note that is there", n)
	}
}

// What could not be written is written later.
func TestUsesAreGivenBack(t *testing.T) {
	k := newKeep(t)
	k.must(api.Write, "keys/a", "")
	k.enter("vault", 0)
	k.must(api.Write, "encrypt/a", `{"plaintext":"YQ=="}`)
	record := func(do func(tx *storage.Tx, path string) error) {
		t.Helper()
		err := k.store.Update(context.Background(), func(tx *storage.Tx) error {
			p, err := k.e.policy(tx, "a")
			if err != nil {
				return err
			}
			return do(tx, k.e.usePath(p.ID))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	record(func(tx *storage.Tx, path string) error { return tx.Put(path, []byte("?")) })
	if _, err := tidy(context.Background(), k.store, k.mount, func() time.Time { return k.now }); !errors.Is(err, storage.ErrFormat) {
		t.Errorf("tidying with a record that cannot be read: %v", err)
	}
	record(func(tx *storage.Tx, path string) error { return tx.Delete(path) })
	k.wantUses("a", "vault 0s true")
	k.now = k.now.Add(usesPause)
	k.tidy(0)
	record(func(tx *storage.Tx, path string) error {
		if b, err := tx.Get(path); err != nil || !strings.Contains(string(b), "vault") {
			t.Errorf("the record is %q, %v", b, err)
		}
		return nil
	})
}
