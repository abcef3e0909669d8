// Package mount is what lives while a keep is open: the tables of its mounts, the
// tokens and policies that were looked up, and the background work on what was
// removed.
//
// A [Live] hangs on one unsealed store, and ends with the context that it was opened
// with; when the keep is sealed it is dropped whole, and another is opened with the
// next unsealing. So nothing that it remembers outlives the keys.
//
// # Cost
//
// A request finds its mount and its token in memory, and its policies compiled: no
// read of the store, at any number of mounts, tokens and policies. A mount table is
// an immutable value, replaced after each change; a write asks the store for the
// version of its record alone, to see that the mount is still there.
//
// # In the store
//
//	sys/mounts        JSON {"version":1,"mounts":[...]}: the mount table of the engines
//	sys/auth          the same of the login methods
//	sys/purge/<uuid>  JSON {"version":1}: the data of a removed mount, to be deleted
//	<folder>/...      what the engine or login method of a mount stores: folder is the end of its
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

// Live is what lives while a store is unsealed. Its methods may be called by several
// goroutines at once.
type Live struct {
	Store   *storage.Store
	Engines Tables
	Logins  Tables

	Types *Types

	fixed    map[string]*api.Mount // of the system types, by api.Type.At
	now      func() time.Time
	log      *slog.Logger
	tokens   tokenCache
	policies policyCache

	ctx        context.Context
	wake       chan struct{} // a value when there may be something to purge
	sweeping   chan struct{} // a value when there may be tokens to delete
	converting sync.Mutex    // held while the records of an upgraded mount are converted, or those of a removed one deleted: nothing is written after that
}

// Open reads the mount tables of an unsealed store. Until ctx ends, Purge and Sweep
// are to run.
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
