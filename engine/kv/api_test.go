package kv_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

func TestKVByClient(t *testing.T) {
	f := fresh(t)
	c := f.Client(t)
	kv, ctx := c.KVv2("secret"), t.Context()

	// All that the client can do is done below.
	var calls []string
	for m := range reflect.TypeOf(kv).Methods() {
		calls = append(calls, m.Name)
	}
	if got, want := strings.Join(calls, " "), "Delete DeleteMetadata DeleteVersions Destroy Get GetMetadata GetVersion GetVersionsAsList "+
		"Patch PatchMetadata Put PutMetadata Rollback Undelete"; got != want {
		t.Errorf("the client has the calls %s, not %s: call them too", got, want)
	}

	if _, err := kv.Get(ctx, "app/db"); !errors.Is(err, vault.ErrSecretNotFound) {
		t.Fatalf("an absent secret: %v", err)
	}
	one, err := kv.Put(ctx, "app/db", map[string]any{"user": "u", "password": "one"})
	if err != nil || one.VersionMetadata.Version != 1 || one.VersionMetadata.CreatedTime.IsZero() {
		t.Fatalf("%+v, %v", one, err)
	}
	if _, err := kv.Put(ctx, "app/db", map[string]any{"password": "x"}, vault.WithCheckAndSet(0)); err == nil ||
		!strings.Contains(err.Error(), "check-and-set parameter did not match the current version") || !strings.Contains(err.Error(), "Code: 400") {
		t.Errorf("cas 0 on a secret that is there: %v", err)
	}
	if two, err := kv.Put(ctx, "app/db", map[string]any{"user": "u", "password": "two"}, vault.WithCheckAndSet(1)); err != nil || two.VersionMetadata.Version != 2 {
		t.Fatalf("%+v, %v", two, err)
	}
	three, err := kv.Patch(ctx, "app/db", map[string]any{"password": "three", "host": "h", "user": nil})
	if err != nil || three.VersionMetadata.Version != 3 {
		t.Fatalf("%+v, %v", three, err)
	}
	if _, err := kv.Patch(ctx, "app/db", map[string]any{"x": "y"}, vault.WithMergeMethod(vault.KVMergeMethodPatch), vault.WithCheckAndSet(2)); err == nil ||
		!strings.Contains(err.Error(), "did not match") {
		t.Errorf("patch with a wrong cas: %v", err)
	}
	four, err := kv.Patch(ctx, "app/db", map[string]any{"port": "1"}, vault.WithMergeMethod(vault.KVMergeMethodReadWrite))
	if err != nil || four.VersionMetadata.Version != 4 {
		t.Fatalf("%+v, %v", four, err)
	}
	if _, err := kv.Put(ctx, "app/db", map[string]any{}, vault.WithOption("cas", 9)); err == nil || !strings.Contains(err.Error(), "did not match") {
		t.Errorf("put with an option: %v", err)
	}
	if _, err := kv.Patch(ctx, "nowhere", map[string]any{"a": "b"}); !errors.Is(err, vault.ErrSecretNotFound) {
		t.Errorf("patching what is not there: %v", err)
	}
	latest, err := kv.Get(ctx, "app/db")
	if want := (map[string]any{"password": "three", "host": "h", "port": "1"}); err != nil || !reflect.DeepEqual(latest.Data, want) {
		t.Errorf("latest: %+v, %v", latest, err)
	}
	if old, err := kv.GetVersion(ctx, "app/db", 1); err != nil || old.Data["password"] != "one" || old.VersionMetadata.Version != 1 {
		t.Errorf("version 1: %+v, %v", old, err)
	}
	if _, err := kv.GetVersion(ctx, "app/db", 99); !errors.Is(err, vault.ErrSecretNotFound) {
		t.Errorf("version 99: %v", err)
	}
	list, err := kv.GetVersionsAsList(ctx, "app/db")
	if err != nil || len(list) != 4 || list[3].Version != 4 {
		t.Errorf("versions: %+v, %v", list, err)
	}

	// Soft delete and undelete, of the newest and of others.
	if err := kv.Delete(ctx, "app/db"); err != nil {
		t.Fatal(err)
	}
	gone, err := kv.Get(ctx, "app/db")
	if err != nil || gone.Data != nil || gone.VersionMetadata.DeletionTime.IsZero() || gone.VersionMetadata.Version != 4 {
		t.Errorf("deleted: %+v, %v", gone, err)
	}
	if _, err := kv.Patch(ctx, "app/db", map[string]any{"a": "b"}); !errors.Is(err, vault.ErrSecretNotFound) {
		t.Errorf("patching a deleted version: %v", err)
	}
	if err := kv.Undelete(ctx, "app/db", []int{4}); err != nil {
		t.Fatal(err)
	}
	if back, err := kv.Get(ctx, "app/db"); err != nil || back.Data["port"] != "1" {
		t.Errorf("undeleted: %+v, %v", back, err)
	}
	if err := kv.DeleteVersions(ctx, "app/db", []int{1, 2}); err != nil {
		t.Fatal(err)
	}
	if old, err := kv.GetVersion(ctx, "app/db", 2); err != nil || old.Data != nil || old.VersionMetadata.DeletionTime.IsZero() {
		t.Errorf("deleted version 2: %+v, %v", old, err)
	}
	if err := kv.Destroy(ctx, "app/db", []int{2}); err != nil {
		t.Fatal(err)
	}
	if err := kv.Undelete(ctx, "app/db", []int{1, 2}); err != nil {
		t.Fatal(err)
	}
	if old, err := kv.GetVersion(ctx, "app/db", 2); err != nil || old.Data != nil || !old.VersionMetadata.Destroyed {
		t.Errorf("destroyed version 2: %+v, %v", old, err)
	}
	rolled, err := kv.Rollback(ctx, "app/db", 1)
	if err != nil || rolled.VersionMetadata.Version != 5 {
		t.Errorf("rollback: %+v, %v", rolled, err)
	}

	// Metadata.
	err = kv.PutMetadata(ctx, "app/db", vault.KVMetadataPutInput{CASRequired: true, MaxVersions: 7, DeleteVersionAfter: time.Hour,
		CustomMetadata: map[string]any{"owner": "me", "tier": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.PatchMetadata(ctx, "app/db", vault.KVMetadataPatchInput{MaxVersions: new(3), CustomMetadata: map[string]any{"tier": "2"}}); err != nil {
		t.Fatal(err)
	}
	m, err := kv.GetMetadata(ctx, "app/db")
	if err != nil || !m.CASRequired || m.MaxVersions != 3 || m.DeleteVersionAfter != time.Hour || m.CurrentVersion != 5 ||
		m.CustomMetadata["owner"] != "me" || m.CustomMetadata["tier"] != "2" || !m.Versions["2"].Destroyed || m.CreatedTime.IsZero() {
		t.Errorf("metadata: %+v, %v", m, err)
	}
	if _, err := kv.Put(ctx, "app/db", map[string]any{"a": "b"}); err == nil || !strings.Contains(err.Error(), "check-and-set parameter required for this call") {
		t.Errorf("write without cas: %v", err)
	}
	six, err := kv.Put(ctx, "app/db", map[string]any{"a": "b"}, vault.WithCheckAndSet(5))
	if err != nil || six.CustomMetadata["owner"] != "me" || six.VersionMetadata.DeletionTime.IsZero() {
		t.Errorf("%+v, %v", six, err)
	}
	if m, err = kv.GetMetadata(ctx, "app/db"); err != nil || len(m.Versions) != 3 || m.OldestVersion != 4 {
		t.Errorf("after max_versions: %+v, %v", m, err)
	}
	if err := kv.PatchMetadata(ctx, "app/db", vault.KVMetadataPatchInput{CustomMetadata: map[string]any{}}); err != nil {
		t.Fatal(err)
	}
	if m, err = kv.GetMetadata(ctx, "app/db"); err != nil || len(m.CustomMetadata) != 0 {
		t.Errorf("without custom metadata: %+v, %v", m, err)
	}

	// Lists, and the end.
	for _, path := range []string{"app/cache", "app/db/inner", "top"} {
		if _, err := kv.Put(ctx, path, map[string]any{}); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string][]any{"secret/metadata": {"app/", "top"}, "secret/metadata/app": {"cache", "db", "db/"}, "secret/metadata/app/": {"cache", "db", "db/"}} {
		s, err := c.Logical().ListWithContext(ctx, path)
		if err != nil || s == nil || !reflect.DeepEqual(s.Data["keys"], want) {
			t.Errorf("list %s: %+v, %v", path, s, err)
		}
	}
	if s, err := c.Logical().ListWithContext(ctx, "secret/metadata/nowhere"); err != nil || s != nil {
		t.Errorf("list of nothing: %+v, %v", s, err)
	}
	if err := kv.DeleteMetadata(ctx, "app/db"); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.GetMetadata(ctx, "app/db"); !errors.Is(err, vault.ErrSecretNotFound) {
		t.Errorf("after deleting everything: %v", err)
	}
	if _, err := kv.Get(ctx, "app/db/inner"); err != nil {
		t.Errorf("its neighbour: %v", err)
	}
}

// The shape of answers that the client does not look at.
func TestKVAnswers(t *testing.T) {
	f := fresh(t)
	r := f.Must(t, 200, "PUT", "secret/data/a", `{"data":{"n":12345678901234567890,"s":"<&>","nested":{"x":{"y":1}}}}`)
	for _, name := range []string{"created_time", "custom_metadata", "deletion_time", "destroyed", "version"} {
		if _, ok := r.Get("data").(map[string]any)[name]; !ok {
			t.Errorf("answer to a write has no %s: %s", name, r.Text)
		}
	}
	r = f.Must(t, 200, "GET", "secret/data/a", "")
	var names []string
	for name := range r.Body {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"auth", "data", "lease_duration", "lease_id", "mount_type", "renewable", "request_id", "warnings", "wrap_info"}; !slices.Equal(names, want) {
		t.Errorf("envelope has %v", names)
	}
	if fmt.Sprint(r.Get("data", "data", "n")) != "12345678901234567890" || r.Get("data", "data", "s") != "<&>" || r.Get("mount_type") != "kv" {
		t.Errorf("read: %s", r.Text)
	}
	if r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Content-Length") != fmt.Sprint(len(r.Text)) {
		t.Errorf("headers: %v", r.Header)
	}
	again := f.Must(t, 200, "GET", "secret/data/a?version=1", "")
	if a, b := r.Get("request_id"), again.Get("request_id"); a == b || len(fmt.Sprint(a)) != 36 {
		t.Errorf("request ids %v, %v", a, b)
	}
	r = f.Must(t, 200, "GET", "secret/subkeys/a", "")
	if _, ok := r.Get("data", "subkeys", "nested", "x").(map[string]any)["y"]; !ok || r.Get("data", "subkeys", "n") != nil || r.Get("data", "metadata", "version") == nil {
		t.Errorf("subkeys: %s", r.Text)
	}
	r = f.Must(t, 200, "GET", "secret/subkeys/a?depth=1", "")
	if r.Get("data", "subkeys", "nested") != nil {
		t.Errorf("subkeys to depth 1: %s", r.Text)
	}
	f.Must(t, 204, "DELETE", "secret/data/a", "")
	r = f.Must(t, 404, "GET", "secret/data/a", "")
	if v, ok := r.Get("data").(map[string]any)["data"]; !ok || v != nil || r.Get("data", "metadata", "deletion_time") == "" {
		t.Errorf("deleted: %s", r.Text)
	}
	r = f.Must(t, 404, "GET", "secret/subkeys/a", "")
	if v, ok := r.Get("data").(map[string]any)["subkeys"]; !ok || v != nil {
		t.Errorf("subkeys of a deleted version: %s", r.Text)
	}
	r = f.Must(t, 404, "PATCH", "secret/data/a", `{"data":{}}`, "Content-Type: application/merge-patch+json")
	if r.Get("data", "version") == nil {
		t.Errorf("patching a deleted version: %s", r.Text)
	}
	for _, path := range []string{"secret/data/none", "secret/metadata/none", "secret/subkeys/none", "secret/metadata/none?list=true"} {
		if r := f.Must(t, 404, "GET", path, ""); r.Text != `{"errors":[]}` {
			t.Errorf("%s: %s", path, r.Text)
		}
	}
	for method, word := range map[string]string{"GET": "get", "POST": "put", "PUT": "put", "DELETE": "delete", "LIST": "list", "PATCH": "patch"} {
		r := f.Must(t, 404, method, "secret/foo", "")
		if w, ok := r.Get("warnings").([]any); !ok || !strings.Contains(w[0].(string), "Invalid path for a versioned K/V secrets engine") || !strings.Contains(w[0].(string), "vault kv "+word) {
			t.Errorf("%s secret/foo: %s", method, r.Text)
		}
	}
	if r := f.Must(t, 404, "SCAN", "secret/foo", ""); !strings.Contains(fmt.Sprint(r.Get("warnings")), "use 'bao kv scan' for this operation.") {
		t.Errorf("SCAN secret/foo: %s", r.Text)
	}
	f.Must(t, 404, "GET", "secret", "")
	f.Must(t, 200, "PUT", "secret/data/a", `{"data":{}}`)
	for _, folder := range []string{"data", "metadata", "delete", "undelete", "destroy"} {
		for _, method := range []string{"GET", "PUT", "POST", "PATCH", "DELETE"} {
			r := f.Must(t, 404, method, "secret/"+folder, `{"data":{"k":"v"},"versions":[1]}`, "Content-Type: application/merge-patch+json")
			if fmt.Sprint(r.Get("warnings")) != "[Non-listing operations on the root of a K/V v2 mount are not supported.]" || r.Get("data") != nil {
				t.Errorf("%s secret/%s: %s", method, folder, r.Text)
			}
		}
	}
	f.Must(t, 405, "LIST", "secret/data", "")
	f.Must(t, 405, "SCAN", "secret/data", "")
	if r := f.Must(t, 200, "LIST", "secret/metadata", ""); fmt.Sprint(r.Get("data", "keys")) != "[a]" {
		t.Errorf("list: %s", r.Text)
	}
	for _, folder := range []string{"data", "metadata"} {
		body := map[string]string{"data": `{"data":{"k":"v"}}`, "metadata": `{"max_versions":2}`}[folder]
		r := f.Must(t, 404, "PATCH", "secret/"+folder+"/none", body, "Content-Type: application/merge-patch+json")
		if r.Text != `{"errors":[]}` {
			t.Errorf("patching nothing in %s: %s", folder, r.Text)
		}
	}
}

// What is stored reads the same for every client.
func TestKVDataIsPlain(t *testing.T) {
	f := fresh(t)
	for body, want := range map[string]string{
		`{"a":1,"a":2}`:                                     `{"a":2}`,
		`{"b":{"x":1, "x":[{"y":1,"y":2}]}}`:                `{"b":{"x":[{"y":2}]}}`,
		`{"a":{"x":1},"a":{"y":2}}`:                         `{"a":{"y":2}}`, // the last, not both
		`{"a":1,"\u0061":2}`:                                `{"a":2}`,
		`{"a\"":1,"a\\":2,"a\u0022":"<&>"}`:                 `{"a\"":"<&>","a\\":2}`,
		`{"a":1,"a":12345678901234567890.10}`:               `{"a":12345678901234567890.10}`,
		`{"":1,"":null}`:                                    `{"":null}`,
		`{"l":[{},{"a":1},{"a":1},[]],"l":["a","a",{}]}`:    `{"l":["a","a",{}]}`,
		`{"z":{"a":1},"a":{"a":"a"},"l":["z","z"]}`:         `{"z":{"a":1},"a":{"a":"a"},"l":["z","z"]}`, // as it came
		`{"z":"a\",\"z\":{","A":"}]","a":1.0,"\u00e4":1e3}`: `{"z":"a\",\"z\":{","A":"}]","a":1.0,"\u00e4":1e3}`,
		`{}`: `{}`,
	} {
		f.Must(t, 200, "PUT", "secret/data/a", `{"data":`+body+`}`)
		if r := f.Must(t, 200, "GET", "secret/data/a", ""); !strings.Contains(r.Text, `"data":{"data":`+want+`,"metadata"`) {
			t.Errorf("%s: %s, want %s", body, r.Text, want)
		}
	}
	f.Must(t, 200, "PATCH", "secret/data/a", `{"data":{"p":1,"p":2}}`, "Content-Type: application/merge-patch+json")
	if r := f.Must(t, 200, "GET", "secret/data/a", ""); strings.Count(r.Text, `"p":`) != 1 || fmt.Sprint(r.Get("data", "data", "p")) != "2" {
		t.Errorf("patched: %s", r.Text)
	}

	deep := func(levels int) string {
		return `{"data":{"a":` + strings.Repeat("[", levels-1) + strings.Repeat("]", levels-1) + `}}`
	}
	kv := f.Client(t).KVv2("secret")
	f.Must(t, 200, "PUT", "secret/data/deep", deep(api.MaxLevels))
	if _, err := kv.Get(t.Context(), "deep"); err != nil {
		t.Errorf("%.200v", err)
	}
	for _, levels := range []int{api.MaxLevels + 1, api.MaxLevels + 3, 3 * api.MaxLevels} {
		if r := f.Must(t, 400, "PUT", "secret/data/deep", deep(levels)); !strings.Contains(r.Errors(), "levels") && !strings.Contains(r.Errors(), "max depth") {
			t.Errorf("%d levels: %s", levels, r.Text)
		}
	}
	if s, err := kv.Get(t.Context(), "deep"); err != nil || s.VersionMetadata.Version != 1 {
		t.Errorf("%v, %.200v", s, err)
	}
}

func TestKVConfig(t *testing.T) {
	f := fresh(t)
	if r := f.Must(t, 200, "GET", "secret/config", ""); r.Get("data", "cas_required") != false || fmt.Sprint(r.Get("data", "max_versions")) != "0" || r.Get("data", "delete_version_after") != "0s" {
		t.Errorf("defaults: %s", r.Text)
	}
	f.Must(t, 204, "POST", "secret/config", `{"max_versions":"5","cas_required":"true","delete_version_after":"90m"}`) // as `vault write` sends it
	if r := f.Must(t, 200, "GET", "secret/config", ""); r.Get("data", "cas_required") != true || fmt.Sprint(r.Get("data", "max_versions")) != "5" || r.Get("data", "delete_version_after") != "1h30m0s" {
		t.Errorf("as set: %s", r.Text)
	}
	f.Must(t, 400, "PUT", "secret/data/a", `{"data":{}}`)
	f.Must(t, 200, "PUT", "secret/data/a", `{"data":{},"options":{"cas":"0"}}`)
	f.Must(t, 204, "PUT", "secret/config", `{"cas_required":false}`)
	f.Must(t, 200, "PUT", "secret/data/a", `{"data":{}}`)
	f.Must(t, 204, "PUT", "secret/delete/a", `{"versions":"1,2"}`)
	f.Must(t, 204, "PUT", "secret/undelete/a", `{"versions":["2"]}`)
	f.Must(t, 204, "PUT", "secret/destroy/a", `{"versions":1}`)
	r := f.Must(t, 200, "GET", "secret/metadata/a", "")
	if r.Get("data", "versions", "1", "destroyed") != true || r.Get("data", "versions", "2", "deletion_time") == nil {
		t.Errorf("metadata: %s", r.Text)
	}
}

func TestKVRefuses(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "PUT", "secret/data/a", `{"data":{}}`)
	const patch = "Content-Type: application/merge-patch+json"
	for _, c := range []struct {
		status             int
		method, path, body string
		want               string
	}{
		{400, "PUT", "secret/data/a", ``, "no data provided"},
		{400, "PUT", "secret/data/a", `{}`, "no data provided"},
		{400, "PUT", "secret/data/a", `{"data":[]}`, "data must be a JSON object"},
		{400, "PUT", "secret/data/a", `{"data":"x"}`, "data must be a JSON object"},
		{400, "PUT", "secret/data/a", `{"data":`, "failed to parse JSON input"},
		{400, "PUT", "secret/data/a", `{"data":{}} x`, "failed to parse JSON input"},
		{400, "PUT", "secret/data/a", `data=x`, "failed to parse JSON input"},
		{400, "PUT", "secret/data/a", "{\"data\":{\"a\":\"\xff\"}}", "UTF-8"},
		{400, "PUT", "secret/data/a", `{"data":{"a":` + strings.Repeat("[", 20000) + `}}`, "failed to parse JSON input"},
		{400, "PUT", "secret/data/a", `{"data":{},"options":{"cas":"x"}}`, "error parsing check-and-set parameter"},
		{400, "PUT", "secret/data/a", `{"data":{},"options":{"cas":1.5}}`, "error parsing check-and-set parameter"},
		{400, "PUT", "secret/data/a", `{"data":{},"options":{"cas":7}}`, "did not match"},
		{400, "PUT", "secret/data/a", `{"data":{},"options":{"cas":0}}`, "did not match"},
		{400, "PUT", "secret/data/a", `{"data":{},"options":{"cas":null}}`, "did not match"}, // as 0 in Vault
		{400, "PUT", "secret/data/a", `{"data":{},"options":{"cas":""}}`, "did not match"},
		{400, "PUT", "secret/data/a", `{"data":{},"options":{"cas":-1}}`, "did not match"},
		{400, "PUT", "secret/data/a", `{"data":{},"options":[]}`, "options must be a JSON object"},
		{400, "PUT", "secret/data/a", `[]`, "failed to parse JSON input"},
		{400, "PUT", "secret/data/a", `null`, "no data provided"},
		{400, "PUT", "secret/data/a", `{"Data":{}}`, "no data provided"},
		{413, "PUT", "secret/data/a", `{"data":{"a":"` + strings.Repeat("x", 1<<20) + `"}}`, "bytes"},
		{413, "PUT", "secret/data/a", strings.Repeat(" ", 2*storage.MaxValue+1), "request body too large"},
		{400, "PUT", "secret/delete/a", `{}`, "No version number provided"},
		{400, "PUT", "secret/undelete/a", `{"versions":[]}`, "No version number provided"},
		{400, "PUT", "secret/destroy/a", `{"versions":null}`, "no version number provided"},
		{400, "PUT", "secret/delete/a", `{"versions":["x"]}`, "versions must be a list of whole numbers"},
		{400, "PUT", "secret/destroy/a", `{"versions":[-1]}`, "versions must be a list of whole numbers"},
		{400, "PUT", "secret/undelete/a", `{"versions":{}}`, "versions must be a list of whole numbers"},
		{400, "PUT", "secret/metadata/a", `{"max_versions":"many"}`, "max_versions must be a whole number"},
		{400, "PUT", "secret/metadata/a", `{"cas_required":"maybe"}`, "cas_required must be true or false"},
		{400, "PUT", "secret/metadata/a", `{"delete_version_after":"soon"}`, "not a duration"},
		{400, "PUT", "secret/metadata/a", `{"custom_metadata":{"a":[]}}`, "custom_metadata"},
		{400, "PUT", "secret/config", `{"max_versions":-1}`, "max_versions"},
		{400, "GET", "secret/data/a?version=x", ``, "version"},
		{400, "GET", "secret/data/a?version=-1", ``, "version"},
		{400, "GET", "secret/data/a?version=99999999999999999999", ``, "version"},
		{400, "GET", "secret/data/a?list=maybe", ``, "list"},
		{400, "GET", "secret/metadata/a?scan=maybe", ``, "the parameter scan must be true or false"},
		{400, "GET", "secret/metadata/a?scan=1&list=1", ``, "cannot both be true"},
		{400, "SCAN", "secret/metadata/" + strings.Repeat("x", 1025), ``, "segment"},
		{400, "LIST", "secret/metadata?limit=x", ``, "limit"},
		{405, "GET", "secret/detailed-metadata/a", ``, "unsupported operation"},
		{400, "GET", "secret/data/a?%zz", ``, "query"},
		{400, "GET", "secret/data/a//b", ``, "empty segment"},
		{400, "GET", "secret/data/../../sys/mounts", ``, "segment"},
		{400, "GET", "secret/data/./a", ``, "segment"},
		{400, "GET", "secret/data/a\x00b", ``, "non-printable"},
		{400, "GET", "secret/data/" + strings.Repeat("x", 1025), ``, "segment"},
		{400, "GET", "secret/data/" + strings.Repeat("x/", 40) + "y", ``, "segments"},
		{400, "GET", "secret/data/" + strings.Repeat(strings.Repeat("x", 1000)+"/", 5) + "y", ``, "bytes"},
		{405, "LIST", "secret/data/a", ``, "unsupported operation"},
		{405, "GET", "secret/delete/a", ``, "unsupported operation"},
		{405, "DELETE", "secret/config", ``, "unsupported operation"},
		{405, "HEAD", "secret/data/a", ``, ""},
		{405, "OPTIONS", "secret/data/a", ``, "unsupported operation"},
	} {
		r := f.Call(t, c.method, c.path, c.body)
		if r.Status != c.status || (c.want != "" && !strings.Contains(r.Errors(), c.want)) {
			t.Errorf("%s %.60s %.60s: %d %.200s", c.method, c.path, c.body, r.Status, r.Text)
		}
	}
	f.Must(t, 415, "PATCH", "secret/data/a", `{"data":{}}`)
	f.Must(t, 415, "PATCH", "secret/metadata/a", `{}`, "Content-Type: application/json")
	f.Must(t, 400, "PATCH", "secret/data/a", `{}`, patch)
	f.Must(t, 204, "PATCH", "secret/metadata/a", `{"max_versions":2}`, patch)
	f.Must(t, 404, "PATCH", "secret/metadata/none", `{"max_versions":2}`, patch)
	f.Must(t, 204, "PATCH", "secret/metadata/none", `{}`, patch)
}

// Vault answers with a warning where it did not do as it was told.
func TestKVWarnings(t *testing.T) {
	f := fresh(t)
	const patch = "Content-Type: application/merge-patch+json"
	warns := func(status int, method, path, body string, want ...any) {
		t.Helper()
		r := f.Must(t, status, method, path, body, patch)
		got, _ := r.Get("warnings").([]any)
		if !slices.Equal(got, want) {
			t.Errorf("%s %s %s: warnings %q, want %q", method, path, body, got, want)
		}
	}
	const ignored = "Endpoint ignored these unrecognized parameters: "
	warns(200, "PUT", "secret/data/a", `{"data":{"k":"v"},"options":{"x":1}}`)
	warns(200, "PUT", "secret/data/a", `{"data":{"k":"v"},"option":{"cas":1},"Data":{},"version":1}`, ignored+"[Data option]")
	warns(200, "PATCH", "secret/data/a", `{"data":{"k":"w"},"ttl":"1h"}`, ignored+"[ttl]")

	warns(200, "GET", "secret/data/a?version=1", "")
	warns(200, "GET", "secret/data/a?versions=1&b=2", "", ignored+"[b versions]")
	warns(200, "GET", "secret/subkeys/a?version=1&depth=1&x", "", ignored+"[x]")
	warns(200, "GET", "secret/metadata/a?version=1", "", ignored+"[version]")
	warns(200, "GET", "secret/config?x=", "", ignored+"[x]")
	warns(200, "GET", "secret/metadata?list=true&page=2", "", ignored+"[page]")
	warns(200, "GET", "secret/metadata?scan=true&list=false&limit=1&page=2", "", ignored+"[page]")
	warns(200, "GET", "secret/metadata/a?scan=false", "")
	f.Must(t, 204, "DELETE", "secret/data/a?versions=1", "")
	warns(404, "GET", "secret/data/a?x=1", "", ignored+"[x]")
	f.Must(t, 204, "PUT", "secret/undelete/a", `{"versions":3,"x":1}`)

	const mandated = `"cas_required" set to false, but is mandated by backend config. This value will be ignored.`
	warns(204, "PUT", "secret/metadata/a", `{"cas_required":false}`)
	f.Must(t, 204, "PUT", "secret/config", `{"cas_required":true}`)
	warns(200, "PUT", "secret/metadata/a", `{"cas_required":false,"max_versions":4}`, mandated)
	warns(200, "PATCH", "secret/metadata/a", `{"cas_required":"false"}`, mandated)
	warns(204, "PUT", "secret/metadata/a", `{"cas_required":true}`)
	warns(204, "PATCH", "secret/metadata/a", `{"max_versions":3}`)
	r := f.Must(t, 200, "GET", "secret/metadata/a", "")
	if r.Get("data", "cas_required") != true || fmt.Sprint(r.Get("data", "max_versions")) != "3" {
		t.Errorf("metadata: %s", r.Text)
	}
	f.Must(t, 400, "PUT", "secret/data/a", `{"data":{}}`)

	f.Must(t, 204, "PUT", "secret/config", `{"metadata_cas_required":true}`)
	mandatedToo := strings.Replace(mandated, "cas_required", "metadata_cas_required", 1)
	warns(200, "PUT", "secret/metadata/b", `{"metadata_cas_required":false,"metadata_cas":0}`, mandatedToo)
	warns(200, "PATCH", "secret/metadata/b", `{"metadata_cas_required":"false","cas_required":"false","metadata_cas":"1"}`, mandated, mandatedToo)
	warns(204, "PATCH", "secret/metadata/b", `{"metadata_cas_required":true,"metadata_cas":2}`)
	warns(200, "GET", "secret/config?metadata_cas_required=true&metadata_cas=1", "", ignored+"[metadata_cas]")
	warns(200, "GET", "secret/metadata/b?metadata_cas_required=true&metadata_cas=1", "")
}

// OpenBao's check-and-set of metadata, which has a count of its own.
func TestKVMetadataCAS(t *testing.T) {
	f := fresh(t)
	const patch = "Content-Type: application/merge-patch+json"
	version := func(want string) {
		t.Helper()
		for _, at := range []string{"GET secret/metadata/a", "LIST secret/detailed-metadata"} {
			method, path, _ := strings.Cut(at, " ")
			r := f.Must(t, 200, method, path, "")
			data := r.Get("data")
			if method == "LIST" {
				data = r.Get("data", "key_info", "a")
			}
			if got := fmt.Sprint(data.(map[string]any)["current_metadata_version"]); got != want {
				t.Errorf("%s: current_metadata_version is %s, want %s", at, got, want)
			}
		}
	}
	refused := func(method, body, want string) {
		t.Helper()
		if r := f.Must(t, 400, method, "secret/metadata/a", body, patch); r.Errors() != want {
			t.Errorf("%s %s: %s, want %s", method, body, r.Text, want)
		}
	}
	const required, mismatch = "metadata check-and-set parameter required for this call", "metadata check-and-set parameter does not match the current version"

	f.Must(t, 204, "POST", "secret/config", `{"metadata_cas_required":"true"}`)
	if r := f.Must(t, 200, "GET", "secret/config", ""); r.Get("data", "metadata_cas_required") != true || r.Get("data", "cas_required") != false {
		t.Errorf("config: %s", r.Text)
	}
	refused("PUT", `{"max_versions":5}`, required)
	refused("PUT", `{"max_versions":5,"metadata_cas":1}`, "metadata_cas must be 0 when creating new metadata")
	f.Must(t, 404, "PATCH", "secret/metadata/a", `{"max_versions":5}`, patch)
	f.Must(t, 204, "PUT", "secret/metadata/a", `{"metadata_cas":7}`) // changes nothing
	f.Must(t, 404, "GET", "secret/metadata/a", "")

	f.Must(t, 200, "PUT", "secret/data/a", `{"data":{}}`)
	version("0")
	refused("PATCH", `{"max_versions":5}`, required)
	refused("PATCH", `{"max_versions":5,"metadata_cas":1}`, mismatch)
	refused("PUT", `{"max_versions":5,"metadata_cas":-1}`, mismatch)
	refused("PUT", `{"max_versions":5,"metadata_cas":"x"}`, `the parameter metadata_cas must be a whole number, not this text`)
	f.Must(t, 204, "PUT", "secret/metadata/a", `{"max_versions":"5","metadata_cas":"0"}`)
	version("1")
	refused("PUT", `{"max_versions":6,"metadata_cas":null}`, mismatch) // as 0
	f.Must(t, 204, "PATCH", "secret/metadata/a", `{"metadata_cas_required":true,"metadata_cas":1}`, patch)
	f.Must(t, 200, "PUT", "secret/data/a", `{"data":{}}`)
	version("2")

	f.Must(t, 204, "POST", "secret/config", `{"metadata_cas_required":false}`)
	refused("PUT", `{"max_versions":6}`, required)
	if r := f.Must(t, 200, "GET", "secret/metadata/a", ""); r.Get("data", "metadata_cas_required") != true || fmt.Sprint(r.Get("data", "max_versions")) != "5" {
		t.Errorf("metadata: %s", r.Text)
	}
	f.Must(t, 204, "DELETE", "secret/metadata/a", "")
	f.Must(t, 204, "PUT", "secret/metadata/a", `{"max_versions":6}`)
	version("1")
}

// Increments by check-and-set: none is lost.
func TestKVCheckAndSet(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "PUT", "secret/data/n", `{"data":{}}`)
	var wait sync.WaitGroup
	const workers, each = 6, 5
	for range workers {
		wait.Go(func() {
			for done := 0; done < each; {
				at := f.Call(t, "GET", "secret/data/n", "").Get("data", "metadata", "version")
				r := f.Call(t, "PUT", "secret/data/n", fmt.Sprintf(`{"data":{},"options":{"cas":%v}}`, at))
				switch r.Status {
				case 200:
					done++
				case 400:
				default:
					t.Errorf("%d %s", r.Status, r.Text)
					return
				}
			}
		})
	}
	wait.Wait()
	if got := fmt.Sprint(f.Must(t, 200, "GET", "secret/metadata/n", "").Get("data", "current_version")); got != fmt.Sprint(1+workers*each) {
		t.Errorf("version %s after %d writes", got, 1+workers*each)
	}
}

// Patches of a large secret that come at once are all applied, each to what the one before it left.
func TestLargePatchesAtOnce(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "PUT", "secret/data/large", `{"data":{"large":"`+strings.Repeat("x", 200<<10)+`"}}`)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if r := f.Call(t, "PATCH", "secret/data/large", fmt.Sprintf(`{"data":{"k%d":"v"}}`, i), "Content-Type: application/merge-patch+json"); r.Status != 200 {
				t.Errorf("%d: %s", r.Status, r.Text)
			}
		})
	}
	all.Wait()
	data := f.Must(t, 200, "GET", "secret/data/large", "").Get("data", "data").(map[string]any)
	if len(data) != 9 {
		t.Errorf("%d keys", len(data))
	}
	if r := f.Must(t, 200, "GET", "secret/metadata/large", ""); fmt.Sprint(r.Get("data", "current_version")) != "9" {
		t.Errorf("%s", r.Text)
	}
	f.Must(t, 400, "PATCH", "secret/data/large", `{"data":{"k":"v"},"options":{"cas":1}}`, "Content-Type: application/merge-patch+json")
	f.Must(t, 404, "PATCH", "secret/data/absent", `{"data":{"k":"`+strings.Repeat("x", 100<<10)+`"}}`, "Content-Type: application/merge-patch+json")
}
