package transit

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Who uses a key is noted in memory, and written by Tidy, so that using a key writes
// nothing. What was noted since is lost when the keep stops or is sealed: some
// minutes, where days count.
const (
	usesNoted  = 1 << 14 // notes in memory at most
	usesKept   = 64      // tokens in the record of a key at most
	usesPause  = time.Minute
	usesBatch  = 100                 // records that one transaction writes
	recentUses = 30 * 24 * time.Hour // within which a use keeps a key from being deleted
)

// A user is a token that uses a key.
type user struct{ prefix, id, accessor string } // the mount's, the policy's, the token's

// A note is when a user has used the key last.
type note struct {
	name string       // the token's display name
	at   atomic.Int64 // Unix time
}

// uses are the notes of all mounts.
type uses struct {
	mu    sync.RWMutex
	notes map[user]*note
	saved map[string]time.Time // by prefix: when Tidy has last taken the notes
}

// note notes that a request has used a key. A user that is noted already costs one
// look-up.
func (u *uses) note(r *api.Request, k *key) {
	t := r.Caller.Token
	if t == nil || t.Accessor == "" {
		return
	}
	who, now := user{k.engine.prefix, k.ID, t.Accessor}, r.Now.Unix()
	u.mu.RLock()
	n := u.notes[who]
	u.mu.RUnlock()
	if n == nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		if n = u.notes[who]; n == nil {
			n = &note{name: t.DisplayName}
			u.put(who, n)
		}
	}
	if n.at.Load() < now {
		n.at.Store(now)
	}
}

// put adds a note, and drops any other where there are too many.
func (u *uses) put(who user, n *note) {
	if len(u.notes) >= usesNoted {
		for other := range u.notes {
			delete(u.notes, other)
			break
		}
	}
	if u.notes == nil {
		u.notes = make(map[user]*note)
	}
	u.notes[who] = n
}

// take removes the notes of a mount and returns them by the ID of the key, unless it
// did so within the last minute.
func (u *uses) take(prefix string, now time.Time) map[string]usage {
	u.mu.Lock()
	defer u.mu.Unlock()
	if last, ok := u.saved[prefix]; ok && now.Sub(last) < usesPause {
		return nil
	}
	if u.saved == nil {
		u.saved = make(map[string]time.Time)
	}
	u.saved[prefix] = now
	taken := make(map[string]usage)
	for who, n := range u.notes {
		if who.prefix == prefix {
			if taken[who.id] == nil {
				taken[who.id] = make(usage)
			}
			taken[who.id][who.accessor] = lastUse{n.name, n.at.Load()}
			delete(u.notes, who)
		}
	}
	return taken
}

// giveBack notes again what could not be written.
func (u *uses) giveBack(prefix, id string, of usage) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for accessor, is := range of {
		who := user{prefix, id, accessor}
		if u.notes[who] == nil {
			n := &note{name: is.Name}
			n.at.Store(is.At)
			u.put(who, n)
		}
	}
}

// of adds what is noted of a key to what was written.
func (u *uses) of(prefix, id string, to usage) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	for who, n := range u.notes {
		if who.prefix == prefix && who.id == id {
			to.add(who.accessor, lastUse{n.name, n.at.Load()})
		}
	}
}

// usage is the record of who has used a key, by the accessors of the tokens.
type usage map[string]lastUse

type lastUse struct {
	Name string `json:"name"` // the token's display name
	At   int64  `json:"at"`   // Unix time of the last use
}

func (u usage) add(accessor string, is lastUse) {
	if u[accessor].At < is.At {
		u[accessor] = is
	}
}

func (e engine) usePath(id string) string { return e.prefix + "/use/" + id }

// usage is who has used a key as far as it was written.
func (e engine) usage(tx *storage.Tx, id string) (usage, error) {
	u := make(usage)
	if _, err := get(tx, e.usePath(id), &u); err != nil {
		return nil, err
	}
	if u == nil { // the record is null
		u = make(usage)
	}
	return u, nil
}

// shorten lets go of the tokens that have used the key the longest time ago, those
// that have ended first.
func (u usage) shorten(tx *storage.Tx, now time.Time) error {
	if len(u) <= usesKept {
		return nil
	}
	lives := make(map[string]bool)
	for accessor := range u {
		ok, err := works(tx, accessor, now)
		if err != nil {
			return err
		}
		lives[accessor] = ok
	}
	order := slices.SortedFunc(maps.Keys(u), func(a, b string) int {
		if lives[a] != lives[b] {
			if lives[a] {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(u[a].At, u[b].At), strings.Compare(a, b))
	})
	for _, accessor := range order[:len(order)-usesKept] {
		delete(u, accessor)
	}
	return nil
}

// works reports whether the token of an accessor does.
func works(tx *storage.Tx, accessor string, now time.Time) (bool, error) {
	_, err := access.LookupAccessor(tx, accessor, now)
	if errors.Is(err, access.ErrDenied) {
		return false, nil
	}
	return err == nil, err
}

// saveUses writes what was noted.
func (e engine) saveUses(ctx context.Context, store *storage.Store, now time.Time) error {
	var u *uses
	err := store.View(ctx, func(tx *storage.Tx) error {
		u = &tx.Kept(memoryKey{}, newMemory).(*memory).uses
		return nil
	})
	if err != nil {
		return err
	}
	taken := u.take(e.prefix, now)
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(taken)), usesBatch) {
		if err == nil {
			err = store.Update(ctx, func(tx *storage.Tx) error {
				for _, id := range ids {
					is, err := e.usage(tx, id)
					if err != nil {
						return err
					}
					for accessor, use := range taken[id] {
						is.add(accessor, use)
					}
					if err := is.shorten(tx, now); err != nil {
						return err
					}
					if err := put(tx, e.usePath(id), is); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			for _, id := range ids {
				u.giveBack(e.prefix, id, taken[id])
			}
		}
	}
	return err
}

// A shownUse is a token that has used a key.
type shownUse struct {
	Accessor    string    `json:"accessor"`
	DisplayName string    `json:"display_name"`
	LastUse     time.Time `json:"last_use"`
	Works       bool      `json:"token_works"` // the token has not ended
}

// users are the tokens that have used a key, the last first.
func (e engine) users(r *api.Request, tx *storage.Tx, id string) ([]shownUse, error) {
	is, err := e.usage(tx, id)
	if err != nil {
		return nil, err
	}
	tx.Kept(memoryKey{}, newMemory).(*memory).uses.of(e.prefix, id, is)
	list := make([]shownUse, 0, len(is))
	for accessor, use := range is {
		ok, err := works(tx, accessor, r.Now)
		if err != nil {
			return nil, err
		}
		list = append(list, shownUse{accessor, use.Name, time.Unix(use.At, 0).UTC(), ok})
	}
	slices.SortFunc(list, func(a, b shownUse) int {
		return cmp.Or(b.LastUse.Compare(a.LastUse), strings.Compare(a.Accessor, b.Accessor))
	})
	return list, nil
}

type usesAnswer struct {
	Uses []shownUse `json:"uses"`
}

func readUses(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	e, name := of(r)
	p, err := e.policy(tx, name)
	if err == nil && p == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return api.Answer{}, err
	}
	list, err := e.users(r, tx, p.ID)
	return api.Answer{Data: usesAnswer{list}}, err
}

// others are the tokens that may still need a key: they work, have used it lately,
// and are not the one that asks.
func (e engine) others(r *api.Request, tx *storage.Tx, id string) ([]shownUse, error) {
	list, err := e.users(r, tx, id)
	return slices.DeleteFunc(list, func(u shownUse) bool {
		self := r.Caller.Token != nil && r.Caller.Token.Accessor == u.Accessor
		return self || !u.Works || r.Now.Sub(u.LastUse) > recentUses
	}), err
}

// errUsed says who still needs a key that is to be deleted.
func errUsed(name string, others []shownUse) error {
	u := others[0]
	return api.Invalid.Errorf("error deleting policy %s: it was used at %s by the token with the accessor %s (%s), which still works, and %d others: "+
		"soft-delete the key first (DELETE keys/%[1]s/soft-delete), which can be taken back, or revoke the tokens", name, u.LastUse.Format(time.RFC3339), u.Accessor, u.DisplayName, len(others)-1)
}
