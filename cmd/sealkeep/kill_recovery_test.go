package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"filippo.io/age"
)

// TestKillRekey kills a keep while new recovery shares take the place of the old ones: afterwards either set is in force,
// whole, the new one at the latest once its shares were handed out; the identity opens whatever happens.
// SEALKEEP_LONG=1 makes it 60 rounds instead of 6.
func TestKillRekey(t *testing.T) {
	rounds := 6
	if os.Getenv("SEALKEEP_LONG") != "" {
		rounds = 60
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	k := newKeep(t)
	f, err := os.OpenFile(k.config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "recovery \"age\" {\n  recipients = [%q]\n}\n", id.Recipient())
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	k.start()
	token := k.init()
	type answer struct {
		Data struct {
			Nonce    string   `json:"nonce"`
			Complete bool     `json:"complete"`
			Keys     []string `json:"keys"`
		} `json:"data"`
	}
	begin := func() (a answer) {
		t.Helper()
		if status, err := k.call(token, "POST", "sys/rotate/recovery/init", `{"secret_shares":1,"secret_threshold":1}`, &a); status != http.StatusOK || err != nil {
			t.Fatalf("beginning: %d %v", status, err)
		}
		return a
	}
	finish := func(nonce string) (a answer, err error) {
		_, err = k.call(token, "POST", "sys/rotate/recovery/update", fmt.Sprintf(`{"identity":%q,"nonce":%q}`, id, nonce), &a)
		return a, err
	}
	share := begin().Data.Keys[0] // the first shares need nobody's consent
	answered, lost := 0, 0
	for round := range rounds {
		nonce := begin().Data.Nonce
		killed := make(chan bool)
		time.AfterFunc(time.Duration(rand.IntN(4000))*time.Microsecond, func() { _ = k.cmd.Process.Kill(); close(killed) })
		a, err := finish(nonce)
		if got := err == nil && a.Data.Complete; got {
			share = a.Data.Keys[0]
			answered++
		}
		<-killed
		k.kill()
		k.start()
		var slots struct {
			Slots []struct{ Name, State string }
		}
		if _, err := k.call("", "GET", "sys/seal-status", "", &slots); err != nil || len(slots.Slots) != 3 {
			t.Fatalf("round %d: %+v %v", round, slots, err)
		}
		for _, s := range slots.Slots {
			if !slices.Contains([]string{"opened", "pending", "recovery"}, s.State) {
				t.Errorf("round %d: slot %s is %s", round, s.Name, s.State)
			}
		}
		var d answer
		status, err := k.call(token, "PUT", "sys/recovery/verify", fmt.Sprintf(`{"key":%q}`, share), &d)
		switch {
		case err != nil:
			t.Fatal(err)
		case status == http.StatusOK && d.Data.Complete:
		case a.Data.Complete:
			t.Fatalf("round %d: a share that was handed out does not open: %d", round, status)
		default: // the new set is in force, and nobody has its shares: it can be replaced
			lost++
			if a, err = finish(begin().Data.Nonce); err != nil || !a.Data.Complete {
				t.Fatalf("round %d: %+v %v", round, a, err)
			}
			share = a.Data.Keys[0]
		}
	}
	k.kill()
	k.check()
	t.Logf("%d rounds: %d answered, %d in force but not answered", rounds, answered, lost)
}
