package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// A batch takes half of what waits, and 32 at least: while it is committed, the
// clients of the one before can be answered and the others' requests be read. If
// it took all, everybody would wait for the disk at once, and then the disk for
// everybody.
//
// While maxQueue wait, others are turned away: who waits is served within about
// nine commits, and what waits is bounded.
const (
	minBatch      = 32
	maxBatch      = 256
	maxBatchBytes = 4 << 20
	maxQueue      = 2048
	slowFunction  = 50 * time.Millisecond
)

type patientKey struct{}

// Patient returns a context with which [Store.Update] waits where it would return
// [ErrBusy]: for work that nobody would do again.
func Patient(ctx context.Context) context.Context { return context.WithValue(ctx, patientKey{}, true) }

// update is one call waiting for the committer.
//
// The committer does not run the function: it hands the transaction to the
// caller's goroutine (turn) and waits to get it back. So a panic or a Goexit
// is where it belongs, with its stack, and the committer only has to undo.
type update struct {
	state atomic.Int32 // queued -> taken by the committer, or -> left by the caller
	turn  chan *Tx
	back  chan error // the function's outcome; errAborted for panic and Goexit
	done  chan error // the commit's outcome, capacity 1

	// alone, if set, runs in the committer, in a transaction of its own
	// without other functions. It commits if alone gives a func, which then
	// runs when the commit is durable.
	alone func(*trees) (func(), error)
}

const (
	stateQueued = iota
	stateTaken
	stateLeft
)

var errAborted = errors.New("function did not return")

// Update runs fn in its turn with others, one at a time, each seeing what the
// ones before it wrote, and returns when the commit that holds them is durable
// on disk. An error or a panic of fn undoes what fn wrote, and nothing else. A
// caller whose ctx ends while it waits never runs; once fn has begun, the
// result of the commit is waited for. fn does no I/O and takes microseconds:
// everybody waits for it.
//
// ErrUnknownOutcome: the commit failed. The store recovers by itself. ErrBusy: fn
// did not run; see [Patient].
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) error {
	if ctx.Value(txKey{}) != nil {
		return ErrNested
	}
	u := &update{turn: make(chan *Tx, 1), back: make(chan error, 1), done: make(chan error, 1)}
	if err := s.enqueue(ctx, u); err != nil {
		return err
	}
	left := ctx.Done()
	var t *Tx
	for t == nil {
		select {
		case t = <-u.turn:
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

// alone runs fn in the committer, in its turn.
func (s *Store) alone(ctx context.Context, fn func(*trees) (func(), error)) error {
	u := &update{alone: fn, done: make(chan error, 1)}
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
	var next *update // did not fit in the batch before
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
		if u.alone != nil {
			s.commitAlone(u)
		} else {
			next = s.commitBatch(u)
		}
	}
}

// commitBatch runs u and whatever else waits, commits once, and answers. It
// returns an update that has to be alone and so ended the batch.
func (s *Store) commitBatch(u *update) (next *update) {
	db, keys, err := s.handle()
	if err == nil && keys == nil {
		err = ErrSealed
	}
	if err != nil {
		u.done <- err
		return nil
	}
	return s.runBatch(db, keys, u)
}

func (s *Store) runBatch(db *handle, keys *keyring, u *update) (next *update) {
	ts, err := begin(db)
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
				if u.alone != nil {
					next, u = u, nil
				}
			default:
			}
		}
	}
	if err == nil && d != s.digest {
		err = s.commit(ts, keys, d)
	} else {
		db.rollback(ts.btx)
	}
	if err == nil {
		s.stats.updates.Add(uint64(good))
	}
	for _, u := range ran {
		u.done <- err
	}
	if db.stuck || errors.Is(err, ErrUnknownOutcome) {
		s.recover(db, err)
	}
	return next
}

// runOne hands the transaction over, gets it back with the function's outcome,
// and complains of slow functions.
func (s *Store) runOne(u *update, t *Tx) error {
	began := time.Now()
	u.turn <- t
	err := <-u.back
	if took := time.Since(began); took > slowFunction {
		s.o.Logger.Warn("an update held up all others", "took", took)
	}
	return err
}

// commitAlone runs a function that wants no others beside it.
func (s *Store) commitAlone(u *update) {
	db, keys, err := s.handle()
	if err != nil {
		u.done <- err
		return
	}
	ts, err := begin(db)
	if err != nil {
		u.done <- err
		return
	}
	after, err := runAlone(u, ts)
	switch {
	case err != nil || after == nil:
		db.rollback(ts.btx)
	default:
		if err = s.commit(ts, keys, s.digest); err == nil {
			after()
		}
	}
	u.done <- err
	if db.stuck || errors.Is(err, ErrUnknownOutcome) {
		s.recover(db, err)
	}
}

func runAlone(u *update, ts *trees) (after func(), err error) {
	defer catch(&err, "changing the store")
	return u.alone(ts)
}

// begin begins a transaction that writes, and checks the way to what every
// commit writes.
func begin(db *handle) (ts *trees, err error) {
	defer catch(&err, "beginning transaction")
	btx, err := db.Begin(true)
	if err != nil {
		return nil, fmt.Errorf("beginning transaction: %w", err)
	}
	ts = &trees{h: db, btx: btx}
	if err := ts.checkMeta(); err != nil {
		db.rollback(btx)
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

// commit writes the digest and commits. Whatever goes wrong from here on
// leaves bbolt's handle unusable.
func (s *Store) commit(ts *trees, keys *keyring, d digest) (err error) {
	d.generation++
	rec, err := d.encode(keys)
	if err != nil {
		ts.h.rollback(ts.btx)
		return err
	}
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
		s.digest = d
		s.stats.commits.Add(1)
	}()
	if err := ts.btx.Bucket(bucketMeta).Put(keyDigest, rec); err != nil {
		ts.h.rollback(ts.btx)
		return err
	}
	if err := ts.btx.Commit(); err != nil {
		ts.h.rollback(ts.btx) // if bbolt has not
		return err
	}
	return nil
}

// recover leaves the handle after a failed commit and opens the file anew, as
// the package comment says. It returns when the store can be used again, or is
// closing.
func (s *Store) recover(db *handle, cause error) {
	s.o.Logger.Error("a write to the store failed; reading the file anew", "path", s.path, "error", cause)
	s.mu.Lock()
	s.db = nil
	s.mu.Unlock()
	s.refuseWaiting()
	s.waitViews()
	pages := 2 * db.pageSize // both meta pages
	abandon(db)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := s.reopen(pages)
		if err == nil {
			s.o.Logger.Info("the store is usable again", "path", s.path)
			return
		}
		s.o.Logger.Error("the store cannot be used", "path", s.path, "error", err, "retry_in", wait)
		timer := time.NewTimer(wait)
		for waiting := true; waiting; {
			select {
			case <-timer.C:
				waiting = false
			case u := <-s.queue:
				u.done <- ErrUnavailable
			case <-s.closing:
				timer.Stop()
				return
			}
		}
	}
}

// refuseWaiting answers those that wait while the store recovers.
func (s *Store) refuseWaiting() {
	for {
		select {
		case u := <-s.queue:
			u.done <- ErrUnavailable
		default:
			return
		}
	}
}

// abandon closes a handle of which nothing is believed any more.
func abandon(db *handle) {
	defer func() { _ = recover() }()
	_ = db.close()
}

// reopen opens the file and makes its newest state durable: the kernel may
// hold pages that it failed to write as if they were clean.
func (s *Store) reopen(metaBytes int) error {
	if err := s.openDB(); err != nil {
		return err
	}
	fail := func(err error) error {
		s.mu.Lock()
		db := s.db
		s.db = nil
		s.mu.Unlock()
		s.waitViews()
		abandon(db)
		return err
	}
	if err := rewrite(s.path, metaBytes); err != nil {
		return fail(err)
	}
	if err := s.reload(); err != nil {
		return fail(err)
	}
	return nil
}

// reload takes up the state that the file has now, if the store is unsealed.
func (s *Store) reload() error {
	_, old, err := s.handle()
	if err != nil || old == nil {
		return err
	}
	return s.raw(func(ts *trees) error {
		rec, err := ts.get(bucketMeta, keyKeyring)
		if err != nil {
			return err
		}
		k, err := openKeyring(rec, s.header.UUID, old.root)
		if errors.Is(err, ErrRootKey) && s.nextRoot != nil {
			k, err = openKeyring(rec, s.header.UUID, s.nextRoot)
		}
		if err != nil {
			return err
		}
		return s.setKeys(ts, old, k)
	})
}

// rewrite reads the first n bytes of a file and writes them back, durably.
func rewrite(path string, n int) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("rewriting meta pages: %w", err)
	}
	defer f.Close()
	buf := make([]byte, n)
	if _, err := f.ReadAt(buf, 0); err != nil {
		return fmt.Errorf("rewriting meta pages: %w", err)
	}
	if _, err := f.WriteAt(buf, 0); err != nil {
		return fmt.Errorf("rewriting meta pages: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("rewriting meta pages: %w", err)
	}
	return nil
}
