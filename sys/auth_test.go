package sys_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/servertest"
)

// withMethod is fresh with the login method test.
func withMethod(t testing.TB) *fixture {
	t.Helper()
	return &fixture{servertest.Fresh(t, servertest.Config{Types: append(types(), servertest.LoginType())})}
}

func TestLoginMethods(t *testing.T) {
	f := withMethod(t)
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
		if r := f.Call(t, "POST", "sys/auth/"+c.path, c.body); r.Status != 400 || !strings.Contains(r.Errors(), c.text) {
			t.Errorf("%s %s: %d %s", c.path, c.body, r.Status, r.Text)
		}
	}
	f.Must(t, 204, "POST", "sys/auth/a/b", `{"type":"test","description":"d","config":{"default_lease_ttl":"1h","max_lease_ttl":"2h","listing_visibility":"unauth"}}`)
	for _, path := range []string{"a/b", "a", "a/b/c"} {
		if r := f.Must(t, 400, "POST", "sys/auth/"+path, `{"type":"test"}`); r.Errors() != "path is already in use at a/b/" {
			t.Error(r.Text)
		}
	}
	m := f.Must(t, 200, "GET", "sys/auth", "").Get("data", "a/b/").(map[string]any)
	if id := m["uuid"].(string); m["type"] != "test" || m["description"] != "d" || m["accessor"] != "auth_test_"+id[:8] || m["options"] != nil {
		t.Errorf("%v", m)
	}
	if r := f.Must(t, 200, "GET", "sys/auth/a/b", ""); r.Get("data", "type") != "test" || fmt.Sprint(r.Get("config", "token_type")) != "default-service" {
		t.Error(r.Text)
	}
	f.Must(t, 400, "GET", "sys/auth/x", "")
	if one, err := f.Client(t).Sys().GetAuth("a/b/"); err != nil || one.UUID != m["uuid"] || one.DeprecationStatus != "supported" {
		t.Errorf("%+v, %v", one, err)
	}
	if _, err := f.Client(t).Sys().GetAuth("x"); err == nil || !strings.Contains(err.Error(), "No auth engine at x/") {
		t.Error(err)
	}
	if r := f.Must(t, 200, "GET", "sys/internal/ui/mounts", "", "X-Vault-Token: "); fmt.Sprint(r.Get("data", "auth")) != "map[a/b/:map[description:d options:<nil> type:test]]" {
		t.Error(r.Text)
	}
	if r := f.Must(t, 200, "GET", "sys/internal/ui/mounts", ""); r.Get("data", "auth", "a/b/", "uuid") != m["uuid"] || r.Get("data", "auth", "token/") == nil {
		t.Error(r.Text)
	}

	// Both paths of tune, as clients use them.
	f.Must(t, 204, "POST", "sys/mounts/auth/a/b/tune", `{"description":"e"}`)
	f.Must(t, 204, "POST", "sys/auth/a/b/tune", `{"max_lease_ttl":"3h","token_type":"service"}`)
	r := f.Must(t, 200, "GET", "sys/auth/a/b/tune", "")
	if got := servertest.Say(r.Get("default_lease_ttl"), r.Get("max_lease_ttl"), r.Get("description"), r.Get("token_type")); got != "3600 10800 e service" {
		t.Error(got)
	}
	f.Must(t, 200, "GET", "sys/mounts/auth/token/tune", "")
	f.Must(t, 400, "POST", "sys/mounts/auth/token/tune", `{"max_lease_ttl":"3h"}`)
	f.Must(t, 400, "POST", "sys/auth/none/tune", `{}`)
	f.Must(t, 400, "GET", "sys/auth/none/tune", "")
	f.Must(t, 400, "POST", "sys/auth/a/b/tune", `{"token_type":"batch"}`)

	// A login, whose token cannot do more than its role says.
	if r := f.Must(t, 200, "POST", "auth/a/b/role", `{"token_policies":["app"],"policies":"old","token_max_ttl":"90m"}`); fmt.Sprint(r.Get("warnings")) !=
		"[Both 'token_policies' and deprecated 'policies' value supplied, ignoring the deprecated value]" {
		t.Error(r.Text)
	}
	r, token := f.Enter(t, "a/b", "bob")
	if got := servertest.Say(r.Get("auth", "policies"), r.Get("auth", "lease_duration"), r.Get("auth", "orphan"), r.Get("auth", "renewable"), r.Get("auth", "metadata"), r.Get("auth", "entity_id"), r.Get("mount_type")); got != "[app default] 3600 true true map[who:bob]  test" {
		t.Error(got)
	}
	r = f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(token))
	if got := servertest.Say(r.Get("data", "display_name"), r.Get("data", "path"), r.Get("data", "creation_ttl")); got != "a-b-bob auth/a/b/login 3600" {
		t.Error(got)
	}
	f.Must(t, 404, "GET", "auth/a/b/nothing", "")
	f.Must(t, 403, "GET", "auth/a/b/nothing", "", servertest.As(token))
	f.Must(t, 403, "POST", "auth/a/b/role", "{}", servertest.As(token))
	f.Must(t, 405, "DELETE", "auth/a/b/login", "")
	f.Must(t, 404, "POST", "auth/b/login", "{}")
	for body, text := range map[string]string{
		`{"token_type":"batch"}`:                       "batch tokens are not supported",
		`{"token_ttl":"2h"}`:                           "'token_ttl' cannot be greater than 'token_max_ttl'",
		`{"token_period":"-1"}`:                        "'token_period' cannot be negative",
		`{"token_num_uses":-1}`:                        "'token_num_uses' cannot be negative",
		`{"token_bound_cidrs":"10.0.0.0/33"}`:          "neither an IP address nor a range",
		`{"token_strictly_bind_ip":true}`:              "not supported",
		`{"token_policies":["app","root"],"ttl":"1h"}`: "",
	} {
		if r := f.Call(t, "POST", "auth/a/b/role", body); r.Status == 400 != (text != "") || !strings.Contains(r.Text, text) {
			t.Errorf("%s: %d %s", body, r.Status, r.Text)
		}
	}
	if r := f.Must(t, 400, "POST", "auth/a/b/login", `{"word":"right"}`); r.Errors() != "auth methods cannot create root tokens" {
		t.Error(r.Text)
	}
	f.Must(t, 204, "POST", "auth/a/b/role", `{"token_policies":[]}`)

	// Disabling it ends its tokens and those that were made with them, and deletes its data.
	f.Must(t, 204, "POST", "sys/policies/acl/default", `{"policy":"path \"auth/token/*\" { capabilities = [\"read\", \"update\"] }"}`)
	_, token = f.Enter(t, "a/b", "bob")
	child := f.Must(t, 200, "POST", "auth/token/create", "{}", servertest.As(token)).Get("auth", "client_token").(string)
	folder := f.Unsealed().Logins.Load().At("a/b").Prefix()
	if f.Below(t, folder) == 0 {
		t.Fatal("the test is of no use")
	}
	f.Must(t, 204, "DELETE", "sys/auth/a/b", "")
	for _, dead := range []string{token, child} {
		f.Must(t, 403, "GET", "auth/token/lookup-self", "", servertest.As(dead))
	}
	f.Must(t, 404, "POST", "auth/a/b/login", `{"name":"bob","word":"right"}`)
	f.Must(t, 204, "DELETE", "sys/auth/a/b", "")
	f.Must(t, 400, "DELETE", "sys/auth/token", "")
	servertest.Eventually(t, "the data of the method is gone", func() bool { return f.Below(t, folder) == 0 && f.Below(t, mount.PurgeFolder) == 0 })
	servertest.Eventually(t, "its tokens are gone", func() bool { return f.Below(t, "access/accessor") == 1 })
	f.Must(t, 204, "POST", "sys/auth/a/b", `{"type":"test"}`) // another of the same name
	f.Must(t, 403, "GET", "auth/token/lookup-self", "", servertest.As(token))
	if n := f.Below(t, "access/method"); n != 1 {
		t.Errorf("%d marks of methods", n)
	}
	_, token = f.Enter(t, "a/b", "bob")
	f.Keep.Seal()
	if err := f.Keep.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(token))
}

// A token is renewed by what its role and its method say at that time.
func TestLoginRenewal(t *testing.T) {
	f := withMethod(t)
	f.Must(t, 204, "POST", "sys/auth/t", `{"type":"test"}`)
	f.Must(t, 204, "POST", "auth/t/role", `{"token_ttl":"10m"}`)
	_, token := f.Enter(t, "t", "bob")
	renewed := func(want int) {
		t.Helper()
		if r := f.Must(t, 200, "POST", "auth/token/renew-self", "{}", servertest.As(token)); fmt.Sprint(r.Get("auth", "lease_duration")) != fmt.Sprint(want) {
			t.Errorf("want %d: %s", want, r.Text)
		}
	}
	renewed(600)
	f.Must(t, 204, "POST", "auth/t/role", `{"token_ttl":"20m","token_max_ttl":"1h"}`)
	f.Clock.Add(5 * time.Minute)
	renewed(1200)
	f.Clock.Add(19 * time.Minute)
	renewed(1200)
	f.Clock.Add(19 * time.Minute)
	f.Must(t, 204, "POST", "sys/auth/t/tune", `{"max_lease_ttl":"50m"}`)
	renewed(50*60 - 43*60)
	f.Must(t, 204, "POST", "auth/t/role", `{"token_period":"30m"}`)
	f.Clock.Add(5 * time.Minute)
	renewed(1800)
	if r := f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(token)); servertest.Say(r.Get("data", "period"), r.Get("data", "creation_ttl")) != "1800 600" {
		t.Error(r.Text)
	}
	f.Must(t, 204, "DELETE", "auth/t/role", "")
	if r := f.Must(t, 400, "POST", "auth/token/renew-self", "{}", servertest.As(token)); r.Errors() != "bob does not exist any more" {
		t.Error(r.Text)
	}
}

// A token with ranges of addresses works from these, and its children inherit them.
func TestBoundAddressesAreInheritedByOrphansToo(t *testing.T) {
	f := withMethod(t)
	f.Must(t, 204, "POST", "sys/auth/t", `{"type":"test"}`)
	f.Must(t, 204, "POST", "auth/t/role", `{"token_bound_cidrs":["10.1.0.0/16","2001:db8::/32","192.0.2.7"],"token_policies":["maker"]}`)
	if r := f.Must(t, 200, "GET", "auth/t/role", ""); fmt.Sprint(r.Get("data", "token_bound_cidrs")) != "[10.1.0.0/16 2001:db8::/32 192.0.2.7]" {
		t.Error(r.Text)
	}
	f.Policy(t, "maker", map[string]string{"auth/token/*": `"create", "update", "sudo", "read"`})
	f.Must(t, 403, "POST", "auth/t/login", `{"name":"bob","word":"right"}`, "RemoteAddr: 10.2.0.1:9")
	f.Must(t, 403, "POST", "auth/t/login", `{"name":"bob","word":"right"}`, "RemoteAddr: @")
	inside := "RemoteAddr: 10.1.2.3:9"
	_, token := f.Enter(t, "t", "bob", inside)
	make := func(path string) string {
		return f.Must(t, 200, "POST", "auth/token/"+path, "{}", servertest.As(token), inside).Get("auth", "client_token").(string)
	}
	f.Must(t, 204, "POST", "auth/token/roles/other", `{"token_bound_cidrs":"10.9.0.1"}`)
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
			f.Must(t, want, "GET", "auth/token/lookup-self", "", servertest.As(secret), "RemoteAddr: "+from)
		}
	}
	if r := f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(token), inside); fmt.Sprint(r.Get("data", "bound_cidrs")) != "[10.1.0.0/16 2001:db8::/32 192.0.2.7]" {
		t.Error(r.Text)
	}
	// Nobody makes a token that is good for more addresses than his own, whichever way.
	f.Must(t, 204, "POST", "auth/token/roles/free", `{}`)
	f.Must(t, 204, "POST", "auth/token/roles/orphans", `{"orphan":true}`)
	for path, body := range map[string]string{"create": `{"no_parent":true}`, "create-orphan": `{"period":"1h"}`, "create/free": `{}`, "create/orphans": `{}`} {
		secret := f.Must(t, 200, "POST", "auth/token/"+path, body, servertest.As(token), inside).Get("auth", "client_token").(string)
		f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(secret), inside)
		f.Must(t, 403, "GET", "auth/token/lookup-self", "", servertest.As(secret), "RemoteAddr: 10.2.0.1:9")
	}
	// Nor does a root token without an end lose those of its role.
	r := f.Must(t, 200, "POST", "auth/token/create/other", `{"policies":["root"]}`)
	f.Must(t, 200, "GET", "secret/config", "", servertest.As(r.Get("auth", "client_token").(string)), "RemoteAddr: 10.9.0.1:9")
	f.Must(t, 403, "GET", "secret/config", "", servertest.As(r.Get("auth", "client_token").(string)), inside)

	// A use from elsewhere does not count, nor one where no token is needed.
	f.Must(t, 204, "POST", "auth/t/role", `{"token_num_uses":2}`)
	_, token = f.Enter(t, "t", "bob", inside)
	f.Must(t, 403, "GET", "auth/token/lookup-self", "", servertest.As(token), "RemoteAddr: 10.2.0.1:9")
	f.Must(t, 200, "GET", "sys/internal/ui/mounts", "", servertest.As(token), inside)
	for _, status := range []int{200, 200, 403} {
		f.Must(t, status, "GET", "auth/token/lookup-self", "", servertest.As(token), inside)
	}
}
