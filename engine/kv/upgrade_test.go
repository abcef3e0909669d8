package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// plain fills a mount with secrets of version 1 and returns their data by path.
func (k *keep) plain() map[string]string {
	k.Helper()
	all := map[string]string{}
	k.must(k.update(func(tx *storage.Tx) error {
		for i := range 2*convertMost + 7 {
			all[fmt.Sprintf("app/%d", i)] = fmt.Sprintf(`{"n":%d,"ttl":"1h"}`, i)
			all[fmt.Sprintf("%d/deep/%d", i%3, i)] = `{"digits":12345678901234567890}`
		}
		all["app"] = `{"beside":"the folder"}`
		all["large"] = `{"a":"` + strings.Repeat("x", MaxV1-len(`{"a":""}`)) + `"}`
		all["larger/one"] = `{"a":"` + strings.Repeat("x", convertBytes) + `"}`
		all["larger/two"] = `{"a":"` + strings.Repeat("y", convertBytes) + `"}`
		for path, data := range all {
			if err := (V1{k.e.Prefix}).Put(tx, path, V1Secret{Data: k.data(data), Written: start, Lease: time.Hour}); err != nil {
				return err
			}
		}
		return nil
	}))
	return all
}

// wantAll checks every secret through version 2: by its name, and by what scans
// and lists find.
func (k *keep) wantAll(all map[string]string, versions map[string]uint64) {
	k.Helper()
	for path, data := range all {
		s := k.wantData(path, 0, data)
		if want := max(versions[path], 1); s.Meta.Version != want || want == 1 && !s.Meta.Created.Equal(start) {
			k.Fatalf("%s is version %+v, want %d", path, s.Meta, want)
		}
	}
	paths, err := k.scan("", len(all)+1)
	k.must(err)
	slices.Sort(paths)
	equal(k, "the scan", paths, slices.Sorted(maps.Keys(all)))
	top, err := k.list("")
	k.must(err)
	equal(k, "the list", top, []string{"0/", "1/", "2/", "app", "app/", "large", "larger/"})
}

// crash opens a copy of the store's file, as a crash at this moment leaves it.
func (k *keep) crash(t *testing.T) *keep {
	t.Helper()
	b, err := os.ReadFile(k.path)
	k.must(err)
	path := filepath.Join(t.TempDir(), "keep.db")
	k.must(os.WriteFile(path, b, 0o600))
	again := openKeep(t, path)
	again.e, again.now = k.e, k.now
	return again
}

// Between any two transactions of an upgrade everything is there, can be written,
// and after a crash the upgrade goes on.
func TestUpgrade(t *testing.T) {
	k := newKeep(t)
	all, versions := k.plain(), map[string]uint64{}
	k.e.Upgrading = true
	errStop := errors.New("stopped")
	total, steps := 0, 0
	for done := false; !done; steps++ {
		k.wantAll(all, versions)
		k.now = k.now.Add(time.Minute)
		for _, path := range []string{fmt.Sprintf("app/%d", steps), fmt.Sprintf("%d/deep/%d", steps%3, steps)} {
			_, err := k.put(path, `{"written":"meanwhile"}`, new(0))
			k.wantErr(err, ErrCASMismatch)
			_, err = k.put(path, `{"written":"meanwhile"}`, new(1))
			k.must(err)
			k.wantData(path, 1, all[path])
			all[path], versions[path] = `{"written":"meanwhile"}`, 2
		}
		again := k.crash(t)
		again.wantAll(all, versions)
		_, err := again.e.Upgrade(again.view, again.update)
		again.must(err)
		again.wantAll(all, versions)
		again.wantConverted(all, versions)

		did := 0
		n, err := k.e.Upgrade(k.view, func(fn func(*storage.Tx) error) error {
			if did++; did > 1 {
				return errStop
			}
			return k.update(fn)
		})
		if done = err == nil; !done {
			k.wantErr(err, errStop)
		}
		total += n
	}
	if steps < 8 || total > len(all) || total < len(all)-2*steps {
		t.Errorf("%d secrets were converted in %d transactions", total, steps)
	}
	k.wantConverted(all, versions)
}

// wantConverted checks that nothing of version 1 is left.
func (k *keep) wantConverted(all map[string]string, versions map[string]uint64) {
	k.Helper()
	k.e.Upgrading = false
	k.wantAll(all, versions)
	for path := range k.dump() {
		if strings.HasPrefix(path, "1/") {
			k.Fatalf("%s is left", path)
		}
	}
}

// What deletes and changes a secret of version 1 through version 2 leaves nothing
// of it that comes back.
func TestUpgradeByWrites(t *testing.T) {
	for name, change := range map[string]func(k *keep) error{
		"patch":             func(k *keep) error { _, err := k.patch("a", `{"b":2}`, new(1)); return err },
		"delete":            func(k *keep) error { return k.delete("a") },
		"delete version":    func(k *keep) error { return k.deleteVersions("a", 1) },
		"destroy":           func(k *keep) error { return k.destroy("a", 1) },
		"metadata":          func(k *keep) error { return k.putMetadata("a", Settings{MaxVersions: new(1)}, "") },
		"patch of metadata": func(k *keep) error { return k.patchMetadata("a", Settings{}, `{"owner":"me"}`) },
		"delete metadata":   func(k *keep) error { return k.deleteMetadata("a") },
	} {
		k := newKeep(t)
		k.must(k.putV1("a", `{"a":1}`))
		k.e.Upgrading = true
		m, err := k.metadata("a")
		k.must(err)
		equal(t, "metadata", m, Metadata{Current: 1, Created: start, Updated: start, Versions: []Meta{{Version: 1, Created: start}}})
		k.must(change(k))
		for path := range k.dump() {
			if path == "1/a" {
				t.Errorf("after %s there is still %s", name, path)
			}
		}
		n, err := k.e.Upgrade(k.view, k.update)
		if err != nil || n != 0 {
			t.Errorf("after %s %d secrets are converted, %v", name, n, err)
		}
		_, err = k.get("a", 0)
		if gone := name == "delete metadata"; gone != errors.Is(err, ErrNotFound) {
			t.Errorf("after %s: %v", name, err)
		}
	}
}

// A damaged record stays, is told of, and holds up no other.
func TestUpgradeOfDamage(t *testing.T) {
	k := newKeep(t)
	all := k.plain()
	k.must(k.update(func(tx *storage.Tx) error { return tx.Put(v1Key(k.e.Prefix, "app/3"), []byte{9}) }))
	m := &api.Mount{Folder: k.e.Prefix}
	if n, err := tidy(context.Background(), k.store, m, nil); n != 0 || err != nil {
		t.Errorf("a mount that is not upgraded: %d, %v", n, err)
	}
	m.From = "1"
	n, err := tidy(context.Background(), k.store, m, nil)
	if n != len(all)-1 || !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), `"app/3"`) {
		t.Errorf("%d of %d converted, %v", n, len(all), err)
	}
	k.e.Upgrading = true
	_, err = k.get("app/3", 0)
	k.wantErr(err, storage.ErrCorrupt)
	k.wantData("app/4", 0, all["app/4"])
	k.must(k.update(func(tx *storage.Tx) error { return V1{k.e.Prefix}.Delete(tx, "app/3") }))
	n, err = tidy(context.Background(), k.store, m, nil)
	if n != 0 || err != nil {
		t.Errorf("when it is gone: %d, %v", n, err)
	}
}

func TestV1(t *testing.T) {
	k := newKeep(t)
	v := V1{k.e.Prefix}
	put := func(path, data string) error {
		return k.update(func(tx *storage.Tx) error {
			return v.Put(tx, path, V1Secret{Data: k.data(data), Written: k.now, Lease: time.Minute})
		})
	}
	get := func(path string) (s V1Secret, err error) {
		err = k.view(func(tx *storage.Tx) (err error) { s, err = v.Get(tx, path); return err })
		return s, err
	}
	_, err := get("a")
	k.wantErr(err, ErrNotFound)
	k.must(put("a", `{"a": 1.50}`))
	k.must(put("a/b", `{"b":true}`))
	s, err := get("a")
	k.must(err)
	if string(s.Data.AppendJSON(nil)) != `{"a":1.50}` || s.Data.Size() != 10 || !s.Written.Equal(start) || s.Lease != time.Minute {
		t.Errorf("%+v", s)
	}
	for path, data := range map[string]string{"": `{"a":1}`, "a//b": `{"a":1}`, "a": `null`} {
		k.wantErr(put(path, data), ErrInvalid)
	}
	k.wantErr(put("a", ""), ErrInvalid)
	k.wantErr(put("a", `{"a":"`+strings.Repeat("x", MaxV1)+`"}`), storage.ErrTooLarge)
	for _, path := range []string{"", "..", "x/"} {
		_, err := get(path)
		k.wantErr(err, ErrInvalid)
		k.wantErr(k.update(func(tx *storage.Tx) error { return v.Delete(tx, path) }), ErrInvalid)
	}
	k.must(k.view(func(tx *storage.Tx) error {
		names, err := v.List(tx, "")
		k.must(err)
		equal(t, "list", names, []string{"a", "a/"})
		names, err = v.List(tx, "a/")
		k.must(err)
		equal(t, "list", names, []string{"b"})
		_, err = v.List(tx, "a/b")
		k.wantErr(err, ErrNotFound)
		names, err = v.Scan(tx, "", 9)
		k.must(err)
		equal(t, "scan", names, []string{"a", "a/b"})
		for path, want := range map[string]bool{"a": true, "a/b": true, "b": false} {
			if there, err := v.Exists(tx, path); err != nil || there != want {
				t.Errorf("%s exists: %v, %v", path, there, err)
			}
		}
		return nil
	}))
	_, err = k.get("a", 0) // version 2 does not see it unless it is upgraded
	k.wantErr(err, ErrNotFound)
	k.must(k.update(func(tx *storage.Tx) error { return v.Delete(tx, "a") }))
	k.must(k.update(func(tx *storage.Tx) error { return v.Delete(tx, "a") }))
	_, err = get("a")
	k.wantErr(err, ErrNotFound)
	if b := k.dump()["1/a/b"]; !bytes.HasSuffix([]byte(b), []byte(`{"b":true}`)) {
		t.Errorf("what is beside it: %q", b)
	}
}
