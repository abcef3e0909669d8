package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/storage"
)

// keep is what lives only while unsealed.
type keep struct {
	*mount.Live
	fixed map[string]*api.Mount // of what is there without being mounted, by api.Type.At
	moves moves
	now   func() time.Time
	audit *audit.Log

	ctx       context.Context
	end       context.CancelFunc
	probing   chan struct{}      // a value when all slots are to be visited
	stopRound context.CancelFunc // of the visits under way, or of the last; guarded by Server.mu
	rotated   chan struct{}      // a value when there may be something to re-encrypt

	slotting     sync.Mutex  // held while a slot or the root key changes
	rootShares   *rootShares // nil: none are waiting; guarded by slotting
	reencryption reencryption

	unused     atomic.Bool                      // no token has been used since Init
	drills     atomic.Pointer[map[string]drill] // by slot; never changed, but replaced
	drilling   gathering
	rekey      rekey
	generation rootGeneration
}

// recordVersion is that of the records of this package.
const recordVersion = 1

// newKeep reads what a keep has in memory; the store is unsealed.
func (s *Server) newKeep(store *storage.Store) (*keep, error) {
	k := &keep{fixed: fixedMounts(s.tables.fixed, store.UUID()), now: s.now, probing: make(chan struct{}, 1), rotated: make(chan struct{}, 1)}
	k.ctx, k.end = context.WithCancel(s.ctx)
	var err error
	if k.Live, err = mount.Open(k.ctx, store, s.tables.typeOf, s.now, s.log); err != nil {
		k.end()
		return nil, err
	}
	if err := k.loadDrills(k.ctx); err != nil {
		s.log.Error("when the recovery slots were last tried is not known", "error", err)
	}
	if err := k.loadUnused(k.ctx); err != nil {
		s.log.Error("whether a token was ever used is not known", "error", err)
	}
	s.mu.Lock()
	devices := s.devices
	s.mu.Unlock()
	if s.oldAudit != nil {
		s.oldAudit.Wait() // for what is under way
	}
	if k.audit, err = audit.Open(k.ctx, store, devices, s.now, s.log); err != nil {
		k.end()
		return nil, err
	}
	return k, nil
}

// abandon ends a keep that was not published.
func (k *keep) abandon() {
	k.end()
	k.audit.Close()
}
