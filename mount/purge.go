package mount

import (
	"fmt"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// purgeRetry is the pause after a failed purge.
const purgeRetry = time.Minute

// Purge deletes the data of removed mounts until the keep is sealed. The store records
// what is left to do, so it continues after a restart.
func (l *Live) Purge() {
	for {
		err := l.purgeAll()
		if l.ctx.Err() != nil {
			return
		}
		var again <-chan time.Time
		if err != nil {
			l.log.Error("deleting the data of a removed mount failed, will try again", "error", err)
			again = time.After(purgeRetry)
		}
		select {
		case <-l.wake:
		case <-again:
		case <-l.ctx.Done():
			return
		}
	}
}

func (l *Live) purgeAll() error {
	left, err := l.list(PurgeFolder)
	if err != nil {
		return err
	}
	for _, id := range left {
		n := 0
		for _, folder := range []string{"mount/" + id, shortFolder(id)} { // one of them is empty
			l.converting.Lock()
			m, err := l.Store.DeleteFolder(l.ctx, folder)
			l.converting.Unlock()
			if n += m; err != nil {
				return err
			}
		}
		if err := l.Store.Update(l.ctx, func(tx *storage.Tx) error { return tx.Delete(PurgeFolder + "/" + id) }); err != nil {
			return fmt.Errorf("deleting the note of a removed mount: %w", err)
		}
		l.log.Info("deleted the data of a removed mount", "mount", id, "records", n)
	}
	return nil
}

func (l *Live) list(folder string) (names []string, err error) {
	err = l.Store.View(l.ctx, func(tx *storage.Tx) (err error) {
		names, err = tx.List(folder)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", folder, err)
	}
	return names, nil
}
