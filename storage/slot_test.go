package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

func testSlot(name string, generation uint64) Slot {
	return Slot{Name: name, Type: "test", KeyID: "k1", Blob: []byte("blob of " + name), Lock: []byte("lock"), RootGeneration: generation}
}

// slotNames are the trusted slots, then the missing, then the quarantined.
func slotNames(t *testing.T, s *Store) string {
	t.Helper()
	table, err := s.SlotTable()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, slot := range table.Trusted {
		names = append(names, slot.Name)
	}
	return strings.Join(names, ",") + "/" + strings.Join(table.Missing, ",") + "/" + strings.Join(table.Quarantined, ",")
}

func wantSlots(t *testing.T, s *Store, want string) {
	t.Helper()
	if got := slotNames(t, s); got != want {
		t.Errorf("slots %q, want %q", got, want)
	}
}

func TestSlots(t *testing.T) {
	s, root := newStore(t, testSlot("a", 1))
	ctx := t.Context()
	if err := errors.Join(s.PutSlot(ctx, testSlot("b", 1)), s.PutSlot(ctx, testSlot("c", 1))); err != nil {
		t.Fatal(err)
	}
	again := testSlot("a", 1)
	again.KeyID = "k2"
	if err := s.PutSlot(ctx, again); err != nil {
		t.Fatal(err)
	}
	wantSlots(t, s, "b,c,a//")
	for _, refused := range []struct {
		err  error
		want error
	}{
		{s.PutSlot(ctx, testSlot("d", 2)), ErrGeneration},
		{s.PutSlot(ctx, testSlot("", 1)), ErrPath},
		{s.PutSlot(ctx, Slot{Name: "d", RootGeneration: 1, Blob: make([]byte, maxSlotSize)}), ErrTooLarge},
		{s.RemoveSlot(ctx, "d"), ErrNoSlot},
		{s.RotateRoot(ctx, root, nil), ErrLastSlot},
		{s.RotateRoot(ctx, root, []Slot{testSlot("a", 1)}), ErrGeneration},
		{s.RotateRoot(ctx, root[1:], []Slot{testSlot("a", 2)}), ErrRootKey},
	} {
		if !errors.Is(refused.err, refused.want) {
			t.Errorf("%v, want %v", refused.err, refused.want)
		}
	}
	wantSlots(t, s, "b,c,a//")
	if err := errors.Join(s.RemoveSlot(ctx, "b"), s.RemoveSlot(ctx, "c")); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveSlot(ctx, "a"); !errors.Is(err, ErrLastSlot) {
		t.Errorf("removing the last: %v", err)
	}
	s = reborn(t, s, root)
	table, err := s.SlotTable()
	if slots := table.Trusted; err != nil || len(slots) != 1 || slots[0].KeyID != "k2" || !bytes.Equal(slots[0].Lock, []byte("lock")) {
		t.Errorf("after reopening: %+v, %v", slots, err)
	}
	got, generation, err := s.RootKey()
	if err != nil || !bytes.Equal(got, root) || generation != 1 {
		t.Errorf("root key %x, generation %d, %v", got, generation, err)
	}
	s.Seal()
	if _, _, err := s.RootKey(); !errors.Is(err, ErrSealed) {
		t.Errorf("root key while sealed: %v", err)
	}
	if _, err := s.SlotTable(); !errors.Is(err, ErrSealed) {
		t.Errorf("trusted slots while sealed: %v", err)
	}
}

// A slot takes the place of others in one commit, which leaves no state between.
func TestASlotTakesTheOthersPlacesInOneCommit(t *testing.T) {
	s, root := newStore(t, testSlot("a", 1), testSlot("old", 1), testSlot("new", 1))
	before := s.Stats().Commits
	next := testSlot("old", 1)
	next.KeyID = "k2"
	if err := s.PutSlot(t.Context(), testSlot("old", 2), "new"); !errors.Is(err, ErrGeneration) {
		t.Errorf("another generation: %v", err)
	}
	wantSlots(t, s, "a,old,new//")
	if err := s.PutSlot(t.Context(), next, "new", "absent"); err != nil {
		t.Fatal(err)
	}
	if n := s.Stats().Commits - before; n != 1 {
		t.Errorf("%d commits, want 1", n)
	}
	wantSlots(t, s, "a,old//")
	s = reborn(t, s, root)
	wantSlots(t, s, "a,old//")
	slots, err := s.Slots()
	if err != nil || len(slots) != 2 || slots[1].KeyID != "k2" {
		t.Errorf("on disk: %+v, %v", slots, err)
	}
}

// reborn closes the store and opens it again.
func reborn(t *testing.T, s *Store, root []byte) *Store {
	t.Helper()
	path := s.Path()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return reopen(t, path, root)
}

// What somebody wrote into the table on disk is neither trusted nor in the way.
func TestForgedSlots(t *testing.T) {
	s, root := newStore(t, testSlot("a", 1), testSlot("b", 1))
	path := s.Path()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, path, func(btx *bolt.Tx) error {
		swapped := testSlot("a", 1)
		swapped.Lock = []byte("another recipient")
		rec, _ := swapped.encode()
		forged, _ := testSlot("z", 1).encode()
		b := btx.Bucket(bucketSlots)
		return errors.Join(b.Put([]byte("a"), rec), b.Put([]byte("z"), forged), b.Put([]byte("junk"), []byte("junk")))
	})
	s = reopen(t, path, root)
	wantSlots(t, s, "b/a/a,junk,z")
	ctx := t.Context()
	if err := errors.Join(s.PutSlot(ctx, testSlot("a", 1)), s.RemoveSlot(ctx, "junk"), s.RemoveSlot(ctx, "z")); err != nil {
		t.Fatal(err)
	}
	wantSlots(t, s, "b,a//")
	s = reborn(t, s, root)
	wantSlots(t, s, "b,a//")
}

func TestRotateRoot(t *testing.T) {
	s, old := newStore(t, testSlot("a", 1), testSlot("b", 1))
	put(t, s, "x", "1")
	next := NewRootKey()
	before := s.Fingerprint()
	if err := s.RotateRoot(t.Context(), next, []Slot{testSlot("b", 2), testSlot("c", 2)}); err != nil {
		t.Fatal(err)
	}
	if s.Fingerprint() == before || s.Fingerprint() != Fingerprint(next) {
		t.Errorf("fingerprint %s, was %s", s.Fingerprint(), before)
	}
	wantSlots(t, s, "b,c//")
	put(t, s, "y", "2")
	path := s.Path()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeChecked(t, s, next) })
	if err := s.Unseal(old); !errors.Is(err, ErrRootKey) {
		t.Errorf("unsealing with the old root key: %v", err)
	}
	if err := s.Unseal(next); err != nil {
		t.Fatal(err)
	}
	if got := mustGet(t, s, "x") + mustGet(t, s, "y"); got != "12" {
		t.Errorf("values %q", got)
	}
	if ks, err := s.KeyStatus(t.Context()); err != nil || ks.Term != 2 {
		t.Errorf("key status %+v %v", ks, err)
	}
}

func TestReencrypt(t *testing.T) {
	s, root := newStore(t)
	ctx := t.Context()
	for i := range 700 {
		put(t, s, fmt.Sprintf("v/%d", i), strings.Repeat("x", i))
	}
	big := strings.Repeat("0123456789abcdef", 2*MaxValue/16) + "tail"
	b, err := s.WriteBlob(ctx, strings.NewReader(big))
	if err == nil {
		err = s.Update(ctx, func(tx *Tx) error { return tx.PutBlob("big", b) })
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reencrypt(ctx, 1<<20, nil); err != nil {
		t.Fatal(err) // nothing to do
	}
	if err := errors.Join(s.Rotate(ctx), s.Rotate(ctx)); err != nil {
		t.Fatal(err)
	}
	// Ended half-way, it goes on after a restart.
	half, cancel := context.WithCancel(ctx)
	if err := s.Reencrypt(half, 1<<20, func(uint64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Fatalf("ended half-way: %v", err)
	}
	if ks, _ := s.KeyStatus(ctx); !slices.Equal(ks.Terms, []uint32{1, 2, 3}) {
		t.Errorf("terms half-way %v", ks.Terms)
	}
	s = reborn(t, s, root)

	// What is written, deleted and read meanwhile is not disturbed.
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 300 && err == nil; i++ {
			err = s.Update(ctx, func(tx *Tx) error {
				return errors.Join(tx.Put(fmt.Sprintf("v/%d", 2*i), []byte("new")), tx.Delete(fmt.Sprintf("v/%d", 2*i+1)))
			})
		}
		done <- err
	}()
	var passed uint64
	if err := s.Reencrypt(ctx, 1<<20, func(n uint64) { passed = n }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if passed < 400 {
		t.Errorf("%d records passed", passed)
	}
	ks, err := s.KeyStatus(ctx)
	if err != nil || !slices.Equal(ks.Terms, []uint32{3}) {
		t.Errorf("terms %v %v", ks.Terms, err)
	}
	s = reborn(t, s, root)
	if got := readBlob(t, s, "big"); got != big {
		t.Errorf("blob is %d bytes", len(got))
	}
	for i := range 700 {
		want := strings.Repeat("x", i)
		if i < 600 {
			if want = "new"; i%2 == 1 {
				if v, err := get(s, fmt.Sprintf("v/%d", i)); v != nil || err != nil {
					t.Errorf("v/%d is back: %v", i, err)
				}
				continue
			}
		}
		if got := mustGet(t, s, fmt.Sprintf("v/%d", i)); got != want {
			t.Errorf("v/%d = %q", i, got)
		}
	}
}

// A record that cannot be read ends the pass, and the old term stays.
func TestReencryptDamaged(t *testing.T) {
	path := t.TempDir() + "/s.db"
	root := NewRootKey()
	if err := Create(path, NewUUID(), root, nil, func(tx *Tx) error { return tx.Put("a", []byte("1")) }, Options{}); err != nil {
		t.Fatal(err)
	}
	edit(t, path, func(btx *bolt.Tx) error {
		b := btx.Bucket(bucketData)
		k, v := b.Cursor().First()
		v = bytes.Clone(v)
		v[len(v)-1] ^= 1
		return b.Put(bytes.Clone(k), v)
	})
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := errors.Join(s.Unseal(root), s.Rotate(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := s.Reencrypt(t.Context(), 1<<20, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("over a damaged record: %v", err)
	}
	if ks, err := s.KeyStatus(t.Context()); err != nil || len(ks.Terms) != 2 {
		t.Errorf("terms %v %v", ks.Terms, err)
	}
}

// readerOf is what an older program looks at first.
func readerOf(t *testing.T, s *Store) (reader, version int) {
	t.Helper()
	if err := s.raw(func(ts *trees, k *keyring) error {
		h, err := readHeader(ts)
		reader, version = h.Reader, k.Version
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return reader, version
}

func TestWhatWasRevokedStaysRevoked(t *testing.T) {
	s, _ := newStore(t, testSlot("a", 1), testSlot("b", 1))
	ctx := t.Context()
	if reader, version := readerOf(t, s); reader != 1 || version != 1 {
		t.Errorf("at first reader %d, keyring version %d", reader, version)
	}
	with := func(slot Slot, key string) Slot { slot.KeyID = key; return slot }
	root, stolen := NewRootKey(), Revoked{Name: "b", Type: "test", KeyID: "stolen", Since: s.o.Now()}
	// The root key does not go to what the same command revokes.
	for _, slot := range []Slot{testSlot("b", 2), with(testSlot("a", 2), "stolen")} {
		if err := s.RotateRoot(ctx, root, []Slot{slot}, stolen); !errors.Is(err, ErrRevoked) {
			t.Errorf("rotating to %s with key %s: %v", slot.Name, slot.KeyID, err)
		}
	}
	wantSlots(t, s, "a,b//")
	if err := s.RotateRoot(ctx, root, []Slot{testSlot("a", 2)}, stolen); err != nil {
		t.Fatal(err)
	}
	if err := s.Rotate(ctx); err != nil { // every change of the keyring keeps the list
		t.Fatal(err)
	}
	s = reborn(t, s, root)
	again := NewRootKey()
	if err := s.RotateRoot(ctx, again, []Slot{testSlot("a", 3)}); err != nil {
		t.Fatal(err)
	}
	s = reborn(t, s, again)
	if reader, version := readerOf(t, s); reader != 2 || version != 2 {
		t.Errorf("with a revoked slot reader %d, keyring version %d: an older program would drop it", reader, version)
	}
	if got, err := s.Revoked(); err != nil || len(got) != 1 || got[0].Name != "b" || got[0].KeyID != "stolen" {
		t.Errorf("revoked: %+v %v", got, err)
	}
	for _, slot := range []Slot{testSlot("b", 3), with(testSlot("other", 3), "stolen"), with(testSlot("a", 3), "stolen")} {
		if err := s.PutSlot(ctx, slot); !errors.Is(err, ErrRevoked) || !strings.Contains(err.Error(), "stolen") {
			t.Errorf("putting %s with key %s: %v", slot.Name, slot.KeyID, err)
		}
	}
	if err := s.RotateRoot(ctx, root, []Slot{testSlot("a", 4), testSlot("b", 4)}); !errors.Is(err, ErrRevoked) {
		t.Errorf("rotating: %v", err)
	}
	other := with(testSlot("other", 3), "stolen")
	if other.Type = "another"; s.PutSlot(ctx, other) != nil { // the ID of another type's key says nothing
		t.Error("a slot of another type was refused")
	}
	wantSlots(t, s, "a,other//")
	s.Seal()
	if _, err := s.Revoked(); !errors.Is(err, ErrSealed) {
		t.Errorf("while sealed: %v", err)
	}
	if err := s.Unseal(again); err != nil {
		t.Fatal(err)
	}
	if err := s.AllowSlot(ctx, testSlot("b", 3)); err != nil {
		t.Fatal(err)
	}
	wantSlots(t, s, "a,other,b//")
	if got, err := s.Revoked(); err != nil || len(got) != 0 {
		t.Errorf("revoked after it was allowed: %+v %v", got, err)
	}
	s = reborn(t, s, again)
	if reader, version := readerOf(t, s); reader != 1 || version != 1 {
		t.Errorf("without a revoked slot reader %d, keyring version %d", reader, version)
	}
}

// What a program of today does with the keyring of a later one, a program from
// before Revoked does with one of version 2.
func TestKeyringOfLaterVersionIsRefused(t *testing.T) {
	k, err := newKeyring(goldenUUID, NewRootKey(), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	k.Version = keyringRevoked + 1
	rec, err := k.encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openKeyring(rec, goldenUUID, k.root); !errors.Is(err, ErrFormat) {
		t.Errorf("it opened: %v", err)
	}
}

// What is promised of a rotation of the root key: whoever had the old one reads no
// value any more, once all is re-encrypted, but still every name.
func TestWhoeverHadTheRootKeyReadsNamesAndNoValues(t *testing.T) {
	s, _ := newStore(t, testSlot("a", 1))
	put(t, s, "before", "old")
	k := s.ring()
	// What whoever had the old root key keeps: the old keyring, opened.
	thief, err := k.keyringJSON.ready(s.UUID(), bytes.Clone(k.root))
	if err != nil {
		t.Fatal(err)
	}
	root := NewRootKey()
	if err := s.RotateRoot(t.Context(), root, []Slot{testSlot("a", 2)}); err != nil {
		t.Fatal(err)
	}
	put(t, s, "after", "new")
	if err := s.Reencrypt(t.Context(), 1<<30, nil); err != nil {
		t.Fatal(err)
	}
	names := 0
	err = s.View(t.Context(), func(tx *Tx) error {
		for _, path := range []string{"before", "after"} {
			key, err := tx.key(path)
			if err != nil {
				return err
			}
			if known, err := (&Tx{keys: thief}).key(path); err == nil && bytes.Equal(known, key) {
				names++
			}
			rec, err := tx.record(inData, key)
			if err != nil {
				return err
			}
			if _, _, err := thief.open(rec, purposeValue, path); err == nil {
				t.Errorf("the value of %s is read with the old keys", path)
			}
			if _, _, err := tx.keys.open(rec, purposeValue, path); err != nil {
				t.Errorf("the value of %s: %v", path, err)
			}
		}
		return nil
	})
	if err != nil || names != 2 {
		t.Errorf("%d names of 2 are those of the old keys, %v", names, err)
	}
}
