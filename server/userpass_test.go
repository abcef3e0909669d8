package server

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func (f *fixture) userLogin(t testing.TB, name, password string, headers ...string) reply {
	t.Helper()
	return f.call(t, "POST", "auth/userpass/login/"+name, fmt.Sprintf(`{"password":%q}`, password), append(headers, "X-Vault-Token: ")...)
}

func TestUserPass(t *testing.T) {
	f := fresh(t)
	f.must(t, 204, "POST", "sys/auth/userpass", `{"type":"userpass"}`)
	users := "auth/userpass/users/"
	f.must(t, 404, "LIST", "auth/userpass/users", "")
	f.must(t, 204, "POST", users+"Bob", `{"password":"correct horse","token_policies":"app","ttl":"10m"}`)
	if r := f.must(t, 200, "LIST", "auth/userpass/users", ""); fmt.Sprint(r.get("data", "keys")) != "[bob]" {
		t.Error(r.text)
	}
	r := f.must(t, 200, "GET", users+"BOB", "")
	if say(r.get("data", "token_policies"), r.get("data", "token_ttl"), r.get("data", "password")) != "[app] 600 <nil>" || strings.Contains(r.text, "argon") {
		t.Error(r.text)
	}
	r = f.userLogin(t, "bOb", "correct horse")
	if got := say(r.get("auth", "policies"), r.get("auth", "lease_duration"), r.get("auth", "metadata")); got != "[app default] 600 map[username:bob]" {
		t.Fatal(r.text)
	}
	token := r.get("auth", "client_token").(string)
	if r := f.must(t, 200, "GET", "auth/token/lookup-self", "", as(token)); say(r.get("data", "display_name"), r.get("data", "path")) != "userpass-bob auth/userpass/login/bob" {
		t.Error(r.text)
	}
	for n, c := range []struct {
		status             int
		method, path, body string
		text               string
	}{
		{400, "POST", "login/bob", `{"password":"Correct horse"}`, "invalid username or password"},
		{400, "POST", "login/eve", `{"password":"correct horse"}`, "invalid username or password"},
		{400, "POST", "login/e/ve", `{"password":"correct horse"}`, "invalid username or password"},
		{400, "POST", "login/bob", `{"password":"` + strings.Repeat("a", 5000) + `"}`, "invalid username or password"},
		{400, "POST", "login/bob", `{}`, "missing password"},
		{400, "POST", "users/eve", `{}`, "missing password"},
		{400, "POST", "users/e/ve", `{"password":"x"}`, "the name of a user"},
		{400, "POST", "users/eve", `{"password_hash":"$2a$10$x"}`, "password_hash is not supported"},
		{400, "POST", "users/eve", `{"password":"` + strings.Repeat("a", 5000) + `"}`, "a password has at most 4096 bytes"},
		{400, "POST", "users/eve", `{"password":"x\n"}`, "the password ends in a line break"},
		{400, "POST", "users/eve", `{"password":"x","token_type":"batch"}`, "batch tokens are not supported"},
		{404, "GET", "users/eve", ``, ""},
		{404, "POST", "users/eve/password", `{"password":"x"}`, `user "eve" does not exist`},
		{404, "POST", "users/eve/policies", `{"policies":"x"}`, `user "eve" does not exist`},
		{400, "POST", "users/bob/password", `{}`, "missing password"},
		{400, "POST", "users/bob/policies", `{}`, "missing token_policies"},
		{204, "DELETE", "users/eve", ``, ""},
	} {
		if r := f.call(t, c.method, "auth/userpass/"+c.path, c.body); r.status != c.status || c.text != "" && r.errors() != c.text && !strings.Contains(r.errors(), c.text) {
			t.Errorf("%d: %s %s: %d %s", n, c.method, c.path, r.status, r.text)
		}
	}
	f.slowdown = newSlowdown()

	f.must(t, 204, "POST", users+"bob", `{"token_max_ttl":"1h"}`) // keeps the password
	f.must(t, 200, "POST", "auth/token/renew-self", "{}", as(token))
	f.must(t, 204, "POST", users+"bob/password", `{"password":"battery staple"}`)
	if r := f.userLogin(t, "bob", "correct horse"); r.status != 400 {
		t.Errorf("the old password: %d", r.status)
	}
	if r := f.userLogin(t, "bob", "battery staple"); r.status != 200 {
		t.Error(r.text)
	}
	f.must(t, 204, "POST", users+"bob/policies", `{"policies":["app","more"]}`)
	if r := f.must(t, 400, "POST", "auth/token/renew-self", "{}", as(token)); r.errors() != "policies have changed, not renewing" {
		t.Error(r.text)
	}
	f.must(t, 204, "POST", users+"bob/policies", `{"token_policies":"App"}`)
	f.must(t, 200, "POST", "auth/token/renew-self", "{}", as(token))
	f.must(t, 204, "DELETE", users+"bob", "")
	f.must(t, 400, "POST", "auth/token/renew-self", "{}", as(token))
	if r := f.userLogin(t, "bob", "battery staple"); r.status != 400 {
		t.Errorf("a user that is gone: %d", r.status)
	}
	for _, word := range []string{"correct horse", "battery staple"} {
		if strings.Contains(f.log.String(), word) {
			t.Error("a password is in the log")
		}
	}
}

// Many passwords at once wait for their turn, and all get it.
func TestPasswordsAtOnce(t *testing.T) {
	f := fresh(t)
	f.must(t, 204, "POST", "sys/auth/userpass", `{"type":"userpass"}`)
	f.must(t, 204, "POST", "auth/userpass/users/bob", `{"password":"right"}`)
	var all sync.WaitGroup
	for n := range 10 {
		all.Go(func() {
			if r := f.userLogin(t, "bob", "right", fmt.Sprintf("RemoteAddr: 10.0.0.%d:1", n)); r.status != 200 {
				t.Errorf("%d %s", r.status, r.text)
			}
		})
	}
	all.Wait()
}
