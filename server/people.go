package server

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/sealkeep/sealkeep/recovery"
	"github.com/sealkeep/sealkeep/storage"
)

// People open a recovery slot with an age identity at once, or with shares one
// at a time, which a gathering keeps until there are enough. There is one for
// each purpose: to unseal (the server's), and while unsealed to show that it
// works, to make new shares and to make a root token (the keep's, which end with
// it).
//
// Where anybody may send shares, what is refused is limited: after refusedBurst
// one a second is told why, the others get 429. A share that is right always
// counts, so that nobody can keep people from opening their keep by sending
// nonsense. Guessing is no danger: a share has 252 bits.
const (
	refusedBurst = 5
	maxIdentity  = 4 << 10 // bytes of text, at most some fifty identities
)

// An offer is what people send.
type offer struct {
	Key      string `json:"key"`      // a share, in hex or base64
	Identity string `json:"identity"` // the text of an age identity file
	Nonce    string `json:"nonce"`
	Reset    bool   `json:"reset"`
}

// A gathering collects shares. Its mutex is taken before all others.
type gathering struct {
	mu     sync.Mutex // held while an offer is dealt with
	slot   storage.Slot
	shares *recovery.Collection

	shown atomic.Pointer[progress] // nil: nothing yet
}

// progress is what is shown of a gathering.
type progress struct {
	nonce string // of this round
	have  int
}

func (g *gathering) progress() progress {
	if p := g.shown.Load(); p != nil {
		return *p
	}
	return progress{}
}

// reset forgets the shares.
func (g *gathering) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.resetLocked()
}

func (g *gathering) resetLocked() {
	g.shares = nil
	g.shown.Store(nil)
}

// beginLocked forgets the shares and begins a round; the nonce names it.
func (g *gathering) beginLocked() string {
	g.resetLocked()
	nonce := storage.NewUUID()
	g.shown.Store(&progress{nonce: nonce})
	return nonce
}

// giveLocked takes one offer for the slots of a store. The root key that it
// returns, with the slot that it is from, is nil until there are enough shares.
// The caller checks it, clears it, and ends the round.
func (s *Server) giveLocked(g *gathering, in offer, slots []storage.Slot, uuid string) (root []byte, by storage.Slot, err error) {
	root, by, result, err := g.takeLocked(in, slots, uuid)
	s.metrics.shares.WithLabelValues(result).Inc()
	if err == nil {
		return root, by, nil
	}
	if !s.refusals.Allow() {
		return nil, by, errTooMany
	}
	s.log.Warn("a recovery share or identity was refused", "result", result, "error", err)
	return nil, by, err
}

// The results of an offer, for the metric.
const (
	resultAccepted  = "accepted"
	resultMalformed = "malformed"
	resultOtherSet  = "other_set"
	resultWrong     = "wrong"
	resultRepeated  = "repeated"
	resultNoSlot    = "no_slot"
	resultDamaged   = "damaged"
)

var errTooMany = &requestError{http.StatusTooManyRequests, "too many recovery shares were refused: try again in a second"}

func (g *gathering) takeLocked(in offer, slots []storage.Slot, uuid string) (root []byte, by storage.Slot, result string, err error) {
	name, other := sharesSlot, ageSlot
	if in.Identity != "" {
		name, other = other, name
	}
	slot := recoverySlot(slots, name)
	switch {
	case in.Identity != "" && in.Key != "":
		return nil, by, resultMalformed, invalid("send one share as key, or an age identity as identity, not both")
	case len(in.Identity) > maxIdentity:
		return nil, by, resultMalformed, invalid("the identity has more than %d bytes: send the line with AGE-SECRET-KEY- alone", maxIdentity)
	case slot == nil && recoverySlot(slots, other) == nil:
		return nil, by, resultNoSlot, invalid("this store has no recovery slot: only the configured seals open it; send no key to try them at once")
	case slot == nil && in.Identity != "":
		return nil, by, resultNoSlot, invalid("this store has no recovery slot for age identities: give recovery shares, one at a time")
	case slot == nil:
		return nil, by, resultNoSlot, invalid("this store has no recovery shares: give the age identity of a recipient, as identity")
	}
	identity := in.Identity
	if identity == "" {
		if identity, result, err = g.addLocked(in.Key, *slot); err != nil || identity == "" {
			return nil, *slot, result, err
		}
	}
	root, err = recovery.Unwrap(identity, slot.Blob, slot.Context(uuid))
	switch {
	case errors.Is(err, recovery.ErrOtherIdentity):
		return nil, *slot, resultWrong, invalid("%v of this keep: use that of one of %s", err, slot.KeyID)
	case errors.Is(err, recovery.ErrIdentity):
		return nil, *slot, resultMalformed, invalid("%v", err)
	case err != nil:
		return nil, *slot, resultDamaged, invalid("recovery slot %q does not open: %v; use a backup of the store", slot.Name, err)
	}
	return root, *slot, resultAccepted, nil
}

// addLocked takes one share; with the last one that is needed it returns the
// identity.
func (g *gathering) addLocked(text string, slot storage.Slot) (identity, result string, err error) {
	share, err := recovery.ParseShare(text)
	if err != nil {
		return "", resultMalformed, invalid("%v; type it again", err)
	}
	if g.shares == nil || !bytes.Equal(g.slot.Lock, slot.Lock) { // none yet, or for a lock that is not there any more
		c, err := recovery.NewCollection(slot.Lock)
		if err != nil {
			return "", resultDamaged, invalid("recovery slot %q: %v; use a backup of the store", slot.Name, err)
		}
		g.slot, g.shares = slot, c
	}
	_, n, k, err := recovery.Recipients(slot.Lock)
	if err != nil {
		return "", resultDamaged, invalid("recovery slot %q: %v; use a backup of the store", slot.Name, err)
	}
	have, err := g.shares.Add(share)
	switch {
	case errors.Is(err, recovery.ErrOtherSet):
		return "", resultOtherSet, invalid("%v: look for the %d shares that were handed out last for this store", err, n)
	case errors.Is(err, recovery.ErrRepeated):
		return "", resultRepeated, invalid("%v; %d of %d are there", err, have, k)
	case errors.Is(err, recovery.ErrWrongShare):
		return "", resultWrong, invalid("%v; the %d that are there still count", err, have)
	case err != nil:
		return "", resultMalformed, invalid("%v", err)
	}
	p := g.progress()
	if p.nonce == "" {
		p.nonce = storage.NewUUID()
	}
	p.have = have
	g.shown.Store(&p)
	if have < k {
		return "", resultAccepted, nil
	}
	if identity, err = g.shares.Identity(); err != nil {
		g.resetLocked()
		return "", resultDamaged, invalid("recovery slot %q: %v; use a backup of the store", slot.Name, err)
	}
	return identity, resultAccepted, nil
}

// openByPeople takes a share or an identity for a sealed keep, and opens it when
// that was the last one needed. An open keep it leaves alone.
func (s *Server) openByPeople(in offer) error {
	g := &s.unsealing
	g.mu.Lock()
	defer g.mu.Unlock()
	s.mu.Lock()
	store := s.store
	s.mu.Unlock()
	switch {
	case s.damage != nil:
		return errSealed
	case store == nil:
		return ErrNotInitialized
	case s.keep.Load() != nil:
		return nil
	}
	slots, err := store.Slots()
	if err != nil {
		return fmt.Errorf("reading the slots: %w", err)
	}
	root, by, err := s.giveLocked(g, in, slots, store.UUID())
	if err != nil || root == nil {
		return err
	}
	defer clear(root)
	g.resetLocked()
	err = s.open(s.ctx, &slot{SlotStatus: SlotStatus{Name: by.Name, Type: by.Type}}, root)
	if errors.Is(err, storage.ErrRootKey) {
		return invalid("recovery slot %q opened, but what it holds is not the root key of this store: the file was changed; use a backup", by.Name)
	}
	if k := s.keep.Load(); err == nil && k != nil {
		k.wakeVisits() // the seals may have been mended, and are wanted
		// As good as a drill.
		if slot, err := k.recoverySlot(by.Name); err == nil && slot != nil && slot.KeyID == by.KeyID {
			if err := k.noteDrill(k.ctx, *slot, s.now()); err != nil {
				s.log.Error("noting that a recovery slot opened failed", "slot", by.Name, "error", err)
			}
			s.rearrange()
		}
	}
	return err
}

// proveLocked takes a share or an identity of an open keep. When that was the
// last one needed it opens a slot as it stands in the file and compares the root
// key: the slot is nil until then.
func (s *Server) proveLocked(k *keep, g *gathering, in offer) (*storage.Slot, error) {
	if in.Key == "" && in.Identity == "" {
		return nil, invalid("send a recovery share as key, or an age identity as identity")
	}
	slots, _, err := k.store.TrustedSlots()
	if err != nil {
		return nil, fmt.Errorf("reading the slots: %w", err)
	}
	return s.proveSlotsLocked(k, g, in, slots)
}

// proveSlotsLocked is proveLocked for some of the slots.
func (s *Server) proveSlotsLocked(k *keep, g *gathering, in offer, slots []storage.Slot) (*storage.Slot, error) {
	root, by, err := s.giveLocked(g, in, slots, k.store.UUID())
	if err != nil || root == nil {
		return nil, err
	}
	defer clear(root)
	used, _, err := k.store.RootKey()
	if err != nil {
		return nil, err
	}
	defer clear(used)
	if subtle.ConstantTimeCompare(root, used) != 1 {
		g.resetLocked()
		return nil, fmt.Errorf("slot %q: %w", by.Name, errOtherRoot)
	}
	return &by, nil
}

// required is how many shares a purpose needs: those of the shares' lock, else
// one identity, else nothing can be asked for and it is 0.
func (k *keep) required() (n, t int, err error) {
	slots, _, err := k.store.TrustedSlots()
	if err != nil {
		return 0, 0, fmt.Errorf("reading the slots: %w", err)
	}
	if slot := recoverySlot(slots, sharesSlot); slot != nil {
		_, n, t, err := recovery.Recipients(slot.Lock)
		return n, t, err
	}
	if recoverySlot(slots, ageSlot) != nil {
		return 0, 1, nil
	}
	return 0, 0, nil
}
