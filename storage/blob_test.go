package storage

import (
	"bytes"
	"errors"
	"testing"
)

// chunks is how many records the blobs of a store have, the marks among them.
func chunks(t *testing.T, s *Store) int {
	t.Helper()
	r, err := s.Check(t.Context())
	if err != nil || !r.OK() {
		t.Fatalf("check: %+v, %v", r, err)
	}
	return r.Chunks
}

func TestBlobWriter(t *testing.T) {
	s, _ := newStore(t)
	write := func(path string, sizes ...int) (b Blob, commits uint64) {
		t.Helper()
		before := s.Stats().Commits
		w := s.NewBlob()
		for i, size := range sizes {
			if err := w.Append(t.Context(), bytes.Repeat([]byte{byte(i)}, size)); err != nil {
				t.Fatal(err)
			}
		}
		err := s.Update(t.Context(), func(tx *Tx) error { return w.Put(tx, path) })
		if err != nil {
			t.Fatal(err)
		}
		commits = s.Stats().Commits - before
		err = s.View(t.Context(), func(tx *Tx) error {
			is, err := tx.Blob(path)
			if err != nil {
				return err
			}
			b = *is
			for i, size := range sizes {
				chunk, err := tx.Chunk(b, uint32(i))
				if err != nil {
					return err
				}
				if !bytes.Equal(chunk, bytes.Repeat([]byte{byte(i)}, size)) {
					t.Errorf("chunk %d of %v is another", i, sizes)
				}
			}
			if _, err := tx.Chunk(b, uint32(len(sizes))); !errors.Is(err, ErrCorrupt) {
				t.Errorf("the chunk behind the last of %v: %v", sizes, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return b, commits
	}
	rehearsals := uint64(1)
	if rehearse {
		rehearsals = 2
	}
	for _, c := range []struct {
		sizes   []int
		commits uint64
	}{
		{[]int{100 << 10}, 1},
		{[]int{1, 2, 3}, 1},
		{nil, 1},
		{[]int{MaxValue}, 1},
		{[]int{500 << 10, 500 << 10, 500 << 10, 500 << 10, 1}, 3},
	} {
		b, commits := write("a", c.sizes...)
		if commits > c.commits*rehearsals {
			t.Errorf("%v took %d commits, want %d", c.sizes, commits, c.commits)
		}
		if int(b.Chunks) != len(c.sizes) {
			t.Errorf("%v has %d chunks", c.sizes, b.Chunks)
		}
		if n := chunks(t, s); n != len(c.sizes)+1 { // the mark
			t.Errorf("with %v in the place of another blob there are %d records", c.sizes, n)
		}
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.Delete("a") }); err != nil {
		t.Fatal(err)
	}
	if n := chunks(t, s); n != 0 {
		t.Errorf("%d records of blobs are left", n)
	}

	w := s.NewBlob()
	for range 5 {
		if err := w.Append(t.Context(), make([]byte, MaxValue)); err != nil {
			t.Fatal(err)
		}
	}
	if n := chunks(t, s); n != 4 {
		t.Errorf("%d chunks were written, want 4", n)
	}
	if err := w.Append(t.Context(), make([]byte, MaxValue+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a chunk that is too large: %v", err)
	}
	if err := w.Abandon(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := chunks(t, s); n != 0 {
		t.Errorf("%d records of an abandoned blob are left", n)
	}
}
