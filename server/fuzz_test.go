package server_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/servertest"
)

// A public key and an authority, as a JSON text has them.
const (
	fuzzKey = `-----BEGIN PUBLIC KEY-----\n` +
		`MCowBQYDK2VwAyEAIYfJvaDKVKdHySCVHgQvu/xyEMBoYzxAuOzTgYV1XeA=\n` +
		`-----END PUBLIC KEY-----\n`
	fuzzCert = `-----BEGIN CERTIFICATE-----\n` +
		`MIIBbjCCARWgAwIBAgIUPCSl4OX+Rcbap6i/b65+0+b96Q8wCgYIKoZIzj0EAwIw\n` +
		`DDEKMAgGA1UEAwwBYTAgFw0yNjExMjIwNTMwMTBaGA8yMTI2MTAyOTA1MzAxMFow\n` +
		`DDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABO/O14O9tk0k\n` +
		`VQJVqLfWsLB6EfiDuFvMnmS+vc2wfH5vf5cxwlSW9a3PcunZWNrAaBgqnTTj8Ewp\n` +
		`aLPfdRjaBZGjUzBRMB0GA1UdDgQWBBTAPbBn1PXMvSA43mWo+3/xb4r6vzAfBgNV\n` +
		`HSMEGDAWgBTAPbBn1PXMvSA43mWo+3/xb4r6vzAPBgNVHRMBAf8EBTADAQH/MAoG\n` +
		`CCqGSM49BAMCA0cAMEQCIFZsV2/t8Z/AtosYEIAS49fpfx0aZKo20VmF+GDVqO4j\n` +
		`AiA+OB8J6CPFHsrjmtfazqtqZ7vDsw6r0u7P3uRZhtBsjA==\n` +
		`-----END CERTIFICATE-----\n`
)

// fuzzSeeds are requests that matter; the first word is the method.
var fuzzSeeds = []string{
	"GET sys/health", "HEAD sys/health?activecode=204", "GET sys/health?sealedcode=1", "GET sys/seal-status", "PUT sys/unseal {\"key\":\"x\"}",
	"PUT sys/init {}", "GET sys/mounts", "POST sys/mounts/a {\"type\":\"kv\"}", "POST sys/mounts/a/tune {\"default_lease_ttl\":\"1h\"}", "DELETE sys/mounts/a",
	"POST sys/remount {\"from\":\"auth/none\",\"to\":\"auth/x\"}", "GET sys/remount/status/x", "GET sys/mounts/auth/token",
	"GET sys/internal/ui/mounts/secret", "GET sys/metrics", "GET sys/key-status", "POST sys/rotate",
	"PUT sys/rotate/root {\"drop\":[\"check\"],\"keys\":[\"x\"],\"identity\":\"x\",\"nonce\":\"x\"}", "PUT sys/rotate/root {\"revoke\":[\"check\"],\"secret_shares\":2,\"secret_threshold\":1}",
	"PUT sys/seal {\"keep\":[1]}", "POST sys/capabilities-self {\"paths\":[\"a\"]}",
	"GET secret/data/a", "PUT secret/data/a {\"data\":{\"a\":1},\"options\":{\"cas\":0}}", "PATCH secret/data/a {\"data\":{}}", "LIST secret/metadata",
	"SCAN secret/metadata", "SCAN secret/detailed-metadata/a", "GET secret/metadata/a?scan=true&list=0", "SCAN secret/a",
	"PUT secret/metadata/a {\"custom_metadata\":{\"a\":\"b\"},\"delete_version_after\":\"-1s\"}", "PUT secret/config {\"max_versions\":\"3\"}",
	"PUT secret/metadata/a {\"metadata_cas_required\":\"1\",\"metadata_cas\":null}",
	"PUT secret/delete/a {\"versions\":\"1,2\"}", "PUT secret/destroy/a {\"versions\":[1]}", "GET secret/subkeys/a?depth=2&version=1", "GET secret/foo",
	"GET ../../etc/passwd", "GET secret/data/%2e%2e", "GET secret//data", "GET \x00", "GET secret/data/\xff", "OPTIONS secret/data/a", "FOO a", "GET ",
	"GET secret/metadata/a", "PUT secret/undelete/a {\"versions\":[2]}", "GET sys/leader", "GET auth/token/lookup-self",
	"GET sys/auth", "PUT sys/capabilities {\"token\":\"x\",\"paths\":\"a, b\"}", "PUT auth/token/lookup {\"token\":\"x\"}", "PUT auth/token/renew-self",
	"PUT secret/data/a {\"data\":{\"a\":[{}],\"\\u0061\":\"\\\"\"}}", "PUT secret/data {\"data\":{}}",
	"PUT cubbyhole/a {\"k\":1,\"k\":[]}", "GET cubbyhole/a", "LIST cubbyhole", "DELETE cubbyhole/a/b", "PUT cubbyhole/a {}",
	"PUT sys/wrapping/wrap {\"k\":1}", "PUT sys/wrapping/unwrap {\"token\":\"hvs.x\"}", "PUT sys/wrapping/lookup {\"token\":1}", "PUT sys/wrapping/rewrap",
	"PUT secret/data/a [", "PUT secret/data/a {\"data\":null}", "PUT sys/mounts/secret/tune {\"options\":{\"version\":\"1\"}}",
	"POST sys/auth/approle {\"type\":\"approle\"}", "PUT auth/approle/role/a {\"token_policies\":\"a, b\",\"token_ttl\":\"1h\",\"token_bound_cidrs\":[\"::1/64\"]}",
	"PUT auth/approle/role/a/secret-id {\"metadata\":\"{\\\"a\\\":1}\",\"cidr_list\":\"10.0.0.0/8\"}", "PUT auth/approle/role/a/custom-secret-id {\"secret_id\":\"x\"}",
	"PUT auth/approle/role/a/token-ttl {\"token_ttl\":\"5m\"}", "PUT auth/approle/role/a/secret-id/lookup {\"secret_id\":\"x\"}", "LIST auth/approle/role/a/secret-id",
	"PUT auth/approle/login {\"role_id\":\"a\",\"secret_id\":\"b\"}", "GET auth/approle/role/a/role-id", "POST sys/auth/approle/tune {\"max_lease_ttl\":\"1h\"}",
	"POST sys/auth/userpass {\"type\":\"userpass\"}", "PUT auth/userpass/users/a {\"password\":\"x\"}", "PUT auth/userpass/login/a {\"password\":\"x\"}",
	"PUT auth/userpass/users/a/policies {\"policies\":\"x\"}", "DELETE sys/auth/userpass",
	"POST sys/auth/jwt {\"type\":\"jwt\"}", "PUT auth/jwt/config {\"jwt_validation_pubkeys\":\"" + fuzzKey + "\",\"bound_issuer\":\"x\"}", "GET auth/jwt/config",
	"PUT auth/jwt/role/a {\"user_claim\":\"sub\",\"bound_claims\":{\"a\":[1,true]},\"claim_mappings\":\"a=b\",\"expiration_leeway\":-1}", "GET auth/jwt/role/a",
	"LIST auth/jwt/role", "PUT auth/jwt/login {\"role\":\"a\",\"jwt\":\"eyJhbGciOiJFZERTQSJ9.e30.AAAA\"}", "DELETE auth/jwt/role/a",
	"POST sys/auth/cert {\"type\":\"cert\"}", "PUT auth/cert/certs/a {\"certificate\":\"" + fuzzCert + "\",\"required_extensions\":[\"1.2.3:x*\"]}", "GET auth/cert/certs/a",
	"PUT auth/cert/crls/a {\"crl\":\"x\"}", "GET auth/cert/crls/a", "LIST auth/cert/certs", "PUT auth/cert/login {\"name\":\"a\"}", "PUT auth/cert/config {\"disable_binding\":1}",
	"POST sys/auth/peer {\"type\":\"peer\"}", "PUT auth/peer/role/a {\"bound_uids\":\"0,1\",\"bound_gids\":[2]}", "GET auth/peer/role/a", "PUT auth/peer/login {\"role\":\"a\"}",
	"PUT sys/seal {}", // the last one: TestFuzzSeedsReachTheRoutes asks them in this order
}

// split is a seed's method, path and body.
func split(seed string) (method, path, body string) {
	method, rest, _ := strings.Cut(seed, " ")
	path, body, _ = strings.Cut(rest, " ")
	return method, path, body
}

// The states in which FuzzRoutes asks.
const (
	asRoot uint8 = iota
	asNobody
	whileSealed
	uninitialized
	states
)

// FuzzRoutes: whatever is asked, in each state, the answer has one of the statuses that there are, is JSON (or empty,
// or metrics), an error has Vault's shape, it is never a fault of ours, and what is refused has changed nothing.
func FuzzRoutes(f *testing.F) {
	if len(fuzzSeeds) < 30 {
		f.Fatalf("only %d seeds", len(fuzzSeeds))
	}
	for _, seed := range fuzzSeeds {
		method, path, body := split(seed)
		for state := range states {
			f.Add(method, path, body, state)
		}
	}
	open := fresh(f)
	sealed := fresh(f)
	sealed.Keep.Seal()
	empty := start(f, filepath.Join(f.TempDir(), "keep.db"), servertest.NewSeal("a", 1))
	f.Fuzz(func(t *testing.T, method, path, body string, state uint8) {
		state %= states
		k := []*fixture{open, open, sealed, empty}[state]
		req := httptest.NewRequest("GET", "http://keep/", strings.NewReader(body))
		req.Method = method
		servertest.SetURL(req, path)
		if method == "PATCH" {
			req.Header.Set("Content-Type", "application/merge-patch+json")
		}
		if state != asNobody {
			req.Header.Set("X-Vault-Token", open.Root)
		}
		name := strings.TrimRight(req.URL.Path, "/")
		if state == whileSealed && name == "/v1/sys/unseal" || state == uninitialized && name == "/v1/sys/init" {
			return // they would end the state
		}
		if name == "/v1/sys/monitor" || strings.HasPrefix(name, "/v1/sys/pprof") {
			return // they take their time, and are not JSON
		}
		var before map[string]string
		if k == open {
			before = k.Snapshot(t)
		}
		w := httptest.NewRecorder()
		k.HTTP.ServeHTTP(w, req)

		text := w.Body.Bytes()
		kind := w.Header().Get("Content-Type")
		fail := func(what string) {
			t.Helper()
			t.Fatalf("%s: state %d, %s %q %q: status %d, %s: %.500q\n%s", what, state, method, path, body, w.Code, kind, text, k.Log)
		}
		if log := k.Log.Take(); strings.Contains(log, "level=ERROR") {
			t.Log(log)
			fail("a fault of ours")
		}
		health := name == "/v1/sys/health" // the client chooses the status
		switch {
		case health && w.Code >= 200 && w.Code <= 599:
		case state == whileSealed && w.Code == 503, state == uninitialized && w.Code == 503:
		case slices.Contains([]int{200, 204, 400, 403, 404, 405, 413, 415}, w.Code):
		case w.Code == 428 && name == "/v1/sys/rotate/root":
		case w.Code == 429 && strings.HasPrefix(name, "/v1/auth/") && w.Header().Get("Retry-After") != "": // too many failed logins
		default:
			fail("no such status")
		}
		if state >= whileSealed && !strings.HasPrefix(name, "/v1/sys/") && w.Code != 400 && w.Code != 404 && w.Code != 503 {
			fail("sealed, and answers")
		}
		switch {
		case len(text) == 0:
			if w.Code != 204 && method != "HEAD" && !health {
				fail("no body")
			}
		case strings.HasPrefix(kind, "text/plain; version=") && name == "/v1/sys/metrics" && w.Code == 200:
		case kind != "application/json" || !json.Valid(text):
			fail("not JSON")
		case w.Code >= 400 && w.Code != 404 && !health && !isErrors(text): // 404 may say what was there
			fail("not Vault's list of errors")
		}
		if k != open {
			return
		}
		if k.Status().Sealed { // as it was asked
			if name != "/v1/sys/seal" || state != asRoot {
				fail("sealed")
			}
			if err := k.Unseal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		loggedIn := w.Code == 200 && strings.Contains(w.Body.String(), `"auth":{"client_token"`)
		after := k.Snapshot(t)
		maps.DeleteFunc(before, func(path, _ string) bool { // what the sweep has deleted meanwhile
			_, there := after[path]
			swept := func(folder string) bool { return strings.HasPrefix(path, folder) }
			return !there && slices.ContainsFunc([]string{"access/token/", "access/accessor/", "access/cubbyhole/"}, swept)
		})
		if (w.Code > 299 || state == asNobody && !loggedIn) && !maps.Equal(before, after) {
			fail("refused, and the store has changed")
		}
	})
}

// rawSeeds are what FuzzConn begins with; TOKEN stands for the root token.
var rawSeeds = []string{
	"GET /v1/sys/health HTTP/1.1\r\nHost: k\r\n\r\n",
	"PUT /v1/secret/data/a HTTP/1.1\r\nHost: k\r\nX-Vault-Token: TOKEN\r\nContent-Length: 12\r\n\r\n{\"data\":{}}\n",
	"PUT /v1/secret/data/a HTTP/1.1\r\nHost: k\r\nX-Vault-Token: TOKEN\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nT: x\r\n\r\n",
	"PUT /v1/secret/data/a HTTP/1.1\r\nHost: k\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
	"LIST /v1/secret/metadata HTTP/1.0\nAuthorization: Bearer TOKEN\nConnection: keep-alive\n\n",
	"PATCH /v1/secret/data/a HTTP/1.1\r\nHost: k\r\nX-Vault-Token: TOKEN\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
	"GET /v1/sys/mounts HTTP/1.1\r\nHost: k\r\nX-Vault-Token:\r\n TOKEN\r\nX-Vault-Namespace: a\r\n\r\nGET /v1/x HTTP/1.1\r\nHost: k\r\n\r\n",
	"PUT /v1/sys/seal HTTP/1.1\r\nHost: k\r\nX-Vault-Token: TOKEN\r\n\r\n",
	"HEAD http://k/v1/sys/health?sealedcode=299 HTTP/1.1\r\nHost: k\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
	"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
	"OPTIONS * HTTP/1.1\r\nHost: k\r\n\r\n", "CONNECT k:1 HTTP/1.1\r\nHost: k\r\n\r\n", "GET /\r\n\r\n", "\x00", "\r\n\r\n", "",
}

// FuzzConn: whatever comes over a connection, what goes back is HTTP or nothing, no handler panics, nothing is written
// unless some answer says so, and the server serves on.
func FuzzConn(f *testing.F) {
	if len(rawSeeds) < 10 {
		f.Fatalf("only %d seeds", len(rawSeeds))
	}
	for _, seed := range rawSeeds {
		f.Add([]byte(seed))
	}
	k, addr := listening(f, nil)
	k.Must(f, 200, "POST", "secret/data/a", `{"data":{"k":"v"}}`)
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := k.Snapshot(t)
		w := dial(t, addr)
		defer w.Close()
		go func() {
			w.say(strings.ReplaceAll(string(raw), "TOKEN", k.Root))
			w.CloseWrite()
		}()
		answer, err := io.ReadAll(w.r) // a reset is as good an end as any, but may swallow an answer
		if len(answer) > 0 && !strings.HasPrefix(string(answer), "HTTP/1.") {
			t.Fatalf("%q is answered by %.300q", raw, answer)
		}
		if strings.Contains(string(answer), "\r\nContent-Type: text/plain; charset=utf-8\r\n") { // net/http's own
			t.Fatalf("%q is refused in another form than Vault's: %.300q", raw, answer)
		}
		if log := k.Log.Take(); strings.Contains(log, "level=ERROR") {
			t.Fatalf("%q is a fault of ours: %s", raw, log)
		}
		if k.Status().Sealed { // as it was asked
			if err := k.Unseal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		next := dial(t, addr)
		defer next.Close()
		next.say(k.head("GET /v1/auth/token/lookup-self") + "Connection: close\r\n\r\n")
		if resp, text := next.hear(); resp.StatusCode != 200 {
			t.Fatalf("after %q the next client hears %s %s", raw, resp.Status, text)
		}
		if err == nil && !strings.Contains(string(answer), " 20") && !maps.Equal(before, k.Snapshot(t)) {
			t.Fatalf("%q is answered by %.300q, and has changed the store", raw, answer)
		}
	})
}

func TestFuzzSeedsReachTheRoutes(t *testing.T) {
	f := fresh(t)
	hit := make(map[string]bool)
	for _, seed := range fuzzSeeds {
		method, path, body := split(seed)
		req := httptest.NewRequest("GET", "http://keep/", strings.NewReader(body))
		req.Method = method
		req.Header.Set("X-Vault-Token", f.Root)
		servertest.SetURL(req, path)
		w := httptest.NewRecorder()
		f.HTTP.ServeHTTP(w, req)
		if w.Code < 300 {
			hit[f.Label(strings.TrimPrefix(req.URL.Path, "/v1/"))] = true
		}
	}
	if len(hit) < 20 {
		t.Errorf("the seeds are answered well on only %d routes: %v", len(hit), hit)
	}
}
