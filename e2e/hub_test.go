package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// A member is a keep behind TLS that is stopped, and started again at the same address.
type member struct {
	*keeper
	*daemon
	program, dir, config, store, audit string
}

// newMember writes the configuration of a keep with this seal.
func newMember(t *testing.T, program, name, seal string) *member {
	dir := t.TempDir()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	ca, key := issue(t, dir, name)
	m := &member{keeper: &keeper{T: t, ca: ca, address: "https://" + free.Addr().String()}, program: program, dir: dir,
		config: filepath.Join(dir, "keep.hcl"), store: filepath.Join(dir, "sealkeep.db"), audit: filepath.Join(dir, "audit.log")}
	text := fmt.Sprintf("storage \"bbolt\" {\n  path = %q\n}\nlistener \"tcp\" {\n  address       = %q\n  tls_cert_file = %q\n  tls_key_file  = %q\n}\naudit \"file\" {\n  file_path = %q\n}\n%s",
		m.store, free.Addr(), ca, key, m.audit, seal)
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.root = m.client("")
	return m
}

func (m *member) start() {
	m.Helper()
	m.daemon = launch(m.T, m.program, m.config, m.store, m.audit, os.Environ())
}

// initialize makes the keep and returns its recovery share.
func (m *member) initialize() (share string) {
	m.Helper()
	first, err := m.root.Sys().Init(&api.InitRequest{RecoveryShares: 1, RecoveryThreshold: 1})
	m.ok("init", err)
	m.root.SetToken(first.RootToken)
	return first.RecoveryKeys[0]
}

// command runs a command against the keep, or on its files.
func (m *member) command(args ...string) (string, error) {
	cmd := exec.CommandContext(m.Context(), m.program, args...)
	cmd.Env = []string{"VAULT_ADDR=" + m.keeper.address, "VAULT_CACERT=" + m.ca, "VAULT_TOKEN=" + m.root.Token(), "HOME=" + m.dir}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// until waits for a state of the keep, and of its slot transit if it has one.
func (m *member) until(what string, is func(sealed bool, slot slotState) bool) {
	m.Helper()
	var got string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		r, err := m.root.Logical().ReadRawWithContext(m.Context(), "sys/seal-status")
		if err != nil {
			got = err.Error()
			continue
		}
		var s struct {
			Sealed bool
			Slots  []slotState
		}
		err = json.NewDecoder(r.Body).Decode(&s)
		r.Body.Close()
		m.ok("reading the status", err)
		got = fmt.Sprintf("%+v", s)
		var transit slotState
		for _, slot := range s.Slots {
			if slot.Name == "transit" {
				transit = slot
			}
		}
		if is(s.Sealed, transit) {
			return
		}
	}
	m.Fatalf("%s: the keep is %s", what, got)
}

type slotState struct {
	Name, State, Class string
	Key                string `json:"key_id"`
}

// opens waits until the keep has opened by itself, and reads what is in it.
func (m *member) opens(what string) {
	m.Helper()
	m.until(what, func(sealed bool, _ slotState) bool { return !sealed })
	s, err := m.root.KVv2("secret").Get(m.Context(), "app")
	m.ok(what+": reading", err)
	m.equal(what, s.Data["password"], marker)
}

// stays waits until the keep has tried to open and has not, because of this class of error.
func (m *member) stays(what, class string) {
	m.Helper()
	m.until(what, func(sealed bool, slot slotState) bool { return sealed && slot.Class == class })
}

// TestHub is a keep that is opened by the transit engine of another: its seal is go-kms-wrapping's, and both are processes
// of their own, behind TLS.
func TestHub(t *testing.T) {
	t.Parallel()
	program := build(t)
	hub := newMember(t, program, "hub", "seal \"static\" {\n  current_key    = \"0123456789abcdef0123456789abcdef\"\n  current_key_id = \"one\"\n}\n")
	hub.start()
	share := hub.initialize()
	hub.ok("mounting transit", hub.root.Sys().Mount("transit", &api.MountInput{Type: "transit"}))
	hub.write("transit/keys/unseal", nil)
	hub.ok("a policy", hub.root.Sys().PutPolicy("unseal", "path \"transit/encrypt/unseal\" { capabilities = [\"update\"] }\npath \"transit/decrypt/unseal\" { capabilities = [\"update\"] }\n"))
	token := filepath.Join(hub.dir, "token")
	newToken := func(period string) (accessor string) {
		t.Helper()
		s, err := hub.root.Auth().Token().CreateOrphan(&api.TokenCreateRequest{Policies: []string{"unseal"}, Period: period})
		hub.ok("making a token", err)
		hub.ok("handing it over", os.WriteFile(token, []byte(s.Auth.ClientToken+"\n"), 0o600))
		return s.Auth.Accessor
	}
	const period = 12 * time.Second
	accessor, born := newToken(period.String()), time.Now()

	spoke := newMember(t, program, "spoke", fmt.Sprintf("seal \"transit\" {\n  address     = %q\n  token       = \"file://%s\"\n  mount_path  = \"transit\"\n  key_name    = \"unseal\"\n  tls_ca_cert = %q\n}\n",
		hub.keeper.address, token, hub.ca))
	spoke.start()
	spoke.initialize()
	_, err := spoke.root.KVv2("secret").Put(t.Context(), "app", map[string]any{"password": marker})
	spoke.ok("writing a secret", err)
	spoke.until("init", func(sealed bool, slot slotState) bool { return !sealed && slot.Key == "transit:v1" })

	// The library renews the token, which would end without that.
	for renewed := false; !renewed; <-time.After(100 * time.Millisecond) {
		s, err := hub.root.Auth().Token().LookupAccessor(accessor)
		hub.ok("looking up the token", err)
		_, renewed = s.Data["last_renewal_time"]
		renewed = renewed && time.Since(born) > period*5/4
	}
	hub.ok("revoking it", hub.root.Auth().Token().RevokeAccessor(accessor))
	accessor = newToken("24h")
	reload := func() {
		t.Helper()
		spoke.ok("SIGHUP", spoke.process.Signal(syscall.SIGHUP))
	}

	// The key is rotated, the slot follows, and is on the new version alone.
	hub.write("transit/keys/unseal/rotate", nil)
	reload()
	spoke.until("the slot follows the key", func(_ bool, slot slotState) bool { return slot.Key == "transit:v2" })
	hub.write("transit/keys/unseal/config", map[string]any{"min_decryption_version": 2, "min_encryption_version": 2})
	spoke.stop()
	spoke.start()
	spoke.opens("on the new version")

	// Both restart; the hub comes up last.
	spoke.stop()
	hub.stop()
	spoke.start()
	spoke.stays("the hub is away", "unreachable")
	hub.start()
	spoke.opens("the hub is there")

	// The hub is sealed, and opened by its people: a keep that is open does not mind, one that starts waits.
	hold := func() { hub.ok("sealing the hub", hub.root.Sys().Seal()) }
	open := func() {
		t.Helper()
		status, err := hub.root.Sys().Unseal(share)
		hub.ok("opening the hub", err)
		hub.equal("the hub is sealed", status.Sealed, false)
	}
	hold()
	reload()
	spoke.until("the hub is sealed", func(sealed bool, slot slotState) bool { return !sealed && slot.Class == "unreachable" })
	spoke.opens("an open keep needs no hub")
	open()
	spoke.stop()
	hold()
	spoke.start()
	spoke.stays("the hub is sealed", "unreachable")
	open()
	spoke.opens("the hub is open again")

	// The hub is lost, and restored from a backup.
	backup := filepath.Join(hub.dir, "backup.db")
	if out, err := hub.command("operator", "backup", backup); err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	hub.write("transit/keys/later", nil)
	spoke.stop()
	hub.stop()
	hub.ok("losing the store", os.Remove(hub.store))
	if out, err := hub.command("operator", "restore", "-config="+hub.config, backup); err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	hub.start()
	hub.until("the restored hub", func(sealed bool, _ slotState) bool { return !sealed })
	s, err := hub.root.Logical().Read("transit/keys/later")
	if s != nil || err != nil {
		t.Errorf("a key that is not in the backup: %+v, %v", s, err)
	}
	spoke.start()
	spoke.opens("from a hub that was restored")

	// The token is revoked: the status says so, at the latest when the seal is asked.
	hub.ok("revoking the token", hub.root.Auth().Token().RevokeAccessor(accessor))
	reload()
	spoke.until("the token is revoked", func(sealed bool, slot slotState) bool { return !sealed && slot.Class == "auth_denied" })
	s, err = spoke.client("").Logical().Read("secret/data/app")
	spoke.refused("without a token", http.StatusForbidden, err)
	if s != nil {
		t.Errorf("%+v", s)
	}
	out, err := spoke.command("doctor", "-config="+spoke.config)
	if left, ok := errors.AsType[*exec.ExitError](err); !ok || left.ExitCode() != 2 || !strings.Contains(out, "auth_denied") {
		t.Errorf("doctor: %v\n%s", err, out)
	}
	newToken("24h")
	reload()
	spoke.until("a new token", func(sealed bool, slot slotState) bool { return !sealed && slot.Class == "" })
	spoke.stop()
	spoke.start()
	spoke.opens("with a new token")
	if out, _ := spoke.command("doctor", "-config="+spoke.config); !strings.Contains(out, "\n0 failed, ") {
		t.Errorf("doctor: %s", out)
	}
}
