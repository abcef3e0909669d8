package seal

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/config"
)

var (
	secret = []byte("the root key, which nobody sees.")
	aad    = []byte("format, purpose, store, slot")
)

// clean takes away every variable of the machine that steers an AWS SDK or Vault's client.
func clean(t testing.TB) {
	t.Helper()
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "AWS") || strings.HasPrefix(name, "VAULT_") || strings.HasPrefix(name, "BAO_") || strings.HasPrefix(name, "TRANSIT_") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("VAULT_MAX_RETRIES", "0")
}

// load makes the one seal of a configuration file, as the daemon does.
func load(t testing.TB, hcl string) *Seal {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sealkeep.hcl")
	if err := os.WriteFile(file, []byte("storage \"bbolt\" { path = \"/nowhere/sealkeep.db\" }\n"+hcl), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load([]string{file}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return make1(t, c.Seals[0])
}

// environment makes the seal that variables alone describe.
func environment(t testing.TB) *Seal {
	t.Helper()
	t.Setenv("STATE_DIRECTORY", t.TempDir())
	c, err := config.Load(nil, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return make1(t, c.Seals[0])
}

func make1(t testing.TB, c config.Seal) *Seal {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// block is a seal of a configuration file.
func block(typ, name string, params ...string) config.Seal {
	c := config.Seal{Type: typ, Name: name, Priority: 1, At: "test.hcl:1", Params: map[string]config.Param{}}
	for i := 0; i < len(params); i += 2 {
		c.Params[params[i]] = config.Param{Value: params[i+1], Origin: "test.hcl:2"}
	}
	return c
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// roundTrip wraps and unwraps, and returns the blob and the key's ID.
func roundTrip(t testing.TB, s *Seal) ([]byte, string) {
	t.Helper()
	blob, id, err := s.Wrap(soon(t), secret, aad)
	if err != nil {
		t.Fatal(err)
	}
	opens(t, s, blob)
	return blob, id
}

func opens(t testing.TB, s *Seal, blob []byte) {
	t.Helper()
	got, err := s.Unwrap(soon(t), blob, aad)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(secret) {
		t.Fatalf("opened to %q", got)
	}
}

// hasClass wants an error of a class whose text has all the words.
func hasClass(t testing.TB, err error, want Class, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want class %s", want)
	}
	var e interface{ Class() string }
	if !errors.As(err, &e) || e.Class() != string(want) {
		t.Fatalf("class is not %s: %v (%T)", want, err, errors.Unwrap(err))
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

// authority is a certificate authority of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newCA(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	a.key, a.cert, a.pem = certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "ca of a test"}, IsCA: true, BasicConstraintsValid: true}, nil)
	return a
}

// issue makes a certificate for a server or a client with these names or addresses, and its key.
func (a *authority) issue(t testing.TB, names ...string) (certPEM, keyPEM []byte) {
	t.Helper()
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	key, _, certPEM := certificate(t, c, a)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return certPEM, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// certificate signs c by a, or by itself.
func certificate(t testing.TB, c *x509.Certificate, a *authority) (*ecdsa.PrivateKey, *x509.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := c, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// quiet is for servers whose clients leave in the middle.
var quiet = log.New(io.Discard, "", 0)

func contextFor(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

// waitFor asks until it is so.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited 30 seconds for %s", what)
		}
	}
}
