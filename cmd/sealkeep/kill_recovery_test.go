package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sealkeep/sealkeep/recovery"
	"github.com/sealkeep/sealkeep/storage"
)

// peopleOpen reports whether people open the store of a keep that does not run, with a share, of which one is enough, or with
// an identity, and without any key service.
func (k *process) peopleOpen(share, identity string) bool {
	k.t.Helper()
	b, err := os.ReadFile(k.store())
	if err != nil {
		k.t.Fatal(err)
	}
	path := filepath.Join(k.t.TempDir(), "copy.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		k.t.Fatal(err)
	}
	store, err := storage.Open(path, storage.Options{})
	if err != nil {
		k.t.Fatal(err)
	}
	defer store.Close()
	slots, err := store.Slots()
	if err != nil {
		k.t.Fatal(err)
	}
	for _, slot := range slots {
		text := identity
		if slot.Type == recovery.Shares && share != "" {
			given, err := recovery.ParseShare(share)
			if err != nil {
				k.t.Fatal(err)
			}
			c, err := recovery.NewCollection(slot.Lock)
			if err != nil {
				k.t.Fatal(err)
			}
			if _, err := c.Add(given); err != nil {
				continue
			}
			if text, err = c.Identity(); err != nil {
				k.t.Fatal(err)
			}
		}
		if root, err := recovery.Unwrap(text, slot.Blob, slot.Context(store.UUID())); err == nil && store.Unseal(root) == nil {
			return true
		}
	}
	return false
}

// endShares takes away the shares that nobody has kept.
func (k *process) endShares(token string) {
	k.t.Helper()
	if status, err := k.call(token, "DELETE", "sys/slots/recovery-shares", "", nil); status != http.StatusOK || err != nil {
		k.t.Fatalf("removing the slot of the shares: %d %v", status, err)
	}
}

// killWithin kills the process at some moment of the next while, and returns a channel that is closed then.
func (k *process) killWithin(d time.Duration) <-chan bool {
	killed := make(chan bool)
	process := k.cmd.Process
	time.AfterFunc(rand.N(d), func() { _ = process.Kill(); close(killed) })
	return killed
}

// TestKillRekey kills a keep while new recovery shares are made and given back: whichever share was handed out last, or, until
// it has been given back, the one before, opens the store; a share that has ended does not. The other slots open always.
// SEALKEEP_LONG=1 makes it 60 rounds instead of 6.
func TestKillRekey(t *testing.T) {
	rounds := 6
	if os.Getenv("SEALKEEP_LONG") != "" {
		rounds = 60
	}
	k := newKeep(t)
	k.start()
	token := k.init()
	k.endShares(token)
	type answer struct {
		Data struct {
			Nonce             string   `json:"nonce"`
			VerificationNonce string   `json:"verification_nonce"`
			Complete          bool     `json:"complete"`
			Keys              []string `json:"keys"`
		} `json:"data"`
	}
	begin := func() (a answer) {
		t.Helper()
		if status, err := k.call(token, "POST", "sys/rotate/recovery/init", `{"secret_shares":1,"secret_threshold":1}`, &a); status != http.StatusOK || err != nil {
			t.Fatalf("beginning: %d %v", status, err)
		}
		return a
	}
	give := func(path, share, nonce string) (a answer) {
		_, _ = k.call(token, "POST", path, fmt.Sprintf(`{"key":%q,"nonce":%q}`, share, nonce), &a) // it may be killed
		return a
	}
	old := begin().Data.Keys[0] // the first shares need nobody's consent
	count := map[string]int{}
	for round := range rounds {
		nonce := begin().Data.Nonce
		killed := k.killWithin(20 * time.Millisecond)
		made := give("sys/rotate/recovery/update", old, nonce)
		fresh, back := "", answer{}
		if made.Data.Complete {
			fresh = made.Data.Keys[0]
			back = give("sys/rotate/recovery/verify", fresh, made.Data.VerificationNonce)
		}
		<-killed
		k.kill()
		opensOld, opensNew := k.peopleOpen(old, ""), fresh != "" && k.peopleOpen(fresh, "")
		switch {
		case back.Data.Complete:
			count["given back"]++
			if opensOld || !opensNew {
				t.Fatalf("round %d: given back, but the old share opens: %t, the new one: %t", round, opensOld, opensNew)
			}
		case fresh != "":
			count["answered"]++
			if !opensNew {
				t.Fatalf("round %d: a share that was handed out does not open", round)
			}
		default:
			count["not answered"]++
			if !opensOld {
				t.Fatalf("round %d: nobody has a new share, and the old one does not open", round)
			}
		}
		k.start()
		var slots struct {
			Slots []struct{ Name, State string }
		}
		if _, err := k.call("", "GET", "sys/seal-status", "", &slots); err != nil {
			t.Fatalf("round %d: %+v %v", round, slots, err)
		}
		for _, s := range slots.Slots {
			if !slices.Contains([]string{"opened", "pending", "recovery"}, s.State) {
				t.Errorf("round %d: slot %s is %s", round, s.Name, s.State)
			}
		}
		if opensNew { // it is in somebody's hands: end the old one
			old = fresh
			var d answer
			if _, err := k.call(token, "PUT", "sys/recovery/verify", fmt.Sprintf(`{"key":%q}`, fresh), &d); err != nil || !d.Data.Complete {
				t.Fatalf("round %d: a drill with the new share: %+v %v", round, d, err)
			}
		} else if status, err := k.call(token, "DELETE", "sys/rotate/recovery/init", "", nil); status != http.StatusNoContent || err != nil {
			t.Fatalf("round %d: calling it off: %d %v", round, status, err)
		}
	}
	k.kill()
	k.check()
	t.Logf("%d rounds: %v", rounds, count)
}

// TestKillRecipients kills a keep while a reload adds other age recipients, and while the new identity is given: the old one
// opens the store until then, and no longer thereafter.
func TestKillRecipients(t *testing.T) {
	rounds := 4
	if os.Getenv("SEALKEEP_LONG") != "" {
		rounds = 40
	}
	k := newKeep(t)
	config, err := os.ReadFile(k.config)
	if err != nil {
		t.Fatal(err)
	}
	name := func(id *age.X25519Identity) {
		t.Helper()
		text := append(bytes.Clone(config), fmt.Sprintf("recovery \"age\" {\n  recipients = [%q]\n}\n", id.Recipient())...)
		if err := os.WriteFile(k.config, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	identity := func() *age.X25519Identity {
		t.Helper()
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	old := identity()
	name(old)
	k.start()
	token := k.init()
	drill := func(id *age.X25519Identity) bool {
		var d struct {
			Data struct{ Complete bool } `json:"data"`
		}
		_, _ = k.call(token, "PUT", "sys/recovery/verify", fmt.Sprintf(`{"identity":%q}`, id), &d) // it may be killed, or not be there yet
		return d.Data.Complete
	}
	for round := range rounds {
		fresh := identity()
		name(fresh)
		killed := k.killWithin(100 * time.Millisecond)
		if err := k.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		given := false
		for alive := true; alive && !given; {
			select {
			case <-killed:
				alive = false
			default:
				given = drill(fresh)
			}
		}
		<-killed
		k.kill()
		opensOld, opensNew := k.peopleOpen("", old.String()), k.peopleOpen("", fresh.String())
		if given && (opensOld || !opensNew) || !opensOld && !opensNew {
			t.Fatalf("round %d: the new identity was given: %t; the old one opens: %t, the new one: %t", round, given, opensOld, opensNew)
		}
		k.start()
		for deadline := time.Now().Add(patience); !drill(fresh); {
			if time.Now().After(deadline) {
				t.Fatalf("round %d: the new identity does not open", round)
			}
			<-time.After(5 * time.Millisecond)
		}
		old = fresh
	}
	k.kill()
	k.check()
}
