package seal

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/config"
	"github.com/sealkeep/sealkeep/seal/sealtest"
)

var (
	kvKey = bytes.Repeat([]byte{0x5a, 0xc3, 0x17, 0xee}, 8)
	kvNew = bytes.Repeat([]byte{0x11, 0xc3, 0x17, 0xee}, 8)
)

func newKVServer(t testing.TB) *sealtest.Transit {
	clean(t)
	s := sealtest.NewTransit(t)
	s.Write("keep", "key", base64.StdEncoding.EncodeToString(kvKey))
	return s
}

func kvBlock(t testing.TB, s *sealtest.Transit, more ...string) *Seal {
	t.Helper()
	return make1(t, block("vaultkv", "kv", append([]string{"address", s.URL, "token", s.Token, "key_path", "kv/data/keep"}, more...)...))
}

func TestVaultKV(t *testing.T) {
	s := newKVServer(t)
	file := load(t, `seal "vaultkv" {
		address  = "`+s.URL+`/"
		token    = "`+s.Token+`"
		key_path = "kv/data/keep"
	}`)
	s.Requests()
	blob, id := roundTrip(t, file)
	if id != config.KeyID(kvKey) {
		t.Errorf("key ID is %s", id)
	}
	// The key is read for each attempt.
	if got := s.Requests(); !slices.Equal(got, []string{"renew-self", "read", "renew-self", "read"}) {
		t.Errorf("Wrap and Unwrap asked %v", got)
	}

	// terraform-backend's variables make the same seal; variables that Vault's client would obey do nothing.
	for name, v := range map[string]string{"KMS_BACKEND": "vault", "KMS_VAULT_KEY_PATH": "kv/data/keep", "VAULT_ADDR": s.URL, "VAULT_TOKEN": s.Token} {
		t.Setenv(name, v)
	}
	opens(t, environment(t), blob)
	for name, v := range map[string]string{"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": "of-the-environment", "VAULT_NAMESPACE": "elsewhere", "VAULT_AGENT_ADDR": "http://127.0.0.1:1",
		"VAULT_WRAP_TTL": "5m", "VAULT_CACERT": "/nowhere/ca.pem", "VAULT_PROXY_ADDR": "http://127.0.0.1:1", "VAULT_HTTP_PROXY": "http://127.0.0.1:1", "VAULT_CLIENT_TIMEOUT": "1ns"} {
		t.Setenv(name, v)
	}
	opens(t, kvBlock(t, s), blob)

	// A new version of the secret: the old blob opens, new ones are of the new key. Deleted versions in between are skipped.
	for range 3 {
		s.Write("keep", "key", hex.EncodeToString(kvNew)+"\n")
	}
	s.Delete("keep", 2, time.Now().Add(-time.Hour))
	s.Destroy("keep", 3)
	opens(t, file, blob)
	newer, id := roundTrip(t, file)
	if id != config.KeyID(kvNew) {
		t.Errorf("key ID is %s", id)
	}
	s.Requests()
	opens(t, file, newer)
	if got := s.Requests(); !slices.Equal(got, []string{"renew-self", "read"}) {
		t.Errorf("Unwrap of the newest asked %v", got)
	}
	s.Delete("keep", 1, time.Now().Add(-time.Hour))
	_, err := file.Unwrap(soon(t), blob, aad)
	hasClass(t, err, BlobMismatch, config.KeyID(kvKey), "undelete")
	s.Delete("keep", 1, time.Time{})
	opens(t, file, blob)
	for range oldVersions {
		s.Write("keep", "key", hex.EncodeToString(kvNew))
	}
	_, err = file.Unwrap(soon(t), blob, aad)
	hasClass(t, err, BlobMismatch, config.KeyID(kvKey))
}

// Keys that are none are told apart from keys that are away, and none is shown.
func TestVaultKVKeys(t *testing.T) {
	for name, c := range map[string]struct {
		field string
		value any
		word  string
	}{
		"another field":           {"value", base64.StdEncoding.EncodeToString(kvKey), `no text in the field "key"`},
		"a number":                {"key", 7, `no text in the field "key"`},
		"nothing":                 {"key", " \n", `no text in the field "key"`},
		"24 bytes in base64":      {"key", base64.StdEncoding.EncodeToString(kvKey[:24]), "32 characters"},
		"16 bytes in base64":      {"key", base64.StdEncoding.EncodeToString(kvKey[:16]), "24 bytes"},
		"not base64":              {"key", strings.Repeat("?", 44), "was it cut"},
		"URL-safe and unpadded":   {"key", base64.RawURLEncoding.EncodeToString(kvKey), ""},
		"hexadecimal":             {"key", hex.EncodeToString(kvKey), ""},
		"a line break at the end": {"key", base64.StdEncoding.EncodeToString(kvKey) + "\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newKVServer(t)
			s.Write("other", c.field, c.value)
			seal := kvBlock(t, s, "key_path", "/kv/data/other/")
			if c.word == "" {
				roundTrip(t, seal)
				return
			}
			_, _, err := seal.Wrap(soon(t), secret, aad)
			hasClass(t, err, KeyNotFound, c.word, "kv/data/other")
			if v, ok := c.value.(string); ok && strings.TrimSpace(v) != "" && strings.Contains(err.Error(), v) {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

func TestVaultKVWrongParams(t *testing.T) {
	good := []string{"address", "https://vault.example.com", "token", "t", "key_path", "kv/data/x"}
	for _, c := range []struct {
		change []string
		want   string
	}{
		{[]string{"address", ""}, "address is missing"},
		{[]string{"address", "vault.example.com"}, "address is no URL"},
		{[]string{"address", "https://user:HUSH@vault.example.com"}, "address is no URL"},
		{[]string{"token", ""}, "token is missing: set it, or kube_auth_role"},
		{[]string{"key_path", ""}, "key_path is missing"},
		{[]string{"tls_client_cert", "/c.pem"}, "belong together"},
		{[]string{"tls_skip_verify", "perhaps"}, "use true or false"},
	} {
		_, err := New(block("vaultkv", "kv", append(slices.Clone(good), c.change...)...))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "HUSH") {
			t.Errorf("%q: %v", c.change, err)
		}
	}
}

// kubeBlock is a seal without a token, and the file of its service account's token.
func kubeBlock(t *testing.T, s *sealtest.Transit, typ string, more ...string) (seal *Seal, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("the-service-account\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	params := []string{"address", s.URL, "kube_auth_role", "keep", "kube_token_file", file}
	if typ == "transit" {
		params = append(params, "mount_path", "transit", "key_name", "autounseal")
	} else {
		params = append(params, "key_path", "kv/data/keep")
	}
	return make1(t, block(typ, typ, append(params, more...)...)), file
}

func TestKubernetes(t *testing.T) {
	for _, typ := range []string{"vaultkv", "transit"} {
		t.Run(typ, func(t *testing.T) {
			s := newKVServer(t)
			s.AddKey("autounseal")
			s.AllowAccount("the-service-account", "keep")
			seal, file := kubeBlock(t, s, typ)
			blob, _ := roundTrip(t, seal)
			opens(t, seal, blob)
			logins := func() (n int) {
				for _, op := range s.Requests() {
					if op == "login" {
						n++
					}
				}
				return n
			}
			if n := logins(); n != 1 {
				t.Errorf("%d logins for three attempts", n)
			}
			if ttl, ok := seal.TokenTTL(); ok {
				t.Errorf("the TTL of a login's token is told: %v", ttl)
			}

			// A token that is denied is kept for a while: a policy that lacks something does not fill the server with tokens.
			old := s.Token
			s.SetToken("of-the-next-login")
			server := serverOf(seal)
			for range 3 {
				_, err := seal.Unwrap(soon(t), blob, aad)
				hasClass(t, err, AuthDenied)
				for _, hidden := range []string{old, "the-service-account", "of-the-next-login"} {
					if strings.Contains(err.Error(), hidden) {
						t.Errorf("the error shows %q: %v", hidden, err)
					}
				}
			}
			if n := logins(); n != 0 {
				t.Errorf("%d logins within the minute", n)
			}
			age := func(d time.Duration) {
				server.mu.Lock()
				defer server.mu.Unlock()
				server.login.born = server.login.born.Add(-d)
				server.login.ends = server.login.ends.Add(-d)
			}
			age(2 * minLogin)
			_, err := seal.Unwrap(soon(t), blob, aad)
			hasClass(t, err, AuthDenied)
			opens(t, seal, blob)
			if n := logins(); n != 1 {
				t.Errorf("%d logins after a minute", n)
			}
			age(time.Hour) // as long as the token lives
			opens(t, seal, blob)
			if n := logins(); n != 1 {
				t.Errorf("%d logins after the token's end", n)
			}

			// What fails at the login.
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			age(time.Hour)
			_, err = seal.Unwrap(soon(t), blob, aad)
			hasClass(t, err, CredentialsMissing, file, "kube_token_file")
			if err := os.WriteFile(file, []byte("another-account"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = seal.Unwrap(soon(t), blob, aad)
			hasClass(t, err, AuthDenied, "auth/kubernetes/login", "the role keep")
			if strings.Contains(err.Error(), "another-account") {
				t.Errorf("the error shows the account's token: %v", err)
			}
			for _, c := range []struct {
				status int
				class  Class
			}{{400, AuthDenied}, {404, AuthDenied}, {429, Throttled}, {500, Unreachable}} {
				s.Fail(sealtest.Fault{Op: "login", Status: c.status, Message: "another-account " + s.Token})
				_, err = seal.Unwrap(soon(t), blob, aad)
				hasClass(t, err, c.class)
				if strings.Contains(err.Error(), "another-account") {
					t.Errorf("the error shows the account's token: %v", err)
				}
				s.Heal()
			}
			wrong, _ := kubeBlock(t, s, typ, "kube_auth_role", "someone")
			_, err = wrong.Unwrap(soon(t), blob, aad)
			hasClass(t, err, AuthDenied, "the role someone")
			wrong, _ = kubeBlock(t, s, typ, "kube_auth_name", "k8s")
			_, err = wrong.Unwrap(soon(t), blob, aad)
			hasClass(t, err, AuthDenied, "auth/k8s/login")
		})
	}
}

func serverOf(s *Seal) *vaultServer {
	if e, ok := s.service.(*transitEngine); ok {
		return e.server
	}
	return s.service.(*vaultKV).vaultServer
}

// The client of vaultkv does TLS by the seal's settings alone, with certificates that are read for each attempt.
func TestVaultKVTLS(t *testing.T) {
	s := newKVServer(t)
	ca, dir := newCA(t), t.TempDir()
	cert, key := ca.issue(t, "127.0.0.1", "vault.example.com")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(s)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	file := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	caFile := file("cas/ca.pem", ca.pem)
	own, ownKey := ca.issue(t, "client")
	ownFile, ownKeyFile, junk := file("own.pem", own), file("own.key", ownKey), file("junk.pem", []byte("junk"))
	for name, c := range map[string]struct {
		params []string
		fails  bool
	}{
		"unknown authority":   {nil, true},
		"authority":           {[]string{"tls_ca_cert", caFile}, false},
		"folder":              {[]string{"tls_ca_path", filepath.Dir(caFile)}, false},
		"empty folder":        {[]string{"tls_ca_path", t.TempDir()}, true},
		"no such file":        {[]string{"tls_ca_cert", "/nowhere/ca.pem"}, true},
		"no certificate":      {[]string{"tls_ca_cert", junk}, true},
		"another name":        {[]string{"tls_ca_cert", caFile, "tls_server_name", "other.example.com"}, true},
		"the other name":      {[]string{"tls_ca_cert", caFile, "tls_server_name", "vault.example.com"}, false},
		"not verified":        {[]string{"tls_skip_verify", "true"}, false},
		"client's":            {[]string{"tls_ca_cert", caFile, "tls_client_cert", ownFile, "tls_client_key", ownKeyFile}, false},
		"client's wrong file": {[]string{"tls_ca_cert", caFile, "tls_client_cert", junk, "tls_client_key", ownKeyFile}, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := kvBlock(t, s, append([]string{"address", server.URL}, c.params...)...).Wrap(soon(t), secret, aad)
			if c.fails {
				hasClass(t, err, TLS, "tls_ca_cert")
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// A standby sends the client on, once; not away from TLS. Something that is no Vault is not believed.
func TestVaultKVAnswers(t *testing.T) {
	s := newKVServer(t)
	blob, _ := roundTrip(t, kvBlock(t, s, "namespace", "team/a"))
	standby := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, s.URL+r.URL.String(), http.StatusTemporaryRedirect)
	}))
	defer standby.Close()
	opens(t, kvBlock(t, s, "address", standby.URL), blob)

	ca := newCA(t)
	cert, key := ca.issue(t, "127.0.0.1")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	downgrade := httptest.NewUnstartedServer(standby.Config.Handler)
	downgrade.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	downgrade.StartTLS()
	defer downgrade.Close()
	s.Requests()
	_, err = kvBlock(t, s, "address", downgrade.URL, "tls_skip_verify", "true").Unwrap(soon(t), blob, aad)
	hasClass(t, err, Unreachable, "away from TLS")
	if got := s.Requests(); len(got) > 0 {
		t.Errorf("the plain server was asked %v", got)
	}

	for name, body := range map[string]string{"a web page": "<html>", "nothing": "", "other JSON": `{"data": 7}`, "version 1": `{"data": {"key": "x"}}`} {
		portal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }))
		defer portal.Close()
		_, err := kvBlock(t, s, "address", portal.URL).Unwrap(soon(t), blob, aad)
		want := KeyNotFound
		if name == "a web page" {
			want = Unreachable
		}
		hasClass(t, err, want, portal.URL)
	}

	ctx, cancel := contextFor(t, 200*time.Millisecond)
	defer cancel()
	s.Fail(sealtest.Fault{Op: "read", Stall: true})
	_, err = kvBlock(t, s).Unwrap(ctx, blob, aad)
	hasClass(t, err, Unreachable)
}
