package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace moves the store's file at tmp to path. tmp is in the same folder and not
// in use; the caller has the file at path open, so that nobody else has. That file
// is renamed to aside; ErrExists: aside already exists. At every moment one of the
// two files is at path. If there is no file at path, aside is ignored.
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
		if fi, err = os.Stat(dir); err != nil { // the folder's owner becomes the store's owner
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
