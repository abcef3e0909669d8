package keep

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/storage"
)

// An Unsealed holds what lives only while a keep is open.
type Unsealed struct {
	*mount.Live
	Audit *audit.Log

	ctx       context.Context
	end       context.CancelFunc
	probing   chan struct{}      // signals that all slots must be visited
	stopRound context.CancelFunc // stops the current or last visits; guarded by Keep.mu
	rotated   chan struct{}      // signals that there may be something to re-encrypt

	slotting     sync.Mutex  // held while a slot or the root key changes
	rootShares   *rootShares // nil if none are waiting; guarded by slotting
	reencryption reencryption

	unused     atomic.Bool                      // no token has been used since Init
	drills     atomic.Pointer[map[string]drill] // by slot; replaced, never modified
	drilling   gathering
	rekey      rekey
	generation rootGeneration
}

// recordVersion is the version of this package's records.
const recordVersion = 1

// newUnsealed reads what an open keep holds in memory. The store is unsealed, opening
// is held.
func (k *Keep) newUnsealed(store *storage.Store) (*Unsealed, error) {
	u := &Unsealed{probing: make(chan struct{}, 1), rotated: make(chan struct{}, 1)}
	u.ctx, u.end = context.WithCancel(k.ctx)
	var err error
	if u.Live, err = mount.Open(u.ctx, store, k.types, k.now, k.log); err != nil {
		u.end()
		return nil, err
	}
	if err := u.loadDrills(u.ctx); err != nil {
		k.log.Error("reading when the recovery slots were last tried failed", "error", err)
	}
	if err := u.loadUnused(u.ctx); err != nil {
		k.log.Error("reading whether a token was ever used failed", "error", err)
	}
	k.mu.Lock()
	devices := k.devices
	k.mu.Unlock()
	if k.opening.oldAudit != nil {
		k.opening.oldAudit.Wait() // for running requests
	}
	if u.Audit, err = audit.Open(u.ctx, store, devices, k.now, k.log); err != nil {
		u.end()
		return nil, err
	}
	return u, nil
}

// Done is closed when the keep is sealed.
func (u *Unsealed) Done() <-chan struct{} { return u.ctx.Done() }

// abandon ends an instance that was not published.
func (u *Unsealed) abandon() {
	u.end()
	u.Audit.Close()
}

// A Frame is what the pipeline of a keep adds to [api.Frame].
type Frame interface {
	api.Frame
	// Unsealed returns the instance that was open when the request was authorized,
	// or nil if there was none.
	Unsealed() *Unsealed
	// Entry returns the request's entry in the audit log.
	Entry() *audit.Entry
}

// Of returns the unsealed instance that answers a request, or nil if none does.
func Of(r *api.Request) *Unsealed { return r.Frame.(Frame).Unsealed() }

// EntryOf returns the entry of a request in the audit log.
func EntryOf(r *api.Request) *audit.Entry { return r.Frame.(Frame).Entry() }
