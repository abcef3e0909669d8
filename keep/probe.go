package keep

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// An open keep needs no key service, but the next boot does. So each slot with a
// seal is visited now and then: it is opened as stored, and its key is compared
// with the key that the service would use now. A disabled key or an expired token
// is noticed before the reboot and not after it. A visit also lets a seal renew
// what it has to, such as a transit token.
//
//	at once        after unsealing, and after a reload
//	probeInterval  after that, less a random amount of up to a tenth
//	retryFirst     after a failure, for the slots that failed; doubles up to
//	retryMost      this
//
// Until the first visit has compared a slot's key with the key in force, the slot
// is pending and the keep is not settled: an operator who removes the previous
// key now could be locked out.
//
// A healthy slot is visited 24 to 27 times a day. With awskms a visit costs three
// requests (DescribeKey, Decrypt, DescribeKey), 72 to 81 a day and about 2,400 a
// month; AWS gives 20,000 free. With transit it costs two renewals of the token,
// two encryptions, one decryption and the token's look-ups, under 200 a day.
// vaultkv reads its secret twice. A failing slot gets at most 384 visits a day,
// each of which ends at the first request that fails.
const (
	probeInterval = time.Hour
	retryFirst    = 5 * time.Second
	retryMost     = 5 * time.Minute
)

// Which slots a round visits.
const (
	roundDue = iota // those that failed or were not visited lately
	roundAll
)

// tend visits the slots until the keep ends.
func (k *Keep) tend(u *Unsealed) {
	which, failures, settled := roundAll, 0, false
	for delay := time.Duration(0); ; {
		t := time.NewTimer(delay)
		select {
		case <-t.C:
		case <-u.probing: // a reload: nothing is known about the new seals
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

// round visits slots concurrently. It reports false if some must be visited again
// after retry.
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

// hold reserves a seal's slot for a visit: until release, no race or other visit
// uses the slot, and the seal is not closed. It waits for an attempt of a race that
// is still running. sl is nil if the slot cannot be reserved.
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
// own, says what is wrong nevertheless.
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
		k.log.Warn("a slot opens, but may soon stop doing so", "slot", sl.Name, "type", sl.Type, "warning", warning)
	}
	if healed {
		k.log.Info("a slot opens again", "slot", sl.Name, "type", sl.Type)
	}
	if healed || news || other {
		k.changed()
	}
}
