package jwt

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sealkeep/sealkeep/api"
)

// A keyServer publishes the keys of an issuer.
type keyServer struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(w http.ResponseWriter, q *http.Request) // of the keys
	asked  int
}

func newKeyServer(t *testing.T) *keyServer {
	i := new(keyServer)
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, q *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.asked++
		i.answer(w, q)
	})
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *keyServer) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}))
}

// publish makes the issuer answer with these keys, whose IDs are their names.
func (i *keyServer) publish(names ...string) {
	var set jose.JSONWebKeySet
	for _, name := range names {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: issuerKeys()[name].Public(), KeyID: name})
	}
	b, _ := json.Marshal(set)
	text := strings.TrimSuffix(string(b), "]}") + `,{"kty":"future"},{"kty":"oct","k":"c2VjcmV0","kid":"ed"},7]}`
	i.set(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(text)) })
}

func (i *keyServer) set(answer func(http.ResponseWriter, *http.Request)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer, i.asked = answer, 0
}

func (i *keyServer) fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

func TestJWKS(t *testing.T) {
	for _, kind := range []string{"discovery", "jwks"} {
		i := newKeyServer(t)
		i.publish("ed")
		c := Config{DiscoveryURL: i.URL, DiscoveryCA: i.ca()}
		if kind == "jwks" {
			c = Config{JWKSURL: i.URL + "/keys", JWKSCA: i.ca()}
		}
		v := verifier(t, c)
		now := time.Now()
		v.remote.now = func() time.Time { return now }
		claims := map[string]any{"iss": i.URL}
		good := func(what, key, kid string) {
			t.Helper()
			alg := jose.EdDSA
			if key == "p256" {
				alg = jose.ES256
			}
			if _, err := v.Verify(t.Context(), issue(t, alg, key, kid, claims)); err != nil {
				t.Errorf("%s: %s: %v", kind, what, err)
			}
		}
		bad := func(what, key, kid string, want error) {
			t.Helper()
			if _, err := v.Verify(t.Context(), issue(t, jose.EdDSA, key, kid, claims)); !errors.Is(err, want) {
				t.Errorf("%s: %s: %v", kind, what, err)
			}
		}
		asked := func(want int) {
			t.Helper()
			if n := i.fetches(); n != want {
				t.Errorf("%s: the keys were fetched %d times, want %d", kind, n, want)
			}
		}
		good("a key", "ed", "ed")
		good("a key that is not named", "ed", "")
		asked(1)
		bad("a key that is named otherwise", "ed", "other", api.ErrRequest)
		bad("an unknown key", "other", "other", api.ErrRequest)
		bad("an unknown key under a known name", "other", "ed", api.ErrRequest)
		asked(1) // it is too early to ask again
		now = now.Add(keysRetry)
		for range 5 {
			bad("an unknown key", "other", "new", api.ErrRequest)
		}
		asked(2)

		i.publish("ed", "p256")
		now = now.Add(keysRetry)
		good("a new key", "p256", "p256")
		good("the old key", "ed", "ed")
		asked(1)

		i.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		now = now.Add(keysFresh)
		good("a key while the issuer is away", "ed", "ed")
		good("a key while the issuer is away", "p256", "p256")
		bad("an unknown key while the issuer is away", "other", "", api.ErrRequest)
		asked(1)
		now = now.Add(24 * time.Hour)
		good("a key a day later", "ed", "ed")
		asked(2)

		i.publish("p256")
		now = now.Add(keysOld)
		good("a key when the issuer is back", "p256", "p256")
		asked(1)
		bad("a key that was withdrawn", "ed", "ed", api.ErrRequest)
	}
}

func TestJWKSOfNoUse(t *testing.T) {
	i := newKeyServer(t)
	i.publish("ed")
	elsewhere := newKeyServer(t)
	elsewhere.publish("ed")
	token := issue(t, jose.EdDSA, "ed", "ed", map[string]any{"iss": i.URL})
	for what, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		config Config
		want   string
	}{
		"too large": {func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, keysSize+1)) }, Config{}, "more than"},
		"no JSON":   {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) }, Config{}, "no JSON"},
		"no keys":   {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"keys":[]}`)) }, Config{}, "no public key"},
		"elsewhere": {func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, elsewhere.URL+"/keys", http.StatusFound)
		}, Config{}, "302"},
		"unknown CA":  {nil, Config{JWKSURL: i.URL + "/keys"}, "certificate"},
		"other name":  {nil, Config{DiscoveryURL: i.URL + "/", DiscoveryCA: i.ca()}, "calls itself"},
		"not there":   {nil, Config{DiscoveryURL: i.URL + "/x", DiscoveryCA: i.ca()}, "404"},
		"nobody home": {nil, Config{JWKSURL: "http://127.0.0.1:1/"}, "connect"},
	} {
		if c.answer == nil {
			i.publish("ed")
		} else {
			i.set(c.answer)
			c.config = Config{JWKSURL: i.URL + "/keys", JWKSCA: i.ca()}
		}
		v := verifier(t, c.config)
		if err := v.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: probing: %v", what, err)
		}
		for range 2 {
			if _, err := v.Verify(t.Context(), token); !errors.Is(err, ErrKeys) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	if n := elsewhere.fetches(); n != 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
}

// TestJWKSHanging: an issuer that does not answer is asked once for all who
// wait, and not beyond a deadline; who has a known key does not wait.
func TestJWKSHanging(t *testing.T) {
	i := newKeyServer(t)
	i.publish("ed")
	v := verifier(t, Config{JWKSURL: i.URL + "/keys", JWKSCA: i.ca()})
	claims := map[string]any{"iss": "x"}
	known, unknown := issue(t, jose.EdDSA, "ed", "ed", claims), issue(t, jose.EdDSA, "other", "other", claims)
	if _, err := v.Verify(t.Context(), known); err != nil {
		t.Fatal(err)
	}
	hang, arrived := make(chan struct{}), make(chan struct{}, 10)
	i.set(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-hang })
	later := time.Now().Add(keysRetry)
	v.remote.now = func() time.Time { return later }
	done := make(chan error, 5)
	for range cap(done) {
		go func() { _, err := v.Verify(t.Context(), unknown); done <- err }()
	}
	<-arrived
	if _, err := v.Verify(t.Context(), known); err != nil {
		t.Errorf("a known key waits for the issuer: %v", err)
	}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Verify(impatient, unknown); !errors.Is(err, context.Canceled) {
		t.Errorf("one who went away: %v", err)
	}
	close(hang)
	for range cap(done) {
		if err := <-done; !errors.Is(err, api.ErrRequest) {
			t.Error(err)
		}
	}
	if n := i.fetches(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

// FuzzJWKS: whatever an issuer publishes, what is taken of it are public keys.
func FuzzJWKS(f *testing.F) {
	for name := range issuerKeys() {
		b, err := json.Marshal(jose.JSONWebKey{Key: issuerKeys()[name].Public(), KeyID: name, Use: "sig"})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"kty":"oct","k":"AAAA"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, key := range publicKeys([]json.RawMessage{b}) {
			if !key.IsPublic() || checkPublicKey(key.Key) != nil {
				t.Errorf("%+v", key)
			}
		}
	})
}
