package storage

import (
	"context"
	"testing"
)

// What was made of a record, or of a folder, is known to be out of date by its
// version alone, inside the transaction that changes it as well as after it.
func TestVersions(t *testing.T) {
	store, _ := newStore(t)
	type versions struct{ record, folder Version }
	look := func(tx *Tx) (v versions) {
		var err error
		if v.record, err = tx.Version("a/b"); err != nil {
			t.Error(err)
		}
		if v.folder, err = tx.FolderVersion("a"); err != nil {
			t.Error(err)
		}
		return v
	}
	read := func() (v versions) {
		if err := store.View(context.Background(), func(tx *Tx) error { v = look(tx); return nil }); err != nil {
			t.Fatal(err)
		}
		return v
	}
	seen := map[Version]bool{}
	last := read()
	if last != (versions{}) {
		t.Errorf("of nothing: %x", last)
	}
	for _, step := range []struct {
		name           string
		do             func(*Tx) error
		record, folder bool // changes
	}{
		{"written", func(tx *Tx) error { return tx.Put("a/b", []byte("x")) }, true, true},
		{"written again, the same", func(tx *Tx) error { return tx.Put("a/b", []byte("x")) }, true, true},
		{"another in the folder", func(tx *Tx) error { return tx.Put("a/c/d", nil) }, false, true},
		{"the folder's own value", func(tx *Tx) error { return tx.Put("a", []byte("x")) }, false, false},
		{"a folder with a name that begins the same", func(tx *Tx) error { return tx.Put("ab/c", []byte("x")) }, false, false},
		{"deleted in the folder", func(tx *Tx) error { return tx.Delete("a/c/d") }, false, true},
		{"deleted", func(tx *Tx) error { return tx.Delete("a/b") }, true, true},
	} {
		var inside versions
		err := store.Update(context.Background(), func(tx *Tx) error {
			if now := look(tx); now != last {
				t.Errorf("%s: an update sees %x, a view saw %x", step.name, now, last)
			}
			if err := step.do(tx); err != nil {
				return err
			}
			inside = look(tx)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		now := read()
		if now != inside {
			t.Errorf("%s: %x, inside the update it was %x", step.name, now, inside)
		}
		if (now.record != last.record) != step.record || (now.folder != last.folder) != step.folder {
			t.Errorf("%s: %x after %x", step.name, now, last)
		}
		if step.record && now.record != (Version{}) && seen[now.record] {
			t.Errorf("%s: a version comes again", step.name)
		}
		seen[now.record], last = true, now
	}
	if last != (versions{}) {
		t.Errorf("when all is deleted: %x", last)
	}
}
