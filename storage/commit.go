package storage

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
)

// A batch takes half of the waiting updates, and at least 32. While it is being
// committed, the clients of the previous batch are answered and new requests are
// read. If it took all, the clients would all wait for the disk, and then the disk
// would wait for the clients.
//
// While maxQueue updates wait, further ones are turned away, so that the queue is
// bounded and an update in it is served within about nine commits.
const (
	minBatch      = 32
	maxBatch      = 256
	maxBatchBytes = 4 << 20
	maxQueue      = 2048
	slowFunction  = 50 * time.Millisecond
	lateTurn      = 250 * time.Millisecond // wait for a turn after which the caller may be waiting for itself
)

type patientKey struct{}

// Patient returns a context with which [Store.Update] waits instead of returning
// [ErrBusy]. It is for work that nobody would retry.
func Patient(ctx context.Context) context.Context { return context.WithValue(ctx, patientKey{}, true) }

// update is one call waiting for the committer.
//
// The committer does not run the function: it hands the transaction to the
// caller's goroutine (turn) and waits to get it back. So a panic or a Goexit
// happens in that goroutine, with its stack, and the committer only has to undo.
type update struct {
	state atomic.Int32 // queued -> taken by the committer, or -> left by the caller
	turn  chan *Tx
	back  chan error // the function's outcome; errAborted for panic and Goexit
	done  chan error // the commit's outcome, capacity 1

	// alone, if set, runs in the committer, in a transaction of its own
	// without other functions. It commits if alone returns an effect.
	alone func(*trees) (*effect, error)

	// direct, if set, runs in the committer, with no transaction.
	direct func(*handle) error
}

// effect is what a commit changes besides the records.
type effect struct {
	digest digest
	keys   *keyring // the new keyring; nil: no change
}

const (
	stateQueued = iota
	stateTaken
	stateLeft
)

var errAborted = errors.New("function did not return")

// Update runs fn in its turn and returns when the commit that holds its writes is
// durable on disk. Functions run one at a time, and each sees what the ones before
// it wrote. An error or a panic of fn undoes what fn wrote, and nothing else. If
// ctx ends while fn waits for its turn, fn never runs; once fn has begun, Update
// waits for the result of the commit. fn does no I/O and takes microseconds, since
// all other updates wait for it.
//
// fn may run more than once, each time in a transaction without the writes of the
// run before; the last run counts. So fn must have no effect outside its
// transaction except to assign its results: it must not append to a result, log or
// notify. The tests check this: with the build tag rehearse every function runs
// twice.
//
// ErrUnknownOutcome: the commit failed. The store recovers on its own. ErrBusy: fn
// did not run; see [Patient].
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) error {
	if rehearse {
		err := s.update(ctx, func(tx *Tx) error {
			if err := fn(tx); err != nil {
				return fmt.Errorf("%w: %w", errRehearsed, err)
			}
			return errRehearsed
		})
		if !errors.Is(err, errRehearsed) {
			return err
		}
	}
	return s.update(ctx, fn)
}

var errRehearsed = errors.New("rehearsed")

func (s *Store) update(ctx context.Context, fn func(*Tx) error) error {
	if ctx.Value(txKey{}) != nil {
		return ErrNested
	}
	if err := s.writable(ctx); err != nil {
		return err
	}
	u := &update{turn: make(chan *Tx, 1), back: make(chan error, 1), done: make(chan error, 1)}
	if err := s.enqueue(ctx, u); err != nil {
		return err
	}
	left := ctx.Done()
	late := time.NewTimer(lateTurn)
	defer late.Stop()
	var t *Tx
	for t == nil {
		select {
		case t = <-u.turn:
		case <-late.C:
			if nested() && u.state.CompareAndSwap(stateQueued, stateLeft) {
				return ErrNested
			}
		case err := <-u.done: // sealed, or recovering
			return err
		case <-s.done:
			return ErrClosed
		case <-left:
			if u.state.CompareAndSwap(stateQueued, stateLeft) {
				return ctx.Err()
			}
			left = nil // its turn has come
		}
	}
	t.ctx = ctx
	err := u.run(t, fn)
	if cerr := <-u.done; cerr != nil && (err == nil || errors.Is(cerr, ErrUnknownOutcome)) {
		return cerr
	}
	return err
}

// run runs fn in the caller's goroutine and gives the transaction back.
func (u *update) run(t *Tx, fn func(*Tx) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	err = errAborted
	defer func() {
		t.ended = true
		u.back <- err
	}()
	return fn(t)
}

// nested reports whether the calling goroutine runs a function of an Update.
// That update's turn ends only when the function returns.
func nested() bool {
	pcs := make([]uintptr, 256)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.Function, "/storage.(*update).run") {
			return true
		}
		if !more {
			return false
		}
	}
}

// alone runs fn in the committer, in its turn. It does not wait until the store
// is writable; see writable.
func (s *Store) alone(ctx context.Context, fn func(*trees) (*effect, error)) error {
	return s.inTurn(ctx, &update{alone: fn, done: make(chan error, 1)})
}

// direct runs fn in the committer, in its turn.
func (s *Store) direct(ctx context.Context, fn func(*handle) error) error {
	return s.inTurn(ctx, &update{direct: fn, done: make(chan error, 1)})
}

// inTurn waits for the committer. It refuses calls from a function of an Update,
// for which the committer itself is waiting.
func (s *Store) inTurn(ctx context.Context, u *update) error {
	if nested() {
		return ErrNested
	}
	if err := s.enqueue(Patient(ctx), u); err != nil {
		return err
	}
	select {
	case err := <-u.done:
		return err
	case <-s.done:
	}
	select {
	case err := <-u.done: // answered just before the end
		return err
	default:
		return ErrClosed
	}
}

func (s *Store) enqueue(ctx context.Context, u *update) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.queue <- u:
		return nil
	default:
		if ctx.Value(patientKey{}) == nil {
			s.stats.refused.Add(1)
			return ErrBusy
		}
	}
	select {
	case s.queue <- u:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return ErrClosed
	}
}

// commitLoop is the committer. It ends when the store closes and the queue is
// empty.
func (s *Store) commitLoop() {
	debug.SetPanicOnFault(true)
	defer close(s.done)
	var next *update // did not fit in the previous batch
	for {
		u := next
		next = nil
		if u == nil {
			select {
			case u = <-s.queue:
			case <-s.closing:
				select {
				case u = <-s.queue:
				default:
					return
				}
			}
		}
		switch {
		case u.direct != nil:
			s.runDirect(u)
		case u.alone != nil:
			s.commitAlone(u)
		default:
			next = s.commitBatch(u)
		}
	}
}

// commitBatch runs u and other waiting updates, commits once, and answers them. It
// returns the update that did not fit or must run alone, and so ended the batch.
func (s *Store) commitBatch(u *update) (next *update) {
	st, err := s.usable()
	switch {
	case err != nil:
	case st.keys == nil:
		err = ErrSealed
	case !st.h.proven.Load(): // it was reopened while u waited
		err = ErrUnavailable
	}
	if err != nil {
		u.done <- err
		return nil
	}
	return s.runBatch(st.h, st.keys, u)
}

func (s *Store) runBatch(h *handle, keys *keyring, u *update) (next *update) {
	ts, err := begin(h)
	if err != nil {
		u.done <- err
		return nil
	}
	var ran []*update // all get the commit's outcome
	d, good, size, written := s.digest, 0, 0, make(map[string]struct{}, minBatch)
	limit := min(max(minBatch, len(s.queue)/2), maxBatch)
	for n := 1; u != nil && err == nil; n++ {
		if u.state.CompareAndSwap(stateQueued, stateTaken) {
			t := &Tx{keys: keys, btx: ts.btx, trees: ts, store: s, write: &writes{digest: d, keys: written}}
			ran = append(ran, u)
			ferr := s.runOne(u, t)
			switch {
			case t.write.broken != nil:
				err = t.write.broken
			case ferr != nil:
				err = t.revert()
			default:
				good++
				d = t.write.digest
			}
			size += t.write.bytes
		}
		u = nil
		if err == nil && n < limit && size < maxBatchBytes {
			select {
			case u = <-s.queue:
				if u.turn == nil {
					next, u = u, nil
				}
			default:
			}
		}
	}
	changed := d != s.digest
	if err == nil && changed {
		err = s.commit(ts, keys, &effect{digest: d})
	} else {
		h.rollback(ts.btx)
	}
	if err == nil {
		s.stats.updates.Add(uint64(good))
	}
	for _, u := range ran {
		u.done <- err
	}
	s.afterCommit(h, err, changed)
	return next
}

// afterCommit keeps the free list short, and replaces a handle that must not be
// used any more.
func (s *Store) afterCommit(h *handle, err error, committed bool) {
	if err == nil && committed {
		if err = h.tidyList(); err != nil {
			s.o.Logger.Error("the list of free pages could not be kept short", "path", s.path, "error", err)
		}
	}
	if h.stuck || errors.Is(err, ErrUnknownOutcome) {
		s.recover(h, err)
	}
}

// runOne hands the transaction over, gets it back with the function's outcome,
// and logs slow functions.
func (s *Store) runOne(u *update, t *Tx) error {
	began := time.Now()
	u.turn <- t
	err := <-u.back
	if took := time.Since(began); took > slowFunction {
		s.o.Logger.Warn("an update held up all others", "took", took)
	}
	return err
}

// commitAlone runs a function that must be alone in its commit.
func (s *Store) commitAlone(u *update) {
	st, err := s.usable()
	if err != nil {
		u.done <- err
		return
	}
	ts, err := begin(st.h)
	if err != nil {
		u.done <- err
		return
	}
	e, err := runAlone(u, ts)
	if err == nil && e != nil && !st.h.proven.Load() {
		err = ErrUnavailable
	}
	changed := err == nil && e != nil
	if changed {
		err = s.commit(ts, st.keys, e)
	} else {
		st.h.rollback(ts.btx)
	}
	u.done <- err
	s.afterCommit(st.h, err, changed)
}

func runAlone(u *update, ts *trees) (e *effect, err error) {
	defer catch(&err, "changing the store")
	return u.alone(ts)
}

func (s *Store) runDirect(u *update) {
	st, err := s.usable()
	if err != nil {
		u.done <- err
		return
	}
	err = u.direct(st.h)
	u.done <- err
	s.afterCommit(st.h, err, false)
}

// begin begins a write transaction, and checks the pages on the way to what every
// commit writes.
func begin(h *handle) (ts *trees, err error) {
	defer catch(&err, "beginning transaction")
	btx, err := h.Begin(true)
	if err != nil {
		return nil, fmt.Errorf("beginning transaction: %w", err)
	}
	ts = &trees{h: h, btx: btx, whole: make(map[uint64]struct{})}
	if err := ts.checkMeta(); err != nil {
		h.rollback(btx)
		return nil, err
	}
	return ts, nil
}

func (s *trees) checkMeta() (err error) {
	defer catch(&err, "meta")
	meta, err := s.of(bucketMeta)
	if err != nil {
		return err
	}
	for _, key := range [][]byte{keyHeader, keyKeyring, keyDigest} {
		if _, err := meta.get(key); err != nil {
			return err
		}
	}
	return s.freeList()
}

// commit writes the digest and commits. keys is the keyring of the previous state,
// or nil while sealed, when there is no digest to write. After any error from here
// on bbolt's handle is unusable.
func (s *Store) commit(ts *trees, keys *keyring, e *effect) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
			ts.h.rollback(ts.btx)
		}
		if err != nil {
			s.stats.failures.Add(1)
			err = fmt.Errorf("%w: committing: %w", ErrUnknownOutcome, err)
			return
		}
		s.digest = e.digest
		s.stats.commits.Add(1)
	}()
	if keys != nil {
		e.digest.generation++
		rec, err := e.digest.encode(keys)
		if err == nil {
			err = ts.btx.Bucket(bucketMeta).Put(keyDigest, rec)
		}
		if err != nil {
			ts.h.rollback(ts.btx)
			return err
		}
	}
	id := uint64(ts.btx.ID())
	if e.keys != nil { // readers see the commit before it returns
		s.change(func(st *state) {
			if st.keys == keys {
				st.next, st.nextID = e.keys, id
			}
		})
	}
	if err := ts.btx.Commit(); err != nil {
		ts.h.rollback(ts.btx) // if bbolt has not
		return err
	}
	if e.keys != nil {
		s.change(func(st *state) { st.install(keys, e.keys, id) })
	}
	return nil
}

// install replaces old with k, which transaction id stored, as the keyring in use,
// unless the store was sealed in the meantime.
func (st *state) install(old, k *keyring, id uint64) {
	if st.keys != old {
		k.wipe()
		return
	}
	for _, gone := range []*keyring{old, st.next} {
		if gone != nil && gone.RootGeneration != k.RootGeneration {
			clear(gone.root)
		}
	}
	st.keys, st.from, st.next, st.nextID = k, id, nil, 0
}
