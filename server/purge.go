package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
			k.tidying.Lock()
			m, err := deleteFolder(k, folder)
			k.tidying.Unlock()
			if n += m; err != nil {
				return err
			}
		}
		if err := deleteBatch(k, []string{purgeFolder + "/" + id}); err != nil {
			return err
		}
		s.log.Info("deleted the data of a removed mount", "mount", id, "records", n)
	}
	return nil
}

// deleteFolder deletes all records below folder, in transactions of their own,
// and returns how many there were. A folder is listed once, so the cost is that
// of its records; memory holds the names of one folder per level.
func deleteFolder(k *keep, folder string) (n int, err error) {
	names, err := list(k, folder)
	if err != nil {
		return 0, err
	}
	var leaves []string
	for _, name := range names {
		if sub, ok := strings.CutSuffix(name, "/"); ok {
			m, err := deleteFolder(k, folder+"/"+sub)
			if n += m; err != nil {
				return n, err
			}
			continue
		}
		leaves = append(leaves, folder+"/"+name)
	}
	for batch := range slices.Chunk(leaves, purgeBatch) {
		if err := deleteBatch(k, batch); err != nil {
			return n, err
		}
		n += len(batch)
	}
	return n, nil
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

func deleteBatch(k *keep, paths []string) error {
	err := k.store.Update(k.ctx, func(tx *storage.Tx) error {
		for _, p := range paths {
			if err := tx.Delete(p); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, context.Canceled) {
		return err
	}
	if err != nil {
		return fmt.Errorf("deleting %d records from %s on: %w", len(paths), paths[0], err)
	}
	return nil
}
