package storage

import (
	"bytes"
	"compress/gzip"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var writeGolden = flag.Bool("golden.write", false, "write the golden store of this format, if there is none")

const (
	goldenFile = "testdata/format1.db.gz"
	goldenUUID = "5ea1cee9-0000-4000-8000-000000000001"
)

var (
	goldenRoot  = bytes.Repeat([]byte{0x5e}, rootKeySize)
	goldenSlot  = Slot{Name: "kms", Type: "awskms", KeyID: "arn:aws:kms:eu-west-1:111122223333:key/k", RootGeneration: 1, Blob: []byte("opaque"), Created: time.Unix(1800000000, 0).UTC()}
	goldenLarge = strings.Repeat("large", 2000)
)

// TestGolden opens a store that the first release of this format wrote. It
// must pass for ever, with the file as it is.
func TestGolden(t *testing.T) {
	if *writeGolden {
		makeGolden(t)
	}
	f, err := os.Open(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "golden.db")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, z); err != nil {
		t.Fatal(err)
	}
	out.Close()

	s := reopen(t, path, goldenRoot)
	if s.UUID() != goldenUUID || s.Fingerprint() != "bbf01-6ccfd-b4b50-bbff1" {
		t.Errorf("UUID %s, fingerprint %s", s.UUID(), s.Fingerprint())
	}
	if slots, err := s.Slots(); err != nil || len(slots) != 1 || string(slots[0].Blob) != "opaque" || slots[0].KeyID != goldenSlot.KeyID {
		t.Errorf("slots: %+v %v", slots, err)
	}
	if q := quarantined(t, s); len(q) > 0 {
		t.Errorf("quarantined: %v", q)
	}
	if got := string(goldenSlot.Context(goldenUUID)); got != "\x00\x00\x00\nsealkeep/1\x00\x00\x00\x04slot\x00\x00\x00$"+goldenUUID+"\x00\x00\x00\x03kms\x00\x00\x00\x06awskms\x00\x00\x00\x011" {
		t.Errorf("slot context %q", got)
	}
	if ks, err := s.KeyStatus(t.Context()); err != nil || ks.Term != 2 {
		t.Errorf("%+v %v", ks, err)
	}
	for path, want := range map[string]string{"a": "under term 1", "a/b/ü c": "under term 2", "empty": ""} {
		if got := mustGet(t, s, path); got != want {
			t.Errorf("%s = %q, want %q", path, got, want)
		}
	}
	if got := readBlob(t, s, "large"); got != goldenLarge {
		t.Errorf("blob of %d bytes", len(got))
	}
	put(t, s, "new", "value")
}

func makeGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	first := func(tx *Tx) error { return tx.Put("a", []byte("under term 1")) }
	if err := Create(path, goldenUUID, goldenRoot, []Slot{goldenSlot}, first, Options{}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unseal(goldenRoot); err != nil {
		t.Fatal(err)
	}
	if err := s.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, s, "a/b/ü c", "under term 2")
	put(t, s, "empty", "")
	b, err := s.WriteBlob(t.Context(), strings.NewReader(goldenLarge))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.PutBlob("large", b) }); err != nil {
		t.Fatal(err)
	}
	t.Logf("fingerprint %s", s.Fingerprint())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// O_EXCL: a golden file is never replaced.
	f, err := os.OpenFile(goldenFile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	z, _ := gzip.NewWriterLevel(f, gzip.BestCompression)
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
