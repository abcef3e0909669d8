package server

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/mount"
)

// A route is one row of a type's table, made ready.
type route struct {
	api.Route
	typ    *api.Type
	label  string                // the path with what stands for the mount, for metrics
	on     [api.Ops]*api.Handler // nil: unsupported operation
	sudo   [api.Ops]bool         // takes the capability, too
	known  map[string]bool       // parameters of any operation
	before string                // the path's text before its first brace
	after  string                // and after its last; of a path without braces, nothing
	parts  []part                // of the path from the first brace to the last; nil: none
	names  [api.MaxParams]string // of those in braces
	many   int                   // of the parts, stand for several segments: one at most
}

// A part is a segment of a route's path.
type part struct {
	text string // or the name of what stands in braces
	name bool
	many bool // stands for several segments
}

// A table finds the route of a path. It costs a look-up for each segment of the
// path and one for the path itself, however many routes there are.
type table struct {
	exact  map[string]*route
	braced map[string][]*route // by the text before the first brace; those with the longer text after the last first
}

func newTable(t *api.Type, prefix, label string) (*table, error) {
	tab := &table{exact: make(map[string]*route), braced: make(map[string][]*route)}
	for i := range t.Routes {
		r, err := newRoute(t, &t.Routes[i], prefix, label)
		if err != nil {
			return nil, err
		}
		if r.parts == nil {
			if tab.exact[r.before] != nil {
				return nil, fmt.Errorf("the type %s has the route %s twice", t.Name, r.Path)
			}
			tab.exact[r.before] = r
			continue
		}
		tab.braced[r.before] = append(tab.braced[r.before], r)
	}
	for _, same := range tab.braced {
		slices.SortStableFunc(same, func(a, b *route) int {
			return cmp.Or(cmp.Compare(len(b.after), len(a.after)), cmp.Compare(a.many, b.many), cmp.Compare(len(b.parts), len(a.parts)))
		})
		for i, r := range same[1:] {
			if o := same[i]; r.after == o.after && r.many == o.many && len(r.parts) == len(o.parts) {
				return nil, fmt.Errorf("of the routes %s and %s of the type %s neither goes before the other", r.Path, same[i].Path, t.Name)
			}
		}
	}
	return tab, nil
}

func newRoute(t *api.Type, of *api.Route, prefix, label string) (*route, error) {
	r := &route{Route: *of, typ: t, known: map[string]bool{"list": true, "scan": true}}
	r.Body, r.Timeout = cmp.Or(r.Body, api.DefaultBody), cmp.Or(r.Timeout, api.DefaultTimeout)
	r.label = label + r.Path
	r.before = prefix + r.Path
	if r.Path == "" { // the type's own path
		r.label, r.before = strings.TrimSuffix(label, "/"), strings.TrimSuffix(prefix, "/")
	}
	if first, last := strings.Index(r.Path, "{"), strings.LastIndex(r.Path, "}"); first >= 0 {
		r.before, r.after = prefix+r.Path[:first], r.Path[last+1:]
		r.label = label + r.Path[:first] + "{path}" + r.after
		n := 0
		for text := range strings.SplitSeq(r.Path[first:last+1], "/") {
			p := part{text: text}
			if name, ok := strings.CutPrefix(text, "{"); ok {
				p.name = true
				p.text = strings.TrimSuffix(name, "}")
				if p.text, p.many = strings.CutSuffix(p.text, "..."); p.many {
					r.many++
				}
				if n == api.MaxParams {
					return nil, fmt.Errorf("the route %s of the type %s has more than %d parts in braces", r.Path, t.Name, n)
				}
				r.names[n] = p.text
				n++
				r.known[p.text] = true
			}
			r.parts = append(r.parts, p)
		}
		if r.many > 1 {
			return nil, fmt.Errorf("the route %s of the type %s has more than one part of any length", r.Path, t.Name)
		}
	}
	for op, h := range of.Ops {
		r.on[op] = &h
		for _, name := range h.Names() {
			r.known[name] = true
		}
	}
	for _, op := range of.Sudo {
		r.sudo[op] = true
	}
	return r, nil
}

// find returns the route of a path and what its parts in braces stand for, nil when
// there is none.
func (t *table) find(path string) (r *route, params api.Params) {
	if r = t.exact[path]; r != nil {
		return r, params
	}
	for end := len(path); ; {
		for _, r := range t.braced[path[:end]] {
			if r.match(path, &params) {
				return r, params
			}
		}
		if end == 0 {
			return nil, params
		}
		end = strings.LastIndexByte(path[:end-1], '/') + 1
	}
}

// match tells whether a path that begins as the route does is one of its, and fills
// in the parameters.
func (r *route) match(path string, params *api.Params) bool {
	if path == "" { // the mount itself
		return r.before == "" && r.after == "" && len(r.parts) == 1 && r.parts[0].many
	}
	if len(path) <= len(r.before)+len(r.after) || !strings.HasSuffix(path, r.after) {
		return false
	}
	middle := path[len(r.before) : len(path)-len(r.after)]
	if len(r.parts) == 1 { // the usual case
		p := &r.parts[0]
		params.Names, params.Values[0] = &r.names, middle
		return p.many || !strings.Contains(middle, "/")
	}
	segments := strings.Split(middle, "/")
	extra := len(segments) - len(r.parts)
	n := 0
	params.Names = &r.names
	for _, p := range r.parts {
		if len(segments) == 0 {
			return false
		}
		value := segments[0]
		if p.many {
			if extra < 0 {
				return false
			}
			value = strings.Join(segments[:extra+1], "/")
			segments, extra = segments[extra:], 0
		}
		segments = segments[1:]
		if p.name {
			params.Values[n] = value
			n++
		} else if value != p.text {
			return false
		}
	}
	return len(segments) == 0
}

// canonical returns a path of the route with the canonical form of the name in it,
// which it changes in params, too.
func (r *route) canonical(path string, params *api.Params) string {
	if r == nil || !r.Folded {
		return path
	}
	value := params.Values[0]
	name := access.CanonicalName(value)
	if name == value {
		return path
	}
	params.Values[0] = name
	return path[:len(path)-len(value)-len(r.after)] + name + r.after
}

// tables are those of all types.
type tables struct {
	system *table // of the system types, by the whole path
	fixed  []*api.Type
	below  map[*api.Type]*table // of what is mounted, by the path below the mount

	aliases map[*api.Type]*aliases // below the mount; nil: it has none
	outside *aliases               // of the server
}

func newTables(types *mount.Types) (*tables, error) {
	t := &tables{
		system: &table{exact: make(map[string]*route), braced: make(map[string][]*route)}, fixed: types.Fixed(),
		below: make(map[*api.Type]*table), aliases: make(map[*api.Type]*aliases),
	}
	var outside []api.Alias
	for _, typ := range types.All() {
		label := cmp.Or(typ.Label, "{"+typ.Name+"}") + "/"
		switch typ.Kind {
		case api.Login:
			label = "auth/" + label
		case api.System:
			label = typ.At
		}
		table, err := newTable(typ, typ.At, label)
		if err != nil {
			return nil, err
		}
		t.below[typ] = table
		below := slices.Clone(typ.Aliases)
		below = slices.DeleteFunc(below, func(a api.Alias) bool {
			out := strings.HasPrefix(a.Path, "/")
			if out {
				outside = append(outside, a)
			}
			return out
		})
		if len(below) > 0 {
			if t.aliases[typ], err = newAliases(below); err != nil {
				return nil, err
			}
		}
		if typ.Kind == api.System {
			maps.Copy(t.system.exact, table.exact)
			maps.Copy(t.system.braced, table.braced)
		}
	}
	var err error
	t.outside, err = newAliases(outside)
	return t, err
}

// findRoute finds the request's route and mount. Where there is none the request
// goes on to be authorized, so that a stranger does not learn it. A name in the path
// becomes canonical, so that what is authorized is what the handler works on.
func (s *Server) findRoute(r *request) error {
	at := s.locate(r.unsealed, r.Path)
	if to := s.tables.aliases[at.typ]; to != nil && !r.help {
		if path, op, ok := to.ofRequest(r.http.Method, r.Query, strings.TrimPrefix(r.Path, at.mount.Path)); ok {
			r.Path, r.Op, r.known = at.mount.Path+path, op, true
			at = s.locate(r.unsealed, r.Path)
		}
	}
	r.typ, r.route, r.Mount, r.mounts, r.Params = at.typ, at.route, at.mount, at.table, at.params
	r.Path = r.route.canonical(r.Path, &r.Params)
	if r.help {
		s.withHelp(r)
	}
	if r.route != nil {
		r.label = r.route.label
	}
	return nil
}

// Canonical is a path as it is authorized.
func (r *request) Canonical(path string) string {
	at := r.server.locate(r.unsealed, path)
	return at.route.canonical(path, &at.params)
}

// A location is where a path leads.
type location struct {
	typ    *api.Type // nil: the path is below no mount
	route  *route
	mount  *api.Mount   // nil without a type, and of a system type unless the keep is unsealed
	table  *mount.Table // that has the mount; nil for a system type
	params api.Params
}

// locate returns where a path leads; k is nil unless the keep is unsealed.
func (s *Server) locate(u *keep.Unsealed, path string) (at location) {
	at.route, at.params, at.typ = s.tables.findFixed(path)
	switch {
	case u == nil:
		return at
	case at.typ != nil:
		at.mount = u.Fixed(at.typ.At)
		return at
	}
	kind, mounts := api.Secrets, &u.Engines
	below, ok := strings.CutPrefix(path, "auth/")
	if ok {
		kind, mounts = api.Login, &u.Logins
	}
	table := mounts.Load()
	m, below := table.Find(below)
	if m == nil {
		return at
	}
	if at.typ = s.types.Of(kind, m); at.typ == nil {
		return at
	}
	at.mount, at.table = m, table
	at.route, at.params = s.tables.below[at.typ].find(below)
	return at
}

// findFixed returns the route of a path below a system type, nil when there is none,
// and the type, nil when the path is below no such type.
func (t *tables) findFixed(path string) (r *route, params api.Params, typ *api.Type) {
	if r, params = t.system.find(path); r != nil {
		return r, params, r.typ
	}
	for _, typ := range t.fixed {
		if strings.HasPrefix(path, typ.At) {
			return nil, params, typ
		}
	}
	return nil, params, nil
}
