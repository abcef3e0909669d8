package mount

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/storage"
)

// useTimeout limits how long taking one use of a token may take.
const useTimeout = 30 * time.Second

// cacheSize is how many tokens each half of the cache holds, about 20 MB in total.
const cacheSize = 16 << 10

// A tokenCache holds tokens that were looked up since the keep was unsealed, in two
// halves: when the younger half is full it replaces the elder one, whose tokens are
// forgotten. Tokens are found by the keyed hash that names their records, so that
// neither the memory nor the time of a look-up reveals one.
//
// A cached token is valid until forget drops it. A look-up that began before a forget
// is not added.
type tokenCache struct {
	key atomic.Pointer[access.Key]

	mu         sync.Mutex
	forgotten  uint64 // number of calls of forget
	young, old map[access.ID]*access.Token
}

func (c *tokenCache) get(id access.ID) (t *access.Token, forgotten uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t = c.young[id]; t == nil {
		if t = c.old[id]; t != nil {
			c.putLocked(id, t)
		}
	}
	return t, c.forgotten
}

// put adds a token, unless forget was called since get.
func (c *tokenCache) put(id access.ID, t *access.Token, forgotten uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.forgotten == forgotten {
		c.putLocked(id, t)
	}
}

func (c *tokenCache) putLocked(id access.ID, t *access.Token) {
	if c.young == nil || len(c.young) >= cacheSize {
		c.old, c.young = c.young, make(map[access.ID]*access.Token)
	}
	c.young[id] = t
}

// forget drops one token or, if others descend from it, all. It is called after every
// change of a token, whatever its outcome, before the change is acknowledged.
func (c *tokenCache) forget(id access.ID, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten++
	if all {
		c.young, c.old = nil, nil
		return
	}
	delete(c.young, id)
	delete(c.old, id)
}

// TokenID returns the name of a token's record.
func (l *Live) TokenID(ctx context.Context, secret string) (access.ID, error) {
	key := l.tokens.key.Load()
	if key == nil {
		var read access.Key
		err := l.Store.View(ctx, func(tx *storage.Tx) (err error) {
			read, err = access.ReadKey(tx)
			return err
		})
		if err != nil {
			return access.ID{}, err
		}
		if key = &read; read != nil {
			l.tokens.key.Store(key)
		}
	}
	return key.ID(secret)
}

// Lookup finds a working token, in memory if it was looked up before. The error is
// [access.ErrDenied] if the token does not work.
func (l *Live) Lookup(ctx context.Context, secret string) (*access.Token, error) {
	id, err := l.TokenID(ctx, secret)
	if err != nil {
		return nil, err
	}
	now := l.now()
	t, forgotten := l.tokens.get(id)
	if t != nil && t.Alive(now) {
		return t, nil
	}
	err = l.Store.View(ctx, func(tx *storage.Tx) (err error) {
		t, err = access.Lookup(tx, id, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !t.Limited() { // every use changes a limited token
		l.tokens.put(id, t, forgotten)
	}
	return t, nil
}

// Use is Lookup for a request from an address. If the request counts and the token has
// a limited number of uses, Use takes one, which is on the disk when it returns.
func (l *Live) Use(ctx context.Context, secret string, from netip.Addr, counts bool) (*access.Token, error) {
	t, err := l.Lookup(ctx, secret)
	if err != nil {
		return nil, err
	}
	if !access.Within(t.BoundCIDRs, from) {
		return nil, access.ErrDenied
	}
	if !t.Limited() || !counts {
		return t, nil
	}
	ctx, cancel := context.WithTimeout(ctx, useTimeout)
	defer cancel()
	id, now := t.ID(), l.now()
	err = l.Store.Update(ctx, func(tx *storage.Tx) (err error) {
		t, err = access.Use(tx, id, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// LookupAccessor finds a working token by its accessor.
func (l *Live) LookupAccessor(ctx context.Context, accessor string) (t *access.Token, err error) {
	now := l.now()
	err = l.Store.View(ctx, func(tx *storage.Tx) (err error) {
		t, err = access.LookupAccessor(tx, accessor, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// ChangeToken runs fn over one token in an Update and drops what it changed from the
// cache. fn returns whether other tokens are affected, too.
func (l *Live) ChangeToken(ctx context.Context, id access.ID, fn func(tx *storage.Tx, now time.Time) (tree bool, err error)) error {
	tree := true // until fn says otherwise
	now := l.now()
	err := l.Store.Update(ctx, func(tx *storage.Tx) (err error) {
		tree, err = fn(tx, now)
		return err
	})
	l.tokens.forget(id, tree || err != nil)
	if err == nil && tree {
		l.WakeSweep()
	}
	return err
}
