package mount

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/storage"
)

// Limits of the parsed policies in memory and, separately, of the compiled sets of
// them. Tokens with the same policies share a set.
const (
	maxACLs     = 4096
	maxACLBytes = 32 << 20
)

// A policyCache holds each policy parsed once and each set of policies compiled once.
// A change of a policy replaces the generation; what a reader still adds to the old one
// is lost with it.
type policyCache struct {
	current atomic.Pointer[policyGeneration]
}

type policyGeneration struct {
	mu       sync.RWMutex
	policies sizedCache[*access.Policy]
	acls     sizedCache[*access.ACL] // by the names of the policies
}

// A sizedCache holds up to maxACLs values of maxACLBytes in total, or a single larger
// one.
type sizedCache[T any] struct {
	values map[string]sizedValue[T]
	bytes  int
}

type sizedValue[T any] struct {
	value T
	size  int
}

func (c *sizedCache[T]) put(key string, value T, size int) {
	size += 128 + len(key)
	if c.values == nil {
		c.values = make(map[string]sizedValue[T])
	}
	c.drop(key)
	for old := range c.values { // in random order
		if len(c.values) < maxACLs && c.bytes+size <= maxACLBytes {
			break
		}
		c.drop(old)
	}
	c.values[key] = sizedValue[T]{value, size}
	c.bytes += size
}

func (c *sizedCache[T]) drop(key string) {
	c.bytes -= c.values[key].size
	delete(c.values, key)
}

// load returns the current generation.
func (c *policyCache) load() *policyGeneration {
	if g := c.current.Load(); g != nil {
		return g
	}
	c.current.CompareAndSwap(nil, new(policyGeneration))
	return c.current.Load()
}

// forget drops the cache. It is called after every change of a policy, whatever its
// outcome, before the change is acknowledged.
func (c *policyCache) forget() { c.current.Store(new(policyGeneration)) }

// ACL returns what a token's policies allow. A nil token may do nothing; names without
// a policy allow nothing.
func (l *Live) ACL(ctx context.Context, t *access.Token) (*access.ACL, error) {
	if t == nil || len(t.Policies) == 0 {
		return new(access.ACL), nil
	}
	var buf [256]byte
	key := buf[:0] // unambiguous for any names, since each is preceded by its length
	for _, name := range t.Policies {
		key = append(append(strconv.AppendInt(key, int64(len(name)), 10), ':'), name...)
	}
	g := l.policies.load()
	g.mu.RLock()
	acl := g.acls.values[string(key)].value
	g.mu.RUnlock()
	if acl != nil {
		return acl, nil
	}
	policies, err := l.readPolicies(ctx, g, t.Policies)
	if err != nil {
		return nil, err
	}
	acl = access.NewACL(policies)
	size := acl.Size()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.acls.put(string(key), acl, size)
	return acl, nil
}

// readPolicies returns those of the named policies that exist.
func (l *Live) readPolicies(ctx context.Context, g *policyGeneration, names []string) (policies []*access.Policy, err error) {
	var read []*access.Policy
	err = l.Store.View(ctx, func(tx *storage.Tx) error {
		for _, name := range names {
			g.mu.RLock()
			p := g.policies.values[name].value
			g.mu.RUnlock()
			if p == nil {
				if p, err = access.GetPolicy(tx, name); err != nil {
					return err
				}
				if p == nil {
					continue
				}
				read = append(read, p)
			}
			policies = append(policies, p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range read {
		g.policies.put(p.Name, p, p.Size())
	}
	return policies, nil
}

// ChangePolicies runs fn, which changes policies, in an Update.
func (l *Live) ChangePolicies(ctx context.Context, fn func(*storage.Tx) error) error {
	defer l.policies.forget()
	return l.Store.Update(ctx, fn)
}
