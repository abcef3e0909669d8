package server_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/servertest"
)

func TestHelp(t *testing.T) {
	f := fresh(t)
	f.everyType(t)
	f.Must(t, 204, "POST", "sys/mounts/team/my-kv", `{"type":"kv-v2"}`)
	for path, want := range map[string][]string{
		"secret/data/a/b":      {"Request:        secret/data/a/b\nMatching Route: data/{path...}", "GET takes read", "PUT takes create or update", "path (string)\n        in the path", "version (integer)\n        GET"},
		"sys/mounts/x":         {"Shows, enables or disables a mount.", "type (string)\n        PUT", "config (object)"},
		"sys/audit/x":          {"PUT takes update and sudo"},
		"sys/health":           {"GET takes no token", "HEAD takes no token"},
		"sys":                  {"system endpoints", "    mounts/{path...}\n"},
		"auth/token":           {"token based credentials", "    create\n"},
		"secret":               {"KV version 2", "    metadata/{path...}\n"},
		"team/my-kv":           {"KV version 2"},
		"auth/approle":         {"    role/{name...}/secret-id\n"},
		"cubbyhole":            {"    {path...}\n"},
		"auth/approle/role/x/": {"role/{name...}", "token_ttl (duration)\n        PUT"},
	} {
		r := f.Must(t, 200, "GET", path+"?help=1", "")
		text, _ := r.Get("help").(string)
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Errorf("the help of %s has no %q:\n%s", path, part, text)
			}
		}
		if also, is := r.Body["see_also"]; !is || also != nil || r.Get("openapi", "openapi") != "3.0.2" || len(r.Body) != 3 {
			t.Errorf("the help of %s: %s", path, r.Text)
		}
		if again := f.Must(t, 200, "GET", path+"?help=true&list=true", ""); again.Text != r.Text {
			t.Errorf("help=true of %s is %s", path, again.Text)
		}
	}
	if paths := f.Must(t, 200, "GET", "secret/data/x?help=1", "").Get("openapi", "paths").(map[string]any); len(paths) != 1 || paths["/data/{path}"] == nil {
		t.Errorf("the help of a route describes %v", paths)
	}

	// Vault's client reads it.
	if help, err := f.Client(t).Help("auth/approle"); err != nil || !strings.Contains(help.Help, "tidy/secret-id") {
		t.Errorf("%v, %v", help, err)
	}

	// Without help it is the path's own answer, and what is not there stays so.
	f.Must(t, 404, "GET", "secret/data/x?help=false", "")
	f.Must(t, 400, "GET", "secret/data/x?help=please", "")
	f.Must(t, 404, "GET", "nowhere?help=1", "")
	f.Must(t, 404, "GET", "sys/nowhere?help=1", "")
	f.Must(t, 404, "GET", "auth/nowhere?help=1", "")
	f.Must(t, 200, "POST", "secret/data/x?help=1", `{"data":{}}`)
	if r := f.Must(t, 200, "GET", "secret/data/x", ""); r.Get("data", "metadata", "version") == nil {
		t.Errorf("a POST with help did not write: %s", r.Text)
	}
}

// Whoever has a token that works is helped, as with OpenBao; a token that does not
// work is one at a path that takes one.
func TestHelpTakesToken(t *testing.T) {
	f := fresh(t)
	f.Policy(t, "denied", map[string]string{"*": `"deny"`})
	poor, none, wrong := "X-Vault-Token: "+f.Bearer(t, "denied"), "X-Vault-Token: ", "X-Vault-Token: hvs.wrong"
	for path, want := range map[string][3]int{
		"secret/data/x?help=1":                   {200, 403, 403},
		"secret?help=1":                          {200, 403, 403},
		"sys?help=1":                             {200, 403, 403},
		"sys/audit/x?help=1":                     {200, 403, 403},
		"sys/metrics?help=1":                     {200, 403, 403},
		"sys/wrapping/lookup?help=1":             {200, 200, 200},
		"sys/health?help=1":                      {200, 200, 200},
		"nowhere?help=1":                         {403, 403, 403},
		"secret/data/x":                          {403, 403, 403},
		"sys/internal/specs/openapi?help=1":      {200, 200, 200},
		"sys/policies/acl/denied?help=1&list=1":  {200, 403, 403},
		"auth/token/lookup-self?help=1&scan=yes": {400, 400, 400},
	} {
		got := []int{f.Call(t, "GET", path, "", poor).Status, f.Call(t, "GET", path, "", none).Status, f.Call(t, "GET", path, "", wrong).Status}
		if !slices.Equal(got, want[:]) {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	f.Must(t, 204, "PUT", "sys/seal", "")
	f.Must(t, 503, "GET", "secret/data/x?help=1", "")
	f.Must(t, 503, "GET", "sys?help=1", "")
	f.Must(t, 200, "GET", "sys/health?help=1", "")
}

// Help and the document are long and no secret: of the answer the audit log has only
// that it was given.
func TestHelpIsRecorded(t *testing.T) {
	d, file := servertest.AuditFile(t)
	f := freshAudited(t, []audit.Device{d})
	before := len(servertest.Records(t, file))
	f.Must(t, 200, "GET", "secret/data/x?help=1", "")
	f.Must(t, 200, "GET", "sys/internal/specs/openapi", "")
	list := servertest.Records(t, file)[before:]
	if len(list) != 4 {
		t.Fatalf("the log has %v", list)
	}
	for i, path := range []string{"secret/data/x", "secret/data/x", "sys/internal/specs/openapi", "sys/internal/specs/openapi"} {
		if r := list[i]; r.Get("request", "path") != path || r.Get("request", "operation") != "read" || r.Get("response", "data") != nil || r["error"] != nil {
			t.Errorf("the log has %v", r)
		}
	}
}
