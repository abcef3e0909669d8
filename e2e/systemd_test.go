//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealkeep/sealkeep/seal/sealtest"
)

// A box is a real systemd in namespaces of its own; see systemd.sh.
type box struct {
	t   *testing.T
	pid string // of its PID 1
}

// bootSystemd boots one, which ends with the test. Where that cannot be done the test is skipped, or fails when
// SEALKEEP_REQUIRE_SYSTEMD=1.
func bootSystemd(t *testing.T) *box {
	t.Helper()
	dir := t.TempDir()
	cannot := func(reason string) {
		t.Helper()
		if os.Getenv("SEALKEEP_REQUIRE_SYSTEMD") == "1" {
			t.Fatal("no systemd can be booted: " + reason)
		}
		t.Skip("no systemd can be booted: " + reason)
	}
	if os.Getuid() != 0 {
		cannot("that takes root")
	}
	for _, program := range []string{"/lib/systemd/systemd", "unshare", "nsenter", "pivot_root", "findmnt", "ip", "hostname"} {
		if _, err := exec.LookPath(program); err != nil {
			cannot(program + " is not installed: apt-get install systemd util-linux iproute2 hostname")
		}
	}
	var console bytes.Buffer
	cmd := exec.Command("sh", "systemd.sh", dir)
	cmd.Stdout, cmd.Stderr = &console, &console
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			cmd.Process.Signal(syscall.SIGTERM)
			<-ended
		}
		if t.Failed() {
			t.Logf("the console of systemd:\n%s", console.String())
		}
	})
	b := &box{t: t}
	deadline := time.Now().Add(patience)
	for {
		select {
		case err := <-ended:
			stopped = true
			cannot(fmt.Sprintf("%v\n%s", err, console.String()))
		default:
		}
		if b.pid == "" {
			pid, _ := os.ReadFile(filepath.Join(dir, "pid"))
			b.pid = strings.TrimSpace(string(pid))
		}
		if b.pid != "" {
			if out, _ := b.try("systemctl", "is-active", "box.target"); strings.TrimSpace(out) == "active" {
				return b
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("systemd has not started")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// try runs a command in the box and returns all that it prints.
func (b *box) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", b.pid, "-a", "--"}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER="}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run is try for a command that must succeed.
func (b *box) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := b.try(args...)
	if err != nil {
		status, _ := b.try("systemctl", "status", "--no-pager", "--lines=0", "sealkeep", "web")
		journal, _ := b.try("journalctl", "--no-pager", "-o", "cat", "-n", "60")
		t.Fatalf("%s: %v\n%s\n%s\n%s", strings.Join(args, " "), err, out, status, journal)
	}
	return strings.TrimSpace(out)
}

// path is where a file of the box is for this process.
func (b *box) path(name string) string { return "/proc/" + b.pid + "/root" + name }

// put writes a file of the box that belongs to a user.
func (b *box) put(t *testing.T, name string, content []byte, mode os.FileMode, owner int) {
	t.Helper()
	at := b.path(name)
	err := os.MkdirAll(filepath.Dir(at), 0o755)
	if err == nil {
		err = os.WriteFile(at, content, mode)
	}
	if err == nil {
		err = os.Chmod(at, mode)
	}
	if err == nil {
		err = os.Chown(at, owner, owner)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// listen listens in the box's network.
func (b *box) listen(t *testing.T, address string) net.Listener {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		f, err := os.Open("/proc/" + b.pid + "/ns/net")
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{nil, err}
			return
		}
		l, err := net.Listen("tcp", address)
		done <- result{l, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.l.Close() })
	return r.l
}

// An authority signs a certificate for everything in the examples.
func certificates(t *testing.T) (ca, cert, key []byte) {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "keep"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"vault.example.com"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 5), net.IPv4(127, 0, 0, 1)},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, authority, authority, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, &leafKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return text("CERTIFICATE", caDER), text("CERTIFICATE", leafDER), text("PRIVATE KEY", keyDER)
}

const keepUser = 989 // the user sealkeep of the box; web is the next

// credentialLine is how an example says which credential its unit has.
var credentialLine = regexp.MustCompile(`LoadCredential=[\w-]+:(/[\w/-]+)`)

// TestExamplesStartUnderTheShippedUnit starts a keep with each example configuration under examples/sealkeep.service, as
// it is shipped, in a real systemd: it becomes active, is initialized, opens itself at a restart, reloads, and stops. The
// key services are fakes at the addresses that the examples have; what an example says that the unit has, a drop-in adds.
func TestExamplesStartUnderTheShippedUnit(t *testing.T) {
	b := bootSystemd(t)
	program, err := os.ReadFile(build(t))
	if err != nil {
		t.Fatal(err)
	}
	unit, err := os.ReadFile("../examples/sealkeep.service")
	if err != nil {
		t.Fatal(err)
	}
	ca, cert, key := certificates(t)
	b.put(t, "/usr/bin/sealkeep", program, 0o755, 0)
	b.put(t, "/etc/systemd/system/sealkeep.service", unit, 0o644, 0)
	for _, line := range []struct{ file, text string }{
		{"/etc/passwd", fmt.Sprintf("sealkeep:x:%d:%[1]d::/:/usr/sbin/nologin\nweb:x:%d:%[2]d::/:/usr/sbin/nologin\n", keepUser, keepUser+1)},
		{"/etc/group", fmt.Sprintf("sealkeep:x:%d:\nweb:x:%d:\n", keepUser, keepUser+1)},
		{"/etc/hosts", "127.0.0.2 vault.example.com\n127.0.0.3 collector.example.com\n"},
	} {
		f, err := os.OpenFile(b.path(line.file), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
		if err == nil {
			_, err = io.WriteString(f, line.text)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	// The key services, and the collector of audit.hcl.
	kms := sealtest.NewKMS(t)
	vault := sealtest.NewTransit(t)
	vault.AddKey("sealkeep")
	vault.Write("sealkeep", "key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(b.listen(t, "127.0.0.4:80"), kms)
	collector := b.listen(t, "127.0.0.3:6514")
	go func() {
		for {
			c, err := collector.Accept()
			if err != nil {
				return
			}
			go io.Copy(io.Discard, c)
		}
	}()

	examples, err := filepath.Glob("../examples/*.hcl")
	if err != nil || len(examples) < 6 {
		t.Fatalf("found %v (%v)", examples, err)
	}
	for _, file := range append(examples, "../examples/env-only.env") {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{"/etc/sealkeep", "/var/lib/sealkeep", "/var/log/sealkeep", "/etc/systemd/system/sealkeep.service.d"} {
				if err := os.RemoveAll(b.path(path)); err != nil {
					t.Fatal(err)
				}
			}
			for _, pem := range []struct {
				path string
				text []byte
			}{
				{"tls/cert.pem", cert}, {"tls/key.pem", key}, {"tls/vault-ca.pem", ca}, {"tls.crt", cert}, {"tls.key", key}, {"clients.pem", ca},
			} {
				b.put(t, "/etc/sealkeep/"+pem.path, pem.text, 0o400, keepUser)
			}
			config := "/etc/sealkeep/sealkeep.hcl"
			if strings.HasSuffix(name, ".env") {
				config = "/etc/sealkeep/sealkeep.env"
			}
			b.put(t, config, text, 0o600, keepUser)
			drop := "[Service]\nEnvironment=AWS_ENDPOINT_URL_KMS=http://127.0.0.4 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test\n"
			if m := credentialLine.FindSubmatch(text); m != nil {
				drop += string(m[0]) + "\n"
				secret := vault.Token
				if strings.Contains(name, "static") {
					secret = b.run(t, "sh", "-c", "sealkeep keygen 2>/dev/null")
				}
				b.put(t, string(m[1]), []byte(secret), 0o600, 0)
			}
			b.put(t, "/etc/systemd/system/sealkeep.service.d/test.conf", []byte(drop), 0o644, 0)
			if bytes.Contains(text, []byte("vault.example.com")) { // others may listen on all addresses
				go http.Serve(tls.NewListener(b.listen(t, "127.0.0.2:8200"), &tls.Config{Certificates: []tls.Certificate{pair}}), vault)
			}
			const german, irish = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws:kms:eu-west-1:111122223333:key/other"
			kms.AddKey(german)
			kms.AddKey(irish)
			kms.SetAlias("alias/sealkeep", german)
			if name == "awskms.hcl" { // which names the first by its ARN, the second by the alias
				kms.SetAlias("alias/sealkeep", irish)
			}
			address := "http://127.0.0.1:8200"
			switch name {
			case "awskms.hcl", "audit.hcl":
				address = "unix:///run/sealkeep/api.sock"
			case "network.hcl":
				address = "https://10.0.0.5:8200"
			}
			keep := func(token string, args ...string) string {
				t.Helper()
				return b.run(t, append([]string{"env", "VAULT_ADDR=" + address, "VAULT_TOKEN=" + token, "VAULT_CACERT=/etc/sealkeep/tls/vault-ca.pem", "sealkeep"}, args...)...)
			}
			show := func(property string) string {
				t.Helper()
				return b.run(t, "systemctl", "show", "-P", property, "sealkeep")
			}

			t.Cleanup(func() { b.try("systemctl", "stop", "sealkeep") })
			b.run(t, "systemctl", "daemon-reload")
			b.run(t, "journalctl", "--rotate", "--vacuum-time=1s")
			b.run(t, "systemctl", "start", "sealkeep")
			if status := show("StatusText"); !strings.Contains(status, "not initialized") {
				t.Errorf("STATUS=%s", status)
			}
			var made struct {
				Root string `json:"root_token"`
			}
			if err := json.Unmarshal([]byte(keep("", "operator", "init", "-format=json")), &made); err != nil {
				t.Fatal(err)
			}
			keep(made.Root, "kv", "put", "secret/web/db", "password=s3cret")
			b.run(t, "systemctl", "restart", "sealkeep") // it is active when it is open
			if got := keep(made.Root, "kv", "get", "-field=password", "secret/web/db"); got != "s3cret" {
				t.Errorf("after a restart: %s", got)
			}
			b.run(t, "systemctl", "reload", "sealkeep")
			if state, status := show("ActiveState"), show("StatusText"); state != "active" || strings.Contains(status, "refused") {
				t.Errorf("after a reload: %s, %s", state, status)
			}
			if strings.HasPrefix(address, "unix:") {
				want := "600 sealkeep sealkeep" // nobody else's, where the example does not say otherwise
				if name == "awskms.hcl" {
					want = "660 sealkeep sealkeep"
				}
				if got := b.run(t, "stat", "-c", "%a %U %G", "/run/sealkeep/api.sock"); got != want {
					t.Errorf("the socket is %s, want %s", got, want)
				}
			}
			if name == "audit.hcl" {
				keep(made.Root, "audit", "verify", "/var/log/sealkeep/audit.log")
				if got := b.run(t, "stat", "-c", "%a %U", "/var/log/sealkeep/audit.log"); got != "640 sealkeep" {
					t.Errorf("the audit log is %s", got)
				}
			}
			if name == "awskms.hcl" {
				startWeb(t, b, func(args ...string) string { t.Helper(); return keep(made.Root, args...) })
				// A group that is not the service's own.
				b.put(t, config, bytes.Replace(text, []byte(`socket_group = "sealkeep"`), []byte(`socket_group = "web"`), 1), 0o600, keepUser)
				b.put(t, "/etc/systemd/system/sealkeep.service.d/test.conf", []byte(drop+"SupplementaryGroups=web\n"), 0o644, 0)
				b.run(t, "systemctl", "daemon-reload")
				b.run(t, "systemctl", "restart", "sealkeep")
				if got := b.run(t, "stat", "-c", "%a %U %G", "/run/sealkeep/api.sock"); got != "660 sealkeep web" {
					t.Errorf("the socket is %s", got)
				}
			}
			b.run(t, "systemctl", "stop", "sealkeep")
			if result := show("Result"); result != "success" {
				t.Errorf("it stopped with %s", result)
			}
			journal := b.run(t, "journalctl", "--no-pager", "-o", "cat", "-u", "sealkeep")
			for _, trouble := range []string{"operation not permitted", "permission denied", "hardening the process failed", "Unknown key", "s3cret"} {
				if strings.Contains(journal, trouble) {
					t.Errorf("the journal says %q:\n%s", trouble, journal)
				}
			}
		})
	}
}

// startWeb starts examples/web.service, which takes its password from the keep as the user that it is.
func startWeb(t *testing.T, b *box, keep func(...string) string) {
	t.Helper()
	unit, err := os.ReadFile("../examples/web.service")
	if err != nil {
		t.Fatal(err)
	}
	b.put(t, "/etc/systemd/system/web.service", unit, 0o644, 0)
	b.put(t, "/usr/bin/web", []byte("#!/bin/sh\necho \"the password has ${#PASSWORD} characters\"\nexec sleep 1000\n"), 0o755, 0)
	b.put(t, "/root/web.hcl", []byte(`path "secret/data/web/*" { capabilities = ["read"] }`), 0o600, 0)
	keep("policy", "write", "web", "/root/web.hcl")
	keep("auth", "enable", "peer")
	keep("write", "auth/peer/role/web", "bound_uids="+strconv.Itoa(keepUser+1), "token_policies=web", "token_ttl=1m")
	b.run(t, "systemctl", "daemon-reload")
	b.run(t, "systemctl", "start", "web")
	deadline := time.Now().Add(patience)
	for {
		journal, _ := b.try("journalctl", "--no-pager", "-o", "cat", "-u", "web")
		if strings.Contains(journal, "the password has 6 characters") {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("web.service has no password:\n%s", journal)
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.run(t, "systemctl", "stop", "web")
}
