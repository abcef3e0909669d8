// Package server is a keep: the HTTP API and the sealed/unsealed lifecycle
// around one store.
//
// # Lifecycle
//
// A keep is not initialized (there is no store), sealed, or unsealed. [New]
// opens the store, if its file exists, and starts the race of its slots in the
// background: no key service is ever waited for, so the listener can be up
// first and a sealed keep says why it is sealed. Everything that lives only
// while unsealed (mount table, tokens seen, background work) hangs on one
// value, the keep, which is published when a slot opened and dropped when the
// keep is sealed. See lifecycle.go for the race, hold.go for a keep that was
// sealed by request, probe.go and reconcile.go for what becomes of the slots
// thereafter.
//
// # Recovery
//
// People open a keep that no key service opens any more, with shares or an age
// identity (package recovery), over the same API. A recovery slot is wrapped to
// public recipients, so that nobody is needed to make it anew (recovery.go); what
// people send is gathered and judged in one place (people.go), for unsealing,
// for drills (drill.go), new shares (rekey.go) and a lost root token
// (generateroot.go). What is new opens beside what is old until people have used
// it, so that nobody is locked out by an answer that was lost. After that reconciliation gives the seals of the
// configuration their slots, and the keep is automatic again.
//
// # Requests
//
// [Server.Handler] looks the path up in one table of the routes of the built-in types
// or, by the longest mount, in the table of the mount's type (table.go). A route's
// limits are data: gate, body limit, timeout; those of connections and of all bodies
// together are in limits.go. Help and the OpenAPI document are read from the same
// tables (help.go, openapi.go). One function (frame.go) does the boring part of
// every request, one (errors.go) turns errors into Vault's answers. Handlers
// compute an answer inside View or Update; it goes to the network after the
// transaction ended. What is admitted or refused is recorded before it runs, and
// again before it is answered (audit.go). The token and the mount table are in
// memory, so that a request reads from the store only what it is about. What goes on
// inside is shown by inflight.go, resultant.go, monitor.go with tail.go, and pprof.go.
//
// # In the store
//
//	sys/rotate-config JSON {"version":1,"enabled":...}: when the barrier's key is rotated by itself
//	sys/recovery      JSON {"version":1,"drills":{...}}: when people last opened a recovery slot
//	sys/unused        JSON {"version":1}: until a token has been used
//
// and what package mount has.
package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/storage"
)

// A Seal wraps and unwraps the root key with one key service. Wrap, Unwrap and
// KeyID return when their context ends, and may be called by several goroutines
// at once. Their errors carry a class: interface{ Class() string }, found by
// errors.As. Close is called once, when no call is under way.
//
// A seal may also have these methods, which ask nobody: Warning() string tells of
// trouble to come; Manual() bool, that no slot is to be made for it unless
// somebody asks for one; TokenTTL() (time.Duration, bool), how long its token
// lives, if it has one.
type Seal interface {
	Name() string // unique among the seals of a keep
	Type() string
	Priority() int  // the lowest number is tried first
	Disabled() bool // opens what it has wrapped, when nothing else does; wraps nothing new
	Wrap(ctx context.Context, secret, aad []byte) (blob []byte, keyID string, err error)
	Unwrap(ctx context.Context, blob, aad []byte) (secret []byte, err error)
	KeyID(ctx context.Context) (string, error) // what Wrap would return now
	Close() error
}

// Config says how to run a keep.
type Config struct {
	Path    string          // the store's file; need not exist yet
	Storage storage.Options // how the file is opened
	Seals   []Seal          // at least one enabled seal to initialize; closed by the server
	Logger  *slog.Logger    // optional: default none. Where its handler is a [Tail], sys/monitor has all of it, else what this server logs

	// Recovery are age recipients to whom the root key is wrapped, too: the
	// identity of any one of them opens the keep without any key service.
	// Optional. Without it, Init makes recovery shares unless told not to.
	Recovery []string
	// EnableGenerateRoot lets people who can open a recovery slot make a root
	// token, through sys/generate-root.
	EnableGenerateRoot bool

	Types  []api.Type // what can be mounted and enabled, and what is there without that
	Limits Limits     // optional: default none

	// Audit are the audit devices. Optional. With AllowAuditAPI the API may add
	// others, and so write to files of this machine.
	Audit         []audit.Device
	AllowAuditAPI bool

	Version   string // optional: shown by sys/health and sys/seal-status
	BuildDate string // optional: shown by sys/seal-status, RFC 3339
	APIAddr   string // optional: where clients find this keep, shown by sys/leader

	Now func() time.Time // optional: default time.Now; the times that are stored and shown

	// Changed is called after every change of state, one call at a time, and
	// must return quickly. Optional.
	Changed func(Status)
}

// A Server is one keep. Its methods may be called by several goroutines at once.
type Server struct {
	config  Config
	log     *slog.Logger
	tail    *Tail // of log
	now     func() time.Time
	metrics *metrics
	tables  *tables
	damage  error // why the store, which is there, cannot be opened; nil: it can

	ctx  context.Context // ends when the server is closed
	end  context.CancelFunc
	work sync.WaitGroup // every goroutine of the server

	draining context.Context // ends when answers without an end are to end, since no more requests are taken
	drain    context.CancelFunc

	keep     atomic.Pointer[keep]     // nil unless unsealed
	scrubbed atomic.Pointer[scrubbed] // the last one; nil before the first

	inFlight  inFlight
	slowdown  *slowdown     // of logins
	unsealing gathering     // of shares to unseal with
	refusals  *rate.Limiter // of recovery shares that are refused
	limits    atomic.Pointer[limiters]

	large        *places       // of large bodies in memory
	merging      chan struct{} // full while a large patch is merged
	backingUp    sync.Mutex    // held while a backup is made and sent
	initializing chan struct{} // holds one value while Init runs
	opening      sync.Mutex    // held while the store is being unsealed or sealed
	oldAudit     *audit.Log    // of the keep before, which may not be closed yet; guarded by opening
	notifying    sync.Mutex    // held around Config.Changed

	mu     sync.Mutex // guards the rest; taken after opening
	store  *storage.Store
	seals  *sealSet
	slots  []*slot
	held   bool // sealed by request: no automatic unseal (hold.go)
	closed bool
	race   *race // the latest one; nil before the first

	keepHeld bool // and a restart does not change that

	recipients   []string           // see Config.Recovery
	generateRoot bool               // see Config.EnableGenerateRoot
	devices      []audit.Device     // see Config.Audit
	auditAPI     bool               // see Config.AllowAuditAPI
	shares       struct{ n, t int } // of the recovery shares, as the file says
}

const damageHint = "`sealkeep operator storage check` finds what is damaged; `sealkeep operator restore` puts a backup in its place; then restart the server"

// A sealSet is the seals of one configuration with a count of their users.
type sealSet struct {
	all   []Seal // by priority
	users sync.WaitGroup
}

// New opens the store, if there is one, and begins to unseal it. It returns
// quickly, whatever the key services do. A store so damaged that it cannot be
// opened makes a keep that stays sealed and says why. The error is about the
// store's file: it is of a newer format, or another process has it.
//
// The server owns the seals from now on, even when New fails.
func New(c Config) (*Server, error) {
	s := &Server{
		config:       c,
		log:          c.Logger,
		now:          c.Now,
		large:        newPlaces(largeBodies),
		merging:      make(chan struct{}, 1),
		initializing: make(chan struct{}, 1),
		seals:        newSealSet(c.Seals),
		slowdown:     newSlowdown(),
		refusals:     rate.NewLimiter(1, refusedBurst),
		recipients:   slices.Clone(c.Recovery),
		generateRoot: c.EnableGenerateRoot,
		devices:      slices.Clone(c.Audit),
		auditAPI:     c.AllowAuditAPI,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	var follows bool
	if s.tail, follows = s.log.Handler().(*Tail); !follows {
		s.tail = NewTail(s.log.Handler())
		s.log = slog.New(s.tail)
	}
	s.ctx, s.end = context.WithCancel(storage.Patient(context.Background()))
	s.draining, s.drain = context.WithCancel(s.ctx)
	s.metrics = newMetrics(s)
	var err error
	if s.tables, err = newTables(slices.Concat(c.Types, s.fixedTypes())); err != nil {
		closeSeals(s.log, s.seals)
		return nil, err
	}
	s.SetLimits(c.Limits)
	for _, d := range s.devices {
		if err := d.Check(); err != nil {
			closeSeals(s.log, s.seals)
			return nil, err
		}
	}

	store, err := storage.Open(c.Path, c.Storage)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.log.Info("not initialized", "path", c.Path, "next", "sealkeep operator init")
	case errors.Is(err, storage.ErrCorrupt):
		s.damage = err
		s.log.Error("sealed: the store cannot be opened", "error", err, "next", damageHint)
	case err != nil:
		closeSeals(s.log, s.seals)
		return nil, fmt.Errorf("opening the store: %w", err)
	default:
		s.sweepBackups()
	}
	s.mu.Lock()
	s.store = store
	if store != nil || s.damage != nil {
		s.takeUpHold()
	}
	s.arrangeLocked()
	s.startLocked()
	s.mu.Unlock()
	s.changed()
	return s, nil
}

// SetSeals replaces the seals, as a reload of the configuration does. A sealed
// keep tries them at once, unless it was sealed by request; an unsealed one
// serves on, and its slots are brought to what the seals say (reconcile.go). The
// old seals are closed when their last call has ended.
func (s *Server) SetSeals(seals []Seal) {
	next := newSealSet(seals)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		closeSeals(s.log, next)
		return
	}
	old := s.seals
	s.seals = next
	s.stopLocked()
	s.arrangeLocked()
	s.startLocked()
	s.work.Go(func() { closeSeals(s.log, old) })
	if k := s.keep.Load(); k != nil {
		if k.stopRound != nil { // a seal that hangs is not waited for
			k.stopRound()
		}
		k.wakeVisits() // the new seals have to be known to work, and to begin what they do in the background
	}
	s.mu.Unlock()
	s.changed()
}

// Close seals the keep, closes the store and the seals, and returns when all
// background work has ended. When ctx ends first it returns its error, the rest
// goes on in the background. Requests under way fail; end them first.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.stopLocked()
	s.mu.Unlock()
	s.end()

	done := make(chan error, 1)
	go func() {
		s.opening.Lock()
		s.drop()
		s.mu.Lock()
		store, seals := s.store, s.seals
		s.store = nil
		s.mu.Unlock()
		var err error
		if store != nil {
			if err = store.Close(); err != nil {
				err = fmt.Errorf("closing the store: %w", err)
			}
		}
		s.opening.Unlock() // an attempt that is still out may be waiting for it
		s.work.Wait()
		closeSeals(s.log, seals)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("closing the keep: %w", ctx.Err())
	}
}

// changed reports the state as it is now.
func (s *Server) changed() {
	if s.config.Changed == nil {
		return
	}
	s.notifying.Lock()
	defer s.notifying.Unlock()
	s.config.Changed(s.Status())
}

// closeSeals waits for the last call of the seals and closes them.
func closeSeals(log *slog.Logger, set *sealSet) {
	set.users.Wait()
	for _, seal := range set.all {
		if err := seal.Close(); err != nil {
			log.Warn("closing a seal failed", "seal", seal.Name(), "error", err)
		}
	}
}
