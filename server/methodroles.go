package server

import (
	"sync"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// A methodRole is the API of the roles of a type of login method, R being one of
// them.
type methodRole[R any] struct {
	path   string // "role": below the mount and, as a folder, in the store
	create bool   // writing a role that is not there takes the capability create
	cached bool   // logins keep what they read of roles, see cached
	new    func(name string) *R
	view   func(*R) map[string]any
	// edit reads the request and returns what changes a role by it: the former
	// outside of the transaction, the latter in it.
	edit  func(*request) (apply func(*R) (warnings []string, err error), err error)
	check func(*R) interface{ Check() error }
}

func (m *methodRole[R]) routes() []oldRoute {
	one := oldRoute{path: m.path + "/*", named: true, gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: m.read, opWrite: m.write, opDelete: m.delete}}
	if m.create {
		one.exists = m.exists
	}
	return []oldRoute{{path: m.path, gate: authenticated, on: [ops]handler{opList: m.list}}, one}
}

func (m *methodRole[R]) list(s *Server, r *request) (answer, error) {
	return r.listNames(m.path)
}

// listNames answers with the names of the records in a folder of a login method.
func (r *request) listNames(path string) (answer, error) {
	return r.listMethod(func(tx *storage.Tx, folder string) ([]string, error) { return tx.List(folder + "/" + path) })
}

// get reads the role that the request names, nil when there is none.
func (m *methodRole[R]) get(tx *storage.Tx, folder, name string) (*R, error) {
	role := new(R)
	found, err := access.ReadMethodRole(tx, folder+"/"+m.path, name, role)
	if err != nil || !found {
		return nil, err
	}
	return role, nil
}

func (m *methodRole[R]) exists(r *request, tx *storage.Tx) (bool, error) {
	role, err := m.get(tx, r.Mount.Prefix(), r.rest)
	return role != nil, err
}

func (m *methodRole[R]) read(s *Server, r *request) (answer, error) {
	var role *R
	err := r.viewMethod(func(tx *storage.Tx, folder string) (err error) {
		role, err = m.get(tx, folder, r.rest)
		return err
	})
	if err == nil && role == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return answer{}, err
	}
	return answer{data: m.view(role)}, nil
}

// write writes a role; what the request does not name stays as it is.
func (m *methodRole[R]) write(s *Server, r *request) (answer, error) {
	if m.cached {
		defer r.keep.logins.forget(r.Mount.UUID)
	}
	apply, err := m.edit(r)
	if err != nil {
		return answer{}, err
	}
	var warnings []string
	err = r.updateMethod(func(tx *storage.Tx, folder string) error {
		role, err := m.get(tx, folder, r.rest)
		if err != nil {
			return err
		}
		if role == nil {
			role = m.new(r.rest)
		}
		if warnings, err = apply(role); err != nil {
			return err
		}
		return access.WriteMethodRole(tx, folder+"/"+m.path, r.rest, m.check(role))
	})
	if err != nil {
		return answer{}, err
	}
	return answer{warnings: warnings}, nil
}

func (m *methodRole[R]) delete(s *Server, r *request) (answer, error) {
	if m.cached {
		defer r.keep.logins.forget(r.Mount.UUID)
	}
	return answer{}, r.updateMethod(func(tx *storage.Tx, folder string) error {
		return access.DeleteMethodRole(tx, folder+"/"+m.path, r.rest)
	})
}

// renew returns what the tokens of a role are like now.
func (m *methodRole[R]) renew(tx *storage.Tx, folder, name string) (*R, error) {
	role, err := m.get(tx, folder, name)
	if err == nil && role == nil {
		err = invalid("the role %q, by which the token was made, does not exist any more: it is not renewed", name)
	}
	return role, err
}

// A loginCache holds what the logins of methods need, made from the store once
// after each change, by the UUID of the mount.
type loginCache struct {
	mu      sync.Mutex
	changes uint64
	values  map[string]any
}

// forget is called after every change, whatever its outcome, before anybody is
// told of it.
func (c *loginCache) forget(uuid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	delete(c.values, uuid)
}

// version changes with every change of a login method.
func (c *loginCache) version() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes
}

// cached returns what the logins of a method need, which read makes unless it is
// there already.
func cached[T any](c *loginCache, uuid string, read func() (T, error)) (T, error) {
	c.mu.Lock()
	value, ok := c.values[uuid].(T)
	changes := c.changes
	c.mu.Unlock()
	if ok {
		return value, nil
	}
	value, err := read()
	if err != nil {
		return value, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if first, ok := c.values[uuid].(T); ok { // another was quicker
		return first, nil
	}
	if c.changes == changes {
		if c.values == nil || len(c.values) >= maxMounts { // some may be of mounts that are gone
			c.values = make(map[string]any)
		}
		c.values[uuid] = value
	}
	return value, nil
}
