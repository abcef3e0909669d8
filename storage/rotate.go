package storage

import (
	"context"
	"fmt"
	"time"
)

// KeyStatus describes the barrier keys.
type KeyStatus struct {
	Term      uint32    // of the key that encrypts
	Installed time.Time // when it was added
	Writes    uint64    // records encrypted under it; there is no limit
	Terms     []uint32  // all terms kept, ascending; only one after Reencrypt
	Records   uint64    // records in the store, under any term
}

// KeyStatus reads the state of the newest barrier key.
func (s *Store) KeyStatus(ctx context.Context) (ks KeyStatus, err error) {
	err = s.View(ctx, func(t *Tx) error {
		d, err := t.storedDigest()
		newest := t.keys.newest()
		ks = KeyStatus{Term: newest.Term, Installed: newest.Installed, Writes: d.writes, Records: d.records}
		for _, each := range t.keys.Terms {
			ks.Terms = append(ks.Terms, each.Term)
		}
		return err
	})
	return ks, err
}

func (t *Tx) storedDigest() (d digest, err error) {
	defer catch(&err, "digest")
	rec, err := t.trees.get(bucketMeta, keyDigest)
	if err != nil {
		return d, err
	}
	return t.keys.decodeDigest(rec)
}

// Rotate adds a barrier key, which encrypts from the next commit on. Older keys
// stay for the records that they encrypted, until Reencrypt has rewritten those.
// It costs one commit of its own, at any size.
func (s *Store) Rotate(ctx context.Context) error {
	err := s.changeKeyring(ctx, func(_ *trees, old *keyring) (*keyring, error) {
		return old.change(s.addTerm)
	})
	if err != nil {
		return fmt.Errorf("rotating: %w", err)
	}
	return nil
}

func (s *Store) addTerm(j *keyringJSON) {
	newest := j.Terms[len(j.Terms)-1].Term
	j.Terms = append(j.Terms, term{Term: newest + 1, Key: randomBytes(32), Installed: s.o.Now().UTC()})
}

// changeKeyring stores the keyring that next makes from the current one, alone in
// its commit.
func (s *Store) changeKeyring(ctx context.Context, next func(*trees, *keyring) (*keyring, error)) error {
	if err := s.writable(ctx); err != nil {
		return err
	}
	return s.alone(ctx, func(ts *trees) (*effect, error) {
		old := s.state.Load().keys
		if old == nil {
			return nil, ErrSealed
		}
		k, err := next(ts, old)
		if err != nil {
			return nil, err
		}
		rec, err := k.encode()
		if err != nil {
			return nil, err
		}
		if err := ts.btx.Bucket(bucketMeta).Put(keyKeyring, rec); err != nil {
			return nil, err
		}
		e := &effect{keys: k, digest: s.digest}
		e.digest.keyring = k.Generation
		if k.newest().Term != old.newest().Term {
			e.digest.writes = 0
		}
		return e, nil
	})
}
