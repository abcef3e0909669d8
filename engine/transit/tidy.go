package transit

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// tidy rotates the keys whose auto_rotate_period is over, and deletes versions that
// no policy has any more: of keys that were deleted or replaced, or trimmed, where
// that did not come to its end. It writes who has used the keys, and returns how many
// versions it has deleted. What cannot be
// done for one key does not keep the others from it.
func tidy(ctx context.Context, store *storage.Store, m *api.Mount, now func() time.Time) (deleted int, err error) {
	e := engine{m.Prefix()}
	view := func(fn func(*storage.Tx) error) error { return store.View(ctx, fn) }
	update := func(fn func(*storage.Tx) error) error { return store.Update(ctx, fn) }
	var orphans, old, due, unused []string
	var failed []error
	err = view(func(tx *storage.Tx) error {
		orphans, old, due, unused, failed = nil, nil, nil, nil, nil
		names, err := tx.List(e.prefix + "/policy")
		if err != nil {
			return err
		}
		ids, err := tx.List(e.prefix + "/key")
		if err != nil {
			return err
		}
		used, err := tx.List(e.prefix + "/use")
		if err != nil {
			return err
		}
		has := make(map[string]bool)
		for _, name := range names {
			p, err := e.policy(tx, name)
			if err != nil {
				failed = append(failed, err)
				continue
			}
			has[p.ID] = true
			if p.due(now()) {
				due = append(due, name)
			}
			if p.First < p.MinAvailable {
				old = append(old, name)
			}
		}
		for _, id := range ids {
			if id = strings.TrimSuffix(id, "/"); !has[id] {
				orphans = append(orphans, id)
			}
		}
		for _, id := range used {
			if !has[id] {
				unused = append(unused, id)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, name := range due {
		if err := e.rotate(name, view, update, now, func(p *policy) bool { return p.due(now()) }); err != nil {
			failed = append(failed, err)
		}
	}
	for _, name := range old {
		for more := true; more; {
			n := 0
			err := update(func(tx *storage.Tx) error {
				more, n = false, 0
				p, err := e.policy(tx, name)
				if err != nil || p == nil {
					return err
				}
				was := p.First
				if more, err = e.shorten(tx, p); err != nil {
					return err
				}
				n = p.First - was
				return e.putPolicy(tx, name, p)
			})
			if deleted += n; err != nil {
				failed = append(failed, err)
				break
			}
		}
	}
	if err := e.saveUses(ctx, store, now()); err != nil {
		failed = append(failed, err)
	}
	if len(failed) == 0 { // a policy that cannot be read may have any of them
		for ids := range slices.Chunk(unused, usesBatch) {
			err := update(func(tx *storage.Tx) error {
				for _, id := range ids {
					if err := tx.Delete(e.usePath(id)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return deleted, err
			}
		}
		for _, id := range orphans {
			n, err := store.DeleteFolder(ctx, e.folder(id))
			if deleted += n; err != nil {
				return deleted, err
			}
		}
	}
	return deleted, errors.Join(failed...)
}

// due reports whether a key is to be rotated by itself.
func (p *policy) due(now time.Time) bool {
	return p.AutoRotate > 0 && !now.Before(p.Rotated.Add(p.AutoRotate)) && !p.SoftDeleted && (!p.Imported || p.AllowRotation)
}
