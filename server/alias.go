package server

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
)

// aliases are other spellings of requests, see [api.Alias].
type aliases struct {
	tables map[string]*table    // by the method, with the parameter behind "?"; "" for those of the server
	of     map[*route]api.Alias // what they stand for
}

func newAliases(list []api.Alias) (*aliases, error) {
	a := &aliases{tables: make(map[string]*table), of: make(map[*route]api.Alias)}
	byMethod := make(map[string][]api.Alias)
	for _, one := range list {
		key := one.Method
		if one.Query != "" {
			key += "?" + one.Query
		}
		byMethod[key] = append(byMethod[key], one)
	}
	for method, list := range byMethod {
		paths := &api.Type{Name: "alias"}
		to := make(map[string]api.Alias)
		for _, one := range list {
			one.Path = strings.TrimPrefix(one.Path, "/")
			paths.Routes = append(paths.Routes, api.Route{Path: one.Path})
			to[one.Path] = one
		}
		tab, err := newTable(paths, "", "")
		if err != nil {
			return nil, fmt.Errorf("other spellings of requests: %w", err)
		}
		a.tables[method] = tab
		for _, r := range tab.exact {
			a.of[r] = to[r.Path]
		}
		for _, routes := range tab.braced {
			for _, r := range routes {
				a.of[r] = to[r.Path]
			}
		}
	}
	return a, nil
}

// find returns what a path below a mount stands for.
func (a *aliases) find(method, path string) (to string, op api.Op, ok bool) {
	tab := a.tables[method]
	if tab == nil {
		return "", 0, false
	}
	r, params := tab.find(path)
	if r == nil {
		return "", 0, false
	}
	alias := a.of[r]
	return r.fill(alias.To, params), alias.Op, true
}

// fill replaces the names in braces of a path by what they stand for in the route's.
func (r *route) fill(path string, params api.Params) string {
	for i, name := range r.names {
		if name == "" {
			break
		}
		path = strings.Replace(strings.Replace(path, "{"+name+"}", params.Values[i], 1), "{"+name+"...}", params.Values[i], 1)
	}
	return path
}

// ofRequest returns what a path below a mount stands for in a request with this query.
func (a *aliases) ofRequest(method string, query url.Values, path string) (to string, op api.Op, ok bool) {
	for name := range query {
		if to, op, ok = a.find(method+"?"+name, path); ok {
			return to, op, true
		}
	}
	return a.find(method, path)
}

// path is the path of a request for a URL that is not below /v1/; it is the URL itself
// where there is none.
func (a *aliases) path(url string) string {
	slash := strings.HasSuffix(url, "/")
	to, _, ok := a.find("", strings.Trim(url, "/"))
	switch {
	case !ok:
		return url
	case slash:
		to += "/"
	}
	return "/v1/" + to
}

// sealedWait is when a client that tries again by itself is to do so while the keep is
// sealed: three attempts of a Terraform then last longer than a restart.
const sealedWait = 5 * time.Second

// waits reports whether the client is one that waits as long as it is told: one of a
// route that takes Basic authentication. While the keep is sealed the mount is not
// known, but the usual one is.
func (r *request) waits() bool {
	if r.typ != nil {
		return r.typ.TakesBasic
	}
	for _, alias := range r.server.tables.outside.of {
		mount, _, _ := strings.Cut(alias.To, "/")
		if strings.HasPrefix(r.Path, mount+"/") {
			return true
		}
	}
	return false
}
