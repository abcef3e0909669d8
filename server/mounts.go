package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/storage"
)

// keep is what lives only while unsealed.
type keep struct {
	store  *storage.Store
	mounts mountTables           // of engines
	auths  mountTables           // of login methods
	fixed  map[string]*api.Mount // of what is there without being mounted, by api.Type.At
	moves  moves
	tokens tokenCache
	now    func() time.Time

	policies policyCache
	audit    *audit.Log

	ctx       context.Context
	end       context.CancelFunc
	wake      chan struct{}      // a value when there may be something to purge
	probing   chan struct{}      // a value when all slots are to be visited
	stopRound context.CancelFunc // of the visits under way, or of the last; guarded by Server.mu
	sweeping  chan struct{}      // a value when there may be tokens to delete
	rotated   chan struct{}      // a value when there may be something to re-encrypt

	converting   sync.Mutex  // held while the records of an upgraded mount are converted, or those of a removed one deleted: nothing is written after that
	slotting     sync.Mutex  // held while a slot or the root key changes
	rootShares   *rootShares // nil: none are waiting; guarded by slotting
	reencryption reencryption

	unused     atomic.Bool                      // no token has been used since Init
	drills     atomic.Pointer[map[string]drill] // by slot; never changed, but replaced
	drilling   gathering
	rekey      rekey
	generation rootGeneration
}

// mountTables is a mount table that changes.
type mountTables struct {
	atomic.Pointer[mountTable]
	changing sync.Mutex // held while it does
}

// mountTable is every mount of a kind: an immutable value.
type mountTable struct {
	path    string                // of its record
	version storage.Version       // of that
	byPath  map[string]*api.Mount // without the slash at its end
}

type mountRecord struct {
	Version int          `json:"version"`
	Mounts  []*api.Mount `json:"mounts"`
}

const (
	recordVersion = 1 // of the records of this package
	mountsPath    = "sys/mounts"
	authsPath     = "sys/auth"
	purgeFolder   = "sys/purge"
	maxMounts     = 1000
	maxMountPath  = 512 // bytes
)

// reserved are the first segments of paths that are not for mounts.
var reserved = []string{"sys", "auth", "audit", "cubbyhole", "identity"}

// newMount is a mount of a type; version is "" of one that has none.
func newMount(path, typ, version string) *api.Mount {
	id := storage.NewUUID()
	m := &api.Mount{Path: path, UUID: id, Folder: shortFolder(id), Accessor: typ + "_" + id[:8], Type: typ}
	if version != "" {
		m.Options = map[string]string{"version": version}
	}
	return m
}

// shortFolder is where a mount's records lie: 48 random bits of its UUID. Short
// names make short keys, and those make the tree flat: with mount/UUID, where
// the mounts of older stores lie, a write costs a quarter more.
func shortFolder(id string) string { return id[len(id)-12:] }

// newKeep reads what a keep has in memory; the store is unsealed.
func (s *Server) newKeep(store *storage.Store) (*keep, error) {
	k := &keep{
		store: store, fixed: fixedMounts(s.tables.fixed, store.UUID()), now: s.now, wake: make(chan struct{}, 1), probing: make(chan struct{}, 1),
		sweeping: make(chan struct{}, 1), rotated: make(chan struct{}, 1),
	}
	k.ctx, k.end = context.WithCancel(s.ctx)
	for t, path := range map[*mountTables]string{&k.mounts: mountsPath, &k.auths: authsPath} {
		if err := k.loadMounts(k.ctx, t, path); err != nil {
			k.end()
			return nil, err
		}
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
	var err error
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

func (k *keep) loadMounts(ctx context.Context, to *mountTables, path string) error {
	var t *mountTable
	err := k.store.View(ctx, func(tx *storage.Tx) (err error) {
		t, err = readMounts(tx, path)
		return err
	})
	if err != nil {
		return err
	}
	to.Store(t)
	return nil
}

func readMounts(tx *storage.Tx, path string) (*mountTable, error) {
	t := &mountTable{path: path, byPath: make(map[string]*api.Mount)}
	value, err := tx.Get(path)
	if err == nil {
		t.version, err = tx.Version(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	if value == nil && path == authsPath { // none was ever enabled
		return t, nil
	}
	if value == nil {
		return nil, fmt.Errorf("reading the mount table: %w: it is missing", storage.ErrCorrupt)
	}
	var r mountRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("decoding the mount table: %w: %w", storage.ErrCorrupt, err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("decoding the mount table: %w: record version %d, this program reads %d", storage.ErrFormat, r.Version, recordVersion)
	}
	for _, m := range r.Mounts {
		t.byPath[strings.TrimSuffix(m.Path, "/")] = m
	}
	return t, nil
}

func (t *mountTable) write(tx *storage.Tx) error {
	value, err := json.Marshal(mountRecord{recordVersion, t.all()})
	if err != nil {
		return fmt.Errorf("encoding the mount table: %w", err)
	}
	if err = tx.Put(t.path, value); err == nil {
		t.version, err = tx.Version(t.path)
	}
	if err != nil {
		return fmt.Errorf("writing the mount table: %w", err)
	}
	return nil
}

// has tells whether a mount of the table is still there, and of the same version, as
// the transaction sees it. It costs a look-up, unless the table has changed.
func (t *mountTable) has(tx *storage.Tx, m *api.Mount) (bool, error) {
	version, err := tx.Version(t.path)
	if err != nil {
		return false, fmt.Errorf("reading the mount table: %w", err)
	}
	if version == t.version {
		return true, nil
	}
	now, err := readMounts(tx, t.path)
	if err != nil {
		return false, err
	}
	for _, other := range now.byPath {
		if other.UUID == m.UUID {
			return other.Options["version"] == m.Options["version"], nil
		}
	}
	return false, nil
}

// all returns the mounts by path.
func (t *mountTable) all() []*api.Mount {
	return slices.SortedFunc(maps.Values(t.byPath), func(a, b *api.Mount) int { return strings.Compare(a.Path, b.Path) })
}

// find returns the mount that path is in, and the rest of the path. No mount is
// inside another, so the first that fits is the one.
func (t *mountTable) find(path string) (*api.Mount, string) {
	for i := range min(len(path), maxMountPath+1) {
		if path[i] == '/' {
			if m := t.byPath[path[:i]]; m != nil {
				return m, path[i+1:]
			}
		}
	}
	return t.byPath[path], ""
}

// free refuses a path that is in use, or would be inside a mount or around one.
func (t *mountTable) free(path string) error {
	for _, m := range t.byPath {
		if strings.HasPrefix(path, m.Path) || strings.HasPrefix(m.Path, path) {
			return invalid("path is already in use at %s", m.Path)
		}
	}
	return nil
}

// with returns a table in which m stands at its path; nil removes the mount.
func (t *mountTable) with(path string, m *api.Mount) *mountTable {
	next := &mountTable{path: t.path, byPath: maps.Clone(t.byPath)}
	if m == nil {
		delete(next.byPath, path)
	} else {
		next.byPath[path] = m
	}
	return next
}

// writeFirst writes what a new store has: secret/, a KV engine of version 2.
func writeFirst(tx *storage.Tx) error {
	m := newMount("secret/", "kv", "2")
	m.Description = "key/value secret storage"
	t := &mountTable{path: mountsPath, byPath: map[string]*api.Mount{"secret": m}}
	return t.write(tx)
}

// change replaces a mount table, in the store and then in memory. fn computes
// the new table from the present one and may write more.
func (k *keep) change(ctx context.Context, of *mountTables, fn func(*storage.Tx, *mountTable) (*mountTable, error)) error {
	of.changing.Lock()
	defer of.changing.Unlock()
	path := of.Load().path
	var next *mountTable
	err := k.store.Update(ctx, func(tx *storage.Tx) error {
		t, err := readMounts(tx, path)
		if err != nil {
			return err
		}
		if next, err = fn(tx, t); err != nil {
			return err
		}
		return next.write(tx)
	})
	if err == nil {
		of.Store(next)
		return nil
	}
	if errors.Is(err, storage.ErrUnknownOutcome) { // see what became of it
		if again := k.loadMounts(k.ctx, of, path); again != nil {
			err = errors.Join(err, again)
		}
	}
	return err
}

// enable adds a mount. A path that is in use, or would be inside another mount
// or around one, is refused.
func (k *keep) enable(ctx context.Context, in *mountTables, m *api.Mount) error {
	return k.change(ctx, in, func(tx *storage.Tx, t *mountTable) (*mountTable, error) {
		if err := t.free(m.Path); err != nil {
			return nil, err
		}
		if len(t.byPath) >= maxMounts {
			return nil, invalid("there are %d mounts already: at most that many are allowed", len(t.byPath))
		}
		if in == &k.auths {
			if err := access.EnableMethod(tx, m.UUID); err != nil {
				return nil, err
			}
		}
		return t.with(strings.TrimSuffix(m.Path, "/"), m), nil
	})
}

// disable removes a mount in one transaction; its data is deleted afterwards.
// Removing what is not there is no error, as with Vault.
func (k *keep) disable(ctx context.Context, from *mountTables, path string) error {
	var removed *api.Mount
	err := k.change(ctx, from, func(tx *storage.Tx, t *mountTable) (*mountTable, error) {
		if removed = t.byPath[path]; removed == nil {
			return t, nil
		}
		if err := tx.Put(purgeFolder+"/"+removed.UUID, []byte(`{"version":1}`)); err != nil {
			return nil, fmt.Errorf("noting the data of %s for deletion: %w", removed.Path, err)
		}
		if from == &k.auths {
			if err := access.DisableMethod(tx, removed.UUID); err != nil {
				return nil, err
			}
		}
		return t.with(path, nil), nil
	})
	if removed == nil {
		return err
	}
	if from == &k.auths { // whatever the outcome
		k.tokens.forget(access.ID{}, true)
		k.wakeSweep()
	}
	if err != nil {
		return err
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return nil
}

// tune changes a mount's description, options or configuration.
func (k *keep) tune(ctx context.Context, in *mountTables, path string, edit func(*api.Mount) error) error {
	return k.change(ctx, in, func(_ *storage.Tx, t *mountTable) (*mountTable, error) {
		m := t.byPath[path]
		if m == nil {
			return nil, invalid("no mount at %s/", path)
		}
		tuned := *m
		tuned.Options = maps.Clone(m.Options)
		if err := edit(&tuned); err != nil {
			return nil, err
		}
		return t.with(path, &tuned), nil
	})
}
