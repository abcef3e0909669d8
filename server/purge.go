package server

import (
	"fmt"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// purgeRetry is the pause after a purge that failed.
const purgeRetry = time.Minute

// purge deletes the data of removed mounts until the keep ends. What is left to
// do stands in the store, so it goes on after a restart.
func (s *Server) purge(k *keep) {
	for {
		err := s.purgeAll(k)
		if k.ctx.Err() != nil {
			return
		}
		var again <-chan time.Time
		if err != nil {
			s.log.Error("deleting the data of a removed mount failed, will try again", "error", err)
			again = time.After(purgeRetry)
		}
		select {
		case <-k.wake:
		case <-again:
		case <-k.ctx.Done():
			return
		}
	}
}

func (s *Server) purgeAll(k *keep) error {
	left, err := list(k, purgeFolder)
	if err != nil {
		return err
	}
	for _, id := range left {
		n := 0
		for _, folder := range []string{"mount/" + id, shortFolder(id)} { // of one there is nothing
			k.converting.Lock()
			m, err := k.store.DeleteFolder(k.ctx, folder)
			k.converting.Unlock()
			if n += m; err != nil {
				return err
			}
		}
		if err := k.store.Update(k.ctx, func(tx *storage.Tx) error { return tx.Delete(purgeFolder + "/" + id) }); err != nil {
			return fmt.Errorf("deleting the note of a removed mount: %w", err)
		}
		s.log.Info("deleted the data of a removed mount", "mount", id, "records", n)
	}
	return nil
}

func list(k *keep, folder string) (names []string, err error) {
	err = k.store.View(k.ctx, func(tx *storage.Tx) (err error) {
		names, err = tx.List(folder)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", folder, err)
	}
	return names, nil
}
