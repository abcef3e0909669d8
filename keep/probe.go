package keep

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
func (k *Keep) tend(u *Unsealed) {
	which, failures, settled := roundAll, 0, false
	for delay := time.Duration(0); ; {
		t := time.NewTimer(delay)
		select {
		case <-t.C:
		case <-u.probing: // a reload: nothing is known of the new seals
			which, failures, settled = roundAll, 0, false
		case <-u.ctx.Done():
		}
		t.Stop()
		if u.ctx.Err() != nil {
			return
		}
		retry := min(retryFirst<<min(failures, 16), retryMost)
		retry -= rand.N(retry / 4)
		switch done := k.round(u, which, retry); {
		case !done:
			delay, failures = retry, failures+1
		default:
			delay, failures = probeInterval-rand.N(probeInterval/10), 0
		}
		which = roundDue
		if !settled && k.Status().Settled {
			settled = true
			k.log.Info("settled: what the configuration says has its slots, on the keys in force")
		}
	}
}

// wakeVisits has all slots visited at once.
func (u *Unsealed) wakeVisits() {
	select {
	case u.probing <- struct{}{}:
	default:
	}
}

// round visits slots, side by side. It reports false when some are to be visited
// again, after retry.
func (k *Keep) round(u *Unsealed, which int, retry time.Duration) bool {
	ctx, cancel := context.WithCancel(u.ctx)
	defer cancel()
	var due []Seal
	k.mu.Lock()
	u.stopRound = cancel
	for _, sl := range k.slots {
		switch {
		case sl.seal == nil:
		case sl.gets != byItself:
			if which != roundDue {
				k.log.Warn("a seal gets no slot", "slot", sl.Name, "type", sl.Type, "reason", sl.Error, "next", sl.Hint)
			}
		case which == roundDue && k.now().Sub(sl.visited) < probeInterval/2:
		default:
			due = append(due, sl.seal)
		}
	}
	k.mu.Unlock()
	var all atomic.Bool
	all.Store(true)
	var wait sync.WaitGroup
	for _, seal := range due {
		wait.Go(func() {
			if !k.visit(ctx, u, seal, retry) {
				all.Store(false)
			} else if sl := k.slotOf(seal); sl != nil {
				k.mu.Lock()
				sl.visited = k.now()
				k.mu.Unlock()
			}
		})
	}
	wait.Wait()
	if err := k.reconcileRecovery(ctx); err != nil && ctx.Err() == nil {
		k.log.Error("wrapping the root key for the recipients of the configuration failed, will try again", "error", err)
		return false
	}
	return all.Load()
}

// hold takes a seal for a visit: nobody else asks it for its slot's sake, and it
// is not closed, until release. An attempt of a race that is still out is waited
// for. There is no slot when it cannot be had.
func (k *Keep) hold(ctx context.Context, seal Seal) (sl *slot, release func()) {
	k.mu.Lock()
	sl = k.slotOfLocked(seal)
	if sl == nil {
		k.mu.Unlock()
		return nil, nil
	}
	busy, users := sl.busy, &k.seals.users
	users.Add(1)
	k.mu.Unlock()
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
	k.mu.Lock()
	defer k.mu.Unlock()
	if sl = k.slotOfLocked(seal); sl == nil { // replaced meanwhile
		release()
		return nil, nil
	}
	sl.Attempts++
	sl.LastAttempt, sl.NextAttempt = k.now(), time.Time{}
	return sl, release
}

// passed notes that the slot of a seal opened. The warning, or else the seal's
// own, tells what is wrong all the same.
func (k *Keep) passed(seal Seal, warning string) {
	k.mu.Lock()
	sl := k.slotOfLocked(seal)
	if sl == nil {
		k.mu.Unlock()
		return
	}
	healed, before := !sl.FailedSince.IsZero(), sl.State
	sl.settleLocked()
	sl.FailedSince, sl.NextAttempt, sl.logged = time.Time{}, time.Time{}, ""
	sl.LastOpened = k.now()
	if warning == "" {
		if w, ok := sl.seal.(interface{ Warning() string }); ok {
			warning = w.Warning()
		}
	}
	news := warning != sl.Warning
	other := sl.State != before
	sl.Warning = warning
	k.metrics.attempts.WithLabelValues(sl.Name, "ok").Inc()
	k.mu.Unlock()
	if news && warning != "" {
		k.log.Warn("a slot opens, but may not for long", "slot", sl.Name, "type", sl.Type, "warning", warning)
	}
	if healed {
		k.log.Info("a slot opens again", "slot", sl.Name, "type", sl.Type)
	}
	if healed || news || other {
		k.changed()
	}
}
