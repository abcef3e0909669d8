package storage

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A snapshot and its keyring are of one moment: while barrier keys, slots and the
// root key change without pause, no reader sees a record of a term, or a slot,
// that its keyring does not know, or the reverse.
//
// SEALKEEP_LONG=1 makes it a minute.
func TestReadersSeeASnapshotWithItsKeyring(t *testing.T) {
	for_ := 2 * time.Second
	if os.Getenv("SEALKEEP_LONG") != "" {
		for_ = time.Minute
	}
	s, root := newStore(t, testSlot("a", 1))
	for i := range 20 {
		put(t, s, fmt.Sprintf("k/%d", i), "v")
	}
	ctx := t.Context()
	until := time.Now().Add(for_)
	var wg sync.WaitGroup
	var reads, checks, tables, changes atomic.Uint64
	loop := func(counter *atomic.Uint64, fn func(n int) error) {
		wg.Go(func() {
			for n := 0; time.Now().Before(until); n++ {
				if err := fn(n); err != nil {
					t.Error(err)
					return
				}
				counter.Add(1)
			}
		})
	}
	for range 4 {
		loop(&reads, func(n int) error {
			if v, err := get(s, fmt.Sprintf("k/%d", n%20)); err != nil || len(v) == 0 {
				return fmt.Errorf("read %q: %w", v, err)
			}
			return nil
		})
	}
	loop(&tables, func(int) error {
		table, err := s.SlotTable()
		if err != nil || len(table.Missing)+len(table.Quarantined) > 0 || len(table.Trusted) < 1 {
			return fmt.Errorf("slots %+v: %w", table, err)
		}
		return nil
	})
	loop(&checks, func(int) error {
		if r, err := s.Check(ctx); err != nil || !r.OK() {
			return fmt.Errorf("check: %v: %w", r.Damage, err)
		}
		return nil
	})
	generation := uint64(1)
	loop(&changes, func(n int) error {
		switch n % 4 {
		case 0:
			return errors.Join(s.Rotate(ctx), s.Reencrypt(ctx, math.MaxInt32, nil))
		case 1:
			return s.PutSlot(ctx, testSlot("b", generation))
		case 2:
			return s.RemoveSlot(ctx, "b")
		}
		generation++
		root = NewRootKey()
		return s.RotateRoot(ctx, root, []Slot{testSlot("a", generation)})
	})
	loop(new(atomic.Uint64), func(n int) error { // other writers, so that pages are freed and used again
		return s.Update(ctx, func(tx *Tx) error { return tx.Put(fmt.Sprintf("k/%d", n%20), []byte("v")) })
	})
	wg.Wait()
	t.Logf("%d changes of the keyring, %d reads, %d slot tables, %d checks", changes.Load(), reads.Load(), tables.Load(), checks.Load())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s.Path(), root)
	if r, err := s.Check(ctx); err != nil || !r.OK() {
		t.Errorf("at the end: %v %v", r.Damage, err)
	}
}
