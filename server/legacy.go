package server

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// unsealedOf is the keep that has authorized a request, nil unless it is unsealed.
func unsealedOf(r *api.Request) *keep { return r.Frame.(*request).keep }

// oldRoute is a route whose handlers know the server. Its path has "*" for one or
// more segments.
type oldRoute struct {
	path    string
	gate    api.Gate
	body    int64
	timeout time.Duration
	on      [ops]handler
	sudo    []api.Op
	exists  func(*request, *storage.Tx) (bool, error)
	denied  error
	named   bool
	free    bool
	quiet   bool
}

// A handler computes an answer. It returns after its transactions have ended.
type handler func(s *Server, r *request) (answer, error)

const (
	open          = api.Open
	unsealed      = api.Unsealed
	authenticated = api.Authenticated

	opRead   = api.Read
	opList   = api.List
	opScan   = api.Scan
	opWrite  = api.Write
	opPatch  = api.Patch
	opDelete = api.Delete
	opHead   = api.Head
	ops      = api.Ops
)

// undecoded is what a handler takes that reads the body by itself.
type undecoded struct{}

func (*undecoded) Decode(*api.Request) (map[string]json.RawMessage, error) { return nil, nil }
func (*undecoded) Names() []string                                         { return nil }

func (h handler) api() api.Handler {
	return api.Do(func(ar *api.Request, _ *undecoded) (api.Answer, error) {
		r := ar.Frame.(*request)
		a, err := h(r.server, r)
		return a.api(), err
	})
}

func (o *oldRoute) api() api.Route {
	r := api.Route{
		Path: strings.Replace(o.path, "*", "{path...}", 1), Gate: o.gate, Body: o.body, Timeout: o.timeout, Sudo: o.sudo, Denied: o.denied,
		Folded: o.named, Free: o.free, Quiet: o.quiet, Ops: make(map[api.Op]api.Handler),
	}
	for op, h := range o.on {
		if h != nil {
			r.Ops[api.Op(op)] = h.api()
		}
	}
	if o.exists != nil {
		r.Exists = func(ar *api.Request, tx *storage.Tx) (bool, error) { return o.exists(ar.Frame.(*request), tx) }
	}
	return r
}

func newRoutes(old []oldRoute) (routes []api.Route) {
	for i := range old {
		routes = append(routes, old[i].api())
	}
	return routes
}

// An answer is an api.Answer, flat.
type answer struct {
	status   int
	data     any
	auth     *api.Auth
	wrap     *api.Wrap
	inject   bool
	raw      any
	text     []byte
	kind     string
	stream   *api.Raw
	warnings []string
}

func (a answer) api() api.Answer {
	out := api.Answer{Status: a.status, Data: a.data, Auth: a.auth, Wrap: a.wrap, Inject: a.inject, Warnings: a.warnings, Raw: a.stream}
	switch {
	case a.text != nil:
		out.Raw = &api.Raw{Type: a.kind, Bytes: a.text}
	case a.raw != nil:
		out.Raw = &api.Raw{JSON: a.raw}
	}
	return out
}
