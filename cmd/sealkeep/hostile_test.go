package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/config"
	"github.com/sealkeep/sealkeep/server"
)

// TestCrowds lets many clients at once take what one may take. Each crowd meets a process of its own, whose resident
// memory stays below a bound, which serves others meanwhile and whose store is clean in the end.
func TestCrowds(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector takes several times the memory that is measured here")
	}
	const mib = 1 << 20
	most := descriptors(t)/3*2 - 100 // fewer than the keep takes, which may have as many open
	const status = "GET /v1/sys/seal-status HTTP/1.1\r\nHost: keep\r\n\r\n"
	for name, c := range map[string]struct {
		tls    bool
		say    string
		answer int
		bound  int
	}{
		"idle":          {false, status, 200, 320 * mib}, // kept alive after the first answer
		"idle over TLS": {true, status, 200, 400 * mib},
		"silent":        {false, "", 0, 192 * mib},
		"slow headers":  {false, "GET /v1/sys/seal-status HTTP/1.1\r\nHost: k", 0, 256 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			k, token := crowded(t, c.tls, 0)
			n := min(10_000, most)
			if c.tls && os.Getenv("SEALKEEP_LONG") == "" {
				n = 1000 // each shakes hands
			}
			all := k.crowd(n, c.say)
			if c.answer != 0 {
				for _, one := range all {
					one.answer(t, c.answer)
				}
			}
			k.serves(token)
			k.bounded(c.bound)
			if c.answer != 0 {
				for _, one := range all[:100] {
					io.WriteString(one, c.say)
					one.answer(t, c.answer)
				}
			}
		})
	}
	t.Run("more than there may be", func(t *testing.T) {
		k, token := crowded(t, false, 1000)
		k.crowd(min(2000, most), status)
		k.serves(token)
	})
	t.Run("half headers", func(t *testing.T) {
		k, token := crowded(t, false, 0)
		var b strings.Builder
		b.WriteString("GET /v1/sys/seal-status HTTP/1.1\r\nHost: keep\r\n")
		for i := 0; b.Len() < 19_000; i++ {
			fmt.Fprintf(&b, "%x:\r\n", i)
		}
		all := k.crowd(min(500, most), b.String())
		k.serves(token)
		for _, c := range all {
			io.WriteString(c, "\r\n")
			c.answer(t, 200)
		}
		k.bounded(256 * mib)
	})
	t.Run("half bodies of strangers", func(t *testing.T) {
		k, token := crowded(t, false, 0)
		all := k.crowd(min(2000, most), "PUT /v1/sys/unseal HTTP/1.1\r\nHost: keep\r\nContent-Length: 65536\r\n\r\n"+strings.Repeat(" ", 65535))
		k.serves(token)
		for _, c := range all {
			io.WriteString(c, "[")
			c.answer(t, 400)
		}
		k.bounded(320 * mib)
	})
	t.Run("large bodies", func(t *testing.T) {
		k, token := crowded(t, false, 0)
		var keys strings.Builder
		for i := 0; keys.Len() < 900_000; i++ {
			fmt.Fprintf(&keys, `"%x":%d,`, i, i%10)
		}
		text := `{"data":{"k":"` + strings.Repeat("x", 1_000_000) + `"}}`
		many := `{"data":{` + keys.String() + `"k":0}}`
		if status, err := k.call(token, "PUT", "secret/data/many", many, nil); status != 200 || err != nil {
			t.Fatal(status, err)
		}
		var wg sync.WaitGroup
		for i, c := range k.crowd(min(40, most), "") {
			wg.Go(func() {
				method, path, body := "PUT", fmt.Sprint("large", i), text
				if i%2 == 0 {
					method, path, body = "PATCH", "many", many
				}
				fmt.Fprintf(c, "%s /v1/secret/data/%s HTTP/1.1\r\nHost: keep\r\nX-Vault-Token: %s\r\nContent-Type: application/merge-patch+json\r\n"+
					"Content-Length: %d\r\n\r\n%s%s", method, path, token, 2<<20, strings.Repeat(" ", 2<<20-len(body)), body)
				c.answer(t, 200)
			})
		}
		k.serves(token)
		wg.Wait()
		k.bounded(384 * mib)
	})
}

// TestWrongProtocol talks to a TLS listener in every other way.
func TestWrongProtocol(t *testing.T) {
	dir := t.TempDir()
	a, key := newAuthority(), newKey()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	conf := config.Listener{Type: "tcp", Address: "127.0.0.1:0", TLSCertFile: filepath.Join(dir, "cert"), TLSKeyFile: filepath.Join(dir, "key"), TLSMinVersion: tls.VersionTLS12}
	for file, block := range map[string]*pem.Block{conf.TLSCertFile: {Type: "CERTIFICATE", Bytes: der}, conf.TLSKeyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := listen(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	l.http = uninitialized(t, filepath.Join(dir, "keep.db")).HTTPServer(server.Listener{})
	l.http.ErrorLog = log.New(io.Discard, "", 0)
	l.http.ReadHeaderTimeout = 200 * time.Millisecond // which is that of the handshake, too
	served := make(chan error, 1)
	go func() { served <- l.serve() }()
	t.Cleanup(func() {
		l.http.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)

	for name, c := range map[string]struct{ say, want string }{
		"plain HTTP": {"GET /v1/sys/health HTTP/1.1\r\nHost: keep\r\n\r\n", "HTTP/1.0 400 Bad Request\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Length: 63\r\n" +
			"Content-Type: application/json\r\n\r\n{\"errors\":[\"Client sent an HTTP request to an HTTPS server.\"]}\n"},
		"noise":            {"\x00\x01\x02\x03\x04\x05\x06\x07", ""},
		"half a handshake": {"\x16\x03\x01\x02\x00\x01", ""},
		"silence":          {"", ""},
		"HTTP/2":           {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""},
	} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, c.say)
		answer, err := io.ReadAll(conn)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) || c.want != "" && string(answer) != c.want || len(answer) > 200 {
			t.Errorf("%s: %q %v", name, answer, err)
		}
	}
	for name, c := range map[string]*tls.Config{
		"old TLS":     {RootCAs: roots, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10},
		"only HTTP/2": {RootCAs: roots, NextProtos: []string{"h2"}},
	} {
		if conn, err := tls.Dial("tcp", l.Addr().String(), c); err == nil {
			conn.Close()
			t.Errorf("%s is accepted", name)
		}
	}
	web := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	defer web.CloseIdleConnections()
	resp, err := web.Get(l.url() + "/v1/sys/health")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Proto != "HTTP/1.1" || resp.StatusCode != http.StatusNotImplemented {
		t.Error(resp.Proto, resp.Status)
	}
}

// crowded is a new keep with a secret in it, behind TLS if that is wanted. When the test ends its store is checked.
func crowded(t *testing.T, secure bool, files int) (k *process, token string) {
	k = newKeep(t)
	if secure {
		k.secure()
	}
	k.files = files
	k.start()
	token = k.init()
	if status, err := k.call(token, "POST", "secret/data/others", `{"data":{"v":"served"}}`, nil); status != 200 || err != nil {
		t.Fatal(status, err)
	}
	t.Cleanup(func() {
		k.kill()
		k.check()
	})
	return k, token
}

// secure gives the keep, which is not running, a certificate.
func (k *process) secure() {
	k.t.Helper()
	a := newAuthority()
	cert, key, err := a.issue("keep")
	if err != nil {
		k.t.Fatal(err)
	}
	dir := filepath.Dir(k.config)
	config, err := os.ReadFile(k.config)
	files := map[string][]byte{filepath.Join(dir, "cert.pem"): cert, filepath.Join(dir, "cert.key"): key}
	files[k.config] = bytes.Replace(config, []byte("listener \"tcp\" {\n"),
		fmt.Appendf(nil, "listener \"tcp\" {\n  tls_cert_file = %q\n  tls_key_file = %q\n", filepath.Join(dir, "cert.pem"), filepath.Join(dir, "cert.key")), 1)
	for name, content := range files {
		err = errors.Join(err, os.WriteFile(name, content, 0o600))
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.roots = x509.NewCertPool()
	k.roots.AddCert(a.cert)
	k.web = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: k.roots}}}
	k.url = "https" + strings.TrimPrefix(k.url, "http")
}

// serves wants a new client to be served.
func (k *process) serves(token string) {
	k.t.Helper()
	k.web.CloseIdleConnections()
	began := time.Now()
	if got := k.read(token, "others"); got != "served" {
		k.t.Errorf("another client reads %q", got)
	}
	if took := time.Since(began); took > 5*time.Second {
		k.t.Errorf("another client was served after %v", took)
	}
}

// bounded wants the most memory that the process has had to be below a bound.
func (k *process) bounded(most int) {
	k.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", k.cmd.Process.Pid))
	if errors.Is(err, os.ErrNotExist) {
		k.t.Log("no /proc: the memory is not measured")
		return
	}
	_, rest, ok := strings.Cut(string(status), "VmHWM:")
	text, _, ok2 := strings.Cut(strings.TrimSpace(rest), " kB")
	kb, err2 := strconv.Atoi(text)
	if err = errors.Join(err, err2); err != nil || !ok || !ok2 {
		k.t.Fatalf("VmHWM: %v in %s", err, status)
	}
	k.t.Logf("at most %d MiB were resident", kb>>10)
	if kb<<10 > most {
		k.t.Errorf("%d MiB were resident, more than %d", kb>>10, most>>20)
	}
}

// One of a crowd.
type one struct {
	net.Conn
	r *bufio.Reader
}

// crowd opens n connections and says the same on each.
func (k *process) crowd(n int, say string) []one {
	k.t.Helper()
	all := make([]one, n)
	for i := range all {
		_, address, _ := strings.Cut(k.url, "//")
		c, err := net.Dial("tcp", address)
		if err != nil {
			k.t.Fatalf("connection %d: %v", i, err)
		}
		if k.roots != nil {
			c = tls.Client(c, &tls.Config{RootCAs: k.roots, ServerName: "127.0.0.1"})
		}
		k.t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(3 * patience))
		if _, err := io.WriteString(c, say); err != nil {
			k.t.Fatalf("connection %d: %v", i, err)
		}
		all[i] = one{c, bufio.NewReaderSize(c, 512)}
	}
	return all
}

func (c one) answer(t *testing.T, status int) {
	t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Error(err)
		return
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || status >= 400 && !strings.HasPrefix(string(body), `{"errors":["`) {
		t.Errorf("%s %s %v", resp.Status, body, err)
	}
}

// descriptors is how many files this process may have open; package os has raised that as far as it goes.
func descriptors(t *testing.T) int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	return int(min(r.Cur, 1<<20))
}
