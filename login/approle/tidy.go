package approle

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

const (
	tidyBatch = 256 // secret IDs in one transaction
	tidyRest  = 4   // times as long as a batch took, so that other writers get their turn

	statusAccepted = 202
)

// tidySoon answers before the secret IDs are deleted.
func tidySoon(r *api.Request, _ *api.None) (api.Answer, error) {
	r.Frame.Tidy()
	return api.Answer{Status: statusAccepted, Warnings: []string{
		"Tidy operation successfully started. Any information from the operation will be printed to the server's log.",
	}}, nil
}

// tidy deletes the secret IDs of roles that were deleted, and those whose time has
// passed.
func tidy(ctx context.Context, store *storage.Store, m *api.Mount, now func() time.Time) (n int, err error) {
	all := records(m.Prefix())
	var folders, lost []string
	err = store.View(ctx, func(tx *storage.Tx) (err error) {
		folders, err = all.folders(tx)
		return err
	})
	if err == nil {
		err = store.View(ctx, func(tx *storage.Tx) (err error) {
			lost, err = all.lost(tx, folders)
			return err
		})
	}
	if err != nil {
		return 0, err
	}
	for _, path := range lost {
		deleted, err := store.DeleteFolder(ctx, path)
		if n += deleted; err != nil {
			return n, err
		}
	}
	for _, folder := range folders {
		deleted, err := all.tidyFolder(ctx, store, folder, now)
		if n += deleted; err != nil {
			return n, err
		}
	}
	return n, nil
}

// tidyFolder deletes the secret IDs in a role's folder whose time has passed. A batch
// with a damaged record is left as it is: the check of the store reports that.
func (m records) tidyFolder(ctx context.Context, store *storage.Store, folder string, now func() time.Time) (n int, err error) {
	var hashes []string
	err = store.View(ctx, func(tx *storage.Tx) (err error) {
		hashes, err = m.secretIDs(tx, folder)
		return err
	})
	if err != nil {
		return 0, err
	}
	for batch := range slices.Chunk(hashes, tidyBatch) {
		began := time.Now()
		var ended []string
		err := store.View(ctx, func(tx *storage.Tx) error {
			return m.eachEnded(tx, folder, batch, now(), func(s *secretID) error {
				ended = append(ended, s.hash)
				return nil
			})
		})
		if errors.Is(err, storage.ErrCorrupt) {
			continue
		}
		if err == nil && len(ended) > 0 {
			err = store.Update(ctx, func(tx *storage.Tx) error {
				return m.eachEnded(tx, folder, ended, now(), func(s *secretID) error { return m.destroy(tx, folder, s) })
			})
		}
		if err != nil {
			return n, err
		}
		n += len(ended)
		rest(ctx, tidyRest*time.Since(began))
	}
	return n, nil
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// folders lists the folders that secret IDs lie in.
func (m records) folders(tx *storage.Tx) ([]string, error) {
	folders, err := tx.List(m.path("accessor"))
	for i := range folders {
		folders[i] = strings.TrimSuffix(folders[i], "/")
	}
	return folders, err
}

// lost returns the paths below which the secret IDs of roles lie that do not exist
// any more. The folders must have been listed in an earlier transaction, so that
// none of them is of a role that is made meanwhile.
func (m records) lost(tx *storage.Tx, folders []string) (paths []string, err error) {
	names, err := m.roles(tx)
	if err != nil {
		return nil, err
	}
	inUse := make(map[string]bool, len(names))
	for _, name := range names {
		r, err := m.role(tx, name)
		if err != nil {
			return nil, err
		}
		if r != nil {
			inUse[r.Folder] = true
		}
	}
	for _, folder := range folders {
		if !inUse[folder] {
			paths = append(paths, m.path("secret", folder), m.path("accessor", folder)) // the latter is what folders sees
		}
	}
	return paths, nil
}

// secretIDs lists the hashes of the secret IDs in a folder.
func (m records) secretIDs(tx *storage.Tx, folder string) ([]string, error) {
	return tx.List(m.path("secret", folder))
}

// eachEnded calls fn for those of the secret IDs whose time has passed.
func (m records) eachEnded(tx *storage.Tx, folder string, hashes []string, now time.Time, fn func(*secretID) error) error {
	for _, hash := range hashes {
		s, err := m.byHash(tx, folder, hash)
		if err == nil && s != nil && s.ended(now) {
			err = fn(s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
