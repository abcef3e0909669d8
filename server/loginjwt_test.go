package server

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	vault "github.com/hashicorp/vault/api"
)

// A jwtIssuer signs JWTs.
type jwtIssuer struct {
	key    ed25519.PrivateKey
	public string // in PEM
}

func newJWTIssuer(t testing.TB) *jwtIssuer {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return &jwtIssuer{key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

// sign makes a JWT for a job of one repository, with these claims too.
func (i *jwtIssuer) sign(t testing.TB, more map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": "https://ci.example.com", "sub": "repo:one:ref:refs/heads/main", "aud": "keep", "exp": time.Now().Add(time.Minute).Unix()}
	maps.Copy(claims, more)
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: i.key}, new(jose.SignerOptions).WithHeader("kid", "one"))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// jsonText is a value as JSON.
func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestLoginJWT(t *testing.T) {
	f := fresh(t)
	i := newJWTIssuer(t)
	f.must(t, 204, "POST", "sys/auth/ci", `{"type":"jwt"}`)
	f.must(t, 404, "GET", "auth/ci/config", "")
	f.must(t, 404, "GET", "auth/ci/role/x", "")
	f.must(t, 404, "LIST", "auth/ci/role", "")
	login := func(status int, role, jwt string, headers ...string) reply {
		t.Helper()
		return f.must(t, status, "POST", "auth/ci/login", jsonText(map[string]string{"role": role, "jwt": jwt}), append(headers, "X-Vault-Token: ")...)
	}
	if r := login(400, "deploy", "x"); r.errors() != "could not load configuration" {
		t.Error(r.text)
	}
	for body, text := range map[string]string{
		`{}`: "exactly one of",
		`{"jwks_url":"https://127.0.0.1:1/x","oidc_client_id":"x"}`:                     "login in a browser",
		`{"jwks_url":"https://127.0.0.1:1/x","provider_config":{"provider":"azure"}}`:   "provider_config",
		`{"jwks_url":"https://127.0.0.1:1/x","override_allowed_server_names":"a"}`:      "override_allowed_server_names",
		`{"jwks_url":"https://127.0.0.1:1/x"}`:                                          "error checking jwks URL",
		`{"oidc_discovery_url":"https://127.0.0.1:1","skip_jwks_validation":false}`:     "error checking oidc discovery URL",
		`{"jwt_validation_pubkeys":"x"}`:                                                "error parsing public key 1",
		`{"jwt_validation_pubkeys":` + jsonText(i.public) + `,"jwt_supported_algs":""}`: "",
	} {
		if r := f.call(t, "POST", "auth/ci/config", body); r.status == 400 != (text != "") || !strings.Contains(r.text, text) {
			t.Errorf("%s: %d %s", body, r.status, r.text)
		}
	}
	if r := f.must(t, 200, "POST", "auth/ci/config", `{"jwks_url":"https://127.0.0.1:1/x","skip_jwks_validation":"true"}`); !strings.Contains(fmt.Sprint(r.get("warnings")), "error checking jwks URL") {
		t.Error(r.text)
	}
	f.must(t, 204, "POST", "auth/ci/config", jsonText(map[string]any{"jwt_validation_pubkeys": []string{i.public}, "bound_issuer": "https://ci.example.com", "default_role": "Deploy"}))
	if r := f.must(t, 200, "GET", "auth/ci/config", ""); say(r.get("data", "bound_issuer"), r.get("data", "default_role"), len(r.get("data", "jwt_validation_pubkeys").([]any)), r.get("data", "jwks_url")) != "https://ci.example.com deploy 1 " {
		t.Error(r.text)
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
		f.must(t, 204, "DELETE", "auth/ci/role/bad", "")
		if r := f.call(t, "POST", "auth/ci/role/bad", body); r.status == 400 != (text != "") || !strings.Contains(r.text, text) {
			t.Errorf("%s: %d %s", body, r.status, r.text)
		}
	}
	f.must(t, 400, "POST", "auth/ci/role/a/b", `{"user_claim":"x","bound_audiences":"a"}`)
	f.must(t, 204, "DELETE", "auth/ci/role/bad", "")
	f.must(t, 204, "POST", "auth/ci/role/Deploy", `{"role_type":"jwt","user_claim":"sub","bound_audiences":"keep,other","bound_claims":{"sub":["repo:one:*","repo:two:*"],"big":"*"},
		"bound_claims_type":"glob","claim_mappings":"sub=subject,/deep/n=number","clock_skew_leeway":"30","token_policies":"app","token_ttl":"10m","token_max_ttl":"1h"}`)
	f.must(t, 204, "POST", "auth/ci/role/deploy", `{"bound_claims":"{\"sub\":[\"repo:one:*\"]}","expiration_leeway":-1}`) // the rest stays
	if r := f.must(t, 200, "GET", "auth/ci/role/deploy", ""); say(r.get("data", "bound_claims"), r.get("data", "bound_claims_type"), r.get("data", "bound_audiences"), r.get("data", "claim_mappings"),
		r.get("data", "token_policies"), r.get("data", "token_ttl"), r.get("data", "expiration_leeway"), r.get("data", "role_type")) !=
		"map[sub:[repo:one:*]] glob [keep other] map[/deep/n:number sub:subject] [app] 600 -1 jwt" {
		t.Error(r.text)
	}
	if r := f.must(t, 200, "LIST", "auth/ci/role", ""); fmt.Sprint(r.get("data", "keys")) != "[deploy]" {
		t.Error(r.text)
	}

	good := i.sign(t, nil)
	r := login(200, "DEPLOY", good)
	if got := say(r.get("auth", "policies"), r.get("auth", "lease_duration"), r.get("auth", "metadata")); got != "[app default] 600 map[role:deploy subject:repo:one:ref:refs/heads/main]" {
		t.Error(got)
	}
	token := r.get("auth", "client_token").(string)
	r = f.must(t, 200, "GET", "auth/token/lookup-self", "", as(token))
	if got := say(r.get("data", "display_name"), r.get("data", "path")); got != "ci-repo-one-ref-refs-heads-main auth/ci/login" {
		t.Error(got)
	}
	login(200, "", i.sign(t, map[string]any{"aud": []string{"x", "other"}, "sub": "repo:one:" + strings.Repeat("ö", 2000)})) // the default role
	for what, c := range map[string]struct{ role, jwt, text string }{
		"another role":     {"nobody", good, `role "nobody" could not be found`},
		"no JWT":           {"deploy", "", "missing token"},
		"another audience": {"deploy", i.sign(t, map[string]any{"aud": "vault"}), "audience"},
		"another subject":  {"deploy", i.sign(t, map[string]any{"sub": "repo:two:x"}), `claim "sub" does not match`},
		"another issuer":   {"deploy", i.sign(t, map[string]any{"iss": "https://evil"}), "issuer"},
		"an expired one":   {"deploy", i.sign(t, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), "expired"},
	} {
		if r := login(400, c.role, c.jwt, "RemoteAddr: "+fmt.Sprintf("10.0.0.%d:1", len(what))); !strings.Contains(r.errors(), c.text) || strings.Contains(r.text, "eyJ") {
			t.Errorf("%s: %s", what, r.text)
		}
	}
	if r := login(400, "deploy", newJWTIssuer(t).sign(t, nil), "RemoteAddr: 10.1.0.1:1"); !strings.Contains(r.errors(), "no known key") {
		t.Error(r.text)
	}
	if strings.Contains(f.log.String(), "eyJ") {
		t.Error("a JWT is in the log")
	}

	// A token is renewed as its role says, while there is one.
	f.must(t, 204, "POST", "auth/ci/role/deploy", `{"token_ttl":"20m"}`)
	if r := f.must(t, 200, "POST", "auth/token/renew-self", "{}", as(token)); fmt.Sprint(r.get("auth", "lease_duration")) != "1200" {
		t.Error(r.text)
	}
	for n := range 20 { // bad ones from everywhere slow down nobody else
		login(400, "deploy", newJWTIssuer(t).sign(t, nil), fmt.Sprintf("RemoteAddr: 10.2.0.%d:1", n))
	}
	login(200, "deploy", i.sign(t, nil), "RemoteAddr: 10.3.0.1:1")
	for n := range freeFailures + 1 {
		login([]int{400, 429}[n/freeFailures], "deploy", "x", fmt.Sprintf("RemoteAddr: 10.4.0.1:%d", n))
	}
	f.must(t, 204, "POST", "auth/ci/role/deploy", `{"token_bound_cidrs":"10.7.0.0/16"}`)
	login(403, "deploy", good, "RemoteAddr: 10.8.0.1:1")
	login(200, "deploy", good, "RemoteAddr: 10.7.0.1:1")
	f.must(t, 204, "DELETE", "auth/ci/role/deploy", "")
	if r := f.must(t, 400, "POST", "auth/token/renew-self", "{}", as(token)); !strings.Contains(r.errors(), `role "deploy"`) {
		t.Error(r.text)
	}
}

// TestLoginJWKS logs in as the official client does, with keys that the issuer
// publishes, also while it is away. A new configuration counts at once.
func TestLoginJWKS(t *testing.T) {
	f := fresh(t)
	i := newJWTIssuer(t)
	away := false
	var web *httptest.Server
	web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case away:
			w.WriteHeader(http.StatusServiceUnavailable)
		case q.URL.Path == "/.well-known/openid-configuration":
			json.NewEncoder(w).Encode(map[string]string{"issuer": web.URL, "jwks_uri": web.URL + "/keys"})
		default:
			json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "one"}}})
		}
	}))
	defer web.Close()
	c := f.client(t)
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
		secret, err := c.Logical().Write("auth/jwt/login", map[string]any{"role": "ci", "jwt": i.sign(t, map[string]any{"iss": web.URL})})
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
	f.must(t, 204, "POST", "auth/jwt/role/ci", `{"token_ttl":"1h"}`) // which forgets no keys
	if err := login(); err != nil {
		t.Errorf("while the issuer is away: %v", err)
	}
	f.must(t, 200, "POST", "auth/jwt/config", jsonText(map[string]any{"oidc_discovery_url": web.URL, "skip_jwks_validation": true}))
	r := f.must(t, 503, "POST", "auth/jwt/login", jsonText(map[string]string{"role": "ci", "jwt": i.sign(t, nil)}))
	if !strings.Contains(r.errors(), "cannot be fetched") || !strings.Contains(f.log.String(), "503 Service Unavailable") {
		t.Errorf("%s\n%s", r.text, f.log)
	}
	f.must(t, 204, "POST", "auth/jwt/config", jsonText(map[string]any{"jwt_validation_pubkeys": newJWTIssuer(t).public}))
	if err := login(); err == nil || !strings.Contains(err.Error(), "no known key") {
		t.Errorf("with keys that are not counted any more: %v", err)
	}
}

// BenchmarkLoginJWT is a whole login, with its token on the disk.
func BenchmarkLoginJWT(b *testing.B) {
	f := fresh(b)
	i := newJWTIssuer(b)
	f.must(b, 204, "POST", "sys/auth/ci", `{"type":"jwt"}`)
	f.must(b, 204, "POST", "auth/ci/config", jsonText(map[string]any{"jwt_validation_pubkeys": i.public}))
	f.must(b, 204, "POST", "auth/ci/role/x", `{"user_claim":"sub","bound_audiences":"keep"}`)
	body := jsonText(map[string]string{"role": "x", "jwt": i.sign(b, nil)})
	b.SetParallelism(16)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if r := f.call(b, "POST", "auth/ci/login", body, "X-Vault-Token: "); r.status != 200 {
				b.Errorf("%d %s", r.status, r.text)
			}
		}
	})
}
