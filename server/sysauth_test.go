package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/storage"
)

// withMethod adds the type of a login method to the keep that lets everybody in
// who says "right". What tokens are like is written to its role.
func (f *fixture) withMethod(t testing.TB) {
	t.Helper()
	var params access.TokenParams
	gone := false
	type loginInput struct {
		Name string `json:"name"`
		Word string `json:"word"`
	}
	method := api.Type{
		Name: "test", Kind: api.Login,
		Routes: []api.Route{
			{Path: "role", Ops: map[api.Op]api.Handler{
				api.Write: api.Do(func(_ *api.Request, in *login.TokenFields) (api.Answer, error) {
					next := params
					warnings, err := in.Apply(&next)
					if err == nil {
						params = next
					}
					return api.Answer{Warnings: warnings}, err
				}),
				api.Read: api.Do(func(*api.Request, *api.None) (api.Answer, error) {
					return api.Answer{Data: login.ViewParams(&params, map[string]any{})}, nil
				}),
				api.Delete: api.Do(func(*api.Request, *api.None) (api.Answer, error) {
					gone = true
					return api.Answer{}, nil
				}),
			}},
			{Path: "login", Gate: api.Unsealed, Ops: map[api.Op]api.Handler{api.Write: api.LogIn(
				func(_ *api.Request, in *loginInput) (name, group string, err error) { return in.Name, "", nil },
				func(r *api.Request, in *loginInput) (api.Proof, error) {
					return func(tx *storage.Tx) (*access.Login, error) {
						if in.Word != "right" {
							return nil, invalid("wrong word")
						}
						return &access.Login{Name: in.Name, DisplayName: in.Name, Params: params, Meta: map[string]string{"who": in.Name}}, tx.Put(r.Prefix()+"/seen", []byte("{}"))
					}, nil
				})}},
		},
		Renew: func(_ *api.Request, _ *storage.Tx, _ *api.Mount, t *access.Token) (*access.TokenParams, error) {
			if gone {
				return nil, invalid("%s does not exist any more", t.Login)
			}
			return &params, nil
		},
	}
	tables, err := newTables([]api.Type{method})
	if err != nil {
		t.Fatal(err)
	}
	key := typeKey{api.Login, "test", ""}
	f.tables.types[key] = tables.types[key]
}

// say is values with spaces between them.
func say(values ...any) string { return strings.TrimSuffix(fmt.Sprintln(values...), "\n") }

func (f *fixture) enter(t testing.TB, path, name string, headers ...string) (reply, string) {
	t.Helper()
	r := f.must(t, 200, "POST", "auth/"+path+"/login", `{"name":"`+name+`","word":"right"}`, append(headers, "X-Vault-Token: ")...)
	return r, r.get("auth", "client_token").(string)
}

func TestLoginMethods(t *testing.T) {
	f := fresh(t)
	f.withMethod(t)
	for _, c := range []struct {
		path, body, text string
	}{
		{"a", `{}`, "backend type must be specified"},
		{"a", `{"type":"nothing"}`, `unknown auth type "nothing": there is `},
		{"a", `{"type":"token"}`, "cannot be instantiated"},
		{"token", `{"type":"test"}`, "path is already in use at token/"},
		{"token/x", `{"type":"test"}`, "path is already in use at token/"},
		{"a/tune/b", `{"type":"test"}`, "segment"},
		{"a", `{"type":"test","config":{"token_type":"batch"}}`, "token_type"},
		{"a", `{"type":"test","options":{"x":"y"}}`, "has no options"},
		{"a", `{"type":"test","config":{"listing_visibility":"x"}}`, "listing_visibility"},
	} {
		if r := f.call(t, "POST", "sys/auth/"+c.path, c.body); r.status != 400 || !strings.Contains(r.errors(), c.text) {
			t.Errorf("%s %s: %d %s", c.path, c.body, r.status, r.text)
		}
	}
	f.must(t, 204, "POST", "sys/auth/a/b", `{"type":"test","description":"d","config":{"default_lease_ttl":"1h","max_lease_ttl":"2h","listing_visibility":"unauth"}}`)
	for _, path := range []string{"a/b", "a", "a/b/c"} {
		if r := f.must(t, 400, "POST", "sys/auth/"+path, `{"type":"test"}`); r.errors() != "path is already in use at a/b/" {
			t.Error(r.text)
		}
	}
	m := f.must(t, 200, "GET", "sys/auth", "").get("data", "a/b/").(map[string]any)
	if id := m["uuid"].(string); m["type"] != "test" || m["description"] != "d" || m["accessor"] != "auth_test_"+id[:8] || m["options"] != nil {
		t.Errorf("%v", m)
	}
	if r := f.must(t, 200, "GET", "sys/auth/a/b", ""); r.get("data", "type") != "test" || fmt.Sprint(r.get("config", "token_type")) != "default-service" {
		t.Error(r.text)
	}
	f.must(t, 400, "GET", "sys/auth/x", "")
	if one, err := f.client(t).Sys().GetAuth("a/b/"); err != nil || one.UUID != m["uuid"] || one.DeprecationStatus != "supported" {
		t.Errorf("%+v, %v", one, err)
	}
	if _, err := f.client(t).Sys().GetAuth("x"); err == nil || !strings.Contains(err.Error(), "No auth engine at x/") {
		t.Error(err)
	}
	if r := f.must(t, 200, "GET", "sys/internal/ui/mounts", "", "X-Vault-Token: "); fmt.Sprint(r.get("data", "auth")) != "map[a/b/:map[description:d options:<nil> type:test]]" {
		t.Error(r.text)
	}
	if r := f.must(t, 200, "GET", "sys/internal/ui/mounts", ""); r.get("data", "auth", "a/b/", "uuid") != m["uuid"] || r.get("data", "auth", "token/") == nil {
		t.Error(r.text)
	}

	// Both paths of tune, as clients use them.
	f.must(t, 204, "POST", "sys/mounts/auth/a/b/tune", `{"description":"e"}`)
	f.must(t, 204, "POST", "sys/auth/a/b/tune", `{"max_lease_ttl":"3h","token_type":"service"}`)
	r := f.must(t, 200, "GET", "sys/auth/a/b/tune", "")
	if got := say(r.get("default_lease_ttl"), r.get("max_lease_ttl"), r.get("description"), r.get("token_type")); got != "3600 10800 e service" {
		t.Error(got)
	}
	f.must(t, 200, "GET", "sys/mounts/auth/token/tune", "")
	f.must(t, 400, "POST", "sys/mounts/auth/token/tune", `{"max_lease_ttl":"3h"}`)
	f.must(t, 400, "POST", "sys/auth/none/tune", `{}`)
	f.must(t, 400, "GET", "sys/auth/none/tune", "")
	f.must(t, 400, "POST", "sys/auth/a/b/tune", `{"token_type":"batch"}`)

	// A login, whose token cannot do more than its role says.
	if r := f.must(t, 200, "POST", "auth/a/b/role", `{"token_policies":["app"],"policies":"old","token_max_ttl":"90m"}`); fmt.Sprint(r.get("warnings")) !=
		"[Both 'token_policies' and deprecated 'policies' value supplied, ignoring the deprecated value]" {
		t.Error(r.text)
	}
	r, token := f.enter(t, "a/b", "bob")
	if got := say(r.get("auth", "policies"), r.get("auth", "lease_duration"), r.get("auth", "orphan"), r.get("auth", "renewable"), r.get("auth", "metadata"), r.get("auth", "entity_id"), r.get("mount_type")); got != "[app default] 3600 true true map[who:bob]  test" {
		t.Error(got)
	}
	r = f.must(t, 200, "GET", "auth/token/lookup-self", "", as(token))
	if got := say(r.get("data", "display_name"), r.get("data", "path"), r.get("data", "creation_ttl")); got != "a-b-bob auth/a/b/login 3600" {
		t.Error(got)
	}
	f.must(t, 404, "GET", "auth/a/b/nothing", "")
	f.must(t, 403, "GET", "auth/a/b/nothing", "", as(token))
	f.must(t, 403, "POST", "auth/a/b/role", "{}", as(token))
	f.must(t, 405, "DELETE", "auth/a/b/login", "")
	f.must(t, 404, "POST", "auth/b/login", "{}")
	for body, text := range map[string]string{
		`{"token_type":"batch"}`:                       "batch tokens are not supported",
		`{"token_ttl":"2h"}`:                           "'token_ttl' cannot be greater than 'token_max_ttl'",
		`{"token_period":"-1"}`:                        "'token_period' cannot be negative",
		`{"token_num_uses":-1}`:                        "'token_num_uses' cannot be negative",
		`{"token_bound_cidrs":"10.0.0.0/33"}`:          "neither an IP address nor a range",
		`{"token_strictly_bind_ip":true}`:              "not supported",
		`{"token_policies":["app","root"],"ttl":"1h"}`: "",
	} {
		if r := f.call(t, "POST", "auth/a/b/role", body); r.status == 400 != (text != "") || !strings.Contains(r.text, text) {
			t.Errorf("%s: %d %s", body, r.status, r.text)
		}
	}
	if r := f.must(t, 400, "POST", "auth/a/b/login", `{"word":"right"}`); r.errors() != "auth methods cannot create root tokens" {
		t.Error(r.text)
	}
	f.must(t, 204, "POST", "auth/a/b/role", `{"token_policies":[]}`)

	// Disabling it ends its tokens and those that were made with them, and deletes its data.
	f.must(t, 204, "POST", "sys/policies/acl/default", `{"policy":"path \"auth/token/*\" { capabilities = [\"read\", \"update\"] }"}`)
	_, token = f.enter(t, "a/b", "bob")
	child := f.must(t, 200, "POST", "auth/token/create", "{}", as(token)).get("auth", "client_token").(string)
	folder := f.keep.Load().Logins.Load().At("a/b").Prefix()
	if below(t, f, folder) == 0 {
		t.Fatal("the test is of no use")
	}
	f.must(t, 204, "DELETE", "sys/auth/a/b", "")
	for _, dead := range []string{token, child} {
		f.must(t, 403, "GET", "auth/token/lookup-self", "", as(dead))
	}
	f.must(t, 404, "POST", "auth/a/b/login", `{"name":"bob","word":"right"}`)
	f.must(t, 204, "DELETE", "sys/auth/a/b", "")
	f.must(t, 400, "DELETE", "sys/auth/token", "")
	eventually(t, "the data of the method is gone", func() bool { return below(t, f, folder) == 0 && below(t, f, mount.PurgeFolder) == 0 })
	eventually(t, "its tokens are gone", func() bool { return below(t, f, "access/accessor") == 1 })
	f.must(t, 204, "POST", "sys/auth/a/b", `{"type":"test"}`) // another of the same name
	f.must(t, 403, "GET", "auth/token/lookup-self", "", as(token))
	if n := below(t, f, "access/method"); n != 1 {
		t.Errorf("%d marks of methods", n)
	}
	_, token = f.enter(t, "a/b", "bob")
	f.Server.Seal()
	if err := f.Server.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.must(t, 200, "GET", "auth/token/lookup-self", "", as(token))
}

// A token is renewed by what its role and its method say at that time.
func TestLoginRenewal(t *testing.T) {
	f := fresh(t)
	f.withMethod(t)
	f.must(t, 204, "POST", "sys/auth/t", `{"type":"test"}`)
	f.must(t, 204, "POST", "auth/t/role", `{"token_ttl":"10m"}`)
	_, token := f.enter(t, "t", "bob")
	renewed := func(want int) {
		t.Helper()
		if r := f.must(t, 200, "POST", "auth/token/renew-self", "{}", as(token)); fmt.Sprint(r.get("auth", "lease_duration")) != fmt.Sprint(want) {
			t.Errorf("want %d: %s", want, r.text)
		}
	}
	renewed(600)
	f.must(t, 204, "POST", "auth/t/role", `{"token_ttl":"20m","token_max_ttl":"1h"}`)
	f.clock.add(5 * time.Minute)
	renewed(1200)
	f.clock.add(19 * time.Minute)
	renewed(1200)
	f.clock.add(19 * time.Minute)
	f.must(t, 204, "POST", "sys/auth/t/tune", `{"max_lease_ttl":"50m"}`)
	renewed(50*60 - 43*60)
	f.must(t, 204, "POST", "auth/t/role", `{"token_period":"30m"}`)
	f.clock.add(5 * time.Minute)
	renewed(1800)
	if r := f.must(t, 200, "GET", "auth/token/lookup-self", "", as(token)); say(r.get("data", "period"), r.get("data", "creation_ttl")) != "1800 600" {
		t.Error(r.text)
	}
	f.must(t, 204, "DELETE", "auth/t/role", "")
	if r := f.must(t, 400, "POST", "auth/token/renew-self", "{}", as(token)); r.errors() != "bob does not exist any more" {
		t.Error(r.text)
	}
}

// A token with ranges of addresses works from these, and its children inherit them.
func TestBoundAddressesAreInheritedByOrphansToo(t *testing.T) {
	f := fresh(t)
	f.withMethod(t)
	f.must(t, 204, "POST", "sys/auth/t", `{"type":"test"}`)
	f.must(t, 204, "POST", "auth/t/role", `{"token_bound_cidrs":["10.1.0.0/16","2001:db8::/32","192.0.2.7"],"token_policies":["maker"]}`)
	if r := f.must(t, 200, "GET", "auth/t/role", ""); fmt.Sprint(r.get("data", "token_bound_cidrs")) != "[10.1.0.0/16 2001:db8::/32 192.0.2.7]" {
		t.Error(r.text)
	}
	f.policy(t, "maker", map[string]string{"auth/token/*": `"create", "update", "sudo", "read"`})
	f.must(t, 403, "POST", "auth/t/login", `{"name":"bob","word":"right"}`, "RemoteAddr: 10.2.0.1:9")
	f.must(t, 403, "POST", "auth/t/login", `{"name":"bob","word":"right"}`, "RemoteAddr: @")
	inside := "RemoteAddr: 10.1.2.3:9"
	_, token := f.enter(t, "t", "bob", inside)
	make := func(path string) string {
		return f.must(t, 200, "POST", "auth/token/"+path, "{}", as(token), inside).get("auth", "client_token").(string)
	}
	f.must(t, 204, "POST", "auth/token/roles/other", `{"token_bound_cidrs":"10.9.0.1"}`)
	child, orphan, byRole := make("create"), make("create-orphan"), make("create/other")
	for from, who := range map[string][]string{
		"10.1.2.3:9": {token, child, orphan}, "[2001:db8::1%eth0]:9": {token, child, orphan}, "[::ffff:10.1.0.1]:9": {token, child, orphan},
		"192.0.2.7:1": {token, child, orphan}, "10.2.0.0:1": nil, "[2001:db9::1]:1": nil, "@": nil, "192.0.2.8:1": nil, "10.9.0.1:1": {byRole},
	} {
		for _, secret := range []string{token, child, orphan, byRole} {
			want := http.StatusForbidden
			if slices.Contains(who, secret) {
				want = 200
			}
			f.must(t, want, "GET", "auth/token/lookup-self", "", as(secret), "RemoteAddr: "+from)
		}
	}
	if r := f.must(t, 200, "GET", "auth/token/lookup-self", "", as(token), inside); fmt.Sprint(r.get("data", "bound_cidrs")) != "[10.1.0.0/16 2001:db8::/32 192.0.2.7]" {
		t.Error(r.text)
	}
	// Nobody makes a token that is good for more addresses than his own, whichever way.
	f.must(t, 204, "POST", "auth/token/roles/free", `{}`)
	f.must(t, 204, "POST", "auth/token/roles/orphans", `{"orphan":true}`)
	for path, body := range map[string]string{"create": `{"no_parent":true}`, "create-orphan": `{"period":"1h"}`, "create/free": `{}`, "create/orphans": `{}`} {
		secret := f.must(t, 200, "POST", "auth/token/"+path, body, as(token), inside).get("auth", "client_token").(string)
		f.must(t, 200, "GET", "auth/token/lookup-self", "", as(secret), inside)
		f.must(t, 403, "GET", "auth/token/lookup-self", "", as(secret), "RemoteAddr: 10.2.0.1:9")
	}
	// Nor does a root token without an end lose those of its role.
	r := f.must(t, 200, "POST", "auth/token/create/other", `{"policies":["root"]}`)
	f.must(t, 200, "GET", "secret/config", "", as(r.get("auth", "client_token").(string)), "RemoteAddr: 10.9.0.1:9")
	f.must(t, 403, "GET", "secret/config", "", as(r.get("auth", "client_token").(string)), inside)

	// A use from elsewhere does not count, nor one where no token is needed.
	f.must(t, 204, "POST", "auth/t/role", `{"token_num_uses":2}`)
	_, token = f.enter(t, "t", "bob", inside)
	f.must(t, 403, "GET", "auth/token/lookup-self", "", as(token), "RemoteAddr: 10.2.0.1:9")
	f.must(t, 200, "GET", "sys/internal/ui/mounts", "", as(token), inside)
	for _, status := range []int{200, 200, 403} {
		f.must(t, status, "GET", "auth/token/lookup-self", "", as(token), inside)
	}
}
