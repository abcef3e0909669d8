package server

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// While the keep is open it needs no key service; but the next boot does. So
// each slot that has a seal is visited now and then: opened as it stands in the
// file, and compared with the key that the service would use now. A key that was
// disabled or a token that has ended shows before the reboot and not after. This
// also keeps alive what a seal has to keep alive, such as a transit token.
//
//	at once        after unsealing, and after a reload
//	probeInterval  then; up to a tenth is taken off by chance
//	retryFirst     when something has failed, for what has; it doubles up to
//	retryMost      that
//
// Until the first visit has compared a slot's key with the one in force, the slot
// is pending, and the keep is not settled: an operator who took the previous key
// away now might be locked out.
//
// A healthy slot is visited 24 to 27 times a day. With awskms a visit is three
// requests (DescribeKey and Decrypt, then DescribeKey), 72 to 81 a day and about
// 2,400 a month, where AWS gives 20,000; with transit it is two renewals
// of the token, two encryptions, one decryption and its look-ups, under 200 a
// day; vaultkv reads its secret twice. A slot that fails takes at most 384 visits
// a day, which end at the first request that fails.
const (
	probeInterval = time.Hour
	retryFirst    = 5 * time.Second
	retryMost     = 5 * time.Minute
)

// Which slots a round visits.
const (
	roundDue = iota // those that were not visited lately, or have failed
	roundAll
)

// tend visits the slots until the keep ends.
func (s *Server) tend(k *keep) {
	which, failures, settled := roundAll, 0, false
	for delay := time.Duration(0); ; {
		t := time.NewTimer(delay)
		select {
		case <-t.C:
		case <-k.probing: // a reload: nothing is known of the new seals
			which, failures, settled = roundAll, 0, false
		case <-k.ctx.Done():
		}
		t.Stop()
		if k.ctx.Err() != nil {
			return
		}
		retry := min(retryFirst<<min(failures, 16), retryMost)
		retry -= rand.N(retry / 4)
		switch done := s.round(k, which, retry); {
		case !done:
			delay, failures = retry, failures+1
		default:
			delay, failures = probeInterval-rand.N(probeInterval/10), 0
		}
		which = roundDue
		if !settled && s.Status().Settled {
			settled = true
			s.log.Info("settled: what the configuration says has its slots, on the keys in force")
		}
	}
}

// wakeVisits has all slots visited at once.
func (k *keep) wakeVisits() {
	select {
	case k.probing <- struct{}{}:
	default:
	}
}

// round visits slots, side by side. It reports false when some are to be visited
// again, after retry.
func (s *Server) round(k *keep, which int, retry time.Duration) bool {
	ctx, cancel := context.WithCancel(k.ctx)
	defer cancel()
	var due []Seal
	s.mu.Lock()
	k.stopRound = cancel
	for _, sl := range s.slots {
		switch {
		case sl.seal == nil:
		case sl.gets != byItself:
			if which != roundDue {
				s.log.Warn("a seal gets no slot", "slot", sl.Name, "type", sl.Type, "reason", sl.Error, "next", sl.Hint)
			}
		case which == roundDue && s.now().Sub(sl.visited) < probeInterval/2:
		default:
			due = append(due, sl.seal)
		}
	}
	s.mu.Unlock()
	var all atomic.Bool
	all.Store(true)
	var wait sync.WaitGroup
	for _, seal := range due {
		wait.Go(func() {
			if !s.visit(ctx, k, seal, retry) {
				all.Store(false)
			} else if sl := s.slotOf(seal); sl != nil {
				s.mu.Lock()
				sl.visited = s.now()
				s.mu.Unlock()
			}
		})
	}
	wait.Wait()
	if err := s.reconcileRecovery(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("wrapping the root key for the recipients of the configuration failed, will try again", "error", err)
		return false
	}
	return all.Load()
}

// hold takes a seal for a visit: nobody else asks it for its slot's sake, and it
// is not closed, until release. An attempt of a race that is still out is waited
// for. There is no slot when it cannot be had.
func (s *Server) hold(ctx context.Context, seal Seal) (sl *slot, release func()) {
	s.mu.Lock()
	sl = s.slotOfLocked(seal)
	if sl == nil {
		s.mu.Unlock()
		return nil, nil
	}
	busy, users := sl.busy, &s.seals.users
	users.Add(1)
	s.mu.Unlock()
	select {
	case busy <- struct{}{}:
	case <-ctx.Done():
		users.Done()
		return nil, nil
	}
	release = func() {
		<-busy
		users.Done()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl = s.slotOfLocked(seal); sl == nil { // replaced meanwhile
		release()
		return nil, nil
	}
	sl.Attempts++
	sl.LastAttempt, sl.NextAttempt = s.now(), time.Time{}
	return sl, release
}

// passed notes that the slot of a seal opened. The warning, or else the seal's
// own, tells what is wrong all the same.
func (s *Server) passed(seal Seal, warning string) {
	s.mu.Lock()
	sl := s.slotOfLocked(seal)
	if sl == nil {
		s.mu.Unlock()
		return
	}
	healed, before := !sl.FailedSince.IsZero(), sl.State
	sl.settleLocked()
	sl.FailedSince, sl.NextAttempt, sl.logged = time.Time{}, time.Time{}, ""
	sl.LastOpened = s.now()
	if warning == "" {
		if w, ok := sl.seal.(interface{ Warning() string }); ok {
			warning = w.Warning()
		}
	}
	news := warning != sl.Warning
	other := sl.State != before
	sl.Warning = warning
	s.metrics.attempts.WithLabelValues(sl.Name, "ok").Inc()
	s.mu.Unlock()
	if news && warning != "" {
		s.log.Warn("a slot opens, but may not for long", "slot", sl.Name, "type", sl.Type, "warning", warning)
	}
	if healed {
		s.log.Info("a slot opens again", "slot", sl.Name, "type", sl.Type)
	}
	if healed || news || other {
		s.changed()
	}
}
