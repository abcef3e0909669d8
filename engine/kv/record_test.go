package kv

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// golden returns testdata/records.txt: lines of a name and the record in
// hexadecimal. What stands there was written by a release and must be read for
// ever: lines are added, never changed.
func golden(t testing.TB) map[string][]byte {
	t.Helper()
	f, err := os.Open("testdata/records.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records := map[string][]byte{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, digits, ok := strings.Cut(lines.Text(), " ")
		if !ok {
			t.Fatalf("malformed line %q", lines.Text())
		}
		if records[name], err = hex.DecodeString(digits); err != nil {
			t.Fatal(err)
		}
	}
	return records
}

// goldenRecords are the records of testdata/records.txt as they must be read.
var goldenRecords = map[string]record{
	"secret-empty": {created: 1, updated: 2},
	"secret-first": {created: start.UnixNano(), updated: start.UnixNano(), current: 1,
		versions: newVersion(start.UnixNano(), 0), data: []byte(`{"foo":"bar"}`)},
	"secret-full": {Config: Config{MaxVersions: 3, CASRequired: true, DeleteVersionAfter: time.Hour},
		created: start.UnixNano(), updated: start.UnixNano() + 1, current: 12, oldest: 10,
		custom: []byte(`{"owner":"jdoe"}`),
		versions: bytes.Join([][]byte{
			append(newVersion(1, 2)[:16], flagDestroyed), newVersion(3, 4), newVersion(5, 0)}, nil),
		data: []byte(`{"n":12345678901234567890}`)},
	"secret-destroyed": {created: 1, updated: 1, current: 1,
		versions: append(newVersion(1, 0)[:16], flagDestroyed)},
	"secret-metadata": {Config: Config{CASRequired: true, MetadataCASRequired: true},
		created: 1, updated: 3, current: 2, metadataVersion: 1<<32 + 7,
		custom:   []byte(`{"owner":"jdoe"}`),
		versions: append(newVersion(1, 2), newVersion(2, 0)...),
		data:     []byte(`{"foo":"bar"}`)},
	"secret-metadata-alone": {Config: Config{MaxVersions: 7, MetadataCASRequired: true}, created: 1, updated: 1, metadataVersion: 1},
}

func TestGolden(t *testing.T) {
	records := golden(t)
	for name, want := range goldenRecords {
		r, err := decodeRecord(records[name])
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := r.encode(); !bytes.Equal(got, want.encode()) || r.current != want.current || r.oldest != want.oldest ||
			r.Config != want.Config || !bytes.Equal(r.data, want.data) || !bytes.Equal(r.custom, want.custom) ||
			!bytes.Equal(r.versions, want.versions) || r.metadataVersion != want.metadataVersion || r.created != want.created || r.updated != want.updated {
			t.Errorf("%s is read as %+v, want %+v", name, r, want)
		}
	}
	for name, want := range map[string]Config{
		"config":          {MaxVersions: 5, CASRequired: true, DeleteVersionAfter: -time.Second},
		"config-metadata": {MetadataCASRequired: true, DeleteVersionAfter: time.Hour},
	} {
		if c, err := decodeConfig(records[name]); err != nil || c != want {
			t.Errorf("%s is read as %+v, %v, want %+v", name, c, err, want)
		}
	}
	data, err := decodeOlder(records["older"])
	if want := `{"foo":"old"}`; err != nil || string(data) != want {
		t.Errorf("older version is read as %q, %v, want %q", data, err, want)
	}
	v1, err := decodeV1(records["v1"])
	if want := (V1Secret{Data{[]byte(`{"foo":"bar","ttl":"1h"}`)}, start, time.Hour}); err != nil || !reflect.DeepEqual(v1, want) {
		t.Errorf("version 1 is read as %+v, %v, want %+v", v1, err, want)
	}
	if want := len(goldenRecords) + 4; len(records) != want {
		t.Errorf("%d golden records, %d are tested", len(records), want)
	}
}

// Every record that is cut off, and every one with a wrong length, flag or
// number, is refused.
func TestDecodeRefuses(t *testing.T) {
	full := golden(t)["secret-full"]
	for n := range len(full) - len(goldenRecords["secret-full"].data) + 1 {
		if _, err := decodeRecord(full[:n]); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
	counted := golden(t)["secret-metadata-alone"]
	for n := range counted {
		if _, err := decodeRecord(counted[:n]); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("the first %d bytes with a metadata version: %v", n, err)
		}
	}
	if _, err := decodeRecord(append(bytes.Clone(counted[:headerLen]), make([]byte, 8)...)); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("metadata version 0: %v", err)
	}
	setting := golden(t)["config"]
	setting[1] |= flagMetadataVersion
	if _, err := decodeConfig(setting); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("metadata version of a mount: %v", err)
	}
	plain := golden(t)["v1"]
	for n := range v1HeaderLen + 1 {
		if _, err := decodeV1(plain[:n]); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("the first %d bytes of version 1: %v", n, err)
		}
	}
	for name, at := range map[string]int{"format": 0, "lease": 9, "data": v1HeaderLen} {
		b := bytes.Clone(plain)
		b[at] |= 0x82
		if _, err := decodeV1(b); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s of version 1 changed: %v", name, err)
		}
	}
	ahead := record{current: 12, oldest: 13}
	if _, err := decodeRecord(ahead.encode()); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("oldest after current: %v", err)
	}
	for name, change := range map[string]func(b []byte){
		"format":         func(b []byte) { b[0] = 2 },
		"flags":          func(b []byte) { b[1] |= 8 },
		"metadata":       func(b []byte) { b[1] |= flagMetadataVersion }, // the next 8 bytes are custom metadata
		"current":        func(b []byte) { b[37] = 9 },
		"current huge":   func(b []byte) { copy(b[30:], bytes.Repeat([]byte{0xff}, 8)) },
		"both huge":      func(b []byte) { copy(b[30:], bytes.Repeat([]byte{0xff}, 16)) },
		"custom length":  func(b []byte) { b[46] = 0xff },
		"version flags":  func(b []byte) { b[headerLen+16+versionLen-1] = 2 },
		"newest is gone": func(b []byte) { b[headerLen+16+3*versionLen-1] = 1 },
	} {
		b := bytes.Clone(full)
		change(b)
		if _, err := decodeRecord(b); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}

// What is read is the only encoding of what it says; what is not is ErrCorrupt.
func FuzzDecode(f *testing.F) {
	seeds := golden(f)
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, b := range seeds {
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(err error, again func() []byte) {
			if err == nil && !bytes.Equal(again(), b) {
				t.Errorf("%x is written again as %x", b, again())
			} else if err != nil && !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("error is not ErrCorrupt: %v", err)
			}
		}
		r, err := decodeRecord(b)
		same(err, r.encode)
		if err == nil && r.current > 0 {
			r.meta(r.first())
			r.meta(r.current)
		}
		c, err := decodeConfig(b)
		same(err, func() []byte { return appendConfig(nil, c) })
		data, err := decodeOlder(b)
		same(err, func() []byte { return encodeOlder(data) })
		v1, err := decodeV1(b)
		same(err, v1.encode)
	})
}
