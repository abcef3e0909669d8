package kv

import (
	"fmt"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// Delete marks the newest version as deleted; its data stays and Undelete
// brings it back. A secret that is not there, or whose newest version is
// deleted already, is no error.
func (e Engine) Delete(tx *storage.Tx, path string, now time.Time) error {
	r, _, err := e.load(tx, path)
	if err != nil || r.current == 0 {
		return err
	}
	return e.remove(tx, path, &r, []uint64{r.current}, now)
}

// DeleteVersions marks versions as deleted, as Delete does. Versions that are
// not there or are gone already are passed over. No versions: ErrInvalid.
func (e Engine) DeleteVersions(tx *storage.Tx, path string, versions []uint64, now time.Time) error {
	r, err := e.loadFor(tx, path, versions)
	if err != nil {
		return err
	}
	return e.remove(tx, path, &r, versions, now)
}

func (e Engine) remove(tx *storage.Tx, path string, r *record, versions []uint64, now time.Time) error {
	changed := false
	for _, n := range versions {
		if v := r.version(n); v != nil && !v.gone(now) {
			v.setDeletion(now.UnixNano())
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return e.save(tx, path, r)
}

// Undelete makes deleted or expired versions readable again; a
// delete_version_after begins anew, also for versions that were not deleted.
// Versions that are not there or are destroyed are passed over. No versions:
// ErrInvalid.
func (e Engine) Undelete(tx *storage.Tx, path string, versions []uint64, now time.Time) error {
	r, err := e.loadFor(tx, path, versions)
	if err != nil {
		return err
	}
	c, err := e.Config(tx)
	if err != nil {
		return err
	}
	until, changed := expiry(now, c, r.Config), false
	for _, n := range versions {
		if v := r.version(n); v != nil && !v.destroyed() && v.deletion() != until {
			v.setDeletion(until)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return e.save(tx, path, &r)
}

// Destroy removes the data of versions for good; their metadata stays.
// Versions that are not there are passed over. No versions: ErrInvalid. Of very
// many it destroys some: more then says to call it again, in another transaction.
func (e Engine) Destroy(tx *storage.Tx, path string, versions []uint64) (more bool, err error) {
	if len(versions) == 0 {
		return false, invalid("no version number provided") // Vault writes it small here
	}
	r, err := e.loadFor(tx, path, versions)
	if err != nil {
		return false, err
	}
	destroyed := 0
	for _, n := range versions {
		v := r.version(n)
		if v == nil || v.destroyed() {
			continue
		}
		if destroyed++; destroyed > maxRemovals {
			more = true
			break
		}
		v.destroy()
		if n == r.current {
			r.data = nil
		} else if err := tx.Delete(e.versionKey(path, n)); err != nil {
			return false, fmt.Errorf("destroying version %d of secret %q: %w", n, path, err)
		}
	}
	if destroyed == 0 {
		return false, nil
	}
	return more, e.save(tx, path, &r)
}

// loadFor is load for the operations on given versions; an absent secret has
// none, so they do nothing to it.
func (e Engine) loadFor(tx *storage.Tx, path string, versions []uint64) (record, error) {
	if len(versions) == 0 {
		return record{}, invalid("No version number provided")
	}
	r, _, err := e.load(tx, path)
	return r, err
}
