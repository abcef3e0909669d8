package sys_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// A token is told the rules of its policies merged, in Vault's form; root that it is.
func TestResultantACL(t *testing.T) {
	f := fresh(t, servertest.NewSeal("a", 1))
	for name, text := range map[string]string{
		"one": `path "secret/data/a" {
				capabilities = ["read", "update"]
				min_wrapping_ttl = "1m"
				max_wrapping_ttl = "1h"
				allowed_parameters = { "Data" = [], "cas" = [1, "x"] }
				denied_parameters = { "options" = ["y"] }
				required_parameters = ["data"]
			}
			path "secret/metadata/*" { capabilities = ["list"] }
			path "secret/+/shared/*" { capabilities = ["read"] }
			path "secret/+/own" { capabilities = ["read"] }
			path "closed/*" { capabilities = ["read"] }`,
		"two": `path "secret/data/a" { capabilities = ["delete"] }
			path "secret/metadata/*" { capabilities = ["scan"] }
			path "closed/*" { capabilities = ["deny"] }`,
	} {
		p, err := access.ParsePolicy(name, text)
		if err == nil {
			err = f.Unsealed().ChangePolicies(t.Context(), func(tx *storage.Tx) error { return access.PutPolicy(tx, p) })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c := f.Client(t)
	c.SetToken(f.Bearer(t, "one", "two", "default"))
	s, err := c.Logical().Read("sys/internal/ui/resultant-acl")
	if err != nil {
		t.Fatal(err)
	}
	check := func(kind, path, want string) {
		t.Helper()
		paths, _ := s.Data[kind].(map[string]any)
		if got, err := json.Marshal(paths[path]); err != nil || string(got) != want {
			t.Errorf("%s has for %s %s, want %s, %v", kind, path, got, want, err)
		}
	}
	check("exact_paths", "secret/data/a", `{"allowed_parameters":{"cas":[1,"x"],"data":[]},"capabilities":["delete","read","update"],`+
		`"denied_parameters":{"options":["y"]},"max_wrapping_ttl":3600,"min_wrapping_ttl":60,"required_parameters":["data"]}`)
	check("exact_paths", "auth/token/lookup-self", `{"capabilities":["read"]}`)
	check("glob_paths", "secret/metadata/", `{"capabilities":["list","scan"]}`)
	check("glob_paths", "secret/+/shared/*", `{"capabilities":["read"]}`)
	check("glob_paths", "secret/+/own", `{"capabilities":["read"]}`)
	check("glob_paths", "closed/", `{"capabilities":["deny"]}`)
	if s.Data["root"] != false || len(s.Data) != 3 {
		t.Errorf("the answer has %v", s.Data)
	}
	if r := f.Must(t, 200, "GET", "sys/internal/ui/resultant-acl", ""); fmt.Sprint(r.Get("data")) != "map[root:true]" || r.Get("root") != true {
		t.Errorf("root is told %s", r.Text)
	}
}
