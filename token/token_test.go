package token_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// Every call of the official client about tokens.
func TestTokensByClient(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "POST", "sys/policies/acl/app", `{"policy":"path \"secret/*\" { capabilities = [\"read\"] }"}`)
	tokens := f.Client(t).Auth().Token()
	made, err := tokens.Create(&vault.TokenCreateRequest{Policies: []string{"app"}, TTL: "1h", DisplayName: "ci", Metadata: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	if made.Auth == nil || made.Auth.LeaseDuration != 3600 || !made.Auth.Renewable || !slices.Equal(made.Auth.Policies, []string{"app", "default"}) ||
		made.Auth.Metadata["k"] != "v" || made.Auth.Orphan || made.Warnings != nil || !strings.HasPrefix(made.Auth.ClientToken, "hvs.") {
		t.Fatalf("%+v", made.Auth)
	}
	secret, accessor := made.Auth.ClientToken, made.Auth.Accessor
	seen, err := tokens.Lookup(secret)
	if err != nil || seen.Data["accessor"] != accessor || seen.Data["display_name"] != "token-ci" || seen.Data["orphan"] != false || seen.Data["path"] != "auth/token/create" ||
		seen.Data["id"] != secret || fmt.Sprintf("%v %v", seen.Data["ttl"], seen.Data["creation_ttl"]) != "3600 3600" || seen.Data["expire_time"] == nil || seen.Data["type"] != "service" {
		t.Errorf("%+v %v", seen, err)
	}
	if seen, err = tokens.LookupAccessor(accessor); err != nil || seen.Data["id"] != "" || seen.Data["accessor"] != accessor {
		t.Errorf("%+v %v", seen, err)
	}
	for name, renew := range map[string]func() (*vault.Secret, error){
		"Renew":            func() (*vault.Secret, error) { return tokens.Renew(secret, 1800) },
		"RenewAccessor":    func() (*vault.Secret, error) { return tokens.RenewAccessor(accessor, 1800) },
		"RenewTokenAsSelf": func() (*vault.Secret, error) { return tokens.RenewTokenAsSelf(secret, 1800) },
	} {
		got, err := renew()
		if err != nil || got.Auth == nil || got.Auth.LeaseDuration != 1800 || got.Auth.Accessor != accessor {
			t.Errorf("%s: %+v %v", name, got, err)
		}
		if err == nil && (got.Auth.ClientToken == "") != (name == "RenewAccessor") {
			t.Errorf("%s: token %q", name, got.Auth.ClientToken)
		}
	}
	child := f.Client(t)
	child.SetToken(secret)
	own := child.Auth().Token()
	if seen, err := own.LookupSelf(); err != nil || seen.Data["last_renewal"] == nil {
		t.Errorf("%+v %v", seen, err)
	}
	if _, err := own.RenewSelf(60); err != nil {
		t.Error(err)
	}
	if _, err := own.Create(&vault.TokenCreateRequest{}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("without the capability: %v", err)
	}
	if err := own.RevokeSelf(""); err != nil {
		t.Error(err)
	}
	if _, err := own.LookupSelf(); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("after it was revoked: %v", err)
	}
	if _, err := tokens.Lookup(secret); err == nil || !strings.Contains(err.Error(), "bad token") {
		t.Errorf("a revoked one: %v", err)
	}
	orphan, err := tokens.CreateOrphan(&vault.TokenCreateRequest{Policies: []string{"app", "none"}})
	if err != nil || !orphan.Auth.Orphan || !slices.Equal(orphan.Warnings, []string{`Policy "none" does not exist`}) {
		t.Fatalf("%+v %v", orphan, err)
	}
	f.Must(t, 204, "POST", "auth/token/roles/ci", `{"allowed_policies":["app"],"orphan":true,"token_period":"30m","path_suffix":"v1"}`)
	byRole, err := tokens.CreateWithRole(&vault.TokenCreateRequest{}, "ci")
	if err != nil || !byRole.Auth.Orphan || byRole.Auth.LeaseDuration != 1800 || !slices.Equal(byRole.Auth.Policies, []string{"app", "default"}) {
		t.Errorf("%+v %v", byRole, err)
	}
	if seen, err = tokens.Lookup(byRole.Auth.ClientToken); err != nil || seen.Data["role"] != "ci" || seen.Data["period"] != json.Number("1800") || seen.Data["path"] != "auth/token/create/ci/v1" {
		t.Errorf("%+v %v", seen, err)
	}
	list, err := f.Client(t).Logical().List("auth/token/accessors")
	if err != nil || len(list.Data["keys"].([]any)) != 3 {
		t.Errorf("%+v %v", list, err)
	}
	if err := tokens.RevokeOrphan(orphan.Auth.ClientToken); err != nil {
		t.Error(err)
	}
	if err := tokens.RevokeAccessor(byRole.Auth.Accessor); err != nil {
		t.Error(err)
	}
	if err := tokens.RevokeTree(f.Root); err != nil {
		t.Error(err)
	}
	f.Must(t, 403, "GET", "auth/token/lookup-self", "")
}

func TestTokenMistakes(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "POST", "sys/policies/acl/maker", `{"policy":"path \"auth/token/*\" { capabilities = [\"create\",\"update\",\"read\",\"list\"] }"}`)
	maker := servertest.As(f.Token(t, `{"policies":["maker"]}`))
	limited := servertest.As(f.Token(t, `{"policies":["maker"],"num_uses":50}`))
	for _, c := range []struct {
		status             int
		method, path, body string
		as, text           string
	}{
		{400, "POST", "auth/token/create", `{"policies":["root"]}`, maker, "child policies must be subset of parent"},
		{400, "POST", "auth/token/create", `{"no_parent":true}`, maker, "root or sudo privileges required to create orphan token"},
		{400, "POST", "auth/token/create", `{"id":"x"}`, maker, "root or sudo privileges required to specify token id"},
		{400, "POST", "auth/token/create", `{"period":"1h"}`, maker, "root or sudo privileges required to create periodic token"},
		{400, "POST", "auth/token/create", `{}`, limited, "restricted use token cannot generate child tokens"},
		{400, "POST", "auth/token/create", `{"ttl":"soon"}`, maker, "ttl is not a duration"},
		{400, "POST", "auth/token/create", `{"meta":[1]}`, maker, "the parameter meta must be an object"},
		{400, "POST", "auth/token/create", `{"entity_alias":"x"}`, maker, "'entity_alias' is not supported"},
		{400, "POST", "auth/token/create/none", `{}`, maker, "unknown role none"},
		{403, "LIST", "auth/token/accessors", ``, maker, "permission denied"},
		{403, "POST", "auth/token/revoke-orphan", `{"token":"x"}`, maker, "permission denied"},
		{400, "POST", "auth/token/revoke-orphan", `{"token":"x"}`, servertest.As(f.Root), "token to revoke not found"},
		{400, "POST", "auth/token/revoke-orphan", `{}`, servertest.As(f.Root), "missing token ID"},
		{400, "POST", "auth/token/revoke", `{}`, maker, "missing token ID"},
		{204, "POST", "auth/token/revoke", `{"token":"none"}`, maker, ""},
		{204, "POST", "auth/token/revoke", `{"token":"a b"}`, maker, ""},
		{400, "POST", "auth/token/revoke-accessor", `{}`, maker, "missing accessor"},
		{200, "POST", "auth/token/revoke-accessor", `{"accessor":"none"}`, maker, ""},
		{400, "POST", "auth/token/lookup-accessor", `{"accessor":"no/ne"}`, maker, "invalid accessor"},
		{400, "POST", "auth/token/lookup-accessor", `{}`, maker, "missing accessor"},
		{403, "POST", "auth/token/lookup", `{"token":"none"}`, maker, "bad token"},
		{400, "POST", "auth/token/renew", `{"token":"none"}`, maker, "token not found"},
		{400, "POST", "auth/token/renew", `{}`, maker, "missing token ID"},
		{400, "POST", "auth/token/renew-accessor", `{"accessor":"none"}`, maker, "invalid accessor"},
		{400, "POST", "auth/token/renew-self", `{}`, servertest.As(f.Root), "lease is not renewable"},
		{202, "POST", "auth/token/tidy", ``, maker, ""},
		{404, "LIST", "auth/token/roles", ``, maker, ""},
		{404, "GET", "auth/token/roles/none", ``, maker, ""},
		{400, "POST", "auth/token/roles/a", `{"token_type":"batch"}`, maker, "batch tokens are not supported"},
		{400, "POST", "auth/token/roles/a", `{"token_bound_cidrs":"10.0.0.0/8, x"}`, maker, "\"x\" is neither an IP address nor a range"},
		{400, "POST", "auth/token/roles/a", `{"allowed_entity_aliases":"x"}`, maker, "allowed_entity_aliases is not supported"},
		{400, "POST", "auth/token/roles/a/b", `{}`, maker, "the name of a role"},
		{200, "POST", "auth/token/roles/a", `{"period":"1h","token_period":"2h"}`, maker, ""},
	} {
		r := f.Call(t, c.method, c.path, c.body, c.as)
		if r.Status != c.status || c.text != "" && !strings.Contains(r.Errors(), c.text) {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, r.Status, r.Text)
		}
	}
	if r := f.Must(t, 200, "GET", "auth/token/roles/a", ""); fmt.Sprintf("%v %v %v", r.Get("data", "token_period"), r.Get("data", "renewable"), r.Get("data", "token_type")) != "7200 true default-service" {
		t.Error(r.Text)
	}
	f.Must(t, 204, "POST", "auth/token/roles/a", `{"renewable":false}`)
	if r := f.Must(t, 200, "GET", "auth/token/roles/a", ""); fmt.Sprintf("%v %v", r.Get("data", "token_period"), r.Get("data", "renewable")) != "7200 false" {
		t.Error(r.Text)
	}
	f.Must(t, 204, "DELETE", "auth/token/roles/a", "")
	f.Must(t, 404, "GET", "auth/token/roles/a", "")
}

// A token stops at the second that it ends in, and so do those below it, whether
// they are in memory or not.
func TestTokenStopsAtTheSecond(t *testing.T) {
	f := fresh(t)
	mother := f.Token(t, `{"policies":["root"],"ttl":"1h"}`)
	child := f.Token(t, `{"policies":["default"],"ttl":"2h"}`, servertest.As(mother))
	for _, token := range []string{mother, child} {
		f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(token))
	}
	f.Clock.Add(59 * time.Minute)
	f.Must(t, 200, "POST", "auth/token/renew-self", `{"increment":"10m"}`, servertest.As(mother))
	f.Clock.Add(9 * time.Minute)
	for _, token := range []string{mother, child} {
		f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(token))
	}
	f.Clock.Add(time.Minute)
	for _, token := range []string{mother, child} {
		f.Must(t, 403, "GET", "auth/token/lookup-self", "", servertest.As(token))
	}
}

// A parent that is renewed for less takes those below with it.
func TestRenewedForLess(t *testing.T) {
	f := fresh(t)
	mother := f.Token(t, `{"policies":["root"],"ttl":"1h"}`)
	child := f.Token(t, `{"policies":["default"],"ttl":"2h"}`, servertest.As(mother))
	f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(child))
	f.Must(t, 200, "POST", "auth/token/renew-self", `{"increment":"1m"}`, servertest.As(mother))
	f.Clock.Add(2 * time.Minute)
	f.Must(t, 403, "GET", "auth/token/lookup-self", "", servertest.As(child))
}

// Each use is counted before the request runs, whatever becomes of it, and stays
// counted over a restart; naming the token in a body is no use.
func TestTokenUses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	a := servertest.NewSeal("a", 1)
	f := start(t, path, a)
	f.Initialize(t)
	token := f.Token(t, `{"policies":["default"],"num_uses":5}`)
	f.Must(t, 403, "GET", "secret/data/x", "", servertest.As(token))
	f.Must(t, 200, "POST", "auth/token/lookup", `{"token":"`+token+`"}`)
	f.Must(t, 200, "POST", "sys/capabilities", `{"token":"`+token+`","path":"x"}`)
	if r := f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(token)); fmt.Sprint(r.Get("data", "num_uses")) != "3" {
		t.Error(r.Text)
	}
	f.Stop(t)
	g := start(t, path, a.Again())
	if err := g.Unseal(t.Context()); err != nil || g.Status().Sealed {
		t.Fatal(err)
	}
	var ok, denied atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			switch r := g.Call(t, "GET", "auth/token/lookup-self", "", servertest.As(token)); r.Status {
			case 200:
				ok.Add(1)
			case 403:
				denied.Add(1)
			default:
				t.Error(r.Text)
			}
		})
	}
	wg.Wait()
	if ok.Load() != 3 || denied.Load() != 17 {
		t.Errorf("%d uses, %d denied", ok.Load(), denied.Load())
	}
}

// What a token may do changes with it at once, though it is in memory.
func TestRevokedOrphansParent(t *testing.T) {
	f := fresh(t)
	mother := f.Token(t, `{"policies":["root"]}`)
	child := f.Token(t, `{"policies":["root"]}`, servertest.As(mother))
	grandchild := f.Token(t, `{"policies":["default"]}`, servertest.As(child))
	for _, token := range []string{mother, child, grandchild} {
		f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(token))
	}
	f.Must(t, 204, "POST", "auth/token/revoke-orphan", `{"token":"`+mother+`"}`)
	f.Must(t, 403, "GET", "auth/token/lookup-self", "", servertest.As(mother))
	if r := f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(child)); r.Get("data", "orphan") != true {
		t.Error(r.Text)
	}
	f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(grandchild))
	servertest.Eventually(t, "the mark is gone", func() bool { return f.TokenRecords(t) == 3 })
	f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(grandchild))
	f.Must(t, 204, "POST", "auth/token/revoke", `{"token":"`+child+`"}`)
	f.Must(t, 403, "GET", "auth/token/lookup-self", "", servertest.As(grandchild))
}

// children makes many children of a token, and returns one of every so many.
func (f *fixture) children(t testing.TB, parent string, n, every int) (some []string) {
	t.Helper()
	u := f.Unsealed()
	p, err := u.Lookup(t.Context(), parent)
	if err != nil {
		t.Fatal(err)
	}
	for made := 0; made < n; made += 500 {
		before := some
		err := u.Store.Update(t.Context(), func(tx *storage.Tx) error {
			some = before
			for i := range min(500, n-made) {
				child, _, err := access.Derive(p, nil, &access.CreateRequest{Path: "create", Policies: []string{"default"}}, true, f.Clock.Now())
				if err != nil {
					return err
				}
				token, err := access.Create(tx, "", child)
				if err != nil {
					return err
				}
				if i%every == 0 {
					some = append(some, token)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return some
}

// A tree of 10,000 is dead when the answer comes, is deleted in the background,
// over a restart, and holds nobody up.
func TestRevokeLargeTree(t *testing.T) {
	const size = 10_000
	path := filepath.Join(t.TempDir(), "keep.db")
	a := servertest.NewSeal("a", 1)
	f := start(t, path, a)
	f.Initialize(t)
	mother := f.Token(t, `{"policies":["root"]}`)
	some := f.children(t, mother, size, 500)
	f.Must(t, 200, "POST", "secret/data/x", `{"data":{}}`)
	for _, token := range some {
		f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(token))
	}
	work := func(until func() bool) time.Duration {
		var took []time.Duration
		for !until() || len(took) < 100 {
			began := time.Now()
			f.Must(t, 200, "POST", "secret/data/x", `{"data":{}}`)
			f.Must(t, 200, "GET", "secret/data/x", ``)
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	n := 0
	quiet := work(func() bool { n++; return n > 500 })
	f.Must(t, 204, "POST", "auth/token/revoke", `{"token":"`+mother+`"}`)
	for _, token := range some {
		f.Must(t, 403, "GET", "auth/token/lookup-self", "", servertest.As(token))
	}
	servertest.Eventually(t, "the sweep deletes", func() bool { return f.TokenRecords(t) < size })
	busy := work(func() bool { n++; return n%100 == 0 && f.TokenRecords(t) < size*9/10 })
	left := f.TokenRecords(t)
	t.Logf("p99 of a write and a read: quiet %v, while a tree is swept %v; %d left at the restart", quiet, busy, left)
	if busy > 5*quiet && busy > 100*time.Millisecond {
		t.Errorf("sweeping holds others up: %v, quiet %v", busy, quiet)
	}
	f.Stop(t)
	g := start(t, path, a.Again())
	if err := g.Unseal(t.Context()); err != nil || g.Status().Sealed {
		t.Fatal(err)
	}
	g.Root = f.Root
	for _, token := range some {
		g.Must(t, 403, "GET", "auth/token/lookup-self", "", servertest.As(token))
	}
	g.Must(t, 202, "POST", "auth/token/tidy", "")
	servertest.Eventually(t, "the sweep goes on", func() bool { return g.TokenRecords(t) < left })
}

// While one half of the clients revoke, no token works after its revocation was
// answered.
func TestRevokeRace(t *testing.T) {
	f := fresh(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				mother := f.Token(t, `{"policies":["root"]}`)
				child := f.Token(t, `{"policies":["default"]}`, servertest.As(mother))
				var stop atomic.Bool
				var readers sync.WaitGroup
				for range 2 {
					readers.Go(func() {
						for !stop.Load() {
							f.Call(t, "GET", "auth/token/lookup-self", "", servertest.As(child))
						}
					})
				}
				f.Must(t, 204, "POST", "auth/token/revoke", `{"token":"`+mother+`"}`)
				f.Must(t, 403, "GET", "auth/token/lookup-self", "", servertest.As(child))
				stop.Store(true)
				readers.Wait()
				f.Must(t, 403, "GET", "auth/token/lookup-self", "", servertest.As(child))
			}
		})
	}
	wg.Wait()
}

// BenchmarkTokenCheck is what the gate does with a token: in memory, and, of
// 100,000 tokens with equal chance, mostly not.
func BenchmarkTokenCheck(b *testing.B) {
	f := fresh(b)
	u := f.Unsealed()
	b.Run("memory", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := u.Use(b.Context(), f.Root, netip.Addr{}, true); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("wrong", func(b *testing.B) {
		for b.Loop() {
			if _, err := u.Use(b.Context(), "hvs.AAAAAAAAAAAAAAAAAAAAAAAAAA", netip.Addr{}, true); err == nil {
				b.Fatal("it works")
			}
		}
	})
	b.Run("request", func(b *testing.B) {
		req := httptest.NewRequest("GET", "/v1/auth/token/lookup-self", nil)
		req.Header.Set("X-Vault-Token", f.Root)
		w := &servertest.NullWriter{Head: make(http.Header)}
		for b.Loop() {
			f.HTTP.ServeHTTP(w, req)
		}
	})
	b.Run("100000", func(b *testing.B) {
		var all []string
		for range 200 {
			mother := f.Token(b, `{"policies":["root"]}`)
			all = append(all, f.children(b, mother, 500, 1)...)
		}
		for b.Loop() {
			f.Forget(b)
			if _, err := u.Use(b.Context(), all[rand.IntN(len(all))], netip.Addr{}, true); err != nil {
				b.Fatal(err)
			}
		}
	})
}
