package approle

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage/storagetest"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const folder = records("m")

// method is the method over a store of its own.
type method struct {
	testing.TB
	store *storage.Store
}

func newMethod(t testing.TB) *method { return &method{t, storagetest.New(t)} }

func (m *method) update(fn func(*storage.Tx) error) error {
	return m.store.Update(m.Context(), fn)
}

// must is update that wants no error.
func (m *method) must(fn func(*storage.Tx) error) {
	m.Helper()
	if err := m.update(fn); err != nil {
		m.Fatal(err)
	}
}

// role writes a role whose role ID is its name.
func (m *method) role(name string) *role {
	m.Helper()
	r := &role{Name: name, RoleID: name, BindSecretID: true}
	m.must(func(tx *storage.Tx) error { return folder.write(tx, r) })
	return r
}

// add writes a secret ID of the role.
func (m *method) add(r *role, secret string, s secretID) *secretID {
	m.Helper()
	m.must(func(tx *storage.Tx) error { return folder.add(tx, r, secret, &s, access.SystemMax, start) })
	return &s
}

func (m *method) logIn(roleID, secret string, at time.Time) (l *access.Login, err error) {
	err = m.update(func(tx *storage.Tx) (err error) {
		l, err = folder.login(tx, roleID, secret, netip.Addr{}, at)
		return err
	})
	return l, err
}

// count is how many records the folder of the mount has below a path.
func (m *method) count(path string) (n int) {
	m.Helper()
	var walk func(tx *storage.Tx, path string) error
	walk = func(tx *storage.Tx, path string) error {
		names, err := tx.List(path)
		if err != nil {
			return err
		}
		for _, name := range names {
			if name[len(name)-1] != '/' {
				n++
			} else if err := walk(tx, path+"/"+name[:len(name)-1]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := m.store.View(m.Context(), func(tx *storage.Tx) error { return walk(tx, folder.path(path)) }); err != nil {
		m.Fatal(err)
	}
	return n
}

// A login takes one use, and the last one takes the secret ID; one that fails takes
// none.
func TestLoginTakesAUse(t *testing.T) {
	m := newMethod(t)
	r := m.role("app")
	m.add(r, "s", secretID{NumUses: 2, TTL: time.Hour, Meta: map[string]string{"a": "b"}})
	undo := errors.New("undone")
	for range 3 { // as a transaction that runs again
		err := m.update(func(tx *storage.Tx) error {
			_, err := folder.login(tx, "app", "s", netip.Addr{}, start)
			return errors.Join(err, undo)
		})
		if !errors.Is(err, undo) || errors.Is(err, api.ErrRequest) {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ roleID, secret string }{{"app", "t"}, {"app", ""}, {"", "s"}, {"other", "s"}} {
		if _, err := m.logIn(c.roleID, c.secret, start); !errors.Is(err, api.ErrRequest) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := m.logIn("app", "s", start.Add(time.Hour)); !errors.Is(err, errLogin) {
		t.Errorf("when its time has passed: %v", err)
	}
	want := map[string]string{"a": "b", "role_name": "app"}
	for n := range 2 {
		if l, err := m.logIn(" app", "s ", start.Add(time.Hour-1)); err != nil || l.Name != "app" || !reflect.DeepEqual(l.Meta, want) {
			t.Errorf("login %d: %+v, %v", n, l, err)
		}
	}
	if _, err := m.logIn("app", "s", start); !errors.Is(err, errLogin) {
		t.Errorf("a third time: %v", err)
	}
	if n := m.count("secret") + m.count("accessor"); n != 0 {
		t.Errorf("%d records of the secret ID are left", n)
	}
}

// A role ID leads to one role, and to none when that has another or is deleted.
func TestRoleIDs(t *testing.T) {
	m := newMethod(t)
	a, b := m.role("a"), m.role("b")
	take := *b
	take.RoleID = "a"
	if err := m.update(func(tx *storage.Tx) error { return folder.write(tx, &take) }); !errors.Is(err, api.ErrRequest) {
		t.Errorf("the role ID of another: %v", err)
	}
	a.RoleID = "new"
	m.must(func(tx *storage.Tx) error { return folder.write(tx, a) })
	m.must(func(tx *storage.Tx) error { return folder.write(tx, &take) })
	find := func(id string) (name string) {
		m.must(func(tx *storage.Tx) error {
			r, err := folder.byRoleID(tx, id)
			if r != nil {
				name = r.Name
			}
			return err
		})
		return name
	}
	if got := []string{find("new"), find("a"), find("b")}; !reflect.DeepEqual(got, []string{"a", "b", ""}) {
		t.Errorf("%q", got)
	}
	m.must(func(tx *storage.Tx) error { return folder.remove(tx, "B") })
	m.must(func(tx *storage.Tx) error { return folder.remove(tx, "b") }) // there is none any more
	if got := find("a"); got != "" {
		t.Errorf("a role that was deleted: %q", got)
	}
	if n := m.count("role-id"); n != 1 {
		t.Errorf("%d role IDs", n)
	}
}

// Tidying deletes the secret IDs of roles that were deleted and those that have
// ended, and nothing else, also where some are damaged.
func TestTidy(t *testing.T) {
	m := newMethod(t)
	gone, kept := m.role("gone"), m.role("kept")
	const many = tidyBatch + 1
	for n := range many {
		m.add(gone, fmt.Sprint(n), secretID{})
		m.add(kept, fmt.Sprint("short", n), secretID{TTL: time.Minute})
	}
	m.add(kept, "long", secretID{TTL: time.Hour})
	m.add(kept, "endless", secretID{})
	m.must(func(tx *storage.Tx) error { return folder.remove(tx, "gone") })
	now := start
	run := func() int {
		t.Helper()
		n, err := Type().Tidy(t.Context(), m.store, &api.Mount{Folder: string(folder)}, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := run(); n != 2*many {
		t.Errorf("%d records of a role that was deleted", n)
	}
	if n := run(); n != 0 {
		t.Errorf("%d records of nothing", n)
	}
	now = start.Add(time.Minute)
	if n := run(); n != many {
		t.Errorf("%d secret IDs have ended", n)
	}
	if s, a := m.count("secret"), m.count("accessor"); s != 2 || a != 2 {
		t.Errorf("%d secret IDs and %d accessors are left", s, a)
	}
	bad := m.add(kept, "bad", secretID{TTL: time.Minute})
	m.must(func(tx *storage.Tx) error { return tx.Put(folder.path("secret", kept.Folder, bad.hash), []byte("{")) })
	now = start.Add(2 * time.Hour)
	if n := run(); n != 0 || m.count("secret") != 3 {
		t.Errorf("of a damaged batch %d were deleted", n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tidy(ended, m.store, &api.Mount{Folder: string(folder)}, time.Now); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestSubset(t *testing.T) {
	parse := func(texts ...string) []netip.Prefix {
		list, err := access.ParseCIDRs(texts)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	ten := parse("10.0.0.0/8", "fd00::/8")
	for _, c := range []struct {
		ranges, within []netip.Prefix
		want           bool
	}{
		{nil, nil, true}, {ten, nil, true}, {nil, ten, true}, {ten, ten, true}, {parse("10.1.0.0/16", "fd01::1"), ten, true},
		{parse("10.1.0.0/16", "11.0.0.1"), ten, false}, {parse("10.0.0.0/7"), ten, false}, {parse("0.0.0.0/0"), ten, false},
	} {
		if got := subset(c.ranges, c.within); got != c.want {
			t.Errorf("%v in %v: %v", c.ranges, c.within, got)
		}
	}
}

// FuzzRecords: whatever the records of a role hold, a login ends without a panic:
// well, or with an error that says that they are damaged or no good.
func FuzzRecords(f *testing.F) {
	for _, seed := range []string{`{"version":1,"data":{"role_id":"r","folder":"f","bind_secret_id":true}}`, `{"version":1}`, `{"version":2}`, `{`, ``, `null`,
		`{"version":1,"data":{"secret_id_bound_cidrs":["10.0.0.0/8"],"token":{"token_bound_cidrs":["x"]}}}`,
		`{"version":1,"data":{"accessor":"a/b","num_uses":1,"expires":"2026-01-01T00:00:00Z"}}`} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	m := newMethod(f)
	r := m.role("app")
	s := m.add(r, "secret", secretID{NumUses: 2})
	undo := errors.New("undone")
	f.Fuzz(func(t *testing.T, record []byte, ofRole bool) {
		err := m.store.Update(t.Context(), func(tx *storage.Tx) error {
			path := folder.path("secret", r.Folder, s.hash)
			if ofRole {
				path = folder.path("role", "app")
			}
			if err := tx.Put(path, record); err != nil {
				return err
			}
			_, err := folder.login(tx, "app", "secret", netip.Addr{}, start)
			for _, known := range []error{nil, api.ErrRequest, access.ErrInvalid, storage.ErrCorrupt, storage.ErrFormat, storage.ErrPath} {
				if errors.Is(err, known) {
					return undo
				}
			}
			return err
		})
		if !errors.Is(err, undo) {
			t.Errorf("%q: %v", record, err)
		}
	})
}
