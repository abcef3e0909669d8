package access

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// Revoke ends a token, and all that were made below it: their line is broken,
// which every [Lookup] sees. The cost is that of one record, however many there
// are below; [Stale] and [Tidy] delete those afterwards. tree tells whether there
// are any. Revoking what is not there is no error.
func Revoke(tx *storage.Tx, id ID) (tree bool, err error) {
	r, err := read(tx, id)
	if err != nil || r == nil {
		return false, err
	}
	return r.Children, r.remove(tx)
}

// RevokeOrphan ends a token, and makes those that it made orphans. As long as
// their records do not say so, a mark in the place of the token does.
func RevokeOrphan(tx *storage.Tx, id ID) (tree bool, err error) {
	r, err := read(tx, id)
	if err != nil || r == nil {
		return false, err
	}
	if err := r.remove(tx); err != nil || !r.Children {
		return false, err
	}
	mark := &record{Revoked: true, path: r.path}
	return true, mark.write(tx)
}

// Folders lists the folders that the records lie in, for [Stale], and the records
// of version 1, which lie beside them, for [Index].
func Folders(tx *storage.Tx) (folders []string, old []ID, err error) {
	names, err := tx.List(tokenFolder)
	if err != nil {
		return nil, nil, fmt.Errorf("listing the tokens: %w", err)
	}
	for _, name := range names {
		if folder, ok := strings.CutSuffix(name, "/"); ok {
			folders = append(folders, folder)
			continue
		}
		var id ID
		if err := id.UnmarshalText([]byte(name)); err != nil {
			return nil, nil, fmt.Errorf("listing the tokens: %w: %w", storage.ErrCorrupt, err)
		}
		old = append(old, id)
	}
	return folders, old, nil
}

// Index gives tokens of version 1 what leads to them from their accessors, if
// they have not got it.
func Index(tx *storage.Tx, ids []ID) error {
	for _, id := range ids {
		r, err := read(tx, id)
		if err != nil {
			return err
		}
		if r == nil || r.Accessor == "" {
			continue
		}
		value, err := tx.Get(accessorFolder + "/" + r.Accessor)
		if err == nil && value == nil {
			err = r.index(tx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Stale lists the records of a folder that [Tidy] has something to do with, and
// the marks that [RevokeOrphan] left. A record that cannot be read is left to
// whoever checks the store.
func Stale(tx *storage.Tx, folder string, now time.Time) (stale, marks []ID, err error) {
	names, err := tx.List(tokenFolder + "/" + folder)
	if err != nil {
		return nil, nil, fmt.Errorf("listing the tokens: %w", err)
	}
	for _, name := range names {
		var id ID
		if n, err := hex.Decode(id[:], []byte(folder+name)); err != nil || n != len(id) {
			continue
		}
		r, s, err := state(tx, id, now)
		switch {
		case err != nil:
			return nil, nil, err
		case s == alive:
		case r.Revoked:
			marks = append(marks, id)
		default:
			stale = append(stale, id)
		}
	}
	return stale, marks, nil
}

// Tidy deletes those of the tokens that do not work any more, and makes orphans
// of those whose parent was revoked without them.
func Tidy(tx *storage.Tx, ids []ID, now time.Time) error {
	for _, id := range ids {
		r, s, err := state(tx, id, now)
		switch {
		case err != nil:
			return err
		case s == dead && !r.Revoked:
			err = r.remove(tx)
		case s == adopted:
			r.Parent, r.Orphan = ID{}, true
			err = r.write(tx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// RemoveMarks deletes marks of [RevokeOrphan]. No record may have one of them as
// its parent any more: all have been through [Tidy] since the mark was made.
func RemoveMarks(tx *storage.Tx, ids []ID) error {
	for _, id := range ids {
		r, err := read(tx, id)
		if err != nil {
			return err
		}
		if r != nil && r.Revoked {
			if err := r.remove(tx); err != nil {
				return err
			}
		}
	}
	return nil
}

type tokenState uint8

const (
	alive   tokenState = iota
	dead               // deleted by Tidy, unless it is a mark
	adopted            // its parent is a mark
)

// state tells what has become of a token; no record is as good as one alive.
func state(tx *storage.Tx, id ID, now time.Time) (*record, tokenState, error) {
	r, err := read(tx, id)
	if err != nil || r == nil {
		return r, alive, err
	}
	if r.Revoked {
		return r, dead, nil
	}
	found, err := find(tx, id, now)
	switch {
	case err == ErrDenied:
		return r, dead, nil
	case err != nil:
		return r, alive, err
	case found.Parent != r.Parent:
		return r, adopted, nil
	}
	return r, alive, nil
}
