package storage

import (
	"context"
	"testing"
)

// What is kept is gone when the store is sealed, also for those that unseal it again.
func TestKept(t *testing.T) {
	s, root := newStore(t)
	type key struct{}
	made := 0
	read := func() (n int) {
		t.Helper()
		err := s.View(context.Background(), func(tx *Tx) error {
			n = tx.Kept(key{}, func() any { made++; return made }).(int)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if a, b := read(), read(); a != 1 || b != 1 {
		t.Errorf("the value is %d, then %d", a, b)
	}
	err := s.Update(context.Background(), func(tx *Tx) error {
		if n := tx.Kept(key{}, func() any { return 0 }).(int); n != 1 {
			t.Errorf("in a write it is %d", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(context.Background(), func(tx *Tx) error {
		s.state.Store(&state{h: s.state.Load().h}) // as Seal does, before it waits for Views
		if n := tx.Kept(key{}, func() any { return 7 }).(int); n != 7 {
			t.Errorf("while it is being sealed it is %d", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unseal(root); err != nil {
		t.Fatal(err)
	}
	if n := read(); n != 2 {
		t.Errorf("unsealed again, the value is %d", n)
	}
	s.Seal()
	if err := s.Unseal(root); err != nil {
		t.Fatal(err)
	}
	if n := read(); n != 3 {
		t.Errorf("sealed and unsealed, the value is %d", n)
	}
}
