package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKillInit kills a keep while it is initialized: afterwards there is no store, or a whole one that opens itself.
// SEALKEEP_LONG=1 makes it 60 rounds instead of 6.
func TestKillInit(t *testing.T) {
	rounds, made := 6, 0
	if os.Getenv("SEALKEEP_LONG") != "" {
		rounds = 60
	}
	for range rounds {
		k := newKeep(t)
		k.start()
		killed := make(chan bool)
		time.AfterFunc(time.Duration(rand.IntN(30_000))*time.Microsecond, func() { _ = k.cmd.Process.Kill(); close(killed) })
		status, err := k.call("", "PUT", "sys/init", "{}", nil)
		<-killed
		k.kill()
		_, gone := os.Stat(k.store())
		if err == nil && status == http.StatusOK && gone != nil {
			t.Fatalf("initialized, and there is no store: %v", gone)
		}
		k.start()
		if gone != nil {
			k.init()
		} else {
			made++
			if status, err := k.call("", "GET", "sys/health", "", nil); status != http.StatusOK || err != nil {
				t.Fatalf("the store that was made does not open: %d %v", status, err)
			}
		}
		k.kill()
		k.check()
	}
	t.Logf("%d rounds, %d with a store", rounds, made)
}

// TestKillSlots kills a keep while it adds, rewraps and removes slots and changes its root key: it opens itself
// afterwards, with every slot whole. SEALKEEP_LONG=1 makes it 60 rounds instead of 6.
func TestKillSlots(t *testing.T) {
	rounds := 6
	if os.Getenv("SEALKEEP_LONG") != "" {
		rounds = 60
	}
	k := newKeep(t)
	first, err := os.ReadFile(k.config)
	if err != nil {
		t.Fatal(err)
	}
	k.start()
	token := k.init()
	if status, err := k.call(token, "POST", "secret/data/a", `{"data":{"v":"kept"}}`, nil); status != http.StatusOK || err != nil {
		t.Fatal(status, err)
	}
	key := func(n int) string { return strings.Repeat(string(rune('a'+n%26)), 32) }
	names := map[string]int{}
	for round := range rounds {
		// A second seal, whose key is another one in every round; the first one stays.
		second := fmt.Sprintf("seal \"static\" {\n  name = \"second\"\n  priority = 2\n  current_key = %q\n  current_key_id = \"n%d\"\n", key(round), round)
		if round > 0 {
			second += fmt.Sprintf("  previous_key = %q\n  previous_key_id = \"n%d\"\n", key(round-1), round-1)
		}
		if err := os.WriteFile(k.config, []byte(string(first)+second+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		killed := make(chan bool)
		time.AfterFunc(time.Duration(rand.IntN(25_000))*time.Microsecond, func() { _ = k.cmd.Process.Kill(); close(killed) })
		_ = k.cmd.Process.Signal(syscall.SIGHUP)
		for {
			if _, err := k.call(token, "POST", "sys/rotate/root", "{}", nil); err != nil {
				break // killed
			}
		}
		<-killed
		k.kill()
		k.start()
		slots := k.slots("opened ready") // after it has been rewrapped
		names[fmt.Sprint(len(slots))]++
		if got := k.read(token, "a"); got != "kept" {
			t.Fatalf("round %d: the secret is %q", round, got)
		}
		if round%3 == 2 { // and away with it, which is cut off, too
			if err := os.WriteFile(k.config, first, 0o600); err != nil {
				t.Fatal(err)
			}
			_ = k.cmd.Process.Signal(syscall.SIGHUP)
			k.slots("opened orphaned")
			killed := make(chan bool)
			time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, func() { _ = k.cmd.Process.Kill(); close(killed) })
			_, _ = k.call(token, "DELETE", "sys/slots/second", "", nil)
			<-killed
			k.kill()
			k.start()
		}
	}
	k.kill()
	k.check()
	t.Logf("%d rounds, %v", rounds, names)
}

// slots waits until every slot, people's apart, is in one of the states.
func (k *process) slots(states string) map[string]string {
	k.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		var out struct {
			Slots []struct{ Name, State string }
		}
		if _, err := k.call("", "GET", "sys/seal-status", "", &out); err != nil {
			k.t.Fatal(err)
		}
		got, settled := map[string]string{}, true
		for _, s := range out.Slots {
			if s.State != "recovery" {
				got[s.Name] = s.State
				settled = settled && strings.Contains(states, s.State)
			}
		}
		if settled {
			return got
		}
		if time.Now().After(deadline) {
			k.t.Fatalf("the slots are %v", got)
		}
		<-time.After(5 * time.Millisecond)
	}
}
