package kv

import (
	"errors"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/storage"
)

func TestPaths(t *testing.T) {
	k := newKeep(t)
	depth := strings.Repeat("/s", storage.MaxDepth-4)[1:] // below mounts/7f3a/v, above the version
	length := storage.MaxPath - len(k.e.Prefix) - len("/v//") - maxDigits
	long := strings.Repeat(strings.Repeat("x", 999)+"/", 5)[:length]
	for _, path := range []string{"a", "...", "a b", "a%2fb", "ü", "a\nb", depth, strings.Repeat("x", storage.MaxSegment), long} {
		k.mustPut(path, `{"n":1}`)
		k.mustPut(path, `{"n":2}`)
		k.wantData(path, 1, `{"n":1}`)
		k.wantData(path, 2, `{"n":2}`)
	}
	before := k.dump()
	for _, path := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a\x00b", "a\xffb",
		depth + "/x", strings.Repeat("x", storage.MaxSegment+1), long + "x"} {
		d := k.data(`{}`)
		merge, err := NewMerge(d)
		k.must(err)
		for name, op := range map[string]func(*storage.Tx) error{
			"get":             func(tx *storage.Tx) error { _, err := k.e.Get(tx, path, 0, k.now); return err },
			"subkeys":         func(tx *storage.Tx) error { _, err := k.e.Subkeys(tx, path, 0, 0, k.now); return err },
			"put":             func(tx *storage.Tx) error { _, err := k.e.Put(tx, path, d, nil, k.now); return err },
			"patch":           func(tx *storage.Tx) error { _, err := k.e.Patch(tx, path, merge, nil, k.now); return err },
			"prepare":         func(tx *storage.Tx) error { return k.e.Prepare(tx, path, merge) },
			"delete":          func(tx *storage.Tx) error { return k.e.Delete(tx, path, k.now) },
			"delete versions": func(tx *storage.Tx) error { return k.e.DeleteVersions(tx, path, []uint64{1}, k.now) },
			"undelete":        func(tx *storage.Tx) error { return k.e.Undelete(tx, path, []uint64{1}, k.now) },
			"destroy":         func(tx *storage.Tx) error { _, err := k.e.Destroy(tx, path, []uint64{1}); return err },
			"metadata":        func(tx *storage.Tx) error { _, err := k.e.Metadata(tx, path); return err },
			"put metadata":    func(tx *storage.Tx) error { return k.e.PutMetadata(tx, path, Settings{}, d, nil, k.now) },
			"patch metadata":  func(tx *storage.Tx) error { return k.e.PatchMetadata(tx, path, Settings{}, d, nil, k.now) },
			"delete metadata": func(tx *storage.Tx) error { _, err := k.e.DeleteMetadata(tx, path); return err },
			"exists":          func(tx *storage.Tx) error { _, err := k.e.Exists(tx, path); return err },
			"trim":            func(tx *storage.Tx) error { _, err := k.e.Trim(tx, path); return err },
		} {
			if err := k.update(op); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s of %.30q: %v, want ErrInvalid", name, path, err)
			}
		}
	}
	equal(t, "store", k.dump(), before)
}

// A secret that does not fit leaves nothing behind, and one that just fits can
// still be deleted, brought back and destroyed.
func TestTooLarge(t *testing.T) {
	k := newKeep(t)
	k.must(k.config(Settings{MaxVersions: new(1)}))
	fits := storage.MaxValue - headerLen - versionLen
	full := `{"k":"` + strings.Repeat("x", fits-len(`{"k":""}`)) + `"}`
	k.mustPut("a", full)
	k.must(k.delete("a"))
	k.must(k.undelete("a", 1))
	k.wantData("a", 0, full)
	k.wantErr(k.putMetadata("a", Settings{}, `{"k":"v"}`), storage.ErrTooLarge)
	k.must(k.config(Settings{MaxVersions: new(0)}))
	before := k.dump()
	_, err := k.put("a", full, nil) // a second entry in the list is too much
	k.wantErr(err, storage.ErrTooLarge)
	equal(t, "store", k.dump(), before)
	k.mustPut("a", `{}`)
	k.wantData("a", 1, full)
	k.must(k.destroy("a", 1))
	equal(t, "records", len(k.dump()), 2) // with the mount's settings
}
