package access

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// hole does something with a token's cubbyhole in an Update.
func (f *tree) hole(token string, fn func(tx *storage.Tx, t *Token) error) error {
	return f.update(func(tx *storage.Tx) error {
		t, err := Lookup(tx, f.id(tx, token), f.now)
		if err != nil {
			return err
		}
		return fn(tx, t)
	})
}

func set(record string) func(*storage.Tx, *Token) error {
	return func(tx *storage.Tx, t *Token) error { return t.PutCubbyhole(tx, []byte(record)) }
}

// A cubbyhole ends with its token, however that ends, and nothing makes one for a
// token that is no more.
func TestCubbyholeEndsWithToken(t *testing.T) {
	f := newTree(t)
	holes := func() (n int) {
		f.update(func(tx *storage.Tx) error { n = len(records(t, tx, cubbyholeFolder)); return nil })
		return n
	}
	for name, end := range map[string]func(tx *storage.Tx, id ID) error{
		"revoked":       func(tx *storage.Tx, id ID) error { _, err := Revoke(tx, id); return err },
		"made orphans":  func(tx *storage.Tx, id ID) error { _, err := RevokeOrphan(tx, id); return err },
		"ended, tidied": func(tx *storage.Tx, id ID) error { return Tidy(tx, []ID{id}, f.now.Add(2*time.Hour)) },
		"used up": func(tx *storage.Tx, id ID) error {
			for range 2 {
				if _, err := Use(tx, id, f.now); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		token := f.child(f.root, CreateRequest{TTL: time.Hour, NumUses: 2})
		if err := f.hole(token, set(`{"k":1}`)); err != nil || holes() != 1 {
			t.Fatalf("%s: %v, %d", name, err, holes())
		}
		var tok *Token
		err := f.hole(token, func(tx *storage.Tx, t *Token) error {
			tok = t
			return end(tx, t.ID())
		})
		if err != nil || holes() != 0 {
			t.Errorf("%s: %v, %d are left", name, err, holes())
		}
		if err := f.update(func(tx *storage.Tx) error { return tok.PutCubbyhole(tx, []byte(`{}`)) }); !errors.Is(err, ErrDenied) || holes() != 0 {
			t.Errorf("%s: written to afterwards: %v, %d", name, err, holes())
		}
	}
	// The last request that a token is good for still has it.
	token := f.child(f.root, CreateRequest{NumUses: 1})
	if err := f.hole(token, set(`{"k":1}`)); err != nil {
		t.Fatal(err)
	}
	err := f.update(func(tx *storage.Tx) error {
		last, err := Use(tx, f.id(tx, token), f.now)
		if err != nil {
			return err
		}
		got, err := last.Cubbyhole(tx)
		if string(got) != `{"k":1}` {
			t.Errorf("%s", got)
		}
		return err
	})
	if err != nil || holes() != 0 {
		t.Errorf("%v, %d", err, holes())
	}
}

func TestWrapping(t *testing.T) {
	f := newTree(t)
	wrap := func(status int, body string) (secret string) {
		w, err := NewWrapped(status, []byte(body))
		if err == nil {
			err = f.update(func(tx *storage.Tx) (err error) {
				_, secret, err = Wrap(tx, "secret/data/a", "ci", time.Minute, w, f.now)
				return err
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	unwrap := func(secret string) (status int, body string, err error) {
		err = f.update(func(tx *storage.Tx) error {
			tok, err := Unwrap(tx, f.id(tx, secret), f.now)
			if err != nil {
				return err
			}
			s, b, err := tok.Wrapped().Open()
			status, body = s, string(b)
			if tok.Path != "secret/data/a" || tok.DisplayName != "ci" || !tok.Orphan || tok.Renewable || !tok.Wrapping() {
				t.Errorf("%+v", tok)
			}
			return err
		})
		return status, body, err
	}
	one := wrap(404, `{"data":{"k":"<&>"}}`)
	if status, body, err := unwrap(one); status != 404 || body != `{"data":{"k":"\u003c\u0026\u003e"}}` || err != nil {
		t.Errorf("%d %s %v", status, body, err)
	}
	if _, _, err := unwrap(one); !errors.Is(err, ErrDenied) {
		t.Errorf("a second time: %v", err)
	}
	late := wrap(0, `{}`)
	f.now = f.now.Add(time.Minute)
	if _, _, err := unwrap(late); !errors.Is(err, ErrDenied) {
		t.Errorf("too late: %v", err)
	}
	other := f.child(f.root, CreateRequest{NumUses: 1})
	if _, _, err := unwrap(other); !errors.Is(err, ErrDenied) {
		t.Errorf("another token: %v", err)
	}
	if err := f.hole(other, func(*storage.Tx, *Token) error { return nil }); err != nil {
		t.Errorf("it was used: %v", err)
	}
	if _, _, _, err := f.make(f.root, nil, CreateRequest{Policies: []string{"Response-Wrapping"}}, true); !errors.Is(err, ErrInvalid) || err.Error() != `cannot assign policy "response-wrapping"` {
		t.Errorf("given to another: %v", err)
	}
	if _, err := NewWrapped(0, []byte(`"`+strings.Repeat("x", storage.MaxValue)+`"`)); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("too much: %v", err)
	}
}

func TestPolicyWrappingTTL(t *testing.T) {
	const a = `path "a" {
  capabilities     = ["read"]
  min_wrapping_ttl = "1m"
  max_wrapping_ttl = 3600
}
`
	const b = `path "a" {
  capabilities     = ["read"]
  min_wrapping_ttl = "90s"
  max_wrapping_ttl = "30m"
}
path "b" {
  capabilities     = ["read"]
  min_wrapping_ttl = 1
}
path "c" {
  capabilities     = ["read"]
  max_wrapping_ttl = 1
}
`
	for _, c := range []struct {
		policies []*Policy
		path     string
		allowed  []time.Duration
		refused  []time.Duration
	}{
		{[]*Policy{mustParse(t, "a", a)}, "a", []time.Duration{time.Minute, time.Hour}, []time.Duration{0, time.Minute - 1, time.Hour + 1}},
		{[]*Policy{mustParse(t, "a", a), mustParse(t, "b", b)}, "a", []time.Duration{time.Minute, 30 * time.Minute}, []time.Duration{0, time.Minute - 1, time.Hour}},
		{[]*Policy{mustParse(t, "b", b)}, "b", []time.Duration{time.Second, 1000 * time.Hour}, []time.Duration{0}},
		{[]*Policy{mustParse(t, "b", b)}, "c", []time.Duration{time.Second}, []time.Duration{0, time.Minute}},
		{[]*Policy{mustParse(t, "d", `path "a" { capabilities = ["read"] }`)}, "a", []time.Duration{0, 1, time.Hour}, nil},
		{[]*Policy{{Name: RootPolicy}}, "a", []time.Duration{0, time.Hour}, nil},
	} {
		grant := NewACL(c.policies).Find(c.path)
		for _, ttl := range c.allowed {
			if err := grant.CheckWrap(ttl); err != nil {
				t.Errorf("%s for %v: %v", c.path, ttl, err)
			}
		}
		for _, ttl := range c.refused {
			if err := grant.CheckWrap(ttl); !errors.Is(err, ErrDenied) {
				t.Errorf("%s for %v: %v", c.path, ttl, err)
			}
		}
	}
}

// FuzzWrapped: whatever the record is, it is read or refused.
func FuzzWrapped(f *testing.F) {
	for _, seed := range []string{`{"version":1,"secrets":{"a/b":{"k":1}}}`, `{"version":1,"status":200,"response":{}}`, `{"version":2}`, `{`, ``, `null`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		status, body, err := Wrapped(value).Open()
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		w, err := NewWrapped(status, body)
		if errors.Is(err, storage.ErrTooLarge) { // what compact JSON escapes is longer
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if again, _, err := w.Open(); err != nil || again != status {
			t.Fatalf("%d %v, want %d", again, err, status)
		}
	})
}
