package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// holed makes a closed store with n secrets left, of a page each, and about as
// many free pages in between.
func holed(t *testing.T, n int) (path string, root []byte) {
	t.Helper()
	path, root = filepath.Join(t.TempDir(), "s.db"), NewRootKey()
	if err := Create(path, NewUUID(), root, nil, nil, Options{}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unseal(root); err != nil {
		t.Fatal(err)
	}
	value := bytes.Repeat([]byte("v"), 3000)
	for from := 0; from < 2*n; from += 500 {
		if err := s.Update(t.Context(), func(tx *Tx) error {
			for i := from; i < min(from+500, 2*n); i++ {
				if err := tx.Put(fmt.Sprintf("k%06d", i), value); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for from := 0; from < 2*n; from += 500 {
		if err := s.Update(t.Context(), func(tx *Tx) error {
			for i := from; i < min(from+500, 2*n); i += 2 {
				if err := tx.Delete(fmt.Sprintf("k%06d", i)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path, root
}

// wantHoled reads what holed has left.
func wantHoled(t *testing.T, s *Store, n int) {
	t.Helper()
	for i := 1; i < 2*n; i += 2 {
		if v, err := get(s, fmt.Sprintf("k%06d", i)); err != nil || len(v) != 3000 {
			t.Errorf("secret %d: %d bytes, %v", i, len(v), err)
			return
		}
	}
}

// patchFile changes bytes of a file.
func patchFile(t *testing.T, path string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

func readAll(t *testing.T, path string) (image []byte, ms metas, l freeList) {
	t.Helper()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if ms, err = readMetas(image); err != nil {
		t.Fatal(err)
	}
	if l, err = readList(image, &ms.meta); err != nil {
		t.Fatal(err)
	}
	return image, ms, l
}

// One wrong entry in the free list destroys no live secret, whatever it is; each
// is said, unless it only leaves a page out.
func TestOneWrongEntryOfTheFreeListLosesNothing(t *testing.T) {
	const n = 300
	path, root := holed(t, n)
	image, ms, l := readAll(t, path)
	used, err := reachable(bytes.NewReader(image), &ms.meta, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	var live []uint64
	for id := uint64(2); id < ms.pages; id++ {
		if used.has(id) {
			live = append(live, id)
		}
	}
	at := int64(ms.free*ms.pageSize) + pageHeader
	for name, entry := range map[string]struct {
		i  int
		id uint64
	}{
		"a live page in its place":       {slices.IndexFunc(l.ids, func(id uint64) bool { return id > live[9] }), live[9]},
		"a page twice":                   {5, l.ids[4]},
		"a page that does not exist":     {len(l.ids) - 1, ms.pages + 7},
		"a page beyond all":              {len(l.ids) - 1, 1 << 60},
		"the list's own page":            {slices.IndexFunc(l.ids, func(id uint64) bool { return id > l.own.start }), l.own.start},
		"a meta page":                    {0, 1},
		"the numbers out of their order": {3, l.ids[6]},
	} {
		t.Run(name, func(t *testing.T) {
			if entry.i < 0 {
				entry.i = len(l.ids) - 1
			}
			path := filepath.Join(t.TempDir(), "s.db")
			if err := os.WriteFile(path, image, 0o600); err != nil {
				t.Fatal(err)
			}
			patchFile(t, path, at+8*int64(entry.i), binary.NativeEndian.AppendUint64(nil, entry.id))
			if damage, err := CheckPages(path, 0); err != nil || len(damage) != 1 {
				t.Errorf("CheckPages: %v, %v", damage, err)
			}
			var said bytes.Buffer
			s, err := Open(path, Options{Logger: slog.New(slog.NewTextHandler(&said, nil))})
			if err != nil {
				t.Fatal(err)
			}
			defer closeChecked(t, s, root)
			if err := s.Unseal(root); err != nil {
				t.Fatal(err)
			}
			wantHoled(t, s, n)
			for i := range 50 {
				put(t, s, fmt.Sprintf("new/%d", i), strings.Repeat("n", 3000))
			}
			wantHoled(t, s, n)
			if !strings.Contains(said.String(), "free pages") {
				t.Errorf("it was not said: %s", &said)
			}
		})
	}
}

// A forged count ends no process: not of the server, nor of a command.
func TestAForgedCountEndsNoProcess(t *testing.T) {
	const n = 300
	path, root := holed(t, n)
	image, ms, _ := readAll(t, path)
	list := int64(ms.free * ms.pageSize)
	huge := binary.NativeEndian.AppendUint64(nil, 1<<50)
	for name, patches := range map[string][]patch{
		"count":                 {{list + 10, []byte{0xfe, 0xff}}},
		"count beyond 16 bits":  {{list + 10, []byte{0xff, 0xff}}, {list + 16, huge}},
		"no numbers":            {{list + 10, []byte{0, 0}}},
		"overflow":              {{list + 12, []byte{0xff, 0xff, 0xff, 0x7f}}},
		"flags":                 {{list + 8, []byte{2, 0}}},
		"another page's number": {{list, huge}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.db")
			damaged := bytes.Clone(image)
			for _, p := range patches {
				copy(damaged[p.Off:], p.Bytes)
			}
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			if damage, err := CheckPages(path, 0); err != nil || len(damage) != 1 {
				t.Errorf("CheckPages: %v, %v", damage, err)
			}
			if _, err := Inspect(path); !errors.Is(err, ErrCorrupt) {
				t.Errorf("Inspect: %v", err)
			}
			if _, _, err := Compact(t.Context(), path, Options{}); err != nil {
				t.Errorf("Compact: %v", err)
			}
			wantHoled(t, reopen(t, path, root), n)

			if err := os.WriteFile(path+".2", damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			s := reopen(t, path+".2", root)
			put(t, s, "new", "1")
			wantHoled(t, s, n)
		})
	}
	// And in the meta page, with a checksum that holds.
	for name, edit := range map[string]func(*meta){
		"free list":   func(m *meta) { m.free = 1 << 40 },
		"pages":       func(m *meta) { m.pages = 1 << 50 },
		"root":        func(m *meta) { m.root = m.pages },
		"transaction": func(m *meta) { m.txid = 1<<63 + m.txid%2 },
	} {
		m := ms.meta
		edit(&m)
		binary.NativeEndian.PutUint64(m.raw[16:], m.root)
		m.txid-- // next adds one
		m = m.next(m.free, m.pages)
		damaged := bytes.Clone(image)
		copy(damaged[ms.page*ms.pageSize+pageHeader:], m.raw[:])
		path := filepath.Join(t.TempDir(), "s.db")
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(path, Options{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
		if damage, err := CheckPages(path, 0); err != nil || len(damage) != 1 {
			t.Errorf("%s: CheckPages: %v, %v", name, damage, err)
		}
	}
}

// The first write waits for the proof within its own deadline; reads do not wait.
func TestReadsAreServedWhileTheFreeListIsProven(t *testing.T) {
	s, root := newStore(t)
	put(t, s, "a", "1")
	s = reborn(t, s, root)
	h := s.state.Load().h
	set := func(p *proof) {
		h.proving.Lock()
		defer h.proving.Unlock()
		h.proof = p
	}
	p := &proof{done: make(chan struct{})}
	set(p) // one that does not end
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Update(ctx, func(tx *Tx) error { return tx.Put("a", nil) }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a write: %v", err)
	}
	if got := mustGet(t, s, "a"); got != "1" {
		t.Errorf("a = %q", got)
	}
	waiting := make(chan error)
	go func() { waiting <- s.Rotate(t.Context()) }()
	s.Seal() // nor does this wait
	if err := s.Unseal(root); err != nil {
		t.Error(err)
	}
	p.err = s.prove(h)
	set(nil)
	close(p.done)
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

// Opening, unsealing and reading write nothing.
func TestOpeningWritesNothing(t *testing.T) {
	path, root := holed(t, 20)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unseal(root); err != nil {
		t.Fatal(err)
	}
	wantHoled(t, s, 20)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the file has changed: %v", err)
	}
}

// A fragmented list costs a commit no more than 64 KiB; what is not in it is used
// again all the same, also after a crash, and is in the list of a closed file.
func TestAFragmentedFreeListIsKeptShort(t *testing.T) {
	const n = 9500
	path, root := holed(t, n)
	if _, _, l := readAll(t, path); len(l.ids) < n*9/10 {
		t.Fatalf("a closed file lists %d free pages", len(l.ids))
	}
	s, err := Open(path, Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unseal(root); err != nil {
		t.Fatal(err)
	}
	put(t, s, "new", "1")
	put(t, s, "new", "2")
	if _, _, l := readAll(t, path); len(l.ids) > maxFree || len(l.ids) < keptFree/2 {
		t.Errorf("after a commit %d free pages are listed", len(l.ids))
	}
	// The file of a process that was killed.
	crashed := filepath.Join(t.TempDir(), "s.db")
	copyFile(t, path, crashed)
	if damage, err := CheckPages(crashed, 0); err != nil || len(damage) > 0 {
		t.Errorf("of a killed process: %v, %v", damage, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, l := readAll(t, path); len(l.ids) < n*9/10 {
		t.Errorf("a closed file lists %d free pages", len(l.ids))
	}
	boltCheck(t, path)
	for _, path := range []string{path, crashed} {
		s := reopen(t, path, root)
		before := s.Stats().FileBytes
		for from := 0; from < n*8/10; from += 400 {
			if err := s.Update(t.Context(), func(tx *Tx) error {
				for i := from; i < from+400; i++ {
					if err := tx.Put(fmt.Sprintf("again/%d", i), bytes.Repeat([]byte("w"), 3000)); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		wantHoled(t, s, n)
		if grown := s.Stats().FileBytes - before; grown > 20<<20 { // bbolt grows a file by 16 MiB
			t.Errorf("the file grew by %d MiB", grown>>20)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Of a damaged meta page the checksum gives back up to three bits: nothing of the
// last commit is lost.
func TestADamagedMetaPageLosesNoCommit(t *testing.T) {
	s, root := newStore(t)
	put(t, s, "a", "1")
	put(t, s, "a", "2")
	path := s.Path()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	image, ms, _ := readAll(t, path)
	at := int64(ms.page*ms.pageSize) + pageHeader
	for name, bits := range map[string][]int{
		"the root": {16*8 + 3}, "the free list": {32*8 + 1, 32*8 + 9}, "everything": {1, 40*8 + 2, 48*8 + 1}, "the checksum": {56 * 8, 60 * 8, 63 * 8},
	} {
		path := filepath.Join(t.TempDir(), "s.db")
		damaged := bytes.Clone(image)
		for _, bit := range bits {
			damaged[at+int64(bit/8)] ^= 1 << (bit % 8)
		}
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if damage, err := CheckPages(path, 0); err != nil || len(damage) != 1 {
			t.Errorf("%s: CheckPages: %v, %v", name, damage, err)
		}
		s := reopen(t, path, root)
		if got := mustGet(t, s, "a"); got != "2" {
			t.Errorf("%s: a = %q", name, got)
		}
		put(t, s, "b", "3")
	}
	// What cannot be mended is said.
	clear(image[at : at+metaSize])
	path = filepath.Join(t.TempDir(), "s.db")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	s, err := Open(path, Options{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer closeChecked(t, s, root)
	if !strings.Contains(said.String(), "the last commit is lost") {
		t.Errorf("said: %s", &said)
	}
	if err := s.Unseal(root); err != nil {
		t.Fatal(err)
	}
	if got := mustGet(t, s, "a"); got != "1" {
		t.Errorf("a = %q", got)
	}
	put(t, s, "a", "2") // which replaces the damaged page
}

// A leaf whose count or overflow was changed is never read nor written as if it
// were whole.
func TestAPageClaimsWhatItsContentNeeds(t *testing.T) {
	s, root := newStore(t)
	for i := range 40 {
		put(t, s, fmt.Sprintf("large/%d", i), strings.Repeat("l", 9000))
	}
	path := s.Path()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	image, ms, _ := readAll(t, path)
	for _, f := range fieldsOfPages(t, image, &ms.meta) {
		for bit := range 3 {
			damaged := bytes.Clone(image)
			damaged[f] ^= 1 << bit
			path := filepath.Join(t.TempDir(), "s.db")
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			if damage, err := CheckPages(path, 0); err != nil || len(damage) == 0 {
				t.Fatalf("bit %d at %d: CheckPages: %v, %v", bit, f, damage, err)
			}
			s, err := Open(path, Options{})
			if err != nil {
				continue // of the meta bucket
			}
			if s.Unseal(root) == nil {
				lost := 0
				for i := range 40 {
					path := fmt.Sprintf("large/%d", i)
					v, err := get(s, path)
					if err == nil && len(v) != 9000 {
						t.Errorf("bit %d at %d: %d bytes", bit, f, len(v))
					} else if err != nil {
						lost++
					}
				}
				_ = s.Update(t.Context(), func(tx *Tx) error { return tx.Put("large/1", []byte("x")) })
				for i := range 40 {
					if _, err := get(s, fmt.Sprintf("large/%d", i)); err != nil {
						lost--
					}
				}
				if lost < 0 {
					t.Errorf("bit %d at %d: writing lost %d", bit, f, -lost)
				}
			}
			_ = s.Close()
		}
	}
}

// fieldsOfPages are the places of the counts and overflow counts of a few pages
// in use.
func fieldsOfPages(t *testing.T, image []byte, m *meta) (at []int64) {
	t.Helper()
	used, err := reachable(bytes.NewReader(image), m, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	tr := tree{data: image, pageSize: int(m.pageSize)}
	for id := uint64(2); id < m.pages && len(at) < 24; id++ {
		if p, err := tr.page(id); used.has(id) && err == nil {
			at = append(at, int64(id*m.pageSize)+10, int64(id*m.pageSize)+12)
			id += uint64(len(p.b))/m.pageSize - 1
		}
	}
	return at
}

// A handle that goes ends the reads that have no deadline, and those who want to
// write are told at once.
func TestNobodyWaitsForALongRead(t *testing.T) {
	s, root := newStore(t)
	put(t, s, "a", "1")
	reading, ended := make(chan struct{}), make(chan error, 1)
	read := func() {
		ended <- s.view(t.Context(), 1<<62, func(tx *Tx) error {
			reading <- struct{}{}
			for {
				if _, err := tx.Get("a"); err != nil {
					return err
				}
			}
		})
	}
	wait := func(want error) {
		t.Helper()
		select {
		case err := <-ended:
			if !errors.Is(err, want) {
				t.Errorf("the read ended with %v, want %v", err, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the read did not end")
		}
	}
	go read()
	<-reading
	// As after a commit that failed.
	if err := s.direct(t.Context(), func(*handle) error { return ErrUnknownOutcome }); !errors.Is(err, ErrUnknownOutcome) {
		t.Error(err)
	}
	wait(ErrUnavailable)
	for until := time.Now().Add(10 * time.Second); ; {
		err := s.Update(t.Context(), func(tx *Tx) error { return tx.Put("a", []byte("2")) })
		if err == nil {
			break
		}
		if !errors.Is(err, ErrUnavailable) || time.Now().After(until) {
			t.Fatal(err)
		}
	}
	go read()
	<-reading
	s.Seal()
	wait(ErrSealed)
	if err := s.Unseal(root); err != nil {
		t.Fatal(err)
	}
	// A read that does not look at the store is waited for, but not by writers.
	release := make(chan struct{})
	go func() {
		ended <- s.view(t.Context(), 1<<62, func(*Tx) error { reading <- struct{}{}; <-release; return nil })
	}()
	<-reading
	_ = s.direct(t.Context(), func(*handle) error { return ErrUnknownOutcome })
	if err := s.Update(t.Context(), func(*Tx) error { return nil }); !errors.Is(err, ErrUnavailable) {
		t.Errorf("while a reader holds the handle: %v", err)
	}
	close(release)
	wait(nil)
	for until := time.Now().Add(10 * time.Second); s.Update(t.Context(), func(*Tx) error { return nil }) != nil; {
		if time.Now().After(until) {
			t.Fatal("the store does not become usable again")
		}
	}
}

// Sealing forgets the root key that a failed commit may have put in force.
func TestSealForgetsTheNextRootKey(t *testing.T) {
	s, root := newStore(t, testSlot("a", 1))
	old := s.ring()
	next, err := old.change(func(j *keyringJSON) { j.RootGeneration++ })
	if err != nil {
		t.Fatal(err)
	}
	next.root = NewRootKey()
	s.change(func(st *state) { st.next, st.nextID = next, 1<<40 })
	s.Seal()
	if zero := make([]byte, rootKeySize); !bytes.Equal(next.root, zero) || !bytes.Equal(old.root, zero) {
		t.Error("a root key is in memory after Seal")
	}
	if err := s.Unseal(root); err != nil {
		t.Fatal(err)
	}
}

// A call from inside an Update that would wait for that Update is refused,
// whatever context it brings.
func TestNestingWithTheOuterContextIsRefused(t *testing.T) {
	s, _ := newStore(t, testSlot("a", 1))
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"Update":    func() error { return s.Update(ctx, func(*Tx) error { return nil }) },
		"Rotate":    func() error { return s.Rotate(ctx) },
		"PutSlot":   func() error { return s.PutSlot(ctx, testSlot("b", 1)) },
		"Reencrypt": func() error { return errors.Join(s.Rotate(ctx), s.Reencrypt(ctx, 1, nil)) },
		"WriteBlob": func() error {
			_, err := s.WriteBlob(ctx, io.LimitReader(strings.NewReader("blob"), 4))
			return err
		},
	} {
		began := time.Now()
		if err := s.Update(ctx, func(*Tx) error { return call() }); !errors.Is(err, ErrNested) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: refused after %v", name, took)
		}
	}
	put(t, s, "a", "1")
}

// What bbolt makes of a list is what relist wrote.
func TestRelistIsReadByBolt(t *testing.T) {
	for _, n := range []int{0, 1, 500, 70000} {
		path := filepath.Join(t.TempDir(), "s.db")
		o := boltOptions(Options{}.withDefaults())
		o.PageSize, o.NoSync = minPageSize, true
		db, err := bolt.Open(path, 0o600, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Update(func(btx *bolt.Tx) error {
			for _, name := range [][]byte{bucketMeta, bucketSlots, bucketData, bucketBlobs} {
				if _, err := btx.CreateBucket(name); err != nil {
					return err
				}
			}
			b := btx.Bucket(bucketData)
			if err := b.Put([]byte("large"), make([]byte, (n+1)*minPageSize)); err != nil {
				return err
			}
			return btx.Bucket(bucketMeta).Put(keyHeader, []byte(`{"format":1,"reader":1,"uuid":"`+NewUUID()+`"}`))
		}); err != nil {
			t.Fatal(err)
		}
		if err := db.Update(func(btx *bolt.Tx) error { return btx.Bucket(bucketData).Delete([]byte("large")) }); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		h, _, err := openHandle(path, Options{}.withDefaults())
		if err != nil {
			t.Fatal(err)
		}
		m, data, err := h.newest()
		if err != nil {
			t.Fatal(err)
		}
		l, err := readList(data, &m)
		if err != nil || len(l.ids) < n {
			t.Fatalf("%d pages are free, %v", len(l.ids), err)
		}
		if err := h.relist(m, l.ids[:n]); err != nil {
			t.Errorf("%d: %v", n, err)
		}
		if err := h.DB.Update(func(btx *bolt.Tx) error { return btx.Bucket(bucketData).Put([]byte("a"), []byte("1")) }); err != nil {
			t.Error(err)
		}
		if m, _, err := h.newest(); err != nil || m.txid < 4 {
			t.Errorf("transaction %d, %v", m.txid, err)
		}
		if err := h.close(); err != nil {
			t.Error(err)
		}
		if damage, err := CheckPages(path, 0); err != nil || len(damage) > 0 {
			t.Errorf("%d: %v, %v", n, damage, err)
		}
	}
}
