package jwt_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	vault "github.com/hashicorp/vault/api"
	"github.com/sealkeep/sealkeep/servertest"
)

func TestLoginJWT(t *testing.T) {
	f := fresh(t)
	i := servertest.NewIssuer(t)
	f.Must(t, 204, "POST", "sys/auth/ci", `{"type":"jwt"}`)
	f.Must(t, 404, "GET", "auth/ci/config", "")
	f.Must(t, 404, "GET", "auth/ci/role/x", "")
	f.Must(t, 404, "LIST", "auth/ci/role", "")
	login := func(status int, role, jwt string, headers ...string) servertest.Reply {
		t.Helper()
		return f.Must(t, status, "POST", "auth/ci/login", servertest.JSONText(map[string]string{"role": role, "jwt": jwt}), append(headers, "X-Vault-Token: ")...)
	}
	if r := login(400, "deploy", "x"); r.Errors() != "could not load configuration" {
		t.Error(r.Text)
	}
	for body, text := range map[string]string{
		`{}`: "exactly one of",
		`{"jwks_url":"https://127.0.0.1:1/x","oidc_client_id":"x"}`:                                "login in a browser",
		`{"jwks_url":"https://127.0.0.1:1/x","provider_config":{"provider":"azure"}}`:              "provider_config",
		`{"jwks_url":"https://127.0.0.1:1/x","override_allowed_server_names":"a"}`:                 "override_allowed_server_names",
		`{"jwks_url":"https://127.0.0.1:1/x"}`:                                                     "error checking jwks URL",
		`{"oidc_discovery_url":"https://127.0.0.1:1","skip_jwks_validation":false}`:                "error checking oidc discovery URL",
		`{"jwt_validation_pubkeys":"x"}`:                                                           "error parsing public key 1",
		`{"jwt_validation_pubkeys":` + servertest.JSONText(i.Public) + `,"jwt_supported_algs":""}`: "",
	} {
		if r := f.Call(t, "POST", "auth/ci/config", body); r.Status == 400 != (text != "") || !strings.Contains(r.Text, text) {
			t.Errorf("%s: %d %s", body, r.Status, r.Text)
		}
	}
	if r := f.Must(t, 200, "POST", "auth/ci/config", `{"jwks_url":"https://127.0.0.1:1/x","skip_jwks_validation":"true"}`); !strings.Contains(fmt.Sprint(r.Get("warnings")), "error checking jwks URL") {
		t.Error(r.Text)
	}
	f.Must(t, 204, "POST", "auth/ci/config", servertest.JSONText(map[string]any{"jwt_validation_pubkeys": []string{i.Public}, "bound_issuer": "https://ci.example.com", "default_role": "Deploy"}))
	if r := f.Must(t, 200, "GET", "auth/ci/config", ""); servertest.Say(r.Get("data", "bound_issuer"), r.Get("data", "default_role"), len(r.Get("data", "jwt_validation_pubkeys").([]any)), r.Get("data", "jwks_url")) != "https://ci.example.com deploy 1 " {
		t.Error(r.Text)
	}

	for body, text := range map[string]string{
		`{"role_type":"oidc"}`:                                   "login in a browser",
		`{"role_type":"x"}`:                                      "invalid 'role_type': x",
		`{"user_claim":"sub"}`:                                   "at least one bound constraint",
		`{"bound_audiences":"keep"}`:                             "user claim must be defined",
		`{"groups_claim":"groups"}`:                              "groups_claim is not supported",
		`{"token_policies_template_claims":"1"}`:                 "not supported",
		`{"bound_claims_type":"regexp"}`:                         "invalid 'bound_claims_type'",
		`{"bound_claims":"ref=main"}`:                            "bound_claims is not an object",
		`{"bound_claims":{"a":{}},"user_claim":"sub"}`:           "is not a string, bool, number",
		`{"claim_mappings":"x"}`:                                 "claim_mappings is not an object",
		`{"user_claim":"x","bound_subject":"x","token_ttl":-1}`:  "cannot be negative",
		`{"user_claim":"x","bound_subject":"x","max_ttl":"x"}`:   "not a duration",
		`{"user_claim":"x","bound_audiences":"a","policies":[]}`: "",
	} {
		f.Must(t, 204, "DELETE", "auth/ci/role/bad", "")
		if r := f.Call(t, "POST", "auth/ci/role/bad", body); r.Status == 400 != (text != "") || !strings.Contains(r.Text, text) {
			t.Errorf("%s: %d %s", body, r.Status, r.Text)
		}
	}
	f.Must(t, 400, "POST", "auth/ci/role/a/b", `{"user_claim":"x","bound_audiences":"a"}`)
	f.Must(t, 204, "DELETE", "auth/ci/role/bad", "")
	f.Must(t, 204, "POST", "auth/ci/role/Deploy", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"keep,other","bound_claims":{"sub":["repo:one:*","repo:two:*"],"big":"*"},
		"bound_claims_type":"glob","claim_mappings":"sub=subject,/deep/n=number","clock_skew_leeway":"30","token_policies":"app","token_ttl":"10m","token_max_ttl":"1h"}`)
	f.Must(t, 204, "POST", "auth/ci/role/deploy", `{"bound_claims":"{\"sub\":[\"repo:one:*\"]}","expiration_leeway":-1}`) // the rest stays
	if r := f.Must(t, 200, "GET", "auth/ci/role/deploy", ""); servertest.Say(r.Get("data", "bound_claims"), r.Get("data", "bound_claims_type"), r.Get("data", "bound_audiences"), r.Get("data", "claim_mappings"),
		r.Get("data", "token_policies"), r.Get("data", "token_ttl"), r.Get("data", "expiration_leeway"), r.Get("data", "role_type")) !=
		"map[sub:[repo:one:*]] glob [keep other] map[/deep/n:number sub:subject] [app] 600 -1 jwt" {
		t.Error(r.Text)
	}
	if r := f.Must(t, 200, "LIST", "auth/ci/role", ""); fmt.Sprint(r.Get("data", "keys")) != "[deploy]" {
		t.Error(r.Text)
	}

	good := i.Sign(t, nil)
	r := login(200, "DEPLOY", good)
	if got := servertest.Say(r.Get("auth", "policies"), r.Get("auth", "lease_duration"), r.Get("auth", "metadata")); got != "[app default] 600 map[role:deploy subject:repo:one:ref:refs/heads/main]" {
		t.Error(got)
	}
	token := r.Get("auth", "client_token").(string)
	r = f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(token))
	if got := servertest.Say(r.Get("data", "display_name"), r.Get("data", "path")); got != "ci-repo-one-ref-refs-heads-main auth/ci/login" {
		t.Error(got)
	}
	login(200, "", i.Sign(t, map[string]any{"aud": []string{"x", "other"}, "sub": "repo:one:" + strings.Repeat("ö", 2000)})) // the default role
	for what, c := range map[string]struct{ role, jwt, text string }{
		"another role":     {"nobody", good, `role "nobody" could not be found`},
		"no JWT":           {"deploy", "", "missing token"},
		"another audience": {"deploy", i.Sign(t, map[string]any{"aud": "vault"}), "audience"},
		"another subject":  {"deploy", i.Sign(t, map[string]any{"sub": "repo:two:x"}), `claim "sub" does not match`},
		"another issuer":   {"deploy", i.Sign(t, map[string]any{"iss": "https://evil"}), "issuer"},
		"an expired one":   {"deploy", i.Sign(t, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), "expired"},
	} {
		if r := login(400, c.role, c.jwt, "RemoteAddr: "+fmt.Sprintf("10.0.0.%d:1", len(what))); !strings.Contains(r.Errors(), c.text) || strings.Contains(r.Text, "eyJ") {
			t.Errorf("%s: %s", what, r.Text)
		}
	}
	if r := login(400, "deploy", servertest.NewIssuer(t).Sign(t, nil), "RemoteAddr: 10.1.0.1:1"); !strings.Contains(r.Errors(), "no known key") {
		t.Error(r.Text)
	}
	if strings.Contains(f.Log.String(), "eyJ") {
		t.Error("a JWT is in the log")
	}

	// A token is renewed as its role says, while there is one.
	f.Must(t, 204, "POST", "auth/ci/role/deploy", `{"token_ttl":"20m"}`)
	if r := f.Must(t, 200, "POST", "auth/token/renew-self", "{}", servertest.As(token)); fmt.Sprint(r.Get("auth", "lease_duration")) != "1200" {
		t.Error(r.Text)
	}
	for n := range 20 { // bad ones from everywhere slow down nobody else
		login(400, "deploy", servertest.NewIssuer(t).Sign(t, nil), fmt.Sprintf("RemoteAddr: 10.2.0.%d:1", n))
	}
	login(200, "deploy", i.Sign(t, nil), "RemoteAddr: 10.3.0.1:1")
	for n := range 5 + 1 {
		login([]int{400, 429}[n/5], "deploy", "x", fmt.Sprintf("RemoteAddr: 10.4.0.1:%d", n))
	}
	f.Must(t, 204, "POST", "auth/ci/role/deploy", `{"token_bound_cidrs":"10.7.0.0/16"}`)
	login(403, "deploy", good, "RemoteAddr: 10.8.0.1:1")
	login(200, "deploy", good, "RemoteAddr: 10.7.0.1:1")
	f.Must(t, 204, "DELETE", "auth/ci/role/deploy", "")
	if r := f.Must(t, 400, "POST", "auth/token/renew-self", "{}", servertest.As(token)); !strings.Contains(r.Errors(), `role "deploy"`) {
		t.Error(r.Text)
	}
}

// TestLoginJWKS logs in as the official client does, with keys that the issuer
// publishes, also while it is away. A new configuration counts at once.
func TestLoginJWKS(t *testing.T) {
	f := fresh(t)
	i := servertest.NewIssuer(t)
	away := false
	var web *httptest.Server
	web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case away:
			w.WriteHeader(http.StatusServiceUnavailable)
		case q.URL.Path == "/.well-known/openid-configuration":
			json.NewEncoder(w).Encode(map[string]string{"issuer": web.URL, "jwks_uri": web.URL + "/keys"})
		default:
			json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.Key.Public(), KeyID: "one"}}})
		}
	}))
	defer web.Close()
	c := f.Client(t)
	must := func(_ *vault.Secret, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Sys().EnableAuthWithOptions("jwt", &vault.EnableAuthOptions{Type: "jwt"}); err != nil {
		t.Fatal(err)
	}
	must(c.Logical().Write("auth/jwt/config", map[string]any{"oidc_discovery_url": web.URL}))
	must(c.Logical().Write("auth/jwt/role/ci", map[string]any{"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"keep"}, "token_policies": []string{"app"}}))
	login := func() error {
		secret, err := c.Logical().Write("auth/jwt/login", map[string]any{"role": "ci", "jwt": i.Sign(t, map[string]any{"iss": web.URL})})
		if err == nil && (secret.Auth == nil || secret.Auth.ClientToken == "" || secret.Auth.TokenPolicies[0] != "app") {
			t.Errorf("%+v", secret)
		}
		return err
	}
	if err := login(); err != nil {
		t.Error(err)
	}
	away = true
	if err := login(); err != nil {
		t.Errorf("while the issuer is away: %v", err)
	}
	f.Must(t, 204, "POST", "auth/jwt/role/ci", `{"token_ttl":"1h"}`) // which forgets no keys
	if err := login(); err != nil {
		t.Errorf("while the issuer is away: %v", err)
	}
	f.Must(t, 200, "POST", "auth/jwt/config", servertest.JSONText(map[string]any{"oidc_discovery_url": web.URL, "skip_jwks_validation": true}))
	r := f.Must(t, 503, "POST", "auth/jwt/login", servertest.JSONText(map[string]string{"role": "ci", "jwt": i.Sign(t, nil)}))
	if !strings.Contains(r.Errors(), "cannot be fetched") || !strings.Contains(f.Log.String(), "503 Service Unavailable") {
		t.Errorf("%s\n%s", r.Text, f.Log)
	}
	f.Must(t, 204, "POST", "auth/jwt/config", servertest.JSONText(map[string]any{"jwt_validation_pubkeys": servertest.NewIssuer(t).Public}))
	if err := login(); err == nil || !strings.Contains(err.Error(), "no known key") {
		t.Errorf("with keys that are not counted any more: %v", err)
	}
}

// BenchmarkLoginJWT is a whole login, with its token on the disk.
func BenchmarkLoginJWT(b *testing.B) {
	f := fresh(b)
	i := servertest.NewIssuer(b)
	f.Must(b, 204, "POST", "sys/auth/ci", `{"type":"jwt"}`)
	f.Must(b, 204, "POST", "auth/ci/config", servertest.JSONText(map[string]any{"jwt_validation_pubkeys": i.Public}))
	f.Must(b, 204, "POST", "auth/ci/role/x", `{"user_claim":"sub","bound_audiences":"keep"}`)
	body := servertest.JSONText(map[string]string{"role": "x", "jwt": i.Sign(b, nil)})
	b.SetParallelism(16)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if r := f.Call(b, "POST", "auth/ci/login", body, "X-Vault-Token: "); r.Status != 200 {
				b.Errorf("%d %s", r.Status, r.Text)
			}
		}
	})
}

// A subject becomes part of names, which have no control characters.
func TestSubjectsHaveNoControlCharacters(t *testing.T) {
	f := fresh(t)
	issuer := servertest.NewIssuer(t)
	f.Must(t, 204, "POST", "sys/auth/jwt", `{"type":"jwt"}`)
	f.Must(t, 204, "POST", "auth/jwt/config", fmt.Sprintf(`{"jwt_validation_pubkeys":%q}`, issuer.Public))
	f.Must(t, 204, "POST", "auth/jwt/role/ci", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"keep"}`)
	jwt := issuer.Sign(t, map[string]any{"sub": "ann\x00bob"})
	if r := f.Call(t, "POST", "auth/jwt/login", `{"role":"ci","jwt":"`+jwt+`"}`); r.Status != 400 || !strings.Contains(r.Text, "not printed") {
		t.Error(r.Text)
	}
}
