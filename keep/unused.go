package keep

import (
	"context"
	"fmt"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Init hands out the root token only once. If its answer is lost, nobody has the
// token, yet the keep looks healthy. So, from Init to the first use of a token, a
// record says that none has been used, and the status shows it.
const unusedPath = "sys/unused" // JSON {"version":1}

func writeUnused(tx *storage.Tx) error {
	if err := tx.Put(unusedPath, []byte(`{"version":1}`)); err != nil {
		return fmt.Errorf("noting that no token has been used: %w", err)
	}
	return nil
}

// loadUnused reads the record when the keep opens.
func (u *Unsealed) loadUnused(ctx context.Context) error {
	return u.Store.View(ctx, func(tx *storage.Tx) error {
		value, err := tx.Get(unusedPath)
		u.unused.Store(err == nil && value != nil)
		return err
	})
}

// Used deletes the record at the first use of a token. If that fails, the record is
// still there at the next start.
func (u *Unsealed) Used(ctx context.Context) error {
	if !u.unused.Load() || !u.unused.CompareAndSwap(true, false) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, api.DefaultTimeout)
	defer cancel()
	return u.Store.Update(ctx, func(tx *storage.Tx) error { return tx.Delete(unusedPath) })
}
