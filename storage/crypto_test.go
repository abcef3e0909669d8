package storage

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

func copyBlob(tx *Tx, path string, w io.Writer) error {
	b, err := tx.Blob(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, tx.BlobReader(*b))
	return err
}

func readBlob(t *testing.T, s *Store, path string) string {
	t.Helper()
	var out strings.Builder
	if err := s.View(t.Context(), func(tx *Tx) error { return copyBlob(tx, path, &out) }); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The vectors of the specification, https://c2sp.org/XAES-256-GCM.
func TestXAESVectors(t *testing.T) {
	const nonce, plain = "ABCDEFGHIJKLMNOPQRSTUVWX", "XAES-256-GCM"
	for _, v := range []struct {
		key    byte
		ad, ct string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		a, err := newXAES(bytes.Repeat([]byte{v.key}, 32))
		if err != nil {
			t.Fatal(err)
		}
		ct, _ := hex.DecodeString(v.ct)
		got, err := a.Decrypt(append([]byte(nonce), ct...), []byte(v.ad))
		if err != nil || string(got) != plain {
			t.Errorf("key %d: %q %v", v.key, got, err)
		}
		made, err := a.Encrypt([]byte(plain), []byte(v.ad))
		if err != nil || len(made) != nonceSize+len(ct) {
			t.Errorf("key %d: made %d bytes, %v", v.key, len(made), err)
		}
	}
}

// No value and no name that was written is in the file.
func TestConfidential(t *testing.T) {
	s, _ := newStore(t)
	words := []string{"correcthorsebattery", "folder-of-secrets", "leaf-name-of-it", "replacedvaluehere"}
	put(t, s, words[1]+"/"+words[2], words[3])
	put(t, s, words[1]+"/"+words[2], words[0])
	b, err := s.WriteBlob(t.Context(), strings.NewReader(words[0]))
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "x", words[0])
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.PutBlob(words[2], b) }); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(raw, []byte(s.UUID())) {
		t.Fatal("not even the UUID is in the file: the search does not work")
	}
	for _, w := range words {
		if bytes.Contains(raw, []byte(w)) {
			t.Errorf("%q is in the file", w)
		}
	}
	if bytes.Contains(raw, s.ring().root) || bytes.Contains(raw, s.ring().NameKey) || bytes.Contains(raw, s.ring().newest().Key) {
		t.Error("a key is in the file")
	}
}

// Each way of tampering with the file is refused where it is read, or found
// by the check, and named.
func TestTampering(t *testing.T) {
	var other []byte // a record of path a/x, keyring and slot of another store
	var otherRing, otherSlot, otherDigest []byte
	{
		s, _ := newStore(t, Slot{Name: "one", Type: "static", Blob: []byte("blob")})
		put(t, s, "a/x", "stranger")
		k, _ := s.ring().encodePath("a/x")
		_ = s.rawTx(func(btx *bolt.Tx) error {
			other = bytes.Clone(btx.Bucket(bucketData).Get(k))
			otherRing = bytes.Clone(btx.Bucket(bucketMeta).Get(keyKeyring))
			otherDigest = bytes.Clone(btx.Bucket(bucketMeta).Get(keyDigest))
			otherSlot = bytes.Clone(btx.Bucket(bucketSlots).Get([]byte("one")))
			return nil
		})
	}
	var gone, goneRec []byte // stored key and record of a value that was deleted
	tests := []struct {
		name   string
		edit   func(data, meta, slots *bolt.Bucket, a, b, oldA, oldRing []byte) error
		unseal error // of Unseal
		get    error // of reading a/x
		named  string
		slot   string // quarantined
	}{
		{name: "bit flipped", get: ErrCorrupt, named: `"a/x"`, edit: func(data, _, _ *bolt.Bucket, a, _, _, _ []byte) error {
			v := bytes.Clone(data.Get(a))
			v[40] ^= 1
			return data.Put(a, v)
		}},
		{name: "cut", get: ErrCorrupt, named: `"a/x"`, edit: func(data, _, _ *bolt.Bucket, a, _, _, _ []byte) error {
			return data.Put(a, bytes.Clone(data.Get(a))[:recordMin-1])
		}},
		{name: "kind", get: ErrCorrupt, named: `"a/x"`, edit: func(data, _, _ *bolt.Bucket, a, _, _, _ []byte) error {
			v := bytes.Clone(data.Get(a))
			v[0] = kindPointer
			return data.Put(a, v)
		}},
		{name: "term", get: ErrCorrupt, named: "term 99", edit: func(data, _, _ *bolt.Bucket, a, _, _, _ []byte) error {
			v := bytes.Clone(data.Get(a))
			v[4] = 99
			return data.Put(a, v)
		}},
		{name: "moved", get: ErrCorrupt, named: `"a/x"`, edit: func(data, _, _ *bolt.Bucket, a, b, _, _ []byte) error {
			return data.Put(a, bytes.Clone(data.Get(b)))
		}},
		{name: "from another store", get: ErrCorrupt, named: `"a/x"`, edit: func(data, _, _ *bolt.Bucket, a, _, _, _ []byte) error {
			return data.Put(a, other)
		}},
		{name: "replayed", named: "older", edit: func(data, _, _ *bolt.Bucket, a, _, oldA, _ []byte) error {
			return data.Put(a, oldA)
		}},
		{name: "removed", named: "records", edit: func(data, _, _ *bolt.Bucket, a, _, _, _ []byte) error {
			return data.Delete(a)
		}},
		{name: "deleted value put back", named: "records", edit: func(data, _, _ *bolt.Bucket, _, b, _, _ []byte) error {
			return data.Put(gone, goneRec)
		}},
		{name: "name moved to another folder", named: "a name under", edit: func(data, _, _ *bolt.Bucket, a, b, _, _ []byte) error {
			_, rest, _ := firstSegment(a)
			return data.Put(append(bytes.Clone(b), rest...), bytes.Clone(data.Get(b)))
		}},
		{name: "name malformed", named: "malformed key", edit: func(data, _, _ *bolt.Bucket, a, _, _, _ []byte) error {
			return data.Put(append([]byte{0, 1}, a...), []byte("x"))
		}},
		{name: "keyring of another store", unseal: ErrRootKey, named: "keyring", edit: func(_, meta, _ *bolt.Bucket, _, _, _, _ []byte) error {
			return meta.Put(keyKeyring, otherRing)
		}},
		{name: "older keyring", unseal: ErrCorrupt, named: "older keyring", edit: func(_, meta, _ *bolt.Bucket, _, _, _, oldRing []byte) error {
			return meta.Put(keyKeyring, oldRing)
		}},
		{name: "keyring cut", unseal: ErrCorrupt, named: "keyring", edit: func(_, meta, _ *bolt.Bucket, _, _, _, _ []byte) error {
			return meta.Put(keyKeyring, []byte("short"))
		}},
		{name: "digest of another store", unseal: ErrCorrupt, named: "digest", edit: func(_, meta, _ *bolt.Bucket, _, _, _, _ []byte) error {
			return meta.Put(keyDigest, otherDigest)
		}},
		{name: "digest gone", unseal: ErrCorrupt, named: "digest", edit: func(_, meta, _ *bolt.Bucket, _, _, _, _ []byte) error {
			return meta.Delete(keyDigest)
		}},
		{name: "slot of another store", slot: "one", named: "slot", edit: func(_, _, slots *bolt.Bucket, _, _, _, _ []byte) error {
			return slots.Put([]byte("one"), otherSlot)
		}},
		{name: "slot added", slot: "forged", named: "slot", edit: func(_, _, slots *bolt.Bucket, _, _, _, _ []byte) error {
			return slots.Put([]byte("forged"), otherSlot)
		}},
		{name: "slot removed", named: `slot "one": is missing`, edit: func(_, _, slots *bolt.Bucket, _, _, _, _ []byte) error {
			return slots.Delete([]byte("one"))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, root := newStore(t, Slot{Name: "one", Type: "static", Blob: []byte("mine")})
			put(t, s, "a/x", "first")
			put(t, s, "b", "b")
			put(t, s, "gone", "g")
			gone, _ = s.ring().encodePath("gone")
			a, _ := s.ring().encodePath("a/x")
			b, _ := s.ring().encodePath("b")
			var oldA, oldRing []byte
			_ = s.rawTx(func(btx *bolt.Tx) error {
				goneRec = bytes.Clone(btx.Bucket(bucketData).Get(gone))
				oldA = bytes.Clone(btx.Bucket(bucketData).Get(a))
				oldRing = bytes.Clone(btx.Bucket(bucketMeta).Get(keyKeyring))
				return nil
			})
			if err := s.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
			put(t, s, "a/x", "second")
			if err := s.Update(t.Context(), func(tx *Tx) error { return tx.Delete("gone") }); err != nil {
				t.Fatal(err)
			}
			path := s.Path()
			s.Close()
			edit(t, path, func(btx *bolt.Tx) error {
				return test.edit(btx.Bucket(bucketData), btx.Bucket(bucketMeta), btx.Bucket(bucketSlots), a, b, oldA, oldRing)
			})
			s, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			err = s.Unseal(root)
			if test.unseal != nil {
				if !errors.Is(err, test.unseal) || !strings.Contains(err.Error(), test.named) {
					t.Errorf("unseal: %v, want %v naming %s", err, test.unseal, test.named)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := get(s, "a/x"); !errors.Is(err, test.get) || err != nil && !strings.Contains(err.Error(), test.named) {
				t.Errorf("get: %v, want %v naming %s", err, test.get, test.named)
			}
			if got := strings.Join(quarantined(t, s), " "); got != test.slot {
				t.Errorf("quarantined %q, want %q", got, test.slot)
			}
			r, err := s.Check(t.Context())
			if err != nil || r.OK() {
				t.Fatalf("the check found nothing: %v", err)
			}
			if all := errors.Join(r.Damage...).Error(); !strings.Contains(all, test.named) {
				t.Errorf("the check says %s, which does not name %s", all, test.named)
			}
		})
	}
}

func TestSlotContext(t *testing.T) {
	base := Slot{Name: "a", Type: "bc", RootGeneration: 1}
	seen := map[string]bool{}
	for _, c := range [][]byte{
		base.Context("u"), base.Context("v"),
		Slot{Name: "ab", Type: "c", RootGeneration: 1}.Context("u"),
		Slot{Name: "a", Type: "bc", RootGeneration: 2}.Context("u"),
	} {
		if seen[string(c)] {
			t.Errorf("two slots share a context: %q", c)
		}
		seen[string(c)] = true
	}
}

// Decoders take anything.
func FuzzDecoders(f *testing.F) {
	s, _ := newStore(f)
	key, _ := s.ring().encodePath("a/b")
	rec, _ := s.ring().seal(kindValue, purposeValue, "a/b", []byte("v"))
	slot, _ := Slot{Name: "n", Type: "t", Blob: []byte("b")}.encode()
	d, _ := s.digest.encode(s.ring())
	ring, _ := s.ring().encode()
	seeds := [][]byte{nil, key, rec, slot, d, ring, Blob{Chunks: 1, Length: 5}.encode(), bytes.Repeat([]byte{0xff}, 70)}
	for _, b := range seeds {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := s.ring().decodePath(b); err == nil && p != "" && p != "a/b" {
			t.Errorf("%x decodes to the name %q", b, p)
		}
		if _, p, err := s.ring().open(b, purposeValue, "a/b"); err == nil && string(p) != "v" {
			t.Errorf("%x opens as %q", b, p)
		}
		_, _ = decodeSlot("n", b)
		_, _ = s.ring().decodeDigest(b)
		if k, err := openKeyring(b, s.UUID(), s.ring().root); err == nil && k.Generation != 1 {
			t.Errorf("%x opens as a keyring", b)
		}
		if blob, ok := decodeBlob(b); ok && !bytes.Equal(blob.encode(), b) {
			t.Errorf("%x is not what it encodes to", b)
		}
	})
}
