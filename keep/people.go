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

// A gathering collects shares: those of each set apart, so that a share of one
// set changes nothing about the other. Its mutex is taken before all others; that
// of keep.rekey comes before that of keep.rekey.verifying.
type gathering struct {
	mu   sync.Mutex // held while an offer is dealt with
	sets []*shareSet

	shown atomic.Pointer[progress] // nil: nothing yet
}

// A shareSet is what has been given of the shares of one lock.
type shareSet struct {
	lock   []byte
	n, k   int
	shares *recovery.Collection
}

// progress is what is shown of a gathering: how far the set is that a share was
// last given of.
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

// forgetLocked forgets the shares; the round goes on.
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

// A proof is a slot that an offer has opened, and how. Of a sealed store nobody
// vouches for the slot: the root key shows whether it is the store's own.
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
// there are enough shares. The caller checks and forgets them, and ends the round.
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
		for line := range strings.Lines(text) { // which of them it was
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

// addLocked takes one share. With the last one that is needed it opens the slots
// of that lock.
func (g *gathering) addLocked(text string, slots []storage.Slot, uuid string) (proofs []proof, result string, err error) {
	share, err := recovery.ParseShare(text)
	if err != nil {
		return nil, resultMalformed, invalid("%v; type it again", err)
	}
	if err := g.matchLocked(slots); err != nil {
		return nil, resultDamaged, err
	}
	// A lock of the file's that is not the store's own may claim any set: it must
	// not keep a share from its true one.
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
			result, err = resultWrong, invalid("%v; the %d that are there still count", failed, have)
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
		id, _ := recovery.SetID(set.lock) // the lock has been decoded before
		wanted = append(wanted, fmt.Sprintf("the %d shares of set %s", set.n, id))
	}
	return invalid("%v: look for %s", recovery.ErrOtherSet, strings.Join(wanted, ", or "))
}

// matchLocked makes a set for each lock of the slots, and forgets those that are
// there no more. The error is that no lock can be used.
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

// open opens the slots that have the lock of the set.
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

// openByPeople takes a share or an identity for a sealed keep, and opens it when
// that was the last one needed. An open keep it leaves alone.
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
	u.wakeVisits() // the seals may have been mended, and are wanted
	return warnings, nil
}

// proveLocked takes a share or an identity of an open keep. When that was the
// last one needed it opens the slots as they stand in the file and compares the
// root key: the slot that it returns is nil until then. New shares, or a new
// identity, that open take the place of the old ones; see settle.
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

// proofsLocked takes a share or an identity of an open keep. It returns the slots,
// of these, that it opens and that hold the root key in use, none until there are
// enough shares, and changes nothing. The caller forgets them.
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

// holding are the proofs that hold the root key in use; the others it forgets.
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
	since time.Time // it was open beside the old one since then, and has taken its place; zero: nothing has changed
}

// warnings say what the end of the old slot means.
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

// settle acts on what people have opened, of a keep that is open and has that root
// key: what is new takes the place of the old, and a drill is noted. It returns the
// slot that was opened. It waits for whatever else changes slots.
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
	if err != nil && promoted { // the date is the less important part
		k.log.Error("noting that a recovery slot opened failed", "slot", by.Name, "error", err)
		err = nil
	}
	return by, err
}

// required is how many shares a purpose needs: those of the shares' lock, else
// one identity, else nothing can be asked for and it is 0. Of two sets it is the
// old one that is meant.
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
