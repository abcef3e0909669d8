package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Tokens that have ended or hang on one that was revoked do not work any more;
// the sweep deletes what the store has of them. What it has to do is to be seen
// in the records, so it goes on after a restart. It reads one folder of 256 at a
// time and writes sweepBatch tokens in one transaction; after each of these it
// rests sweepRest times as long as that took, so that others wait for it rarely
// and briefly, and it never takes more than a fifth of a processor.
const (
	sweepDelay    = time.Minute
	sweepInterval = 10 * time.Minute
	sweepBatch    = 16
	sweepRest     = 4
)

func (k *keep) wakeSweep() {
	select {
	case k.sweeping <- struct{}{}:
	default:
	}
}

// sweep sweeps the tokens now and then, and when a tree was revoked, until the
// keep ends.
func (s *Server) sweep(k *keep) {
	if err := k.indexOld(); err != nil && k.ctx.Err() == nil {
		s.log.Error("indexing the tokens of an older version failed", "error", err)
	}
	var marks []access.ID // found by the last sweep
	for delay := sweepDelay; ; delay = sweepInterval {
		if len(marks) == 0 && !k.pauseSweep(delay) { // else the next one removes them
			return
		}
		swept, found, err := k.sweepTokens(marks)
		if k.ctx.Err() != nil {
			return
		}
		if err != nil {
			s.log.Error("deleting tokens that have ended failed, will try again", "error", err)
			found = nil
		} else if swept > 0 {
			s.log.Info("deleted tokens that had ended or were revoked, or made them orphans", "tokens", swept)
		}
		marks = found
		s.tidy(k)
	}
}

// pauseSweep waits until it is time for a sweep; false: the keep has ended.
func (k *keep) pauseSweep(delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-k.sweeping:
	case <-timer.C:
	case <-k.ctx.Done():
	}
	return k.ctx.Err() == nil
}

// indexOld lets tokens of the first version of records, of which there are few,
// be found by their accessors.
func (k *keep) indexOld() error {
	var old []access.ID
	err := k.store.View(k.ctx, func(tx *storage.Tx) (err error) {
		_, old, err = access.Folders(tx)
		return err
	})
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(old, sweepBatch) {
		if err := k.store.Update(k.ctx, func(tx *storage.Tx) error { return access.Index(tx, batch) }); err != nil {
			return err
		}
	}
	return nil
}

// sweepTokens goes through all tokens once. Of the marks of revoked tokens it
// removes those that were there before it began, and returns the others.
func (k *keep) sweepTokens(marks []access.ID) (swept int, found []access.ID, err error) {
	var folders []string
	err = k.store.View(k.ctx, func(tx *storage.Tx) (err error) {
		folders, _, err = access.Folders(tx)
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	damaged := false
	for _, folder := range folders {
		began := time.Now()
		now := k.now()
		var stale, here []access.ID
		err := k.store.View(k.ctx, func(tx *storage.Tx) (err error) {
			stale, here, err = access.Stale(tx, folder, now)
			return err
		})
		if errors.Is(err, storage.ErrCorrupt) {
			damaged = true // the check of the store reports it
			continue
		}
		if err != nil {
			return swept, nil, err
		}
		found = append(found, here...)
		sleep(k.ctx, sweepRest*time.Since(began), nil)
		for batch := range slices.Chunk(stale, sweepBatch) {
			began = time.Now()
			if err := k.store.Update(k.ctx, func(tx *storage.Tx) error { return access.Tidy(tx, batch, now) }); err != nil {
				return swept, nil, err
			}
			sleep(k.ctx, sweepRest*time.Since(began), nil)
			swept += len(batch)
		}
	}
	if damaged { // marks may still be needed
		return swept, nil, nil
	}
	for batch := range slices.Chunk(marks, sweepBatch) {
		if err := k.store.Update(k.ctx, func(tx *storage.Tx) error { return access.RemoveMarks(tx, batch) }); err != nil {
			return swept, nil, err
		}
	}
	return swept, slices.DeleteFunc(found, func(id access.ID) bool { return slices.Contains(marks, id) }), nil
}

// tidy has the types delete what their mounts have no use for any more.
func (s *Server) tidy(k *keep) {
	for kind, mounts := range map[api.Kind]*mountTable{api.Secrets: k.mounts.Load(), api.Login: k.auths.Load()} {
		for _, m := range mounts.all() {
			typ := s.tables.of(kind, m)
			if typ == nil || typ.Tidy == nil {
				continue
			}
			n, err := k.tidyMount(typ, m)
			switch {
			case errors.Is(err, context.Canceled):
				return
			case err != nil:
				s.log.Error("tidying a mount failed, will try again", "type", m.Type, "mount", m.UUID, "error", err)
			case m.From != "":
				s.log.Info("upgraded a mount", "type", m.Type, "mount", m.UUID, "from", m.From, "to", m.Options["version"], "records", n)
			case n > 0:
				s.log.Info("deleted what a mount had no use for any more", "type", m.Type, "mount", m.UUID, "records", n)
			}
		}
	}
}
