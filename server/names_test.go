package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/storage"
)

// Two sets of policies share what is compiled only when they are the same, whatever
// the names.
func TestANULInAPolicyNameDoesNotCollideInTheACLCache(t *testing.T) {
	f := fresh(t)
	f.policy(t, "admin", map[string]string{"secret/*": `"read"`})
	for _, sets := range [][2][]string{
		{{"admin", "default"}, {"admin\x00default"}},
		{{"admin", "default"}, {"5:admin7:default"}},
		{{"admin", "a"}, {"admin1:a"}},
	} {
		real, forged := f.bearer(t, sets[0]...), f.bearer(t, sets[1]...)
		for _, order := range [][]string{{real, forged}, {forged, real}} {
			f.forget(t)
			for _, token := range order {
				want := 403
				if token == real {
					want = 404
				}
				f.must(t, want, "GET", "secret/data/x", "", as(token))
			}
		}
	}
}

// No name has characters that are not printed, whichever way it comes.
func TestNamesHaveNoControlCharacters(t *testing.T) {
	f := fresh(t)
	f.must(t, 204, "POST", "auth/token/roles/ci", `{"disallowed_policies":"admin"}`)
	for _, method := range []string{"userpass", "approle", "peer", "cert"} {
		f.must(t, 204, "POST", "sys/auth/"+method, `{"type":"`+method+`"}`)
	}
	f.must(t, 204, "POST", "auth/userpass/users/ann", `{"password":"pw"}`)
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
				f.must(t, 204, "POST", "auth/approle/role/web", `{}`)
			}
			if strings.Contains(body, "%s") {
				body = fmt.Sprintf(body, evil)
			}
			if r := f.call(t, "POST", path, body); r.status != 400 {
				t.Errorf("%q %s: %d %s", path, body, r.status, r.text)
			}
		}
	}
	issuer := newJWTIssuer(t)
	f.must(t, 204, "POST", "sys/auth/jwt", `{"type":"jwt"}`)
	f.must(t, 204, "POST", "auth/jwt/config", fmt.Sprintf(`{"jwt_validation_pubkeys":%q}`, issuer.public))
	f.must(t, 204, "POST", "auth/jwt/role/ci", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"keep"}`)
	jwt := issuer.sign(t, map[string]any{"sub": "ann\x00bob"})
	if r := f.call(t, "POST", "auth/jwt/login", `{"role":"ci","jwt":"`+jwt+`"}`); r.status != 400 || !strings.Contains(r.text, "not printed") {
		t.Error(r.text)
	}
}

// disallowed_policies and its patterns refuse a policy however either is written,
// also in a role that an older program wrote.
func TestDisallowedPoliciesAreComparedInCanonicalForm(t *testing.T) {
	f := fresh(t)
	for _, role := range []string{`{"disallowed_policies":["Admin"]}`, `{"disallowed_policies":" ADMIN ,other"}`, `{"disallowed_policies_glob":["Adm*"]}`} {
		f.must(t, 204, "POST", "auth/token/roles/ci", role)
		for _, name := range []string{"admin", "Admin", " ADMIN "} {
			r := f.call(t, "POST", "auth/token/create/ci", `{"policies":["`+name+`"]}`)
			if r.status != 400 || !strings.Contains(r.text, "disallowed by this role") {
				t.Errorf("%s, %s: %d %s", role, name, r.status, r.text)
			}
		}
		f.must(t, 204, "DELETE", "auth/token/roles/ci", "")
	}
	err := f.keep.Load().Store.Update(t.Context(), func(tx *storage.Tx) error {
		return tx.Put("access/token-role/old", []byte(`{"version":1,"disallowed_policies":["Admin"],"disallowed_policies_glob":["Op*"],"type":"service"}`))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"admin", "ops"} {
		f.must(t, 400, "POST", "auth/token/create/old", `{"policies":["`+name+`"]}`)
	}
	f.must(t, 204, "POST", "auth/token/roles/ci", `{"allowed_policies":["Web"],"allowed_policies_glob":["App-*"]}`)
	for name, want := range map[string]int{"web": 200, "APP-x": 200, "admin": 400} {
		f.must(t, want, "POST", "auth/token/create/ci", `{"policies":["`+name+`"]}`)
	}
	if r := f.must(t, 200, "GET", "auth/token/roles/ci", ""); say(r.get("data", "allowed_policies"), r.get("data", "allowed_policies_glob")) != "[web] [app-*]" {
		t.Error(r.text)
	}
}

// A rule for the name of a user, role or policy is for every way to write it.
func TestDenyOnAUserStopsEverySpellingOfTheName(t *testing.T) {
	f := fresh(t)
	for _, method := range []string{"userpass", "approle", "peer", "jwt", "cert"} {
		f.must(t, 204, "POST", "sys/auth/"+method, `{"type":"`+method+`"}`)
	}
	f.policy(t, "helpdesk", map[string]string{
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
	token := f.bearer(t, "helpdesk")
	for _, name := range []string{"boss", "BOSS", "Boss", " boss", "bosS "} {
		for path := range map[string]bool{
			"auth/userpass/users/%s": true, "auth/userpass/users/%s/password": true, "auth/userpass/users/%s/policies": true,
			"auth/approle/role/%s": true, "auth/approle/role/%s/secret-id": true, "auth/peer/role/%s": true, "auth/jwt/role/%s": true,
			"auth/cert/certs/%s": true, "auth/cert/crls/%s": true, "sys/policies/acl/%s": true, "sys/policy/%s": true,
		} {
			path = fmt.Sprintf(path, name)
			if r := f.call(t, "POST", path, `{"password":"pw","token_policies":["x"]}`, as(token)); r.status != 403 {
				t.Errorf("%q: %d %s", path, r.status, r.text)
			}
			r := f.must(t, 200, "POST", "sys/capabilities-self", fmt.Sprintf(`{"paths":[%q]}`, path), as(token))
			if got := fmt.Sprint(r.get("data", "capabilities")); got != "[deny]" {
				t.Errorf("%q: %s", path, got)
			}
		}
	}
	f.must(t, 204, "POST", "auth/userpass/users/Ann", `{"password":"pw"}`, as(token))

	r := f.must(t, 200, "POST", "sys/policies/acl/x", `{"policy":"path \"auth/userpass/users/Boss*\" {}\npath \"auth/+/users/ok\" {}\npath \"secret/data/Boss\" {}"}`)
	if got := fmt.Sprint(r.get("warnings")); got != `[The rule for "auth/userpass/users/Boss*" matches no request, because names there are in lower case: write "auth/userpass/users/boss*"]` {
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
		f.must(t, 204, "POST", "sys/policies/acl/p", fmt.Sprintf(`{"policy":%q}`, "path \"*\" {\n capabilities = [\"create\", \"read\", \"update\", \"sudo\"]\n"+rules+"\n}"))
		return f.bearer(t, "p")
	}
	token := policy(`required_parameters = ["options"]`)
	f.must(t, 200, "POST", "secret/data/a", `{"data":{"k":"1"},"options":{"cas":0}}`, as(token))
	f.must(t, 400, "POST", "secret/data/a", `{"data":{"k":"2"},"OPTIONS":{"cas":0}}`, as(token))
	f.must(t, 403, "POST", "secret/data/a", `{"data":{"k":"2"},"options":null}`, as(token))
	for v := range 2 {
		f.must(t, 200, "POST", "secret/data/a", fmt.Sprintf(`{"data":{"k":%d}}`, v))
	}
	token = policy(`allowed_parameters = { version = ["1"] }
		required_parameters = ["version"]`)
	if r := f.must(t, 200, "GET", "secret/data/a?version=1", "", as(token)); fmt.Sprint(r.get("data", "metadata", "version")) != "1" {
		t.Error(r.text)
	}
	f.must(t, 400, "GET", "secret/data/a?VERSION=1", "", as(token))
	f.must(t, 403, "GET", "secret/data/a?version=3", "", as(token))
	f.must(t, 403, "GET", "secret/data/a?version=", "", as(token))
	f.must(t, 400, "GET", "secret/data/a?version=1&version=1", "", as(token))
	f.must(t, 400, "GET", "secret/data/a?version=&version=1", "", as(token))

	token = policy(`allowed_parameters = { policies = ["app-*"] }`)
	f.must(t, 200, "POST", "auth/token/create", `{"policies":["app-x"]}`, as(token))
	f.must(t, 403, "POST", "auth/token/create", `{"policies":"app-x,admin"}`, as(token))
	token = policy(`denied_parameters = { no_parent = [true], ttl = ["768h"], policies = ["admin"] }`)
	for body, want := range map[string]int{
		`{"no_parent":"1"}`: 403, `{"no_parent":"T"}`: 403, `{"no_parent":1}`: 403, `{"no_parent":false}`: 200,
		`{"ttl":2764800}`: 403, `{"ttl":"32d"}`: 403, `{"lease":"32d"}`: 403, `{"ttl":"1h"}`: 200,
		`{"policies":["Admin"]}`: 403, `{"policies":["app"]}`: 200,
	} {
		f.must(t, want, "POST", "auth/token/create", body, as(token))
	}
	token = policy(`required_parameters = ["ttl"]`)
	f.must(t, 403, "POST", "auth/token/create", `{"ttl":null}`, as(token))

	// In a cubbyhole the names are the client's.
	token = policy(`allowed_parameters = { Password = [] }`)
	f.must(t, 204, "POST", "cubbyhole/a", `{"Password":"x"}`, as(token))
	f.must(t, 403, "POST", "cubbyhole/a", `{"Passwort":"x"}`, as(token))
}

// Where the whole body is the client's own data, rules about parameters see its
// fields.
func TestRulesSeeTheClientsOwnData(t *testing.T) {
	f := fresh(t)
	f.mountV1(t)
	const rules = " {\n capabilities = [\"create\", \"update\"]\n denied_parameters = { \"b\" = [] }\n}\n"
	f.must(t, 204, "PUT", "sys/policies/acl/rules", `{"policy":`+quote(`path "kv/*"`+rules+`path "cubbyhole/*"`+rules+`path "sys/wrapping/wrap"`+rules)+`}`)
	token := as(f.bearer(t, "rules"))
	for path, status := range map[string]int{"kv/a": 204, "cubbyhole/a": 204, "sys/wrapping/wrap": 200} {
		f.must(t, 403, "PUT", path, `{"a":1,"b":2}`, token, "X-Vault-Wrap-TTL: 60")
		f.must(t, 403, "PUT", path, `{"B":2}`, token, "X-Vault-Wrap-TTL: 60")
		if r := f.must(t, status, "PUT", path, `{"a":1}`, token, "X-Vault-Wrap-TTL: 60"); r.get("warnings") != nil {
			t.Errorf("%s: %s", path, r.text)
		}
	}
}
