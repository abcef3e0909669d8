package access

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// Revoke ends a token and all its descendants, since every [Lookup] sees that an
// ancestor is missing. It costs one record, for any number of descendants; [Stale] and
// [Tidy] delete those afterwards. tree reports whether there may be any. It is not an
// error if there is no such token.
func Revoke(tx *storage.Tx, id ID) (tree bool, err error) {
	r, err := read(tx, id)
	if err != nil || r == nil {
		return false, err
	}
	return r.Children, r.remove(tx)
}

// RevokeOrphan ends a token, and makes its children orphans. Until their records say
// so, a mark in place of the token does.
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

// Folders lists the folders of the records, for [Stale], and the records of version 1,
// which are beside them, for [Index].
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

// Index writes, for tokens of version 1, the records that lead to them from their
// accessors, if they are missing.
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

// Stale lists the records of a folder that need [Tidy], and the marks that
// [RevokeOrphan] left. It skips a record that cannot be read, which a check of the
// store reports.
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

// Tidy deletes the tokens that do not work any more, and makes orphans of those whose
// parent was revoked without them.
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

// RemoveMarks deletes marks of [RevokeOrphan]. No record may have one of them as its
// parent any more: [Tidy] must have handled all of them since the mark was made.
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

// state returns the state of a token; a missing record counts as alive.
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
