package server

import (
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/api"
)

// Which engine a mount gets is decided by the types that there are.
func TestEnginesByNameAndVersion(t *testing.T) {
	engine := func(name, version string) api.Type { return api.Type{Name: name, Version: version, Kind: api.Secrets} }
	tables, err := newTables([]api.Type{engine("kv", "2"), engine("kv", "1"), engine("count", ""), {Name: "peer", Kind: api.Login}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, version, want string }{
		{"kv", "", "kv 2"}, {"kv", "1", "kv 1"}, {"kv", "2", "kv 2"}, {"kv-v1", "", "kv 1"}, {"kv-v2", "2", "kv 2"}, {"count", "", "count "},
		{"kv", "3", "KV version 3 is not supported: there are the versions 1, 2"}, {"kv-v3", "", `unknown backend type: "kv-v3"; there is count, kv`},
		{"count", "1", `unknown option "version": a count engine has no options`}, {"peer", "", "unknown backend type"}, {"", "", "backend type must be specified"},
	} {
		var options map[string]string
		if c.version != "" {
			options = map[string]string{"version": c.version}
		}
		got := ""
		if typ, err := tables.engine(c.name, options); err != nil {
			got = err.Error()
		} else {
			got = typ.Name + " " + typ.Version
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%q with version %q: %s, want %s", c.name, c.version, got, c.want)
		}
	}
	m := newMount("a/", "kv", "2")
	for version, want := range map[string]string{
		"": "", "2": "", "1": "a/ is a kv engine of version 2, and stays one", "3": "KV version 3 is not supported",
	} {
		err := tables.keepsVersion(m, map[string]string{"version": version})
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("tuned to version %q: %v, want %q", version, err, want)
		}
	}
	if m := newMount("c/", "count", ""); m.Options != nil || m.Accessor != "count_"+m.UUID[:8] {
		t.Errorf("%+v", m)
	}
}
