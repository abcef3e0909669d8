package tfstate

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

const (
	mostListed  = 1000 // versions, or states, in one answer
	pruneBatch  = 16   // versions that one transaction deletes
	purgeFolder = "/purge/"
)

// numbers are those of the versions of a state that are there, the oldest first.
func (e engine) numbers(tx *storage.Tx, h *head) ([]int, error) {
	names, err := tx.List(e.prefix + "/version/" + h.ID)
	if err != nil {
		return nil, err
	}
	list := make([]int, 0, len(names))
	for _, name := range names {
		n, err := strconv.Atoi(name)
		if err != nil {
			return nil, fmt.Errorf("%w: a version of a state is called %q", storage.ErrCorrupt, name)
		}
		list = append(list, n)
	}
	return list, nil
}

type historyInput struct {
	After int `json:"after"` // the number of the version before the page
	Limit int `json:"limit"`
}

// history lists the versions of a state, the newest first.
func history(r *api.Request, tx *storage.Tx, in *historyInput) (api.Answer, error) {
	e, path := of(r)
	h, err := e.head(tx, path)
	if err == nil && h == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return api.Answer{}, err
	}
	numbers, err := e.numbers(tx, h)
	if err != nil {
		return api.Answer{}, err
	}
	slices.Reverse(numbers)
	if in.After > 0 {
		i := slices.IndexFunc(numbers, func(n int) bool { return n < in.After })
		if i < 0 {
			i = len(numbers)
		}
		numbers = numbers[i:]
	}
	if in.Limit <= 0 || in.Limit > mostListed {
		in.Limit = mostListed
	}
	numbers = numbers[:min(in.Limit, len(numbers))]
	versions := make([]*version, len(numbers))
	for i, n := range numbers {
		if versions[i], err = e.version(tx, h, n); err != nil {
			return api.Answer{}, err
		}
	}
	return api.Answer{Data: map[string]any{"versions": versions}}, nil
}

// prune deletes the versions that the settings do not keep, a few at a time.
func (e engine) prune(tx *storage.Tx, h *head, s Settings, now time.Time) error {
	for n := 0; h.First < h.Last && n < pruneBatch; n++ {
		if h.Last-h.First < s.MaxVersions {
			if s.MaxAge == 0 {
				return nil
			}
			v, err := e.version(tx, h, h.First)
			if err == nil && now.Sub(v.Time) < s.MaxAge {
				return nil
			}
			if err != nil && err != api.ErrAbsent {
				return err
			}
		}
		if err := e.drop(tx, h, h.First); err != nil {
			return err
		}
		h.First++
	}
	return nil
}

// drop deletes a version.
func (e engine) drop(tx *storage.Tx, h *head, n int) error {
	if err := tx.Delete(e.versionPath(h.ID, n)); err != nil {
		return err
	}
	return tx.Delete(e.dataPath(h.ID, n))
}

type versionInput struct {
	Version int    `json:"version"`
	ID      string `json:"ID"` // of the caller's lock
}

// removeVersion deletes one version for good; not the newest, which is the state.
func removeVersion(r *api.Request, tx *storage.Tx, in *versionInput) (api.Answer, error) {
	e, path := of(r)
	h, err := e.head(tx, path)
	if err == nil && h == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return api.Answer{}, err
	}
	if in.Version == h.Last {
		return api.Answer{}, api.Conflict.Errorf("version %d is the newest: write or roll back to another one first", in.Version)
	}
	if _, err := e.version(tx, h, in.Version); err != nil {
		return api.Answer{}, err
	}
	return api.Answer{}, e.drop(tx, h, in.Version)
}

// remove deletes a state; its versions stay until it is purged.
func remove(r *api.Request, tx *storage.Tx, in *versionInput) (api.Answer, error) {
	e, path := of(r)
	if err := e.mayChange(tx, r, path, in.ID); err != nil {
		return api.Answer{}, err
	}
	h, err := e.live(tx, path)
	if err == api.ErrAbsent {
		return api.Answer{Raw: &api.Raw{Bytes: []byte("{}")}}, nil
	}
	if err != nil {
		return api.Answer{}, err
	}
	h.Deleted = r.Now.UTC()
	return api.Answer{Raw: &api.Raw{Bytes: []byte("{}")}}, e.put(tx, e.headPath(path), h)
}

// undelete undoes remove.
func undelete(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	e, path := of(r)
	h, err := e.head(tx, path)
	if err == nil && h == nil {
		err = api.ErrAbsent
	}
	if err != nil || h.Deleted.IsZero() {
		return api.Answer{}, err
	}
	h.Deleted = time.Time{}
	return api.Answer{}, e.put(tx, e.headPath(path), h)
}

// purge deletes a state with all its versions. They are deleted afterwards, by Tidy if
// the process ends before.
func purge(r *api.Request, _ *versionInput) (api.Answer, error) {
	e, path := of(r)
	var h *head
	err := r.Update(func(tx *storage.Tx) (err error) {
		if err = e.mayChange(tx, r, path, r.Query.Get("ID")); err != nil {
			return err
		}
		if h, err = e.head(tx, path); err != nil || h == nil {
			return err
		}
		if err := tx.Put(e.prefix+purgeFolder+h.ID, []byte(`{"version":1}`)); err != nil {
			return err
		}
		return tx.Delete(e.headPath(path))
	})
	if err != nil || h == nil {
		return api.Answer{}, err
	}
	_, err = e.finishPurge(r.Context, r.Store, h.ID)
	return api.Answer{}, err
}

// finishPurge deletes the versions of a state that is gone.
func (e engine) finishPurge(ctx context.Context, store *storage.Store, id string) (records int, err error) {
	for _, folder := range []string{"/version/", "/data/"} {
		n, err := store.DeleteFolder(ctx, e.prefix+folder+id)
		if records += n; err != nil {
			return records, err
		}
	}
	return records, store.Update(ctx, func(tx *storage.Tx) error { return tx.Delete(e.prefix + purgeFolder + id) })
}

// tidy finishes what purges have begun.
func tidy(ctx context.Context, store *storage.Store, m *api.Mount, _ func() time.Time) (records int, err error) {
	e := engine{m.Prefix()}
	var ids []string
	err = store.View(ctx, func(tx *storage.Tx) (err error) {
		ids, err = tx.List(strings.TrimSuffix(e.prefix+purgeFolder, "/"))
		return err
	})
	for _, id := range ids {
		n, failed := e.finishPurge(ctx, store, id)
		if records += n; failed != nil {
			return records, failed
		}
	}
	return records, err
}
