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

func TestPutGet(t *testing.T) {
	k := newKeep(t)
	_, err := k.get("app/db", 0)
	k.wantErr(err, ErrNotFound)

	m := k.mustPut("app/db", `{"n": 12345678901234567890.10, "s": "<é\u00e9>"}`)
	equal(t, "meta", m, Meta{Version: 1, Created: start})
	k.now = k.now.Add(time.Second)
	m = k.mustPut("app/db", "null")
	equal(t, "meta", m, Meta{Version: 2, Created: k.now})
	k.mustPut("app/db", "{}")

	s := k.wantData("app/db", 1, `{"n":12345678901234567890.10,"s":"<é\u00e9>"}`)
	equal(t, "meta", s.Meta, Meta{Version: 1, Created: start})
	k.wantData("app/db", 2, "null")
	k.wantData("app/db", 3, "{}")
	s = k.wantData("app/db", 0, "{}")
	equal(t, "newest", s.Meta.Version, 3)
	for _, n := range []uint64{4, 1 << 63, 1<<64 - 1} {
		_, err = k.get("app/db", n)
		k.wantErr(err, ErrNotFound)
	}
	_, err = k.get("app", 0)
	k.wantErr(err, ErrNotFound)

	// Names that look like the records of others.
	k.mustPut("app/db/1", `{"a":1}`)
	k.mustPut("app/db/1", `{"a":2}`)
	k.wantData("app/db", 1, `{"n":12345678901234567890.10,"s":"<é\u00e9>"}`)
	k.wantData("app/db/1", 1, `{"a":1}`)

	err = k.update(func(tx *storage.Tx) error {
		_, err := k.e.Put(tx, "app/db", Data{}, nil, k.now)
		return err
	})
	k.wantErr(err, ErrInvalid)
}

func TestMountsApart(t *testing.T) {
	k := newKeep(t)
	other := *k
	other.e.Prefix = "mounts/other"
	k.mustPut("a", `{"a":1}`)
	other.mustPut("a", `{"a":2}`)
	k.must(k.config(Settings{CASRequired: new(true)}))
	other.mustPut("a", `{"a":3}`)
	k.must(other.deleteMetadata("a"))
	k.wantData("a", 0, `{"a":1}`)
}

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		``:                          ``,
		` { "b" : 1e400 , "a":[] }`: `{"b":1e400,"a":[]}`,
		"null\n":                    `null`,
		`{}`:                        `{}`,
	} {
		d, err := Parse("data", []byte(in))
		if err != nil || string(d.raw) != want {
			t.Errorf("Parse(%q) = %q, %v, want %q", in, d.raw, err, want)
		}
	}
	for _, in := range []string{`[]`, `"x"`, `1`, `true`, `{`, `{}{}`, ` `, "{\"a\":\"\xff\"}", `{"a":01}`,
		strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000)} {
		d, err := Parse("data", []byte(in))
		if !errors.Is(err, ErrInvalid) || d.raw != nil || !strings.HasPrefix(err.Error(), "data ") {
			t.Errorf("Parse(%.40q) = %q, %v, want ErrInvalid", in, d.raw, err)
		}
	}
}

func TestCAS(t *testing.T) {
	k := newKeep(t)
	for _, step := range []struct {
		name string
		do   func()
		cas  *int
		want error
	}{
		{"wrong on absent", nil, new(1), ErrCASMismatch},
		{"zero creates", nil, new(0), nil},
		{"zero on present", nil, new(0), ErrCASMismatch},
		{"negative", nil, new(-1), ErrCASMismatch},
		{"none", nil, nil, nil},
		{"right", nil, new(2), nil},
		{"stale", nil, new(2), ErrCASMismatch},
		{"deleted counts", func() { k.must(k.delete("a")) }, new(0), ErrCASMismatch},
		{"right on deleted", nil, new(3), nil},
		{"required by mount", func() { k.must(k.config(Settings{CASRequired: new(true)})) }, nil, ErrCASRequired},
		{"given to mount", nil, new(4), nil},
		{"required by secret", func() {
			k.must(k.config(Settings{CASRequired: new(false)}))
			k.must(k.putMetadata("a", Settings{CASRequired: new(true)}, ""))
		}, nil, ErrCASRequired},
		{"given to secret", nil, new(5), nil},
		{"no longer required", func() { k.must(k.putMetadata("a", Settings{CASRequired: new(false)}, "")) }, nil, nil},
	} {
		if step.do != nil {
			step.do()
		}
		before := k.dump()
		if _, err := k.put("a", `{"a":1}`, step.cas); !errors.Is(err, step.want) {
			t.Fatalf("%s: %v, want %v", step.name, err, step.want)
		} else if err != nil {
			equal(t, "store after "+step.name, k.dump(), before)
		}
	}
	equal(t, "text", ErrCASMismatch.Error(), "check-and-set parameter did not match the current version")
	equal(t, "text", ErrCASRequired.Error(), "check-and-set parameter required for this call")

	// Metadata alone is version 0.
	k.must(k.putMetadata("b", Settings{MaxVersions: new(2)}, ""))
	if m, err := k.put("b", `{}`, new(0)); err != nil || m.Version != 1 {
		t.Fatalf("cas 0 on a secret without versions: %+v, %v", m, err)
	}
}

func TestPatch(t *testing.T) {
	// RFC 7396, appendix A, where document and patch are objects.
	for _, c := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		{`null`, `{"a":1,"b":null}`, `{"a":1}`},
		{`{"n":12345678901234567890.10,"h":"<&>"}`, `{"m":1e400}`, `{"h":"<&>","m":1e400,"n":12345678901234567890.10}`},
		{`{"a":1}`, `{}`, `{"a":1}`},
	} {
		k := newKeep(t)
		k.mustPut("a", c[0])
		m, err := k.patch("a", c[1], nil)
		k.must(err)
		equal(t, "meta", m, Meta{Version: 2, Created: start})
		k.wantData("a", 0, c[2])
		k.wantData("a", 1, c[0])
	}

	k := newKeep(t)
	_, err := k.patch("a", `{}`, nil)
	k.wantErr(err, ErrNotFound)
	k.must(k.putMetadata("a", Settings{MaxVersions: new(2)}, `{"k":"v"}`))
	_, err = k.patch("a", `{}`, nil)
	k.wantErr(err, ErrNotFound)
	k.mustPut("a", `{"a":1}`)
	for _, raw := range []string{"", "null"} {
		_, err = k.patch("a", raw, nil)
		k.wantErr(err, ErrInvalid)
	}
	_, err = k.patch("a", `{}`, new(2))
	k.wantErr(err, ErrCASMismatch)
	k.must(k.config(Settings{CASRequired: new(true)}))
	_, err = k.patch("a", `{}`, nil)
	k.wantErr(err, ErrCASRequired)
	_, err = k.patch("a", `{"b":2}`, new(1))
	k.must(err)
	k.must(k.delete("a"))
	m, err := k.patch("a", `{"b":2}`, new(2))
	k.wantErr(err, ErrGone)
	equal(t, "meta", m, Meta{Version: 2, Created: start, Deletion: start, Custom: json.RawMessage(`{"k":"v"}`)})
	k.must(k.undelete("a", 2))
	k.must(k.destroy("a", 2))
	m, err = k.patch("a", `{"b":2}`, new(2))
	k.wantErr(err, ErrGone)
	equal(t, "destroyed", m.Destroyed, true)
}

func TestSubkeys(t *testing.T) {
	k := newKeep(t)
	k.mustPut("a", `{"foo":"abc","bar":{"baz":{"deep":1}},"quux":{},"list":[{"x":1}],"nil":null}`)
	k.mustPut("a", `null`)
	subkeys := func(version uint64, depth int) Secret {
		t.Helper()
		var s Secret
		k.must(k.view(func(tx *storage.Tx) (err error) {
			s, err = k.e.Subkeys(tx, "a", version, depth, k.now)
			return err
		}))
		return s
	}
	for depth, want := range []string{
		`{"bar":{"baz":{"deep":null}},"foo":null,"list":null,"nil":null,"quux":null}`,
		`{"bar":null,"foo":null,"list":null,"nil":null,"quux":null}`,
		`{"bar":{"baz":null},"foo":null,"list":null,"nil":null,"quux":null}`,
		`{"bar":{"baz":{"deep":null}},"foo":null,"list":null,"nil":null,"quux":null}`,
	} {
		equal(t, fmt.Sprint("depth ", depth), string(subkeys(1, depth).Data), want)
	}
	equal(t, "null", string(subkeys(0, 0).Data), "null")
	k.must(k.delete("a"))
	s := subkeys(0, 0)
	equal(t, "deleted", s, Secret{Meta: Meta{Version: 2, Created: start, Deletion: start}})
	k.wantErr(k.view(func(tx *storage.Tx) error {
		_, err := k.e.Subkeys(tx, "b", 0, 0, k.now)
		return err
	}), ErrNotFound)
}

// Nesting up to the limit of Parse costs one pass, not one per level.
func TestDeepNesting(t *testing.T) {
	k := newKeep(t)
	const depth = 9000
	nest := func(inner string) string {
		return strings.Repeat(`{"a":`, depth) + inner + strings.Repeat("}", depth)
	}
	pad := strings.Repeat("y", 500_000)
	began := time.Now()
	k.mustPut("a", nest(`{"x":"`+pad+`"}`))
	_, err := k.patch("a", nest(`{"z":1}`), nil)
	k.must(err)
	k.wantData("a", 0, nest(`{"x":"`+pad+`","z":1}`))
	k.must(k.view(func(tx *storage.Tx) error {
		_, err := k.e.Subkeys(tx, "a", 0, 0, k.now)
		return err
	}))
	if took := time.Since(began); took > 30*time.Second { // a pass for each level takes minutes with the race detector
		t.Errorf("took %v", took)
	}
}

// Records that were changed behind the engine's back are named, never served.
func TestCorrupt(t *testing.T) {
	k := newKeep(t)
	k.mustPut("a", `{"a":1}`)
	k.mustPut("a", `{"a":2}`)
	set := func(path string, value []byte) {
		t.Helper()
		k.must(k.update(func(tx *storage.Tx) error {
			if value == nil {
				return tx.Delete(k.e.Prefix + "/" + path)
			}
			return tx.Put(k.e.Prefix+"/"+path, value)
		}))
	}
	for _, value := range [][]byte{nil, {}, {1}, {2, '{', '}'}} {
		set("v/a/1", value)
		_, err := k.get("a", 1)
		k.wantErr(err, storage.ErrCorrupt)
		k.wantData("a", 2, `{"a":2}`)
	}
	set("config", []byte{1, 2, 3})
	_, err := k.put("a", `{}`, nil)
	k.wantErr(err, storage.ErrCorrupt)
	k.wantErr(k.undelete("a", 1), storage.ErrCorrupt)
	set("s/a", []byte{1, 2, 3})
	_, err = k.get("a", 0)
	k.wantErr(err, storage.ErrCorrupt)
	if !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("%v does not name the secret", err)
	}
}

func TestJSON(t *testing.T) {
	k := newKeep(t)
	k.must(k.config(Settings{DeleteVersionAfter: new(3*time.Hour + 25*time.Minute + 19*time.Second)}))
	k.mustPut("a", `{"foo":"bar"}`)
	k.must(k.config(Settings{DeleteVersionAfter: new(time.Duration(0))}))
	k.now = start.Add(time.Second)
	k.mustPut("a", `{"foo":"<baz>"}`)
	k.must(k.putMetadata("a", Settings{DeleteVersionAfter: new(time.Hour)}, `{"owner":"jdoe"}`))
	s, err := k.get("a", 0)
	k.must(err)
	m, err := k.metadata("a")
	k.must(err)
	gone := s
	gone.Data, gone.Meta.Custom = nil, nil
	for _, c := range []struct {
		v    interface{ AppendJSON([]byte) []byte }
		want string
	}{
		{s, `{"data":{"foo":"<baz>"},"metadata":{"created_time":"2026-03-22T02:24:07.945319214Z","custom_metadata":{"owner":"jdoe"},"deletion_time":"","destroyed":false,"version":2}}`},
		{gone, `{"data":null,"metadata":{"created_time":"2026-03-22T02:24:07.945319214Z","custom_metadata":null,"deletion_time":"","destroyed":false,"version":2}}`},
		{m, `{"cas_required":false,"created_time":"2026-03-22T02:24:06.945319214Z","current_metadata_version":1,"current_version":2,"custom_metadata":{"owner":"jdoe"},` +
			`"delete_version_after":"1h0m0s","max_versions":0,"metadata_cas_required":false,"oldest_version":0,"updated_time":"2026-03-22T02:24:07.945319214Z",` +
			`"versions":{"1":{"created_time":"2026-03-22T02:24:06.945319214Z","deletion_time":"2026-03-22T05:49:25.945319214Z","destroyed":false},` +
			`"2":{"created_time":"2026-03-22T02:24:07.945319214Z","deletion_time":"","destroyed":false}}}`},
		{Config{}, `{"cas_required":false,"delete_version_after":"0s","max_versions":0,"metadata_cas_required":false}`},
		{Config{5, true, true, -time.Second}, `{"cas_required":true,"delete_version_after":"-1s","max_versions":5,"metadata_cas_required":true}`},
	} {
		equal(t, "JSON", string(c.v.AppendJSON(nil)), c.want)
		j, err := json.Marshal(c.v)
		k.must(err)
		var got, want any
		k.must(json.Unmarshal(j, &got))
		k.must(json.Unmarshal([]byte(c.want), &want))
		equal(t, "marshalled", got, want)
	}
}

// A secret that takes long to merge is never merged while other writers wait.
func TestLargePatchIsMergedBeforeTheTransaction(t *testing.T) {
	k := newKeep(t)
	large := strings.Repeat("x", MergeInside)
	k.mustPut("app/large", `{"a":"1","large":"`+large+`"}`)
	m, err := NewMerge(k.data(`{"b":"2"}`))
	k.must(err)
	patch := func() error {
		return k.update(func(tx *storage.Tx) error {
			_, err := k.e.Patch(tx, "app/large", m, nil, k.now)
			return err
		})
	}
	prepare := func() {
		k.must(k.view(func(tx *storage.Tx) error { return k.e.Prepare(tx, "app/large", m) }))
	}
	if err := patch(); !errors.Is(err, ErrUnprepared) {
		t.Fatalf("without preparation: %v", err)
	}
	prepare()
	k.mustPut("app/large", `{"a":"other","large":"`+large+`"}`)
	if err := patch(); !errors.Is(err, ErrUnprepared) {
		t.Fatalf("changed since it was prepared: %v", err)
	}
	prepare()
	k.must(patch())
	s, err := k.get("app/large", 0)
	k.must(err)
	if want := `{"a":"other","b":"2","large":"` + large + `"}`; string(s.Data) != want || s.Meta.Version != 3 {
		t.Errorf("version %d: %.100s", s.Meta.Version, s.Data)
	}
	if _, err := k.patch("app/large", `{"large":null}`, nil); err != nil {
		t.Error(err)
	}
}
