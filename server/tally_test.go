package server

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"
)

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
