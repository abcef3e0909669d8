package storage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"time"
)

// Report is what Check found.
type Report struct {
	Generation uint64 // of the checked state
	Values     int    // that authenticate
	Chunks     int    // of blobs, that authenticate
	Damage     []error
	More       int // damage beyond the first 100
}

// OK reports whether nothing was found.
func (r Report) OK() bool { return len(r.Damage) == 0 }

func (r *Report) add(err error) {
	if len(r.Damage) < 100 {
		r.Damage = append(r.Damage, err)
	} else {
		r.More++
	}
}

// Check authenticates every record of one snapshot in its place and compares the
// digest, so the report has everything damaged, missing, added or replayed. It
// also verifies the list of free pages of a later snapshot. It reads the whole
// store, and ViewTimeout does not apply to it: it ends with ErrSealed or
// ErrUnavailable when the store is sealed or reopened.
func (s *Store) Check(ctx context.Context) (r Report, err error) {
	err = s.view(ctx, math.MaxInt64, func(t *Tx) error {
		want, err := t.storedDigest()
		if err != nil {
			r.add(err)
		}
		r.Generation = want.generation
		if err := t.checkSlots(&r); err != nil {
			return err
		}
		var got digest
		if err := t.checkValues(&r, &got); err != nil {
			return err
		}
		if err := t.checkChunks(&r, &got); err != nil {
			return err
		}
		switch {
		case got.records != want.records:
			r.add(corrupt("digest", "%d records where the last commit left %d", got.records, want.records))
		case got.sum != want.sum:
			r.add(corrupt("digest", "the records are not those that the last commit left: one was replaced by an older one"))
		}
		return nil
	})
	if err == nil {
		err = s.checkList(ctx)
	}
	if errors.Is(err, ErrCorrupt) {
		r.add(err) // the walk itself could not continue
		err = nil
	}
	if err != nil {
		return r, fmt.Errorf("checking store: %w", err)
	}
	return r, nil
}

// checkList verifies the free list of one snapshot, as before the first write.
func (s *Store) checkList(ctx context.Context) error {
	for {
		err := s.view(ctx, math.MaxInt64, func(t *Tx) (err error) {
			defer catch(&err, "pages")
			h, txid := t.trees.h, uint64(t.btx.ID())
			data, err := h.upTo(int(t.btx.Size()))
			if err != nil {
				return err
			}
			m, err := metaOf(data, h.pageSize, txid)
			var l freeList
			if err == nil {
				l, err = readList(data, &m)
			}
			for page := range 2 {
				if m, ok := parseMeta(data[page*h.pageSize:]); ok && m.txid > txid {
					return errLater
				}
			}
			if err != nil {
				return err
			}
			used, err := reachable(h.file, &m, t.check)
			if err == nil {
				err = l.claim(used)
			}
			return err
		})
		if err != errLater {
			return err
		}
	}
}

// errLater: another commit came before the free list of a snapshot was read, and
// may have overwritten it.
var errLater = errors.New("there is a later commit")

func (t *Tx) checkSlots(r *Report) (err error) {
	defer catch(&err, "slots")
	slots, err := t.trees.of(bucketSlots)
	if err != nil {
		return err
	}
	strange, err := t.keys.quarantine(slots)
	if err != nil {
		return err
	}
	for _, name := range strange {
		r.add(corrupt("slot "+quote(name), "not the one that the keyring knows"))
	}
	for _, e := range t.keys.Slots {
		if rec, err := slots.get([]byte(e.Name)); err != nil {
			return err
		} else if rec == nil {
			r.add(corrupt("slot "+quote(e.Name), "is missing"))
		}
	}
	return nil
}

func (t *Tx) checkValues(r *Report, d *digest) error {
	return t.walk(bucketData, func(k, rec []byte) {
		d.add(t.keys, inData, k, rec)
		path, err := t.keys.decodePath(k)
		if err == nil {
			var kind byte
			var p []byte
			if kind, p, err = t.keys.open(rec, purposeValue, path); err == nil && kind == kindPointer {
				err = t.checkPointer(path, p)
			}
		}
		if err != nil {
			r.add(err)
			return
		}
		r.Values++
	})
}

func (t *Tx) checkPointer(path string, p []byte) error {
	b, ok := decodeBlob(p)
	if !ok {
		return corrupt("pointer "+quote(path), "malformed")
	}
	used, whole, err := t.blobState(b)
	if err == nil && !(used && whole) {
		err = corrupt("pointer "+quote(path), "blob %x is missing", b.ID)
	}
	return err
}

func (t *Tx) checkChunks(r *Report, d *digest) error {
	return t.walk(bucketBlobs, func(k, rec []byte) {
		d.add(t.keys, inBlobs, k, rec)
		if len(k) != 20 {
			r.add(corrupt("blobs", "malformed key %x", k))
			return
		}
		if _, _, err := t.keys.open(rec, purposeBlob, chunkName(k)); err != nil {
			r.add(err)
			return
		}
		r.Chunks++
	})
}

// walk calls fn for every record of a bucket, in order.
func (t *Tx) walk(bucket []byte, fn func(k, rec []byte)) (err error) {
	defer catch(&err, string(bucket))
	tr, err := t.trees.of(bucket)
	if err != nil {
		return err
	}
	c := cursor{tree: tr}
	for k, v := c.Seek(nil); k != nil; k, v = c.Next() {
		if err := t.check(); err != nil {
			return err
		}
		if err := c.findable(k); err != nil {
			return err
		}
		fn(k, v)
	}
	return c.err
}

// CheckPages checks the structure of the file at path, which no process may
// have open: the meta pages, that every page is in use once or free, that keys
// are in order and branches lead to them, and the free list. It writes nothing
// and needs no key. ErrLocked: the store was in use for all of timeout.
func CheckPages(path string, timeout time.Duration) (damage []error, err error) {
	f, err := openUnused(path, timeout)
	if err != nil {
		return nil, fmt.Errorf("checking pages of %s: %w", path, err)
	}
	defer f.Close()
	if err := checkPages(f, &damage); errors.Is(err, ErrCorrupt) {
		damage = append(damage, err)
	} else if err != nil {
		return damage, fmt.Errorf("checking pages of %s: %w", path, err)
	}
	return damage, nil
}

func checkPages(f *os.File, damage *[]error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer catch(&err, "pages")
	im, err := openImage(f)
	if err != nil {
		return err
	}
	defer im.close()
	if im.damage != nil {
		*damage = append(*damage, im.damage)
	}
	counts, err := im.walk(func(string, []byte, []byte) {})
	if err == nil {
		err = counts.list
	}
	return err
}
