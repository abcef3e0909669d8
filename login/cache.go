package login

import "sync"

// maxCached is how many mounts a cache has: as many as a keep may have of a kind.
const maxCached = 1000

// A Cache keeps what a login method has made of the records of each mount, for as
// long as the records stay the same: a value is valid at one version of them only, so
// a write forgets nothing. The version is read in the transaction that reads the
// records.
//
// The zero Cache is ready for use, by several goroutines at once.
type Cache[V comparable, T any] struct {
	mu     sync.Mutex
	values map[string]versioned[V, T] // by the UUID of the mount
}

type versioned[V comparable, T any] struct {
	version V
	value   T
}

// Get returns the value of a mount at a version, which it computes unless it is
// there. compute gets the value of another version, the zero T if there is none, of
// which it may take over what does not change with the version. All who ask for the
// same version at once get the same value, though several may compute it. An error is
// not kept.
func (c *Cache[V, T]) Get(uuid string, version V, compute func(old T) (T, error)) (T, error) {
	old, ok := c.find(uuid, version)
	if ok {
		return old, nil
	}
	value, err := compute(old)
	if err != nil {
		return value, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if is, ok := c.values[uuid]; ok && is.version == version { // another was quicker
		return is.value, nil
	}
	if c.values == nil || len(c.values) >= maxCached { // some may be of mounts that are gone
		c.values = make(map[string]versioned[V, T])
	}
	c.values[uuid] = versioned[V, T]{version, value}
	return value, nil
}

// Forget drops the value of a mount, so that nothing of it is taken over.
func (c *Cache[V, T]) Forget(uuid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.values, uuid)
}

// find returns the value of a mount, and reports whether it is of the version.
func (c *Cache[V, T]) find(uuid string, version V) (value T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	is, ok := c.values[uuid]
	return is.value, ok && is.version == version
}
