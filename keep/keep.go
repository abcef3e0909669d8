// Package keep runs the life of a keep: it creates, opens and seals the store, and
// makes sure that the store can be opened again.
//
// # Lifecycle
//
// A keep is not initialized (it has no store), sealed, or unsealed. [Keep.Open]
// opens the store, if its file exists, and starts the race of its slots in the
// background. It never waits for a key service, so the listener can be up first
// and a sealed keep can say why it is sealed. Everything that lives only while
// unsealed (mount tables, tokens seen, background work) belongs to one value,
// [Unsealed], which is published when a slot opens the store and dropped when
// the keep is sealed. See lifecycle.go for the race, hold.go for a keep that was
// sealed by request, and probe.go and reconcile.go for what happens to the slots
// of an open keep.
//
// # Recovery
//
// When no key service opens a keep any more, people open it over the same API,
// with shares or an age identity (package recovery). The root key of a recovery
// slot is wrapped to public recipients, so it can be wrapped again without them
// (recovery.go). One place collects and checks what people send (people.go), for
// unsealing, for drills (drill.go), for new shares (rekey.go) and for a lost root
// token (generateroot.go). Old and new shares both open the keep until people
// have used the new ones, so that a lost answer locks nobody out. After a
// recovery, reconciliation gives the configured seals their slots, and the keep
// unseals automatically again.
//
// # Requests
//
// The routes that act on the keep itself are here, too: [Keep.Routes]. A handler acts
// on the unsealed instance that authorized its request, see [Of], not on whichever is
// open by then.
//
// # Cost
//
// An open keep asks each key service about once an hour (probe.go), and reads its
// whole store once a day (scrub.go). None of this slows a request down.
//
// # In the store
//
//	sys/rotate-config JSON {"version":1,"enabled":...}: when the barrier's key is rotated automatically
//	sys/recovery      JSON {"version":1,"drills":{...}}: when people last opened a recovery slot
//	sys/unused        JSON {"version":1}: until a token has been used
//
// and the records of package mount. Beside the store, unencrypted:
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
	// ErrInitialized means that the keep is already initialized.
	ErrInitialized = errors.New("the keep is already initialized")
	// ErrNotInitialized means that there is no store yet.
	ErrNotInitialized = errors.New("not initialized: run `sealkeep operator init`")
)

func invalid(format string, args ...any) error { return api.Invalid.Errorf(format, args...) }

// A Seal wraps and unwraps the root key with one key service. Wrap, Unwrap and
// KeyID return when their context ends, and may be called by several goroutines
// at once. Their errors carry a class: interface{ Class() string }, found by
// errors.As. Close is called once, after all calls have returned.
//
// A seal may also have these methods, which make no request: Warning() string
// describes trouble to come; Manual() bool reports whether a slot is made for it
// only when somebody asks for one; TokenTTL() (time.Duration, bool) returns the
// lifetime of its token, if it has one.
type Seal interface {
	Name() string // unique among the seals of a keep
	Type() string
	Priority() int  // the lowest number is tried first
	Disabled() bool // opens what it wrapped if nothing else does; wraps nothing new
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

	// Recovery lists age recipients to which the root key is wrapped, too: the
	// identity of any one of them opens the keep without a key service.
	// Optional. Without it, Init makes recovery shares unless told not to.
	Recovery []string
	// EnableGenerateRoot lets people who can open a recovery slot make a root
	// token, through sys/generate-root.
	EnableGenerateRoot bool

	// Audit lists the audit devices. Optional. AllowAuditAPI lets the API add
	// others, and so write to files on this machine.
	Audit         []audit.Device
	AllowAuditAPI bool

	Version   string // optional: shown by sys/seal-status
	BuildDate string // optional: shown by sys/seal-status, RFC 3339

	Now func() time.Time // optional: default time.Now; the clock for times stored and shown

	// Changed is called after every change of state, one call at a time, and
	// must return quickly. Optional.
	Changed func(Status)
}

// A Keep is one store and the seals that open it. Its methods may be called by
// several goroutines at once.
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
	refusals  *rate.Limiter // of refused recovery shares

	initializing chan struct{} // holds one value while Init runs
	opening      struct {      // held while the store is being unsealed or sealed
		sync.Mutex
		oldAudit *audit.Log // of the previous instance, which may not be closed yet
	}
	notifying sync.Mutex // held around Config.Changed

	mu sync.Mutex // guards the state; taken after opening
	state
}

// background holds the work of a keep, which ends with it.
type background struct {
	ctx  context.Context // ends when the keep is closed
	end  context.CancelFunc
	work sync.WaitGroup // every goroutine of the keep
}

// state holds what changes while a keep runs.
type state struct {
	store    *storage.Store
	damage   error // why the existing store cannot be opened; nil: it can; set by Open
	seals    *sealSet
	slots    []*slot
	held     bool // sealed by request: no automatic unseal (hold.go)
	keepHeld bool // and held over restarts, too
	closed   bool
	race     *race // the latest one; nil before the first

	recipients   []string           // see Config.Recovery
	generateRoot bool               // see Config.EnableGenerateRoot
	devices      []audit.Device     // see Config.Audit
	auditAPI     bool               // see Config.AllowAuditAPI
	shares       struct{ n, t int } // of the recovery shares, according to the file
}

const damageHint = "`sealkeep operator storage check` finds what is damaged; `sealkeep operator restore` puts a backup in its place; then restart the server"

// A sealSet is the seals of one configuration with a count of their users.
type sealSet struct {
	all   []Seal // by priority
	users sync.WaitGroup
}

// New returns a keep that has yet to be opened. The keep owns the seals from now
// on; Close closes them.
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
// and returns quickly, whatever the key services do. types lists the types of mounts.
// If the store is too damaged to be opened, the keep stays sealed and says why. The
// error is about the audit devices, or about the store's file: its format is newer, or
// another process has it open.
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
// keep tries them at once, unless it was sealed by request. An unsealed one
// keeps serving and reconciles its slots with the new seals (reconcile.go). The
// old seals are closed after their last call has returned.
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
		if u.stopRound != nil { // do not wait for a seal that hangs
			u.stopRound()
		}
		u.wakeVisits() // check the new seals, and let them start their background work
	}
	k.mu.Unlock()
	k.changed()
}

// Close seals the keep, closes the store and the seals, and returns when all
// background work has ended. If ctx ends first, Close returns its error and the
// rest goes on in the background. Running requests fail; end them first.
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
		k.opening.Unlock() // an attempt still running may be waiting for it
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

// Unsealed returns the instance that is open now, or nil if the keep is not unsealed.
func (k *Keep) Unsealed() *Unsealed { return k.unsealed.Load() }

// changed reports the current state to Config.Changed.
func (k *Keep) changed() {
	if k.config.Changed == nil {
		return
	}
	k.notifying.Lock()
	defer k.notifying.Unlock()
	k.config.Changed(k.Status())
}

// closeSeals waits for the last call of each seal and closes them.
func closeSeals(log *slog.Logger, set *sealSet) {
	set.users.Wait()
	for _, seal := range set.all {
		if err := seal.Close(); err != nil {
			log.Warn("closing a seal failed", "seal", seal.Name(), "error", err)
		}
	}
}
