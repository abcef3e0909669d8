package mount

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/api"
)

// Types are what can be mounted and enabled, and what is there without that.
type Types struct {
	all   map[typeKey]*api.Type
	fixed []*api.Type
}

type typeKey struct {
	kind          api.Kind
	name, version string
}

// NewTypes refuses two types of one name and version, and system types of which one
// is below the other.
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

// All are the types, in no order.
func (t *Types) All() (all []*api.Type) {
	for _, typ := range t.all {
		all = append(all, typ)
	}
	return all
}

// Fixed are the system types.
func (t *Types) Fixed() []*api.Type { return t.fixed }

// Get is the type of a kind that has the name and version, nil when there is none.
func (t *Types) Get(kind api.Kind, name, version string) *api.Type {
	return t.all[typeKey{kind, name, version}]
}

// Of is the type of a mount, nil when there is none.
func (t *Types) Of(kind api.Kind, m *api.Mount) *api.Type {
	return t.Get(kind, m.Type, m.Options["version"])
}

// Names are those of the types of a kind, sorted.
func (t *Types) Names(kind api.Kind) (names []string) {
	for key := range t.all {
		if key.kind == kind {
			names = append(names, key.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Versions are those of a type of engine, the newest last; "" is that of a type
// without any.
func (t *Types) Versions(name string) (versions []string) {
	for key := range t.all {
		if key.kind == api.Secrets && key.name == name {
			versions = append(versions, key.version)
		}
	}
	slices.Sort(versions)
	return versions
}

// A fixed mount is that of a system type. It is shown as if it had been mounted; its
// UUID is made from the store's, so that it stays the same.
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

// Fixed is the mount of the system type that is at a path with the slash at its end,
// nil when there is none.
func (l *Live) Fixed(at string) *api.Mount { return l.fixed[at] }

// AllEngines are the mounts of engines, those of system types among them, in no order.
func (l *Live) AllEngines() []*api.Mount {
	all := l.Engines.Load().All()
	for at, m := range l.fixed {
		if at == m.Path {
			all = append(all, m)
		}
	}
	return all
}

// AllLogins are the login methods, that by token among them.
func (l *Live) AllLogins() []*api.Mount {
	all := l.Logins.Load().All()
	for at, m := range l.fixed {
		if at != m.Path {
			all = append(all, m)
		}
	}
	return all
}

// Engine is the mount at a path without the slash at its end, nil when there is none.
func (l *Live) Engine(path string) *api.Mount {
	if m := l.fixed[path+"/"]; m != nil {
		return m
	}
	return l.Engines.Load().At(path)
}

// Login is the login method at a path without the slash at its end, nil when there is
// none.
func (l *Live) Login(path string) *api.Mount {
	if m := l.fixed["auth/"+path+"/"]; m != nil {
		return m
	}
	return l.Logins.Load().At(path)
}
