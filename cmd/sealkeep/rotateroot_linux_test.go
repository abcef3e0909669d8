package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A console is a pseudo terminal with a command of the program on it.
type console struct {
	t    *testing.T
	cmd  *exec.Cmd
	keys *os.File // the end at which a person sits

	mu    sync.Mutex
	shown bytes.Buffer
}

// onConsole runs a command whose input, output and errors are a terminal.
func (k *process) onConsole(token string, args ...string) *console {
	k.t.Helper()
	keys, tty := openTerminal(k.t)
	c := &console{t: k.t, keys: keys, cmd: exec.Command(k.program, args...)}
	c.cmd.Env = append(os.Environ(), "VAULT_ADDR="+k.url, "VAULT_TOKEN="+token)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = tty, tty, tty
	if err := c.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := keys.Read(b)
			c.mu.Lock()
			c.shown.Write(b[:n])
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return c
}

func (c *console) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.ReplaceAll(c.shown.String(), "\r\n", "\n")
}

// see waits for a text on the terminal.
func (c *console) see(want string) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(c.text(), want); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("the terminal does not show %q but\n%s", want, c.text())
		}
	}
}

// enter types a line at a hidden prompt.
func (c *console) enter(prompt, line string) {
	c.t.Helper()
	c.see(prompt)
	if _, err := c.keys.WriteString(line + "\n"); err != nil {
		c.t.Fatal(err)
	}
}

// The whole sitting of an operator whose only slot somebody else may have: shares are made, given back, and the keep is
// theirs alone. Without a terminal nothing is asked.
func TestRotateRootOnATerminalMakesSharesAndTakesThemBack(t *testing.T) {
	k := newKeep(t)
	k.start()
	var made struct {
		RootToken string `json:"root_token"`
	}
	if status, err := k.call("", "PUT", "sys/init", `{"recovery_shares":0}`, &made); status != http.StatusOK || err != nil {
		t.Fatal(status, err)
	}
	token := made.RootToken
	if status, err := k.call(token, "POST", "secret/data/a", `{"data":{"v":"kept"}}`, nil); status != http.StatusOK || err != nil {
		t.Fatal(status, err)
	}
	began := time.Now()
	code, out := k.run(token, "operator", "rotate-root", "-revoke=static")
	if code != 2 || !strings.Contains(out, "sealkeep operator rotate-root -revoke=static") || !strings.Contains(out, "on a terminal") || time.Since(began) > 30*time.Second {
		t.Fatalf("without a terminal: %d after %v\n%s", code, time.Since(began), out)
	}
	c := k.onConsole(token, "operator", "rotate-root", "-revoke=static", "-key-shares=3", "-key-threshold=2")
	c.see("Recovery share 1 of 2")
	var shares []string
	for _, m := range regexp.MustCompile(`Recovery Key \d: (\S+)`).FindAllStringSubmatch(c.text(), -1) {
		shares = append(shares, m[1])
	}
	if len(shares) != 3 {
		t.Fatalf("%d shares in\n%s", len(shares), c.text())
	}
	c.enter("Recovery share 1 of 2", shares[2])
	c.enter("Recovery share 2 of 2", shares[0])
	if err := c.cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, c.text())
	}
	c.see("no service opens this keep at the next start")
	c.see("It was seen to open: recovery-shares")
	if strings.Count(c.text(), shares[2]) != 1 {
		t.Errorf("what was typed is shown\n%s", c.text())
	}
	k.kill()
	k.launch()
	k.awaitHealth(http.StatusServiceUnavailable)
	for _, share := range shares[:2] {
		if code, out := k.run("", "operator", "unseal", share); code == 1 {
			t.Fatal(out)
		}
	}
	k.awaitHealth(http.StatusOK)
	if got := k.read(token, "a"); got != "kept" {
		t.Errorf("the secret is %q", got)
	}
	// The next time they are asked for what they have, from a file or on the terminal.
	if code, out := k.run(token, "operator", "rotate-root", "-share="+shares[0], "-share="+shares[1]); code != 0 || !strings.Contains(out, "no service opens") {
		t.Errorf("%d\n%s", code, out)
	}
	c = k.onConsole(token, "operator", "rotate-root")
	c.enter("Recovery share 1 of 2", shares[1])
	c.enter("Recovery share 2 of 2", shares[2])
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, c.text())
	}
	if code, out := k.run(token, "operator", "slot", "add", "static"); code != 0 {
		t.Errorf("%d\n%s", code, out)
	}
	k.kill()
	k.start()
	k.kill()
	k.check()
}

// TestKillRevoke kills a keep at any moment of a rotation of the root key that revokes a slot, with and without another
// service slot: people open it with what they have in their hands, and what was revoked opens it no more once that was
// answered. SEALKEEP_LONG=1 makes it 60 rounds instead of 6.
func TestKillRevoke(t *testing.T) {
	rounds := 6
	if os.Getenv("SEALKEEP_LONG") != "" {
		rounds = 60
	}
	key := func(n int) string { return strings.Repeat(string(rune('a'+n%26)), 32) }
	seal := func(name string, n int) string {
		return fmt.Sprintf("seal \"static\" {\n  name = %q\n  priority = %d\n  current_key = %q\n  current_key_id = \"n%d\"\n}\n", name, n+2, key(n), n)
	}
	outcomes := map[string]int{}
	for round := range rounds {
		k := newKeep(t)
		config, err := os.ReadFile(k.config)
		if err != nil {
			t.Fatal(err)
		}
		plain, _, _ := strings.Cut(string(config), "seal ")
		service := round%2 == 0
		write := func(seals string) {
			t.Helper()
			if err := os.WriteFile(k.config, []byte(plain+seals), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		both := seal("stolen", 1)
		if service {
			both += seal("other", 2)
		}
		write(both)
		k.start()
		var out struct {
			RootToken    string   `json:"root_token"`
			RecoveryKeys []string `json:"recovery_keys"`
		}
		if status, err := k.call("", "PUT", "sys/init", `{"recovery_shares":2,"recovery_threshold":2}`, &out); status != http.StatusOK || err != nil {
			t.Fatal(status, err)
		}
		token := out.RootToken
		if status, err := k.call(token, "POST", "secret/data/a", `{"data":{"v":"kept"}}`, nil); status != http.StatusOK || err != nil {
			t.Fatal(status, err)
		}
		body := object{"revoke": []string{"stolen"}}
		if !service {
			body["keys"] = out.RecoveryKeys
		}
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		killed := make(chan bool)
		time.AfterFunc(time.Duration(rand.IntN(12_000))*time.Microsecond, func() { _ = k.cmd.Process.Kill(); close(killed) })
		status, err := k.call(token, "POST", "sys/rotate/root", string(b), nil)
		answered := err == nil && status == http.StatusOK
		if err == nil && status != http.StatusOK {
			t.Fatalf("round %d: %d", round, status)
		}
		<-killed
		k.kill()

		write("recovery \"shares\" {}\n") // people alone
		k.launch()
		k.awaitHealth(http.StatusServiceUnavailable)
		for _, share := range out.RecoveryKeys {
			if status, err := k.call("", "PUT", "sys/unseal", fmt.Sprintf(`{"key":%q}`, share), nil); status != http.StatusOK || err != nil {
				t.Fatalf("round %d: a share: %d %v", round, status, err)
			}
		}
		if got := k.read(token, "a"); got != "kept" {
			t.Fatalf("round %d: the secret is %q", round, got)
		}
		var listed struct {
			Data struct {
				Slots []struct{ Name, State string }
			}
		}
		if status, err := k.call(token, "GET", "sys/slots", "", &listed); status != http.StatusOK || err != nil {
			t.Fatal(status, err)
		}
		revoked := false
		for _, sl := range listed.Data.Slots {
			revoked = revoked || sl.Name == "stolen" && sl.State == "revoked"
		}
		if answered && !revoked {
			t.Fatalf("round %d: it was answered, and the slots are %+v", round, listed.Data.Slots)
		}
		k.kill()
		outcomes[fmt.Sprintf("service %t, answered %t, revoked %t", service, answered, revoked)]++

		write(seal("stolen", 1)) // the thief, with the file and the key
		k.launch()
		if revoked {
			k.awaitHealth(http.StatusServiceUnavailable)
			if states := k.slots("pending waiting failed orphaned"); slices.Contains([]string{"opened", "ready"}, states["stolen"]) {
				t.Errorf("round %d: %v", round, states)
			}
		} else {
			k.awaitHealth(http.StatusOK)
		}
		k.kill()
		if service {
			write(seal("other", 2))
			k.start()
			k.kill()
		}
	}
	t.Logf("%d rounds: %v", rounds, outcomes)
}
