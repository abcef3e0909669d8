package server

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
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

// try is an attempt that does not wait for others.
func (d *slowdown) try(name string, from netip.Addr, now time.Time) *loginAttempt {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return d.begin(ctx, name, name, from, func() time.Time { return now })
}

// Many guesses at once are no way around it, and the memory has a bound.
func TestSlowdownBounds(t *testing.T) {
	d := newSlowdown()
	now := time.Now()
	from, home := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	d.end(d.try("eve", home, now), "ok", now)
	for _, at := range []struct {
		name string
		from netip.Addr
	}{{"bob", from}, {"eve", home}} { // where all has gone well, many may not guess at once either
		var begun []*loginAttempt
		for range 100 {
			if a := d.try(at.name, at.from, now); a.wait == 0 {
				begun = append(begun, a)
			}
		}
		if len(begun) != freeFailures {
			t.Errorf("%d attempts at once of %s", len(begun), at.name)
		}
		for _, a := range begun {
			d.end(a, "failed", now)
		}
		if a := d.try("ann", at.from, now); a.wait != time.Second {
			t.Errorf("after the failures of %s: wait %s", at.name, a.wait)
		}
	}
	later := now.Add(longestSourceWait)
	one, two := d.try("ann", from, later), d.try("ann", from, later)
	if one.wait != 0 || two.wait == 0 {
		t.Errorf("after many failures two at once: %s, %s", one.wait, two.wait)
	}
	d.end(one, "error", later)
	if a := d.try("ann", from, later); a.wait != 0 {
		t.Errorf("a fault of ours counts: %s", a.wait)
	}
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for n := range 2 * slowSize {
				for _, result := range []string{"ok", "failed"} {
					a := d.try(fmt.Sprint(g, n, result), netip.AddrFrom4([4]byte{10, byte(g), byte(n >> 8), byte(n)}), now)
					d.end(a, result, now)
				}
				d.end(d.try(fmt.Sprint(g, n), netip.Addr{}, now), "failed", now)
			}
		})
	}
	all.Wait()
	for _, h := range []*halves{&d.names, &d.locals, &d.froms, &d.known} {
		if len(h.young) > slowSize || len(h.old) > slowSize || len(h.old) == 0 {
			t.Errorf("%d and %d", len(h.young), len(h.old))
		}
	}
}

// Guesses that come at once are as few as those that come one by one, whether of
// one name, from one source, or of a name whose owner was just there.
func TestFiveFailuresAreFiveWhenGuessesComeAtOnce(t *testing.T) {
	f := fresh(t)
	f.withMethod(t)
	f.clock.stop()
	f.must(t, 204, "POST", "sys/auth/t", `{"type":"test"}`)
	f.enter(t, "t", "ann", "RemoteAddr: 10.9.0.1:1")
	for what, guess := range map[string]func(n int) (name, from string){
		"a name":           func(n int) (string, string) { return "bob", fmt.Sprintf("10.0.0.%d:1", n) },
		"a source":         func(n int) (string, string) { return fmt.Sprint("n", n), "10.1.0.1:1" },
		"its owner's home": func(n int) (string, string) { return "ann", "10.9.0.1:1" },
	} {
		var checked atomic.Int32
		var all sync.WaitGroup
		for n := range 200 {
			all.Go(func() {
				name, from := guess(n)
				switch r := f.guess(t, name, from); r.status {
				case 400:
					checked.Add(1)
				case 429:
				default:
					t.Error(r.text)
				}
			})
		}
		all.Wait()
		if n := checked.Load(); n != freeFailures {
			t.Errorf("of %s %d guesses were checked", what, n)
		}
	}
}

// Right ones that come at once get in, as after a boot, and one that fails among
// them stops nobody.
func TestManyRightLoginsAtOnceGetIn(t *testing.T) {
	f := fresh(t)
	f.withMethod(t)
	f.must(t, 204, "POST", "sys/auth/t", `{"type":"test"}`)
	var all sync.WaitGroup
	for n := range attemptsWaiting {
		all.Go(func() {
			r := f.call(t, "POST", "auth/t/login", `{"name":"job","word":"right"}`, fmt.Sprintf("RemoteAddr: 10.0.0.1:%d", n+1))
			if r.status != 200 {
				t.Error(r.text)
			}
		})
		if n == 3 {
			all.Go(func() { f.guess(t, "other", "10.0.0.1:9") })
		}
	}
	all.Wait()
}

// Who is refused makes nothing be forgotten, nor does who fails through no fault of
// his own, or is right.
func TestARefusedSourceMakesNoNewTally(t *testing.T) {
	d := newSlowdown()
	now := time.Now()
	at := netip.MustParseAddr("10.0.0.1")
	for range freeFailures {
		d.end(d.try("bob", at, now), "failed", now)
	}
	guesses := 0
	for n := range 3 * slowSize {
		if a := d.try(fmt.Sprint("name", n), at, now); a.wait == 0 {
			guesses++
			d.end(a, "failed", now)
		}
		d.end(d.try(fmt.Sprint("local", n), netip.Addr{}, now), "failed", now)
		other := netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})
		d.end(d.try(fmt.Sprint("fault", n), other, now), "error", now)
		d.end(d.try(fmt.Sprint("right", n), other, now), "ok", now)
		if a := d.try("bob", other, now); a.wait == 0 {
			guesses++
		}
	}
	if a := d.try("bob", netip.MustParseAddr("10.2.0.1"), now); a.wait == 0 || guesses > 0 {
		t.Errorf("%d guesses were checked, and bob waits %s", guesses, a.wait)
	}
	if n, m := len(d.names.young)+len(d.names.old), len(d.froms.young)+len(d.froms.old); n != 1 || m != 1 {
		t.Errorf("%d names and %d sources are remembered", n, m)
	}
}

// TestLoginChanged: what has changed between its check and the transaction is checked
// again, in the same attempt, and what is refused then gives no token.
func TestLoginChanged(t *testing.T) {
	f := fresh(t)
	checks, refuse := 0, false
	type input struct{}
	method := api.Type{Name: "changing", Kind: api.Login, Routes: []api.Route{{
		Path: "login", Gate: api.Unsealed, Ops: map[api.Op]api.Handler{api.Write: api.LogIn(
			func(*api.Request, *input) (name, group string, err error) { return "somebody", "", nil },
			func(*api.Request, *input) (api.Proof, error) {
				checks++
				if checks%3 == 0 && refuse {
					return nil, api.Invalid.Errorf("not any more")
				}
				changed := checks%3 != 0
				return func(*storage.Tx) (*access.Login, error) {
					if changed {
						return nil, api.ErrChanged
					}
					return &access.Login{Name: "somebody"}, nil
				}, nil
			},
		)},
	}}}
	tables, err := newTables([]api.Type{method})
	if err != nil {
		t.Fatal(err)
	}
	key := typeKey{api.Login, "changing", ""}
	f.tables.types[key] = tables.types[key]
	f.must(t, 204, "POST", "sys/auth/x", `{"type":"changing"}`)
	if r := f.must(t, 200, "POST", "auth/x/login", "{}", "X-Vault-Token: "); checks != 3 || r.get("auth", "client_token") == nil {
		t.Errorf("%d checks: %s", checks, r.text)
	}
	refuse = true
	if r := f.must(t, 400, "POST", "auth/x/login", "{}", "X-Vault-Token: "); checks != 6 || r.errors() != "not any more" {
		t.Errorf("%d checks: %s", checks, r.text)
	}
}
