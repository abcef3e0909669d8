package userpass_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sealkeep/sealkeep/servertest"
)

func (f *fixture) userLogin(t testing.TB, name, password string, headers ...string) servertest.Reply {
	t.Helper()
	return f.Call(t, "POST", "auth/userpass/login/"+name, fmt.Sprintf(`{"password":%q}`, password), append(headers, "X-Vault-Token: ")...)
}

func TestUserPass(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "POST", "sys/auth/userpass", `{"type":"userpass"}`)
	users := "auth/userpass/users/"
	f.Must(t, 404, "LIST", "auth/userpass/users", "")
	f.Must(t, 204, "POST", users+"Bob", `{"password":"correct horse","token_policies":"app","ttl":"10m"}`)
	if r := f.Must(t, 200, "LIST", "auth/userpass/users", ""); fmt.Sprint(r.Get("data", "keys")) != "[bob]" {
		t.Error(r.Text)
	}
	r := f.Must(t, 200, "GET", users+"BOB", "")
	if servertest.Say(r.Get("data", "token_policies"), r.Get("data", "token_ttl"), r.Get("data", "password")) != "[app] 600 <nil>" || strings.Contains(r.Text, "argon") {
		t.Error(r.Text)
	}
	r = f.userLogin(t, "bOb", "correct horse")
	if got := servertest.Say(r.Get("auth", "policies"), r.Get("auth", "lease_duration"), r.Get("auth", "metadata")); got != "[app default] 600 map[username:bob]" {
		t.Fatal(r.Text)
	}
	token := r.Get("auth", "client_token").(string)
	if r := f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(token)); servertest.Say(r.Get("data", "display_name"), r.Get("data", "path")) != "userpass-bob auth/userpass/login/bob" {
		t.Error(r.Text)
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
		if r := f.Call(t, c.method, "auth/userpass/"+c.path, c.body, "RemoteAddr: 192.0.2.200:1"); r.Status != c.status || c.text != "" && r.Errors() != c.text && !strings.Contains(r.Errors(), c.text) {
			t.Errorf("%d: %s %s: %d %s", n, c.method, c.path, r.Status, r.Text)
		}
	}

	f.Must(t, 204, "POST", users+"bob", `{"token_max_ttl":"1h"}`) // keeps the password
	f.Must(t, 200, "POST", "auth/token/renew-self", "{}", servertest.As(token))
	f.Must(t, 204, "POST", users+"bob/password", `{"password":"battery staple"}`)
	if r := f.userLogin(t, "bob", "correct horse"); r.Status != 400 {
		t.Errorf("the old password: %d", r.Status)
	}
	if r := f.userLogin(t, "bob", "battery staple"); r.Status != 200 {
		t.Error(r.Text)
	}
	f.Must(t, 204, "POST", users+"bob/policies", `{"policies":["app","more"]}`)
	if r := f.Must(t, 400, "POST", "auth/token/renew-self", "{}", servertest.As(token)); r.Errors() != "policies have changed, not renewing" {
		t.Error(r.Text)
	}
	f.Must(t, 204, "POST", users+"bob/policies", `{"token_policies":"App"}`)
	f.Must(t, 200, "POST", "auth/token/renew-self", "{}", servertest.As(token))
	f.Must(t, 204, "DELETE", users+"bob", "")
	f.Must(t, 400, "POST", "auth/token/renew-self", "{}", servertest.As(token))
	if r := f.userLogin(t, "bob", "battery staple"); r.Status != 400 {
		t.Errorf("a user that is gone: %d", r.Status)
	}
	for _, word := range []string{"correct horse", "battery staple"} {
		if strings.Contains(f.Log.String(), word) {
			t.Error("a password is in the log")
		}
	}
}

// Many passwords at once wait for their turn, and all get it.
func TestPasswordsAtOnce(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "POST", "sys/auth/userpass", `{"type":"userpass"}`)
	f.Must(t, 204, "POST", "auth/userpass/users/bob", `{"password":"right"}`)
	var all sync.WaitGroup
	for n := range 10 {
		all.Go(func() {
			if r := f.userLogin(t, "bob", "right", fmt.Sprintf("RemoteAddr: 10.0.0.%d:1", n)); r.Status != 200 {
				t.Errorf("%d %s", r.Status, r.Text)
			}
		})
	}
	all.Wait()
}
