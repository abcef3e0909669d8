package sys_test

import (
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/storage"
	"github.com/sealkeep/sealkeep/sys"
)

// A mount that moves keeps what is in it, its settings and its tokens.
func TestRemount(t *testing.T) {
	f := fresh(t)
	c := f.Client(t)
	f.Must(t, 204, "POST", "sys/mounts/a", `{"type":"kv-v2","description":"d"}`)
	f.Must(t, 200, "POST", "a/data/x", `{"data":{"k":"v"}}`)
	f.Must(t, 204, "POST", "sys/auth/userpass", `{"type":"userpass"}`)
	f.Must(t, 204, "POST", "auth/userpass/users/bob", `{"password":"correct horse"}`)
	token := f.Must(t, 200, "POST", "auth/userpass/login/bob", `{"password":"correct horse"}`).Get("auth", "client_token").(string)

	at := "a"
	before, err := c.Sys().GetMount(at)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"b", "b/c", "a"} { // inside and around where it was, too
		if err := c.Sys().Remount(at+"/", path+"/"); err != nil {
			t.Fatal(err)
		}
		after, err := c.Sys().GetMount(path)
		if err != nil || after.UUID != before.UUID || after.Accessor != before.Accessor || after.Description != "d" {
			t.Fatalf("%+v, %v", after, err)
		}
		if r := f.Must(t, 200, "GET", path+"/data/x", ""); r.Get("data", "data", "k") != "v" {
			t.Error(r.Text)
		}
		f.Must(t, 404, "GET", at+"/data/x", "")
		at = path
	}
	if err := c.Sys().Remount("auth/userpass", "auth/people"); err != nil {
		t.Fatal(err)
	}
	f.Must(t, 200, "POST", "auth/people/login/bob", `{"password":"correct horse"}`, "X-Vault-Token: ")
	f.Must(t, 200, "POST", "auth/token/renew-self", "{}", "X-Vault-Token: "+token)

	f.Must(t, 204, "POST", "sys/mounts/other", `{"type":"kv-v2"}`)
	for _, c := range []struct{ from, to, text string }{
		{"", "x", "both 'from' and 'to'"},
		{"a", "", "both 'from' and 'to'"},
		{"nowhere", "x", `no matching mount at "nowhere/"`},
		{"a", "other", "path is already in use at other/"},
		{"a", "other/in", "path is already in use at other/"},
		{"a", "sys/x", `cannot remount to destination "sys/x/"`},
		{"a", "auth/x", `cannot remount to destination "auth/x/"`},
		{"sys", "x", `cannot remount "sys/"`},
		{"sys", "cubbyhole", `cannot remount "sys/"`},
		{"cubbyhole", "x", `cannot remount "cubbyhole/"`},
		{"auth/people", "x", `cannot remount auth mount to non-auth mount "x/"`},
		{"auth/token", "auth/x", `cannot remount "token/"`},
		{"auth/people", "auth/token", `cannot remount to destination "token/"`},
		{"a", "b//c", "empty segment"},
		{"a", "b/../c", `the segment ".."`},
		{"a", "b\\u0000", "non-printable"},
		{"a", "b/tune", `the segment "tune"`},
		{"a", strings.Repeat("x", 600), "512 bytes"},
	} {
		if r := f.Call(t, "POST", "sys/remount", `{"from":"`+c.from+`","to":"`+c.to+`"}`); r.Status != 400 || !strings.Contains(r.Errors(), c.text) {
			t.Errorf("from %q to %q: %d %s", c.from, c.to, r.Status, r.Text)
		}
	}
	f.Must(t, 404, "GET", "sys/remount/status/"+storage.NewUUID(), "")

	// As long as somebody may ask, and no longer.
	first := f.Must(t, 200, "POST", "sys/remount", `{"from":"a","to":"m0"}`).Get("data", "migration_id").(string)
	if r := f.Must(t, 200, "GET", "sys/remount/status/"+first, ""); r.Get("data", "migration_info", "source_mount") != "a/" || r.Get("data", "migration_info", "target_mount") != "m0/" {
		t.Error(r.Text)
	}
	for range sys.MaxMoves / 2 {
		for _, way := range [][2]string{{"m0", "m1"}, {"m1", "m0"}} {
			f.Must(t, 200, "POST", "sys/remount", `{"from":"`+way[0]+`","to":"`+way[1]+`"}`)
		}
	}
	f.Must(t, 404, "GET", "sys/remount/status/"+first, "")

	// In the store, too.
	f.Keep.Seal()
	if err := f.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := f.Must(t, 200, "GET", "m0/data/x", ""); r.Get("data", "data", "k") != "v" {
		t.Error(r.Text)
	}
}
