package server

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"
)

func (f *fixture) guess(t testing.TB, name, from string) reply {
	t.Helper()
	return f.call(t, "POST", "auth/t/login", `{"name":"`+name+`","word":"wrong"}`, "X-Vault-Token: ", "RemoteAddr: "+from)
}

// Who guesses waits twice as long each time, to half a minute, wherever in a /64
// he is; nothing is checked for him meanwhile.
func TestGuessingIsSlow(t *testing.T) {
	f := fresh(t)
	f.withMethod(t)
	f.clock.stop()
	f.must(t, 204, "POST", "sys/auth/t", `{"type":"test"}`)
	for n, want := range []int{400, 400, 400, 400, 400, 429} {
		if r := f.guess(t, fmt.Sprint(n), "[2001:db8::1]:1"); r.status != want {
			t.Fatalf("guess %d: %d %s", n, r.status, r.text)
		}
	}
	checked := 0
	for _, wait := range []int{1, 2, 4, 8, 16, 30, 30, 30} {
		r := f.guess(t, "x", fmt.Sprintf("[2001:db8::%d]:1", wait+1))
		if r.status != 429 || r.header.Get("Retry-After") != fmt.Sprint(wait) || r.errors() != "too many failed logins: try again later" {
			t.Fatalf("want to wait %d: %d %v %s", wait, r.status, r.header, r.text)
		}
		r = f.call(t, "POST", "auth/t/login", `{"name":"x","word":"right"}`, "RemoteAddr: [2001:db8::2]:1")
		if r.status != 429 {
			t.Errorf("a right one, too early: %d", r.status)
		}
		f.clock.add(time.Duration(wait) * time.Second)
		if r := f.guess(t, fmt.Sprint("n", wait, checked), "[2001:db8::1]:1"); r.status != 400 {
			t.Fatalf("after %d seconds: %d", wait, r.status)
		}
		checked++
	}
	if r := f.guess(t, "y", "[2001:db8:0:1::1]:1"); r.status != 400 {
		t.Errorf("another network: %d", r.status)
	}
	f.clock.add(failuresForgotten + time.Second)
	if r := f.guess(t, "x", "[2001:db8::1]:1"); r.status != 400 {
		t.Errorf("after a quarter of an hour: %d", r.status)
	}
	got := scrape(t, f.must(t, 200, "GET", "sys/metrics", ""))
	if got[`sealkeep_logins_total{result="slowed",type="test"}`] != "17" || got[`sealkeep_logins_total{result="failed",type="test"}`] != "15" {
		t.Errorf("%v", got)
	}
}

// Guesses from everywhere make a name wait two seconds at most, and not where its
// owner has been before.
func TestOwnerGetsIn(t *testing.T) {
	f := fresh(t)
	f.withMethod(t)
	f.clock.stop()
	f.must(t, 204, "POST", "sys/auth/t", `{"type":"test"}`)
	home := "RemoteAddr: 10.0.0.1:1"
	f.enter(t, "t", "bob", home)
	for n := range 200 {
		if r := f.guess(t, "bob", fmt.Sprintf("10.1.0.%d:1", n)); r.status != 400 && r.status != 429 {
			t.Fatal(r.text)
		}
		f.clock.add(300 * time.Millisecond)
	}
	f.guess(t, "bob", "10.2.0.1:1")
	f.enter(t, "t", "bob", home)
	for range 10 { // a success forgives the name
		f.guess(t, "bob", "10.3.0.1:1")
	}
	away := f.call(t, "POST", "auth/t/login", `{"name":"bob","word":"right"}`, "RemoteAddr: 10.4.0.1:1")
	if wait := away.header.Get("Retry-After"); away.status != 429 || wait != "1" && wait != "2" {
		t.Fatalf("%d after %s", away.status, wait)
	}
	f.clock.add(longestNameWait)
	f.enter(t, "t", "bob", "RemoteAddr: 10.4.0.1:1")
	f.enter(t, "t", "ann", "RemoteAddr: 10.4.0.2:1")

	// Others who fail at home do not keep him out either, as long as he is right.
	for range 20 {
		f.guess(t, "eve", "10.0.0.1:1")
	}
	f.enter(t, "t", "bob", home)
	if r := f.call(t, "POST", "auth/t/login", `{"name":"ann","word":"right"}`, home); r.status != 429 {
		t.Errorf("somebody new from there: %d", r.status)
	}
	f.guess(t, "bob", "10.0.0.1:1")
	if r := f.call(t, "POST", "auth/t/login", `{"name":"bob","word":"right"}`, home); r.status != 429 {
		t.Errorf("after a failure of his own: %d", r.status)
	}

	// On a unix socket only the name counts.
	for range 10 {
		f.guess(t, "uma", "@")
	}
	if r := f.guess(t, "uma", "@"); r.status != 429 {
		t.Errorf("%d", r.status)
	}
	if r := f.guess(t, "vic", "@"); r.status != 400 {
		t.Errorf("%d", r.status)
	}
}

// Many guesses at once are no way around it, and the memory has a bound.
func TestSlowdownBounds(t *testing.T) {
	d := newSlowdown()
	now := time.Now()
	from := netip.MustParseAddr("10.0.0.1")
	var begun []*loginAttempt
	for range 2 * attemptsAtOnce {
		if a := d.begin("bob", "bob", from, now); a.wait == 0 {
			begun = append(begun, a)
		}
	}
	if len(begun) != attemptsAtOnce {
		t.Errorf("%d attempts at once", len(begun))
	}
	for _, a := range begun {
		d.end(a, "failed", now)
	}
	if a := d.begin("ann", "ann", from, now); a.wait != longestSourceWait {
		t.Errorf("wait %s", a.wait)
	}
	later := now.Add(longestSourceWait)
	one, two := d.begin("ann", "ann", from, later), d.begin("ann", "ann", from, later)
	if one.wait != 0 || two.wait == 0 {
		t.Errorf("after many failures two at once: %s, %s", one.wait, two.wait)
	}
	d.end(one, "error", later)
	if a := d.begin("ann", "ann", from, later); a.wait != 0 {
		t.Errorf("a fault of ours counts: %s", a.wait)
	}
	home := netip.MustParseAddr("10.0.0.2") // where all has gone well, many may not guess at once either
	d.end(d.begin("eve", "eve", home, now), "ok", now)
	begun = nil
	for range 2 * attemptsAtOnce {
		if a := d.begin("eve", "eve", home, now); a.wait == 0 {
			begun = append(begun, a)
		}
	}
	if len(begun) != attemptsAtOnce {
		t.Errorf("%d attempts at once from where a login went well", len(begun))
	}
	for _, a := range begun {
		d.end(a, "failed", now)
	}
	if a := d.begin("eve", "eve", home, now); a.wait != longestSourceWait {
		t.Errorf("wait %s", a.wait)
	}
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for n := range 2 * slowSize {
				a := d.begin(fmt.Sprint(g, n), fmt.Sprint(g, n), netip.AddrFrom4([4]byte{10, byte(g), byte(n >> 8), byte(n)}), now)
				d.end(a, []string{"ok", "failed"}[n%2], now)
			}
		})
	}
	all.Wait()
	for _, h := range []*halves{&d.names, &d.froms, &d.known} {
		if len(h.young) > slowSize || len(h.old) > slowSize || len(h.old) == 0 {
			t.Errorf("%d and %d", len(h.young), len(h.old))
		}
	}
}
