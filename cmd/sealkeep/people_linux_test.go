package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/config"
	"github.com/sealkeep/sealkeep/keep"
)

// A dialogue types what it is asked for: one answer for each prompt, in order.
type dialogue struct {
	mu      sync.Mutex
	text    bytes.Buffer
	answers []func(text string) string // of all that was shown so far
	typist  io.Writer
}

func (d *dialogue) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.text.Write(p)
	if s := string(p); (strings.HasSuffix(s, "(will be hidden): ") || strings.HasSuffix(s, "[y/N] ")) && len(d.answers) > 0 {
		answer := d.answers[0](d.text.String())
		d.answers = d.answers[1:]
		fmt.Fprintln(d.typist, answer) // the terminal keeps it until it is read
	}
	return len(p), nil
}

func (d *dialogue) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

// On a terminal the new shares are asked for where they were printed; then the old ones end, and a new root key is offered.
func TestRekeyAsksForTheNewSharesInTheSameSitting(t *testing.T) {
	k := newKeep(t)
	k.start()
	token := k.init()
	k.endShares(token)
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"VAULT_ADDR": k.url, "VAULT_TOKEN": token}[name]
		return v, ok
	}
	printed := regexp.MustCompile(`(?m)^Recovery Key \d: (\S+)$`)
	shares := func(text string) (list []string) {
		for _, m := range printed.FindAllStringSubmatch(text, -1) {
			list = append(list, m[1])
		}
		return list
	}
	talk := func(args string, answers ...func(string) string) string {
		t.Helper()
		typist, tty := openTerminal(t)
		d := &dialogue{answers: answers, typist: typist}
		if code := run(t.Context(), strings.Fields(args), env, tty, d, d); code != 0 {
			t.Fatalf("%s: exit code %d\n%s", args, code, d)
		}
		if len(d.answers) > 0 {
			t.Fatalf("%s: %d questions were not asked\n%s", args, len(d.answers), d)
		}
		return d.String()
	}
	says := func(text string) func(string) string { return func(string) string { return text } }
	nth := func(n int) func(string) string {
		return func(text string) string {
			list := shares(text)
			if n >= len(list) {
				t.Errorf("no share %d is shown: %s", n, text)
				return ""
			}
			return list[n]
		}
	}
	first := talk("operator rekey -init -key-shares=3 -key-threshold=2", nth(0), says("nonsense"), nth(2))
	if !strings.Contains(first, "not a recovery share") || !strings.Contains(first, "The recovery shares open the keep") {
		t.Errorf("the first shares: %s", first)
	}
	old := shares(first)
	talk("operator rekey -init -key-shares=2 -key-threshold=2")
	talk("operator rekey", says(old[0]))
	left := talk("operator rekey", says(old[1]), says(""))
	for _, want := range []string{"An empty line leaves that for later: sealkeep operator rekey -verify -", "handed out before open the keep until 2 of the new ones", "Set: "} {
		if !strings.Contains(left, want) {
			t.Errorf("the answer lacks %q: %s", want, left)
		}
	}
	if out := talk("operator rekey -status"); !strings.Contains(out, "two sets of recovery shares are open since") {
		t.Errorf("status: %s", out)
	}
	// The ones that were left are replaced, and these given back at once.
	talk("operator rekey -init -key-shares=2 -key-threshold=2")
	talk("operator rekey", says(old[0]))
	end := talk("operator rekey", says(old[2]), nth(0), nth(1), says("y"))
	for _, want := range []string{"the old ones have ended", "The root key is the one of before", "Success! The root key is a new one", "still need them"} {
		if !strings.Contains(end, want) {
			t.Errorf("the end lacks %q: %s", want, end)
		}
	}
	fresh := shares(end)
	k.kill()
	k.start()
	for i, share := range append(old, fresh...) {
		status, err := k.call(token, "PUT", "sys/recovery/verify", fmt.Sprintf(`{"key":%q}`, share), nil)
		if err != nil || (status == http.StatusOK) != (i >= len(old)) {
			t.Errorf("share %d: %d %v", i, status, err)
		}
	}
}

// Two sets are a warning from the first minute on, and a failure after a day.
func TestDoctorFailsAfterADayOfTwoSets(t *testing.T) {
	for _, c := range []struct {
		age       time.Duration
		typ, next string
		ok        bool
	}{
		{0, "shares", "rekey -verify", true}, {23 * time.Hour, "age", "recovery verify -identity", true},
		{25 * time.Hour, "shares", "rekey -cancel", false}, {25 * time.Hour, "age", "name the old recipients again", false},
	} {
		x := &examination{cli: &cli{Context: t.Context()}, conf: &config.Config{}}
		x.slotStates([]keep.SlotStatus{{Name: "recovery-" + c.typ + "-new", Type: c.typ, State: keep.SlotRecovery, Since: time.Now().Add(-c.age)}})
		f := x.findings[0]
		if f.OK != c.ok || f.OK && !f.Warning || !strings.Contains(f.Next, c.next) {
			t.Errorf("after %v: %+v", c.age, f)
		}
	}
}
