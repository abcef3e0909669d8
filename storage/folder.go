package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// folderBatch is how many records DeleteFolder deletes in one transaction.
const folderBatch = 256

// DeleteFolder deletes all records below folder and returns how many it deleted,
// even if it fails. It deletes them in several transactions of bounded size, so
// that other writers get their turn; after an error, or the end of the process, a
// second call deletes the rest. Records added in the meantime may stay.
//
// Each folder is listed once, so the cost is proportional to the records. Memory
// holds the names of one folder per level.
func (s *Store) DeleteFolder(ctx context.Context, folder string) (records int, err error) {
	var names []string
	err = s.View(ctx, func(tx *Tx) (err error) {
		names, err = tx.List(folder)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("listing %s: %w", quote(folder), err)
	}
	var leaves []string
	for _, name := range names {
		sub, ok := strings.CutSuffix(name, "/")
		if !ok {
			leaves = append(leaves, folder+"/"+name)
			continue
		}
		n, err := s.DeleteFolder(ctx, folder+"/"+sub)
		if records += n; err != nil {
			return records, err
		}
	}
	for batch := range slices.Chunk(leaves, folderBatch) {
		err := s.Update(ctx, func(tx *Tx) error {
			for _, path := range batch {
				if err := tx.Delete(path); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return records, fmt.Errorf("deleting %d records from %s on: %w", len(batch), quote(batch[0]), err)
		}
		records += len(batch)
	}
	return records, nil
}
