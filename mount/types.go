package mount

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/api"
)

// Types holds the types that can be mounted or enabled, and the system types, which are
// always there.
type Types struct {
	all   map[typeKey]*api.Type
	fixed []*api.Type
}

type typeKey struct {
	kind          api.Kind
	name, version string
}

// NewTypes refuses two types with the same name and version, and a system type below
// another one.
func NewTypes(list ...api.Type) (*Types, error) {
	t := &Types{all: make(map[typeKey]*api.Type, len(list))}
	for i := range list {
		typ := &list[i]
		key := typeKey{typ.Kind, typ.Name, typ.Version}
		if t.all[key] != nil {
			return nil, fmt.Errorf("there are two types %s", typ.Name)
		}
		t.all[key] = typ
		if typ.Kind != api.System {
			continue
		}
		for _, other := range t.fixed {
			if strings.HasPrefix(typ.At, other.At) || strings.HasPrefix(other.At, typ.At) {
				return nil, fmt.Errorf("the types %s and %s are at the same path", other.Name, typ.Name)
			}
		}
		t.fixed = append(t.fixed, typ)
	}
	return t, nil
}

// All returns the types, in no particular order.
func (t *Types) All() (all []*api.Type) {
	for _, typ := range t.all {
		all = append(all, typ)
	}
	return all
}

// Fixed returns the system types.
func (t *Types) Fixed() []*api.Type { return t.fixed }

// Get returns the type of a kind with this name and version, or nil if there is none.
func (t *Types) Get(kind api.Kind, name, version string) *api.Type {
	return t.all[typeKey{kind, name, version}]
}

// Of returns the type of a mount, or nil if there is none.
func (t *Types) Of(kind api.Kind, m *api.Mount) *api.Type {
	return t.Get(kind, m.Type, m.Options["version"])
}

// Names returns the names of the types of a kind, sorted.
func (t *Types) Names(kind api.Kind) (names []string) {
	for key := range t.all {
		if key.kind == kind {
			names = append(names, key.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Versions returns the versions of an engine's type, the newest last; a type without
// versions has the version "".
func (t *Types) Versions(name string) (versions []string) {
	for key := range t.all {
		if key.kind == api.Secrets && key.name == name {
			versions = append(versions, key.version)
		}
	}
	slices.Sort(versions)
	return versions
}

// fixedMount returns the mount of a system type, which is shown like any other mount.
// Its UUID is derived from the store's, so that it stays the same.
func fixedMount(t *api.Type, store string) *api.Mount {
	id := store
	if t.Name != "system" {
		h := sha256.Sum256([]byte(t.At + store))
		id = fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
	}
	m := &api.Mount{Path: t.At, UUID: id, Accessor: t.Name + "_" + id[:min(8, len(id))], Type: t.Name, Description: t.Help}
	if path, ok := strings.CutPrefix(t.At, "auth/"); ok {
		m.Path, m.Accessor, m.Config.TokenType = path, "auth_"+m.Accessor, "default-service"
	}
	return m
}

// Fixed returns the mount of the system type at a path with the trailing slash, or nil
// if there is none.
func (l *Live) Fixed(at string) *api.Mount { return l.fixed[at] }

// AllEngines returns the mounts of engines, including those of system types, in no
// particular order.
func (l *Live) AllEngines() []*api.Mount {
	all := l.Engines.Load().All()
	for at, m := range l.fixed {
		if at == m.Path {
			all = append(all, m)
		}
	}
	return all
}

// AllLogins returns the login methods, including the one by token.
func (l *Live) AllLogins() []*api.Mount {
	all := l.Logins.Load().All()
	for at, m := range l.fixed {
		if at != m.Path {
			all = append(all, m)
		}
	}
	return all
}

// Engine returns the mount at a path without the trailing slash, or nil if there is
// none.
func (l *Live) Engine(path string) *api.Mount {
	if m := l.fixed[path+"/"]; m != nil {
		return m
	}
	return l.Engines.Load().At(path)
}

// Login returns the login method at a path without the trailing slash, or nil if there
// is none.
func (l *Live) Login(path string) *api.Mount {
	if m := l.fixed["auth/"+path+"/"]; m != nil {
		return m
	}
	return l.Logins.Load().At(path)
}
