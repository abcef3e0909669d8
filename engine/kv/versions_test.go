package kv

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

func TestPruning(t *testing.T) {
	for _, c := range []struct {
		mount, secret int
		want          uint64
	}{{0, 0, 10}, {3, 0, 3}, {0, 4, 4}, {3, 5, 5}, {5, 3, 3}, {0, 1, 1}, {12, 0, 12}} {
		t.Run(fmt.Sprintf("mount %d secret %d", c.mount, c.secret), func(t *testing.T) {
			k := newKeep(t)
			k.must(k.config(Settings{MaxVersions: &c.mount}))
			k.must(k.putMetadata("a", Settings{MaxVersions: &c.secret}, ""))
			for n := uint64(1); n <= 15; n++ {
				k.mustPut("a", fmt.Sprintf(`{"n":%d}`, n))
				m, err := k.metadata("a")
				k.must(err)
				oldest := uint64(0)
				if n >= c.want {
					oldest = n - c.want + 1
				}
				equal(t, "current", m.Current, n)
				equal(t, "oldest", m.Oldest, oldest)
				equal(t, "count", uint64(len(m.Versions)), min(n, c.want))
				for i := uint64(1); i <= n; i++ {
					if i < oldest {
						_, err := k.get("a", i)
						k.wantErr(err, ErrNotFound)
					} else {
						k.wantData("a", i, fmt.Sprintf(`{"n":%d}`, i))
					}
				}
				// One record per version, the newest being the secret's own.
				equal(t, "records", len(k.dump()), 1+int(min(n, c.want)))
			}
			// A lower limit works at the next write.
			k.must(k.putMetadata("a", Settings{MaxVersions: new(1)}, ""))
			k.mustPut("a", `{"n":16}`)
			equal(t, "records", len(k.dump()), 2)
			k.wantData("a", 16, `{"n":16}`)
			// A higher one lets them grow again.
			k.must(k.putMetadata("a", Settings{MaxVersions: new(2)}, ""))
			k.mustPut("a", `{"n":17}`)
			k.mustPut("a", `{"n":18}`)
			k.wantData("a", 17, `{"n":17}`)
			_, err := k.get("a", 16)
			k.wantErr(err, ErrNotFound)
		})
	}
}

func TestDelete(t *testing.T) {
	k := newKeep(t)
	for i := range 3 {
		k.mustPut("a", fmt.Sprintf(`{"n":%d}`, i+1))
	}
	m, err := k.metadata("a")
	k.must(err)

	k.now = k.now.Add(time.Minute)
	deleted := k.now
	k.must(k.delete("a"))
	s := k.wantData("a", 0, "")
	equal(t, "meta", s.Meta, Meta{Version: 3, Created: start, Deletion: deleted})
	k.wantData("a", 2, `{"n":2}`)

	// Again: the time stays. The secret's updated_time counts writes only.
	k.now = k.now.Add(time.Minute)
	k.must(k.delete("a"))
	k.must(k.deleteVersions("a", 1, 3, 9))
	equal(t, "meta", k.wantData("a", 3, "").Meta.Deletion, deleted)
	equal(t, "meta", k.wantData("a", 1, "").Meta.Deletion, k.now)
	after, err := k.metadata("a")
	k.must(err)
	equal(t, "updated", after.Updated, m.Updated)

	k.must(k.undelete("a", 1, 3, 9))
	k.wantData("a", 1, `{"n":1}`)
	equal(t, "deletion", k.wantData("a", 3, `{"n":3}`).Meta.Deletion, time.Time{})

	// A deleted newest is followed by a live one and comes back as an older.
	k.must(k.delete("a"))
	k.mustPut("a", `{"n":4}`)
	k.wantData("a", 3, "")
	k.must(k.undelete("a", 3))
	k.wantData("a", 3, `{"n":3}`)

	for name, op := range map[string]func(string, ...uint64) error{"delete": k.deleteVersions, "undelete": k.undelete, "destroy": k.destroy} {
		before := k.dump()
		if err := op("a"); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s without versions: %v", name, err)
		}
		if err := op("absent", 1); err != nil {
			t.Errorf("%s of an absent secret: %v", name, err)
		}
		if err := op("a", 0, 99, 1<<64-1); err != nil {
			t.Errorf("%s of absent versions: %v", name, err)
		}
		equal(t, "store", k.dump(), before)
	}
	k.must(k.delete("absent"))
	k.must(k.putMetadata("empty", Settings{MaxVersions: new(1)}, ""))
	k.must(k.delete("empty"))
}

func TestDestroy(t *testing.T) {
	k := newKeep(t)
	for i := range 3 {
		k.mustPut("a", fmt.Sprintf(`{"secret":"value-%d"}`, i+1))
	}
	k.must(k.deleteVersions("a", 1))
	k.must(k.destroy("a", 1, 3, 3, 7))
	equal(t, "meta", k.wantData("a", 0, "").Meta, Meta{Version: 3, Created: start, Destroyed: true})
	equal(t, "meta", k.wantData("a", 1, "").Meta, Meta{Version: 1, Created: start, Deletion: start, Destroyed: true})
	k.wantData("a", 2, `{"secret":"value-2"}`)
	for path, value := range k.dump() {
		if strings.Contains(value, "value-1") || strings.Contains(value, "value-3") {
			t.Errorf("%s has destroyed data", path)
		}
	}
	k.must(k.undelete("a", 1, 3))
	k.wantData("a", 1, "")
	k.wantData("a", 3, "")
	k.must(k.delete("a"))
	equal(t, "deletion", k.wantData("a", 3, "").Meta.Deletion, time.Time{})

	// The next version leaves no record for the destroyed one.
	k.mustPut("a", `{"n":4}`)
	equal(t, "records", len(k.dump()), 2) // versions 2 and 4
	k.wantData("a", 3, "")
	k.wantData("a", 4, `{"n":4}`)
	k.must(k.deleteMetadata("a"))
	equal(t, "store", k.dump(), map[string]string{})
}

func TestDeleteVersionAfter(t *testing.T) {
	hour, day := time.Hour, 24*time.Hour
	for _, c := range []struct{ mount, secret, want time.Duration }{
		{0, 0, 0}, {hour, 0, hour}, {0, hour, hour}, {hour, day, hour}, {day, hour, hour},
		{-day, hour, 0}, {-1, 0, 0}, {MaxDeleteVersionAfter, 0, MaxDeleteVersionAfter},
	} {
		t.Run(fmt.Sprintf("mount %v secret %v", c.mount, c.secret), func(t *testing.T) {
			k := newKeep(t)
			k.must(k.config(Settings{DeleteVersionAfter: &c.mount}))
			k.must(k.putMetadata("a", Settings{DeleteVersionAfter: &c.secret}, ""))
			m := k.mustPut("a", `{"a":1}`)
			k.wantData("a", 0, `{"a":1}`)
			if c.want == 0 {
				equal(t, "deletion", m.Deletion, time.Time{})
				return
			}
			equal(t, "deletion", m.Deletion, start.Add(c.want))
			k.now = start.Add(c.want - 1)
			k.wantData("a", 0, `{"a":1}`)
			k.now = start.Add(c.want)
			k.wantData("a", 0, "")
			_, err := k.patch("a", `{"b":1}`, nil)
			k.wantErr(err, ErrGone)

			// An expired version is deleted already; undelete gives it another term.
			k.must(k.delete("a"))
			equal(t, "deletion", k.wantData("a", 0, "").Meta.Deletion, start.Add(c.want))
			if c.want == MaxDeleteVersionAfter {
				return
			}
			k.must(k.undelete("a", 1))
			equal(t, "deletion", k.wantData("a", 0, `{"a":1}`).Meta.Deletion, k.now.Add(c.want))
			// Deleting before the term ends it.
			k.must(k.delete("a"))
			equal(t, "deletion", k.wantData("a", 0, "").Meta.Deletion, k.now)
		})
	}
}

// Very many versions go in several transactions, none of which takes long; what a write pushes out, before it.
func TestManyVersionsGoInSeveralTransactions(t *testing.T) {
	k := newKeep(t)
	const many = 2*maxRemovals + 500
	k.must(k.putMetadata("app/many", Settings{MaxVersions: new(many)}, ""))
	fill := func() {
		for range many / 100 {
			k.must(k.update(func(tx *storage.Tx) error {
				for range 100 {
					if _, err := k.e.Put(tx, "app/many", k.data(`{"k":"v"}`), nil, k.now); err != nil {
						return err
					}
				}
				return nil
			}))
		}
	}
	count := func() (n int) {
		k.must(k.view(func(tx *storage.Tx) error {
			names, err := tx.List(k.e.Prefix + "/v/app/many")
			n = len(names)
			return err
		}))
		return n
	}
	fill()
	all := make([]uint64, many)
	for i := range all {
		all[i] = uint64(i + 1)
	}
	k.must(k.repeat(func(tx *storage.Tx) (bool, error) { return k.e.Destroy(tx, "app/many", all) }))
	if n := count(); n != 0 || k.passes != 3 {
		t.Errorf("%d versions are left after %d passes", n, k.passes)
	}
	fill()
	k.must(k.putMetadata("app/many", Settings{MaxVersions: new(5)}, ""))
	if _, err := k.put("app/many", `{"k":"new"}`, new(1)); !errors.Is(err, ErrCASMismatch) {
		t.Errorf("a write that fails for another reason: %v", err)
	}
	if _, err := k.put("app/many", `{"k":"new"}`, nil); !errors.Is(err, ErrTrim) || count() != many-1 {
		t.Errorf("%v, %d versions", err, count())
	}
	k.must(k.repeat(func(tx *storage.Tx) (bool, error) { return k.e.Trim(tx, "app/many") }))
	m, err := k.put("app/many", `{"k":"new"}`, nil)
	if err != nil || m.Version != 2*many+1 || count() != 4 || k.passes != 3 {
		t.Errorf("%v, version %d, %d older ones after %d passes", err, m.Version, count(), k.passes)
	}
	if s, err := k.get("app/many", 0); err != nil || string(s.Data) != `{"k":"new"}` {
		t.Errorf("%s %v", s.Data, err)
	}
	k.must(k.putMetadata("app/many", Settings{MaxVersions: new(many)}, ""))
	fill()
	k.must(k.repeat(func(tx *storage.Tx) (bool, error) { return k.e.DeleteMetadata(tx, "app/many") }))
	if n := count(); n != 0 || k.passes != 3 {
		t.Errorf("%d versions are left after %d passes", n, k.passes)
	}
	_, err = k.get("app/many", 0)
	k.wantErr(err, ErrNotFound)
}
