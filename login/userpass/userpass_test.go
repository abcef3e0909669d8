package userpass

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage/storagetest"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// method is the method over a store of its own.
type method struct {
	*testing.T
	store *storage.Store
	turns turns
}

const folder = "m"

func newMethod(t *testing.T) *method { return &method{t, storagetest.New(t), make(turns, 1)} }

func (m *method) update(fn func(*storage.Tx) error) error { return m.store.Update(m.Context(), fn) }

func (m *method) write(u *user) {
	m.Helper()
	if err := m.update(func(tx *storage.Tx) error { return writeUser(tx, folder, u) }); err != nil {
		m.Fatal(err)
	}
}

// request is one that has the name in its path.
func (m *method) request(name string) *api.Request {
	names := [api.MaxParams]string{"name"}
	return &api.Request{
		Context: m.Context(), Store: m.store, Mount: &api.Mount{Folder: folder},
		Params: api.Params{Names: &names, Values: [api.MaxParams]string{name}},
	}
}

// logIn checks a password and runs between before it asks the proof.
func (m *method) logIn(name, password string, between func()) (l *access.Login, err error) {
	proof, err := m.turns.check(m.request(name), &loginInput{password})
	if err != nil {
		return nil, err
	}
	between()
	err = m.update(func(tx *storage.Tx) (err error) {
		l, err = proof(tx)
		return err
	})
	return l, err
}

// The proof of a login holds for the password that was checked, and no other.
func TestProof(t *testing.T) {
	m := newMethod(t)
	nothing := func() {}
	remove := func() {
		if err := m.update(func(tx *storage.Tx) error { return tx.Delete(folder + "/user/bob") }); err != nil {
			t.Fatal(err)
		}
	}
	old, next := hashPassword("old"), hashPassword("new")
	for what, c := range map[string]struct {
		name, password string
		between        func()
		ok             bool
	}{
		"right":                          {"bob", "old", nothing, true},
		"in upper case":                  {"BOB", "old", nothing, true},
		"wrong":                          {"bob", "new", nothing, false},
		"unknown user":                   {"eve", "old", nothing, false},
		"the name of no user":            {"b/ob", "old", nothing, false},
		"other policies meanwhile":       {"bob", "old", func() { m.write(&user{Name: "bob", Password: old, Token: access.TokenParams{Policies: []string{"b"}}}) }, true},
		"another password meanwhile":     {"bob", "old", func() { m.write(&user{Name: "bob", Password: next}) }, false},
		"the same password set again":    {"bob", "old", func() { m.write(&user{Name: "bob", Password: hashPassword("old")}) }, false},
		"the user is deleted meanwhile":  {"bob", "old", remove, false},
		"another user made in its place": {"bob", "old", func() { remove(); m.write(&user{Name: "bob", Password: next}) }, false},
	} {
		m.write(&user{Name: "bob", Password: old, Token: access.TokenParams{Policies: []string{"a"}}})
		l, err := m.logIn(c.name, c.password, c.between)
		if c.ok && (err != nil || l.Name != "bob" || l.DisplayName != "bob" || l.Meta["username"] != "bob") || !c.ok && !errors.Is(err, errPassword) {
			t.Errorf("%s: %+v, %v", what, l, err)
		}
		if what == "other policies meanwhile" && (l == nil || !reflect.DeepEqual(l.Params.Policies, []string{"b"})) {
			t.Errorf("%s: %+v", what, l)
		}
	}
	if len(m.turns) != 0 {
		t.Errorf("%d turns were not given back", len(m.turns))
	}
}

// A request that ends while it waits for its turn gives up.
func TestTurns(t *testing.T) {
	m := newMethod(t)
	m.turns <- struct{}{}
	r := m.request("bob")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.Context = ctx
	if err := m.turns.take(r, func() { t.Error("it ran out of turn") }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-m.turns
	if err := m.turns.take(m.request("bob"), func() {}); err != nil || len(m.turns) != 0 {
		t.Error(err, len(m.turns))
	}
}

func TestUserRecords(t *testing.T) {
	m := newMethod(t)
	read := func(name string) (u *user, err error) {
		err = m.store.View(t.Context(), func(tx *storage.Tx) (err error) {
			u, err = readUser(tx, folder, name)
			return err
		})
		return u, err
	}
	want := &user{Name: "bob", Password: hashPassword("x"), Token: access.TokenParams{TTL: time.Minute, Policies: []string{"app"}}}
	m.write(&user{Name: " BOB", Password: want.Password, Token: access.TokenParams{TTL: time.Minute, Policies: []string{"App "}}})
	if u, err := read("Bob"); err != nil || !reflect.DeepEqual(u, want) {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err := read("eve"); u != nil || err != nil {
		t.Errorf("%+v, %v", u, err)
	}
	for what, u := range map[string]*user{
		"no password": {Name: "a"}, "no name": {Password: "x"}, "a slash": {Name: "a/b", Password: "x"}, "a long name": {Name: strings.Repeat("a", 257), Password: "x"},
		"wrong parameters": {Name: "a", Password: "x", Token: access.TokenParams{TTL: -1}},
	} {
		err := m.update(func(tx *storage.Tx) error { return writeUser(tx, folder, u) })
		if !errors.Is(err, api.ErrRequest) && !errors.Is(err, access.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for text, want := range map[string]error{`{`: storage.ErrCorrupt, `{"version":2}`: storage.ErrFormat, `{"version":1,"data":{"password":7}}`: storage.ErrCorrupt} {
		if err := m.update(func(tx *storage.Tx) error { return tx.Put(folder+"/user/bad", []byte(text)) }); err != nil {
			t.Fatal(err)
		}
		if _, err := read("bad"); !errors.Is(err, want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
