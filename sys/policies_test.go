package sys_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// The official client manages policies and sees what tokens may do.
func TestPoliciesByClient(t *testing.T) {
	f := fresh(t)
	c := f.Client(t)
	list := func(want ...string) {
		t.Helper()
		if got, err := c.Sys().ListPolicies(); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%q, want %q: %v", got, want, err)
		}
	}
	list("default", "root")
	const text = "path \"secret/data/team/*\" {\n  capabilities = [\"read\", \"list\"]\n}\n"
	for _, name := range []string{"Team", "a/b"} {
		if err := c.Sys().PutPolicy(name, text); err != nil {
			t.Fatal(err)
		}
	}
	list("a/b", "default", "team", "root")
	for _, name := range []string{"team", "TEAM", "a/b"} {
		if got, err := c.Sys().GetPolicy(name); err != nil || got != text {
			t.Errorf("%q %v", got, err)
		}
	}
	if got, err := c.Sys().GetPolicy("nobody"); err != nil || got != "" {
		t.Errorf("%q %v", got, err)
	}
	if got, err := c.Sys().GetPolicy("default"); err != nil || !strings.Contains(got, "lookup-self") {
		t.Errorf("%q %v", got, err)
	}
	if err := c.Sys().DeletePolicy("a/b"); err != nil {
		t.Error(err)
	}
	if err := c.Sys().DeletePolicy("a/b"); err != nil {
		t.Error(err)
	}
	list("default", "team", "root")

	secret := f.Bearer(t, "team", "default")
	team, err := c.Clone()
	if err != nil {
		t.Fatal(err)
	}
	team.SetToken(secret)
	for path, want := range map[string]string{"secret/data/team/x": "list read", "secret/data/team": "list", "sys/capabilities-self": "update", "/secret/data/team/x": "list read"} {
		if got, err := team.Sys().CapabilitiesSelf(path); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q %v", path, got, err)
		}
		if got, err := c.Sys().Capabilities(secret, path); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q %v", path, got, err)
		}
	}
	if got, err := c.Sys().CapabilitiesSelf("any/thing"); err != nil || strings.Join(got, " ") != "root" {
		t.Errorf("%q %v", got, err)
	}
	self, err := team.Auth().Token().LookupSelf()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Sys().CapabilitiesAccessor(self.Data["accessor"].(string), "secret/data/team/x"); err != nil || strings.Join(got, " ") != "list read" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := c.Sys().CapabilitiesAccessor("nobody", "x"); err == nil || !strings.Contains(err.Error(), "invalid accessor") {
		t.Error(err)
	}
	if _, err := team.Sys().ListPolicies(); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Error(err)
	}
}

func TestPolicyAPI(t *testing.T) {
	f := fresh(t)
	const text = `path "a" { capabilities = ["read"] }`
	quoted := `{"policy":"path \"a\" { capabilities = [\"read\"] }"}`
	f.Must(t, 204, "PUT", "sys/policy/x", strings.Replace(quoted, "policy", "rules", 1))
	r := f.Must(t, 200, "GET", "sys/policy/x", "")
	if r.Get("rules") != text || r.Get("data", "rules") != text || r.Get("name") != "x" {
		t.Error(r.Text)
	}
	r = f.Must(t, 200, "GET", "sys/policies/acl/x", "")
	if r.Get("data", "policy") != text || r.Get("policy") != nil || r.Get("data", "name") != "x" {
		t.Error(r.Text)
	}
	for _, method := range []string{"GET", "LIST"} {
		if r := f.Must(t, 200, method, "sys/policy", ""); fmt.Sprint(r.Get("policies")) != "[default x root]" || fmt.Sprint(r.Get("data", "keys")) != "[default x root]" {
			t.Error(r.Text)
		}
		if r := f.Must(t, 200, method, "sys/policies/acl", ""); fmt.Sprint(r.Get("data", "keys")) != "[default x root]" {
			t.Error(r.Text)
		}
	}
	f.Must(t, 204, "POST", "sys/policies/acl/y", `{"policy":"`+base64.StdEncoding.EncodeToString([]byte(text))+`"}`)
	if r := f.Must(t, 200, "GET", "sys/policies/acl/y", ""); r.Get("data", "policy") != text {
		t.Error(r.Text)
	}
	if r := f.Must(t, 200, "GET", "sys/policies/acl/root", ""); r.Get("data", "policy") != "" {
		t.Error(r.Text)
	}
	f.Must(t, 404, "GET", "sys/policies/acl/none", "")
	f.Must(t, 404, "GET", "sys/policies/acl/"+strings.Repeat("n", 1100), "")
	f.Must(t, 204, "DELETE", "sys/policies/acl/none", "")
	for _, c := range []struct{ method, path, body, want string }{
		{"PUT", "x", ``, "'policy' parameter not supplied or empty"},
		{"PUT", "x", `{"policy":""}`, "'policy' parameter not supplied or empty"},
		{"PUT", "x", `{"policy":"path \"a\" {\n capabilities = [\"fly\"]\n}"}`, `line 2: path "a": capabilities: there is no capability "fly"`},
		{"PUT", "x", `{"policy":"path \"a/{{identity.entity.id}}\" {}"}`, "templates in paths are not supported"},
		{"PUT", "x", `{"policy":"path \"a\" {}", "ttl":"1h"}`, `the parameter "ttl" is not supported`},
		{"PUT", "x", `{"policy":"path \"a\" {}", "cas":0}`, `the parameter "cas" is not supported`},
		{"PUT", "root", quoted, `cannot update "root" policy`},
		{"PUT", "ROOT", quoted, `cannot update "root" policy`},
		{"PUT", "response-wrapping", quoted, `cannot update "response-wrapping" policy`},
		{"PUT", strings.Repeat("n", 1100), quoted, "longer than 1024 bytes"},
		{"DELETE", "root", "", `cannot delete "root" policy`},
		{"DELETE", "default", "", `cannot delete "default" policy`},
	} {
		if r := f.Must(t, 400, c.method, "sys/policies/acl/"+c.path, c.body); !strings.Contains(r.Errors(), c.want) {
			t.Errorf("%s %s: %s", c.method, c.path, r.Text)
		}
	}
	long := `{"policy":"` + strings.Repeat("#", access.MaxPolicy) + `"}`
	f.Must(t, 204, "PUT", "sys/policies/acl/long", long)
	f.Must(t, 413, "PUT", "sys/policies/acl/long", strings.Repeat(" ", 2*access.MaxPolicy)+long)
}

// A changed policy counts for the next request of every token that has it.
func TestPolicyChangesAtOnce(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"v"}}`)
	token := "X-Vault-Token: " + f.Bearer(t, "p", "q")
	for range 3 {
		f.Must(t, 403, "GET", "secret/data/a", "", token)
		f.Must(t, 204, "PUT", "sys/policies/acl/p", `{"policy":"path \"secret/data/*\" { capabilities = [\"read\"] }"}`)
		f.Must(t, 200, "GET", "secret/data/a", "", token)
		f.Must(t, 204, "PUT", "sys/policies/acl/q", `{"policy":"path \"secret/data/*\" { capabilities = [\"deny\"] }"}`)
		f.Must(t, 403, "GET", "secret/data/a", "", token)
		f.Must(t, 204, "DELETE", "sys/policies/acl/q", "")
		f.Must(t, 200, "GET", "secret/data/a", "", token)
		f.Must(t, 204, "DELETE", "sys/policies/acl/p", "")
	}
	self := "X-Vault-Token: " + f.Bearer(t, "default")
	f.Must(t, 200, "GET", "auth/token/lookup-self", "", self)
	f.Must(t, 204, "PUT", "sys/policies/acl/default", `{"policy":"path \"x\" { }"}`)
	f.Must(t, 403, "GET", "auth/token/lookup-self", "", self)
}

// No request that begins after the answer to a change sees what was before,
// however many fill the cache meanwhile.
func TestPolicyChangesWhileRead(t *testing.T) {
	f := fresh(t)
	token := "X-Vault-Token: " + f.Bearer(t, "p")
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"v"}}`)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f.Call(t, "GET", "secret/data/a", "", token)
				}
			}
		})
	}
	for i := range 50 {
		caps, want := `\"read\"`, 200
		if i%2 == 1 {
			caps, want = "", 403
		}
		f.Must(t, 204, "PUT", "sys/policies/acl/p", `{"policy":"path \"secret/data/*\" { capabilities = [`+caps+`] }"}`)
		if r := f.Call(t, "GET", "secret/data/a", "", token); r.Status != want {
			t.Errorf("after change %d: %d", i, r.Status)
		}
	}
	close(stop)
	readers.Wait()
}

// A token that may only create never changes what is there, one that may only
// update makes nothing new.
func TestCreateAndUpdate(t *testing.T) {
	f := fresh(t)
	f.Policy(t, "create", map[string]string{"secret/*": `"create"`, "auth/token/roles/*": `"create"`})
	f.Policy(t, "update", map[string]string{"secret/*": `"update"`, "auth/token/roles/*": `"update"`})
	create, update := "X-Vault-Token: "+f.Bearer(t, "create"), "X-Vault-Token: "+f.Bearer(t, "update")
	both := "X-Vault-Token: " + f.Bearer(t, "create", "update")
	for _, c := range []struct{ path, body string }{
		{"secret/data/a/b", `{"data":{"k":"v"}}`}, {"secret/metadata/c", `{"max_versions":3}`}, {"auth/token/roles/r", `{"renewable":true}`},
	} {
		f.Must(t, 403, "PUT", c.path, c.body, update)
		if r := f.Call(t, "PUT", c.path, c.body, create); r.Status/100 != 2 {
			t.Errorf("%s: %d %s", c.path, r.Status, r.Text)
		}
		f.Must(t, 403, "PUT", c.path, c.body, create)
		if r := f.Call(t, "PUT", c.path, c.body, update); r.Status/100 != 2 {
			t.Errorf("%s: %d %s", c.path, r.Status, r.Text)
		}
		if r := f.Call(t, "PUT", c.path, c.body, both); r.Status/100 != 2 {
			t.Errorf("%s: %d %s", c.path, r.Status, r.Text)
		}
	}
	f.Must(t, 403, "PUT", "secret/config", `{"max_versions":3}`, create) // no distinction: an update
	f.Must(t, 204, "PUT", "secret/config", `{"max_versions":3}`, update)

	// Many create the same secret at once: one does.
	var made sync.WaitGroup
	results := make(chan int, 16)
	for i := range 16 {
		made.Go(func() {
			results <- f.Call(t, "PUT", "secret/data/race", fmt.Sprintf(`{"data":{"k":%d}}`, i), create).Status
		})
	}
	made.Wait()
	close(results)
	count := map[int]int{}
	for status := range results {
		count[status]++
	}
	if count[200] != 1 || count[403] != 15 {
		t.Errorf("created: %v", count)
	}
}

func TestParameterRules(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "PUT", "sys/policies/acl/p", `{"policy":"path \"sys/mounts/team\" {\n capabilities = [\"update\", \"delete\", \"read\"]\n allowed_parameters = { \"type\" = [\"kv\"], \"description\" = [\"a*\"] }\n required_parameters = [\"type\"]\n}\npath \"secret/metadata/*\" {\n capabilities = [\"list\", \"read\"]\n denied_parameters = { \"limit\" = [] }\n}"}`)
	token := "X-Vault-Token: " + f.Bearer(t, "p")
	for body, want := range map[string]int{
		``:                                    403,
		`{"description":"about"}`:             403,
		`{"type":"other"}`:                    403,
		`{"type":"kv","description":"b"}`:     403,
		`{"type":"kv","options":{}}`:          403,
		`{"type":"kv","Options":{}}`:          400,
		`{"type":"x","type":"kv"}`:            400,
		`{"type":"x","t\u0079pe":"kv"}`:       400,
		`[1]`:                                 400,
		`{"type":"kv"} {"options":{}}`:        400,
		`{"type":"kv"}x`:                      400,
		`null`:                                403,
		`{"type":"kv","description":"about"}`: 200,
	} {
		if r := f.Call(t, "PUT", "sys/mounts/team", body, token); r.Status != want {
			t.Errorf("%s: %d %s", body, r.Status, r.Text)
		}
	}
	f.Must(t, 403, "GET", "sys/mounts/team", "", token) // the parameters of a read are required too
	f.Must(t, 200, "GET", "sys/mounts/team?type=kv", "", token)
	f.Must(t, 400, "GET", "sys/mounts/team?type=kv&type=x", "", token)
	f.Must(t, 204, "DELETE", "sys/mounts/team", "", token)

	f.Must(t, 204, "PUT", "sys/policies/acl/q", `{"policy":"path \"sys/metrics\" {\n capabilities = [\"read\"]\n denied_parameters = { \"format\" = [] }\n}"}`)
	metrics := "X-Vault-Token: " + f.Bearer(t, "q") // which asks for itself
	f.Must(t, 200, "GET", "sys/metrics", "", metrics)
	f.Must(t, 403, "GET", "sys/metrics?format=prometheus", "", metrics)
	f.Must(t, 403, "GET", "sys/metrics", "", token)

	f.Must(t, 200, "PUT", "secret/data/x", `{"data":{}}`)
	f.Must(t, 200, "LIST", "secret/metadata", "", token)
	f.Must(t, 200, "GET", "secret/metadata?list=true&limit=1", "", token) // of a list they are not
	f.Must(t, 200, "GET", "secret/metadata/x", "", token)
	f.Must(t, 403, "GET", "secret/metadata/x?limit=1", "", token)
}

// Whoever may do something in a mount is told of it, and of no other.
func TestMountsByPolicy(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "POST", "sys/mounts/other", `{"type":"kv"}`)
	f.Policy(t, "p", map[string]string{"secret/data/a/*": `"read"`, "other/*": `"deny"`})
	token := "X-Vault-Token: " + f.Bearer(t, "p")
	r := f.Must(t, 200, "GET", "sys/internal/ui/mounts", "", token)
	if r.Get("data", "secret", "secret/") == nil || r.Get("data", "secret", "other/") != nil || r.Get("data", "secret", "sys/") != nil {
		t.Error(r.Text)
	}
	f.Must(t, 200, "GET", "sys/internal/ui/mounts/secret/a", "", token)
	f.Must(t, 403, "GET", "sys/internal/ui/mounts/other/a", "", token)
	f.Must(t, 403, "GET", "sys/internal/ui/mounts/secret/a", "", "X-Vault-Token: ")
}

// BenchmarkGate is a read by a token with 20 policies, whose handler does
// nothing: next to BenchmarkLookupSelf it shows what the decision costs.
func BenchmarkGate(b *testing.B) {
	nothing := api.Type{Name: "nothing", Kind: api.System, At: "nothing/", Routes: []api.Route{{Path: "at", Ops: map[api.Op]api.Handler{
		api.Read: api.Do(func(*api.Request, *api.None) (api.Answer, error) { return api.Answer{}, nil }),
	}}}}
	f := &fixture{servertest.Fresh(b, servertest.Config{Types: append(types(), nothing)})}
	var names []string
	for i := range 20 {
		paths := map[string]string{}
		for j := range 10 {
			paths[fmt.Sprintf([]string{"secret/data/team%d/app%d", "secret/data/team%d/+/%d/*", "secret/metadata/team%d/%d*"}[j%3], i, j)] = `"read"`
		}
		names = append(names, fmt.Sprint("policy-", i))
		f.Policy(b, names[i], paths)
	}
	f.Policy(b, names[19], map[string]string{"sys/leader-x": `"read"`, "nothing/at": `"read"`})
	req := httptest.NewRequest("GET", "/v1/nothing/at", nil)
	req.Header.Set("X-Vault-Token", f.Bearer(b, names...))
	w := &servertest.NullWriter{Head: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		f.HTTP.ServeHTTP(w, req)
	}
	if w.Code != 204 {
		b.Fatal(w.Code)
	}
}

// What is listed is a folder: its path ends in a slash for the policies, which
// may leave it out where they name just this folder.
func TestListsAreOfFolders(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "PUT", "secret/data/team/a", `{"data":{}}`)
	for path, want := range map[string]int{
		"secret/metadata/team/*": 200, "secret/metadata/team/": 200, "secret/metadata/team": 200, "secret/metadata/+/": 200, "secret/metadata/*": 200, "secret/metadata/+": 200,
		"secret/metadata/team/a": 403, "secret/metadata/team/a*": 403, "secret/metadata/team/+/": 403,
	} {
		for op, other := range map[string]string{"list": "scan", "scan": "list"} {
			f.Policy(t, "p", map[string]string{path: `"` + op + `"`})
			token := "X-Vault-Token: " + f.Bearer(t, "p")
			method := strings.ToUpper(op)
			for _, folder := range []string{method + " secret/metadata/team", method + " secret/metadata/team/", "GET secret/metadata/team?" + op + "=true", "GET secret/metadata/team/?" + op + "=1"} {
				method, at, _ := strings.Cut(folder, " ")
				if r := f.Call(t, method, at, "", token); r.Status != want {
					t.Errorf("%s by %s: %d, want %d", folder, path, r.Status, want)
				}
			}
			f.Must(t, 403, "GET", "secret/metadata/team", "", token)
			f.Must(t, 403, strings.ToUpper(other), "secret/metadata/team", "", token)
		}
	}
}

// The warning about policies that do not exist takes no parsing of those that do: a policy may have 128 KiB, a token
// 256 of them. A policy that does not parse shows that it is left alone.
func TestTokenCreateParsesNoPolicies(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "POST", "sys/policies/acl/app", `{"policy":"path \"secret/*\" { capabilities = [\"read\"] }"}`)
	u := f.Unsealed()
	if err := u.Store.Update(context.Background(), func(tx *storage.Tx) error {
		return tx.Put("access/policy/app", []byte(`{"version":1,"text":"path {"}`))
	}); err != nil {
		t.Fatal(err)
	}
	got := f.Must(t, 200, "POST", "auth/token/create", `{"policies":["app","absent"]}`)
	if warnings := fmt.Sprint(got.Get("warnings")); warnings != `[Policy "absent" does not exist]` {
		t.Errorf("warnings: %s", warnings)
	}
	// What a token may carry is bounded before the transaction, and what a role compares it with, too.
	many := strings.TrimSuffix(strings.Repeat(`"p",`, 257), ",")
	f.Must(t, 400, "POST", "auth/token/create", `{"policies":[`+many+`]}`)
	for _, list := range []string{"allowed_policies", "allowed_policies_glob", "disallowed_policies", "disallowed_policies_glob"} {
		f.Must(t, 400, "POST", "auth/token/roles/r", `{"`+list+`":[`+many+`]}`)
	}
}
