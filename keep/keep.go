// Package keep is the life of a keep: how its store is made, opened, sealed and kept
// able to open.
//
// # Lifecycle
//
// A keep is not initialized (there is no store), sealed, or unsealed. [Keep.Open]
// opens the store, if its file exists, and starts the race of its slots in the
// background: no key service is ever waited for, so the listener can be up
// first and a sealed keep says why it is sealed. Everything that lives only
// while unsealed (mount tables, tokens seen, background work) hangs on one
// value, [Unsealed], which is published when a slot opened and dropped when the
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
// it, so that nobody is locked out by an answer that was lost. After that
// reconciliation gives the seals of the configuration their slots, and the keep is
// automatic again.
//
// # Requests
//
// What of the API acts on the keep itself is here, too: [Keep.Routes]. A handler acts
// on the unsealed instance that authorized its request, see [Of], not on whatever is
// open by then.
//
// # Cost
//
// An open keep asks each key service about once an hour (probe.go), and reads its
// whole store once a day (scrub.go). Nothing here is on the way of a request.
//
// # In the store
//
//	sys/rotate-config JSON {"version":1,"enabled":...}: when the barrier's key is rotated by itself
//	sys/recovery      JSON {"version":1,"drills":{...}}: when people last opened a recovery slot
//	sys/unused        JSON {"version":1}: until a token has been used
//
// and what package mount has. Beside the store lies, in clear:
//
//	<store>.held      JSON {"version":1,"keep":...}: the keep was sealed by request
package keep

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
	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/storage"
)

var (
	// ErrInitialized means that the keep has been initialized before.
	ErrInitialized = errors.New("the keep is already initialized")
	// ErrNotInitialized means that there is no store yet.
	ErrNotInitialized = errors.New("not initialized: run `sealkeep operator init`")
)

func invalid(format string, args ...any) error { return api.Invalid.Errorf(format, args...) }

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
	Seals   []Seal          // at least one enabled seal to initialize; closed by the keep
	Logger  *slog.Logger    // optional: default none

	// Recovery are age recipients to whom the root key is wrapped, too: the
	// identity of any one of them opens the keep without any key service.
	// Optional. Without it, Init makes recovery shares unless told not to.
	Recovery []string
	// EnableGenerateRoot lets people who can open a recovery slot make a root
	// token, through sys/generate-root.
	EnableGenerateRoot bool

	// Audit are the audit devices. Optional. With AllowAuditAPI the API may add
	// others, and so write to files of this machine.
	Audit         []audit.Device
	AllowAuditAPI bool

	Version   string // optional: shown by sys/seal-status
	BuildDate string // optional: shown by sys/seal-status, RFC 3339

	Now func() time.Time // optional: default time.Now; the times that are stored and shown

	// Changed is called after every change of state, one call at a time, and
	// must return quickly. Optional.
	Changed func(Status)
}

// A Keep is one store and what opens it. Its methods may be called by several
// goroutines at once.
type Keep struct {
	config  Config
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	types   *mount.Types // since Open
	background

	unsealed atomic.Pointer[Unsealed] // nil unless unsealed
	scrubbed atomic.Pointer[scrubbed] // the last one; nil before the first

	unsealing gathering     // of shares to unseal with
	refusals  *rate.Limiter // of recovery shares that are refused

	initializing chan struct{} // holds one value while Init runs
	opening      struct {      // held while the store is being unsealed or sealed
		sync.Mutex
		oldAudit *audit.Log // of the instance before, which may not be closed yet
	}
	notifying sync.Mutex // held around Config.Changed

	mu sync.Mutex // guards the state; taken after opening
	state
}

// background is what ends with a keep.
type background struct {
	ctx  context.Context // ends when the keep is closed
	end  context.CancelFunc
	work sync.WaitGroup // every goroutine of the keep
}

// state is what changes while a keep runs.
type state struct {
	store    *storage.Store
	damage   error // why the store, which is there, cannot be opened; nil: it can. It does not change after Open
	seals    *sealSet
	slots    []*slot
	held     bool // sealed by request: no automatic unseal (hold.go)
	keepHeld bool // and a restart does not change that
	closed   bool
	race     *race // the latest one; nil before the first

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

// New makes a keep, which is to be opened. It owns the seals from now on, and Close
// closes them.
func New(c Config) *Keep {
	k := &Keep{
		config:       c,
		log:          c.Logger,
		now:          c.Now,
		metrics:      newMetrics(),
		refusals:     rate.NewLimiter(1, refusedBurst),
		initializing: make(chan struct{}, 1),
		state: state{
			seals: newSealSet(c.Seals), recipients: slices.Clone(c.Recovery), generateRoot: c.EnableGenerateRoot,
			devices: slices.Clone(c.Audit), auditAPI: c.AllowAuditAPI,
		},
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	if k.now == nil {
		k.now = time.Now
	}
	k.ctx, k.end = context.WithCancel(storage.Patient(context.Background()))
	return k
}

// Open opens the store, if there is one, and begins to unseal it. It is called once,
// and returns quickly, whatever the key services do. types are those of its mounts. A
// store so damaged that it cannot be opened makes a keep that stays sealed and says
// why. The error is about the audit devices, or about the store's file: it is of a
// newer format, or another process has it.
func (k *Keep) Open(types *mount.Types) error {
	k.types = types
	for _, d := range k.devices {
		if err := d.Check(); err != nil {
			return err
		}
	}
	store, err := storage.Open(k.config.Path, k.config.Storage)
	var damage error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.log.Info("not initialized", "path", k.config.Path, "next", "sealkeep operator init")
	case errors.Is(err, storage.ErrCorrupt):
		damage = err
		k.log.Error("sealed: the store cannot be opened", "error", err, "next", damageHint)
	case err != nil:
		return fmt.Errorf("opening the store: %w", err)
	default:
		k.sweepBackups()
	}
	k.mu.Lock()
	k.store, k.damage = store, damage
	if store != nil || damage != nil {
		k.takeUpHold()
	}
	k.arrangeLocked()
	k.startLocked()
	k.mu.Unlock()
	k.changed()
	return nil
}

// SetSeals replaces the seals, as a reload of the configuration does. A sealed
// keep tries them at once, unless it was sealed by request; an unsealed one
// serves on, and its slots are brought to what the seals say (reconcile.go). The
// old seals are closed when their last call has ended.
func (k *Keep) SetSeals(seals []Seal) {
	next := newSealSet(seals)
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		closeSeals(k.log, next)
		return
	}
	old := k.seals
	k.seals = next
	k.stopLocked()
	k.arrangeLocked()
	k.startLocked()
	k.work.Go(func() { closeSeals(k.log, old) })
	if u := k.unsealed.Load(); u != nil {
		if u.stopRound != nil { // a seal that hangs is not waited for
			u.stopRound()
		}
		u.wakeVisits() // the new seals have to be known to work, and to begin what they do in the background
	}
	k.mu.Unlock()
	k.changed()
}

// Close seals the keep, closes the store and the seals, and returns when all
// background work has ended. When ctx ends first it returns its error, the rest
// goes on in the background. Requests under way fail; end them first.
func (k *Keep) Close(ctx context.Context) error {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil
	}
	k.closed = true
	k.stopLocked()
	k.mu.Unlock()
	k.end()

	done := make(chan error, 1)
	go func() {
		k.opening.Lock()
		k.drop()
		k.mu.Lock()
		store, seals := k.store, k.seals
		k.store = nil
		k.mu.Unlock()
		var err error
		if store != nil {
			if err = store.Close(); err != nil {
				err = fmt.Errorf("closing the store: %w", err)
			}
		}
		k.opening.Unlock() // an attempt that is still out may be waiting for it
		k.work.Wait()
		closeSeals(k.log, seals)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("closing the keep: %w", ctx.Err())
	}
}

// Unsealed is the instance that is open now; nil unless the keep is unsealed.
func (k *Keep) Unsealed() *Unsealed { return k.unsealed.Load() }

// changed reports the state as it is now.
func (k *Keep) changed() {
	if k.config.Changed == nil {
		return
	}
	k.notifying.Lock()
	defer k.notifying.Unlock()
	k.config.Changed(k.Status())
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
