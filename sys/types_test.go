package sys

import (
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/mount"
)

// Which engine a mount gets is decided by the types that there are.
func TestEnginesByNameAndVersion(t *testing.T) {
	kind := func(name, version string) api.Type { return api.Type{Name: name, Version: version, Kind: api.Secrets} }
	second, third := kind("kv", "2"), kind("pair", "3")
	second.From, third.From = "1", "2"
	types, err := mount.NewTypes(second, kind("kv", "1"), kind("count", ""), kind("pair", "1"), kind("pair", "2"), third, api.Type{Name: "peer", Kind: api.Login})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, version, want string }{
		{"kv", "", "kv 2"}, {"kv", "1", "kv 1"}, {"kv", "2", "kv 2"}, {"kv-v1", "", "kv 1"}, {"kv-v2", "2", "kv 2"}, {"kv-v2", "1", "the type kv-v2 is not of version 1"}, {"count", "", "count "},
		{"kv", "3", "KV version 3 is not supported: there are the versions 1, 2"}, {"kv-v3", "", `unknown backend type: "kv-v3"; there is count, kv, pair`},
		{"count", "1", `unknown option "version": a count engine has no options`}, {"peer", "", "unknown backend type"}, {"", "", "backend type must be specified"},
	} {
		var options map[string]string
		if c.version != "" {
			options = map[string]string{"version": c.version}
		}
		got := ""
		if typ, err := engine(types, c.name, options); err != nil {
			got = err.Error()
		} else {
			got = typ.Name + " " + typ.Version
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%q with version %q: %s, want %s", c.name, c.version, got, c.want)
		}
	}
	for _, c := range []struct{ typ, old, from, version, want, then string }{
		{"kv", "2", "", "", "", "2"}, {"kv", "2", "", "2", "", "2"}, {"kv", "2", "1", "2", "", "2"},
		{"kv", "2", "", "1", "cannot downgrade mount from version 2", "2"}, {"kv", "2", "", "3", "KV version 3 is not supported", "2"},
		{"kv", "1", "", "2", "", "2 from 1"}, {"kv", "1", "", "1", "", "1"}, {"pair", "2", "1", "3", "the mount is still being upgraded from version 1", "2"},
		{"count", "", "", "1", `unknown option "version"`, ""},
	} {
		m := mount.New("a/", c.typ, c.old)
		m.From = c.from
		err := changeVersion(types, m, map[string]string{"version": c.version})
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
		then := m.Options["version"]
		if m.From != c.from {
			then += " from " + m.From
		}
		if then != c.then {
			t.Errorf("%+v: it is %s", c, then)
		}
	}
	if m := mount.New("c/", "count", ""); m.Options != nil || m.Accessor != "count_"+m.UUID[:8] {
		t.Errorf("%+v", m)
	}
}
