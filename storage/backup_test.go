package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func backup(t testing.TB, s *Store) (string, Info) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup.db")
	info, err := s.Backup(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return path, info
}

// leftIn names the files of a folder.
func leftIn(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestBackup(t *testing.T) {
	slot := Slot{Name: "kms", Type: "awskms", KeyID: "arn", RootGeneration: 1, Blob: []byte("wrapped"), Created: time.Unix(1800000000, 0).UTC()}
	s, root := newStore(t, slot)
	put(t, s, "a/b", "one")
	put(t, s, "large", strings.Repeat("x", MaxValue))
	b, err := s.WriteBlob(t.Context(), strings.NewReader(strings.Repeat("blob", 1<<19)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.PutBlob("blob", b) }); err != nil {
		t.Fatal(err)
	}
	generation, err := s.Generation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Seal() // it needs no key
	path, info := backup(t, s)
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 || fi.Size() != info.Size {
		t.Errorf("%v, %v", fi, err)
	}
	if names := leftIn(t, filepath.Dir(path)); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
	seen, err := Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	if seen.SHA256 == info.SHA256 {
		t.Error("no hash")
	}
	info.SHA256 = seen.SHA256
	if fmt.Sprintf("%+v", seen) != fmt.Sprintf("%+v", info) {
		t.Errorf("Inspect says %+v, Backup %+v", seen, info)
	}
	if seen.UUID != s.UUID() || seen.Format != 1 || seen.Reader != 1 || seen.Values != 3 || seen.Chunks != 3 || seen.Transaction == 0 ||
		len(seen.Slots) != 1 || seen.Slots[0].KeyID != "arn" || !seen.Slots[0].Created.Equal(slot.Created) {
		t.Errorf("%+v", seen)
	}
	if _, err := s.Backup(t.Context(), path); !errors.Is(err, ErrExists) {
		t.Errorf("a second one to the same path: %v", err)
	}
	copied := reopen(t, path, root)
	if got := mustGet(t, copied, "a/b"); got != "one" {
		t.Errorf("a/b is %q", got)
	}
	if got := readBlob(t, copied, "blob"); len(got) != 4<<19 {
		t.Errorf("blob of %d bytes", len(got))
	}
	if n, err := copied.Generation(t.Context()); err != nil || n != generation {
		t.Errorf("generation %d, not %d: %v", n, generation, err)
	}
	put(t, copied, "a/b", "two") // both meta pages of a copy are good to go on from
	put(t, copied, "c", "three")
}

// Writers write on while the store is copied, each its keys in order: in each
// copy there are, of each writer, all up to some key.
func TestBackupIsOneState(t *testing.T) {
	s, root := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				err := s.Update(ctx, func(tx *Tx) error {
					return errors.Join(tx.Put(fmt.Sprintf("w%d/%06d", w, i), bytes.Repeat([]byte{byte(i)}, 3000)), tx.Put(fmt.Sprintf("last/%d", w), fmt.Append(nil, i)))
				})
				if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var copies []string
	for range 8 {
		before, err := s.Generation(ctx)
		if err != nil {
			t.Fatal(err)
		}
		path, _ := backup(t, s)
		copies = append(copies, path)
		for after := before; after < before+5; {
			if after, err = s.Generation(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	cancel()
	wg.Wait()
	for _, path := range copies {
		c := reopen(t, path, root) // and checked when the test ends
		for w := range 4 {
			last := mustGet(t, c, fmt.Sprintf("last/%d", w))
			keys := strings.Fields(list(t, c, fmt.Sprintf("w%d", w)))
			for i, k := range keys {
				if k != fmt.Sprintf("%06d", i) {
					t.Fatalf("writer %d: key %d is %s", w, i, k)
				}
			}
			if last != "(none)" && last != fmt.Sprint(len(keys)-1) {
				t.Errorf("writer %d: %d keys, and the last is %s", w, len(keys), last)
			}
		}
	}
}

// A backup ends with the store, and leaves nothing.
func TestBackupEnds(t *testing.T) {
	for name, end := range map[string]struct {
		sealed bool
		do     func(*Store, context.CancelFunc)
		want   error
	}{
		"cancelled": {false, func(_ *Store, cancel context.CancelFunc) { cancel() }, context.Canceled},
		"closed":    {true, func(s *Store, _ context.CancelFunc) { s.Close() }, ErrClosed},
		"sealed":    {false, func(s *Store, _ context.CancelFunc) { s.Seal() }, ErrSealed},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newStore(t)
			for i := range 24 {
				put(t, s, fmt.Sprint(i), strings.Repeat("x", MaxValue))
			}
			if end.sealed {
				s.Seal()
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			dir := t.TempDir()
			// In the middle of the copy: that a step of it has been written is seen from outside.
			go func() {
				part := filepath.Join(dir, "b.db.part")
				for ctx.Err() == nil {
					if fi, err := os.Stat(part); err == nil && fi.Size() > 0 {
						break
					}
				}
				end.do(s, cancel)
			}()
			_, err := s.Backup(ctx, filepath.Join(dir, "b.db"))
			if err != nil && !errors.Is(err, end.want) {
				t.Errorf("%v, not %v", err, end.want)
			}
			if names := leftIn(t, dir); err != nil && len(names) > 0 {
				t.Errorf("left behind: %v", names)
			}
			t.Logf("%v", err) // nil when the copy was quicker
		})
	}
}

func TestBackupRefuses(t *testing.T) {
	s, _ := newStore(t)
	if _, err := s.Backup(t.Context(), filepath.Join(t.TempDir(), "none", "b.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a folder: %v", err)
	}
	if _, err := s.Backup(t.Context(), s.Path()); !errors.Is(err, ErrExists) {
		t.Errorf("over itself: %v", err)
	}
	if err := checkSpace(s.Path(), 1<<60); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("an exabyte: %v", err)
	}
	if _, err := Inspect(s.Path()); !errors.Is(err, ErrLocked) {
		t.Errorf("inspecting a store in use: %v", err)
	}
	// The file under a running keep is replaced.
	other, _ := newStore(t)
	if err := os.Rename(s.Path(), s.Path()+".old"); err != nil {
		t.Fatal(err)
	}
	path, _ := backup(t, other)
	if err := os.Link(path, s.Path()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Backup(t.Context(), filepath.Join(t.TempDir(), "b.db")); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another file at the path: %v", err)
	}
	os.Remove(s.Path())
	if err := os.Rename(s.Path()+".old", s.Path()); err != nil {
		t.Fatal(err)
	}
}

// Inspect never ends the process, and takes for whole only what bbolt's own
// check and a keep take for whole.
func TestInspectDamaged(t *testing.T) {
	rounds, seed := 400, uint64(1)
	if os.Getenv("SEALKEEP_LONG") != "" {
		rounds, seed = 4000, rand.Uint64()
	}
	s, _ := newStore(t)
	buildMany(t, s)
	buildLarge(t, s)
	path, info := backup(t, s)
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(seed, 0))
	whole, refused := 0, 0
	for range rounds {
		d := damagePage(r, image, s.state.Load().h.pageSize)
		if r.IntN(2) == 0 {
			off, bit := r.IntN(len(image)), byte(1)<<r.IntN(8)
			d = damage{Name: fmt.Sprintf("bit %#x at %d", bit, off), Patches: []patch{{int64(off), []byte{image[off] ^ bit}}}}
		}
		got, err := inspectDamaged(t, path, image, d)
		switch {
		case err == nil:
			whole++
			if got.UUID != info.UUID {
				t.Errorf("%s: UUID %s", d.Name, got.UUID)
			}
		case errors.Is(err, ErrCorrupt), errors.Is(err, ErrFormat):
			refused++
		default:
			t.Errorf("%s: %v", d.Name, err)
		}
	}
	t.Logf("seed %d: %d refused, %d have whole pages", seed, refused, whole)
	if refused < rounds/8 {
		t.Errorf("only %d of %d refused", refused, rounds)
	}
}

// inspectDamaged damages the file and inspects it. What has whole pages must be
// whole for bbolt, too; but for one meta page, without which its check fails and
// a store does not.
func inspectDamaged(t *testing.T, path string, image []byte, d damage) (Info, error) {
	t.Helper()
	b := bytes.Clone(image)
	for _, p := range d.Patches {
		copy(b[p.Off:], p.Bytes)
	}
	if d.Cut > 0 {
		b = b[:d.Cut]
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := Inspect(path)
	onMeta := func(p patch) bool { return p.Off < 2*int64(os.Getpagesize()) }
	if err == nil && !slices.ContainsFunc(d.Patches, onMeta) {
		if found, err := CheckPages(path, time.Second); err != nil || len(found) > 0 {
			t.Errorf("%s: Inspect finds nothing, bbolt %v %v", d.Name, found, err)
		}
	}
	return info, err
}

func FuzzInspect(f *testing.F) {
	path := filepath.Join(f.TempDir(), "s.db")
	if err := Create(path, NewUUID(), faultRoot, []Slot{{Name: "one", Type: "static", Blob: []byte("b")}}, nil, damageOptions); err != nil {
		f.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, uint16(0))
	f.Add(image[:100], uint16(7))
	f.Add(image[16:80], uint16(0x2010))
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		damaged := bytes.Clone(image)
		copy(damaged[min(int(at), len(damaged)):], b)
		path := filepath.Join(t.TempDir(), "s.db")
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Inspect(path); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
	})
}
