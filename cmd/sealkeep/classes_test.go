package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/seal"
	"github.com/sealkeep/sealkeep/seal/sealtest"
)

const (
	keyARN    = "arn:aws:kms:eu-central-1:111122223333:key/aaaaaaaa-1111-2222-3333-444444444444"
	otherARN  = "arn:aws:kms:eu-central-1:111122223333:key/bbbbbbbb-1111-2222-3333-444444444444"
	secretKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// services are the key services of one case, which has its own: what one of a kind has wrapped, another opens.
type services struct {
	kms   *sealtest.KMS
	vault *sealtest.Transit
}

func newServices(t *testing.T) services {
	s := services{sealtest.NewKMS(t), sealtest.NewTransit(t)}
	s.kms.AddKey(keyARN)
	s.kms.AddKey(otherARN)
	s.vault.AddKey("keep")
	s.vault.AddKey("other")
	s.vault.Write("keep", "key", strings.Repeat("5a", 32))
	s.vault.Write("other", "key", strings.Repeat("7b", 32))
	return s
}

// aws is the block of a seal "main" with parameters changed, or taken away when the value is empty.
func (s services) aws(changes ...string) string {
	return sealBlock("awskms", []string{"kms_key_id", keyARN, "endpoint", s.kms.URL, "access_key", "AKIAIOSFODNN7EXAMPLE", "secret_key", secretKey}, changes)
}

func (s services) transit(changes ...string) string {
	return sealBlock("transit", []string{"address", s.vault.URL, "token", s.vault.Token, "key_name", "keep", "mount_path", "transit/"}, changes)
}

func (s services) vaultkv(changes ...string) string {
	return sealBlock("vaultkv", []string{"address", s.vault.URL, "token", s.vault.Token, "key_path", "kv/data/keep"}, changes)
}

// right is the block of a seal of that type with nothing wrong in it.
func (s services) right(kind string) string {
	switch kind {
	case "awskms":
		return s.aws()
	case "transit":
		return s.transit()
	}
	return s.vaultkv()
}

func sealBlock(kind string, params, changes []string) string {
	b := fmt.Sprintf("seal %q {\n  name = \"main\"\n", kind)
	for p := range slices.Chunk(params, 2) {
		value := p[1]
		if i := slices.Index(changes, p[0]); i >= 0 {
			value = changes[i+1]
		}
		if value != "" {
			b += fmt.Sprintf("  %s = %q\n", p[0], value)
		}
	}
	return b + "}\n"
}

// A failure is a way for a key service to fail that has a class.
type failure struct {
	name  string // the type of the seal comes first
	class seal.Class
	fail  func(services)        // the service fails
	block func(services) string // or the configuration is wrong
}

// kind is the type of the seal.
func (f failure) kind() string {
	kind, _, _ := strings.Cut(f.name, " ")
	if kind == "aws" {
		return "awskms"
	}
	return kind
}

func failures() []failure {
	noName := "http://" + strings.Repeat("x", 64) + ".example" // resolves nowhere, and no resolver is asked
	aws := func(f sealtest.Fault) func(services) { return func(s services) { s.kms.Fail(f) } }
	code := func(code string) func(services) {
		return aws(sealtest.Fault{Status: 400, Code: code, Message: "of the test"})
	}
	state := func(state string) func(services) {
		return func(s services) { s.kms.SetState(keyARN, state, time.Now().Add(24*time.Hour)) }
	}
	transit := func(f sealtest.Fault) func(services) { return func(s services) { s.vault.Fail(f) } }
	return []failure{
		{"aws stopped", seal.Unreachable, func(s services) { s.kms.Stop() }, nil},
		{"aws stalled", seal.Unreachable, aws(sealtest.Fault{Stall: true}), nil},
		{"aws broken", seal.Unreachable, aws(sealtest.Fault{Status: 500, Code: "KMSInternalException"}), nil},
		{"aws no such host", seal.DNS, nil, func(s services) string { return s.aws("endpoint", noName) }},
		{"aws plain", seal.TLS, nil, func(s services) string { return s.aws("endpoint", "https"+strings.TrimPrefix(s.kms.URL, "http")) }},
		{"aws no credentials", seal.CredentialsMissing, nil, func(s services) string { return s.aws("access_key", "", "secret_key", "") }},
		{"aws expired", seal.CredentialsExpired, code("ExpiredTokenException"), nil},
		{"aws denied", seal.AuthDenied, code("AccessDeniedException"), nil},
		{"aws may not decrypt", seal.AuthDenied, aws(sealtest.Fault{Op: "Decrypt", Status: 400, Code: "AccessDeniedException"}), nil},
		{"aws clock", seal.ClockSkew, aws(sealtest.Fault{Status: 400, Code: "InvalidSignatureException", Skew: 20 * time.Minute}), nil},
		{"aws no such key", seal.KeyNotFound, code("NotFoundException"), nil},
		{"aws disabled", seal.KeyDisabled, state("Disabled"), nil},
		{"aws pending deletion", seal.KeyPendingDeletion, state("PendingDeletion"), nil},
		{"aws throttled", seal.Throttled, code("ThrottlingException"), nil},
		{"aws wrong plaintext", seal.BlobMismatch, aws(sealtest.Fault{Op: "Decrypt", WrongPlaintext: true}), nil},
		{"aws another key", seal.BlobMismatch, nil, func(s services) string { return s.aws("kms_key_id", otherARN) }},
		{"transit stopped", seal.Unreachable, func(s services) { s.vault.Stop() }, nil},
		{"transit stalled", seal.Unreachable, transit(sealtest.Fault{Stall: true}), nil},
		{"transit sealed", seal.Unreachable, transit(sealtest.Fault{Status: 503, Message: "Vault is sealed"}), nil},
		{"transit no such host", seal.DNS, nil, func(s services) string { return s.transit("address", noName) }},
		{"transit plain", seal.TLS, nil, func(s services) string { return s.transit("address", "https"+strings.TrimPrefix(s.vault.URL, "http")) }},
		{"transit wrong token", seal.AuthDenied, nil, func(s services) string { return s.transit("token", "another-token") }},
		{"transit no such key", seal.KeyNotFound, nil, func(s services) string { return s.transit("key_name", "nothing") }},
		{"transit throttled", seal.Throttled, transit(sealtest.Fault{Status: 429, Message: "too many requests"}), nil},
		{"transit another key", seal.BlobMismatch, nil, func(s services) string { return s.transit("key_name", "other") }},
		{"vaultkv stopped", seal.Unreachable, func(s services) { s.vault.Stop() }, nil},
		{"vaultkv no account", seal.CredentialsMissing, nil, func(s services) string {
			return strings.Replace(s.vaultkv("token", ""), "}", "  kube_auth_role = \"keep\"\n  kube_token_file = \"/nowhere/token\"\n}", 1)
		}},
		{"vaultkv wrong token", seal.AuthDenied, nil, func(s services) string { return s.vaultkv("token", "another-token") }},
		{"vaultkv no such secret", seal.KeyNotFound, nil, func(s services) string { return s.vaultkv("key_path", "kv/data/nothing") }},
		{"vaultkv another key", seal.BlobMismatch, nil, func(s services) string { return s.vaultkv("key_path", "kv/data/other") }},
	}
}

// TestClasses boots a keep whose key service fails, in every way that has a class. The keep listens and says why it is
// sealed, in seal-status, in `sealkeep status`, in the log and in metrics; it shows no secret; and it opens when the
// trouble is over: by itself, or with the right configuration after SIGHUP.
func TestClasses(t *testing.T) {
	s := newServices(t)
	stores := map[string][]byte{}
	for _, kind := range []string{"awskms", "transit", "vaultkv"} {
		stores[kind] = makeStore(t, s.right(kind))
	}
	cases := failures()
	shown := map[seal.Class]bool{}
	for _, c := range cases {
		shown[c.class] = true
	}
	for _, class := range []seal.Class{seal.Unreachable, seal.DNS, seal.TLS, seal.CredentialsMissing, seal.CredentialsExpired, seal.AuthDenied,
		seal.ClockSkew, seal.KeyNotFound, seal.KeyDisabled, seal.KeyPendingDeletion, seal.Throttled, seal.BlobMismatch} {
		if !shown[class] {
			t.Errorf("no case is of class %s", class)
		}
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServices(t)
			kind := c.kind()
			right := s.right(kind)
			block := right
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
			b.start()
			b.showsClass(kind, string(c.class))
			for _, secret := range []string{secretKey, s.vault.Token, "another-token"} {
				if strings.Contains(b.seen, secret) {
					t.Errorf("%q is shown: %s", secret, b.seen)
				}
			}

			s.kms.Start()
			s.vault.Start()
			s.kms.Heal()
			s.vault.Heal()
			s.kms.SetState(keyARN, "Enabled", time.Time{})
			if c.block != nil {
				b.configure(right)
				b.cmd.Process.Signal(syscall.SIGHUP)
			}
			b.until("open", func() error {
				if status, text := b.get("sys/health"); status != 200 {
					return errors.New(text)
				}
				return nil
			})
			b.until("shown in the metrics", func() error {
				_, metrics := b.get("sys/metrics")
				for _, want := range []string{
					"sealkeep_sealed 0\n",
					fmt.Sprintf("sealkeep_slot_healthy{class=\"\",slot=\"main\",type=%q} 1\n", kind),
					"sealkeep_unseal_attempts_total{class=\"ok\",slot=\"main\"} ", // the first visit may have been, too
				} {
					if !strings.Contains(metrics, want) {
						return fmt.Errorf("the metrics lack %q when it is open", want)
					}
				}
				return nil
			})
		})
	}
}

// makeStore initializes a keep and returns its store.
func makeStore(t *testing.T, block string) []byte {
	t.Helper()
	b := newBoot(t, block)
	b.start()
	b.init()
	b.stop()
	store, err := os.ReadFile(b.file("keep.db"))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// A boot is a sealkeep process on a socket, with nothing of this machine's environment.
type boot struct {
	t    *testing.T
	dir  string
	cmd  *exec.Cmd
	http http.Client
	seen string // everything that it was heard to say
}

func newBoot(t *testing.T, block string) *boot {
	t.Helper()
	dir, err := os.MkdirTemp("", "boot") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	b := &boot{t: t, dir: dir}
	b.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", b.file("socket"))
	}}
	t.Cleanup(func() {
		b.stop()
		b.http.CloseIdleConnections()
		os.RemoveAll(dir)
	})
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, b.file("sealkeep")) // TestMain runs the program when the test binary has its name
	}
	if err != nil {
		t.Fatal(err)
	}
	b.configure(block)
	return b
}

func (b *boot) file(name string) string { return filepath.Join(b.dir, name) }

func (b *boot) configure(block string) {
	b.t.Helper()
	config := fmt.Sprintf("storage \"bbolt\" {\n  path = %q\n}\nlistener \"unix\" {\n  address = %q\n  telemetry {\n    unauthenticated_metrics_access = true\n  }\n}\n",
		b.file("keep.db"), b.file("socket")) + block
	if err := os.WriteFile(b.file("keep.hcl"), []byte(config), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *boot) start() {
	b.t.Helper()
	log, err := os.Create(b.file("log"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	b.cmd = b.command("server", "-config="+b.file("keep.hcl"))
	b.cmd.Stderr = log
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *boot) command(args ...string) *exec.Cmd {
	cmd := exec.Command(b.file("sealkeep"), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir, "AWS_EC2_METADATA_DISABLED=true"}
	return cmd
}

func (b *boot) stop() {
	if b.cmd != nil {
		_ = b.cmd.Process.Signal(syscall.SIGTERM)
		_ = b.cmd.Wait()
		b.cmd = nil
	}
}

func (b *boot) log() string {
	b.t.Helper()
	log, err := os.ReadFile(b.file("log"))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(log)
}

func (b *boot) get(path string) (status int, text string) { return b.call("GET", path) }

// call returns the status 0 and the error while nobody listens.
func (b *boot) call(method, path string) (status int, text string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, "http://keep/v1/"+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := b.http.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	b.seen += string(body)
	return resp.StatusCode, string(body)
}

// until calls try until it says nothing.
func (b *boot) until(what string, try func() error) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("not %s within %v: %v\n%s", what, patience, err, b.log())
		}
		<-time.After(20 * time.Millisecond)
	}
}

// showsClass wants the keep to say everywhere that its slot failed with the class.
func (b *boot) showsClass(kind, class string) {
	b.t.Helper()
	b.until("failed with "+class, func() error {
		status, text := b.get("sys/seal-status")
		var st struct {
			Sealed bool              `json:"sealed"`
			Slots  []keep.SlotStatus `json:"slots"`
		}
		if status != 200 {
			return errors.New(text)
		}
		if err := json.Unmarshal([]byte(text), &st); err != nil {
			return err
		}
		if len(st.Slots) == 0 || !st.Sealed { // the first is that of the seal
			b.t.Fatalf("%s", text)
		}
		sl := st.Slots[0]
		if sl.Class == "" {
			return errors.New(text)
		}
		if sl.Class != class || sl.Name != "main" || sl.Type != kind || sl.Error == "" || sl.Hint == "" || sl.Attempts == 0 ||
			sl.LastAttempt.IsZero() || sl.FailedSince.IsZero() || sl.State != keep.SlotFailed && sl.State != keep.SlotTrying {
			b.t.Fatalf("not of class %s: %s", class, text)
		}
		return nil
	})

	_, metrics := b.get("sys/metrics")
	for _, want := range []string{"sealkeep_sealed 1\n", fmt.Sprintf("sealkeep_slot_healthy{class=%q,slot=\"main\",type=%q} 0\n", class, kind)} {
		if !strings.Contains(metrics, want) {
			b.t.Errorf("the metrics lack %q", want)
		}
	}
	counter := fmt.Sprintf("sealkeep_unseal_attempts_total{class=%q,slot=\"main\"} ", class)
	if _, n, ok := strings.Cut(metrics, counter); !ok || strings.HasPrefix(n, "0") || strings.Count(metrics, "sealkeep_unseal_attempts_total{") != 1 {
		b.t.Errorf("the metrics lack %q, or count something else", counter)
	}

	b.seen += b.log()
	line := fmt.Sprintf("level=ERROR msg=\"a slot did not open\" slot=main type=%s class=%s error=", kind, class)
	if n := strings.Count(b.log(), line); n != 1 {
		b.t.Errorf("the log has %d lines with %s:\n%s", n, line, b.log())
	}

	out, err := b.command("status", "-address=unix://"+b.file("socket")).CombinedOutput()
	b.seen += string(out)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), " "+class+"\n") {
		b.t.Errorf("status: %v\n%s", err, out)
	}
	for path, want := range map[string]int{"sys/health": 503, "secret/data/x": 503, "sys/mounts": 503, "sys/init": 200, "nowhere": 503} {
		if status, text := b.get(path); status != want || want == 503 && path != "sys/health" && text != `{"errors":["Vault is sealed"]}` {
			b.t.Errorf("%s: %d %s", path, status, text)
		}
	}
}
