package server

import (
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/mount"
)

func routesOf(paths ...string) *api.Type {
	t := &api.Type{Name: "test"}
	for _, path := range paths {
		t.Routes = append(t.Routes, api.Route{Path: path})
	}
	return t
}

// Which route a path has does not depend on their order.
func TestTheMoreSpecificRouteCounts(t *testing.T) {
	paths := []string{
		"{path...}", "keys", "keys/{name}", "keys/{name}/config", "keys/special", "{path...}/tune", "auth/{path...}/tune",
		"export/{type}/{name}", "export/{type}/{name}/{version}", "role/{name...}", "role/{name...}/id", "role/{name...}/id/{id}", "role/x/{name...}", "role/{one}/id/{id}",
	}
	for range 2 {
		table, err := newTable(routesOf(paths...), "", "")
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{
			"keys": "keys", "keys/a": "keys/{name} a", "keys/special": "keys/special", "keys/a/config": "keys/{name}/config a",
			"keys/a/b": "{path...} keys/a/b", "a/b/tune": "{path...}/tune a/b", "auth/b/c/tune": "auth/{path...}/tune b/c", "tune": "{path...} tune",
			"export/t/n": "export/{type}/{name} t n", "export/t/n/1": "export/{type}/{name}/{version} t n 1", "export/t": "{path...} export/t",
			"role/a": "role/{name...} a", "role/a/b": "role/{name...} a/b", "role/a/b/id": "role/{name...}/id a/b", "role/id": "role/{name...} id",
			"role/a/id/1": "role/{one}/id/{id} a 1", "role/a/b/id/1": "role/{name...}/id/{id} a/b 1", "role/x/id": "role/x/{name...} id", "": "{path...} ",
		} {
			r, params := table.find(path)
			got := "none"
			if r != nil {
				got = r.Path
				for _, p := range params.Values[:strings.Count(r.Path, "{")] {
					got += " " + p
				}
			}
			if got != want {
				t.Errorf("%q is %q, want %q", path, got, want)
			}
		}
		for i, j := 0, len(paths)-1; i < j; i, j = i+1, j-1 {
			paths[i], paths[j] = paths[j], paths[i]
		}
	}
}

func TestRoutesThatTieAreRefused(t *testing.T) {
	for _, paths := range [][]string{{"a", "a"}, {"a/{x}", "a/{y}"}, {"{a...}/{b...}"}} {
		if _, err := newTable(routesOf(paths...), "", ""); err == nil {
			t.Errorf("%q were taken", paths)
		}
	}
}

// The routes of system types are found by their whole path, with and without a slash
// at the end of the type's own, and no such type hides another.
func TestSystemTypes(t *testing.T) {
	typ := func(name, at string, paths ...string) api.Type {
		one := routesOf(paths...)
		one.Name, one.Kind, one.At = name, api.System, at
		return *one
	}
	tables, err := tablesOf(typ("a", "a/", "", "{path...}"), typ("b", "auth/b/", "x/{name}"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"a": "a a", "a/x": "a a/{path}", "auth/b/x/y": "b auth/b/x/{path}", "auth/b/y": "b ", "auth/b": " ", "ab": " ", "auth/c": " ", "": " ",
	} {
		route, _, typ := tables.findFixed(path)
		got := " "
		if typ != nil {
			got = typ.Name + " "
		}
		if route != nil {
			got += route.label
		}
		if got != want {
			t.Errorf("%q is %q, want %q", path, got, want)
		}
	}
	for _, at := range []string{"a/", "a/b/", ""} {
		if _, err := tablesOf(typ("a", "a/"), typ("b", at)); err == nil {
			t.Errorf("a type at %q was taken beside a/", at)
		}
	}
}

func tablesOf(list ...api.Type) (*tables, error) {
	types, err := mount.NewTypes(list...)
	if err != nil {
		return nil, err
	}
	return newTables(types)
}
