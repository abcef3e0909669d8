package main

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/config"
	"github.com/sealkeep/sealkeep/seal"
	"github.com/sealkeep/sealkeep/seal/sealtest"
)

// examined is what doctor says in JSON.
type examined struct {
	Status           string
	Failed, Warnings int
	Settings         []struct{ Scope, Key, Value, Origin string }
	Findings         []finding
}

// doctor runs the command for a boot's configuration, and returns its exit code.
func (b *boot) doctor(flags ...string) (code int, out string) {
	b.t.Helper()
	text, err := b.command(append([]string{"doctor", "-config=" + b.file("keep.hcl")}, flags...)...).CombinedOutput()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		code = ended.ExitCode()
	} else if err != nil {
		b.t.Fatal(err)
	}
	b.seen += string(text)
	return code, string(text)
}

func (b *boot) examine() (code int, e examined) {
	b.t.Helper()
	code, out := b.doctor("-format=json")
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		b.t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	failed, warned := 0, 0
	for _, f := range e.Findings {
		if !f.OK {
			failed++
		} else if f.Warning {
			warned++
		}
		if f.Scope == "" || f.Name == "" || f.Text == "" || (f.Next == "") != (f.OK && !f.Warning) || f.OK && f.Class != "" {
			b.t.Errorf("half a finding: %+v", f)
		}
	}
	if failed != e.Failed || warned != e.Warnings {
		b.t.Errorf("%d failed and %d warnings are counted as %d and %d", failed, warned, e.Failed, e.Warnings)
	}
	return code, e
}

// find returns the finding of that scope and name.
func (e examined) find(t *testing.T, scope, name string) finding {
	t.Helper()
	for _, f := range e.Findings {
		if f.Scope == scope && f.Name == name {
			return f
		}
	}
	t.Fatalf("there is no %s of %s in %+v", name, scope, e.Findings)
	return finding{}
}

// Every class of failure is named, with what to do about it, for the key service and for the slot as it is stored; no
// secret is shown, and nothing is changed.
func TestDoctorClasses(t *testing.T) {
	s := newServices(t)
	stores := map[string][]byte{}
	for _, kind := range []string{"awskms", "transit", "vaultkv"} {
		stores[kind] = makeStore(t, s.right(kind))
	}
	named := map[seal.Class]bool{}
	for _, c := range failures() {
		named[c.class] = true
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServices(t)
			kind := c.kind()
			block := s.right(kind)
			if c.block != nil {
				block = c.block(s)
			}
			if c.fail != nil {
				c.fail(s)
			}
			b := newBoot(t, block)
			if err := os.WriteFile(b.file("keep.db"), stores[kind], 0o600); err != nil {
				t.Fatal(err)
			}
			code, e := b.examine()
			if code != 2 || e.Status != "failed" {
				t.Errorf("exit code %d, %s", code, e.Status)
			}
			if f := e.find(t, "slot main", "open"); f.Class != string(c.class) || f.Next == "" {
				t.Errorf("the slot: %+v", f)
			}
			scope := "seal \"" + kind + "\" named main"
			told := false
			for _, f := range e.Findings {
				told = told || f.Scope == scope && f.Class == string(c.class) && f.Next != ""
			}
			// Another key of the same service does everything that a key does: only the slot tells.
			if only := strings.HasSuffix(c.name, "another key"); told == only {
				t.Errorf("%s is told of the key service: %t, in %+v", c.class, told, e.Findings)
			}
			for _, secret := range []string{secretKey, s.vault.Token, "another-token", strings.Repeat("5a", 32)} {
				if strings.Contains(b.seen, secret) {
					t.Errorf("%q is shown: %s", secret, b.seen)
				}
			}
			if after, err := os.ReadFile(b.file("keep.db")); err != nil || !bytes.Equal(after, stores[kind]) {
				t.Errorf("the store has changed (%v)", err)
			}
		})
	}
	if len(named) != 12 {
		t.Errorf("%d classes", len(named))
	}
}

// What is allowed and what is not, and the policy that allows it.
func TestDoctorPolicies(t *testing.T) {
	s := newServices(t)
	b := newBoot(t, s.aws())
	if code, e := b.examine(); code != 3 || e.Failed != 0 { // there is no store
		t.Errorf("exit code %d, %+v", code, e)
	}
	s.kms.Fail(sealtest.Fault{Op: "Decrypt", Status: 400, Code: "AccessDeniedException", Message: "User: arn:aws:sts::111122223333:assumed-role/keep/i-123 " +
		"is not authorized to perform: kms:Decrypt on resource: " + keyARN + " because no identity-based policy allows the kms:Decrypt action"})
	_, e := b.examine()
	scope := `seal "awskms" named main`
	for _, name := range []string{"credentials", "region", "clock", "kms:DescribeKey", "kms:Encrypt"} {
		if f := e.find(t, scope, name); !f.OK {
			t.Errorf("%+v", f)
		}
	}
	f := e.find(t, scope, "kms:Decrypt")
	if f.Class != string(seal.AuthDenied) || len(f.Paste) != 2 {
		t.Fatalf("%+v", f)
	}
	for i, p := range f.Paste {
		var st struct {
			Effect    string
			Principal struct{ AWS string }
			Action    []string
			Resource  string
		}
		if err := json.Unmarshal([]byte(p.Text), &st); err != nil {
			t.Fatal(err)
		}
		resource, principal := keyARN, ""
		if i == 1 {
			resource, principal = "*", "arn:aws:iam::111122223333:role/keep"
		}
		if st.Effect != "Allow" || len(st.Action) != 1 || st.Action[0] != "kms:Decrypt" || st.Resource != resource || st.Principal.AWS != principal {
			t.Errorf("%s: %+v", p.Into, st)
		}
	}
	if code, out := b.doctor(); code != 2 || !strings.Contains(out, "  FAIL  kms:Decrypt      auth_denied: ") || !strings.Contains(out, `"kms:Decrypt"`) || !strings.Contains(out, "next: ") {
		t.Errorf("exit code %d\n%s", code, out)
	}

	b = newBoot(t, s.transit())
	s.vault.Fail(sealtest.Fault{Op: "encrypt", Status: http.StatusForbidden, Message: "permission denied"})
	_, e = b.examine()
	scope = `seal "transit" named main`
	f = e.find(t, scope, "encrypt")
	if f.Class != string(seal.AuthDenied) || len(f.Paste) != 1 || f.Paste[0].Text != "path \"transit/encrypt/keep\" {\n  capabilities = [\"update\"]\n}\n" || !strings.Contains(f.Next, "knows the token") {
		t.Errorf("%+v", f)
	}
	if f := e.find(t, scope, "decrypt"); !f.OK {
		t.Errorf("%+v", f)
	}
	s.vault.Heal()
	s.vault.SetLookup(map[string]any{"period": 0, "orphan": false, "explicit_max_ttl": 3600})
	code, e := b.examine()
	if f := e.find(t, scope, "token"); code != 3 || !f.Warning || !strings.Contains(f.Text, "not periodic") || !strings.Contains(f.Text, "not orphan") || !strings.Contains(f.Text, "maximum TTL 1h") {
		t.Errorf("exit code %d, %+v", code, f)
	}
}

// The store, whether the keep runs or not, and what is around it.
func TestDoctorStore(t *testing.T) {
	s := newServices(t)
	b := newBoot(t, s.transit())
	b.start()
	b.until("initialized", func() error {
		if status, text := b.call("PUT", "sys/init"); status != 200 {
			return errors.New(text)
		}
		return nil
	})
	code, e := b.examine()
	if f := e.find(t, "store", "keep"); !strings.Contains(f.Text, "is open") || e.Failed > 0 || code == 2 {
		t.Errorf("exit code %d, %+v", code, e.Findings)
	}
	if f := e.find(t, "slot main", "state"); !f.OK {
		t.Errorf("%+v", f)
	}
	b.stop()

	code, e = b.examine()
	if f := e.find(t, "slot main", "open"); !f.OK || !strings.Contains(f.Text, "main:v1") {
		t.Errorf("exit code %d, %+v", code, f)
	}
	for _, setting := range []string{"key_name=keep", "token=(hidden)"} {
		key, value, _ := strings.Cut(setting, "=")
		found := false
		for _, s := range e.Settings {
			found = found || s.Key == key && s.Value == value && s.Origin != ""
		}
		if !found {
			t.Errorf("no setting %s in %+v", setting, e.Settings)
		}
	}

	// Another seal, the same slot: it has none to open, and the slot nobody to open it.
	other := strings.Replace(s.transit(), `name = "main"`, `name = "second"`, 1)
	b.configure(other)
	code, e = b.examine()
	if f := e.find(t, "slot main", "seal"); code != 3 || !f.Warning {
		t.Errorf("exit code %d, %+v", code, f)
	}
	if f := e.find(t, "slot second", "slot"); !f.Warning {
		t.Errorf("%+v", f)
	}

	if err := os.Chmod(b.file("keep.db"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, e = b.examine()
	if f := e.find(t, "store", "mode"); !f.Warning || !strings.Contains(f.Text, "0644") {
		t.Errorf("%+v", f)
	}
	if fi, err := os.Stat(b.file("keep.db")); err != nil || fi.Mode().Perm() != 0o644 {
		t.Errorf("the mode is %v now (%v)", fi.Mode(), err)
	}
	if err := os.WriteFile(b.file("keep.db"), []byte("no store"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, e = b.examine()
	if f := e.find(t, "store", "file"); code != 2 || f.OK {
		t.Errorf("exit code %d, %+v", code, f)
	}
	if code, out := b.doctor("-format=yaml"); code != 1 || !strings.Contains(out, "table or json") {
		t.Errorf("exit code %d, %s", code, out)
	}
	b.configure("seal \"transit\" {\n}\n")
	if code, out := b.doctor(); code != 1 || !strings.Contains(out, "needs key_name") {
		t.Errorf("exit code %d, %s", code, out)
	}
}

// A seal at an address that is this keep's own, under a name that config does not know.
func TestListensOn(t *testing.T) {
	for _, c := range []struct {
		host, ip string
		want     bool
	}{
		{"", "127.0.0.1", true},
		{"0.0.0.0", "127.0.0.1", true},
		{"::", "::1", true},
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "127.0.0.2", false},
		{"0.0.0.0", "192.0.2.1", false},
		{"keep.example.com", "127.0.0.1", false},
	} {
		if got := listensOn(c.host, net.ParseIP(c.ip)); got != c.want {
			t.Errorf("%q is reached under %s: %t", c.host, c.ip, got)
		}
	}
	listener := config.Listener{Type: "tcp", Address: "127.0.0.1:8200", At: "keep.hcl:1"}
	for address, want := range map[string]int{"http://127.0.0.1:8200": 1, "http://127.0.0.1:8201": 0, "http://127.0.0.1": 0, "http://192.0.2.1:8200": 0, "unix:///run/x": 0} {
		x := &examination{cli: &cli{Context: t.Context()}, conf: &config.Config{Listeners: []config.Listener{listener}}}
		if x.ownAddress("seal", address); len(x.findings) != want || want > 0 && x.findings[0].OK {
			t.Errorf("%s: %+v", address, x.findings)
		}
	}
}

// The certificates that the keep serves with.
func TestDoctorListeners(t *testing.T) {
	s := newServices(t)
	b := newBoot(t, s.transit())
	own := func(days int) {
		t.Helper()
		key := newKey()
		c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Duration(days)*24*time.Hour + time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "PRIVATE KEY", Bytes: private}} {
			if err := os.WriteFile(b.file(name), pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.configure(s.transit() + fmt.Sprintf("listener \"tcp\" {\n  address = \"0.0.0.0:0\"\n  tls_cert_file = %q\n  tls_key_file = %q\n}\n", b.file("cert"), b.file("key")))
	for days, want := range map[int][2]bool{365: {true, false}, 3: {true, true}, -2: {false, false}} {
		own(days)
		_, e := b.examine()
		if f := e.find(t, "listener \"tcp\" on 0.0.0.0:0", "certificate"); f.OK != want[0] || f.Warning != want[1] {
			t.Errorf("%d days: %+v", days, f)
		}
	}
	if err := os.Remove(b.file("key")); err != nil {
		t.Fatal(err)
	}
	code, e := b.examine()
	if f := e.find(t, "listener \"tcp\" on 0.0.0.0:0", "certificate"); f.OK || code != 2 {
		t.Errorf("without a key: %+v", f)
	}
}
