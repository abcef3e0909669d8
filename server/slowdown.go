package server

import (
	"crypto/sha256"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Failed logins slow down who made them. Both the source (an address, of IPv6 its
// /64) and the name (the role or user of a method) may fail freeFailures times;
// then each failure makes the next attempt wait twice as long as the one before,
// up to the longest of its kind, one attempt at a time. Who comes too early is
// told when to come again, and nothing is checked. A quarter of an hour without a
// failure forgets them.
//
// A name waits briefly, and a source from which its last login went well does not
// wait for it at all, nor for what others do from the same source: so who knows a
// name can hardly keep its owner out.
//
// Memory is bounded: slowSize of each kind in each half, some 10 MB in all.
const (
	freeFailures      = 5
	attemptsAtOnce    = 64 // of a source or of a name that is not slowed down yet
	longestSourceWait = 30 * time.Second
	longestNameWait   = 2 * time.Second
	failuresForgotten = 15 * time.Minute
	slowSize          = 8 << 10
)

type slowdown struct {
	mu    sync.Mutex
	names halves
	froms halves
	known halves // a name or group from a source: its last login went well
}

type slowKey [sha256.Size]byte

// A tally is what is known of a name or a source.
type tally struct {
	longest  time.Duration // wait
	failures int
	last     time.Time // failure
	until    time.Time // then the next attempt may be made
	running  int
}

// halves holds tallies in two halves: when the younger is full it becomes the
// elder, which is forgotten.
type halves struct {
	longest    time.Duration // wait
	young, old map[slowKey]*tally
}

func (h *halves) get(k slowKey) *tally {
	if t := h.young[k]; t != nil {
		return t
	}
	if t := h.old[k]; t != nil {
		h.put(k, t)
		return t
	}
	return nil
}

func (h *halves) put(k slowKey, t *tally) {
	if h.young == nil || len(h.young) >= slowSize {
		h.old, h.young = h.young, make(map[slowKey]*tally)
	}
	h.young[k] = t
}

func (h *halves) delete(k slowKey) {
	delete(h.young, k)
	delete(h.old, k)
}

// ensure is get; what is not there begins.
func (h *halves) ensure(k slowKey, now time.Time) *tally {
	t := h.get(k)
	if t == nil {
		t = &tally{longest: h.longest}
		h.put(k, t)
	}
	if now.Sub(t.last) > failuresForgotten {
		t.failures, t.until = 0, time.Time{}
	}
	return t
}

// wait is how long the next attempt has to wait, 0 if it may be made now.
func (t *tally) wait(now time.Time) time.Duration {
	switch {
	case now.Before(t.until):
		return t.until.Sub(now)
	case t.running >= attemptsAtOnce, t.failures >= freeFailures && t.running > 0:
		return time.Second
	}
	return 0
}

func (t *tally) fail(now time.Time) {
	t.failures++
	t.last = now
	if n := t.failures - freeFailures; n >= 0 {
		t.until = now.Add(min(time.Second<<min(n, 10), t.longest))
	}
}

func newSlowdown() *slowdown {
	return &slowdown{names: halves{longest: longestNameWait}, froms: halves{longest: longestSourceWait}}
}

// A tooSoon tells a client to come again later.
type tooSoon struct {
	text string
	wait time.Duration
}

func (e *tooSoon) Error() string { return e.text }

// tryLogin runs a login of a name, unless there were too many failures. A failure
// is an answer with the status 400 or 403.
func (s *Server) tryLogin(r *request, name string, login func() (answer, error)) (answer, error) {
	return s.tryLoginOf(r, name, name, login)
}

// tryLoginOf is tryLogin of a name that is one of a group: a source from which
// the last login of the group went well does not wait.
func (s *Server) tryLoginOf(r *request, name, group string, login func() (answer, error)) (answer, error) {
	a := s.slowdown.begin(r.mount.UUID+"/"+name, r.mount.UUID+"/"+group, r.source(), s.now())
	if a.wait > 0 {
		s.metrics.login(r.mount.Type, "slowed")
		return answer{}, &tooSoon{"too many failed logins: try again later", a.wait}
	}
	result := "error" // also when login panics
	defer func() {
		s.slowdown.end(a, result, s.now())
		s.metrics.login(r.mount.Type, result)
	}()
	out, err := login()
	if err == nil {
		result = "ok"
	} else if status, _, _ := fault(err); status == http.StatusBadRequest || status == http.StatusForbidden {
		result = "failed"
	}
	return out, err
}

// A loginAttempt is one that has begun, or has to wait.
type loginAttempt struct {
	wait    time.Duration
	pair    slowKey
	tallies []*tally // of the name and of the source, if there is one
	counted []*tally // those that it counts in while it runs
}

func (d *slowdown) begin(name, group string, from netip.Addr, now time.Time) *loginAttempt {
	if from.Is6() {
		p, _ := from.Prefix(64) // never fails
		from = p.Addr()
	}
	nameKey, fromKey := slowKey(sha256.Sum256([]byte(name))), slowKey(sha256.Sum256(from.AsSlice()))
	groupKey := sha256.Sum256([]byte(group))
	a := &loginAttempt{pair: sha256.Sum256(slices.Concat(groupKey[:], fromKey[:]))}
	d.mu.Lock()
	defer d.mu.Unlock()
	a.tallies = append(a.tallies, d.names.ensure(nameKey, now))
	if from.IsValid() {
		a.tallies = append(a.tallies, d.froms.ensure(fromKey, now))
	}
	a.counted = a.tallies
	if known := d.known.get(a.pair); known != nil { // it has no failures
		a.counted = []*tally{known}
	}
	for _, t := range a.counted {
		a.wait = max(a.wait, t.wait(now))
	}
	if a.wait == 0 {
		for _, t := range a.counted {
			t.running++
		}
	}
	return a
}

func (d *slowdown) end(a *loginAttempt, result string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range a.counted {
		t.running--
	}
	switch result {
	case "failed":
		for _, t := range a.tallies {
			t.fail(now)
		}
		d.known.delete(a.pair)
	case "ok":
		a.tallies[0].failures, a.tallies[0].until = 0, time.Time{}
		if d.known.get(a.pair) == nil {
			d.known.put(a.pair, new(tally))
		}
	}
}
