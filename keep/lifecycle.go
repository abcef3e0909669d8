package keep

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// The race: each slot with a configured seal has a goroutine that tries to open
// the store with it until one slot has opened it or the race is stopped. A slot
// that hangs or fails does not hold up the others.
//
//	attemptTimeout   limit for one call to a key service
//	headStart        how long the best slot runs alone
//	standbyDelay     how long the slots of disabled seals wait for the others
//	maxInterval      longest time between the starts of two attempts: since
//	                 attemptTimeout is shorter, a key service that comes back
//	                 opens the keep within 5 s, however long it was away
//	minPause         shortest time from the end of one attempt to the next
//	unsealWait       how long a request to unseal waits for the outcome
//	turnInterval     shortest time between two turns begun by requests to unseal
const (
	attemptTimeout = 3 * time.Second
	headStart      = 500 * time.Millisecond
	standbyDelay   = headStart + attemptTimeout
	firstInterval  = 500 * time.Millisecond
	maxInterval    = 4 * time.Second
	minPause       = 200 * time.Millisecond
	unsealWait     = 5 * time.Second
	turnInterval   = time.Second
)

// A race is one run of the slots' goroutines.
type race struct {
	stop  context.CancelFunc
	slots int   // that run
	turn  *turn // the latest one; guarded by Keep.mu
}

// A turn is one try of every slot, after which the slots continue on their own.
// A new turn ends the pauses of all slots, but interrupts no attempt: otherwise
// frequent requests could keep a slow key service from ever answering.
type turn struct {
	began   time.Time
	left    int           // slots still to be tried; guarded by Keep.mu
	settled bool          // guarded by Keep.mu
	done    chan struct{} // closed when settled: a slot opened the keep, all were tried, or the race ended
	over    chan struct{} // closed when the next turn begins
}

// turnLocked begins a turn.
func (r *race) turnLocked() {
	if r.turn != nil {
		r.turn.settleLocked()
		close(r.turn.over)
	}
	r.turn = &turn{began: time.Now(), left: r.slots, done: make(chan struct{}), over: make(chan struct{})}
	if r.slots == 0 {
		r.turn.settleLocked()
	}
}

func (t *turn) settleLocked() {
	if !t.settled {
		t.settled = true
		close(t.done)
	}
}

func newSealSet(seals []Seal) *sealSet {
	all := slices.Clone(seals)
	slices.SortStableFunc(all, func(a, b Seal) int { return cmp.Compare(a.Priority(), b.Priority()) })
	return &sealSet{all: all}
}

// startLocked stops the current race and starts a new one, unless the keep is open,
// held, closed or not initialized.
func (k *Keep) startLocked() {
	k.stopLocked()
	if k.closed || k.held || k.store == nil || k.unsealed.Load() != nil {
		return
	}
	ctx, cancel := context.WithCancel(k.ctx)
	var run []*slot
	for _, sl := range k.slots {
		if sl.seal != nil && sl.stored {
			run = append(run, sl)
		}
	}
	r := &race{stop: cancel, slots: len(run)}
	r.turnLocked()
	k.race = r
	if len(run) == 0 {
		k.log.Error("sealed, and no slot of the store has a configured seal",
			"next", "add the seal block that a slot of `sealkeep status` names, then reload; or open a recovery slot with `sealkeep operator unseal -`")
	}
	for i, sl := range run {
		delay := headStart
		switch {
		case i == 0:
			delay = 0
		case sl.seal.Disabled():
			delay = standbyDelay
		}
		k.seals.users.Add(1)
		users := &k.seals.users
		k.work.Go(func() {
			defer users.Done()
			k.run(ctx, r, sl, delay)
		})
	}
}

// stopLocked stops the current race; an attempt in flight ends soon after.
func (k *Keep) stopLocked() {
	if k.race != nil {
		k.race.stop()
		k.race.turn.settleLocked()
	}
}

// run tries one slot until the race ends.
func (k *Keep) run(ctx context.Context, r *race, sl *slot, delay time.Duration) {
	select { // an attempt of an earlier race may still be running
	case sl.busy <- struct{}{}:
		defer func() { <-sl.busy }()
	case <-ctx.Done():
		return
	}
	if !sleep(ctx, delay, nil) {
		return
	}
	var counted *turn
	for n := 0; ; n++ {
		start := time.Now()
		t := k.starting(r, sl)
		class, err := k.attempt(ctx, sl)
		if err == nil || ctx.Err() != nil {
			k.ended(sl, err)
			return
		}
		delay = max(interval(n)-time.Since(start), minPause)
		k.failed(sl, class, err, delay, logEvery)
		if counted != t {
			counted = t
			k.mu.Lock()
			if t.left--; t.left == 0 {
				t.settleLocked()
			}
			k.mu.Unlock()
		}
		if !sleep(ctx, delay, t.over) {
			return
		}
	}
}

// interval returns the time from the start of attempt n (from 0) to the start of
// the next. It doubles up to maxInterval, less a random amount of up to a quarter.
func interval(n int) time.Duration {
	d := min(firstInterval<<min(n, 8), maxInterval)
	return d - rand.N(d/4)
}

// sleep waits for d or until wake is closed. It reports false if ctx ended.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// attempt asks the key service once and opens the keep with the key it returns.
// The class says in one word why the attempt failed.
func (k *Keep) attempt(ctx context.Context, sl *slot) (class string, err error) {
	call, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	done := k.metrics.operation(sl.Name, "unwrap")
	root, err := sl.seal.Unwrap(call, sl.entry.Blob, sl.context)
	done()
	if err != nil {
		return classOf(err), err
	}
	defer clear(root)
	err = k.open(ctx, sl, root)
	switch {
	case errors.Is(err, storage.ErrRootKey):
		return classMismatch, err
	case err != nil:
		return classStore, err
	}
	return "", nil
}

// open unseals the store with the root key and publishes the keep. It does
// nothing if another slot was faster.
func (k *Keep) open(ctx context.Context, by *slot, root []byte) error {
	k.opening.Lock()
	defer k.opening.Unlock()
	k.mu.Lock()
	store := k.store
	k.mu.Unlock()
	if err := ctx.Err(); err != nil { // another slot opened it, or the race was stopped
		return err
	}
	if k.unsealed.Load() != nil {
		return nil
	}
	if err := store.Unseal(root); err != nil {
		return err
	}
	u, err := k.newUnsealed(store)
	if err != nil {
		store.Seal()
		return err
	}
	k.mu.Lock()
	if err := ctx.Err(); err != nil {
		k.mu.Unlock()
		u.abandon()
		store.Seal()
		return err
	}
	k.publishLocked(u, by)
	k.mu.Unlock()
	k.log.Info("unsealed", "slot", by.Name, "type", by.Type, "store", store.UUID(), "fingerprint", store.Fingerprint())
	table, err := store.SlotTable()
	if err != nil {
		k.log.Error("reading the slots failed", "store", store.UUID(), "error", err, "next", hints[classStore])
	}
	for _, name := range table.Quarantined {
		k.log.Warn("a slot in the file is not one that this store made; it is not used",
			"slot", name, "next", "find out who wrote to the file; compare the fingerprint with the one of init")
	}
	k.changed()
	return nil
}

// publishLocked makes the keep serve, then stops the race, so that callers who
// wait for its outcome find the keep open. The store is unsealed, opening is held.
func (k *Keep) publishLocked(u *Unsealed, by *slot) {
	k.unsealed.Store(u)
	lifter := "init"
	if by != nil {
		lifter = "slot " + by.Name
	}
	k.liftLocked(lifter)
	k.stopLocked()
	k.arrangeLocked()
	for _, sl := range k.slots {
		if by == nil && sl.stored { // init has just wrapped and opened it
			sl.KeyInForce = sl.KeyID
			sl.settleLocked()
		}
		if by != nil && sl.Name == by.Name && sl.Type == by.Type && (sl.stored || sl.State == SlotRecovery) {
			sl.FailedSince, sl.logged = time.Time{}, ""
			sl.LastOpened, sl.Opener = k.now(), true
			if sl.settleLocked(); sl.seal == nil {
				sl.State = SlotOpened // people open it: its key is always the one in force
			}
		}
	}
	k.work.Go(u.Purge)
	k.work.Go(func() { k.tend(u) })
	k.work.Go(func() { k.rotation(u) })
	k.work.Go(func() { k.scrub(u) })
	k.work.Go(u.Sweep)
	k.work.Go(func() { u.Audit.Run(u.ctx, u.Store) })
}

// Seal seals the keep and holds it sealed until the process is restarted, people
// open it, or [Keep.Unseal] is called. It waits for running transactions, which end
// within the store's ViewTimeout.
func (k *Keep) Seal() {
	if err := k.seal(false); err != nil {
		k.log.Warn("the next start will not tell that the keep was sealed by request", "error", err)
	}
}

// SealAndKeep is like Seal, but a restart does not lift the hold. If it returns an
// error, the keep is sealed, but a restart will lift the hold.
func (k *Keep) SealAndKeep() error { return k.seal(true) }

func (k *Keep) seal(keep bool) error {
	k.unsealing.reset()
	k.opening.Lock()
	k.mu.Lock()
	k.held, k.keepHeld = true, keep
	k.stopLocked()
	k.mu.Unlock()
	if k.drop() {
		k.log.Warn("sealed by request", "over_restarts", keep, "next", holdWays)
	}
	err := k.writeHold(keep)
	k.mu.Lock()
	k.keepHeld = keep && err == nil
	k.arrangeLocked()
	k.mu.Unlock()
	k.opening.Unlock()
	k.changed()
	return err
}

// drop withdraws the open instance and seals the store; opening is held.
func (k *Keep) drop() bool {
	u := k.unsealed.Swap(nil)
	if u == nil {
		return false
	}
	u.end()
	u.Audit.Save(u.Store)
	u.Store.Seal()
	k.opening.oldAudit = u.Audit
	k.work.Go(u.Audit.Close) // waits until the answers of running requests are recorded
	return true
}

// Unseal lifts the hold of [Keep.Seal], tries all slots at once and waits for
// the outcome, at most 5 s. The error is [ErrNotInitialized], [api.ErrSealed] for
// a store that cannot be opened, or the error of ctx. [Keep.Status] says whether
// the keep is open afterwards.
func (k *Keep) Unseal(ctx context.Context) error { return k.unseal(ctx, true) }

// unseal is Unseal, but unless lift is set it returns errHeld for a held keep.
func (k *Keep) unseal(ctx context.Context, lift bool) error {
	limited, cancel := context.WithTimeout(ctx, unsealWait)
	defer cancel()
	for {
		done, pause, err := k.nextTurn(lift)
		if err != nil {
			return err
		}
		if pause > 0 && sleep(limited, pause, nil) {
			continue
		}
		select {
		case <-done:
		case <-limited.Done():
		}
		return ctx.Err()
	}
}

// nextTurn begins a turn, or joins one that began only recently, and returns a
// channel that is closed when the turn settles. If a recent turn has already
// settled, nextTurn also returns how long to wait before calling it again.
func (k *Keep) nextTurn(lift bool) (done <-chan struct{}, pause time.Duration, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.damage != nil:
		return nil, 0, api.ErrSealed
	case k.store == nil:
		return nil, 0, ErrNotInitialized
	case k.held && !lift:
		return nil, 0, errHeld
	case k.unsealed.Load() == nil && (k.held || k.race == nil):
		if k.held {
			k.liftLocked("operator")
		}
		k.startLocked()
	}
	if k.race == nil || k.unsealed.Load() != nil || k.closed { // nothing to wait for
		now := make(chan struct{})
		close(now)
		return now, 0, nil
	}
	t := k.race.turn
	if age := time.Since(t.began); age >= turnInterval {
		k.race.turnLocked()
	} else if t.settled {
		pause = turnInterval - age
	}
	return k.race.turn.done, pause, nil
}
