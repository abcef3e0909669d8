package kvv1_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	vault "github.com/hashicorp/vault/api"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// mountV1 mounts KV version 1 at kv/.
func (f *fixture) mountV1(t testing.TB) {
	t.Helper()
	f.Must(t, 204, "POST", "sys/mounts/kv", `{"type":"kv","options":{"version":"1"}}`)
}

func TestKVv1ByClient(t *testing.T) {
	f := fresh(t)
	c := f.Client(t)
	ctx := t.Context()
	if err := c.Sys().Mount("kv", &vault.MountInput{Type: "kv-v1"}); err != nil {
		t.Fatal(err)
	}
	kv := c.KVv1("kv")
	var calls []string
	for m := range reflect.TypeOf(kv).Methods() {
		calls = append(calls, m.Name)
	}
	if got, want := strings.Join(calls, " "), "Delete Get Put"; got != want {
		t.Errorf("the client has the calls %s, not %s: call them too", got, want)
	}
	if _, err := kv.Get(ctx, "app/db"); !errors.Is(err, vault.ErrSecretNotFound) {
		t.Fatalf("an absent secret: %v", err)
	}
	if err := kv.Put(ctx, "app/db", map[string]any{"user": "u", "ttl": "1h"}); err != nil {
		t.Fatal(err)
	}
	s, err := kv.Get(ctx, "app/db")
	if want := (map[string]any{"user": "u", "ttl": "1h"}); err != nil || !reflect.DeepEqual(s.Data, want) || s.Raw.LeaseDuration != 3600 || s.Raw.Renewable || s.Raw.LeaseID != "" {
		t.Fatalf("%+v, %+v, %v", s, s.Raw, err)
	}
	if err := kv.Put(ctx, "app/db", map[string]any{"n": 1}); err != nil {
		t.Fatal(err)
	}
	if s, err := kv.Get(ctx, "app/db"); err != nil || fmt.Sprint(s.Data) != "map[n:1]" || s.Raw.LeaseDuration != 2764800 {
		t.Errorf("%+v, %v", s, err)
	}
	list, err := c.Logical().List("kv")
	if err != nil || fmt.Sprint(list.Data["keys"]) != "[app/]" {
		t.Errorf("%+v, %v", list, err)
	}
	if mount, err := c.Sys().GetMount("kv"); err != nil || mount.Type != "kv" || mount.Options["version"] != "1" || len(mount.Options) != 1 {
		t.Errorf("%+v, %v", mount, err)
	}
	if err := kv.Delete(ctx, "app/db"); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Get(ctx, "app/db"); !errors.Is(err, vault.ErrSecretNotFound) {
		t.Errorf("a deleted secret: %v", err)
	}
}

func TestKVv1(t *testing.T) {
	f := fresh(t)
	f.mountV1(t)
	const absent = `{"errors":[]}`
	for _, c := range [][2]string{{"GET", "kv/a"}, {"GET", "kv"}, {"GET", "kv/"}, {"LIST", "kv"}, {"LIST", "kv/a"}, {"GET", "kv/a?list=true"}} {
		if r := f.Must(t, 404, c[0], c[1], ""); r.Text != absent {
			t.Errorf("%s %s: %s", c[0], c[1], r.Text)
		}
	}
	f.Must(t, 204, "DELETE", "kv/a", "")
	for path, refused := range map[string]map[string]string{
		"kv/a":  {"": "missing data fields", "{}": "missing data fields", "null": "missing data fields", "[]": "failed to parse JSON input", "{": "failed to parse JSON input", "{\"a\":\"\xff\"}": "not valid UTF-8"},
		"kv":    {`{"a":1}`: "missing path", "": "missing path"},
		"kv/":   {`{"a":1}`: "missing path"},
		"kv/a/": {`{"a":1}`: "cannot write to a path ending in '/'"},
	} {
		for body, want := range refused {
			if r := f.Must(t, 400, "PUT", path, body); !strings.Contains(r.Errors(), want) {
				t.Errorf("%s %s: %s", path, body, r.Text)
			}
		}
	}
	f.Must(t, 405, "PATCH", "kv/a", `{"a":1}`, "Content-Type: application/merge-patch+json")

	for path, body := range map[string]string{"a": `{"n": 12345678901234567890, "f":1.50, "s":"<&>", "s":"<last>"}`, "a/b": `{"x":{"y":[1,null]}}`, "data/z": `{"data":{}}`, "config": `{"max_versions":"x"}`} {
		if r := f.Must(t, 204, "POST", "kv/"+path, body); r.Text != "" {
			t.Errorf("a write is answered with %s", r.Text)
		}
	}
	r := f.Must(t, 200, "GET", "kv/a", "")
	if !strings.Contains(r.Text, `"lease_id":"","renewable":false,"lease_duration":2764800,"data":{"f":1.50,"n":12345678901234567890,"s":"<last>"},"wrap_info":null,"warnings":null,"auth":null,"mount_type":"kv"}`) {
		t.Error(r.Text)
	}
	if r := f.Must(t, 200, "GET", "kv/a/b", ""); !strings.Contains(r.Text, `"data":{"x":{"y":[1,null]}}`) {
		t.Error(r.Text)
	}
	if r := f.Must(t, 200, "GET", "kv/a?version=1", ""); !strings.Contains(r.Text, "ignored these unrecognized parameters: [version]") {
		t.Error(r.Text)
	}
	f.Must(t, 404, "GET", "kv/a/", "")
	f.Must(t, 204, "DELETE", "kv/a/", "")
	f.Must(t, 204, "DELETE", "kv", "")
	f.Must(t, 200, "GET", "kv/a", "")
	for path, want := range map[string]string{
		"kv": "[a a/ config data/]", "kv/a": "[b]", "kv/a/": "[b]", "kv?after=a": "[a/ config data/]", "kv?after=a&limit=1": "[a/]", "kv?limit=2": "[a a/]",
	} {
		r := f.Must(t, 200, "LIST", path, "")
		if got := fmt.Sprint(r.Get("data", "keys")); got != want || fmt.Sprint(r.Get("lease_duration")) != "0" {
			t.Errorf("LIST %s: %s", path, r.Text)
		}
	}
	for path, want := range map[string]string{"kv": "[a a/b config data/z]", "kv/a": "[b]", "kv/none": "<nil>"} {
		if r := f.Must(t, 200, "SCAN", path, ""); fmt.Sprint(r.Get("data", "keys")) != want {
			t.Errorf("SCAN %s: %s", path, r.Text)
		}
	}
	large := func(n int) string { return `{"a":"` + strings.Repeat("x", n) + `"}` }
	f.Must(t, 204, "PUT", "kv/large", large(storage.MaxValue-100))
	f.Must(t, 413, "PUT", "kv/large", large(storage.MaxValue))

	// Two mounts of different versions, and version 2 for who does not say.
	f.Must(t, 204, "PUT", "kv/same", `{"of":"1"}`)
	f.Must(t, 200, "PUT", "secret/data/same", `{"data":{"of":"2"}}`)
	if r := f.Must(t, 200, "GET", "kv/same", ""); r.Get("data", "of") != "1" {
		t.Error(r.Text)
	}
	r = f.Must(t, 200, "POST", "sys/mounts/which", `{"type":"kv"}`)
	if fmt.Sprint(r.Get("warnings")) != "[the engine is KV version 2, since no version was given; for version 1, Vault's default for the type kv, give the option version=1]" {
		t.Error(r.Text)
	}
	f.Must(t, 200, "PUT", "which/data/a", `{"data":{}}`)
	if r := f.Must(t, 200, "GET", "sys/internal/ui/mounts/kv/a", ""); r.Get("data", "options", "version") != "1" || r.Get("data", "path") != "kv/" {
		t.Error(r.Text)
	}
	wrapped := f.Must(t, 200, "GET", "kv/same", "", "X-Vault-Wrap-TTL: 60")
	token, _ := wrapped.Get("wrap_info", "token").(string)
	if r := f.Must(t, 200, "POST", "sys/wrapping/unwrap", `{"token":`+servertest.JSONText(token)+`}`); r.Get("data", "of") != "1" || fmt.Sprint(r.Get("lease_duration")) != "2764800" {
		t.Error(r.Text)
	}
}

// What the lease of a secret is, and what the mount makes of it.
func TestKVv1Lease(t *testing.T) {
	f := fresh(t)
	f.mountV1(t)
	read := func(body, lease string, warning string) {
		t.Helper()
		f.Must(t, 204, "PUT", "kv/a", body)
		r := f.Must(t, 200, "GET", "kv/a", "")
		if warnings := fmt.Sprint(r.Get("warnings")); fmt.Sprint(r.Get("lease_duration")) != lease || !strings.Contains(warnings, warning) || warning == "" && warnings != "<nil>" {
			t.Errorf("%s: %s, want %s", body, r.Text, lease)
		}
	}
	for body, lease := range map[string]string{
		`{"a":1}`: "2764800", `{"ttl":"1h"}`: "3600", `{"ttl":90}`: "90", `{"lease":"2m"}`: "120", `{"ttl":"x"}`: "2764800", `{"ttl":0}`: "2764800", `{"ttl":"500ms"}`: "0",
	} {
		read(body, lease, "")
	}
	read(`{"ttl":"1000h"}`, "2764800", `TTL of "1000h0m0s" exceeded the effective max_ttl of "768h0m0s"; TTL value is capped accordingly`)
	f.Must(t, 204, "POST", "sys/mounts/kv/tune", `{"default_lease_ttl":"1h","max_lease_ttl":"2h"}`)
	read(`{"a":1}`, "3600", "")
	read(`{"ttl":"3h"}`, "7200", "capped accordingly")
}

// What the policies see of it: creating and updating, and the fields of the body.
func TestKVv1Policies(t *testing.T) {
	f := fresh(t)
	f.mountV1(t)
	f.Policy(t, "create", map[string]string{"kv/*": `"create"`})
	f.Policy(t, "update", map[string]string{"kv/*": `"update"`})
	create, update := servertest.As(f.Bearer(t, "create")), servertest.As(f.Bearer(t, "update"))
	f.Must(t, 403, "PUT", "kv/a", `{"a":1}`, update)
	f.Must(t, 204, "PUT", "kv/a", `{"a":1}`, create)
	f.Must(t, 403, "PUT", "kv/a", `{"a":2}`, create)
	f.Must(t, 204, "PUT", "kv/a", `{"a":2}`, update)
	f.Must(t, 403, "GET", "kv/a", "", update)
	f.Must(t, 400, "PUT", "kv/a/", `{"a":2}`, create)
	f.Must(t, 400, "PUT", "kv/"+strings.Repeat("x", storage.MaxSegment+1), `{"a":2}`, create) // not a failure of ours
	f.Must(t, 204, "PUT", "sys/policies/acl/fields", `{"policy":`+servertest.JSONText(`path "kv/*" {
		capabilities = ["create", "update"]
		allowed_parameters = { "user" = [], "ttl" = ["1h"] }
	}`)+`}`)
	fields := servertest.As(f.Bearer(t, "fields"))
	f.Must(t, 204, "PUT", "kv/b", `{"user":"me","ttl":"1h"}`, fields)
	f.Must(t, 403, "PUT", "kv/b", `{"user":"me","ttl":"2h"}`, fields)
	f.Must(t, 403, "PUT", "kv/b", `{"password":"me"}`, fields)
	f.Must(t, 400, "PUT", "kv/b", `{"user":"me","user":"you"}`, fields)
}

// A mount of version 1 becomes one of version 2: at once, with all that is in it,
// and what is left of version 1 is converted soon.
func TestKVUpgrade(t *testing.T) {
	f := fresh(t)
	c := f.Client(t)
	f.mountV1(t)
	for i := range 100 {
		f.Must(t, 204, "PUT", fmt.Sprintf("kv/app/%d", i), fmt.Sprintf(`{"n":%d}`, i))
	}
	f.Must(t, 400, "POST", "sys/mounts/kv/tune", `{"options":{"version":"3"}}`)
	f.Must(t, 204, "POST", "sys/mounts/kv/tune", `{"options":{"version":"1"}}`)
	f.Must(t, 200, "GET", "kv/app/1", "")
	if err := c.Sys().TuneMountAllowNil("kv", vault.TuneMountConfigInput{Options: &map[string]string{"version": "2"}}); err != nil {
		t.Fatal(err)
	}
	check := func(f *fixture) {
		t.Helper()
		kv, ctx := f.Client(t).KVv2("kv"), t.Context()
		for i := range 100 {
			s, err := kv.Get(ctx, fmt.Sprintf("app/%d", i))
			if err != nil || fmt.Sprint(s.Data["n"]) != fmt.Sprint(i) || s.VersionMetadata.Version != 1 || s.VersionMetadata.CreatedTime.IsZero() {
				t.Fatalf("%d: %+v, %v", i, s, err)
			}
		}
		if r := f.Must(t, 200, "LIST", "kv/metadata/app", ""); len(r.Get("data", "keys").([]any)) != 100 {
			t.Errorf("%s", r.Text)
		}
		if r := f.Must(t, 404, "GET", "kv/app/1", ""); !strings.Contains(r.Text, "Invalid path for a versioned K/V secrets engine") {
			t.Errorf("as with version 1: %s", r.Text)
		}
	}
	check(f)
	if r := f.Must(t, 200, "GET", "sys/mounts/kv", ""); fmt.Sprint(r.Get("data", "options")) != "map[version:2]" || strings.Contains(r.Text, "from") {
		t.Errorf("%s", r.Text)
	}
	servertest.Eventually(t, "everything is converted", func() bool { return f.Unsealed().Engines.Load().At("kv").From == "" })
	check(f)
	err := f.Unsealed().Store.View(t.Context(), func(tx *storage.Tx) error {
		names, err := tx.List(f.Unsealed().Engines.Load().At("kv").Prefix())
		if fmt.Sprint(names) != "[s/]" {
			t.Errorf("there are %s", names)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := f.Must(t, 400, "POST", "sys/mounts/kv/tune", `{"options":{"version":"1"}}`); r.Errors() != "cannot downgrade mount from version 2" {
		t.Errorf("%s", r.Text)
	}
	f.Must(t, 200, "PUT", "kv/data/app/1", `{"data":{"n":"two"},"options":{"cas":1}}`)
}

// A write that version 1 began is refused when the mount has been upgraded by then:
// it would be the last of its kind.
func TestKVUpgradeOvertakesWrites(t *testing.T) {
	f := fresh(t)
	f.mountV1(t)
	f.Must(t, 204, "PUT", "kv/a", `{"a":1}`)
	defer f.Before("{path...}", api.Write, func(*api.Request) {
		f.Must(t, 204, "POST", "sys/mounts/kv/tune", `{"options":{"version":"2"}}`)
	})()
	f.Must(t, 404, "PUT", "kv/a", `{"a":2}`)
	if r := f.Must(t, 200, "GET", "kv/data/a", ""); fmt.Sprint(r.Get("data", "data", "a")) != "1" {
		t.Errorf("%s", r.Text)
	}
}

// An upgrade that a restart has interrupted works, and goes on.
func TestKVUpgradeGoesOnAfterRestart(t *testing.T) {
	seal := servertest.NewSeal("auto", 1)
	f := fresh(t, seal)
	f.mountV1(t)
	f.Must(t, 204, "PUT", "kv/a", `{"a":1}`)
	u := f.Unsealed()
	err := u.Tune(t.Context(), &u.Engines, "kv", func(m *api.Mount) error { m.Options["version"], m.From = "2", "1"; return nil }) // and no sweep
	if err != nil {
		t.Fatal(err)
	}
	root := f.Root
	f.Stop(t)
	f = start(t, f.Path, seal.Again())
	f.Root = root
	servertest.Eventually(t, "it is open", func() bool { return f.Unsealed() != nil })
	if r := f.Must(t, 200, "GET", "kv/data/a", ""); fmt.Sprint(r.Get("data", "data", "a")) != "1" {
		t.Errorf("%s", r.Text)
	}
	if f.Unsealed().Engines.Load().At("kv").From != "1" {
		t.Error("the mark is gone")
	}
	f.Unsealed().WakeSweep()
	servertest.Eventually(t, "everything is converted", func() bool { return f.Unsealed().Engines.Load().At("kv").From == "" })
	if r := f.Must(t, 200, "GET", "kv/data/a", ""); fmt.Sprint(r.Get("data", "data", "a")) != "1" {
		t.Errorf("%s", r.Text)
	}
}

// A mount that is removed while it is upgraded leaves nothing.
func TestKVUpgradeOfRemoved(t *testing.T) {
	f := fresh(t)
	f.mountV1(t)
	for i := range 300 {
		f.Must(t, 204, "PUT", fmt.Sprintf("kv/%d/a", i), `{"a":1}`) // a transaction for each
	}
	u := f.Unsealed()
	folder := u.Engines.Load().At("kv").Prefix()
	names := func(folder string) (names []string) {
		if err := u.Store.View(t.Context(), func(tx *storage.Tx) (err error) {
			names, err = tx.List(folder)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return names
	}
	f.Must(t, 204, "POST", "sys/mounts/kv/tune", `{"options":{"version":"2"}}`)
	servertest.Eventually(t, "the upgrade has begun", func() bool { return len(names(folder+"/s")) > 10 })
	f.Must(t, 204, "DELETE", "sys/mounts/kv", "")
	servertest.Eventually(t, "the data is deleted", func() bool { return len(names(mount.PurgeFolder)) == 0 })
	f.Keep.Seal() // no upgrade is under way any more
	if err := f.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	u = f.Unsealed()
	if left := names(folder); left != nil {
		t.Errorf("there are %s", left)
	}
}
