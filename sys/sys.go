// Package sys is the system of a keep as its API shows it, below sys/: mounts, login
// methods, policies, audit devices, wrapped answers, backups, and what goes on inside.
// The life of the keep itself, below the same path, is package keep's.
//
// # Design
//
// A [System] is one built-in type over a keep. Its handlers act on the unsealed
// instance that authorized the request, see keep.Of.
//
// # Cost
//
// Nothing here is on the way of other requests, but for [Tail], through which the log
// goes: a look at who follows it.
//
// What it stores, the packages mount, access and audit store.
package sys

import (
	"log/slog"
	"slices"
	"sync"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
)

// Config says what the system tells of the program.
type Config struct {
	Version string // optional: shown by sys/health
	APIAddr string // optional: where clients find this keep, shown by sys/leader
	Tail    *Tail  // optional: the log that sys/monitor shows; default one that has nothing
}

// A System is what is below sys/.
type System struct {
	keep    *keep.Keep
	version string
	apiAddr string
	tail    *Tail

	backingUp sync.Mutex // held while a backup is made and sent
	moves     moves
}

// Type is the system of a keep.
func Type(k *keep.Keep, c Config) api.Type {
	s := &System{keep: k, version: c.Version, apiAddr: c.APIAddr, tail: c.Tail}
	if s.tail == nil {
		s.tail = NewTail(slog.DiscardHandler)
	}
	return api.Type{
		Name: "system", Help: "system endpoints used for control, policy and debugging", Kind: api.System, At: "sys/",
		Routes: slices.Concat(k.Routes(), s.routes()),
	}
}

func (s *System) routes() []api.Route {
	return slices.Concat(s.healthRoutes(), s.mountRoutes(), authRoutes(), s.auditRoutes(), s.backupRoutes(), policyRoutes(), capabilityRoutes(), wrappingRoutes(), resultantRoutes(), s.monitorRoutes(), pprofRoutes())
}

func invalid(format string, args ...any) error { return api.Invalid.Errorf(format, args...) }
