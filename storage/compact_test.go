package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// wornStore makes a store that has far more pages than it needs, and closes it.
func wornStore(t *testing.T) (path string, root []byte, want map[string]string) {
	t.Helper()
	s, root := newStore(t, Slot{Name: "one", Type: "static", RootGeneration: 1, Blob: []byte("b")})
	want = map[string]string{}
	for round := range 4 {
		edits := map[string]string{}
		for i := range 300 {
			edits[fmt.Sprintf("f%d/k%d", i%7, i)] = strings.Repeat(fmt.Sprint(round), 2000)
		}
		commitAll(t, s, want, edits)
	}
	edits := map[string]string{"large": strings.Repeat("l", MaxValue)}
	for i := range 200 {
		edits[fmt.Sprintf("f%d/k%d", i%7, i)] = ""
	}
	commitAll(t, s, want, edits)
	b, err := s.WriteBlob(t.Context(), strings.NewReader("a blob"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.PutBlob("blob", b) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s.Path(), root, want
}

func wantAll(t *testing.T, s *Store, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if got := mustGet(t, s, k); got != v {
			t.Errorf("%s has %d bytes, not %d", k, len(got), len(v))
		}
	}
	if got := readBlob(t, s, "blob"); got != "a blob" {
		t.Errorf("the blob is %q", got)
	}
}

func TestCompact(t *testing.T) {
	path, root, want := wornStore(t)
	old, err := Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(compactFile(path), []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	before, after, err := Compact(t.Context(), link, Options{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	if before != old.Size || after != info.Size || after > before*2/3 || info.Free*10 > info.Size {
		t.Errorf("from %d to %d bytes, in fact from %d to %d with %d free", before, after, old.Size, info.Size, info.Free)
	}
	if info.UUID != old.UUID || !info.Created.Equal(old.Created) || info.Values != old.Values || info.Chunks != old.Chunks || len(info.Slots) != 1 {
		t.Errorf("%+v became %+v", old, info)
	}
	if fi, err := os.Lstat(path); err != nil || fi.Mode() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is %v, %v", fi.Mode(), err)
	}
	if names := leftIn(t, filepath.Dir(path)); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
	s := reopen(t, path, root) // and checked at the end
	wantAll(t, s, want)
	put(t, s, "new", "value")
	if _, _, err := Compact(t.Context(), path, Options{LockTimeout: time.Millisecond}); !errors.Is(err, ErrLocked) {
		t.Errorf("of a store in use: %v", err)
	}
}

// Twice gives the same size, and so does an empty store.
func TestCompactAgain(t *testing.T) {
	path, root, want := wornStore(t)
	for range 2 {
		if _, _, err := Compact(t.Context(), path, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	before, after, err := Compact(t.Context(), path, Options{})
	if err != nil || after != before {
		t.Errorf("from %d to %d: %v", before, after, err)
	}
	wantAll(t, reopen(t, path, root), want)
	empty, root := newStore(t)
	empty.Close()
	if _, _, err := Compact(t.Context(), empty.Path(), Options{}); err != nil {
		t.Error(err)
	}
	put(t, reopen(t, empty.Path(), root), "a", "b")
}

func TestCompactRefuses(t *testing.T) {
	path, root, want := wornStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Compact(ctx, path, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, _, err := Compact(t.Context(), path+".absent", Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no store: %v", err)
	}
	edit(t, path, func(btx *bolt.Tx) error { // out of the keyring's list: still a record to keep
		return btx.Bucket(bucketSlots).Put([]byte("forged"), []byte("\x01{}"))
	})
	if _, _, err := Compact(t.Context(), path, Options{}); err != nil {
		t.Errorf("with a slot that does not decode: %v", err)
	}
	edit(t, path, func(btx *bolt.Tx) error {
		return btx.Bucket(bucketSlots).Delete([]byte("forged"))
	})
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for refused := 0; refused < 10; {
		d := damagePage(r, image, os.Getpagesize())
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
		if _, _, err := Compact(t.Context(), path, Options{}); err == nil {
			continue // in a page that is free
		} else if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", d.Name, err)
		}
		refused++
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, b) {
			t.Errorf("%s: the file was changed", d.Name)
		}
		if names := leftIn(t, filepath.Dir(path)); len(names) != 1 {
			t.Fatalf("%s: left behind: %v", d.Name, names)
		}
	}
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	wantAll(t, reopen(t, path, root), want)
}

// After a new root key, re-encryption and a compaction nothing of the old slots,
// of the old keyring or of the old records is in the file.
func TestCompactForgets(t *testing.T) {
	secret := func(i int) []byte { return fmt.Appendf(nil, "blob of an old slot %d, base64 hides nothing:", i) }
	var slots []Slot
	for i := range 3 {
		slots = append(slots, Slot{Name: fmt.Sprintf("s%d", i), Type: "static", RootGeneration: 1, Blob: bytes.Repeat(secret(i), 20)})
	}
	s, _ := newStore(t, slots...)
	for i := range 500 {
		put(t, s, fmt.Sprintf("k/%d", i), fmt.Sprintf("value %d", i))
	}
	path := s.Path()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old := oldRecords(t, s)
	root := NewRootKey()
	if err := s.RotateRoot(t.Context(), root, []Slot{{Name: "next", Type: "static", RootGeneration: 2, Blob: []byte("new")}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Reencrypt(t.Context(), 1<<30, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	present := func(image []byte) (n int) {
		for _, rec := range old {
			if bytes.Contains(image, rec) {
				n++
			}
		}
		return n
	}
	if n := present(image); n != len(old) {
		t.Fatalf("%d of %d old records are found in the old file", n, len(old))
	}
	if _, _, err := Compact(t.Context(), path, Options{}); err != nil {
		t.Fatal(err)
	}
	if image, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if n := present(image); n > 0 {
		t.Errorf("%d of %d old records are in the new file", n, len(old))
	}
	if got := mustGet(t, reopen(t, path, root), "k/7"); got != "value 7" {
		t.Errorf("k/7 is %q", got)
	}
}

// oldRecords are parts of every slot's blob, of the keyring and of each tenth
// value.
func oldRecords(t *testing.T, s *Store) (recs [][]byte) {
	t.Helper()
	part := func(rec []byte) { recs = append(recs, bytes.Clone(rec[len(rec)-24:])) }
	err := s.rawTx(func(btx *bolt.Tx) error {
		part(btx.Bucket(bucketMeta).Get(keyKeyring))
		n := 0
		return errors.Join(
			btx.Bucket(bucketSlots).ForEach(func(_, rec []byte) error {
				_, blob, _ := bytes.Cut(rec, []byte(`"blob":"`))
				blob, _, _ = bytes.Cut(blob, []byte(`"`))
				for at := 0; at+24 <= len(blob); at += 24 {
					recs = append(recs, bytes.Clone(blob[at:at+24]))
				}
				return nil
			}),
			btx.Bucket(bucketData).ForEach(func(_, rec []byte) error {
				if n++; n%10 == 0 {
					part(rec)
				}
				return nil
			}))
	})
	if err != nil || len(recs) < 100 {
		t.Fatalf("%d records, %v", len(recs), err)
	}
	return recs
}

// compactWork compacts, in a process of its own, again and again.
func compactWork(path string) error {
	os.Stdout.WriteString("ready\n")
	for {
		if _, _, err := Compact(context.Background(), path, Options{}); err != nil {
			return err
		}
	}
}

// A process that compacts is killed at any moment: the store is there and whole,
// and the next compaction leaves nothing beside it.
func TestKillCompact(t *testing.T) {
	rounds := 12
	if os.Getenv("SEALKEEP_LONG") != "" {
		rounds = 150
	}
	path, root, want := wornStore(t)
	leftovers := 0
	for range rounds {
		cmd := exec.Command("/proc/self/exe", path)
		if exe, err := os.Executable(); err == nil {
			cmd.Path = exe
		}
		cmd.Env = append(os.Environ(), stageVar+"=compact")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(rand.IntN(60)) * time.Millisecond) // the moment is the test
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
			t.Fatalf("the child ended by itself: %v", err)
		}
		leftovers += len(leftIn(t, filepath.Dir(path))) - 1
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Unseal(root); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Check(t.Context()); err != nil || !r.OK() {
			t.Fatalf("%v %v", err, r.Damage)
		}
		wantAll(t, s, want)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of %d kills left a file", leftovers, rounds)
	if _, _, err := Compact(t.Context(), path, Options{}); err != nil {
		t.Fatal(err)
	}
	if names := leftIn(t, filepath.Dir(path)); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}
