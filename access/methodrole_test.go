package access

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/storage"
)

func TestMethodRoles(t *testing.T) {
	f := newTree(t)
	role := &JWTRole{
		Name: "ci", UserClaim: "sub", Claims: map[string]any{"id": json.Number("12345678901234567890"), "ref": []any{"a", true}},
		Mappings: map[string]string{"a": "b"}, TokenParams: TokenParams{Policies: []string{"app"}},
	}
	write := func(name string, r interface{ Check() error }) error {
		return f.update(func(tx *storage.Tx) error { return WriteMethodRole(tx, "m/role", name, r) })
	}
	read := func(name string, into any) (found bool, err error) {
		err = f.update(func(tx *storage.Tx) (err error) {
			found, err = ReadMethodRole(tx, "m/role", name, into)
			return err
		})
		return found, err
	}
	if err := write("CI", role); err != nil {
		t.Fatal(err)
	}
	var got JWTRole
	if found, err := read("Ci", &got); !found || err != nil || !reflect.DeepEqual(&got, role) {
		t.Errorf("%+v %v", got, err)
	}
	for what, err := range map[string]error{
		"an empty name": write("", role), "a slash": write("a/b", role), "a long name": write(strings.Repeat("x", maxRoleName+1), role),
		"a wrong role": write("x", &JWTRole{}), "a large one": write("x", &JWTRole{UserClaim: "sub", Subject: strings.Repeat("x", maxRoleLists)}),
	} {
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if found, err := read("x", &got); found || err != nil {
		t.Errorf("%v %v", found, err)
	}
	for text, want := range map[string]error{
		`{`: storage.ErrCorrupt, `null`: storage.ErrFormat, `{"version":2,"data":{}}`: storage.ErrFormat, `{"version":1}`: storage.ErrCorrupt,
		`{"version":1,"data":{"bound_audiences":7}}`: storage.ErrCorrupt,
	} {
		if err := f.update(func(tx *storage.Tx) error { return tx.Put("m/role/bad", []byte(text)) }); err != nil {
			t.Fatal(err)
		}
		if _, err := read("bad", &got); !errors.Is(err, want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	err := f.update(func(tx *storage.Tx) error { return DeleteMethodRole(tx, "m/role", "CI") })
	if found, again := read("ci", &got); found || err != nil || again != nil {
		t.Errorf("%v %v %v", found, err, again)
	}
}
