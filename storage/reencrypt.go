package storage

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// One step of Reencrypt looks at maxScan records and rewrites those of older
// terms among them, in one update of at most maxReencrypt records or
// maxReencryptBytes, so that no other update waits for long.
const (
	maxScan           = 4096
	maxReencrypt      = 256
	maxReencryptBytes = 1 << 20
)

// stale names a record of an older term.
type stale struct {
	key  []byte
	size int
}

// Reencrypt re-encrypts every record of an older term under the newest one, at most
// perSecond records a second, and then forgets the older terms, which leave memory
// when the last View that began before has ended. ctx or a crash may end it at any
// time; the next call continues. progress, if not nil, is called after each step
// with the number of records passed so far. Terms added in the meantime are left to
// the next call.
//
// Once a term is no longer the newest, no commit writes under it. So if one later
// snapshot has no record of that term, no snapshot after it will.
func (s *Store) Reencrypt(ctx context.Context, perSecond int, progress func(passed uint64)) error {
	var target uint32
	if err := s.View(ctx, func(t *Tx) error {
		if len(t.keys.Terms) > 1 {
			target = t.keys.newest().Term
		}
		return nil
	}); err != nil || target == 0 {
		return err
	}
	var passed uint64
	for _, in := range []byte{inData, inBlobs} {
		for from := []byte{}; from != nil; {
			var found []stale
			var n int
			err := s.View(ctx, func(t *Tx) (err error) {
				found, n, from, err = t.stale(in, from, target)
				return err
			})
			if err == nil && len(found) > 0 {
				err = s.Update(ctx, func(t *Tx) error { return t.reencrypt(in, found, target) })
			}
			if err != nil {
				return fmt.Errorf("re-encrypting: %w", err)
			}
			passed += uint64(n)
			if progress != nil {
				progress(passed)
			}
			if !rest(ctx, time.Duration(len(found))*time.Second/time.Duration(max(perSecond, 1))) {
				return ctx.Err()
			}
		}
	}
	return s.retire(ctx, target)
}

func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// stale collects records of terms before target, starting at the key from. It
// returns how many records it passed, and the key at which to continue, or nil at
// the end.
func (t *Tx) stale(in byte, from []byte, target uint32) (found []stale, passed int, next []byte, err error) {
	defer catch(&err, "data")
	tr, err := t.trees.of(bucketOf[in])
	if err != nil {
		return nil, 0, nil, err
	}
	size := 0
	c := cursor{tree: tr}
	for k, rec := c.Seek(from); k != nil; k, rec = c.Next() {
		if passed == maxScan || len(found) == maxReencrypt || size >= maxReencryptBytes {
			return found, passed, bytes.Clone(k), nil
		}
		if err := t.check(); err != nil {
			return nil, 0, nil, err
		}
		passed++
		_, of, _, ok := splitRecord(rec)
		if !ok {
			return nil, 0, nil, corrupt("a record", "%d bytes are too short", len(rec))
		}
		if of < target {
			found = append(found, stale{key: bytes.Clone(k), size: len(rec)})
			size += len(rec)
		}
	}
	return found, passed, nil, c.err
}

// reencrypt rewrites the records that still exist and still have an older term.
func (t *Tx) reencrypt(in byte, found []stale, target uint32) error {
	for _, f := range found {
		rec, err := t.record(in, f.key)
		if err != nil {
			return err
		}
		kind, of, _, ok := splitRecord(rec)
		if !ok || of >= target { // deleted or written meanwhile
			continue
		}
		purpose, where := purposeBlob, ""
		if in == inData {
			purpose = purposeValue
			if where, err = t.keys.decodePath(f.key); err != nil {
				return err
			}
		} else {
			where = chunkName(f.key)
		}
		_, plain, err := t.keys.open(rec, purpose, where)
		if err != nil {
			return err
		}
		if kind == kindPointer {
			purpose = purposePointer
		}
		next, err := t.keys.seal(kind, purpose, where, plain)
		if err == nil {
			err = t.change(in, f.key, next, where, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// retire drops the terms before target if one snapshot has no records of them.
func (s *Store) retire(ctx context.Context, target uint32) error {
	err := s.view(ctx, math.MaxInt64, func(t *Tx) error {
		for _, in := range []byte{inData, inBlobs} {
			used := 0
			if err := t.walk(bucketOf[in], func(_, rec []byte) {
				if _, of, _, ok := splitRecord(rec); !ok || of < target {
					used++
				}
			}); err != nil {
				return err
			}
			if used > 0 {
				return corrupt(string(bucketOf[in]), "%d records of older terms have come back", used)
			}
		}
		return nil
	})
	if err == nil {
		err = s.changeKeyring(ctx, func(_ *trees, old *keyring) (*keyring, error) {
			return old.change(func(j *keyringJSON) {
				j.Terms = slices.DeleteFunc(j.Terms, func(t term) bool { return t.Term < target })
			})
		})
	}
	if err != nil {
		return fmt.Errorf("retiring terms: %w", err)
	}
	return nil
}
