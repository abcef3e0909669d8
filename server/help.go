package server

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
)

// A GET with help=1 asks what its path is for, as with Vault: what a route is for, or,
// at a mount's own path, its type. Who may ask is as OpenBao has it: whoever has a
// token that works, whatever its policies; where a route takes no token, help takes
// none. What is not there is answered as it is without help.

// withHelp puts help in the place of what a request has found.
func (s *Server) withHelp(r *request) {
	typ, at := r.typ, r.Path+"/"
	whole := r.mounts != nil && (at == r.Mount.Path || at == "auth/"+r.Mount.Path)
	for _, t := range s.tables.fixed {
		if t.At == at {
			typ, whole = t, true
		}
	}
	if typ == nil || r.route == nil && !whole {
		return
	}
	of := r.route
	help := &route{typ: typ, label: "help"}
	if !whole {
		help.Gate = of.Gate
	}
	h := api.Do(func(r *api.Request, _ *api.None) (api.Answer, error) {
		answer := struct {
			Help    string    `json:"help"`
			SeeAlso []string  `json:"see_also"` // null, as with Vault
			OpenAPI *document `json:"openapi"`
		}{OpenAPI: s.newDocument()}
		at := site{name: typ.Name, tag: tagOf(typ)} // the paths are those below the mount
		if !whole {
			answer.Help = routeHelp(r.Path, &of.Route)
			answer.OpenAPI.add(at, &of.Route)
			return rawJSON(answer)
		}
		answer.Help = typeHelp(typ)
		for i := range typ.Routes {
			answer.OpenAPI.add(at, &typ.Routes[i])
		}
		return rawJSON(answer)
	})
	help.on[api.Read] = &h
	r.typ, r.route = typ, help
}

// typeHelp is the help of a type, with its routes.
func typeHelp(t *api.Type) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## DESCRIPTION\n\n%s\n\n## PATHS\n\nThe following paths are supported. To see help of one of them, use\npath-help with the path of the mount and the path.\n", t.Help)
	routes := slices.SortedFunc(slices.Values(t.Routes), func(a, b api.Route) int { return strings.Compare(a.Path, b.Path) })
	for _, r := range routes {
		if r.Path != "" {
			fmt.Fprintf(&b, "\n    %s\n        %s\n", r.Path, r.Help)
		}
	}
	return b.String()
}

// opMethods are the operations as they are asked for.
var opMethods = [api.Ops]string{api.Read: "GET", api.List: "LIST", api.Scan: "SCAN", api.Write: "PUT", api.Patch: "PATCH", api.Delete: "DELETE", api.Head: "HEAD", api.Lock: "LOCK", api.Unlock: "UNLOCK"}

// routeHelp is the help of a route, for a path of it.
func routeHelp(path string, r *api.Route) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Request:        %s\nMatching Route: %s\n\n%s\n\n## OPERATIONS\n\n", path, r.Path, r.Help)
	for op := range api.Ops {
		if has(r, op) {
			fmt.Fprintf(&b, "    %s takes %s\n", opMethods[op], takes(r, op))
		}
	}
	if params := paramsOf(r); len(params) > 0 {
		b.WriteString("\n## PARAMETERS\n\n")
		for _, p := range params {
			fmt.Fprintf(&b, "    %s (%s)\n        %s\n", p.Name, p.Kind, strings.Join(p.of, ", "))
		}
	}
	return b.String()
}

// takes says what a token needs for an operation.
func takes(r *api.Route, op api.Op) string {
	if r.Gate != api.Authenticated {
		return "no token"
	}
	needs := op.Capability().Names()
	if op == api.Write && r.Exists != nil {
		needs = []string{access.CanCreate.Names()[0] + " or " + needs[0]}
	}
	if slices.Contains(r.Sudo, op) {
		needs = append(needs, access.CanSudo.Names()...)
	}
	return strings.Join(needs, " and ")
}

// A described parameter says which operations take it, too.
type described struct {
	api.Field
	of []string
}

// paramsOf are the parameters of a route, those in the path first.
func paramsOf(r *api.Route) (params []described) {
	for _, name := range pathNames(r.Path) {
		params = append(params, described{api.Field{Name: name, Kind: api.TextField}, []string{"in the path"}})
	}
	inPath := len(params)
	for op := range api.Ops {
		if !has(r, op) {
			continue
		}
		for _, f := range r.Ops[op].Fields() {
			i := slices.IndexFunc(params, func(p described) bool { return p.Name == f.Name })
			if i < 0 {
				i = len(params)
				params = append(params, described{Field: f})
			}
			if i >= inPath {
				params[i].of = append(params[i].of, opMethods[op])
			}
		}
	}
	slices.SortFunc(params[inPath:], func(a, b described) int { return strings.Compare(a.Name, b.Name) })
	return params
}
