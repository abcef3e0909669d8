package seal

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/wrappers/transit/v2"

	"github.com/sealkeep/sealkeep/seal/sealtest"
)

func newTransitServer(t testing.TB) *sealtest.Transit {
	clean(t)
	s := sealtest.NewTransit(t)
	s.AddKey("autounseal")
	return s
}

func transitBlock(t testing.TB, s *sealtest.Transit, more ...string) *Seal {
	t.Helper()
	return make1(t, block("transit", "vault", append([]string{"address", s.URL, "token", s.Token, "mount_path", "transit/", "key_name", "autounseal"}, more...)...))
}

func TestTransit(t *testing.T) { onHubs(t, testTransit) }

func testTransit(t *testing.T, h hub) {
	token := h.token(life{})
	file := load(t, `seal "transit" {
		name       = "vault"
		address    = "`+h.address()+`"
		token      = "`+token+`"
		mount_path = "transit/"
		key_name   = "autounseal"
	}`)
	blob, id := roundTrip(t, file)
	if id != "vault:v1" {
		t.Errorf("key ID is %s", id)
	}

	// The next version of the key: the old blob opens, new ones have the new version.
	h.AddKey("autounseal")
	opens(t, file, blob)
	if _, id = roundTrip(t, file); id != "vault:v2" {
		t.Errorf("key ID is %s", id)
	}

	for name, v := range map[string]string{"VAULT_SEAL_TYPE": "transit", "VAULT_TRANSIT_SEAL_KEY_NAME": "autounseal", "VAULT_TRANSIT_SEAL_MOUNT_PATH": "transit",
		"VAULT_TRANSIT_SEAL_DISABLE_RENEWAL": "true", "VAULT_ADDR": h.address(), "VAULT_TOKEN": token} {
		t.Setenv(name, v)
	}
	env := environment(t)
	opens(t, env, blob)
	if _, id = roundTrip(t, env); id != "transit:v2" {
		t.Errorf("key ID is %s", id)
	}

	// A version that may no longer decrypt, until it may again.
	h.SetMinVersion("autounseal", 2)
	_, err := file.Unwrap(soon(t), blob, aad)
	hasClass(t, err, BlobMismatch, "min_decryption_version")
	roundTrip(t, file)
	h.SetMinVersion("autounseal", 1)
	opens(t, file, blob)

	// Trap: the library hands the plaintext over. The engine only ever sees a data key, or the library's "a".
	if fake, ok := h.(*fakeHub); ok {
		for _, p := range fake.Plaintexts() {
			if string(p) != "a" && len(p) != keySize || bytes.Contains(p, secret) {
				t.Errorf("the engine saw %q", p)
			}
		}
	}

	// Trap: by itself the library takes these before what it is told.
	for _, name := range []string{"TRANSIT_WRAPPER_KEY_NAME", "TRANSIT_WRAPPER_MOUNT_PATH", "VAULT_TRANSIT_SEAL_KEY_NAME", "VAULT_TRANSIT_SEAL_MOUNT_PATH", "VAULT_TOKEN", "VAULT_ADDR"} {
		t.Setenv(name, "of-the-environment")
	}
	prefixed := hubBlock(t, h, token, "key_id_prefix", "there/")
	if _, id = roundTrip(t, prefixed); id != "there/v2" {
		t.Errorf("key ID is %s", id)
	}
}

// Traps of the library that this package lives with. Each is checked, so that an update that changes one is noticed.
func TestTransitLibraryTraps(t *testing.T) { onHubs(t, testTransitLibraryTraps) }

func testTransitLibraryTraps(t *testing.T, h hub) {
	token := h.token(life{})
	w := transit.NewWrapper()
	panics := func(name string, f func()) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("the library has changed: %s before SetConfig does not panic", name)
			}
		}()
		f()
	}
	panics("Decrypt", func() { w.Decrypt(t.Context(), &wrapping.BlobInfo{}) })
	panics("Finalize", func() { w.Finalize(t.Context()) })
	finalize(nil) // ours

	if _, ok := any(w).(wrapping.InitFinalizer); ok {
		t.Error("the library has changed: the wrapper is an InitFinalizer")
	}
	if _, err := w.SetConfig(t.Context(), wrapping.WithConfigMap(map[string]string{"address": h.address(), "token": token, "mount_path": "transit", "key_name": "autounseal"})); err != nil {
		t.Fatal(err)
	}
	defer w.Finalize(t.Context())
	info, err := w.Encrypt(t.Context(), secret, wrapping.WithAad(aad))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.Decrypt(t.Context(), info, wrapping.WithAad([]byte("elsewhere"))); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("the library has changed: it heeds associated data: %v", err)
	}
	if id := info.KeyInfo.KeyId; id != "v1" {
		t.Errorf("the library has changed: its key ID is %s without a prefix", id)
	}
	ours := hubBlock(t, h, token)
	blob, _ := roundTrip(t, ours)
	_, err = ours.Unwrap(soon(t), blob, []byte("elsewhere"))
	hasClass(t, err, BlobMismatch)
}

// The last wrapper that was made renews the token, and no other; Close ends that too.
func TestTransitRenewal(t *testing.T) {
	s := newTransitServer(t)
	seal := transitBlock(t, s)
	engine := seal.service.(*transitEngine)
	blob, _ := roundTrip(t, seal)
	waitFor(t, "one renewal alone", func() bool { return renewals() == 1 })
	first := engine.live
	if first == nil {
		t.Fatal("no wrapper is alive")
	}
	opens(t, seal, blob)
	if engine.live == nil || engine.live == first {
		t.Error("the last wrapper is not the one alive")
	}
	// A failed attempt leaves the last one alive.
	last := engine.live
	s.Fail(sealtest.Fault{Op: "encrypt", Status: 503, Message: "Vault is sealed"})
	_, err := seal.Unwrap(soon(t), blob, aad)
	hasClass(t, err, Unreachable, s.URL)
	s.Heal()
	if engine.live != last {
		t.Error("a failed attempt took the wrapper away")
	}
	// With leases of a second a wrapper that lives renews again and again.
	s.SetLease(1)
	opens(t, seal, blob)
	s.Requests()
	waitFor(t, "a renewal", func() bool { return slices.Contains(s.Requests(), "renew-self") })
	s.SetLease(3600)
	opens(t, seal, blob)
	waitFor(t, "one renewal alone", func() bool { return renewals() == 1 })
	seal.Close()
	waitFor(t, "the end of the renewal", func() bool { return renewals() == 0 })

}

func TestTransitDisableRenewal(t *testing.T) {
	onHubs(t, func(t *testing.T, h hub) {
		roundTrip(t, hubBlock(t, h, h.token(life{}), "disable_renewal", "true"))
		if got := h.Requests(); !slices.Equal(got, []string{"encrypt", "encrypt", "decrypt", "encrypt", "decrypt"}) {
			t.Errorf("asked %v", got)
		}
	})
}

// renewals counts the goroutines of the library that renew tokens.
func renewals() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "api.(*LifetimeWatcher).Start(")
}

// SetConfig of the library ignores the context. What comes of it after its caller has left is finalized or kept, never
// lost, and nobody waits for it.
func TestTransitHangs(t *testing.T) {
	s := newTransitServer(t)
	t.Setenv("VAULT_CLIENT_TIMEOUT", "20")
	seal := transitBlock(t, s)
	blob, _ := roundTrip(t, seal)
	s.Fail(sealtest.Fault{Stall: true})
	ctx, cancel := contextFor(t, 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := seal.Unwrap(ctx, blob, aad)
	hasClass(t, err, Unreachable)
	_, err = seal.Unwrap(soon(t), blob, aad)
	hasClass(t, err, Unreachable, "the previous attempt has not ended yet")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	s.Heal() // the hung attempt ends now
	waitFor(t, "the end of the hung attempt", func() bool {
		_, err := seal.Unwrap(soon(t), blob, aad)
		return err == nil
	})

	// Closed while one hangs: its wrapper does not stay.
	s.Fail(sealtest.Fault{Op: "encrypt", Stall: true})
	ctx, cancel = contextFor(t, 100*time.Millisecond)
	defer cancel()
	_, err = seal.Unwrap(ctx, blob, aad)
	hasClass(t, err, Unreachable)
	seal.Close()
	s.Heal()
	waitFor(t, "the end of the renewal", func() bool { return len(seal.turn) == 0 && renewals() == 0 })
}

// A slow engine is as slow as VAULT_CLIENT_TIMEOUT says, for a daemon that sets it.
func TestTransitClientTimeout(t *testing.T) {
	s := newTransitServer(t)
	t.Setenv("VAULT_CLIENT_TIMEOUT", "1")
	seal := transitBlock(t, s, "disable_renewal", "true")
	s.Fail(sealtest.Fault{Stall: true})
	start := time.Now()
	_, _, err := seal.Wrap(soon(t), secret, aad)
	hasClass(t, err, Unreachable, s.URL)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestTransitTLS(t *testing.T) { onHubs(t, testTransitTLS) }

func testTransitTLS(t *testing.T, h hub) {
	token := h.token(life{})
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	_, _, err := hubBlock(t, h, token, "address", server.URL).Wrap(soon(t), secret, aad)
	hasClass(t, err, TLS, "tls_ca_cert")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	_, _, err = hubBlock(t, h, token, "address", server.URL, "tls_ca_cert", ca).Wrap(soon(t), secret, aad)
	hasClass(t, err, TLS, ca)
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, hubBlock(t, h, token, "address", server.URL, "tls_ca_cert", ca))
	roundTrip(t, hubBlock(t, h, token, "address", server.URL, "tls_ca_cert", ca, "tls_server_name", "example.com"))
	roundTrip(t, hubBlock(t, h, token, "address", server.URL, "tls_skip_verify", "true"))
	_, _, err = hubBlock(t, h, token, "address", server.URL, "tls_ca_cert", ca, "tls_server_name", "other.example").Wrap(soon(t), secret, aad)
	hasClass(t, err, TLS, "other.example")
}

// Certificates that are replaced count for the next attempt of the same seal: those of the server's CA and of the client.
func TestTransitTLSRotates(t *testing.T) { onHubs(t, testTransitTLSRotates) }

func testTransitTLSRotates(t *testing.T, h hub) {
	token := h.token(life{})
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(name string, pem []byte) {
		if err := os.WriteFile(name, pem, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	clientCA := newCA(t)
	certPEM, keyPEM := clientCA.issue(t, "keep")
	write(cert, certPEM)
	write(key, keyPEM)
	var now atomic.Pointer[tls.Config] // of the server
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return now.Load(), nil }}
	server.StartTLS()
	defer server.Close()
	serve := func(serverCA, clients *authority) {
		chain, err := tls.X509KeyPair(serverCA.issue(t, "127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(clients.cert)
		now.Store(&tls.Config{Certificates: []tls.Certificate{chain}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	}
	serverCA := newCA(t)
	serve(serverCA, clientCA)
	write(ca, serverCA.pem)
	seal := hubBlock(t, h, token, "address", server.URL, "tls_ca_cert", ca, "tls_client_cert", cert, "tls_client_key", key, "disable_renewal", "true")
	blob, _ := roundTrip(t, seal)
	_, err := hubBlock(t, h, token, "address", server.URL, "tls_ca_cert", ca).Unwrap(soon(t), blob, aad)
	hasClass(t, err, TLS, "certificate required")

	server.CloseClientConnections()
	serverCA = newCA(t)
	serve(serverCA, clientCA)
	_, err = seal.Unwrap(soon(t), blob, aad)
	hasClass(t, err, TLS, "tls_ca_cert", "unknown authority")
	write(ca, serverCA.pem)
	opens(t, seal, blob)

	clientCA = newCA(t)
	serve(serverCA, clientCA)
	_, err = seal.Unwrap(soon(t), blob, aad)
	hasClass(t, err, TLS, "tls_client_cert")
	certPEM, keyPEM = clientCA.issue(t, "keep")
	write(cert, certPEM)
	_, err = seal.Unwrap(soon(t), blob, aad) // half written
	hasClass(t, err, TLS, "tls_client_key")
	write(key, keyPEM)
	opens(t, seal, blob)
}

func TestTransitWrongParams(t *testing.T) {
	clean(t)
	good := []string{"address", "https://vault.example:8200", "token", "hvs.secret", "mount_path", "transit", "key_name", "k"}
	for _, c := range []struct {
		params []string
		env    string
		want   string
	}{
		{[]string{"address", ""}, "", "address is missing"},
		{[]string{"token", ""}, "", "token is missing"},
		{[]string{"mount_path", ""}, "", "mount_path is missing"},
		{[]string{"key_name", ""}, "", "key_name is missing"},
		{[]string{"address", "vault.example:8200"}, "", "address is no URL"},
		{[]string{"address", "https://me:password@vault.example"}, "", "address is no URL"},
		{[]string{"tls_skip_verify", "maybe"}, "", `tls_skip_verify is "maybe"`},
		{[]string{"disable_renewal", "maybe"}, "", `disable_renewal is "maybe"`},
		{[]string{"tls_client_cert", "/c"}, "", "belong together"},
		{nil, "VAULT_AGENT_ADDR=http://127.0.0.1:1", "VAULT_AGENT_ADDR"},
		{nil, "VAULT_WRAP_TTL=5m", "VAULT_WRAP_TTL"},
		{nil, "VAULT_SKIP_VERIFY=1", "VAULT_SKIP_VERIFY"},
		{[]string{"tls_ca_cert", "/ca"}, "VAULT_TLS_SERVER_NAME=x", "VAULT_TLS_SERVER_NAME"},
		{nil, "VAULT_CACERT=/x", "VAULT_CACERT"},
		{nil, "VAULT_NAMESPACE=x", "VAULT_NAMESPACE"},
	} {
		name, value, ok := strings.Cut(c.env, "=")
		if ok {
			t.Setenv(name, value)
		}
		_, err := New(block("transit", "vault", append(slices.Clone(good), c.params...)...))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %s: got %v, want %q", c.params, c.env, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "hvs.secret") || strings.Contains(err.Error(), "password")) {
			t.Errorf("the error shows a secret: %v", err)
		}
		if ok {
			os.Unsetenv(name)
		}
	}
	if _, err := New(block("transit", "vault", good...)); err != nil {
		t.Error(err)
	}
}
