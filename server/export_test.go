package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
)

// What the tests, which sit outside, see of the inside.

const (
	BodyKV            = bodyKV
	BodySmall         = bodySmall
	LargeBodies       = largeBodies
	LargeWait         = largeWait
	TimeoutLong       = timeoutLong
	FailuresForgotten = failuresForgotten
	LongestNameWait   = longestNameWait
	FreeFailures      = freeFailures
	AttemptsWaiting   = attemptsWaiting
)

type ErrorBody = errorBody

var (
	OpMethods = opMethods
	Takes     = takes
	ParamsOf  = paramsOf
	PathNames = pathNames
)

// Types are those of the server, with the routes that it has added itself.
func (s *Server) Types() []*api.Type { return s.types.All() }

// undecoded is what a handler takes that stands in for another.
type undecoded struct{}

func (*undecoded) Decode(*api.Request) (map[string]json.RawMessage, error) { return nil, nil }
func (*undecoded) Names() []string                                         { return nil }

// EachRoute visits every route of every type. replace puts a handler in the place of
// that of an operation.
func (s *Server) EachRoute(visit func(t *api.Type, r *api.Route, replace func(api.Op, func(*api.Request) (api.Answer, error)))) {
	for t, table := range s.tables.below {
		for _, r := range table.exact {
			visit(t, &r.Route, r.replace)
		}
		for _, same := range table.braced {
			for _, r := range same {
				visit(t, &r.Route, r.replace)
			}
		}
	}
}

// Replace puts a handler in the place of that of the operation of the route that a
// path leads to.
func (s *Server) Replace(path string, op api.Op, fn func(*api.Request) (api.Answer, error)) {
	s.locate(s.keep.Unsealed(), path).route.replace(op, fn)
}

func (r *route) replace(op api.Op, fn func(*api.Request) (api.Answer, error)) {
	h := api.Do(func(r *api.Request, _ *undecoded) (api.Answer, error) { return fn(r) })
	r.on[op] = &h
}

// Label is that of the route that a path leads to, for metrics.
func (s *Server) Label(path string) string { return s.locate(s.keep.Unsealed(), path).route.label }

// LimitConns lets a web server have no more than n connections.
func (s *Server) LimitConns(web *http.Server, n int) { s.limitConns(web, n) }

// TakePlace takes one of the places for large bodies.
func (s *Server) TakePlace(ctx context.Context) (leave func(), err error) {
	one, err := s.large.take(ctx, access.ID{}, netip.Addr{})
	return func() { s.large.leave(one) }, err
}

// Places are how many places for large bodies are free and taken, and how many bodies
// wait for one.
func (s *Server) Places() (free, taken, waiting int) {
	s.large.mu.Lock()
	defer s.large.mu.Unlock()
	return s.large.free, len(s.large.taken), len(s.large.waiting)
}
