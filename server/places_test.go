package server

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealkeep/sealkeep/access"
)

// TestPlaces holds who gets a place, and who gives way.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := access.ID{1}, access.ID{2}
		here, there := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		p := newPlaces(4)
		cut := 0
		take := func(token access.ID, source netip.Addr) (*place, *atomic.Int64) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), largeWait)
			defer cancel()
			o, err := p.take(ctx, token, source)
			if err != nil {
				t.Fatal(err)
			}
			got := new(atomic.Int64)
			p.arriving(o, got, func() {
				cut++
				go func() {
					if !p.arrived(o) {
						t.Error("a body that was cut has its place")
					}
					p.leave(o)
				}()
			})
			return o, got
		}
		fast := func(got *atomic.Int64) { got.Store(1 << 40) }
		// Fast ones keep their places from their own kind, who wait, and give way to another token.
		var held []*place
		for range 4 {
			o, got := take(one, here)
			fast(got)
			held = append(held, o)
		}
		ctx, cancel := context.WithTimeout(t.Context(), largeWait)
		if _, err := p.take(ctx, one, here); err == nil || cut != 0 {
			t.Errorf("the same token got a place: %v, %d were cut", err, cut)
		}
		cancel()
		began := time.Now()
		o, got := take(two, there)
		fast(got)
		if cut != 1 || !held[0].lost || time.Since(began) > arriveGrace {
			t.Errorf("%d were cut, after %v", cut, time.Since(began))
		}
		// Half and half is fair, also where both come from one source; then only the slow give way.
		p.leave(o)
		o, got = take(two, here)
		fast(got)
		time.Sleep(2 * arriveGrace)
		p2, got2 := take(two, here)
		fast(got2)
		if cut != 2 || p2.lost || o.lost {
			t.Errorf("%d were cut", cut)
		}
		ctx, cancel = context.WithTimeout(t.Context(), largeWait)
		if _, err := p.take(ctx, two, here); err == nil || cut != 2 {
			t.Errorf("%v, %d were cut", err, cut)
		}
		cancel()
		got.Store(arriveRate / 2)
		if take(two, here); cut != 3 || !o.lost {
			t.Errorf("%d were cut, the slow one %v", cut, o.lost)
		}
		// Who has arrived is left alone.
		for _, o := range p.taken {
			p.arrived(o)
		}
		ctx, cancel = context.WithTimeout(t.Context(), largeWait)
		if _, err := p.take(ctx, access.ID{3}, netip.Addr{}); err == nil || cut != 3 || len(p.waiting) != 0 {
			t.Errorf("%v, %d were cut, %d wait", err, cut, len(p.waiting))
		}
		cancel()
	})
}
