package server_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
)

func TestHealth(t *testing.T) {
	open := fresh(t)
	sealed := fresh(t)
	sealed.Keep.Seal()
	none := start(t, filepath.Join(t.TempDir(), "keep.db"))
	for _, c := range []struct {
		keep  *fixture
		query string
		want  int
	}{
		{open, "", 200},
		{open, "?activecode=204", 204},
		{open, "?activecode=304", 304},
		{open, "?standbyok=true&perfstandbyok=1", 200},
		{open, "?standbyok=maybe", 400},
		{open, "?perfstandbyok=2", 400},
		{open, "?standbyok", 200},
		{open, "?sealedcode=299&uninitcode=298&standbycode=297", 200},
		{open, "?standbycode=x", 400},
		{open, "?drsecondarycode=", 400},
		{open, "?performancestandbycode=99", 400},
		{open, "?activecode=600", 400},
		{open, "?activecode=100", 400},
		{open, "?activecode=-1", 400},
		{sealed, "", 503},
		{sealed, "?sealedcode=200", 200},
		{sealed, "?activecode=201", 503},
		{sealed, "?sealedcode=abc", 400},
		{none, "", 501},
		{none, "?uninitcode=200", 200},
		{none, "?sealedcode=200", 501},
		{none, "?uninitcode=1000", 400},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			r := c.keep.Call(t, method, "sys/health"+c.query, "", "X-Vault-Token: ")
			if r.Status != c.want {
				t.Errorf("%s %s: %d, want %d: %s", method, c.query, r.Status, c.want, r.Text)
			}
			if method == "HEAD" && r.Text != "" {
				t.Errorf("HEAD %s has a body: %q", c.query, r.Text)
			}
			if method == "GET" && r.Status == 400 && r.Errors() == "" {
				t.Errorf("GET %s: no error text", c.query)
			}
		}
	}
	for name, k := range map[string]*fixture{"open": open, "sealed": sealed, "none": none} {
		h, err := k.Client(t).Sys().Health()
		if err != nil {
			t.Fatal(err)
		}
		if h.Initialized != (name != "none") || h.Sealed != (name != "open") || h.Standby || h.Enterprise || h.Version != "1.2.3" ||
			h.ReplicationDRMode != "disabled" || h.ReplicationPerformanceMode != "disabled" || h.ServerTimeUTC == 0 || (h.ClusterID != "") != (name == "open") {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

// What a sealed or uninitialized keep answers, and what it does not.
func TestSealedKeep(t *testing.T) {
	sealed := fresh(t)
	sealed.Keep.Seal()
	none := start(t, filepath.Join(t.TempDir(), "keep.db"))
	none.Root = "hvs.something"
	for name, k := range map[string]*fixture{"sealed": sealed, "none": none} {
		for _, c := range []struct{ method, path string }{
			{"GET", "secret/data/a"}, {"PUT", "secret/data/a"}, {"GET", "sys/mounts"}, {"GET", "sys/auth"}, {"PUT", "sys/seal"},
			{"GET", "sys/key-status"}, {"POST", "sys/rotate"}, {"GET", "auth/token/lookup-self"}, {"GET", "sys/internal/ui/mounts/secret"},
			{"GET", "nowhere"}, {"FOO", "nowhere"},
		} {
			for _, token := range []string{"X-Vault-Token: " + k.Root, "X-Vault-Token: ", "X-Vault-Token: wrong"} {
				r := k.Call(t, c.method, c.path, "{}", token)
				if r.Status != 503 || !strings.HasPrefix(r.Errors(), "Vault is sealed") {
					t.Errorf("%s: %s %s: %d %s", name, c.method, c.path, r.Status, r.Text)
				}
				if (name == "none") != strings.Contains(r.Errors(), "operator init") {
					t.Errorf("%s: %s", name, r.Errors())
				}
			}
		}
		for _, path := range []string{"sys/init", "sys/seal-status", "sys/seal-backend-status", "sys/metrics"} {
			k.Must(t, 200, "GET", path, "", "X-Vault-Token: ")
		}
		if r := k.Must(t, 200, "GET", "sys/leader", "", "X-Vault-Token: "); r.Get("ha_enabled") != false {
			t.Errorf("%s: leader: %s", name, r.Text)
		}
	}
	if r := none.Call(t, "PUT", "sys/unseal", ""); r.Status != 400 || !strings.Contains(r.Errors(), "operator init") {
		t.Errorf("unsealing nothing: %d %s", r.Status, r.Errors())
	}
}

func TestSealAndUnseal(t *testing.T) {
	f := fresh(t)
	c := f.Client(t)
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"v"}}`)
	f.Must(t, 403, "PUT", "sys/seal", "", "X-Vault-Token: wrong")
	if err := c.Sys().Seal(); err != nil {
		t.Fatal(err)
	}
	status, err := c.Sys().SealStatus()
	if err != nil || !status.Sealed || !status.Initialized || status.ClusterID != "" {
		t.Fatalf("%+v, %v", status, err)
	}
	if r := f.Must(t, 200, "GET", "sys/seal-status", ""); r.Get("held") != true || r.Get("fingerprint") != nil {
		t.Errorf("seal-status: %s", r.Text)
	}
	for body, want := range map[string]string{
		`{"key":"abcd"}`:                "no recovery slot",
		`{"migrate":true}`:              "no migration",
		`{"migrate":true,"key":"abcd"}`: "no migration",
		`{"key":{"a":"b"}}`:             "the parameter key must be a text, not an object",
	} {
		if r := f.Call(t, "PUT", "sys/unseal", body); r.Status != 400 || !strings.Contains(r.Errors(), want) {
			t.Errorf("%s: %d %s", body, r.Status, r.Text)
		}
	}
	if status, err = c.Sys().ResetUnsealProcess(); err != nil || !status.Sealed {
		t.Fatalf("reset: %+v, %v", status, err)
	}
	if status, err = c.Sys().UnsealWithOptions(&vault.UnsealOpts{}); err == nil || !strings.Contains(err.Error(), "Code: 403") || !strings.Contains(err.Error(), "sealed by request") {
		t.Fatalf("a bare unseal: %+v, %v", status, err)
	}
	if err := f.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := f.Must(t, 200, "GET", "secret/data/a", "")
	if r.Get("data", "data", "k") != "v" {
		t.Errorf("after unsealing: %s", r.Text)
	}
	r = f.Must(t, 200, "PUT", "sys/unseal", "") // of an unsealed keep: nothing happens
	if r.Get("sealed") != false {
		t.Errorf("unsealing twice: %s", r.Text)
	}
}

func TestSealStatusSlots(t *testing.T) {
	a, b := servertest.NewSeal("a", 1), servertest.NewSeal("b", 2)
	f := fresh(t, a, b)
	f.Keep.Seal()
	a, b = a.Again(), b.Again()
	a.Tell(servertest.Fails("key_disabled"))
	b.Tell(servertest.Fails("dns"))
	f.SetSeals([]keep.Seal{a, b}) // the fixture's last seal is left out
	if err := f.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := f.Must(t, 200, "PUT", "sys/unseal", "{}") // which may try them again
	slots, _ := r.Get("slots").([]any)
	if len(slots) != 3 || r.Get("sealed") != true {
		t.Fatalf("seal-status: %s", r.Text)
	}
	for i, want := range []string{"a failed key_disabled", "b failed dns", "check orphaned <nil>"} {
		m := slots[i].(map[string]any)
		if got := fmt.Sprint(m["name"], " ", m["state"], " ", m["class"]); got != want {
			t.Errorf("slot %d: %s, want %s", i, got, want)
		}
		if m["error"] == nil || m["hint"] == nil {
			t.Errorf("slot %d without reason or advice: %v", i, m)
		}
	}
	r = f.Must(t, 200, "GET", "sys/seal-backend-status", "")
	if r.Get("healthy") != false || r.Get("unhealthy_since") == nil || r.Get("fully_wrapped") != true || len(r.Get("backends").([]any)) != 3 {
		t.Errorf("seal-backend-status: %s", r.Text)
	}
}

func TestBackendStatus(t *testing.T) {
	f := fresh(t)
	r := f.Must(t, 200, "GET", "sys/seal-backend-status", "")
	if r.Get("healthy") != true || r.Get("unhealthy_since") != nil || r.Get("fully_wrapped") != true {
		t.Errorf("seal-backend-status: %s", r.Text)
	}
	f.SetSeals([]keep.Seal{servertest.NewSeal("other", 1)})
	r = f.Must(t, 200, "GET", "sys/seal-backend-status", "")
	if r.Get("fully_wrapped") != false {
		t.Errorf("with a seal that has no slot: %s", r.Text)
	}
}

func TestKeyStatusAndRotate(t *testing.T) {
	f := fresh(t)
	c := f.Client(t)
	first, err := c.Sys().KeyStatus()
	if err != nil || first.Term != 1 || first.InstallTime.IsZero() {
		t.Fatalf("%+v, %v", first, err)
	}
	if err := c.Sys().Rotate(); err != nil {
		t.Fatal(err)
	}
	f.Must(t, 204, "POST", "sys/rotate/keyring", "")
	f.Must(t, 204, "PUT", "sys/rotate", "{}")
	last, err := c.Sys().KeyStatus()
	if err != nil || last.Term != 4 {
		t.Errorf("%+v, %v", last, err)
	}
	r := f.Must(t, 200, "GET", "sys/key-status", "")
	if r.Get("term") != r.Get("data", "term") || r.Get("term") == nil {
		t.Errorf("key-status: %s", r.Text)
	}
}

func TestLeader(t *testing.T) {
	l, err := fresh(t).Client(t).Sys().Leader()
	if err != nil || l.HAEnabled || l.LeaderAddress != "https://keep.example:8200" {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestTokens(t *testing.T) {
	f := fresh(t)
	r := f.Must(t, 200, "GET", "auth/token/lookup-self", "")
	for name, want := range map[string]any{"display_name": "root", "path": "auth/token/root", "type": "service", "orphan": true,
		"id": f.Root, "expire_time": nil, "meta": nil, "entity_id": ""} {
		if got := r.Get("data", name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if r.Get("mount_type") != "token" {
		t.Errorf("mount_type %v", r.Get("mount_type"))
	}
	f.Must(t, 200, "GET", "auth/token/lookup-self", "", "X-Vault-Token: ", "Authorization: Bearer "+f.Root)
	f.Must(t, 200, "GET", "auth/token/lookup-self", "", "X-Vault-Token: ", "Authorization: bearer  "+f.Root)
	for _, h := range []string{"Authorization: Bearer wrong", "Authorization: Basic " + f.Root, "Authorization: " + f.Root, "X-Vault-Token: " + f.Root + "x"} {
		r := f.Call(t, "GET", "auth/token/lookup-self", "", "X-Vault-Token: ", h)
		if r.Status != 403 || r.Errors() != "permission denied" {
			t.Errorf("%s: %d %s", h, r.Status, r.Text)
		}
	}
	created, err := r.Get("data", "creation_time").(json.Number).Int64()
	if err != nil {
		t.Error(err)
	}
	if issued, err := time.Parse(time.RFC3339, fmt.Sprint(r.Get("data", "issue_time"))); err != nil || issued.Unix() != created {
		t.Errorf("issued %v, %v; created %d", issued, err, created)
	}
	fields := []string{"accessor", "creation_time", "creation_ttl", "display_name", "entity_id", "expire_time", "explicit_max_ttl", "id", "issue_time",
		"meta", "num_uses", "orphan", "path", "policies", "renewable", "ttl", "type"}
	if got := slices.Sorted(maps.Keys(r.Get("data").(map[string]any))); !slices.Equal(got, fields) {
		t.Errorf("fields %q, want %q", got, fields)
	}
}

func TestTokenLookup(t *testing.T) {
	f := fresh(t)
	token := f.Client(t).Auth().Token()
	self, err := token.LookupSelf()
	if err != nil {
		t.Fatal(err)
	}
	if named, err := token.Lookup(f.Root); err != nil || !reflect.DeepEqual(named.Data, self.Data) || named.Data["id"] != f.Root {
		t.Errorf("%+v, %v; self %+v", named, err, self)
	}
	for _, c := range []struct{ method, body string }{{"GET", ""}, {"PUT", ""}, {"POST", "{}"}, {"POST", `{"token":""}`}} {
		if r := f.Must(t, 200, c.method, "auth/token/lookup", c.body); r.Get("data", "id") != f.Root || r.Get("mount_type") != "token" {
			t.Errorf("%s %s: %s", c.method, c.body, r.Text)
		}
	}
	for _, unknown := range []string{"nope", f.Root + "x", " ", "ü", strings.Repeat("x", 1000)} {
		body, err := json.Marshal(map[string]string{"token": unknown})
		if err != nil {
			t.Fatal(err)
		}
		if r := f.Must(t, 403, "POST", "auth/token/lookup", string(body)); r.Errors() != "bad token" {
			t.Errorf("%.20q: %s", unknown, r.Text)
		}
	}
	f.Must(t, 400, "POST", "auth/token/lookup", `{"token":{}}`)
	for _, body := range []string{"", "{}", `{"increment":3600}`} {
		if r := f.Must(t, 400, "PUT", "auth/token/renew-self", body); r.Errors() != "lease is not renewable" {
			t.Errorf("renewing with %q: %s", body, r.Text)
		}
	}
}

func TestCapabilities(t *testing.T) {
	f := fresh(t)
	sys := f.Client(t).Sys()
	if caps, err := sys.CapabilitiesSelf("secret/data/a"); err != nil || !slices.Equal(caps, []string{"root"}) {
		t.Errorf("of the own token: %v, %v", caps, err)
	}
	if caps, err := sys.Capabilities(f.Root, "secret/data/a"); err != nil || !slices.Equal(caps, []string{"root"}) {
		t.Errorf("of a named token: %v, %v", caps, err)
	}
	for body, want := range map[string][]string{
		`"paths":"a/b, c"`:              {"a/b", "c"},
		`"paths":["a/b","c"]`:           {"a/b", "c"},
		`"paths":"a/b"`:                 {"a/b", "capabilities"},
		`"path":"a,b"`:                  {"a", "b"},
		`"path":["a"]`:                  {"a", "capabilities"},
		`"paths":["b"],"path":"a"`:      {"b", "capabilities"},
		`"paths":[],"path":"a"`:         {"a", "capabilities"},
		`"paths":"","path":"a,a/b,c d"`: {"a", "a/b", "c d"},
	} {
		for path, body := range map[string]string{"sys/capabilities-self": "{" + body + "}", "sys/capabilities": `{"token":"` + f.Root + `",` + body + "}"} {
			r := f.Must(t, 200, "POST", path, body)
			data := r.Get("data").(map[string]any)
			if got := slices.Sorted(maps.Keys(data)); !slices.Equal(got, want) {
				t.Errorf("%s %s: %q, want %q", path, body, got, want)
			}
			for name, caps := range data {
				if fmt.Sprint(caps) != "[root]" || fmt.Sprint(r.Get(name)) != "[root]" {
					t.Errorf("%s %s: %s: %s", path, body, name, r.Text)
				}
			}
		}
	}
	for _, c := range []struct{ path, body, want string }{
		{"-self", `{}`, "paths must be supplied"},
		{"-self", `{"paths":""}`, "paths must be supplied"},
		{"-self", `{"paths":null,"path":[]}`, "paths must be supplied"},
		{"-self", `{"paths":"a,,b"}`, "missing path"},
		{"-self", `{"paths":["a",""]}`, "missing path"},
		{"", `{"token":"nope","paths":"a"}`, "invalid token"},
		{"", `{"paths":"a"}`, "no token found"},
	} {
		if r := f.Must(t, 400, "POST", "sys/capabilities"+c.path, c.body); r.Errors() != c.want {
			t.Errorf("%s %s: %s", c.path, c.body, r.Text)
		}
	}
}

// A token that was seen is forgotten when the keep is sealed.
func TestTokensAreForgotten(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "GET", "auth/token/lookup-self", "")
	f.Keep.Seal()
	f.Must(t, 503, "GET", "auth/token/lookup-self", "")
	if f.Unsealed() != nil {
		t.Error("the keep is still in memory")
	}
}

// lastingSeal is a seal with a token.
type lastingSeal struct{ *servertest.Seal }

func (lastingSeal) TokenTTL() (time.Duration, bool) { return 90 * time.Second, true }

func TestTokenTTLMetric(t *testing.T) {
	f := fresh(t, lastingSeal{servertest.NewSeal("a", 1)})
	m := servertest.Scrape(t, f.Must(t, 200, "GET", "sys/metrics", ""))
	if got := m[`sealkeep_slot_token_ttl_seconds{slot="a",type="fake"}`]; got != "90" {
		t.Errorf("the token lives %q seconds", got)
	}
	if got, ok := m[`sealkeep_slot_token_ttl_seconds{slot="check",type="fake"}`]; ok {
		t.Errorf("a seal without a token: %s", got)
	}
	if m[`sealkeep_barrier_term_installed_timestamp_seconds`] == "" {
		t.Error("nothing about the barrier's key")
	}
}

func TestMetrics(t *testing.T) {
	a := servertest.NewSeal("a", 1)
	f := fresh(t, a)
	wide := f.Handler(server.Listener{UnauthenticatedMetricsAccess: true})
	anyone := func(h http.Handler) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/sys/metrics?format=prometheus", nil))
		return w.Code
	}
	if got := anyone(f.HTTP); got != 403 {
		t.Errorf("unsealed, without a token: %d", got)
	}
	if got := anyone(wide); got != 200 {
		t.Errorf("unsealed, on a listener that lets anyone: %d", got)
	}
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{}}`)
	for i := range 50 {
		f.Must(t, 404, "GET", fmt.Sprintf("secret/data/name%d", i), "")
		f.Must(t, 404, "GET", fmt.Sprintf("nowhere/name%d", i), "")
		f.Call(t, fmt.Sprintf("METHOD%d", i), "sys/mounts", "")
	}
	m := servertest.Scrape(t, f.Must(t, 200, "GET", "sys/metrics", ""))
	for name, want := range map[string]string{
		"sealkeep_sealed":      "0",
		"sealkeep_initialized": "1",
		`sealkeep_slot_healthy{class="",slot="a",type="fake"}`:                      "1",
		`sealkeep_http_requests_total{code="404",route="{mount}/data/{path}"}`:      "50",
		`sealkeep_http_requests_total{code="404",route="none"}`:                     "50",
		`sealkeep_http_requests_total{code="405",route="sys/mounts"}`:               "50",
		`sealkeep_http_requests_total{code="403",route="sys/metrics"}`:              "1",
		`sealkeep_http_request_duration_seconds_count{route="{mount}/data/{path}"}`: "51",
	} {
		if m[name] != want {
			t.Errorf("%s is %q, want %q", name, m[name], want)
		}
	}
	for _, name := range []string{"go_goroutines", "process_open_fds", "sealkeep_storage_commits_total", "sealkeep_storage_file_bytes"} {
		if m[name] == "" || m[name] == "0" {
			t.Errorf("%s is %q", name, m[name])
		}
	}
	for name := range m {
		if strings.Contains(name, "name1") || strings.Contains(name, "METHOD") {
			t.Errorf("a client has made up a label: %s", name)
		}
	}

	f.Keep.Seal()
	a = a.Again()
	a.Tell(servertest.Fails("auth_denied"))
	f.SetSeals([]keep.Seal{a})
	if err := f.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := anyone(f.HTTP); got != 200 {
		t.Errorf("sealed, without a token: %d", got)
	}
	m = servertest.Scrape(t, f.Must(t, 200, "GET", "sys/metrics", ""))
	for name, want := range map[string]string{
		"sealkeep_sealed": "1",
		`sealkeep_slot_healthy{class="auth_denied",slot="a",type="fake"}`:  "0",
		`sealkeep_slot_healthy{class="orphaned",slot="check",type="fake"}`: "0",
	} {
		if m[name] != want {
			t.Errorf("sealed: %s is %q, want %q", name, m[name], want)
		}
	}
	if m[`sealkeep_unseal_attempts_total{class="auth_denied",slot="a"}`] == "" {
		t.Error("failed attempts are not counted")
	}
}
