package keep

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/recovery"
	"github.com/sealkeep/sealkeep/storage"
)

// People open a recovery slot with a single age identity, or with shares sent one
// at a time, which a gathering keeps until there are enough. Each purpose has its
// own gathering: the Keep has one for unsealing, and each Unsealed has one for
// drills, one for new shares, one for verifying them and one for a root token.
//
// Anybody may send shares to some of these, so refusals are limited: after
// refusedBurst of them, one a second is told why, and the others get 429. A
// correct share always counts, so nobody can keep people from opening their keep
// by sending nonsense. Guessing is hopeless: a share has 252 bits.
const (
	refusedBurst = 5
	maxIdentity  = 4 << 10 // bytes of text, about fifty identities
)

// An offer is a share or an identity that somebody sends.
type offer struct {
	Key      string `json:"key"`      // a share, in hex or base64
	Identity string `json:"identity"` // the text of an age identity file
	Nonce    string `json:"nonce"`
	Reset    bool   `json:"reset"`
}

// A gathering collects shares, separately for each set, so that a share of one
// set does not affect another. Its mutex is taken before all others; the mutex of
// rekey is taken before the one of rekey.verifying.
type gathering struct {
	mu   sync.Mutex // held while an offer is handled
	sets []*shareSet

	shown atomic.Pointer[progress] // nil: nothing yet
}

// A shareSet holds the shares of one lock that were given so far.
type shareSet struct {
	lock   []byte
	n, k   int
	shares *recovery.Collection
}

// progress is the visible state of a gathering: how many shares it has of the set
// that got the latest one.
type progress struct {
	nonce string // of this round
	have  int
	n, k  int // of that set; 0 while there is no share
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
	g.sets = nil
	g.shown.Store(nil)
}

// forgetLocked forgets the shares and keeps the nonce of the round.
func (g *gathering) forgetLocked() {
	nonce := g.progress().nonce
	g.resetLocked()
	if nonce != "" {
		g.shown.Store(&progress{nonce: nonce})
	}
}

// beginLocked forgets the shares and begins a round; the nonce names it.
func (g *gathering) beginLocked() string {
	g.resetLocked()
	nonce := storage.NewUUID()
	g.shown.Store(&progress{nonce: nonce})
	return nonce
}

// A proof is a slot that an offer opened, and how. While the store is sealed its
// slots cannot be trusted; the root key shows whether the slot is the store's own.
type proof struct {
	slot     storage.Slot
	identity string
	root     []byte
}

// forget clears the root keys of proofs.
func forget(proofs []proof) {
	for _, p := range proofs {
		clear(p.root)
	}
}

// giveLocked takes one offer for the slots of a store. It returns no proofs until
// there are enough shares. The caller checks the proofs, forgets them and ends the
// round.
func (k *Keep) giveLocked(g *gathering, in offer, slots []storage.Slot, uuid string) ([]proof, error) {
	proofs, result, err := g.takeLocked(in, slots, uuid)
	k.metrics.shares.WithLabelValues(result).Inc()
	if err == nil {
		return proofs, nil
	}
	if !k.refusals.Allow() {
		return nil, errTooMany
	}
	k.log.Warn("a recovery share or identity was refused", "result", result, "error", err)
	return nil, err
}

// Results of an offer, for the metric.
const (
	resultAccepted  = "accepted"
	resultMalformed = "malformed"
	resultOtherSet  = "other_set"
	resultWrong     = "wrong"
	resultRepeated  = "repeated"
	resultNoSlot    = "no_slot"
	resultDamaged   = "damaged"
)

var errTooMany = &api.Error{Code: api.Busy, Text: "too many recovery shares were refused: try again in a second"}

func (g *gathering) takeLocked(in offer, slots []storage.Slot, uuid string) (proofs []proof, result string, err error) {
	var shares, ages []storage.Slot
	for _, slot := range slots {
		switch {
		case !isRecovery(slot):
		case slot.Type == recovery.Shares:
			shares = append(shares, slot)
		default:
			ages = append(ages, slot)
		}
	}
	switch {
	case in.Identity != "" && in.Key != "":
		return nil, resultMalformed, invalid("send one share as key, or an age identity as identity, not both")
	case len(in.Identity) > maxIdentity:
		return nil, resultMalformed, invalid("the identity has more than %d bytes: send the line with AGE-SECRET-KEY- alone", maxIdentity)
	case shares == nil && ages == nil:
		return nil, resultNoSlot, invalid("this store has no recovery slot: only the configured seals open it; send no key to try them at once")
	case ages == nil && in.Identity != "":
		return nil, resultNoSlot, invalid("this store has no recovery slot for age identities: give recovery shares, one at a time")
	case shares == nil && in.Identity == "":
		return nil, resultNoSlot, invalid("this store has no recovery shares: give the age identity of a recipient, as identity")
	case in.Identity != "":
		return takeIdentity(in.Identity, ages, uuid)
	}
	return g.addLocked(in.Key, shares, uuid)
}

// takeIdentity tries each identity of a text on each slot.
func takeIdentity(text string, slots []storage.Slot, uuid string) (proofs []proof, result string, err error) {
	var to []string
	for _, slot := range slots {
		_, failed := recovery.Unwrap(text, slot.Blob, slot.Context(uuid))
		switch {
		case errors.Is(failed, recovery.ErrOtherIdentity):
			to = append(to, slot.KeyID)
			continue
		case errors.Is(failed, recovery.ErrIdentity):
			return nil, resultMalformed, invalid("%v", failed)
		case failed != nil:
			err = invalid("recovery slot %q does not open: %v; use a backup of the store", slot.Name, failed)
			continue
		}
		for line := range strings.Lines(text) { // find the identity that opened it
			if root, failed := recovery.Unwrap(line, slot.Blob, slot.Context(uuid)); failed == nil {
				proofs = append(proofs, proof{slot, line, root})
			}
		}
	}
	switch {
	case proofs != nil:
		return proofs, resultAccepted, nil
	case err != nil:
		return nil, resultDamaged, err
	}
	return nil, resultWrong, invalid("%v of this keep: use that of one of %s", recovery.ErrOtherIdentity, strings.Join(to, "; or of "))
}

// addLocked takes one share. With the last share needed it opens the slots of
// that lock.
func (g *gathering) addLocked(text string, slots []storage.Slot, uuid string) (proofs []proof, result string, err error) {
	share, err := recovery.ParseShare(text)
	if err != nil {
		return nil, resultMalformed, invalid("%v; type it again", err)
	}
	if err := g.matchLocked(slots); err != nil {
		return nil, resultDamaged, err
	}
	// A forged lock in the file may claim any set: it must not keep a share from
	// the set it belongs to.
	var to *shareSet
	result, err = resultOtherSet, errOtherSet(g.sets)
	for _, set := range g.sets {
		have, failed := set.shares.Add(share)
		switch {
		case failed == nil:
			to, result, err = set, resultAccepted, nil
			p := g.progress()
			if p.nonce == "" {
				p.nonce = storage.NewUUID()
			}
			p.have, p.n, p.k = have, set.n, set.k
			g.shown.Store(&p)
			if have >= set.k {
				opened, failed := set.open(slots, uuid)
				if proofs = append(proofs, opened...); failed != nil && proofs == nil {
					result, err = resultDamaged, failed
				}
			}
		case to != nil || errors.Is(failed, recovery.ErrOtherSet):
		case errors.Is(failed, recovery.ErrRepeated):
			result, err = resultRepeated, invalid("%v; %d of %d are there", failed, have, set.k)
		case errors.Is(failed, recovery.ErrWrongShare):
			result, err = resultWrong, invalid("%v; the %d given before still count", failed, have)
		default:
			result, err = resultMalformed, invalid("%v", failed)
		}
	}
	switch {
	case proofs != nil:
		return proofs, resultAccepted, nil
	case result == resultDamaged:
		g.forgetLocked()
	}
	return nil, result, err
}

func errOtherSet(sets []*shareSet) error {
	var wanted []string
	for _, set := range sets {
		id, _ := recovery.SetID(set.lock) // the lock was decoded before
		wanted = append(wanted, fmt.Sprintf("the %d shares of set %s", set.n, id))
	}
	return invalid("%v: look for %s", recovery.ErrOtherSet, strings.Join(wanted, ", or "))
}

// matchLocked makes a set for each lock of the slots and forgets the sets whose
// lock is gone. It returns an error if no lock can be used.
func (g *gathering) matchLocked(slots []storage.Slot) (err error) {
	var sets []*shareSet
	for _, slot := range slots {
		same := func(set *shareSet) bool { return bytes.Equal(set.lock, slot.Lock) }
		if slices.ContainsFunc(sets, same) {
			continue
		}
		if i := slices.IndexFunc(g.sets, same); i >= 0 {
			sets = append(sets, g.sets[i])
			continue
		}
		_, n, k, failed := recovery.Recipients(slot.Lock)
		var c *recovery.Collection
		if failed == nil {
			c, failed = recovery.NewCollection(slot.Lock)
		}
		if failed != nil {
			err = invalid("recovery slot %q: %v; use a backup of the store", slot.Name, failed)
			continue
		}
		sets = append(sets, &shareSet{slot.Lock, n, k, c})
	}
	if g.sets = sets; sets != nil {
		err = nil
	}
	return err
}

// open opens the slots with the set's lock.
func (set *shareSet) open(slots []storage.Slot, uuid string) (proofs []proof, err error) {
	identity, err := set.shares.Identity()
	if err != nil {
		return nil, invalid("the recovery shares: %v; use a backup of the store", err)
	}
	for _, slot := range slots {
		if !bytes.Equal(slot.Lock, set.lock) {
			continue
		}
		root, failed := recovery.Unwrap(identity, slot.Blob, slot.Context(uuid))
		if failed != nil {
			err = invalid("recovery slot %q does not open: %v; use a backup of the store", slot.Name, failed)
			continue
		}
		proofs = append(proofs, proof{slot, identity, root})
	}
	return proofs, err
}

// openByPeople takes a share or an identity for a sealed keep, and opens the keep
// if no more are needed. It does nothing if the keep is open.
func (k *Keep) openByPeople(in offer) (warnings []string, err error) {
	g := &k.unsealing
	g.mu.Lock()
	defer g.mu.Unlock()
	k.mu.Lock()
	store := k.store
	k.mu.Unlock()
	switch {
	case k.damage != nil:
		return nil, api.ErrSealed
	case store == nil:
		return nil, ErrNotInitialized
	case k.unsealed.Load() != nil:
		return nil, nil
	}
	slots, err := store.Slots()
	if err != nil {
		return nil, fmt.Errorf("reading the slots: %w", err)
	}
	proofs, err := k.giveLocked(g, in, slots, store.UUID())
	if err != nil || proofs == nil {
		return nil, err
	}
	defer forget(proofs)
	g.resetLocked()
	for _, p := range proofs {
		err = k.open(k.ctx, &slot{SlotStatus: SlotStatus{Name: p.slot.Name, Type: p.slot.Type}}, p.root)
		if !errors.Is(err, storage.ErrRootKey) {
			break
		}
	}
	if errors.Is(err, storage.ErrRootKey) {
		return nil, invalid("recovery slot %q opened, but what it holds is not the root key of this store: the file was changed; use a backup", proofs[0].slot.Name)
	}
	u := k.unsealed.Load()
	if err != nil || u == nil {
		return nil, err
	}
	var by *proven
	good, err := u.holding(proofs)
	if err == nil && good != nil {
		by, err = k.settle(u, good, true)
	}
	if err != nil {
		k.log.Error("the keep is open; noting that people opened it failed", "error", err, "next", "sealkeep operator recovery verify")
	} else if by != nil {
		warnings = by.warnings()
	}
	u.wakeVisits() // the seals may work again: give them their slots
	return warnings, nil
}

// proveLocked takes a share or an identity of an open keep. Once there are enough,
// it opens the slots as stored, compares the root key and returns the slot; until
// then it returns nil. New shares or identities that open their slot replace the
// old ones; see settle.
func (k *Keep) proveLocked(u *Unsealed, g *gathering, in offer, drill bool) (*proven, error) {
	slots, _, err := u.Store.TrustedSlots()
	if err != nil {
		return nil, fmt.Errorf("reading the slots: %w", err)
	}
	return k.proveOneLocked(u, g, in, slots, drill)
}

// proveOneLocked is proveLocked for some of the slots.
func (k *Keep) proveOneLocked(u *Unsealed, g *gathering, in offer, slots []storage.Slot, drill bool) (*proven, error) {
	proofs, err := k.proofsLocked(u, g, in, slots)
	if err != nil || proofs == nil {
		return nil, err
	}
	defer forget(proofs)
	by, err := k.settle(u, proofs, drill)
	if err != nil {
		g.forgetLocked()
	}
	return by, err
}

// proofsLocked takes a share or an identity of an open keep. It returns proofs for
// those of the given slots that it opens and that hold the root key in use, and none
// until there are enough shares. It changes nothing. The caller forgets the proofs.
func (k *Keep) proofsLocked(u *Unsealed, g *gathering, in offer, slots []storage.Slot) ([]proof, error) {
	if in.Key == "" && in.Identity == "" {
		return nil, invalid("send a recovery share as key, or an age identity as identity")
	}
	all, err := k.giveLocked(g, in, slots, u.Store.UUID())
	if err != nil || all == nil {
		return nil, err
	}
	proofs, err := u.holding(all)
	if err == nil && proofs == nil {
		err = fmt.Errorf("slot %q: %w", all[0].slot.Name, errOtherRoot)
	}
	if err != nil {
		forget(all)
		g.forgetLocked()
	}
	return proofs, err
}

// holding returns the proofs whose slot holds the root key in use and forgets the
// others.
func (u *Unsealed) holding(all []proof) (proofs []proof, err error) {
	root, _, err := u.Store.RootKey()
	if err != nil {
		return nil, err
	}
	defer clear(root)
	for _, p := range all {
		if subtle.ConstantTimeCompare(p.root, root) == 1 {
			proofs = append(proofs, p)
		} else {
			clear(p.root)
		}
	}
	return proofs, nil
}

// A proven slot is one that people have opened.
type proven struct {
	storage.Slot
	since time.Time // since when both it and the old slot were open, if it has replaced that one; else zero
}

// warnings explains the consequences of the old slot's end.
func (p *proven) warnings() []string {
	if p.since.IsZero() {
		return nil
	}
	old := "the old shares"
	if p.Type == recovery.Age {
		old = "the old identities"
	}
	return []string{
		fmt.Sprintf("%s have ended for this file; backups and other copies from before %s still need them: keep them as long as such a copy (`sealkeep operator backup inspect` shows what it opens with)",
			old, p.since.UTC().Format(time.RFC3339)),
		fmt.Sprintf("the root key is the one of before: whoever has %s and an older copy of the file has the key to today's file; `sealkeep operator rotate-root`, and then `sealkeep operator storage compact`, end that", old),
	}
}

// settle acts on slots of an open keep that people opened and that hold the root
// key in use: new slots replace old ones, and a drill is recorded. It returns the
// slot that was opened. It waits for other changes of slots.
func (k *Keep) settle(u *Unsealed, proofs []proof, drill bool) (by *proven, err error) {
	var opened []storage.Slot
	for _, p := range proofs {
		slot := p.slot
		if isNew(slot) {
			done, next, err := k.promote(u, p)
			if err != nil {
				return nil, err
			}
			if slot = next; done {
				by = &proven{Slot: next, since: p.slot.Since}
			}
		}
		opened = append(opened, slot)
	}
	promoted := by != nil
	if !promoted {
		by = &proven{Slot: opened[0]}
	}
	if !drill && !promoted {
		return by, nil
	}
	err = u.noteDrill(u.ctx, k.now(), opened...)
	k.rearrange()
	if err != nil && promoted { // the date matters less
		k.log.Error("noting that a recovery slot opened failed", "slot", by.Name, "error", err)
		err = nil
	}
	return by, err
}

// required returns the number of shares and how many of them are needed: those of
// the lock if there are recovery shares, else 1 for an identity, else 0. Of two
// sets the old one counts.
func (u *Unsealed) required() (n, t int, err error) {
	slots, _, err := u.Store.TrustedSlots()
	if err != nil {
		return 0, 0, fmt.Errorf("reading the slots: %w", err)
	}
	for _, name := range []string{sharesSlot, newSharesName} {
		if slot := recoverySlot(slots, name); slot != nil {
			_, n, t, err := recovery.Recipients(slot.Lock)
			return n, t, err
		}
	}
	if recoverySlot(slots, ageSlot) != nil || recoverySlot(slots, newAgeName) != nil {
		return 0, 1, nil
	}
	return 0, 0, nil
}
