package sys_test

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	vault "github.com/hashicorp/vault/api"

	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
	"github.com/sealkeep/sealkeep/sys"
)

func TestMountsByClient(t *testing.T) {
	f := fresh(t)
	c := f.Client(t)
	mounts, err := c.Sys().ListMounts()
	if err != nil {
		t.Fatal(err)
	}
	secret := mounts["secret/"]
	if len(mounts) != 3 || mounts["cubbyhole/"] == nil || mounts["cubbyhole/"].Type != "cubbyhole" || !mounts["cubbyhole/"].Local || secret == nil || secret.Type != "kv" || secret.Options["version"] != "2" || secret.UUID == "" ||
		!strings.HasPrefix(secret.Accessor, "kv_") || mounts["sys/"] == nil || mounts["sys/"].Type != "system" {
		t.Fatalf("mounts: %+v", mounts)
	}
	err = c.Sys().Mount("team/a", &vault.MountInput{Type: "kv", Description: "of team a", Options: map[string]string{"version": "2"},
		Config: vault.MountConfigInput{DefaultLeaseTTL: "1h", MaxLeaseTTL: "86400", ListingVisibility: "unauth"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Sys().Mount("v2/", &vault.MountInput{Type: "kv-v2"}); err != nil {
		t.Fatal(err)
	}
	m, err := c.Sys().GetMount("team/a")
	if err != nil || m.Type != "kv" || m.Description != "of team a" || m.Config.DefaultLeaseTTL != 3600 || m.Config.MaxLeaseTTL != 86400 ||
		m.Config.ListingVisibility != "unauth" || m.Options["version"] != "2" {
		t.Fatalf("%+v, %v", m, err)
	}
	for _, path := range []string{"secret", "team/a", "v2"} {
		if _, err := c.KVv2(path).Put(t.Context(), "x/y", map[string]any{"at": path}); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"secret", "team/a", "v2"} {
		s, err := c.KVv2(path).Get(t.Context(), "x/y")
		if err != nil || s.Data["at"] != path {
			t.Errorf("%s: %+v, %v", path, s, err)
		}
	}
	if err := c.Sys().TuneMountAllowNil("team/a", vault.TuneMountConfigInput{MaxLeaseTTL: new("48h"), Description: new("tuned")}); err != nil {
		t.Fatal(err)
	}
	tuned, err := c.Sys().MountConfig("team/a")
	if err != nil || tuned.DefaultLeaseTTL != 3600 || tuned.MaxLeaseTTL != 48*3600 {
		t.Errorf("tuned: %+v, %v", tuned, err)
	}
	if m, err = c.Sys().GetMount("team/a"); err != nil || m.Description != "tuned" {
		t.Errorf("%+v, %v", m, err)
	}
	if tuned, err = c.Sys().MountConfig("v2"); err != nil || tuned.DefaultLeaseTTL != int(sys.SystemTTL) {
		t.Errorf("defaults: %+v, %v", tuned, err)
	}

	// All of it is there after a restart.
	f.Keep.Seal()
	if err := f.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m, err = c.Sys().GetMount("team/a"); err != nil || m.Description != "tuned" || m.Config.MaxLeaseTTL != 48*3600 {
		t.Errorf("after a restart: %+v, %v", m, err)
	}
	if s, err := c.KVv2("team/a").Get(t.Context(), "x/y"); err != nil || s.Data["at"] != "team/a" {
		t.Errorf("after a restart: %+v, %v", s, err)
	}

	if err := c.Sys().Unmount("team/a"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Sys().GetMount("team/a"); err == nil || !strings.Contains(err.Error(), "No secret engine mount at team/a/") {
		t.Errorf("a removed mount: %v", err)
	}
	if _, err := c.KVv2("team/a").Get(t.Context(), "x/y"); err == nil {
		t.Error("a removed mount still answers")
	}
	// The same path again is another mount.
	if err := c.Sys().Mount("team/a", &vault.MountInput{Type: "kv"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.KVv2("team/a").Get(t.Context(), "x/y"); !errors.Is(err, vault.ErrSecretNotFound) {
		t.Errorf("the new mount has the data of the old one: %v", err)
	}
}

func TestMountRules(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "POST", "sys/mounts/a/b", `{"type":"kv-v2"}`)
	for path, want := range map[string]string{
		"secret":                 "path is already in use at secret/",
		"secret/":                "path is already in use at secret/",
		"secret/inner":           "path is already in use at secret/",
		"a":                      "path is already in use at a/b/",
		"a/b/c":                  "path is already in use at a/b/",
		"sys":                    `cannot mount "sys/"`,
		"sys/x":                  `cannot mount "sys/x/"`,
		"auth/x":                 `cannot mount "auth/x/"`,
		"cubbyhole":              `cannot mount "cubbyhole/"`,
		"identity":               `cannot mount "identity/"`,
		"audit/x":                `cannot mount "audit/x/"`,
		"x /y":                   "spaces",
		" x":                     "spaces",
		"tune":                   `"tune"`,
		"a\x01":                  "non-printable",
		"a\xff":                  "non-printable",
		"1/2/3/4/5/6/7/8/9":      "8 segments",
		strings.Repeat("x", 513): "512 bytes",
		"x/../y":                 "segment",
		"x//y":                   "empty segment",
	} {
		if r := f.Call(t, "POST", "sys/mounts/"+path, `{"type":"kv"}`); r.Status != 400 || !strings.Contains(r.Errors(), want) {
			t.Errorf("%q: %d %s", path, r.Status, r.Text)
		}
	}
	f.Must(t, 200, "POST", "sys/mounts/ab", `{"type":"kv"}`) // no conflict with a/b; 200 for the warning
	f.Must(t, 204, "POST", "sys/mounts/secretive", `{"type":"kv","options":{"version":"2"}}`)
	for body, want := range map[string]string{
		``:               "type must be specified",
		`{"type":"pki"}`: "unknown backend type",
		`{"type":"kv","options":{"version":"0"}}`:                                "KV version 0 is not supported: there are the versions 1, 2",
		`{"type":"kv-v1","options":{"version":"2"}}`:                             "the type kv-v1 is not of version 2",
		`{"type":"kv-v3"}`:                                                       `unknown backend type: "kv-v3"; there is `,
		`{"type":"kv","options":{"version":"3"}}`:                                "version 3 is not supported",
		`{"type":"kv","options":{"path":"x"}}`:                                   "unknown option",
		`{"type":"kv","options":{"version":3}}`:                                  "version 3 is not supported",
		`{"type":"kv","options":"version=2"}`:                                    "options must be an object",
		`{"type":"kv-v2","options":{"version":"1"}}`:                             "the type kv-v2 is not of version 1",
		`{"type":"kv","seal_wrap":true}`:                                         "seal_wrap",
		`{"type":"kv","config":{"default_lease_ttl":"x"}}`:                       "not a duration",
		`{"type":"kv","config":{"default_lease_ttl":-1}}`:                        "negative",
		`{"type":"kv","config":{"default_lease_ttl":"2h","max_lease_ttl":"1h"}}`: "longer than",
		`{"type":"kv","config":{"listing_visibility":"all"}}`:                    "listing_visibility",
		`[]`: "failed to parse JSON input",
	} {
		if r := f.Call(t, "POST", "sys/mounts/new", body); r.Status != 400 || !strings.Contains(r.Errors(), want) {
			t.Errorf("%s: %d %s", body, r.Status, r.Text)
		}
	}
	for version, want := range map[string]string{"1": "cannot downgrade mount from version 2", "3": "KV version 3 is not supported: there are the versions 1, 2"} {
		if r := f.Call(t, "POST", "sys/mounts/secret/tune", `{"options":{"version":"`+version+`"}}`); r.Status != 400 || r.Errors() != want {
			t.Errorf("tuning to version %s: %d %s", version, r.Status, r.Text)
		}
	}
	f.Must(t, 204, "POST", "sys/mounts/secret/tune", `{"options":{"version":"2"},"default_lease_ttl":"system"}`)
	f.Must(t, 400, "POST", "sys/mounts/nowhere/tune", `{"description":"x"}`)
	f.Must(t, 400, "GET", "sys/mounts/nowhere/tune", "")
	f.Must(t, 400, "GET", "sys/mounts/nowhere", "")
	f.Must(t, 200, "GET", "sys/mounts/sys", "")
	f.Must(t, 200, "GET", "sys/mounts/sys/tune", "")
	f.Must(t, 400, "DELETE", "sys/mounts/sys", "")
	f.Must(t, 204, "DELETE", "sys/mounts/nowhere", "")
	f.Must(t, 405, "LIST", "sys/mounts", "")
	if r := f.Must(t, 200, "GET", "sys/mounts/", ""); r.Get("secret/", "type") != "kv" || r.Get("data", "a/b/", "type") != "kv" {
		t.Errorf("mounts: %s", r.Text)
	}
}

func TestUIMounts(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "POST", "sys/mounts/shown", `{"type":"kv-v2","config":{"listing_visibility":"unauth"}}`)
	r := f.Must(t, 200, "GET", "sys/internal/ui/mounts", "")
	if mounts := f.Must(t, 200, "GET", "sys/mounts", ""); len(mounts.Get("data").(map[string]any)) != 4 || !reflect.DeepEqual(r.Get("data", "secret"), mounts.Get("data")) {
		t.Errorf("with a token: %s, want %s", r.Text, mounts.Text)
	}
	if auth := f.Must(t, 200, "GET", "sys/auth", ""); !reflect.DeepEqual(r.Get("data", "auth"), auth.Get("data")) {
		t.Errorf("with a token: %s, want %s", r.Text, auth.Text)
	}
	for _, token := range []string{"", "wrong"} {
		r = f.Must(t, 200, "GET", "sys/internal/ui/mounts", "", "X-Vault-Token: "+token)
		if m := r.Get("data", "secret").(map[string]any); len(m) != 1 || r.Get("data", "secret", "shown/", "type") != "kv" || r.Get("data", "secret", "shown/", "uuid") != nil {
			t.Errorf("token %q: %s", token, r.Text)
		}
		if len(r.Get("data", "auth").(map[string]any)) != 0 {
			t.Errorf("token %q: %s", token, r.Text)
		}
		f.Must(t, 403, "GET", "sys/internal/ui/mounts/secret", "", "X-Vault-Token: "+token)
	}
	for _, path := range []string{"secret", "secret/", "secret/data/a/b"} {
		r = f.Must(t, 200, "GET", "sys/internal/ui/mounts/"+path, "")
		if r.Get("data", "path") != "secret/" || r.Get("data", "options", "version") != "2" || r.Get("data", "type") != "kv" {
			t.Errorf("%s: %s", path, r.Text)
		}
	}
	if r = f.Must(t, 403, "GET", "sys/internal/ui/mounts/nowhere", ""); !strings.Contains(r.Errors(), `preflight capability check returned 403, please ensure client's policies grant access to path "nowhere/"`) {
		t.Errorf("unknown mount: %s", r.Text)
	}
}

func TestAuthMethods(t *testing.T) {
	f := fresh(t)
	list := func() *vault.AuthMount {
		t.Helper()
		m, err := f.Client(t).Sys().ListAuth()
		if err != nil || len(m) != 1 || m["token/"] == nil {
			t.Fatalf("%v, %v", m, err)
		}
		return m["token/"]
	}
	m := list()
	if m.Type != "token" || m.Description != "token based credentials" || m.Config.TokenType != "default-service" || m.Accessor != "auth_token_"+m.UUID[:8] {
		t.Errorf("%+v", m)
	}
	if ok := regexp.MustCompile("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$").MatchString(m.UUID); !ok || m.UUID == f.Unsealed().Fixed("sys/").UUID {
		t.Errorf("UUID %q", m.UUID)
	}
	f.Keep.Seal()
	if err := f.Keep.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := list(); !reflect.DeepEqual(again, m) {
		t.Errorf("another one after a while sealed: %+v, %+v", again, m)
	}
	fields := func(r servertest.Reply, name string) []string {
		return slices.Sorted(maps.Keys(r.Get("data", name).(map[string]any)))
	}
	r := f.Must(t, 200, "GET", "sys/auth", "")
	if want := fields(f.Must(t, 200, "GET", "sys/mounts", ""), "secret/"); !slices.Equal(fields(r, "token/"), want) || !reflect.DeepEqual(r.Get("token/"), r.Get("data", "token/")) {
		t.Errorf("%s, want the fields %q", r.Text, want)
	}
}

// fill writes secrets straight into a mount and returns its folder.
func fill(t *testing.T, f *fixture, path string, n int) string {
	t.Helper()
	u := f.Unsealed()
	m := u.Engines.Load().At(path)
	err := u.Store.Update(t.Context(), func(tx *storage.Tx) error {
		for i := range n {
			if err := tx.Put(fmt.Sprintf("%s/s/%d/secret%d", m.Prefix(), i%3, i), []byte("x")); err != nil {
				return err
			}
			if err := tx.Put(fmt.Sprintf("%s/s/%d", m.Prefix(), i%3), []byte("x")); err != nil { // beside the folder
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m.Prefix()
}

func TestDisableDeletesTheData(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "POST", "sys/mounts/old", `{"type":"kv-v2"}`)
	old, kept := fill(t, f, "old", 768), fill(t, f, "secret", 10)
	before := f.Below(t, kept)
	f.Must(t, 204, "DELETE", "sys/mounts/old", "")
	f.Must(t, 404, "GET", "old/data/x", "")
	servertest.Eventually(t, "the data of the mount is gone", func() bool { return f.Below(t, old) == 0 })
	servertest.Eventually(t, "the note is gone", func() bool { return f.Below(t, mount.PurgeFolder) == 0 })
	if got := f.Below(t, kept); got != before || before != 13 {
		t.Errorf("%d of %d records of another mount are left", got, before)
	}
}

// What was not deleted when the process ended is deleted by the next one.
func TestDisableSurvivesRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	a := servertest.NewSeal("a", 1)
	f := start(t, path, a)
	f.Initialize(t)
	f.Must(t, 204, "POST", "sys/mounts/old", `{"type":"kv-v2"}`)
	old := fill(t, f, "old", 10)
	// As disable does, but nobody is told: the process ends before the purge.
	u := f.Unsealed()
	err := u.Change(t.Context(), &u.Engines, func(tx *storage.Tx, table *mount.Table) (*mount.Table, error) {
		return table.With("old", nil), tx.Put(mount.PurgeFolder+"/"+strings.TrimPrefix(old, "mount/"), []byte(`{"version":1}`))
	})
	if err != nil || f.Below(t, old) == 0 {
		t.Fatalf("the test is of no use: %v", err)
	}
	f.Stop(t)
	again := start(t, path, a.Again())
	t.Cleanup(func() { again.Stop(t); servertest.CheckStore(t, path, a) })
	if err := again.Unseal(t.Context()); err != nil || again.Status().Sealed {
		t.Fatalf("%v %+v", err, again.Status())
	}
	servertest.Eventually(t, "the data of the mount is gone", func() bool { return again.Below(t, old) == 0 && again.Below(t, mount.PurgeFolder) == 0 })
}

// A write that comes after the removal of its mount is refused, so that it
// leaves no record that nothing owns.
func TestWritesEndWithTheMount(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "POST", "sys/mounts/old", `{"type":"kv-v2"}`)
	prefix := fill(t, f, "old", 1)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for w := range 4 {
		wait.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				r := f.Call(t, "POST", fmt.Sprintf("old/data/w%d-%d", w, i), `{"data":{}}`)
				if r.Status != 200 && (r.Status != 404 || !strings.Contains(r.Errors(), "no handler for route")) {
					t.Errorf("write: %d %s", r.Status, r.Text)
					return
				}
			}
		})
	}
	servertest.Eventually(t, "writes are under way", func() bool { return f.Below(t, prefix) > 50 })
	f.Must(t, 204, "DELETE", "sys/mounts/old", "")
	servertest.Eventually(t, "the note is gone", func() bool { return f.Below(t, mount.PurgeFolder) == 0 })
	close(stop)
	wait.Wait()
	if n := f.Below(t, prefix); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

func TestMountsAtOnce(t *testing.T) {
	f := fresh(t)
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() {
			if r := f.Call(t, "POST", fmt.Sprintf("sys/mounts/m%d", i), `{"type":"kv-v2"}`); r.Status != 204 {
				t.Errorf("m%d: %d %s", i, r.Status, r.Text)
			}
			if r := f.Call(t, "POST", fmt.Sprintf("m%d/data/x", i), `{"data":{}}`); r.Status != 200 {
				t.Errorf("m%d is not there after it was enabled: %d %s", i, r.Status, r.Text)
			}
		})
	}
	wait.Wait()
	f.Keep.Seal()
	if err := f.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(f.Must(t, 200, "GET", "sys/mounts", "").Get("data").(map[string]any)); n != 23 {
		t.Errorf("%d mounts", n)
	}
}
