package storage

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Tx is the transaction of a function of View or Update. It is valid until that
// function returns, in that function's goroutine.
type Tx struct {
	ctx      context.Context
	keys     *keyring
	btx      *bolt.Tx
	trees    *trees    // nil inside Create
	deadline time.Time // of a View
	now      func() time.Time
	write    *writes // nil in a View
	store    *Store  // nil inside Create
	ended    bool
	seen     seen
}

// seen is the record that an Update last looked up. The path to it was checked, so
// that a write, which mostly follows a read, need not check it again.
type seen struct {
	in   byte // 0: none
	key  []byte
	rec  []byte
	path string // from which the key was made; "": not known
}

// writes is the state of one function of an Update.
type writes struct {
	digest digest
	undo   []undo
	bytes  int
	broken error               // bbolt itself failed: the whole batch must go
	keys   map[string]struct{} // written by the batch, in any bucket: only bbolt has their records
}

type undo struct {
	bucket []byte
	key    []byte
	old    []byte // nil: there was none
}

// txKey marks the context of a transaction, so that nesting is refused.
type txKey struct{}

// Context returns the caller's context, marked so that View and Update refuse it
// with ErrNested.
func (t *Tx) Context() context.Context { return context.WithValue(t.ctx, txKey{}, true) }

// View runs fn over a consistent snapshot of the store. fn does no I/O and
// keeps nothing of tx. The calls of tx return ErrExpired after ViewTimeout,
// ErrSealed when the store is being sealed, and ErrUnavailable when the file is
// being reopened. Panics of fn reach the caller.
func (s *Store) View(ctx context.Context, fn func(*Tx) error) error {
	return s.view(ctx, s.o.ViewTimeout, fn)
}

func (s *Store) view(ctx context.Context, timeout time.Duration, fn func(*Tx) error) error {
	if ctx.Value(txKey{}) != nil {
		return ErrNested
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	t := &Tx{ctx: ctx, now: s.o.Now, store: s}
	if err := t.begin(s, timeout); err != nil {
		return err
	}
	defer func() {
		t.ended = true
		_ = t.btx.Rollback() // just releases its pages
		s.leave(t)
	}()
	return fn(t)
}

// begin registers the View before it takes the handle, so that whoever waits for
// the Views to end, to close the handle or wipe the keys, also waits for this one.
func (t *Tx) begin(s *Store, timeout time.Duration) (err error) {
	began := s.o.Now()
	t.deadline = began.Add(timeout)
	s.enter(t, began)
	defer func() {
		if err != nil {
			s.leave(t)
		}
	}()
	h, btx, keys, err := s.snapshot()
	if err != nil {
		return err
	}
	if keys == nil {
		_ = btx.Rollback()
		return ErrSealed
	}
	t.btx, t.keys, t.trees = btx, keys, &trees{h: h, btx: btx}
	return nil
}

func (t *Tx) check() error {
	switch {
	case t.ended:
		return ErrClosed
	case t.write != nil:
		return t.write.broken
	case t.keys.sealed.Load():
		return ErrSealed
	case t.trees.h.gone.Load():
		return ErrUnavailable
	case t.now().After(t.deadline):
		return ErrExpired
	}
	return t.ctx.Err()
}

// Get returns the value at path, or nil if there is none. The caller owns the
// bytes. ErrTooLarge: the value is a blob; see Blob.
func (t *Tx) Get(path string) ([]byte, error) {
	kind, plain, err := t.get(path)
	if err == nil && kind == kindPointer {
		return nil, fmt.Errorf("%w: %s is a blob", ErrTooLarge, quote(path))
	}
	return plain, err
}

func (t *Tx) get(path string) (kind byte, plain []byte, err error) {
	if err := t.check(); err != nil {
		return 0, nil, err
	}
	if err := checkPath(path); err != nil {
		return 0, nil, err
	}
	defer catch(&err, path)
	key, err := t.key(path)
	if err != nil {
		return 0, nil, err
	}
	rec, err := t.record(inData, key)
	if t.write != nil && err == nil {
		t.seen.path = path
	}
	if rec == nil {
		return 0, nil, err
	}
	kind, plain, err = t.keys.open(rec, purposeValue, path)
	if err == nil && plain == nil {
		plain = []byte{}
	}
	return kind, plain, err
}

// key returns the stored key of a path.
func (t *Tx) key(path string) ([]byte, error) {
	if t.seen.path == path {
		return t.seen.key, nil
	}
	return t.keys.encodePath(path)
}

// record returns the stored record of a key, or nil if there is none. Only bbolt
// has what was written since the last commit. Before it is asked for that, the
// path that it will take, also to write the record, has been checked.
func (t *Tx) record(in byte, key []byte) (rec []byte, err error) {
	if t.write != nil && t.seen.in == in && bytes.Equal(t.seen.key, key) {
		return t.seen.rec, nil
	}
	if t.trees != nil {
		if rec, err = t.trees.get(bucketOf[in], key); err != nil || t.write == nil {
			return rec, err
		}
	}
	if _, written := t.write.keys[string(key)]; written || t.trees == nil {
		rec = t.btx.Bucket(bucketOf[in]).Get(key)
	}
	t.seen = seen{in: in, key: key, rec: rec}
	return rec, nil
}

// deletable checks what bbolt may touch when it deletes the record of a key.
func (t *Tx) deletable(bucket, key []byte) error {
	if t.trees == nil {
		return nil
	}
	tr, err := t.trees.of(bucket)
	if err == nil {
		err = tr.deletable(key)
	}
	return err
}

// Put stores value at path. A value has at most MaxValue bytes.
func (t *Tx) Put(path string, value []byte) error {
	if len(value) > MaxValue {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(value), MaxValue)
	}
	return t.put(path, kindValue, purposeValue, value)
}

func (t *Tx) put(path string, kind byte, purpose string, value []byte) error {
	if err := checkPath(path); err != nil {
		return err
	}
	key, err := t.key(path)
	if err != nil {
		return err
	}
	rec, err := t.keys.seal(kind, purpose, path, value)
	if err != nil {
		return err
	}
	return t.set(inData, key, rec, path)
}

// Delete removes the value at path. It is not an error if there is none.
func (t *Tx) Delete(path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	key, err := t.key(path)
	if err != nil {
		return err
	}
	return t.set(inData, key, nil, path)
}

var bucketOf = map[byte][]byte{inData: bucketData, inBlobs: bucketBlobs}

// set changes a record, and releases the blob that an old pointer named. A nil rec
// deletes.
func (t *Tx) set(in byte, key, rec []byte, where string) error {
	return t.change(in, key, rec, where, true)
}

// change is the one place that changes a record: it keeps the old one for the undo and
// updates the digest. Unless the blob that an old pointer names is still that of the new
// one, it releases it.
func (t *Tx) change(in byte, key, rec []byte, where string, release bool) (err error) {
	if t.write == nil {
		return ErrReadOnly
	}
	if err := t.check(); err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			// bbolt's transaction can no longer be used.
			err = corrupt(quote(where), "%v", told(r))
			t.write.broken = err
		}
	}()
	old, err := t.record(in, key)
	if err != nil {
		return err
	}
	old = bytes.Clone(old)
	b := t.btx.Bucket(bucketOf[in])
	if rec == nil {
		if old == nil {
			return nil
		}
		if err := t.deletable(bucketOf[in], key); err != nil {
			return err
		}
	}
	if release && in == inData && len(old) > 0 && old[0] == kindPointer {
		if err := t.release(old, where); err != nil {
			return err
		}
	}
	t.seen = seen{}
	t.write.undo = append(t.write.undo, undo{bucket: bucketOf[in], key: key, old: old})
	t.write.bytes += len(key) + len(rec)
	t.write.keys[string(key)] = struct{}{}
	if old != nil {
		t.write.digest.remove(t.keys, in, key, old)
	}
	if rec == nil {
		err = b.Delete(key)
	} else {
		t.write.digest.add(t.keys, in, key, rec)
		t.write.digest.writes++
		err = b.Put(key, rec)
	}
	if err != nil {
		t.write.broken = fmt.Errorf("writing %s: %w", quote(where), err)
	}
	return t.write.broken
}

// revert undoes what one function wrote, newest first.
func (t *Tx) revert() (err error) {
	defer catch(&err, "undoing")
	for _, u := range slices.Backward(t.write.undo) {
		b := t.btx.Bucket(u.bucket)
		if u.old == nil {
			if err = t.deletable(u.bucket, u.key); err == nil {
				err = b.Delete(u.key)
			}
		} else {
			err = b.Put(u.key, u.old)
		}
		if err != nil {
			return fmt.Errorf("undoing: %w", err)
		}
	}
	return nil
}

// List returns the children of a folder, sorted; "" is the top. The name of a
// folder ends in "/"; a child that is both a value and a folder is listed twice.
// It costs the folder, not what lies beneath.
func (t *Tx) List(folder string) (names []string, err error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	folder = strings.TrimSuffix(folder, "/")
	if folder != "" {
		if err := checkPath(folder); err != nil {
			return nil, err
		}
	}
	defer catch(&err, folder)
	prefix, err := t.keys.encodePath(folder)
	if err != nil {
		return nil, err
	}
	if t.trees != nil {
		data, err := t.trees.of(bucketData)
		if err != nil {
			return nil, err
		}
		c := cursor{tree: data}
		names, err = t.list(&c, folder, prefix)
		if err == nil {
			err = c.err
		}
		if err != nil || t.write == nil {
			return names, err
		}
	}
	// The pages that bbolt reads were checked above.
	return t.list(t.btx.Bucket(bucketData).Cursor(), folder, prefix)
}

// list collects the children of a folder from a cursor: ours or bbolt's.
func (t *Tx) list(c interface {
	Seek([]byte) (k, v []byte)
	Next() (k, v []byte)
}, folder string, prefix []byte) (names []string, err error) {
	parent := parentTag(prefix)
	k, _ := c.Seek(prefix)
	if bytes.Equal(k, prefix) && len(prefix) > 0 {
		k, _ = c.Next() // the folder's own value
	}
	for n := 0; k != nil && bytes.HasPrefix(k, prefix); n++ {
		if n%1024 == 1023 {
			if err := t.check(); err != nil {
				return nil, err
			}
		}
		seg, rest, ok := firstSegment(k[len(prefix):])
		if !ok {
			return nil, corrupt("a name under "+quote(folder), "malformed key")
		}
		plain, err := t.keys.names.DecryptDeterministically(seg, parent)
		if err != nil {
			return nil, corrupt("a name under "+quote(folder), "does not authenticate")
		}
		name := string(plain)
		child := slices.Concat(prefix, k[len(prefix):len(prefix)+2+len(seg)])
		if len(rest) == 0 {
			names = append(names, name)
			if k, _ = c.Next(); !bytes.HasPrefix(k, child) {
				continue
			}
		}
		names = append(names, name+"/")
		// Skip everything beneath: no length is ffff.
		k, _ = c.Seek(append(child, 0xff, 0xff))
	}
	slices.Sort(names)
	return names, nil
}
