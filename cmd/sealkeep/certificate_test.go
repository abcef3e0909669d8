package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/config"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/sys"
	"github.com/sealkeep/sealkeep/token"
)

// A tlsKeep is a listener with TLS in front of a keep that is not initialized.
type tlsKeep struct {
	*listener
	t    *testing.T
	ca   *authority
	conf config.Listener
	n    int // certificates made
}

func newTLSKeep(t *testing.T, change func(*config.Listener)) *tlsKeep {
	dir := t.TempDir()
	k := &tlsKeep{t: t, ca: newAuthority(), conf: config.Listener{
		Type: "tcp", Address: "127.0.0.1:0", At: "test", TLSMinVersion: tls.VersionTLS12, TLSClientAuth: tls.RequestClientCert,
		TLSCertFile: filepath.Join(dir, "cert"), TLSKeyFile: filepath.Join(dir, "key"),
	}}
	cert, key := k.next()
	k.write(k.conf.TLSCertFile, cert)
	k.write(k.conf.TLSKeyFile, key)
	if change != nil {
		change(&k.conf)
	}
	if k.conf.TLSClientCAFile != "" {
		k.write(k.conf.TLSClientCAFile, k.ca.pem)
	}
	l, err := listen(t.Context(), k.conf)
	if err != nil {
		t.Fatal(err)
	}
	k.listener = l
	l.http = uninitialized(t, filepath.Join(dir, "keep.db")).HTTPServer(apiListener(l.conf))
	l.http.ErrorLog = log.New(io.Discard, "", 0)
	served := make(chan error, 1)
	go func() { served <- l.serve() }()
	t.Cleanup(func() {
		l.http.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return k
}

// next makes a new certificate, named by its number, with a chain.
func (k *tlsKeep) next() (cert, key []byte) {
	k.t.Helper()
	k.n++
	cert, key, err := k.ca.issue(strconv.Itoa(k.n))
	if err != nil {
		k.t.Fatal(err)
	}
	return append(cert, k.ca.pem...), key
}

func (k *tlsKeep) write(file string, b []byte) {
	k.t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// swap puts a file in the place of another at once.
func (k *tlsKeep) swap(file string, b []byte) {
	k.t.Helper()
	k.write(file+".new", b)
	if err := os.Rename(file+".new", file); err != nil {
		k.t.Fatal(err)
	}
}

// client is a configuration that trusts the authority of the keep.
func (k *tlsKeep) client() *tls.Config {
	c := &tls.Config{RootCAs: x509.NewCertPool()}
	c.RootCAs.AddCert(k.ca.cert)
	return c
}

// ask makes one request over a new connection, and returns the connection's state.
func (k *tlsKeep) ask(ctx context.Context, c *tls.Config) (*tls.ConnectionState, error) {
	t := &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url()+"/v1/sys/health", nil)
	if err != nil {
		return nil, err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return nil, err
	}
	return resp.TLS, nil
}

// served is the number of the certificate that the keep shows.
func (k *tlsKeep) served() int {
	k.t.Helper()
	state, err := k.ask(k.t.Context(), k.client())
	if err != nil {
		k.t.Fatal(err)
	}
	n, err := strconv.Atoi(state.PeerCertificates[0].Subject.CommonName)
	if err != nil || len(state.PeerCertificates) != 2 {
		k.t.Fatalf("certificate %v of %d", err, len(state.PeerCertificates))
	}
	return n
}

// TestRenewalUnderLoad replaces the files in every way while clients connect: no connection fails, and none sees half a
// pair.
func TestRenewalUnderLoad(t *testing.T) {
	k := newTLSKeep(t, nil)
	var logged bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&logged, nil))
	var w renewal
	look := func(n int) {
		for range n {
			w.look(k.listener, logger)
		}
	}
	look(2)

	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var asked atomic.Int64
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				state, err := k.ask(context.WithoutCancel(ctx), k.client())
				if err != nil || len(state.PeerCertificates) != 2 {
					t.Errorf("a connection failed: %v", err)
					return
				}
				asked.Add(1)
			}
		})
	}
	cert, key := k.conf.TLSCertFile, k.conf.TLSKeyFile
	for range 10 {
		for name, replace := range map[string]func(c, p []byte){
			"at once": func(c, p []byte) { k.swap(cert, c); k.swap(key, p) },
			"in place, slowly": func(c, p []byte) {
				for _, part := range [][]byte{nil, p[:len(p)/2], p} {
					k.write(key, part)
					look(1)
				}
				for _, part := range [][]byte{nil, c[:100], bytes.SplitAfter(c, []byte("-----END CERTIFICATE-----\n"))[0], c} { // the third is a pair without its chain
					k.write(cert, part)
					look(1)
				}
			},
			"removed, then slowly": func(c, p []byte) {
				if err := errors.Join(os.Remove(cert), os.Remove(key)); err != nil {
					t.Fatal(err)
				}
				look(3)
				k.write(cert, c)
				look(3)
				k.write(key, p)
			},
		} {
			before := asked.Load()
			c, p := k.next()
			replace(c, p)
			if got := k.served(); got != k.n-1 {
				t.Errorf("%s: certificate %d is served before it is settled, want %d", name, got, k.n-1)
			}
			look(2)
			if got := k.served(); got != k.n {
				t.Errorf("%s: certificate %d is served, want %d", name, got, k.n)
			}
			for deadline := time.Now().Add(patience); asked.Load() < before+8 && time.Now().Before(deadline) && !t.Failed(); {
				<-time.After(time.Millisecond)
			}
		}
	}
	stop()
	clients.Wait()
	t.Logf("%d connections over %d certificates", asked.Load(), k.n)

	// A pair of no use is logged once, whatever follows.
	logged.Reset()
	_, other := k.next()
	k.swap(key, other)
	look(20)
	if n := strings.Count(logged.String(), "level=ERROR"); n != 1 || !strings.Contains(logged.String(), "private key does not match public key") {
		t.Errorf("logged %d times: %s", n, &logged)
	}
	if got := k.served(); got != k.n-1 {
		t.Errorf("certificate %d is served", got)
	}
	for _, secret := range bytes.Split(other, []byte("\n"))[1:3] {
		if strings.Contains(logged.String(), string(secret)) && len(secret) > 0 {
			t.Error("the key is in the log")
		}
	}
}

func TestClientCertificates(t *testing.T) {
	stranger := newAuthority()
	identity := func(a *authority) tls.Certificate {
		cert, key, err := a.issue("client")
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, test := range map[string]struct {
			auth                    tls.ClientAuthType
			none, right, wrong, big bool // who is served
		}{
			"requested": {tls.RequestClientCert, true, true, true, false},
			"required":  {tls.RequireAndVerifyClientCert, false, true, false, false},
			"disabled":  {tls.NoClientCert, true, true, true, true},
		} {
			k := newTLSKeep(t, func(l *config.Listener) {
				l.TLSClientAuth = test.auth
				if test.auth == tls.RequireAndVerifyClientCert {
					l.TLSClientCAFile = filepath.Join(filepath.Dir(l.TLSCertFile), "clients")
				}
			})
			big := identity(k.ca)
			for range 100 {
				big.Certificate = append(big.Certificate, k.ca.cert.Raw)
			}
			for who, c := range map[string]struct {
				shows  []tls.Certificate
				served bool
			}{
				"nothing": {nil, test.none}, "the right one": {[]tls.Certificate{identity(k.ca)}, test.right},
				"a stranger's": {[]tls.Certificate{identity(stranger)}, test.wrong}, "a large chain": {[]tls.Certificate{big}, test.big},
			} {
				conf := k.client()
				conf.MaxVersion = version
				conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if c.shows == nil {
						return new(tls.Certificate), nil
					}
					return &c.shows[0], nil // also when the server would not take it
				}
				if _, err := k.ask(t.Context(), conf); (err == nil) != c.served {
					t.Errorf("%s, %s, %s: %v", tls.VersionName(version), name, who, err)
				}
			}
		}
	}
}

// A client whose authority is no longer trusted is refused, even when it resumes a session of before.
func TestClientAuthorityIsReplaced(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		k := newTLSKeep(t, func(l *config.Listener) {
			l.TLSClientAuth = tls.RequireAndVerifyClientCert
			l.TLSClientCAFile = filepath.Join(filepath.Dir(l.TLSCertFile), "clients")
		})
		cert, key, err := k.ca.issue("client")
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		conf := k.client()
		conf.MaxVersion = version
		conf.Certificates = []tls.Certificate{pair}
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		if state, err := k.ask(t.Context(), conf); err != nil || state.DidResume {
			t.Fatal(err)
		}
		if state, err := k.ask(t.Context(), conf); err != nil || !state.DidResume {
			t.Fatalf("%s: not resumed: %v", tls.VersionName(version), err)
		}
		var w renewal
		renew := func(authorities []byte) {
			k.swap(k.conf.TLSClientCAFile, authorities)
			w.look(k.listener, slog.New(slog.DiscardHandler))
			w.look(k.listener, slog.New(slog.DiscardHandler))
		}
		next := newAuthority()
		renew(append(bytes.Clone(next.pem), k.ca.pem...))
		if _, err := k.ask(t.Context(), conf); err != nil {
			t.Errorf("%s: while both are trusted: %v", tls.VersionName(version), err)
		}
		renew(next.pem)
		if _, err := k.ask(t.Context(), conf); err == nil {
			t.Errorf("%s: served after its authority was replaced", tls.VersionName(version))
		}
		for _, damaged := range [][]byte{nil, next.pem[:len(next.pem)/2], append(bytes.Clone(k.ca.pem), next.pem[:100]...), []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")} {
			renew(damaged)
			if _, err := k.ask(t.Context(), conf); err == nil {
				t.Errorf("%s: damaged authorities were taken over", tls.VersionName(version))
			}
		}
	}
}

func TestTLSVersions(t *testing.T) {
	for _, least := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		k := newTLSKeep(t, func(l *config.Listener) { l.TLSMinVersion = least })
		state, err := k.ask(t.Context(), k.client())
		if err != nil || state.Version != tls.VersionTLS13 {
			t.Errorf("%v: a client that may choose speaks %v", err, state)
		}
		for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
			conf := k.client()
			conf.MinVersion, conf.MaxVersion = version, version
			if _, err := k.ask(t.Context(), conf); (err == nil) != (version >= least) {
				t.Errorf("at least %s, client %s: %v", tls.VersionName(least), tls.VersionName(version), err)
			}
		}
	}
}

// uninitialized serves a keep that has no store.
func uninitialized(t *testing.T, path string) *server.Server {
	t.Helper()
	k := keep.New(keep.Config{Path: path})
	s, err := server.New(server.Config{Keep: k, Types: append(types(), sys.Type(k, sys.Config{}), token.Type())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
	return s
}
