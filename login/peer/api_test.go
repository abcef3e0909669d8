package peer_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	vault "github.com/hashicorp/vault/api"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
)

// overSocket serves the keep on a unix socket and returns its official client.
func (f *fixture) overSocket(t testing.TB) *vault.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keep.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	web := f.HTTPServer(server.Listener{})
	go server.Serve(web, l, nil)
	t.Cleanup(func() { web.Close() })
	config := vault.DefaultConfig()
	config.Address, config.MaxRetries = "unix://"+path, 0
	c, err := vault.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	c.ClearNamespace()
	return c
}

func TestLoginPeer(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "POST", "sys/auth/peer", `{"type":"peer"}`)
	for body, text := range map[string]string{
		`{}`:                                          "at least one of",
		`{"bound_uids":"root"}`:                       "not the number of a user",
		`{"bound_uids":-1}`:                           "not the number of a user",
		`{"bound_gids":[4294967296]}`:                 "not the number of a user",
		`{"bound_uids":[1,65534]}`:                    "65534 cannot be bound",
		`{"bound_gids":4294967295}`:                   "4294967295 cannot be bound",
		`{"bound_uids":1,"token_bound_cidrs":"::1"}`:  "has no address",
		`{"bound_uids":"0, 7","bound_gids":["5",6]}`:  "",
		`{"bound_gids":5,"token_num_uses":-1}`:        "cannot be negative",
		`{"bound_gids":5,"bound_uids":null}`:          "",
		`{"bound_gids":5,"token_policies":["a","b"]}`: "",
	} {
		f.Must(t, 204, "DELETE", "auth/peer/role/x", "")
		if r := f.Call(t, "POST", "auth/peer/role/x", body); r.Status == 400 != (text != "") || !strings.Contains(r.Text, text) {
			t.Errorf("%s: %d %s", body, r.Status, r.Text)
		}
	}
	uid, gid := os.Geteuid(), os.Getegid()
	role := func(name string, uids, gids []int) {
		t.Helper()
		f.Must(t, 204, "POST", "auth/peer/role/"+name, servertest.JSONText(map[string]any{"bound_uids": uids, "bound_gids": gids, "token_policies": "app", "token_ttl": "10m"}))
	}
	role("User", []int{1, uid}, nil)
	role("group", nil, []int{gid})
	role("both", []int{uid}, []int{gid})
	role("other-user", []int{uid + 1}, nil)
	role("other-group", []int{uid}, []int{gid + 1})
	if r := f.Must(t, 200, "GET", "auth/peer/role/user", ""); servertest.Say(r.Get("data", "bound_uids"), r.Get("data", "bound_gids"), r.Get("data", "token_policies")) != fmt.Sprintf("[1 %d] [] [app]", uid) {
		t.Error(r.Text)
	}
	c := f.overSocket(t)
	login := func(role, want string) *vault.Secret {
		t.Helper()
		secret, err := c.Logical().Write("auth/peer/login", map[string]any{"role": role})
		if err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: want %q: %v", role, want, err)
		}
		return secret
	}
	for _, name := range []string{"USER", "group", "both"} {
		secret := login(name, "")
		if got := servertest.Say(secret.Auth.Policies, secret.Auth.LeaseDuration, secret.Auth.Metadata); got != fmt.Sprintf("[app default] 600 map[gid:%d role:%s uid:%d]", gid, strings.ToLower(name), uid) {
			t.Error(got)
		}
		if r := f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(secret.Auth.ClientToken)); r.Get("data", "display_name") != fmt.Sprint("peer-uid-", uid) {
			t.Error(r.Text)
		}
		f.Must(t, 200, "POST", "auth/token/renew-self", "{}", servertest.As(secret.Auth.ClientToken))
	}
	login("other-user", fmt.Sprintf("is not for uid %d, gid %d", uid, gid))
	login("other-group", "permission denied")
	login("nobody", "could not be found")
	login("", "missing role")
	c.AddHeader("X-Forwarded-For", "10.0.0.1") // says nothing here
	login("user", "")

	token := login("user", "").Auth.ClientToken
	f.Must(t, 204, "DELETE", "auth/peer/role/user", "")
	f.Must(t, 400, "POST", "auth/token/renew-self", "{}", servertest.As(token))

	// Who comes otherwise has no credentials, whatever is said.
	if r := f.Must(t, 400, "POST", "auth/peer/login", `{"role":"group","uid":0}`); !strings.Contains(r.Errors(), "unix socket") {
		t.Error(r.Text)
	}
}
