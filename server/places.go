package server

import (
	"context"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealkeep/sealkeep/access"
)

// Places bound the large bodies in memory. A body has its place while it arrives
// and until it is answered; whoever comes to full places waits, and the next free
// one goes to the waiter whose token and source have the fewest.
//
// Clients decide how long their bodies take to arrive, so places are not theirs
// to keep: while somebody waits, a body that has been arriving for arriveGrace
// gives way if it comes slower than arriveRate, or if its token and source have
// more places than those of the waiter would. So one token that sends slowly, on
// however many connections, holds nobody up for longer than that.
type places struct {
	mu      sync.Mutex
	free    int
	taken   []*place
	waiting []*place // in order of arrival
	looked  time.Time
}

const (
	arriveGrace = time.Second
	arriveRate  = 128 << 10              // bytes a second: a body of 2 MiB has 16 s
	waitTick    = 250 * time.Millisecond // how often each waiter looks for a place
	lookPause   = 20 * time.Millisecond  // between two looks
)

// A place is that of one body.
type place struct {
	token  access.ID
	source netip.Addr

	ready chan struct{} // closed when it is taken

	// Guarded by the mutex of the places:
	since time.Time     // when it was taken
	cut   func()        // ends the arriving; nil when it has ended, or has not begun
	lost  bool          // it was cut
	got   *atomic.Int64 // bytes so far
}

func newPlaces(n int) *places { return &places{free: n} }

// take waits for a place, until ctx ends. The error is that of ctx.
func (p *places) take(ctx context.Context, token access.ID, source netip.Addr) (*place, error) {
	one := &place{token: token, source: source, ready: make(chan struct{})}
	p.mu.Lock()
	p.waiting = append(p.waiting, one)
	p.giveLocked()
	p.mu.Unlock()
	tick := time.NewTicker(waitTick)
	defer tick.Stop()
	for {
		select {
		case <-one.ready:
			return one, nil
		case <-tick.C:
			p.evict()
		case <-ctx.Done():
			p.leave(one)
			return nil, ctx.Err()
		}
	}
}

// arriving says that the body of a place begins to arrive: got tells how much of
// it is there, and cut ends it.
func (p *places) arriving(one *place, got *atomic.Int64, cut func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one.got, one.cut = got, cut
}

// arrived says that the body is there, or will not be, and reports whether its
// place was lost.
func (p *places) arrived(one *place) (lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one.cut = nil
	return one.lost
}

// leave gives a place back, or stops waiting for it.
func (p *places) leave(one *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, one); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return
	}
	p.taken = slices.DeleteFunc(p.taken, func(o *place) bool { return o == one })
	p.free++
	p.giveLocked()
}

// nextLocked is the index of the waiter that the next place goes to: of those with
// the smallest share, the first come.
func (p *places) nextLocked() int {
	best, least := 0, math.MaxInt
	for i, one := range p.waiting {
		if share := p.shareLocked(one); share < least {
			best, least = i, share
		}
	}
	return best
}

// giveLocked gives free places to those who wait.
func (p *places) giveLocked() {
	for p.free > 0 && len(p.waiting) > 0 {
		next := p.nextLocked()
		one := p.waiting[next]
		p.waiting = slices.Delete(p.waiting, next, next+1)
		p.free--
		p.taken = append(p.taken, one)
		one.since = time.Now()
		close(one.ready)
	}
}

// shareLocked is how many places the token and the source of one have.
func (p *places) shareLocked(one *place) (n int) {
	for _, o := range p.taken {
		if o.token == one.token {
			n++
		}
		if o.source == one.source {
			n++
		}
	}
	return n
}

// evict cuts off a body that gives way to the next waiter, if any does: of those
// with the largest share, the oldest. Every waiter calls it; one look in a while is
// enough for all.
func (p *places) evict() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if len(p.waiting) == 0 || now.Sub(p.looked) < lookPause {
		return
	}
	p.looked = now
	var victim *place
	most := p.shareLocked(p.waiting[p.nextLocked()]) + 1
	for _, o := range p.taken { // in the order in which they came
		age := now.Sub(o.since)
		if o.cut == nil || age < arriveGrace {
			continue
		}
		slow := float64(o.got.Load()) < arriveRate*age.Seconds()
		if share := p.shareLocked(o); share > most || slow && victim == nil {
			victim, most = o, max(share, most)
		}
	}
	if victim != nil {
		victim.lost = true
		victim.cut()
		victim.cut = nil
	}
}
