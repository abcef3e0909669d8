package kv

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

func TestMetadata(t *testing.T) {
	k := newKeep(t)
	_, err := k.metadata("a")
	k.wantErr(err, ErrNotFound)
	k.wantErr(k.patchMetadata("a", Settings{}, `{"a":"b"}`), ErrNotFound)

	// Nothing to change makes nothing.
	k.must(k.putMetadata("a", Settings{}, ""))
	_, err = k.metadata("a")
	k.wantErr(err, ErrNotFound)

	k.must(k.putMetadata("a", Settings{MaxVersions: new(5), CASRequired: new(true), DeleteVersionAfter: new(time.Hour)}, `{"owner":"jdoe","n":1.50,"yes":true,"no":false}`))
	want := Metadata{
		Config:          Config{MaxVersions: 5, CASRequired: true, DeleteVersionAfter: time.Hour},
		MetadataVersion: 1,
		Created:         start,
		Updated:         start,
		Custom:          json.RawMessage(`{"n":"1.50","no":"0","owner":"jdoe","yes":"1"}`),
		Versions:        []Meta{},
	}
	m, err := k.metadata("a")
	k.must(err)
	equal(t, "metadata", m, want)
	_, err = k.get("a", 0)
	k.wantErr(err, ErrNotFound)

	// Each setting alone leaves the others.
	k.now = k.now.Add(time.Minute)
	k.must(k.patchMetadata("a", Settings{DeleteVersionAfter: new(time.Duration(0))}, ""))
	k.must(k.putMetadata("a", Settings{CASRequired: new(false)}, ""))
	k.must(k.patchMetadata("a", Settings{}, `{"owner":null,"n":"2","new":"x","absent":null}`))
	want.DeleteVersionAfter, want.CASRequired, want.Updated, want.MetadataVersion = 0, false, k.now, 4
	want.Custom = json.RawMessage(`{"n":"2","new":"x","no":"0","yes":"1"}`)
	m, err = k.metadata("a")
	k.must(err)
	equal(t, "metadata", m, want)

	// Custom metadata comes with every version; put replaces it.
	k.must(k.putMetadata("a", Settings{}, `{"k":"<v>"}`))
	meta := k.mustPut("a", `{"a":1}`)
	equal(t, "custom", string(meta.Custom), `{"k":"<v>"}`)
	equal(t, "custom", string(k.wantData("a", 0, `{"a":1}`).Meta.Custom), `{"k":"<v>"}`)
	for _, none := range []string{"null", "{}"} {
		k.must(k.putMetadata("a", Settings{}, `{"k":"v"}`))
		k.must(k.putMetadata("a", Settings{}, none))
		equal(t, "custom", k.wantData("a", 0, `{"a":1}`).Meta.Custom, nil)
	}
	k.must(k.putMetadata("a", Settings{}, `{"k":"v"}`))
	k.must(k.patchMetadata("a", Settings{}, "{}"))
	equal(t, "custom", string(k.wantData("a", 0, `{"a":1}`).Meta.Custom), `{"k":"v"}`)
	k.must(k.patchMetadata("a", Settings{}, "null"))
	equal(t, "custom", k.wantData("a", 0, `{"a":1}`).Meta.Custom, nil)

	k.mustPut("a", `{"a":2}`)
	k.must(k.patchMetadata("none", Settings{}, ""))
	k.wantErr(k.patchMetadata("none", Settings{}, "{}"), ErrNotFound)
	k.must(k.deleteMetadata("a"))
	k.must(k.deleteMetadata("a"))
	equal(t, "store", k.dump(), map[string]string{})
	equal(t, "version after deletion", k.mustPut("a", `{}`).Version, 1)
}

// Writes of metadata are counted, those of data are not, and a write that must
// name the number names the newest.
func TestMetadataCAS(t *testing.T) {
	k := newKeep(t)
	set := Settings{MaxVersions: new(3)}
	version := func(path string, want uint64) {
		t.Helper()
		m, err := k.metadata(path)
		k.must(err)
		equal(t, "metadata version", m.MetadataVersion, want)
	}

	// What is not there has 0, as has a secret until its metadata is written.
	err := k.putMetadata("a", set, "", 1)
	k.wantErr(err, ErrInvalid)
	equal(t, "text", err.Error(), "metadata_cas must be 0 when creating new metadata")
	k.wantErr(k.patchMetadata("a", set, "", 0), ErrNotFound)
	k.must(k.putMetadata("a", set, "", 0))
	version("a", 1)
	k.mustPut("b", `{}`)
	k.mustPut("b", `{}`)
	version("b", 0)
	k.wantErr(k.putMetadata("b", set, "", 2), ErrMetadataCASMismatch)
	k.must(k.patchMetadata("b", set, "", 0))
	version("b", 1)

	// One that is given counts, also where none is needed.
	k.must(k.putMetadata("b", set, ""))
	version("b", 2)
	for _, cas := range []int{-1, 0, 1, 3} {
		k.wantErr(k.putMetadata("b", set, "", cas), ErrMetadataCASMismatch)
		k.wantErr(k.patchMetadata("b", set, "", cas), ErrMetadataCASMismatch)
	}
	k.must(k.patchMetadata("b", Settings{}, `{"k":"v"}`, 2))
	version("b", 3)

	// A change of nothing does nothing, whatever it names.
	before := k.dump()
	k.must(k.putMetadata("b", Settings{}, "", 9))
	k.must(k.patchMetadata("b", Settings{}, "", 9))
	equal(t, "store", k.dump(), before)

	// The secret, or the mount, can demand one. What touches no metadata is free.
	k.must(k.putMetadata("b", Settings{MetadataCASRequired: new(true)}, "", 3))
	k.must(k.config(Settings{MetadataCASRequired: new(true)}))
	before = k.dump()
	for _, path := range []string{"a", "b"} {
		k.wantErr(k.putMetadata(path, set, ""), ErrMetadataCASRequired)
		k.wantErr(k.patchMetadata(path, set, ""), ErrMetadataCASRequired)
	}
	k.wantErr(k.putMetadata("c", set, ""), ErrMetadataCASRequired)
	equal(t, "store", k.dump(), before)
	k.must(k.config(Settings{MetadataCASRequired: new(false)}))
	k.must(k.putMetadata("a", set, ""))
	k.wantErr(k.putMetadata("b", set, ""), ErrMetadataCASRequired)
	k.mustPut("b", `{}`)
	k.must(k.delete("b"))
	k.must(k.undelete("b", 3))
	k.must(k.destroy("b", 3))
	version("b", 4)
	k.must(k.patchMetadata("b", Settings{MetadataCASRequired: new(false)}, "", 4))
	k.must(k.putMetadata("b", set, ""))
	k.must(k.deleteMetadata("b"))
	k.mustPut("b", `{}`)
	version("b", 0)
}

func TestSettingsRefused(t *testing.T) {
	k := newKeep(t)
	many := func(n int) string {
		var pairs []string
		for i := range n {
			pairs = append(pairs, fmt.Sprintf(`"k%d":"v"`, i))
		}
		return "{" + strings.Join(pairs, ",") + "}"
	}
	long := func(n int) string { return strings.Repeat("x", n) }

	k.must(k.putMetadata("a", Settings{}, many(64)))
	k.must(k.putMetadata("a", Settings{MaxVersions: new(1<<32 - 1)}, `{"`+long(128)+`":"`+long(512)+`"}`))
	before := k.dump()
	for name, c := range map[string]struct {
		s      Settings
		custom string
		text   string
	}{
		"65 keys":      {Settings{}, many(65), "custom_metadata validation failed: payload must contain at most 64 keys, provided 65"},
		"long key":     {Settings{}, `{"` + long(129) + `":"v"}`, "is 129 but must be 0 < len(key) <= 128"},
		"empty key":    {Settings{}, `{"":"v"}`, "is 0 but must be 0 < len(key) <= 128"},
		"long value":   {Settings{}, `{"k":"` + long(513) + `"}`, `length of value for key "k" is 513 but must be 0 < len(value) <= 512`},
		"empty value":  {Settings{}, `{"k":""}`, `length of value for key "k" is 0`},
		"null value":   {Settings{}, `{"k":null}`, `length of value for key "k" is 0`},
		"bad key":      {Settings{}, `{"a\u0007":"v"}`, "contains unprintable characters"},
		"bad value":    {Settings{}, `{"k":"a\nb"}`, `value for key "k" contains unprintable characters`},
		"object value": {Settings{}, `{"k":{}}`, `value for key "k" must be a string`},
		"list value":   {Settings{}, `{"k":[]}`, `value for key "k" must be a string`},
		"negative max": {Settings{MaxVersions: new(-1)}, "", "max_versions is -1: it must be 0 (unset) to 4294967295"},
		"large max":    {Settings{MaxVersions: new(1 << 32)}, "", "max_versions is 4294967296"},
		"negative age": {Settings{DeleteVersionAfter: new(-time.Second)}, "", "delete_version_after of a secret must not be negative"},
		"large age":    {Settings{DeleteVersionAfter: new(MaxDeleteVersionAfter + 1)}, "", "it must be at most 876000h0m0s"},
	} {
		err := k.putMetadata("a", c.s, c.custom)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want ErrInvalid with %q", name, err, c.text)
		}
		equal(t, "store after "+name, k.dump(), before)
	}
	// A patch is judged by its result.
	k.must(k.putMetadata("b", Settings{}, many(64)))
	k.wantErr(k.patchMetadata("b", Settings{}, `{"one":"more"}`), ErrInvalid)
	k.must(k.patchMetadata("b", Settings{}, `{"one":"more","k0":null}`))

	for _, s := range []Settings{{MaxVersions: new(-1)}, {MaxVersions: new(1 << 32)}, {DeleteVersionAfter: new(MaxDeleteVersionAfter + 1)}} {
		k.wantErr(k.config(s), ErrInvalid)
	}
}

func TestConfig(t *testing.T) {
	k := newKeep(t)
	read := func() (c Config) {
		t.Helper()
		k.must(k.view(func(tx *storage.Tx) (err error) {
			c, err = k.e.Config(tx)
			return err
		}))
		return c
	}
	equal(t, "config", read(), Config{})
	k.must(k.config(Settings{}))
	equal(t, "store", k.dump(), map[string]string{})
	k.must(k.config(Settings{MaxVersions: new(5), CASRequired: new(true), MetadataCASRequired: new(true), DeleteVersionAfter: new(time.Hour)}))
	equal(t, "config", read(), Config{5, true, true, time.Hour})
	k.must(k.config(Settings{DeleteVersionAfter: new(-time.Hour)}))
	equal(t, "config", read(), Config{5, true, true, -time.Second})
	k.must(k.config(Settings{MaxVersions: new(0), CASRequired: new(false), MetadataCASRequired: new(false), DeleteVersionAfter: new(time.Duration(0))}))
	equal(t, "config", read(), Config{})
}

func TestList(t *testing.T) {
	k := newKeep(t)
	_, err := k.list("")
	k.wantErr(err, ErrNotFound)
	for _, path := range []string{"b", "a", "a/x", "a/y/z", "c/d/e"} {
		k.mustPut(path, `{}`)
		k.mustPut(path, `{}`)
	}
	k.must(k.config(Settings{MaxVersions: new(3)}))
	k.must(k.putMetadata("m", Settings{MaxVersions: new(3)}, ""))
	for folder, want := range map[string][]string{
		"":     {"a", "a/", "b", "c/", "m"},
		"/":    {"a", "a/", "b", "c/", "m"},
		"a":    {"x", "y/"},
		"a/":   {"x", "y/"},
		"a/y/": {"z"},
		"c":    {"d/"},
	} {
		names, err := k.list(folder)
		k.must(err)
		equal(t, "list of "+folder, names, want)
	}
	for _, folder := range []string{"b/", "b", "nothing", "a/y/z/"} {
		_, err := k.list(folder)
		k.wantErr(err, ErrNotFound)
	}
	for _, folder := range []string{"//", "a//", "/a", "..", "a/./"} {
		_, err := k.list(folder)
		k.wantErr(err, ErrInvalid)
	}
	for folder, want := range map[string][]string{
		"":         {"a", "a/x", "a/y/z", "b", "c/d/e", "m"},
		"/":        {"a", "a/x", "a/y/z", "b", "c/d/e", "m"},
		"a":        {"x", "y/z"},
		"a/y/":     {"z"},
		"c":        {"d/e"},
		"b":        nil,
		"nothing/": nil,
	} {
		for most := range 8 {
			paths, err := k.scan(folder, most)
			k.must(err)
			equal(t, fmt.Sprintf("scan of %s for %d", folder, most), len(paths), min(most, len(want)))
			equal(t, "scan of "+folder, strings.Join(paths, " "), strings.Join(want[:len(paths)], " "))
		}
	}
	for _, folder := range []string{"//", "a//", "/a", "..", "a/./"} {
		_, err := k.scan(folder, 9)
		k.wantErr(err, ErrInvalid)
	}
	// A deleted secret is listed, one without metadata is not.
	k.must(k.delete("b"))
	k.must(k.deleteMetadata("a"))
	paths, err := k.scan("", 9)
	k.must(err)
	equal(t, "scan", paths, []string{"a/x", "a/y/z", "b", "c/d/e", "m"})
	names, err := k.list("")
	k.must(err)
	equal(t, "list", names, []string{"a/", "b", "c/", "m"})
}
