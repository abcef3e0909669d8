package server

import (
	"net/netip"
	"testing"
)

// However many sources there are, memory is bounded; and who has been there all
// along is not forgotten.
func TestLimiterIsBounded(t *testing.T) {
	l := newLimiter[netip.Addr]("source", Rate{PerSecond: 1})
	mine := netip.MustParseAddr("192.0.2.1")
	first := l.get(mine)
	addr := netip.MustParseAddr("2001:db8::")
	for i := range 5 * limiterSize {
		l.get(addr)
		if addr = addr.Next(); i%1000 == 0 && l.get(mine) != first {
			t.Fatal("forgotten")
		}
	}
	if n := len(l.young) + len(l.old); n > 2*limiterSize {
		t.Errorf("%d are remembered", n)
	}
}
