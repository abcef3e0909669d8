package server_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/server"
)

var updateAPI = flag.Bool("api.update", false, "rewrite docs/api.md")

// docs/api.md is made of the types' tables.
func TestAPIDocument(t *testing.T) {
	f := fresh(t)
	types := f.Types()
	slices.SortFunc(types, func(a, b *api.Type) int {
		return cmp.Or(cmp.Compare(b.Kind, a.Kind), strings.Compare(a.At, b.At), strings.Compare(a.Name+a.Version, b.Name+b.Version))
	})
	var b strings.Builder
	b.WriteString("# The HTTP API\n\n<!-- Made from the code: go test ./server -run TestAPIDocument -api.update -->\n\n" +
		"What a keep answers below `/v1/`. A running keep says the same of its mounts: `sealkeep path-help PATH`, or as an OpenAPI\n" +
		"document `sys/internal/specs/openapi`. `PUT` and `POST` are the same; `LIST` and `SCAN` are also `GET` with `list=true` and\n" +
		"`scan=true`. `{name...}` may stand for several segments. The capabilities are those that a token's policies must grant.\n")
	for _, typ := range types {
		title, at := typ.Name, typ.At
		switch typ.Kind {
		case api.Secrets:
			title, at = "Engine "+strings.TrimSpace(typ.Name+" "+typ.Version), "{mount}/"
		case api.Login:
			title, at = "Login method "+typ.Name, "auth/{mount}/"
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| Path | Method: capability | Takes | |\n| --- | --- | --- | --- |\n", title, strings.ToUpper(typ.Help[:1])+typ.Help[1:])
		routes := slices.SortedFunc(slices.Values(typ.Routes), func(a, b api.Route) int { return strings.Compare(a.Path, b.Path) })
		for _, r := range routes {
			var methods, params []string
			for op := range api.Ops {
				if _, ok := r.Ops[op]; ok {
					methods = append(methods, server.OpMethods[op]+": "+server.Takes(&r, op))
				}
			}
			for _, p := range server.ParamsOf(&r)[len(server.PathNames(r.Path)):] {
				text := "`" + p.Name + "`"
				if p.Kind != api.TextField {
					text += " (" + string(p.Kind) + ")"
				}
				params = append(params, text)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", strings.TrimSuffix(at+r.Path, "/"), strings.Join(methods, "<br>"), strings.Join(params, ", "), r.Help)
		}
	}
	const path = "../docs/api.md"
	if *updateAPI {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != b.String() {
		t.Errorf("%s is not what the code says (%v): run go test ./server -run TestAPIDocument -api.update", path, err)
	}
}
