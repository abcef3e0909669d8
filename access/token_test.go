package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage/storagetest"

	"github.com/sealkeep/sealkeep/storage"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// A tree is a store with tokens, at a time that the test sets.
type tree struct {
	*testing.T
	store *storage.Store
	now   time.Time
	root  string
}

func newTree(t *testing.T) *tree {
	f := &tree{T: t, store: storagetest.New(t), now: start}
	f.root = createRoot(t, f.store, "", f.now)
	return f
}

func (f *tree) update(fn func(tx *storage.Tx) error) error { return f.store.Update(f.Context(), fn) }

func (f *tree) id(tx *storage.Tx, token string) ID {
	key, err := ReadKey(tx)
	if err != nil {
		f.Fatal(err)
	}
	id, err := key.ID(token)
	if err != nil {
		f.Fatal(err)
	}
	return id
}

// make makes a child of a token, or fails as Derive does.
func (f *tree) make(parent string, role *Role, q CreateRequest, sudo bool) (token string, t *Token, warnings []string, err error) {
	err = f.update(func(tx *storage.Tx) error {
		p, err := Lookup(tx, f.id(tx, parent), f.now)
		if err != nil {
			return err
		}
		if t, warnings, err = Derive(p, role, &q, sudo, f.now); err != nil {
			return err
		}
		token, err = Create(tx, q.ID, t)
		return err
	})
	return token, t, warnings, err
}

func (f *tree) child(parent string, q CreateRequest) string {
	f.Helper()
	token, _, _, err := f.make(parent, nil, q, true)
	if err != nil {
		f.Fatal(err)
	}
	return token
}

// works tells whether a token works now.
func (f *tree) works(token string) bool {
	f.Helper()
	var err error
	verr := f.store.View(f.Context(), func(tx *storage.Tx) error {
		_, err = lookupIn(tx, token, f.now)
		return nil
	})
	if verr != nil || err != nil && !errors.Is(err, ErrDenied) {
		f.Fatal(verr, err)
	}
	return err == nil
}

func (f *tree) get(token string) (t *Token) {
	f.Helper()
	err := f.store.View(f.Context(), func(tx *storage.Tx) (err error) {
		t, err = lookupIn(tx, token, f.now)
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	return t
}

// sweep does what the server's sweep does, once.
func (f *tree) sweep() (swept int, marks []ID) {
	f.Helper()
	err := f.update(func(tx *storage.Tx) error {
		swept, marks = 0, nil
		folders, _, err := Folders(tx)
		if err != nil {
			return err
		}
		for _, folder := range folders {
			stale, found, err := Stale(tx, folder, f.now)
			if err != nil {
				return err
			}
			swept, marks = swept+len(stale), append(marks, found...)
			if err := Tidy(tx, stale, f.now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	return swept, marks
}

func (f *tree) count() (n int) {
	f.Helper()
	err := f.store.View(f.Context(), func(tx *storage.Tx) error {
		n = len(records(f.T, tx, tokenFolder))
		accessors, err := Accessors(tx)
		if err == nil && len(accessors) > n {
			f.Errorf("%d accessors of %d tokens", len(accessors), n)
		}
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	return n
}

func TestExpiry(t *testing.T) {
	f := newTree(t)
	mother := f.child(f.root, CreateRequest{Policies: []string{"a"}, TTL: time.Hour})
	child := f.child(mother, CreateRequest{TTL: 2 * time.Hour})
	orphan := f.child(mother, CreateRequest{TTL: 2 * time.Hour, NoParent: true})
	f.now = start.Add(time.Hour - time.Nanosecond)
	if !f.works(mother) || !f.works(child) || !f.get(child).Alive(f.now) {
		t.Error("ended too early")
	}
	cached := f.get(child)
	f.now = start.Add(time.Hour)
	if f.works(mother) || f.works(child) || cached.Alive(f.now) {
		t.Error("works after its end, or that of its parent")
	}
	if !f.works(orphan) || !f.works(f.root) {
		t.Error("the orphan or the root ended, too")
	}
	if n, marks := f.sweep(); n != 2 || len(marks) != 0 || f.count() != 2 {
		t.Errorf("swept %d, %d marks, %d left", n, len(marks), f.count())
	}
}

func TestRevokeTree(t *testing.T) {
	f := newTree(t)
	var all []string
	line := f.child(f.root, CreateRequest{})
	top := line
	for range 5 {
		all = append(all, f.child(line, CreateRequest{}), line)
		line = f.child(line, CreateRequest{})
	}
	var has bool
	if err := f.update(func(tx *storage.Tx) (err error) { has, err = Revoke(tx, f.id(tx, top)); return err }); err != nil || !has {
		t.Fatal(has, err)
	}
	for _, token := range all {
		if f.works(token) {
			t.Error("works after the top of its tree was revoked")
		}
	}
	if n, _ := f.sweep(); n != 10 || f.count() != 1 || !f.works(f.root) {
		t.Errorf("swept %d, %d left", n, f.count())
	}
	err := f.update(func(tx *storage.Tx) error {
		has, err := Revoke(tx, f.id(tx, top)) // again
		if has {
			t.Error("a tree below nothing")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRevokeOrphan(t *testing.T) {
	f := newTree(t)
	top := f.child(f.root, CreateRequest{})
	child := f.child(top, CreateRequest{})
	grandchild := f.child(child, CreateRequest{})
	revoke := func(token string) {
		if err := f.update(func(tx *storage.Tx) error { _, err := RevokeOrphan(tx, f.id(tx, token)); return err }); err != nil {
			t.Fatal(err)
		}
	}
	revoke(top)
	check := func(when string) {
		t.Helper()
		if f.works(top) || !f.works(child) || !f.works(grandchild) || !f.get(child).Orphan || f.get(grandchild).Orphan {
			t.Errorf("%s: %v %v %v %+v", when, f.works(top), f.works(child), f.works(grandchild), f.get(child))
		}
	}
	check("at once")
	n, marks := f.sweep()
	if n != 1 || len(marks) != 1 {
		t.Errorf("swept %d, marks %v", n, marks)
	}
	if err := f.update(func(tx *storage.Tx) error { return RemoveMarks(tx, marks) }); err != nil {
		t.Fatal(err)
	}
	check("afterwards")
	if n, marks := f.sweep(); n != 0 || len(marks) != 0 || f.count() != 3 {
		t.Errorf("again: swept %d, marks %v, left %d", n, marks, f.count())
	}
	revoke(grandchild) // which has no children
	if f.works(grandchild) || f.count() != 2 {
		t.Errorf("%d left", f.count())
	}
}

func TestUses(t *testing.T) {
	f := newTree(t)
	token := f.child(f.root, CreateRequest{NumUses: 3})
	for left := 2; left >= 0; left-- {
		var tok *Token
		err := f.update(func(tx *storage.Tx) (err error) { tok, err = Use(tx, f.id(tx, token), f.now); return err })
		if err != nil || tok.NumUses != left || !tok.Limited() {
			t.Fatalf("%+v: %v", tok, err)
		}
		if _, _, err := Derive(tok, nil, &CreateRequest{}, true, f.now); !errors.Is(err, ErrInvalid) {
			t.Errorf("a limited token makes others: %v", err)
		}
	}
	err := f.update(func(tx *storage.Tx) error { _, err := Use(tx, f.id(tx, token), f.now); return err })
	if !errors.Is(err, ErrDenied) || f.works(token) || f.count() != 1 {
		t.Errorf("after the last use: %v, %d left", err, f.count())
	}
}

func TestDepth(t *testing.T) {
	f := newTree(t)
	token := f.root
	for range MaxDepth {
		token = f.child(token, CreateRequest{})
	}
	if !f.works(token) {
		t.Error("the deepest does not work")
	}
	if _, _, _, err := f.make(token, nil, CreateRequest{}, true); !errors.Is(err, ErrInvalid) {
		t.Errorf("deeper: %v", err)
	}
}

func TestRenew(t *testing.T) {
	renew := func(f *tree, token string, increment time.Duration) (tok *Token, warnings []string, err error) {
		err = f.update(func(tx *storage.Tx) (err error) {
			tok, _, warnings, err = Renew(tx, f.id(tx, token), increment, nil, f.now)
			return err
		})
		return tok, warnings, err
	}
	f := newTree(t)
	plain := f.child(f.root, CreateRequest{TTL: time.Hour})
	fixed := f.child(f.root, CreateRequest{TTL: time.Hour, NotRenewable: true})
	bound := f.child(f.root, CreateRequest{TTL: time.Hour, ExplicitMaxTTL: 90 * time.Minute})
	periodic := f.child(f.root, CreateRequest{TTL: time.Minute, Period: time.Hour})
	f.now = start.Add(30 * time.Minute)
	for _, c := range []struct {
		token     string
		increment time.Duration
		want      time.Duration // from now
		warned    bool
	}{{plain, 0, time.Hour, false}, {plain, 2 * time.Hour, 2 * time.Hour, false}, {plain, time.Minute, time.Minute, false},
		{plain, 1000 * time.Hour, SystemMax - 30*time.Minute, true}, {bound, 0, time.Hour, false}, {bound, 2 * time.Hour, time.Hour, true},
		{periodic, 0, time.Hour, false}, {periodic, 9 * time.Hour, time.Hour, false}} {
		tok, warnings, err := renew(f, c.token, c.increment)
		if err != nil || !tok.Expires.Equal(f.now.Add(c.want)) || tok.Alive(f.now.Add(c.want)) || (warnings != nil) != c.warned || !tok.Renewed.Equal(f.now) {
			t.Errorf("by %v: %+v %q %v", c.increment, tok, warnings, err)
		}
	}
	for _, token := range []string{fixed, f.root} {
		if _, _, err := renew(f, token, 0); err == nil || err.Error() != "lease is not renewable" {
			t.Errorf("not renewable: %v", err)
		}
	}
	f.now = start.Add(31 * 24 * time.Hour)
	if _, _, err := renew(f, bound, 0); !errors.Is(err, ErrDenied) {
		t.Errorf("renewed after its end: %v", err)
	}
	for range 100 { // longer than any other token lives
		if tok, _, err := renew(f, plain, 0); err != nil {
			t.Fatal(tok, err)
		}
		f.now = f.now.Add(30 * time.Minute)
		if f.now.Sub(start) >= SystemMax {
			break
		}
	}
	if f.now.Sub(start) < SystemMax || f.works(plain) {
		t.Errorf("after %v the token works: %v", f.now.Sub(start), f.works(plain))
	}
}

func TestPeriodicOutlivesAll(t *testing.T) {
	f := newTree(t)
	token := f.child(f.root, CreateRequest{Period: 700 * time.Hour})
	for range 5 {
		f.now = f.now.Add(699 * time.Hour)
		err := f.update(func(tx *storage.Tx) error { _, _, _, err := Renew(tx, f.id(tx, token), 0, nil, f.now); return err })
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestDerive(t *testing.T) {
	f := newTree(t)
	ab := f.child(f.root, CreateRequest{Policies: []string{"a", "b"}})
	bare := f.child(f.root, CreateRequest{Policies: []string{"a", "b"}, NoDefaultPolicy: true})
	short := f.child(f.root, CreateRequest{Policies: []string{"root"}, TTL: time.Hour})
	for _, c := range []struct {
		name   string
		parent string
		role   *Role
		q      CreateRequest
		sudo   bool
		want   string // the policies, or the error
	}{
		{"all of the parent's", ab, nil, CreateRequest{}, false, "a,b,default"},
		{"root's child", f.root, nil, CreateRequest{}, true, "root"},
		{"part", ab, nil, CreateRequest{Policies: []string{" B ", "b", ""}}, false, "b,default"},
		{"part, no default", ab, nil, CreateRequest{Policies: []string{"b"}, NoDefaultPolicy: true}, false, "b"},
		{"default asked for and refused", ab, nil, CreateRequest{Policies: []string{"b", "default"}, NoDefaultPolicy: true}, false, "b"},
		{"parent has no default", bare, nil, CreateRequest{Policies: []string{"b"}}, false, "b"},
		{"parent has no default, asked for", bare, nil, CreateRequest{Policies: []string{"default"}}, false, "error: child policies must be subset of parent"},
		{"more than the parent", ab, nil, CreateRequest{Policies: []string{"a", "c"}}, false, "error: child policies must be subset of parent"},
		{"root", ab, nil, CreateRequest{Policies: []string{"ROOT"}}, false, "error: child policies must be subset of parent"},
		{"root with sudo", ab, nil, CreateRequest{Policies: []string{"root"}}, true, "error: root tokens may not be created without parent token being root"},
		{"root by role", ab, &Role{Name: "r", AllowedPolicies: []string{"root"}}, CreateRequest{}, false, "error: root tokens may not be created without parent token being root"},
		{"any with sudo", ab, nil, CreateRequest{Policies: []string{"z", "c"}}, true, "c,default,z"},
		{"role without rules", ab, &Role{Name: "r"}, CreateRequest{Policies: []string{"c"}}, false, "error: child policies must be subset of parent"},
		{"role allows", ab, &Role{Name: "r", AllowedPolicies: []string{"c", "d"}}, CreateRequest{Policies: []string{"c"}}, false, "c,default"},
		{"role's own", ab, &Role{Name: "r", AllowedPolicies: []string{"c", "d"}}, CreateRequest{}, false, "c,d,default"},
		{"role's own, no default", ab, &Role{Name: "r", AllowedPolicies: []string{"c"}, NoDefaultPolicy: true}, CreateRequest{}, false, "c"},
		{"not what the role allows", ab, &Role{Name: "r", AllowedPolicies: []string{"c"}}, CreateRequest{Policies: []string{"a"}}, false, `error: token policies (["a" "default"]) must be subset`},
		{"role's glob", ab, &Role{Name: "r", AllowedPoliciesGlob: []string{"x-*-y", "default"}}, CreateRequest{Policies: []string{"x-1-y"}}, false, "default,x-1-y"},
		{"not the role's glob", ab, &Role{Name: "r", AllowedPoliciesGlob: []string{"x-*-y", "default"}}, CreateRequest{Policies: []string{"x-y"}}, false, "error: token policies"},
		{"disallowed", ab, &Role{Name: "r", DisallowedPolicies: []string{"b"}}, CreateRequest{Policies: []string{"b"}}, false, `error: token policy "b" is disallowed`},
		{"disallowed of the parent's", ab, &Role{Name: "r", DisallowedPoliciesGlob: []string{"b*"}}, CreateRequest{}, false, `error: token policy "b" is disallowed`},
		{"an ID of one's own", ab, nil, CreateRequest{ID: "x"}, false, "error: root or sudo privileges required to specify token id"},
		{"an ID with a prefix", ab, nil, CreateRequest{ID: "hvs.x"}, true, "error: custom token ID cannot have the 'hvs.' prefix"},
		{"an ID with a dot", ab, nil, CreateRequest{ID: "a.x"}, true, "error: custom token ID cannot have a '.'"},
		{"orphan", ab, nil, CreateRequest{NoParent: true}, false, "error: root or sudo privileges required to create orphan token"},
		{"period", ab, nil, CreateRequest{Period: time.Hour}, false, "error: root or sudo privileges required to create periodic token"},
		{"negative", ab, nil, CreateRequest{TTL: -1}, false, "error: ttl must be positive"},
		{"negative", ab, nil, CreateRequest{NumUses: -1}, false, "error: number of uses cannot be negative"},
		{"batch", ab, nil, CreateRequest{Type: "batch"}, false, "error: batch tokens are not supported"},
		{"nonsense", ab, nil, CreateRequest{Type: "x"}, false, "error: invalid 'token_type' value"},
		{"a root that lives on", short, nil, CreateRequest{}, true, "error: expiring root tokens cannot create non-expiring root tokens"},
		{"large metadata", ab, nil, CreateRequest{Meta: map[string]string{"a": strings.Repeat("x", maxMeta)}}, false, "error: the metadata"},
	} {
		_, tok, _, err := f.make(c.parent, c.role, c.q, c.sudo)
		if text, bad := strings.CutPrefix(c.want, "error: "); bad {
			if !errors.Is(err, ErrInvalid) || !strings.HasPrefix(err.Error(), text) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if got := strings.Join(tok.Policies, ","); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if _, _, _, err := f.make(f.root, nil, CreateRequest{ID: "mine"}, true); err != nil {
		t.Error(err)
	}
	if _, _, _, err := f.make(f.root, nil, CreateRequest{ID: "mine"}, true); !errors.Is(err, ErrToken) {
		t.Errorf("the same token twice: %v", err)
	}
}

func TestDerivedByRole(t *testing.T) {
	f := newTree(t)
	role := &Role{Name: "ci", Orphan: true, PathSuffix: "v1", ExplicitMaxTTL: 2 * time.Hour, Period: time.Hour, NumUses: 5}
	_, tok, warnings, err := f.make(f.root, role, CreateRequest{Path: "create/ci", Policies: []string{"a"}, Period: 30 * time.Minute, ExplicitMaxTTL: 3 * time.Hour, NumUses: 9, DisplayName: "the one!"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if !tok.Orphan || tok.Path != "auth/token/create/ci/v1" || tok.Role != "ci" || tok.NumUses != 5 || tok.Period != 30*time.Minute || tok.ExplicitMaxTTL != 2*time.Hour ||
		tok.Renewable || tok.TTL != 30*time.Minute || tok.DisplayName != "token-the-one" || len(warnings) != 2 {
		t.Errorf("%+v %q", tok, warnings)
	}
	if _, tok, warnings, err = f.make(f.root, nil, CreateRequest{Policies: []string{"a"}, TTL: 2 * SystemMax}, true); err != nil || tok.TTL != SystemMax || len(warnings) != 1 {
		t.Errorf("%+v %q %v", tok, warnings, err)
	}
	if _, tok, _, err = f.make(f.root, nil, CreateRequest{Policies: []string{"a"}}, true); err != nil || tok.TTL != DefaultTTL || !tok.Renewable {
		t.Errorf("%+v %v", tok, err)
	}
	if _, tok, _, err = f.make(f.root, nil, CreateRequest{Policies: []string{"root"}, ExplicitMaxTTL: time.Hour}, true); err != nil || tok.TTL != time.Hour {
		t.Errorf("%+v %v", tok, err)
	}
}

// A record of the first version is found, by its accessor too after Index.
func TestFirstVersion(t *testing.T) {
	f := newTree(t)
	const secret = "hvs.oldoldoldoldoldoldoldoldol"
	const old = `{"version":1,"accessor":"ACC","display_name":"root","path":"auth/token/root","type":"service","policies":["root"],"created":"2026-01-02T03:04:05Z","ttl":0,"orphan":true}`
	if err := f.update(func(tx *storage.Tx) error { return tx.Put(f.id(tx, secret).oldPath(), []byte(old)) }); err != nil {
		t.Fatal(err)
	}
	if tok := f.get(secret); !tok.Root() || tok.Accessor != "ACC" {
		t.Errorf("%+v", tok)
	}
	child := f.child(secret, CreateRequest{}) // writes the parent
	err := f.update(func(tx *storage.Tx) error {
		_, ids, err := Folders(tx)
		if err != nil || !slices.Equal(ids, []ID{f.id(tx, secret)}) {
			return fmt.Errorf("%v: %w", ids, err)
		}
		if err := Index(tx, ids); err != nil {
			return err
		}
		tok, err := LookupAccessor(tx, "ACC", f.now)
		if err != nil || tok.ID() != f.id(tx, secret) {
			return fmt.Errorf("%+v: %w", tok, err)
		}
		_, err = Revoke(tx, tok.ID())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if f.works(secret) || f.works(child) {
		t.Error("works after it was revoked")
	}
}

func TestRoles(t *testing.T) {
	f := newTree(t)
	err := f.update(func(tx *storage.Tx) error {
		want := &Role{Name: "a b", AllowedPolicies: []string{"x"}, Period: time.Hour, Renewable: true, Type: "service"}
		if err := PutRole(tx, want); err != nil {
			return err
		}
		got, err := GetRole(tx, "a b")
		if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%+v, want %+v: %v", got, want, err)
		}
		for _, bad := range []*Role{{}, {Name: "a/b"}, {Name: "a", Period: -1}, {Name: "a", NumUses: -1}, {Name: "a", PathSuffix: "../x"},
			{Name: "a", AllowedPolicies: []string{strings.Repeat("x", maxRoleLists)}}} {
			if err := PutRole(tx, bad); !errors.Is(err, ErrInvalid) {
				t.Errorf("%.20q: %v", bad.Name, err)
			}
		}
		if names, err := ListRoles(tx); err != nil || !slices.Equal(names, []string{"a b"}) {
			t.Errorf("%q %v", names, err)
		}
		if err := DeleteRole(tx, "a b"); err != nil {
			return err
		}
		got, err = GetRole(tx, "a b")
		if got != nil {
			t.Errorf("deleted: %+v", got)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{{"a", "a", true}, {"a", "ab", false}, {"a*", "ab", true}, {"*", "", true}, {"*b", "ab", true}, {"a*a", "a", false}, {"a*b*c", "abc", true},
		{"a*b*c", "axxbxxc", true}, {"a*b*c", "acb", false}, {"", "a", false}} {
		if Glob(c.pattern, c.name) != c.want {
			t.Errorf("%q in %q: not %v", c.name, c.pattern, c.want)
		}
	}
}

func FuzzTokenID(f *testing.F) {
	key := Key(make([]byte, 32))
	f.Add("hvs.x")
	f.Fuzz(func(t *testing.T, token string) {
		id, err := key.ID(token)
		if valid(token) != (err == nil) || err != nil && !errors.Is(err, ErrDenied) {
			t.Errorf("%q: %v", token, err)
		}
		text, _ := id.MarshalText()
		var again ID
		if err := again.UnmarshalText(text); err != nil || again != id {
			t.Errorf("%q: %v", text, err)
		}
		_ = again.UnmarshalText([]byte(token))
	})
}
