package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace puts the store's file at tmp, in the same folder and not in use, in the
// place of the one at path, which the caller has open, so that nobody else has.
// That one gets the name aside, which no file may have: ErrExists. At each moment
// one of the two stands at path. If none stands there, aside does not count.
func Replace(path, tmp, aside string) error {
	if err := replace(path, tmp, aside); err != nil {
		return fmt.Errorf("replacing %s: %w", path, err)
	}
	return nil
}

func replace(path, tmp, aside string) error {
	dir := filepath.Dir(path)
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if fi, err = os.Stat(dir); err != nil { // whose folder it is, his the store shall be
			return err
		}
		if err := sameOwner(tmp, fi); err != nil {
			return err
		}
		return moveNew(tmp, path)
	} else if err != nil {
		return err
	}
	if err := sameOwner(tmp, fi); err != nil {
		return err
	}
	if err := os.Link(path, aside); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", aside, ErrExists)
	} else if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(dir)
}
