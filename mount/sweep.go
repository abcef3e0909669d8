package mount

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Tokens that have expired or whose ancestor was revoked do not work any more; the
// sweep deletes their records. It finds its work in the records themselves, so it
// continues after a restart. It reads one of 256 folders at a time and writes
// sweepBatch tokens in one transaction; after each of these it rests sweepRest times
// as long as that took, so that others wait for it rarely and briefly, and it never
// takes more than a fifth of a processor.
const (
	sweepDelay    = time.Minute
	sweepInterval = 10 * time.Minute
	sweepBatch    = 16
	sweepRest     = 4
	blobAge       = 2 * time.Hour // exceeds the longest upload
)

func (l *Live) WakeSweep() {
	select {
	case l.sweeping <- struct{}{}:
	default:
	}
}

// Sweep sweeps the tokens now and then, and when a tree was revoked, until the keep is
// sealed.
func (l *Live) Sweep() {
	l.offerFirst()
	if err := l.indexOld(); err != nil && l.ctx.Err() == nil {
		l.log.Error("indexing the tokens of an older version failed", "error", err)
	}
	opened := l.now()
	var marks []access.ID // found by the last sweep
	for delay := sweepDelay; ; delay = sweepInterval {
		if len(marks) == 0 && !l.pauseSweep(delay) { // if there are marks, the next sweep removes them
			return
		}
		swept, found, err := l.sweepTokens(marks)
		if l.ctx.Err() != nil {
			return
		}
		if err != nil {
			l.log.Error("deleting tokens that have ended failed, will try again", "error", err)
			found = nil
		} else if swept > 0 {
			l.log.Info("deleted tokens that had ended or were revoked, or made them orphans", "tokens", swept)
		}
		marks = found
		// What was begun before the keep opened nobody writes any more.
		if n, err := l.Store.SweepBlobs(l.ctx, min(blobAge, l.now().Sub(opened))); n > 0 || err != nil && l.ctx.Err() == nil {
			l.log.Info("deleted pieces of uploads that did not come to their end", "pieces", n, "error", err)
		}
		l.tidy()
	}
}

// pauseSweep waits until the next sweep is due. It returns false if the keep was sealed.
func (l *Live) pauseSweep(delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-l.sweeping:
	case <-timer.C:
	case <-l.ctx.Done():
	}
	return l.ctx.Err() == nil
}

// rest waits for d, or until the keep is sealed.
func (l *Live) rest(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.ctx.Done():
	}
}

// indexOld makes tokens with records of version 1, of which there are few, findable by
// their accessors.
func (l *Live) indexOld() error {
	var old []access.ID
	err := l.Store.View(l.ctx, func(tx *storage.Tx) (err error) {
		_, old, err = access.Folders(tx)
		return err
	})
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(old, sweepBatch) {
		if err := l.Store.Update(l.ctx, func(tx *storage.Tx) error { return access.Index(tx, batch) }); err != nil {
			return err
		}
	}
	return nil
}

// sweepTokens goes through all tokens once. It removes the given marks of revoked
// tokens, which existed before it began, and returns those that it found.
func (l *Live) sweepTokens(marks []access.ID) (swept int, found []access.ID, err error) {
	var folders []string
	err = l.Store.View(l.ctx, func(tx *storage.Tx) (err error) {
		folders, _, err = access.Folders(tx)
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	damaged := false
	for _, folder := range folders {
		began := time.Now()
		now := l.now()
		var stale, here []access.ID
		err := l.Store.View(l.ctx, func(tx *storage.Tx) (err error) {
			stale, here, err = access.Stale(tx, folder, now)
			return err
		})
		if errors.Is(err, storage.ErrCorrupt) {
			damaged = true // a check of the store reports it
			continue
		}
		if err != nil {
			return swept, nil, err
		}
		found = append(found, here...)
		l.rest(sweepRest * time.Since(began))
		for batch := range slices.Chunk(stale, sweepBatch) {
			began = time.Now()
			if err := l.Store.Update(l.ctx, func(tx *storage.Tx) error { return access.Tidy(tx, batch, now) }); err != nil {
				return swept, nil, err
			}
			l.rest(sweepRest * time.Since(began))
			swept += len(batch)
		}
	}
	if damaged { // marks may still be needed
		return swept, nil, nil
	}
	for batch := range slices.Chunk(marks, sweepBatch) {
		if err := l.Store.Update(l.ctx, func(tx *storage.Tx) error { return access.RemoveMarks(tx, batch) }); err != nil {
			return swept, nil, err
		}
	}
	return swept, slices.DeleteFunc(found, func(id access.ID) bool { return slices.Contains(marks, id) }), nil
}

// tidy has the types delete what their mounts no longer need.
func (l *Live) tidy() {
	for kind, mounts := range map[api.Kind]*Table{api.Secrets: l.Engines.Load(), api.Login: l.Logins.Load()} {
		for _, m := range mounts.All() {
			typ := l.Types.Of(kind, m)
			if typ == nil || typ.Tidy == nil {
				continue
			}
			n, err := l.tidyMount(typ, m)
			switch {
			case errors.Is(err, context.Canceled):
				return
			case err != nil:
				l.log.Error("tidying a mount failed, will try again", "type", m.Type, "mount", m.UUID, "error", err)
			case m.From != "":
				l.log.Info("upgraded a mount", "type", m.Type, "mount", m.UUID, "from", m.From, "to", m.Options["version"], "records", n)
			case n > 0:
				l.log.Info("deleted what a mount had no use for any more", "type", m.Type, "mount", m.UUID, "records", n)
			}
		}
	}
}

// tidyMount has a type tidy a mount, and removes the mark of an upgrade from it once
// everything is converted.
func (l *Live) tidyMount(typ *api.Type, m *api.Mount) (records int, err error) {
	if m.From == "" {
		return typ.Tidy(l.ctx, l.Store, m, l.now)
	}
	l.converting.Lock()
	defer l.converting.Unlock()
	if records, err = typ.Tidy(l.ctx, l.Store, m, l.now); err != nil {
		return records, err
	}
	return records, l.Change(l.ctx, &l.Engines, func(_ *storage.Tx, t *Table) (*Table, error) {
		for path, now := range t.byPath { // it may have been moved or removed
			if now.UUID == m.UUID {
				done := *now
				done.From = ""
				return t.With(path, &done), nil
			}
		}
		return t, nil
	})
}
