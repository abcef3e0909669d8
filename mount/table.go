package mount

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

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Tables holds the current version of a mount table.
type Tables struct {
	current  atomic.Pointer[Table]
	changing sync.Mutex // held while it changes
}

// Load returns the current table.
func (t *Tables) Load() *Table { return t.current.Load() }

// A Table holds all mounts of a kind. It is immutable.
type Table struct {
	path    string                // of its record
	version storage.Version       // of that record
	byPath  map[string]*api.Mount // paths without the trailing slash
	first   []string              // types of which a mount was made by itself, see api.Type.First
}

type tableRecord struct {
	Version int          `json:"version"`
	Mounts  []*api.Mount `json:"mounts"`
	First   []string     `json:"first,omitempty"`
}

// Paths of the records.
const (
	EnginesPath = "sys/mounts"
	LoginsPath  = "sys/auth"
	PurgeFolder = "sys/purge"
)

// Bounds of a table.
const (
	MaxMounts = 1000
	MaxPath   = 512 // bytes of a mount's path
)

const recordVersion = 1 // of a table

// New returns a mount of a type; version is "" if the type has none.
func New(path, typ, version string) *api.Mount {
	id := storage.NewUUID()
	m := &api.Mount{Path: path, UUID: id, Folder: shortFolder(id), Accessor: typ + "_" + id[:8], Type: typ}
	if version != "" {
		m.Options = map[string]string{"version": version}
	}
	return m
}

// shortFolder returns the folder of a mount's records: 48 random bits of its UUID.
// Short names make short keys, which make the tree flat: with mount/UUID, the folder
// in older stores, a write costs a quarter more.
func shortFolder(id string) string { return id[len(id)-12:] }

func (l *Live) load(ctx context.Context, to *Tables, path string) error {
	var t *Table
	err := l.Store.View(ctx, func(tx *storage.Tx) (err error) {
		t, err = ReadTable(tx, path)
		return err
	})
	if err != nil {
		return err
	}
	to.current.Store(t)
	return nil
}

// ReadTable reads the table at a path. Its errors are storage.ErrCorrupt and
// storage.ErrFormat.
func ReadTable(tx *storage.Tx, path string) (*Table, error) {
	t := &Table{path: path, byPath: make(map[string]*api.Mount)}
	value, err := tx.Get(path)
	if err == nil {
		t.version, err = tx.Version(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	if value == nil && path == LoginsPath { // none was ever enabled
		return t, nil
	}
	if value == nil {
		return nil, fmt.Errorf("reading the mount table: %w: it is missing", storage.ErrCorrupt)
	}
	var r tableRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("decoding the mount table: %w: %w", storage.ErrCorrupt, err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("decoding the mount table: %w: record version %d, this program reads %d", storage.ErrFormat, r.Version, recordVersion)
	}
	t.first = r.First
	for _, m := range r.Mounts {
		t.byPath[strings.TrimSuffix(m.Path, "/")] = m
	}
	return t, nil
}

func (t *Table) write(tx *storage.Tx) error {
	value, err := json.Marshal(tableRecord{recordVersion, t.All(), t.first})
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

// Has reports whether a mount of the table still exists, with the same version, as the
// transaction sees it. It costs a look-up, unless the table has changed.
func (t *Table) Has(tx *storage.Tx, m *api.Mount) (bool, error) {
	version, err := tx.Version(t.path)
	if err != nil {
		return false, fmt.Errorf("reading the mount table: %w", err)
	}
	if version == t.version {
		return true, nil
	}
	now, err := ReadTable(tx, t.path)
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

// At returns the mount at a path without the trailing slash, or nil if there is none.
func (t *Table) At(path string) *api.Mount { return t.byPath[path] }

// Len returns the number of mounts.
func (t *Table) Len() int { return len(t.byPath) }

// All returns the mounts by path.
func (t *Table) All() []*api.Mount {
	return slices.SortedFunc(maps.Values(t.byPath), func(a, b *api.Mount) int { return strings.Compare(a.Path, b.Path) })
}

// Find returns the mount that contains path, and the rest of the path. No mount is
// inside another, so the first match is the only one.
func (t *Table) Find(path string) (*api.Mount, string) {
	for i := range min(len(path), MaxPath+1) {
		if path[i] == '/' {
			if m := t.byPath[path[:i]]; m != nil {
				return m, path[i+1:]
			}
		}
	}
	return t.byPath[path], ""
}

// Free refuses a path that is in use, or that would be inside a mount or contain one.
func (t *Table) Free(path string) error {
	for _, m := range t.byPath {
		if strings.HasPrefix(path, m.Path) || strings.HasPrefix(m.Path, path) {
			return api.Invalid.Errorf("path is already in use at %s", m.Path)
		}
	}
	return nil
}

// With returns a table with m at path; a nil m removes the mount.
func (t *Table) With(path string, m *api.Mount) *Table {
	next := &Table{path: t.path, byPath: maps.Clone(t.byPath), first: t.first}
	if m == nil {
		delete(next.byPath, path)
	} else {
		next.byPath[path] = m
	}
	return next
}

// WriteFirst writes the mounts of a new store: secret/, a KV engine of version 2, and
// those that the types have from the beginning.
func WriteFirst(tx *storage.Tx, types *Types) error {
	m := New("secret/", "kv", "2")
	m.Description = "key/value secret storage"
	t := &Table{path: EnginesPath, byPath: map[string]*api.Mount{"secret": m}}
	return t.offer(types).write(tx)
}

// offer returns the table with a mount of each type that has one from the beginning, and
// none yet was made of; t itself where there is none. A path that is in use stays as it
// is.
func (t *Table) offer(types *Types) *Table {
	next := t
	for _, typ := range types.All() {
		if typ.First == "" || slices.Contains(t.first, typ.Name) {
			continue
		}
		if next == t {
			next = t.With("", nil)
		}
		next.first = append(slices.Clone(next.first), typ.Name)
		if next.Free(typ.First) == nil && len(next.byPath) < MaxMounts {
			m := New(typ.First, typ.Name, typ.Version)
			m.Description = typ.Help
			next.byPath[strings.TrimSuffix(typ.First, "/")] = m
		}
	}
	return next
}

// offerFirst gives a store of an older program the mounts that its types have from the
// beginning.
func (l *Live) offerFirst() {
	if t := l.Engines.Load(); t.offer(l.Types) == t {
		return
	}
	err := l.Change(l.ctx, &l.Engines, func(_ *storage.Tx, t *Table) (*Table, error) { return t.offer(l.Types), nil })
	switch {
	case err == nil:
		l.log.Info("the store was made by an older program: it has got the mounts that a new one has", "mounts", len(l.Engines.Load().byPath))
	case l.ctx.Err() == nil:
		l.log.Error("the mounts that a new store has could not be made, will try again at the next start", "error", err)
	}
}

// Change replaces a mount table, in the store and then in memory. fn computes the new
// table from the current one, and may write other records.
func (l *Live) Change(ctx context.Context, of *Tables, fn func(*storage.Tx, *Table) (*Table, error)) error {
	of.changing.Lock()
	defer of.changing.Unlock()
	path := of.Load().path
	var next *Table
	err := l.Store.Update(ctx, func(tx *storage.Tx) error {
		t, err := ReadTable(tx, path)
		if err != nil {
			return err
		}
		if next, err = fn(tx, t); err != nil {
			return err
		}
		return next.write(tx)
	})
	if err == nil {
		of.current.Store(next)
		return nil
	}
	if errors.Is(err, storage.ErrUnknownOutcome) { // read what was stored
		if again := l.load(l.ctx, of, path); again != nil {
			err = errors.Join(err, again)
		}
	}
	return err
}

// Enable adds a mount. It refuses a path that is in use, or that would be inside
// another mount or contain one.
func (l *Live) Enable(ctx context.Context, in *Tables, m *api.Mount) error {
	return l.Change(ctx, in, func(tx *storage.Tx, t *Table) (*Table, error) {
		if err := t.Free(m.Path); err != nil {
			return nil, err
		}
		if len(t.byPath) >= MaxMounts {
			return nil, api.Invalid.Errorf("there are %d mounts already: at most that many are allowed", len(t.byPath))
		}
		if in == &l.Logins {
			if err := access.EnableMethod(tx, m.UUID); err != nil {
				return nil, err
			}
		}
		return t.With(strings.TrimSuffix(m.Path, "/"), m), nil
	})
}

// Disable removes a mount in one transaction; its data is deleted afterwards. As in
// Vault, it is not an error if there is none.
func (l *Live) Disable(ctx context.Context, from *Tables, path string) error {
	var removed *api.Mount
	err := l.Change(ctx, from, func(tx *storage.Tx, t *Table) (*Table, error) {
		if removed = t.byPath[path]; removed == nil {
			return t, nil
		}
		if err := tx.Put(PurgeFolder+"/"+removed.UUID, []byte(`{"version":1}`)); err != nil {
			return nil, fmt.Errorf("noting the data of %s for deletion: %w", removed.Path, err)
		}
		if from == &l.Logins {
			if err := access.DisableMethod(tx, removed.UUID); err != nil {
				return nil, err
			}
		}
		return t.With(path, nil), nil
	})
	if removed == nil {
		return err
	}
	if from == &l.Logins { // whatever the outcome
		l.tokens.forget(access.ID{}, true)
		l.WakeSweep()
	}
	if err != nil {
		return err
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

// Tune changes a mount's description, options or configuration.
func (l *Live) Tune(ctx context.Context, in *Tables, path string, edit func(*api.Mount) error) error {
	return l.Change(ctx, in, func(_ *storage.Tx, t *Table) (*Table, error) {
		m := t.byPath[path]
		if m == nil {
			return nil, api.Invalid.Errorf("no mount at %s/", path)
		}
		tuned := *m
		tuned.Options = maps.Clone(m.Options)
		if err := edit(&tuned); err != nil {
			return nil, err
		}
		return t.With(path, &tuned), nil
	})
}

// Move moves a mount. It refuses a path that another mount uses, or that would be
// inside another mount or contain one.
func (l *Live) Move(ctx context.Context, in *Tables, from, to string) error {
	return l.Change(ctx, in, func(_ *storage.Tx, t *Table) (*Table, error) {
		m := t.byPath[from]
		if m == nil {
			return nil, api.Invalid.Errorf("no matching mount at %q", from+"/")
		}
		moved := *m
		moved.Path = to + "/"
		t = t.With(from, nil)
		if err := t.Free(moved.Path); err != nil {
			return nil, err
		}
		return t.With(to, &moved), nil
	})
}
