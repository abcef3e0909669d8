// Package mount holds what lives while a keep is open: the tables of its mounts, the
// tokens and policies that were looked up, and the background work that deletes what
// was removed.
//
// A [Live] belongs to one unsealed store, and ends with the context with which it was
// opened. When the keep is sealed the Live is dropped, and the next unsealing opens a
// new one. So nothing that it remembers outlives the keys.
//
// # Cost
//
// A request finds its mount, its token and its compiled policies in memory, without a
// read of the store, however many mounts and policies there are. A mount table is an
// immutable value, replaced after each change; a write only asks the store for the
// version of the table's record, to see that the mount still exists.
//
// # In the store
//
//	sys/mounts        JSON {"version":1,"mounts":[...]}: the mount table of the engines
//	sys/auth          the same of the login methods
//	sys/purge/<uuid>  JSON {"version":1}: the data of a removed mount, to be deleted
//	<folder>/...      the records of a mount's engine or login method: folder is the end of its
//	                  UUID, in older stores mount/<uuid>
package mount

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Live holds what lives while a store is unsealed. Its methods may be called by several
// goroutines at once.
type Live struct {
	Store   *storage.Store
	Engines Tables
	Logins  Tables

	Types *Types

	fixed    map[string]*api.Mount // mounts of the system types, by api.Type.At
	now      func() time.Time
	log      *slog.Logger
	tokens   tokenCache
	policies policyCache

	ctx        context.Context
	wake       chan struct{} // signals that there may be something to purge
	sweeping   chan struct{} // signals that there may be tokens to delete
	converting sync.Mutex    // held while an upgraded mount's records are converted or a removed one's deleted, so that no conversion writes after the deletion
}

// Open reads the mount tables of an unsealed store. The caller runs Purge and Sweep
// until ctx ends.
func Open(ctx context.Context, store *storage.Store, types *Types, now func() time.Time, log *slog.Logger) (*Live, error) {
	l := &Live{
		Store: store, Types: types, fixed: make(map[string]*api.Mount), now: now, log: log, ctx: ctx,
		wake: make(chan struct{}, 1), sweeping: make(chan struct{}, 1),
	}
	for _, t := range types.Fixed() {
		l.fixed[t.At] = fixedMount(t, store.UUID())
	}
	for t, path := range map[*Tables]string{&l.Engines: EnginesPath, &l.Logins: LoginsPath} {
		if err := l.load(ctx, t, path); err != nil {
			return nil, err
		}
	}
	return l, nil
}
