package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Failed logins slow down who made them. Both the source (an address, of IPv6 its
// /64) and the name (the role or user of a method) may fail freeFailures times;
// then each failure makes the next attempt wait twice as long as the one before,
// up to the longest of its kind, one attempt at a time. Who comes too early is
// told when to come again, and nothing is checked. A quarter of an hour without a
// failure forgets them.
//
// An attempt that is not decided yet counts as a failure: as many guesses at once
// as may still fail are checked, and the others wait for their end, at most
// attemptsWaiting of them. So many right ones at once are all let in.
//
// A name waits briefly, and a source from which its last login went well does not
// wait for it at all, nor for what others do from the same source: so who knows a
// name can hardly keep its owner out.
//
// Memory is bounded: slowSize of each kind in each half, some 10 MB in all. An
// attempt that is refused, or fails through no fault of the client, leaves nothing
// there, so that a source which is refused cannot make others be forgotten. Names
// from where there are no addresses, on a unix socket, have memory of their own.
const (
	freeFailures      = 5
	attemptsWaiting   = 64 // for others of the same source or name
	longestSourceWait = 30 * time.Second
	longestNameWait   = 2 * time.Second
	failuresForgotten = 15 * time.Minute
	slowSize          = 8 << 10
)

type slowdown struct {
	mu     sync.Mutex
	names  halves
	locals halves // names from where there are no addresses
	froms  halves
	known  halves // a name or group from a source: its last login there went well
}

type slowKey [sha256.Size]byte

// A tally is what is known of a name or a source.
type tally struct {
	longest  time.Duration // wait
	failures int
	last     time.Time // failure
	until    time.Time // then the next attempt may be made
	running  int
	waiting  int           // attempts that wait for one that runs
	ended    chan struct{} // closed when one ends; nil when nobody waits
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

// look is get that forgets old failures.
func (h *halves) look(k slowKey, now time.Time) *tally {
	t := h.get(k)
	if t != nil && now.Sub(t.last) > failuresForgotten {
		t.failures, t.until = 0, time.Time{}
	}
	return t
}

// ensure is look; what is not there begins.
func (h *halves) ensure(k slowKey, now time.Time) *tally {
	t := h.look(k, now)
	if t == nil {
		t = &tally{longest: h.longest}
		h.put(k, t)
	}
	return t
}

// tidy deletes a tally of which there is nothing to know any more.
func (h *halves) tidy(k slowKey) {
	if t := h.get(k); t != nil && t.failures+t.running+t.waiting == 0 {
		h.delete(k)
	}
}

// wait is how long the next attempt has to wait, 0 if it may be made now; busy
// that it depends on those that run. Of nil nothing is known.
func (t *tally) wait(now time.Time) (wait time.Duration, busy bool) {
	switch {
	case t == nil:
		return 0, false
	case now.Before(t.until):
		return t.until.Sub(now), false
	}
	return 0, t.running > 0 && t.failures+t.running >= freeFailures
}

func (t *tally) fail(now time.Time) {
	t.failures++
	t.last = now
	if n := t.failures - freeFailures; n >= 0 {
		t.until = now.Add(min(time.Second<<min(n, 10), t.longest))
	}
}

func newSlowdown() *slowdown {
	return &slowdown{names: halves{longest: longestNameWait}, locals: halves{longest: longestNameWait}, froms: halves{longest: longestSourceWait}}
}

// LogIn gives a token to whom check recognises, unless there were too many failures
// of the name, which is one of a group, or of the source. A failure is an answer with
// the status 400 or 403. What has changed before the token was made is checked again.
func (r *request) LogIn(name, group string, check func() (api.Proof, error)) (a api.Answer, err error) {
	s := r.server
	attempt := s.slowdown.begin(r.Context, r.Mount.UUID+"/"+name, r.Mount.UUID+"/"+cmp.Or(group, name), r.Caller.Source, s.now)
	if attempt.wait > 0 {
		s.metrics.login(r.Mount.Type, "slowed")
		return a, &api.Error{Code: api.Busy, Text: "too many failed logins: try again later", After: attempt.wait}
	}
	result := "error" // also when check panics
	defer func() {
		s.slowdown.end(attempt, result, s.now())
		s.metrics.login(r.Mount.Type, result)
	}()
	for again := true; again; again = errors.Is(err, api.ErrChanged) {
		var proof api.Proof
		if proof, err = check(); err == nil {
			a, err = r.makeToken(proof)
		}
	}
	if err = r.route.told(err); err == nil {
		result = "ok"
	} else if status, _, _ := fault(err); status == http.StatusBadRequest || status == http.StatusForbidden {
		result = "failed"
	}
	return a, err
}

// makeToken makes a token for whom a proof recognises; both happen in one
// transaction.
func (r *request) makeToken(proof api.Proof) (api.Answer, error) {
	var t *access.Token
	var secret string
	var warnings []string
	err := r.Update(func(tx *storage.Tx) error {
		l, err := proof(tx)
		if err != nil {
			return err
		}
		if !access.Within(l.Params.BoundCIDRs, r.Caller.Source) {
			return access.ErrDenied
		}
		r.Mount.Limit(l)
		l.Path = r.Path
		l.DisplayName = strings.Trim(strings.ReplaceAll(r.Mount.Path, "/", "-")+l.DisplayName, "-")
		if t, warnings, err = l.Token(r.Now); err != nil {
			return err
		}
		secret, err = access.Create(tx, "", t)
		return err
	})
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Auth: api.NewAuth(t, secret, r.Now), Warnings: warnings}, nil
}

// A loginAttempt is one that has begun, or has to wait.
type loginAttempt struct {
	wait    time.Duration
	pair    slowKey  // the group from the source
	name    slowKey  // in names or locals
	names   *halves  // where the name is
	from    *slowKey // in froms; nil when there is no source
	running []*tally // in which it counts while it runs
}

// begin admits an attempt, after those of the same name or source that run as far as
// it depends on them, or returns how long it has to wait. An attempt that is
// admitted ends with end.
func (d *slowdown) begin(ctx context.Context, name, group string, from netip.Addr, now func() time.Time) *loginAttempt {
	if from.Is6() {
		p, _ := from.Prefix(64) // never fails
		from = p.Addr()
	}
	fromKey, groupKey := slowKey(sha256.Sum256(from.AsSlice())), sha256.Sum256([]byte(group))
	a := &loginAttempt{pair: sha256.Sum256(slices.Concat(groupKey[:], fromKey[:])), name: sha256.Sum256([]byte(name)), names: &d.locals}
	if from.IsValid() {
		a.names, a.from = &d.names, &fromKey
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		at := now()
		busy := d.ask(a, at)
		switch {
		case a.wait > 0:
			return a
		case busy == nil:
			d.run(a, at)
			return a
		case busy.waiting >= attemptsWaiting || ctx.Err() != nil:
			a.wait = time.Second
			return a
		}
		if busy.ended == nil {
			busy.ended = make(chan struct{})
		}
		ended := busy.ended
		busy.waiting++
		d.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
		}
		d.mu.Lock()
		busy.waiting--
	}
}

// ask fills in how long the attempt has to wait, or returns the tally whose running
// attempts it has to wait for. It makes no tally.
func (d *slowdown) ask(a *loginAttempt, now time.Time) (busy *tally) {
	for _, t := range d.tallies(a, func(h *halves, k slowKey) *tally { return h.look(k, now) }) {
		wait, full := t.wait(now)
		if a.wait = max(a.wait, wait); full {
			busy = t
		}
	}
	return busy
}

// run counts the attempt while it runs.
func (d *slowdown) run(a *loginAttempt, now time.Time) {
	a.running = d.tallies(a, func(h *halves, k slowKey) *tally { return h.ensure(k, now) })
	for _, t := range a.running {
		t.running++
	}
}

// tallies are those that decide about an attempt: that of the group at the source
// alone, if its last login there went well, else those of the name and of the
// source; and where one of several that run at once has failed, all of them.
func (d *slowdown) tallies(a *loginAttempt, find func(*halves, slowKey) *tally) (all []*tally) {
	known := d.known.get(a.pair)
	if known != nil {
		all = append(all, known)
	}
	if known == nil || known.failures > 0 {
		all = append(all, find(a.names, a.name))
		if a.from != nil {
			all = append(all, find(&d.froms, *a.from))
		}
	}
	return all
}

func (d *slowdown) end(a *loginAttempt, result string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range a.running {
		t.running--
		if t.ended != nil {
			close(t.ended)
			t.ended = nil
		}
	}
	switch result {
	case "failed":
		a.names.ensure(a.name, now).fail(now)
		if a.from != nil {
			d.froms.ensure(*a.from, now).fail(now)
		}
		if known := d.known.get(a.pair); known != nil {
			known.failures++
		}
	case "ok":
		if t := a.names.get(a.name); t != nil {
			t.failures, t.until = 0, time.Time{}
		}
		if known := d.known.get(a.pair); known == nil {
			d.known.put(a.pair, new(tally))
		} else {
			known.failures = 0
		}
	}
	if known := d.known.get(a.pair); known != nil && known.failures > 0 && known.running == 0 {
		d.known.delete(a.pair)
	}
	a.names.tidy(a.name)
	if a.from != nil {
		d.froms.tidy(*a.from)
	}
}
