package storage

import (
	"context"
	"fmt"
	"time"
)

// KeyStatus is what can be told of the barrier key.
type KeyStatus struct {
	Term      uint32    // of the key that encrypts
	Installed time.Time // when it was added
	Writes    uint64    // records encrypted under it; there is no limit to reach
}

// KeyStatus reads the state of the newest barrier key.
func (s *Store) KeyStatus(ctx context.Context) (ks KeyStatus, err error) {
	err = s.View(ctx, func(t *Tx) error {
		d, err := t.storedDigest()
		newest := t.keys.newest()
		ks = KeyStatus{Term: newest.Term, Installed: newest.Installed, Writes: d.writes}
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

// Rotate adds a barrier key, alone in its commit; it encrypts from the next
// commit on. Older keys stay for what they have encrypted. One commit, at any
// size.
func (s *Store) Rotate(ctx context.Context) error {
	err := s.alone(ctx, func(ts *trees) (func(), error) {
		_, old, err := s.handle()
		switch {
		case err != nil:
			return nil, err
		case old == nil:
			return nil, ErrSealed
		}
		k, err := old.change(func(j *keyringJSON) {
			j.Terms = append(j.Terms, term{Term: old.newest().Term + 1, Key: randomBytes(32), Installed: s.o.Now().UTC()})
		})
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
		s.digest.keyring, s.digest.writes = k.Generation, 0
		return func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.keys == old {
				s.keys = k
			}
		}, nil
	})
	if err != nil {
		return fmt.Errorf("rotating: %w", err)
	}
	return nil
}
