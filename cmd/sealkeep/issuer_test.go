package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// newIssuer runs a CI system that publishes its keys and signs a JWT, for the audience that is asked for, for every job
// that shows its token, "job". It returns its URL.
func newIssuer(t *testing.T) string {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, new(jose.SignerOptions).WithHeader("kid", "one"))
	if err != nil {
		t.Fatal(err)
	}
	var url string
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]string{"issuer": url, "jwks_uri": url + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "one", Use: "sig"}}})
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Authorization") != "bearer job" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		claims, _ := json.Marshal(map[string]any{
			"iss": url, "sub": "repo:example/app:ref:refs/heads/main", "aud": q.FormValue("audience"), "repository": "example/app",
			"ref": "refs/heads/main", "run_id": "7", "iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(),
		})
		signed, err := signer.Sign(claims)
		if err != nil {
			t.Error(err)
			return
		}
		text, err := signed.CompactSerialize()
		if err != nil {
			t.Error(err)
		}
		json.NewEncoder(w).Encode(map[string]any{"count": 1, "value": text})
	})
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	url = web.URL
	return url
}
