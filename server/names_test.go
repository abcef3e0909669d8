package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// Two sets of policies share what is compiled only when they are the same, whatever
// the names.
func TestANULInAPolicyNameDoesNotCollideInTheACLCache(t *testing.T) {
	f := fresh(t)
	f.Policy(t, "admin", map[string]string{"secret/*": `"read"`})
	for _, sets := range [][2][]string{
		{{"admin", "default"}, {"admin\x00default"}},
		{{"admin", "default"}, {"5:admin7:default"}},
		{{"admin", "a"}, {"admin1:a"}},
	} {
		real, forged := f.Bearer(t, sets[0]...), f.Bearer(t, sets[1]...)
		for _, order := range [][]string{{real, forged}, {forged, real}} {
			f.Forget(t)
			for _, token := range order {
				want := 403
				if token == real {
					want = 404
				}
				f.Must(t, want, "GET", "secret/data/x", "", servertest.As(token))
			}
		}
	}
}

// No name has characters that are not printed, whichever way it comes.
func TestNamesHaveNoControlCharacters(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "POST", "auth/token/roles/ci", `{"disallowed_policies":"admin"}`)
	for _, method := range []string{"userpass", "approle", "peer", "cert"} {
		f.Must(t, 204, "POST", "sys/auth/"+method, `{"type":"`+method+`"}`)
	}
	f.Must(t, 204, "POST", "auth/userpass/users/ann", `{"password":"pw"}`)
	for _, escape := range []string{`\u0000`, `\n`, `\u001b`, `\u007f`, `\u202e`, `\u200b`, `\u2028`} {
		evil := `"admin` + escape + `default"`
		for path, body := range map[string]string{
			"auth/token/create":                 `{"policies":[%s]}`,
			"auth/token/create-orphan":          `{"policies":[%s]}`,
			"auth/token/create/ci":              `{"policies":[%s]}`,
			"auth/token/roles/one":              `{"allowed_policies":[%s]}`,
			"auth/token/roles/two":              `{"allowed_policies_glob":[%s]}`,
			"auth/token/roles/three":            `{"disallowed_policies":[%s]}`,
			"auth/token/roles/four":             `{"disallowed_policies_glob":[%s]}`,
			"auth/token/roles/five":             `{"path_suffix":%s}`,
			"auth/userpass/users/bob":           `{"password":"pw","token_policies":[%s]}`,
			"auth/userpass/users/ann/policies":  `{"token_policies":[%s]}`,
			"auth/approle/role/web":             `{"token_policies":[%s]}`,
			"auth/approle/role/web/policies":    `{"policies":[%s]}`,
			"auth/peer/role/web":                `{"bound_uids":[1],"token_policies":[%s]}`,
			"sys/remount":                       `{"from":"secret","to":%s}`,
			"auth/userpass/users/ann\u200b":     `{"password":"pw"}`,
			"sys/policies/acl/admin\ndefault":   `{"policy":"path \"a\" {}"}`,
			"auth/token/roles/ci\x00":           `{}`,
			"sys/mounts/sec\x00ret":             `{"type":"kv"}`,
			"sys/auth/user\x1bpass":             `{"type":"userpass"}`,
			"auth/approle/role/web\x7f/role-id": `{"role_id":"x"}`,
		} {
			if path == "auth/approle/role/web/policies" {
				f.Must(t, 204, "POST", "auth/approle/role/web", `{}`)
			}
			if strings.Contains(body, "%s") {
				body = fmt.Sprintf(body, evil)
			}
			if r := f.Call(t, "POST", path, body); r.Status != 400 {
				t.Errorf("%q %s: %d %s", path, body, r.Status, r.Text)
			}
		}
	}
}

// disallowed_policies and its patterns refuse a policy however either is written,
// also in a role that an older program wrote.
func TestDisallowedPoliciesAreComparedInCanonicalForm(t *testing.T) {
	f := fresh(t)
	for _, role := range []string{`{"disallowed_policies":["Admin"]}`, `{"disallowed_policies":" ADMIN ,other"}`, `{"disallowed_policies_glob":["Adm*"]}`} {
		f.Must(t, 204, "POST", "auth/token/roles/ci", role)
		for _, name := range []string{"admin", "Admin", " ADMIN "} {
			r := f.Call(t, "POST", "auth/token/create/ci", `{"policies":["`+name+`"]}`)
			if r.Status != 400 || !strings.Contains(r.Text, "disallowed by this role") {
				t.Errorf("%s, %s: %d %s", role, name, r.Status, r.Text)
			}
		}
		f.Must(t, 204, "DELETE", "auth/token/roles/ci", "")
	}
	err := f.Unsealed().Store.Update(t.Context(), func(tx *storage.Tx) error {
		return tx.Put("access/token-role/old", []byte(`{"version":1,"disallowed_policies":["Admin"],"disallowed_policies_glob":["Op*"],"type":"service"}`))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"admin", "ops"} {
		f.Must(t, 400, "POST", "auth/token/create/old", `{"policies":["`+name+`"]}`)
	}
	f.Must(t, 204, "POST", "auth/token/roles/ci", `{"allowed_policies":["Web"],"allowed_policies_glob":["App-*"]}`)
	for name, want := range map[string]int{"web": 200, "APP-x": 200, "admin": 400} {
		f.Must(t, want, "POST", "auth/token/create/ci", `{"policies":["`+name+`"]}`)
	}
	if r := f.Must(t, 200, "GET", "auth/token/roles/ci", ""); servertest.Say(r.Get("data", "allowed_policies"), r.Get("data", "allowed_policies_glob")) != "[web] [app-*]" {
		t.Error(r.Text)
	}
}

// A rule for the name of a user, role or policy is for every way to write it.
func TestDenyOnAUserStopsEverySpellingOfTheName(t *testing.T) {
	f := fresh(t)
	for _, method := range []string{"userpass", "approle", "peer", "jwt", "cert"} {
		f.Must(t, 204, "POST", "sys/auth/"+method, `{"type":"`+method+`"}`)
	}
	f.Policy(t, "helpdesk", map[string]string{
		"*":                                 `"create", "read", "update", "delete", "list", "sudo"`,
		"auth/userpass/users/boss":          `"deny"`,
		"auth/userpass/users/boss/password": `"deny"`,
		"auth/userpass/users/boss/policies": `"deny"`,
		"auth/approle/role/boss":            `"deny"`,
		"auth/approle/role/boss/secret-id":  `"deny"`,
		"auth/peer/role/boss":               `"deny"`,
		"auth/jwt/role/boss":                `"deny"`,
		"auth/cert/certs/boss":              `"deny"`,
		"auth/cert/crls/boss":               `"deny"`,
		"sys/policies/acl/boss":             `"deny"`,
		"sys/policy/boss":                   `"deny"`,
	})
	token := f.Bearer(t, "helpdesk")
	for _, name := range []string{"boss", "BOSS", "Boss", " boss", "bosS "} {
		for path := range map[string]bool{
			"auth/userpass/users/%s": true, "auth/userpass/users/%s/password": true, "auth/userpass/users/%s/policies": true,
			"auth/approle/role/%s": true, "auth/approle/role/%s/secret-id": true, "auth/peer/role/%s": true, "auth/jwt/role/%s": true,
			"auth/cert/certs/%s": true, "auth/cert/crls/%s": true, "sys/policies/acl/%s": true, "sys/policy/%s": true,
		} {
			path = fmt.Sprintf(path, name)
			if r := f.Call(t, "POST", path, `{"password":"pw","token_policies":["x"]}`, servertest.As(token)); r.Status != 403 {
				t.Errorf("%q: %d %s", path, r.Status, r.Text)
			}
			r := f.Must(t, 200, "POST", "sys/capabilities-self", fmt.Sprintf(`{"paths":[%q]}`, path), servertest.As(token))
			if got := fmt.Sprint(r.Get("data", "capabilities")); got != "[deny]" {
				t.Errorf("%q: %s", path, got)
			}
		}
	}
	f.Must(t, 204, "POST", "auth/userpass/users/Ann", `{"password":"pw"}`, servertest.As(token))

	r := f.Must(t, 200, "POST", "sys/policies/acl/x", `{"policy":"path \"auth/userpass/users/Boss*\" {}\npath \"auth/+/users/ok\" {}\npath \"secret/data/Boss\" {}"}`)
	if got := fmt.Sprint(r.Get("warnings")); got != `[The rule for "auth/userpass/users/Boss*" matches no request, because names there are in lower case: write "auth/userpass/users/boss*"]` {
		t.Error(got)
	}
}

func FuzzCanonicalName(f *testing.F) {
	for _, name := range []string{"Admin", " a b ", "İ", "K", "ſ", "ǅ", "a\x00b", "\xff"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		once := access.CanonicalName(name)
		if twice := access.CanonicalName(once); twice != once {
			t.Errorf("%q becomes %q, then %q", name, once, twice)
		}
	})
}

// A rule about parameters is met by what the handler reads, and by nothing else.
func TestParameterRulesSeeTheSameAsTheHandler(t *testing.T) {
	f := fresh(t)
	policy := func(rules string) (token string) {
		t.Helper()
		f.Must(t, 204, "POST", "sys/policies/acl/p", fmt.Sprintf(`{"policy":%q}`, "path \"*\" {\n capabilities = [\"create\", \"read\", \"update\", \"sudo\"]\n"+rules+"\n}"))
		return f.Bearer(t, "p")
	}
	token := policy(`required_parameters = ["options"]`)
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"1"},"options":{"cas":0}}`, servertest.As(token))
	f.Must(t, 400, "POST", "secret/data/a", `{"data":{"k":"2"},"OPTIONS":{"cas":0}}`, servertest.As(token))
	f.Must(t, 403, "POST", "secret/data/a", `{"data":{"k":"2"},"options":null}`, servertest.As(token))
	for v := range 2 {
		f.Must(t, 200, "POST", "secret/data/a", fmt.Sprintf(`{"data":{"k":%d}}`, v))
	}
	token = policy(`allowed_parameters = { version = ["1"] }
		required_parameters = ["version"]`)
	if r := f.Must(t, 200, "GET", "secret/data/a?version=1", "", servertest.As(token)); fmt.Sprint(r.Get("data", "metadata", "version")) != "1" {
		t.Error(r.Text)
	}
	f.Must(t, 400, "GET", "secret/data/a?VERSION=1", "", servertest.As(token))
	f.Must(t, 403, "GET", "secret/data/a?version=3", "", servertest.As(token))
	f.Must(t, 403, "GET", "secret/data/a?version=", "", servertest.As(token))
	f.Must(t, 400, "GET", "secret/data/a?version=1&version=1", "", servertest.As(token))
	f.Must(t, 400, "GET", "secret/data/a?version=&version=1", "", servertest.As(token))

	token = policy(`allowed_parameters = { policies = ["app-*"] }`)
	f.Must(t, 200, "POST", "auth/token/create", `{"policies":["app-x"]}`, servertest.As(token))
	f.Must(t, 403, "POST", "auth/token/create", `{"policies":"app-x,admin"}`, servertest.As(token))
	token = policy(`denied_parameters = { no_parent = [true], ttl = ["768h"], policies = ["admin"] }`)
	for body, want := range map[string]int{
		`{"no_parent":"1"}`: 403, `{"no_parent":"T"}`: 403, `{"no_parent":1}`: 403, `{"no_parent":false}`: 200,
		`{"ttl":2764800}`: 403, `{"ttl":"32d"}`: 403, `{"lease":"32d"}`: 403, `{"ttl":"1h"}`: 200,
		`{"policies":["Admin"]}`: 403, `{"policies":["app"]}`: 200,
	} {
		f.Must(t, want, "POST", "auth/token/create", body, servertest.As(token))
	}
	token = policy(`required_parameters = ["ttl"]`)
	f.Must(t, 403, "POST", "auth/token/create", `{"ttl":null}`, servertest.As(token))

	// In a cubbyhole the names are the client's.
	token = policy(`allowed_parameters = { Password = [] }`)
	f.Must(t, 204, "POST", "cubbyhole/a", `{"Password":"x"}`, servertest.As(token))
	f.Must(t, 403, "POST", "cubbyhole/a", `{"Passwort":"x"}`, servertest.As(token))
}

// Where the whole body is the client's own data, rules about parameters see its
// fields.
func TestRulesSeeTheClientsOwnData(t *testing.T) {
	f := fresh(t)
	f.Must(t, 204, "POST", "sys/mounts/kv", `{"type":"kv","options":{"version":"1"}}`)
	const rules = " {\n capabilities = [\"create\", \"update\"]\n denied_parameters = { \"b\" = [] }\n}\n"
	f.Must(t, 204, "PUT", "sys/policies/acl/rules", `{"policy":`+servertest.JSONText(`path "kv/*"`+rules+`path "cubbyhole/*"`+rules+`path "sys/wrapping/wrap"`+rules)+`}`)
	token := servertest.As(f.Bearer(t, "rules"))
	for path, status := range map[string]int{"kv/a": 204, "cubbyhole/a": 204, "sys/wrapping/wrap": 200} {
		f.Must(t, 403, "PUT", path, `{"a":1,"b":2}`, token, "X-Vault-Wrap-TTL: 60")
		f.Must(t, 403, "PUT", path, `{"B":2}`, token, "X-Vault-Wrap-TTL: 60")
		if r := f.Must(t, status, "PUT", path, `{"a":1}`, token, "X-Vault-Wrap-TTL: 60"); r.Get("warnings") != nil {
			t.Errorf("%s: %s", path, r.Text)
		}
	}
}
