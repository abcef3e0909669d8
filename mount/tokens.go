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

// useTimeout is how long taking one use of a token may take.
const useTimeout = 30 * time.Second

// cacheSize is how many tokens each half of the cache holds: some 20 MB in all.
const cacheSize = 16 << 10

// A tokenCache holds tokens that have been looked up since the keep was
// unsealed, in two halves: when the younger is full it becomes the elder, whose
// tokens are forgotten. Tokens are found by the keyed hash that the store has
// them under, so that neither the memory nor the time of a look-up gives one
// away.
//
// What is in the cache is true until forget says otherwise. A look-up that began
// before that is not added.
type tokenCache struct {
	key atomic.Pointer[access.Key]

	mu         sync.Mutex
	forgotten  uint64 // how often forget was called
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

// put adds a token, unless something was forgotten since get.
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

// forget drops a token, or, when others hang on it, all. It is called after
// every change of a token, whatever its outcome, before anybody is told of it.
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

// Lookup finds a token that works, in memory if it was looked up before; else
// the error is [access.ErrDenied].
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
	if !t.Limited() { // whose every use changes it
		l.tokens.put(id, t, forgotten)
	}
	return t, nil
}

// Use is lookup for the bearer of a request from an address: of a token that may
// be used a number of times it takes one, if it counts, which is on the disk when
// Use returns.
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

// LookupAccessor finds a token that works by its accessor.
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

// ChangeToken runs fn over one token in an Update and forgets what it changed.
// fn returns whether others hang on the token.
func (l *Live) ChangeToken(ctx context.Context, id access.ID, fn func(tx *storage.Tx, now time.Time) (tree bool, err error)) error {
	tree := true // until it is known
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
