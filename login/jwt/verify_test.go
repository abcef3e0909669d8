package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sealkeep/sealkeep/api"
)

var issuerKeys = sync.OnceValue(func() map[string]crypto.Signer {
	keys := map[string]crypto.Signer{}
	add := func(name string, key crypto.Signer, err error) {
		if err != nil {
			panic(err)
		}
		keys[name] = key
	}
	for _, bits := range []int{1024, 2048} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		add(map[int]string{1024: "weak", 2048: "rsa"}[bits], key, err)
	}
	for name, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		add(name, key, err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	add("ed", key, err)
	_, other, err := ed25519.GenerateKey(rand.Reader)
	add("other", other, err)
	return keys
})

func keyPEM(t testing.TB, name string) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(issuerKeys()[name].Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// issue signs claims with a key, which the JWT names when kid is not empty.
func issue(t testing.TB, alg jose.SignatureAlgorithm, key, kid string, claims any) string {
	t.Helper()
	options := new(jose.SignerOptions)
	if kid != "" {
		options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: issuerKeys()[key]}, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, ok := claims.(string)
	if !ok {
		b, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		payload = string(b)
	}
	signed, err := signer.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func verifier(t testing.TB, c Config) *Verifier {
	t.Helper()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var someClaims = map[string]any{"sub": "project:one"}

func TestAlgorithms(t *testing.T) {
	for _, c := range []struct {
		key  string
		algs []jose.SignatureAlgorithm
	}{
		{"rsa", []jose.SignatureAlgorithm{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}},
		{"p256", []jose.SignatureAlgorithm{"ES256"}}, {"p384", []jose.SignatureAlgorithm{"ES384"}}, {"p521", []jose.SignatureAlgorithm{"ES512"}},
		{"ed", []jose.SignatureAlgorithm{"EdDSA"}},
	} {
		all := verifier(t, Config{PublicKeys: []string{keyPEM(t, "other"), keyPEM(t, c.key)}})
		others := verifier(t, Config{PublicKeys: []string{keyPEM(t, "other")}})
		for _, alg := range c.algs {
			token := issue(t, alg, c.key, "whatever", someClaims)
			if claims, err := all.Verify(t.Context(), token); err != nil || claims["sub"] != "project:one" {
				t.Errorf("%s: %v %v", alg, claims, err)
			}
			if claims, err := verifier(t, Config{PublicKeys: []string{keyPEM(t, c.key)}, Algorithms: []string{string(alg)}}).Verify(t.Context(), token); err != nil {
				t.Errorf("%s alone: %v %v", alg, claims, err)
			}
			not := "RS256"
			if alg == "RS256" {
				not = "ES256"
			}
			for what, v := range map[string]*Verifier{
				"another key":       others,
				"another algorithm": verifier(t, Config{PublicKeys: []string{keyPEM(t, c.key)}, Algorithms: []string{not}}),
			} {
				if claims, err := v.Verify(t.Context(), token); !errors.Is(err, api.ErrRequest) {
					t.Errorf("%s with %s: %v %v", alg, what, claims, err)
				}
			}
		}
	}
}

// TestForgeries are the ways in which verifiers have been fooled.
func TestForgeries(t *testing.T) {
	public := keyPEM(t, "rsa")
	v := verifier(t, Config{PublicKeys: []string{public}, Issuer: "https://issuer"})
	claims := map[string]any{"sub": "root", "iss": "https://issuer"}
	good := issue(t, jose.RS256, "rsa", "", claims)
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	body, _ := json.Marshal(claims)
	sign := func(header string) string { // with the public key as a secret
		text := b64([]byte(header)) + "." + b64(body)
		h := hmac.New(sha256.New, []byte(public))
		h.Write([]byte(text))
		return text + "." + b64(h.Sum(nil))
	}
	embedded, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: issuerKeys()["other"]}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := embedded.Sign(body)
	if err != nil {
		t.Fatal(err)
	}
	withKey, _ := signed.CompactSerialize()
	parts := strings.Split(good, ".")
	for what, token := range map[string]string{
		"nothing":               "",
		"no dots":               "abc",
		"none":                  b64([]byte(`{"alg":"none"}`)) + "." + b64(body) + ".",
		"None":                  b64([]byte(`{"alg":"None"}`)) + "." + b64(body) + ".",
		"no algorithm":          b64([]byte(`{}`)) + "." + b64(body) + "." + parts[2],
		"public key as secret":  sign(`{"alg":"HS256"}`),
		"its own key":           withKey,
		"another body":          parts[0] + "." + b64([]byte(`{"sub":"other","iss":"https://issuer"}`)) + "." + parts[2],
		"no signature":          parts[0] + "." + parts[1] + ".",
		"signature cut":         strings.Join(parts, ".")[:len(good)-4],
		"unknown crit":          b64([]byte(`{"alg":"RS256","crit":["x"],"x":1}`)) + "." + parts[1] + "." + parts[2],
		"another issuer":        issue(t, jose.RS256, "rsa", "", map[string]any{"iss": "https://issuer/"}),
		"no issuer":             issue(t, jose.RS256, "rsa", "", map[string]any{"sub": "x"}),
		"issuers":               issue(t, jose.RS256, "rsa", "", `{"iss":["https://issuer"]}`),
		"claims are null":       issue(t, jose.RS256, "rsa", "", `null`),
		"claims are a list":     issue(t, jose.RS256, "rsa", "", `[]`),
		"claims are no JSON":    issue(t, jose.RS256, "rsa", "", `{`),
		"two objects":           issue(t, jose.RS256, "rsa", "", `{"iss":"https://issuer"}{}`),
		"JSON form":             signed.FullSerialize(),
		"too long":              good + strings.Repeat("A", MaxSize),
		"space in it":           parts[0] + " ." + parts[1] + "." + parts[2],
		"four parts":            good + ".x",
		"key of another length": issue(t, jose.RS256, "weak", "", claims),
	} {
		got, err := v.Verify(t.Context(), token)
		if !errors.Is(err, api.ErrRequest) {
			t.Errorf("%s: %v %v", what, got, err)
		} else if err.Error() == "" || len(err.Error()) > 300 || strings.Contains(err.Error(), "root") {
			t.Errorf("%s: the error says %q", what, err)
		}
	}
}

func TestConfig(t *testing.T) {
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})
	for want, c := range map[string]Config{
		"exactly one of":                  {},
		"exactly one of 'jwt":             {JWKSURL: "https://a", DiscoveryURL: "https://a"},
		"well-known":                      {DiscoveryURL: "https://a/.well-known/openid-configuration"},
		"'oidc_discovery_url' must begin": {DiscoveryURL: "http://issuer.example.com"},
		"'jwks_url' must begin":           {JWKSURL: "http://10.0.0.1/keys"},
		"'jwks_url' must begin with":      {JWKSURL: "file://localhost/etc/passwd"},
		"'jwks_url' is no URL":            {JWKSURL: "keys"},
		"is no URL: write":                {JWKSURL: "https://user:password@issuer/keys"},
		"'jwks_ca_pem' must be":           {JWKSURL: "https://a", JWKSCA: "x"},
		"with 'jwks_url' only":            {DiscoveryURL: "https://a", JWKSCA: "x"},
		"with 'oidc_discovery_url' only":  {JWKSURL: "https://a", DiscoveryCA: "x"},
		`algorithm "HS256"`:               {JWKSURL: "https://a", Algorithms: []string{"HS256"}},
		`algorithm "none"`:                {JWKSURL: "https://a", Algorithms: []string{"none"}},
		"public key 2":                    {PublicKeys: []string{keyPEM(t, "ed"), "x"}},
		"it is a private key":             {PublicKeys: []string{string(private)}},
		"at least 2048 bits":              {PublicKeys: []string{keyPEM(t, "weak")}},
		"at most 64":                      {PublicKeys: make([]string, 65)},
	} {
		if err := c.Check(); !errors.Is(err, api.ErrRequest) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	for _, c := range []Config{
		{JWKSURL: "http://127.0.0.1:1/keys"}, {JWKSURL: "http://[::1]:1/keys"}, {JWKSURL: "http://localhost/keys"}, {DiscoveryURL: "https://issuer.example.com/x"},
	} {
		if err := c.Check(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// FuzzJWT: whatever is sent, only what was signed is believed.
func FuzzJWT(f *testing.F) {
	c := Config{PublicKeys: []string{keyPEM(f, "rsa"), keyPEM(f, "p256"), keyPEM(f, "ed")}}
	claims := map[string]any{"sub": "x", "iat": 1_800_000_000, "aud": []string{"keep"}, "deep": map[string]any{"a": []any{1, "b"}}}
	for key, alg := range map[string]jose.SignatureAlgorithm{"rsa": jose.PS256, "p256": jose.ES256, "ed": jose.EdDSA} {
		token := issue(f, alg, key, "kid", claims)
		f.Add(token, "deep")
		f.Add(strings.Replace(token, ".", "..", 1), "/deep/a/1")
	}
	f.Add("eyJhbGciOiJub25lIn0.e30.", "/~1")
	v := verifier(f, c)
	f.Fuzz(func(t *testing.T, token, claim string) {
		got, err := v.Verify(t.Context(), token)
		if err != nil {
			if !errors.Is(err, api.ErrRequest) {
				t.Error(err)
			}
			return
		}
		if got["sub"] != "x" {
			t.Errorf("%v was never signed", got)
		}
		r := Role{UserClaim: claim, UserPointer: true, Audiences: []string{"keep"}, Claims: map[string]any{claim: "b"}}
		r.Match(got, time.Unix(1_800_000_000, 0))
	})
}

func BenchmarkVerify(b *testing.B) {
	v := verifier(b, Config{PublicKeys: []string{keyPEM(b, "rsa"), keyPEM(b, "p256"), keyPEM(b, "ed")}})
	for key, alg := range map[string]jose.SignatureAlgorithm{"rsa": jose.RS256, "p256": jose.ES256, "ed": jose.EdDSA} {
		token := issue(b, alg, key, "kid", someClaims)
		b.Run(string(alg), func(b *testing.B) {
			for b.Loop() {
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
