package server

import (
	"context"
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
	"time"

	vault "github.com/hashicorp/vault/api"

	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/storage"
)

func TestMountsByClient(t *testing.T) {
	f := fresh(t)
	c := f.client(t)
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
	if tuned, err = c.Sys().MountConfig("v2"); err != nil || tuned.DefaultLeaseTTL != int(systemTTL) {
		t.Errorf("defaults: %+v, %v", tuned, err)
	}

	// All of it is there after a restart.
	f.Server.Seal()
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
	f.must(t, 204, "POST", "sys/mounts/a/b", `{"type":"kv-v2"}`)
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
		if r := f.call(t, "POST", "sys/mounts/"+path, `{"type":"kv"}`); r.status != 400 || !strings.Contains(r.errors(), want) {
			t.Errorf("%q: %d %s", path, r.status, r.text)
		}
	}
	f.must(t, 200, "POST", "sys/mounts/ab", `{"type":"kv"}`) // no conflict with a/b; 200 for the warning
	f.must(t, 204, "POST", "sys/mounts/secretive", `{"type":"kv","options":{"version":"2"}}`)
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
		if r := f.call(t, "POST", "sys/mounts/new", body); r.status != 400 || !strings.Contains(r.errors(), want) {
			t.Errorf("%s: %d %s", body, r.status, r.text)
		}
	}
	for version, want := range map[string]string{"1": "cannot downgrade mount from version 2", "3": "KV version 3 is not supported: there are the versions 1, 2"} {
		if r := f.call(t, "POST", "sys/mounts/secret/tune", `{"options":{"version":"`+version+`"}}`); r.status != 400 || r.errors() != want {
			t.Errorf("tuning to version %s: %d %s", version, r.status, r.text)
		}
	}
	f.must(t, 204, "POST", "sys/mounts/secret/tune", `{"options":{"version":"2"},"default_lease_ttl":"system"}`)
	f.must(t, 400, "POST", "sys/mounts/nowhere/tune", `{"description":"x"}`)
	f.must(t, 400, "GET", "sys/mounts/nowhere/tune", "")
	f.must(t, 400, "GET", "sys/mounts/nowhere", "")
	f.must(t, 200, "GET", "sys/mounts/sys", "")
	f.must(t, 200, "GET", "sys/mounts/sys/tune", "")
	f.must(t, 400, "DELETE", "sys/mounts/sys", "")
	f.must(t, 204, "DELETE", "sys/mounts/nowhere", "")
	f.must(t, 405, "LIST", "sys/mounts", "")
	if r := f.must(t, 200, "GET", "sys/mounts/", ""); r.get("secret/", "type") != "kv" || r.get("data", "a/b/", "type") != "kv" {
		t.Errorf("mounts: %s", r.text)
	}
}

func TestUIMounts(t *testing.T) {
	f := fresh(t)
	f.must(t, 204, "POST", "sys/mounts/shown", `{"type":"kv-v2","config":{"listing_visibility":"unauth"}}`)
	r := f.must(t, 200, "GET", "sys/internal/ui/mounts", "")
	if mounts := f.must(t, 200, "GET", "sys/mounts", ""); len(mounts.get("data").(map[string]any)) != 4 || !reflect.DeepEqual(r.get("data", "secret"), mounts.get("data")) {
		t.Errorf("with a token: %s, want %s", r.text, mounts.text)
	}
	if auth := f.must(t, 200, "GET", "sys/auth", ""); !reflect.DeepEqual(r.get("data", "auth"), auth.get("data")) {
		t.Errorf("with a token: %s, want %s", r.text, auth.text)
	}
	for _, token := range []string{"", "wrong"} {
		r = f.must(t, 200, "GET", "sys/internal/ui/mounts", "", "X-Vault-Token: "+token)
		if m := r.get("data", "secret").(map[string]any); len(m) != 1 || r.get("data", "secret", "shown/", "type") != "kv" || r.get("data", "secret", "shown/", "uuid") != nil {
			t.Errorf("token %q: %s", token, r.text)
		}
		if len(r.get("data", "auth").(map[string]any)) != 0 {
			t.Errorf("token %q: %s", token, r.text)
		}
		f.must(t, 403, "GET", "sys/internal/ui/mounts/secret", "", "X-Vault-Token: "+token)
	}
	for _, path := range []string{"secret", "secret/", "secret/data/a/b"} {
		r = f.must(t, 200, "GET", "sys/internal/ui/mounts/"+path, "")
		if r.get("data", "path") != "secret/" || r.get("data", "options", "version") != "2" || r.get("data", "type") != "kv" {
			t.Errorf("%s: %s", path, r.text)
		}
	}
	if r = f.must(t, 403, "GET", "sys/internal/ui/mounts/nowhere", ""); !strings.Contains(r.errors(), `preflight capability check returned 403, please ensure client's policies grant access to path "nowhere/"`) {
		t.Errorf("unknown mount: %s", r.text)
	}
}

func TestAuthMethods(t *testing.T) {
	f := fresh(t)
	list := func() *vault.AuthMount {
		t.Helper()
		m, err := f.client(t).Sys().ListAuth()
		if err != nil || len(m) != 1 || m["token/"] == nil {
			t.Fatalf("%v, %v", m, err)
		}
		return m["token/"]
	}
	m := list()
	if m.Type != "token" || m.Description != "token based credentials" || m.Config.TokenType != "default-service" || m.Accessor != "auth_token_"+m.UUID[:8] {
		t.Errorf("%+v", m)
	}
	if ok := regexp.MustCompile("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$").MatchString(m.UUID); !ok || m.UUID == f.keep.Load().fixed["sys/"].UUID {
		t.Errorf("UUID %q", m.UUID)
	}
	f.Server.Seal()
	if err := f.Server.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := list(); !reflect.DeepEqual(again, m) {
		t.Errorf("another one after a while sealed: %+v, %+v", again, m)
	}
	fields := func(r reply, name string) []string {
		return slices.Sorted(maps.Keys(r.get("data", name).(map[string]any)))
	}
	r := f.must(t, 200, "GET", "sys/auth", "")
	if want := fields(f.must(t, 200, "GET", "sys/mounts", ""), "secret/"); !slices.Equal(fields(r, "token/"), want) || !reflect.DeepEqual(r.get("token/"), r.get("data", "token/")) {
		t.Errorf("%s, want the fields %q", r.text, want)
	}
}

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// below counts the records in a folder of the store.
func below(t *testing.T, f *fixture, folder string) int {
	t.Helper()
	n := 0
	var walk func(tx *storage.Tx, folder string) error
	walk = func(tx *storage.Tx, folder string) error {
		names, err := tx.List(folder)
		if err != nil {
			return err
		}
		for _, name := range names {
			if sub, ok := strings.CutSuffix(name, "/"); ok {
				if err := walk(tx, folder+"/"+sub); err != nil {
					return err
				}
				continue
			}
			n++
		}
		return nil
	}
	if err := f.keep.Load().Store.View(context.Background(), func(tx *storage.Tx) error { return walk(tx, folder) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// fill writes secrets straight into a mount and returns its folder.
func fill(t *testing.T, f *fixture, path string, n int) string {
	t.Helper()
	k := f.keep.Load()
	m := k.Engines.Load().At(path)
	err := k.Store.Update(t.Context(), func(tx *storage.Tx) error {
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
	f.must(t, 204, "POST", "sys/mounts/old", `{"type":"kv-v2"}`)
	old, kept := fill(t, f, "old", 768), fill(t, f, "secret", 10)
	before := below(t, f, kept)
	f.must(t, 204, "DELETE", "sys/mounts/old", "")
	f.must(t, 404, "GET", "old/data/x", "")
	eventually(t, "the data of the mount is gone", func() bool { return below(t, f, old) == 0 })
	eventually(t, "the note is gone", func() bool { return below(t, f, mount.PurgeFolder) == 0 })
	if got := below(t, f, kept); got != before || before != 13 {
		t.Errorf("%d of %d records of another mount are left", got, before)
	}
}

// What was not deleted when the process ended is deleted by the next one.
func TestDisableSurvivesRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	a := newSeal("a", 1)
	f := start(t, path, a)
	f.init(t)
	f.must(t, 204, "POST", "sys/mounts/old", `{"type":"kv-v2"}`)
	old := fill(t, f, "old", 10)
	// As disable does, but nobody is told: the process ends before the purge.
	k := f.keep.Load()
	err := k.Change(t.Context(), &k.Engines, func(tx *storage.Tx, table *mount.Table) (*mount.Table, error) {
		return table.With("old", nil), tx.Put(mount.PurgeFolder+"/"+strings.TrimPrefix(old, "mount/"), []byte(`{"version":1}`))
	})
	if err != nil || below(t, f, old) == 0 {
		t.Fatalf("the test is of no use: %v", err)
	}
	f.stop(t)
	again := start(t, path, a.again())
	t.Cleanup(func() { again.stop(t); checkStore(t, path, a) })
	if err := again.Unseal(t.Context()); err != nil || again.Status().Sealed {
		t.Fatalf("%v %+v", err, again.Status())
	}
	eventually(t, "the data of the mount is gone", func() bool { return below(t, again, old) == 0 && below(t, again, mount.PurgeFolder) == 0 })
}

// A write that comes after the removal of its mount is refused, so that it
// leaves no record that nothing owns.
func TestWritesEndWithTheMount(t *testing.T) {
	f := fresh(t)
	f.must(t, 204, "POST", "sys/mounts/old", `{"type":"kv-v2"}`)
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
				r := f.call(t, "POST", fmt.Sprintf("old/data/w%d-%d", w, i), `{"data":{}}`)
				if r.status != 200 && (r.status != 404 || !strings.Contains(r.errors(), "no handler for route")) {
					t.Errorf("write: %d %s", r.status, r.text)
					return
				}
			}
		})
	}
	eventually(t, "writes are under way", func() bool { return below(t, f, prefix) > 50 })
	f.must(t, 204, "DELETE", "sys/mounts/old", "")
	eventually(t, "the note is gone", func() bool { return below(t, f, mount.PurgeFolder) == 0 })
	close(stop)
	wait.Wait()
	if n := below(t, f, prefix); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

func TestMountsAtOnce(t *testing.T) {
	f := fresh(t)
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() {
			if r := f.call(t, "POST", fmt.Sprintf("sys/mounts/m%d", i), `{"type":"kv-v2"}`); r.status != 204 {
				t.Errorf("m%d: %d %s", i, r.status, r.text)
			}
			if r := f.call(t, "POST", fmt.Sprintf("m%d/data/x", i), `{"data":{}}`); r.status != 200 {
				t.Errorf("m%d is not there after it was enabled: %d %s", i, r.status, r.text)
			}
		})
	}
	wait.Wait()
	f.Server.Seal()
	if err := f.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(f.must(t, 200, "GET", "sys/mounts", "").get("data").(map[string]any)); n != 23 {
		t.Errorf("%d mounts", n)
	}
}
