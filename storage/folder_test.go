package storage

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
)

// DeleteFolder deletes what lies below a folder, in several commits, and nothing else.
func TestDeleteFolder(t *testing.T) {
	s, _ := newStore(t)
	err := s.Update(t.Context(), func(tx *Tx) error {
		paths := []string{"a", "a/x/y/z", "a/x/y", "a/x/own", "ab/kept", "b"}
		for n := range 2*folderBatch + 1 {
			paths = append(paths, fmt.Sprintf("a/many/%d", n))
		}
		for _, path := range paths {
			if err := tx.Put(path, []byte("v")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.Generation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := s.DeleteFolder(ended, "a"); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("after its context has ended: %d, %v", n, err)
	}
	if n, err := s.DeleteFolder(t.Context(), "a"); n != 2*folderBatch+4 || err != nil {
		t.Errorf("%d records, %v", n, err)
	}
	if after, err := s.Generation(t.Context()); err != nil || after-before != 5 { // three of a/many, one of each other folder that has records
		t.Errorf("%d commits, %v", after-before, err)
	}
	if n, err := s.DeleteFolder(t.Context(), "a"); n != 0 || err != nil {
		t.Errorf("of an empty folder: %d, %v", n, err)
	}
	if _, err := s.DeleteFolder(t.Context(), "a//b"); !errors.Is(err, ErrPath) {
		t.Errorf("of no path: %v", err)
	}
	err = s.View(t.Context(), func(tx *Tx) error {
		top, err := tx.List("")
		if err != nil {
			return err
		}
		if want := []string{"a", "ab/", "b"}; !reflect.DeepEqual(top, want) {
			t.Errorf("%q are left, want %q", top, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
