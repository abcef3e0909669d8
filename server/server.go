// Package server is the pipeline of a keep and its doors: what becomes of every HTTP
// request to its API.
//
// # Requests
//
// [Server.Handler] looks the path up in one table of the routes of the built-in types
// or, by the longest mount, in the table of the mount's type (table.go). A route's
// limits are data: gate, body limit, timeout; those of connections and of all bodies
// together are in limits.go. Help and the OpenAPI document are read from the same
// tables (help.go, openapi.go). One function (frame.go) calls every stage of a request
// in order, one (errors.go) turns errors into Vault's answers. Handlers compute an
// answer inside View or Update; it goes to the network after the transaction ended.
// What is admitted or refused is recorded before it runs, and again before it is
// answered (audit.go). The token and the mount table are in memory (package mount), so
// that a request reads from the store only what it is about.
//
// The server knows no engine and no login method. It adds to the type at sys/ what it
// alone can tell: requests in flight, metrics, the OpenAPI document.
//
// # Cost
//
// A read of a secret costs 50 allocations and some 8 KB, a tenth of them for its
// lines in the audit log.
package server

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/mount"
)

// Config says what to serve.
type Config struct {
	Keep    *keep.Keep       // opened and closed by the server
	Types   []api.Type       // what can be mounted and enabled, and what is there without that
	Logger  *slog.Logger     // optional: default none
	Limits  Limits           // optional: default none
	Version string           // optional: of the OpenAPI document
	Now     func() time.Time // optional: default time.Now; the times that are stored and shown
}

// A Server serves the API of one keep. Its methods may be called by several goroutines
// at once.
type Server struct {
	keep    *keep.Keep
	log     *slog.Logger
	now     func() time.Time
	version string
	metrics *metrics
	types   *mount.Types
	tables  *tables

	draining context.Context // ends when answers without an end are to end, since no more requests are taken
	drain    context.CancelFunc

	inFlight inFlight
	slowdown *slowdown // of logins
	limits   atomic.Pointer[limiters]
	large    *places       // of large bodies in memory
	uploads  *places       // of bodies that are stored as they arrive
	merging  chan struct{} // full while a large patch is merged
}

// New opens the keep, which begins to unseal itself; see [keep.Keep.Open] for its
// errors. It returns quickly, whatever the key services do. The server owns the keep
// from now on, even when New fails.
func New(c Config) (*Server, error) {
	s := &Server{
		keep:     c.Keep,
		log:      c.Logger,
		now:      c.Now,
		version:  c.Version,
		slowdown: newSlowdown(),
		large:    newPlaces(largeBodies),
		uploads:  newPlaces(uploads),
		merging:  make(chan struct{}, 1),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.draining, s.drain = context.WithCancel(context.Background())
	s.metrics = newMetrics(s.keep)
	s.SetLimits(c.Limits)
	err := s.open(slices.Clone(c.Types))
	if err != nil {
		s.drain()
		s.keep.Close(context.Background()) // no key service is being asked
		return nil, err
	}
	return s, nil
}

func (s *Server) open(types []api.Type) (err error) {
	for i, t := range types {
		if t.At == "sys/" {
			types[i].Routes = slices.Concat(t.Routes, s.metricsRoutes(), s.openAPIRoutes(), s.inFlightRoutes())
		}
	}
	if s.types, err = mount.NewTypes(types...); err != nil {
		return err
	}
	if s.tables, err = newTables(s.types); err != nil {
		return err
	}
	return s.keep.Open(s.types)
}

// Close seals and closes the keep, see [keep.Keep.Close]. Requests under way fail; end
// them first.
func (s *Server) Close(ctx context.Context) error {
	s.drain()
	return s.keep.Close(ctx)
}
