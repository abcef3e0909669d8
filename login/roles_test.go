package login

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/storage/storagetest"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

type role struct {
	Claims map[string]any `json:"claims"`
	Texts  []string       `json:"texts"`
	access.TokenParams
}

// TestRecords writes roles and reads them, also those that no role is.
func TestRecords(t *testing.T) {
	store := storagetest.New(t)
	update := func(fn func(*storage.Tx) error) error { return store.Update(t.Context(), fn) }
	write := func(name string, r *role) error {
		return update(func(tx *storage.Tx) error {
			path, err := Path("m/role", "role", name)
			if err != nil {
				return err
			}
			return WriteRecord(tx, path, roleKind, r)
		})
	}
	roles := Roles[role, TokenFields]{Path: "role"}
	read := func(name string) (r *role, err error) {
		err = store.View(t.Context(), func(tx *storage.Tx) (err error) {
			r, err = roles.Get(tx, "m", name)
			return err
		})
		return r, err
	}
	is := &role{
		Claims: map[string]any{"id": json.Number("12345678901234567890"), "ref": []any{"a", true}}, TokenParams: access.TokenParams{Policies: []string{"app"}},
	}
	if err := write("CI", is); err != nil {
		t.Fatal(err)
	}
	if got, err := read("Ci"); err != nil || !reflect.DeepEqual(got, is) {
		t.Errorf("%+v %v", got, err)
	}
	for what, err := range map[string]error{
		"an empty name": write("", is), "a slash": write("a/b", is), "a long name": write(strings.Repeat("x", maxName+1), is),
		"a large one": write("x", &role{Texts: []string{strings.Repeat("x", MaxRecord)}}),
	} {
		if !errors.Is(err, api.ErrRequest) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := write("a\nb", is); !errors.Is(err, access.ErrInvalid) {
		t.Errorf("a name that is not printed: %v", err)
	}
	if got, err := read("x"); got != nil || err != nil {
		t.Errorf("%v %v", got, err)
	}
	for text, want := range map[string]error{
		`{`: storage.ErrCorrupt, `null`: storage.ErrFormat, `{"version":2,"data":{}}`: storage.ErrFormat, `{"version":1}`: storage.ErrCorrupt,
		`{"version":1,"data":{"texts":7}}`: storage.ErrCorrupt,
	} {
		if err := update(func(tx *storage.Tx) error { return tx.Put("m/role/bad", []byte(text)) }); err != nil {
			t.Fatal(err)
		}
		if _, err := read("bad"); !errors.Is(err, want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestPairs(t *testing.T) {
	for text, want := range map[string]map[string]string{
		``: nil, `null`: nil, `""`: nil, `{}`: {}, `{"a":1,"b":"x","c":true}`: {"a": "1", "b": "x", "c": "true"},
		`"{\"a\":\"b\"}"`: {"a": "b"}, `"a=b, c = d=e"`: {"a": "b", "c": "d=e"},
	} {
		if got, err := Pairs(json.RawMessage(text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{`"a"`, `"a=b,c"`, `7`, `"{"`, `["a"]`} {
		if got, err := Pairs(json.RawMessage(text)); !errors.Is(err, api.ErrRequest) {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
}
