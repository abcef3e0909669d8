package approle_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// withAppRole enables the method at auth/approle with a role "app".
func (f *fixture) withAppRole(t testing.TB, role string) (roleID string) {
	t.Helper()
	f.Must(t, 204, "POST", "sys/auth/approle", `{"type":"approle"}`)
	f.Must(t, 204, "POST", "auth/approle/role/app", role)
	return f.Must(t, 200, "GET", "auth/approle/role/app/role-id", "").Get("data", "role_id").(string)
}

func (f *fixture) secretID(t testing.TB, body string) servertest.Reply {
	t.Helper()
	return f.Must(t, 200, "POST", "auth/approle/role/app/secret-id", body)
}

// role logs in; the headers come from this test's own address.
func (f *fixture) appLogin(t testing.TB, roleID, secretID string, headers ...string) servertest.Reply {
	t.Helper()
	return f.Call(t, "POST", "auth/approle/login", fmt.Sprintf(`{"role_id":%q,"secret_id":%q}`, roleID, secretID), append(headers, "X-Vault-Token: ")...)
}

// Every call of the official client about AppRole.
func TestAppRoleByClient(t *testing.T) {
	f := fresh(t)
	c := f.Client(t)
	if err := c.Sys().EnableAuth("approle", "approle", "machines"); err != nil {
		t.Fatal(err)
	}
	write := func(path string, data map[string]any) map[string]any {
		t.Helper()
		s, err := c.Logical().Write("auth/approle/"+path, data)
		if err != nil {
			t.Fatal(err)
		}
		if s == nil {
			return nil
		}
		return s.Data
	}
	read := func(path, field string) any {
		t.Helper()
		s, err := c.Logical().Read("auth/approle/" + path)
		if err != nil || s == nil {
			t.Fatal(path, s, err)
		}
		return s.Data[field]
	}
	write("role/App", map[string]any{"token_policies": []string{"app"}, "token_ttl": "20m", "secret_id_ttl": "10m", "secret_id_num_uses": 40, "token_max_ttl": "1h"})
	if l, err := c.Logical().List("auth/approle/role"); err != nil || fmt.Sprint(l.Data["keys"]) != "[app]" {
		t.Errorf("%v %v", l, err)
	}
	id := read("role/app/role-id", "role_id").(string)
	made := write("role/app/secret-id", map[string]any{"metadata": `{"tag":"x"}`})
	secret, accessor := made["secret_id"].(string), made["secret_id_accessor"].(string)
	if servertest.Say(made["secret_id_ttl"], made["secret_id_num_uses"], len(secret)) != "600 40 36" {
		t.Errorf("%v", made)
	}
	in, err := c.Logical().Write("auth/approle/login", map[string]any{"role_id": id, "secret_id": secret})
	if err != nil {
		t.Fatal(err)
	}
	if got := servertest.Say(in.Auth.Policies, in.Auth.LeaseDuration, in.Auth.Metadata, in.Auth.Orphan, in.Auth.Renewable, in.Auth.TokenPolicies); got != "[app default] 1200 map[role_name:app tag:x] true true [app default]" {
		t.Error(got)
	}
	self := f.Client(t)
	self.SetToken(in.Auth.ClientToken)
	if seen, err := self.Auth().Token().LookupSelf(); err != nil || servertest.Say(seen.Data["display_name"], seen.Data["path"], seen.Data["meta"]) != "approle auth/approle/login map[role_name:app tag:x]" {
		t.Errorf("%+v %v", seen, err)
	}
	for _, body := range []map[string]any{{"secret_id": secret}, {"secret_id_accessor": accessor}} {
		path := "role/app/secret-id/lookup"
		if body["secret_id"] == nil {
			path = "role/app/secret-id-accessor/lookup"
		}
		if d := write(path, body); servertest.Say(d["secret_id_accessor"], d["secret_id_num_uses"], d["metadata"], d["secret_id_ttl"], d["cidr_list"]) != accessor+" 39 map[tag:x] 600 []" {
			t.Errorf("%v", d)
		}
	}
	if d := write("role/app/custom-secret-id", map[string]any{"secret_id": "mine", "num_uses": 1, "metadata": map[string]any{"a": 1}}); d["secret_id"] != "mine" || fmt.Sprint(d["secret_id_num_uses"]) != "1" {
		t.Errorf("%v", d)
	}
	if l, err := c.Logical().List("auth/approle/role/app/secret-id"); err != nil || len(l.Data["keys"].([]any)) != 2 {
		t.Errorf("%v %v", l, err)
	}
	write("role/app/secret-id/destroy", map[string]any{"secret_id": "mine"})
	write("role/app/secret-id-accessor/destroy", map[string]any{"secret_id_accessor": accessor})
	if l, err := c.Logical().List("auth/approle/role/app/secret-id"); err != nil || l != nil {
		t.Errorf("%v %v", l, err)
	}
	if d := write("role/app/secret-id/lookup", map[string]any{"secret_id": secret}); d != nil {
		t.Errorf("%v", d)
	}

	// Each part of a role by its own path: written, shown, reset.
	for path, c := range map[string]struct {
		field      string
		to         any
		shown, off string
	}{
		"policies":              {"token_policies", "a,b", "[a b]", "[]"},
		"bound-cidr-list":       {"bound_cidr_list", "10.0.0.0/8", "[10.0.0.0/8]", "<nil>"},
		"secret-id-bound-cidrs": {"secret_id_bound_cidrs", []string{"10.0.0.1/32"}, "[10.0.0.1/32]", "<nil>"},
		"token-bound-cidrs":     {"token_bound_cidrs", "10.0.0.1/32", "[10.0.0.1]", "[]"},
		"bind-secret-id":        {"bind_secret_id", true, "true", "true"},
		"secret-id-num-uses":    {"secret_id_num_uses", "7", "7", "0"},
		"secret-id-ttl":         {"secret_id_ttl", "1h", "3600", "0"},
		"period":                {"token_period", "1h", "3600", "0"},
		"token-num-uses":        {"token_num_uses", 3, "3", "0"},
		"token-ttl":             {"token_ttl", "5m", "300", "0"},
		"token-max-ttl":         {"token_max_ttl", 3000, "3000", "0"},
	} {
		write("role/app/"+path, map[string]any{c.field: c.to})
		f.Must(t, 400, "POST", "auth/approle/role/app/"+path, `{"`+c.field+`":null,"role_id":"not here"}`)
		if got := fmt.Sprint(read("role/app/"+path, c.field)); got != c.shown {
			t.Errorf("%s: %s", path, got)
		}
		f.Must(t, 204, "DELETE", "auth/approle/role/app/"+path, "")
		if got := fmt.Sprint(read("role/app/"+path, c.field)); got != c.off {
			t.Errorf("%s, when reset: %s", path, got)
		}
		f.Must(t, 400, "POST", "auth/approle/role/app/"+path, `{"x":1}`)
		f.Must(t, 404, "POST", "auth/approle/role/none/"+path, fmt.Sprintf(`{%q:""}`, c.field))
	}
	if read("role/app/role-id", "role_id") != id || read("role/app/local-secret-ids", "local_secret_ids") != false {
		t.Error("the role ID has changed")
	}
	write("role/app/role-id", map[string]any{"role_id": "chosen"})
	write("role/other", map[string]any{"bind_secret_id": false, "token_bound_cidrs": "127.0.0.0/8", "local_secret_ids": true})
	if _, err := c.Logical().Write("auth/approle/role/other/role-id", map[string]any{"role_id": "chosen"}); err == nil || !strings.Contains(err.Error(), "role_id already in use") {
		t.Error(err)
	}
	write("role/other/role-id", map[string]any{"role_id": id}) // is free now
	if in, err := c.Logical().Write("auth/approle/login", map[string]any{"role_id": id}); err != nil || in.Auth.Metadata["role_name"] != "other" {
		t.Errorf("%v %v", in, err)
	}
	if _, err := c.Logical().Delete("auth/approle/role/other"); err != nil {
		t.Fatal(err)
	}
	if s, err := c.Logical().Read("auth/approle/role/other"); err != nil || s != nil {
		t.Errorf("%v %v", s, err)
	}
	if s, err := c.Logical().Write("auth/approle/tidy/secret-id", nil); err != nil || len(s.Warnings) != 1 {
		t.Errorf("%v %v", s, err)
	}
}

func TestAppRoleMistakes(t *testing.T) {
	f := fresh(t)
	id := f.withAppRole(t, `{"secret_id_num_uses":5,"secret_id_ttl":"1h","secret_id_bound_cidrs":"10.0.0.0/8","token_bound_cidrs":"10.1.0.0/16"}`)
	secret := f.secretID(t, "{}").Get("data", "secret_id").(string)
	for _, c := range []struct {
		status             int
		method, path, body string
		text               string
	}{
		{400, "POST", "role/a", `{"bind_secret_id":false}`, "at least one constraint should be enabled on the role"},
		{400, "POST", "role/a", `{"secret_id_num_uses":-1}`, "secret_id_num_uses cannot be negative"},
		{400, "POST", "role/a", `{"secret_id_ttl":"-1s"}`, "secret_id_ttl cannot be negative"},
		{400, "POST", "role/a", `{"role_id":""}`, "invalid role_id"},
		{400, "POST", "role/a", `{"role_id":"` + strings.Repeat("a", 5000) + `"}`, "invalid role_id"},
		{400, "POST", "role/a", `{"secret_id_bound_cidrs":"x"}`, "neither an IP address nor a range"},
		{400, "POST", "role/a", `{"token_type":"batch"}`, "batch tokens are not supported"},
		{400, "POST", "role/a", `{"token_period":"800h"}`, "is greater than the backend's maximum lease TTL"},
		{200, "POST", "role/a", `{"token_max_ttl":"800h"}`, ""},
		{400, "POST", "role/a/b", `{}`, "the name of a role"},
		{400, "GET", "role/a/b", ``, "the name of a role"},
		{400, "POST", "role/app", `{"local_secret_ids":true}`, "local_secret_ids can only be modified during role creation"},
		{400, "POST", "role/app", `{"role_id":7`, "failed to parse JSON"},
		{404, "GET", "role/none", ``, ""},
		{404, "POST", "role/none/secret-id", `{}`, `role "none" does not exist`},
		{404, "LIST", "role/none/secret-id", ``, `role "none" does not exist`},
		{400, "POST", "role/app/secret-id", `{"num_uses":6}`, "num_uses cannot be higher than the role's secret_id_num_uses"},
		{400, "POST", "role/app/secret-id", `{"num_uses":0}`, "num_uses cannot be higher than the role's secret_id_num_uses"},
		{400, "POST", "role/app/secret-id", `{"num_uses":-1}`, "num_uses cannot be negative"},
		{400, "POST", "role/app/secret-id", `{"ttl":"2h"}`, "ttl cannot be longer than the role's secret_id_ttl"},
		{400, "POST", "role/app/secret-id", `{"ttl":0}`, "ttl cannot be longer than the role's secret_id_ttl"},
		{400, "POST", "role/app/secret-id", `{"cidr_list":"10.0.0.0/7"}`, "must be within the role's secret_id_bound_cidrs"},
		{400, "POST", "role/app/secret-id", `{"token_bound_cidrs":"10.2.0.0/16"}`, "must be within those of the role"},
		{400, "POST", "role/app/secret-id", `{"metadata":"x"}`, "failed to parse metadata"},
		{400, "POST", "role/app/secret-id", `{"metadata":"{"}`, "failed to parse metadata"},
		{400, "POST", "role/app/secret-id", `{"metadata":{"x":"` + strings.Repeat("a", 17<<10) + `"}}`, "the metadata of a secret ID"},
		{200, "POST", "role/app/secret-id", `{"metadata":"a=1, b=2"}`, ""},
		{400, "POST", "role/app/custom-secret-id", `{}`, "missing secret_id"},
		{400, "POST", "role/app/custom-secret-id", `{"secret_id":"` + secret + `"}`, "SecretID is already registered"},
		{400, "POST", "role/app/custom-secret-id", `{"secret_id":" x"}`, "no space at its ends"},
		{400, "POST", "role/app/secret-id/lookup", `{}`, "missing secret_id"},
		{400, "POST", "role/app/secret-id-accessor/lookup", `{"secret_id":"x"}`, "missing secret_id_accessor"},
		{404, "POST", "role/app/secret-id-accessor/lookup", `{"secret_id_accessor":"x"}`, `failed to find accessor entry for secret_id_accessor: "x"`},
		{404, "POST", "role/app/secret-id-accessor/destroy", `{"secret_id_accessor":"../x"}`, "failed to find accessor entry"},
		{204, "POST", "role/app/secret-id/destroy", `{"secret_id":"x"}`, ""},
		{204, "DELETE", "role/none", ``, ""},
		{400, "POST", "login", `{}`, "missing role_id"},
		{400, "POST", "login", `{"role_id":"x","secret_id":"` + secret + `"}`, "invalid role or secret ID"},
	} {
		if r := f.Call(t, c.method, "auth/approle/"+c.path, c.body); r.Status != c.status || c.text != "" && !strings.Contains(r.Errors(), c.text) {
			t.Errorf("%s %s %.80s: %d %s", c.method, c.path, c.body, r.Status, r.Text)
		}
	}
	for n, c := range []struct{ role, secret, from, text string }{
		{id, "x", "10.1.0.1:1", "invalid role or secret ID"},
		{id, "", "10.1.0.1:1", "missing secret_id"},
		{id, secret, "11.1.0.1:1", `source address "11.1.0.1" unauthorized by CIDR restrictions on the role`},
		{id, secret, "@", `unauthorized by CIDR restrictions on the role`},
	} {
		if r := f.appLogin(t, c.role, c.secret, "RemoteAddr: "+c.from); r.Status != 400 || !strings.Contains(r.Errors(), c.text) {
			t.Errorf("%d: %d %s", n, r.Status, r.Text)
		}
	}
	if r := f.appLogin(t, id, secret, "RemoteAddr: 10.2.0.1:1"); r.Status != 403 {
		t.Errorf("from where its token may not be used: %d %s", r.Status, r.Text)
	}
	f.Clock.Add(15 * time.Minute) // failures are forgotten
	// None of these took a use.
	if r := f.Must(t, 200, "POST", "auth/approle/role/app/secret-id/lookup", `{"secret_id":"`+secret+`"}`); fmt.Sprint(r.Get("data", "secret_id_num_uses")) != "5" {
		t.Error(r.Text)
	}
	own := f.secretID(t, `{"cidr_list":"10.1.1.0/24","token_bound_cidrs":"10.1.1.7"}`).Get("data", "secret_id").(string)
	if r := f.appLogin(t, id, own, "RemoteAddr: 10.1.2.1:1"); !strings.Contains(r.Errors(), "unauthorized through CIDR restrictions on the secret ID") {
		t.Error(r.Text)
	}
	if r := f.appLogin(t, id, own, "RemoteAddr: 10.1.1.8:1"); r.Status != 403 {
		t.Error(r.Text)
	}
	token := f.appLogin(t, id, own, "RemoteAddr: 10.1.1.7:1").Get("auth", "client_token").(string)
	f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(token), "RemoteAddr: 10.1.1.7:1")
	f.Must(t, 403, "GET", "auth/token/lookup-self", "", servertest.As(token), "RemoteAddr: 10.1.1.6:1")
	f.Must(t, 204, "POST", "auth/approle/role/app", `{"token_bound_cidrs":"10.1.2.0/24"}`)
	if r := f.appLogin(t, id, own, "RemoteAddr: 10.1.1.7:1"); r.Status != 400 {
		t.Errorf("outside what the role allows now: %d", r.Status)
	}
}

// A secret ID ends with its uses, also when many use it at once, at its second,
// and with its role, also when that is made again.
func TestSecretIDsEnd(t *testing.T) {
	f := fresh(t)
	id := f.withAppRole(t, `{"secret_id_ttl":"1h"}`)
	secret := f.secretID(t, `{"num_uses":10}`).Get("data", "secret_id").(string)
	var all sync.WaitGroup
	var in atomic.Int32
	for n := range 40 {
		all.Go(func() {
			if r := f.appLogin(t, id, secret, fmt.Sprintf("RemoteAddr: 10.0.0.%d:1", n)); r.Status == http.StatusOK {
				in.Add(1)
			}
		})
	}
	all.Wait()
	if in.Load() != 10 {
		t.Errorf("%d logins with ten uses", in.Load())
	}
	f.Must(t, 404, "LIST", "auth/approle/role/app/secret-id", "")

	f.Clock.Add(15 * time.Minute) // failures are forgotten
	secret = f.secretID(t, `{}`).Get("data", "secret_id").(string)
	token := f.appLogin(t, id, secret).Get("auth", "client_token").(string)
	f.Clock.Add(time.Hour - time.Second)
	if r := f.appLogin(t, id, secret); r.Status != 200 {
		t.Error(r.Text)
	}
	f.Clock.Add(time.Second)
	if r := f.appLogin(t, id, secret); r.Errors() != "invalid role or secret ID" {
		t.Error(r.Text)
	}
	other := f.secretID(t, `{"ttl":"30m"}`).Get("data", "secret_id").(string)
	f.Must(t, 202, "POST", "auth/approle/tidy/secret-id", "")
	servertest.Eventually(t, "what has ended is deleted", func() bool {
		return len(f.Must(t, 200, "LIST", "auth/approle/role/app/secret-id", "").Get("data", "keys").([]any)) == 1
	})

	f.Must(t, 204, "DELETE", "auth/approle/role/app", "")
	if r := f.Must(t, 400, "POST", "auth/token/renew-self", "{}", servertest.As(token)); r.Errors() != `role "app" does not exist during renewal` {
		t.Error(r.Text)
	}
	f.Must(t, 204, "POST", "auth/approle/role/app", `{"role_id":"`+id+`"}`)
	if r := f.appLogin(t, id, other); r.Errors() != "invalid role or secret ID" {
		t.Errorf("a secret ID of the role of before: %d %s", r.Status, r.Text)
	}
	folder := f.Unsealed().Logins.Load().At("approle").Prefix()
	servertest.Eventually(t, "the secret IDs of the role are deleted", func() bool {
		return f.Below(t, folder+"/secret") == 0 && f.Below(t, folder+"/accessor") == 0
	})
	if r := f.Must(t, 200, "POST", "auth/token/renew-self", "{}", servertest.As(token)); r.Get("auth", "client_token") != token {
		t.Error(r.Text)
	}
}

// Neither ID is in the store or the log, in any form that gives it away.
func TestAppRoleIDsAreNotStored(t *testing.T) {
	f := fresh(t)
	f.withAppRole(t, `{"role_id":"the-role-id-of-the-test"}`)
	secret := f.secretID(t, "{}").Get("data", "secret_id").(string)
	f.appLogin(t, "the-role-id-of-the-test", secret)
	f.appLogin(t, "the-role-id-of-the-test", secret+"x")
	u := f.Unsealed()
	folder := u.Logins.Load().At("approle").Prefix()
	var visit func(path string)
	n := 0
	visit = func(path string) {
		var names []string
		err := u.Store.View(t.Context(), func(tx *storage.Tx) (err error) {
			names, err = tx.List(path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if sub, ok := strings.CutSuffix(name, "/"); ok {
				visit(path + "/" + sub)
				continue
			}
			if n++; strings.Contains(name, secret) || strings.Contains(name, "the-role-id") {
				t.Errorf("%s/%s", path, name)
			}
			if err := u.Store.View(t.Context(), func(tx *storage.Tx) error {
				b, err := tx.Get(path + "/" + name)
				if bytes.Contains(b, []byte(secret)) {
					t.Errorf("%s/%s has a secret ID", path, name)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	visit(folder)
	if n != 5 { // key, role, role-id, secret, accessor
		t.Errorf("%d records", n)
	}
	if log := f.Log.String(); strings.Contains(log, secret) || strings.Contains(log, "the-role-id-of-the-test") {
		t.Error("an ID is in the log")
	}
	f.Must(t, 204, "DELETE", "sys/auth/approle", "")
	servertest.Eventually(t, "all of it is deleted", func() bool { return f.Below(t, folder) == 0 })
}
