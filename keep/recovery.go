package keep

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/recovery"
	"github.com/sealkeep/sealkeep/storage"
)

// A recovery slot holds the root key for people: no seal opens it. It is named
// after its type, and a store has at most one of each. Its key ID is the public
// half of what opens it: the recipients of "recovery-age", or the recipient in
// the lock of "recovery-shares". Root keys are wrapped only to recipients of
// slots that the keyring vouches for, never to whatever the file happens to name.
//
// Nothing that people hold is replaced before they hold the replacement. New
// shares and new recipients get a slot of their own beside the old one, with
// "-new" after its name. Both slots open the keep until people open the new one,
// in whatever request: then promote replaces the old slot with it. These are the
// states, for shares; a crash leaves the state before or the one after:
//
//	state        stored                       next
//	none         nothing                      rekey: one set (the root token's bearer alone decides)
//	one set      S in recovery-shares         rekey -init: asking
//	asking       S; shares given in memory    k of S, or an identity: two sets. Cancel, a crash: one set
//	two sets     S, and N in its -new         k of N: one set, which is N. Cancel: one set, S.
//	                                          Another rekey: two sets, with another N
//
// Shares carry the ID of their set, so that k of S and k of N are collected
// separately. S ends in the commit in which N takes its name; N is opened under
// that name first, with the identity at hand. Recipients have the same states,
// with a reload in place of a rekey. A change that only adds recipients is made in
// place, since it locks nobody out.
const (
	recoveryPrefix = "recovery-"
	sharesSlot     = recoveryPrefix + recovery.Shares
	ageSlot        = recoveryPrefix + recovery.Age

	newSuffix     = "-new"
	newSharesName = sharesSlot + newSuffix
	newAgeName    = ageSlot + newSuffix

	// SlotRecovery is the state of a recovery slot that did not open the keep:
	// people open it.
	SlotRecovery SlotState = "recovery"

	recoveryPath = "sys/recovery" // JSON recoveryRecord
)

// isRecovery reports whether people, not a seal, open a slot.
func isRecovery(slot storage.Slot) bool {
	name := strings.TrimSuffix(slot.Name, newSuffix)
	return name == sharesSlot && slot.Type == recovery.Shares || name == ageSlot && slot.Type == recovery.Age
}

// isNew reports whether a recovery slot waits to replace another one.
func isNew(slot storage.Slot) bool { return strings.HasSuffix(slot.Name, newSuffix) }

// recipientsID returns the key ID of a slot for these recipients, in any order.
func recipientsID(recipients []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(recipients))), ",")
}

// emptySlot returns a slot of that name that holds no root key yet.
func emptySlot(name, typ string, now time.Time) storage.Slot {
	slot := storage.Slot{Name: name, Type: typ}
	if isNew(slot) {
		slot.Since = now.UTC()
	}
	return slot
}

// newAgeSlot wraps a root key to recipients that the user named.
func newAgeSlot(name string, recipients []string, root []byte, uuid string, generation uint64, now time.Time) (storage.Slot, error) {
	slot := emptySlot(name, recovery.Age, now)
	slot.KeyID = recipientsID(recipients)
	return rewrapRecovery(slot, root, uuid, generation, now)
}

// newSharesSlot makes n shares, any k of which open the slot, and wraps a root key
// to their lock. It opens the slot once, with the last k of them.
func newSharesSlot(name string, n, k int, root []byte, uuid string, generation uint64, now time.Time) (slot storage.Slot, shares [][]byte, err error) {
	lock, shares, err := recovery.Split(n, k)
	if err != nil {
		return slot, nil, err
	}
	to, _, _, err := recovery.Recipients(lock)
	if err != nil {
		return slot, nil, err
	}
	slot = emptySlot(name, recovery.Shares, now)
	slot.KeyID, slot.Lock = to[0], lock
	if slot, err = rewrapRecovery(slot, root, uuid, generation, now); err != nil {
		return slot, nil, err
	}
	c, err := recovery.NewCollection(lock)
	if err != nil {
		return slot, nil, err
	}
	for _, share := range shares[n-k:] {
		if _, err := c.Add(share); err != nil {
			return slot, nil, fmt.Errorf("trying the new shares: %w", err)
		}
	}
	identity, err := c.Identity()
	if err != nil {
		return slot, nil, fmt.Errorf("trying the new shares: %w", err)
	}
	if err := opensWith(identity, slot, root, uuid); err != nil {
		return slot, nil, fmt.Errorf("trying the new shares: %w", err)
	}
	return slot, shares, nil
}

// opensWith opens a recovery slot and compares its key with the root key.
func opensWith(identity string, slot storage.Slot, root []byte, uuid string) error {
	got, err := recovery.Unwrap(identity, slot.Blob, slot.Context(uuid))
	defer clear(got)
	if err == nil && subtle.ConstantTimeCompare(got, root) != 1 {
		err = errOtherRoot
	}
	return err
}

// promote replaces the old slot with the new one, which was just opened, in one
// commit. It returns the resulting slot. done is false if there was nothing to do:
// somebody else has done it, or the identity that opened the new slot opens the
// old one, too, and so proves nothing about the new one.
func (k *Keep) promote(u *Unsealed, p proof) (done bool, slot storage.Slot, err error) {
	u.slotting.Lock()
	defer u.slotting.Unlock()
	slots, _, err := u.Store.TrustedSlots()
	if err != nil {
		return false, p.slot, fmt.Errorf("reading the slots: %w", err)
	}
	name := strings.TrimSuffix(p.slot.Name, newSuffix)
	fresh, old := recoverySlot(slots, p.slot.Name), recoverySlot(slots, name)
	switch {
	case fresh == nil && old != nil && old.KeyID == p.slot.KeyID:
		return false, *old, nil
	case fresh == nil || fresh.KeyID != p.slot.KeyID: // replaced meanwhile
		return false, p.slot, nil
	}
	root, generation, err := u.Store.RootKey()
	if err != nil {
		return false, p.slot, err
	}
	defer clear(root)
	uuid := u.Store.UUID()
	if old != nil && fresh.Type == recovery.Age && !within(fresh.KeyID, old.KeyID) && opensWith(p.identity, *old, root, uuid) == nil {
		return false, *fresh, nil
	}
	next := *fresh
	next.Name, next.Since = name, time.Time{}
	err = opensWith(p.identity, *fresh, root, uuid)
	if err == nil {
		next, err = rewrapRecovery(next, root, uuid, generation, k.now())
	}
	if err == nil {
		err = opensWith(p.identity, next, root, uuid)
	}
	if err == nil {
		err = u.Store.PutSlot(u.ctx, next, fresh.Name)
	}
	k.rearrange()
	if err != nil {
		return false, p.slot, fmt.Errorf("putting slot %q in the place of the old one: %w", fresh.Name, err)
	}
	k.log.Warn("people opened a new recovery slot: it replaces the old one, which no longer opens the keep",
		"slot", name, "key", next.KeyID, "new_since", fresh.Since)
	return true, next, nil
}

// within reports whether every recipient in keyID is also in other.
func within(keyID, other string) bool {
	of := strings.Split(other, ",")
	return !slices.ContainsFunc(strings.Split(keyID, ","), func(r string) bool { return !slices.Contains(of, r) })
}

// rewrapRecovery returns the slot with another root key, for the same people. The
// keyring must vouch for the slot.
func rewrapRecovery(slot storage.Slot, root []byte, uuid string, generation uint64, now time.Time) (storage.Slot, error) {
	to := strings.Split(slot.KeyID, ",")
	if slot.Type == recovery.Shares {
		var err error
		if to, _, _, err = recovery.Recipients(slot.Lock); err != nil {
			return slot, fmt.Errorf("wrapping the root key for slot %q: %w", slot.Name, err)
		}
	}
	slot.RootGeneration, slot.Created = generation, now.UTC()
	var err error
	if slot.Blob, err = recovery.Wrap(to, root, slot.Context(uuid)); err != nil {
		return slot, fmt.Errorf("wrapping the root key for slot %q: %w", slot.Name, err)
	}
	return slot, nil
}

// SetRecovery replaces the recovery settings of [Config], as a reload of the
// configuration does. The next reconciliation writes the slot of new recipients;
// call SetRecovery before [Keep.SetSeals], which starts one.
func (k *Keep) SetRecovery(recipients []string, generateRoot bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.recipients, k.generateRoot = slices.Clone(recipients), generateRoot
	if u := k.unsealed.Load(); u != nil {
		u.wakeVisits() // the current round may have looked before
	}
}

// reconcileRecovery gives the recipients of the configuration a slot. Changed
// recipients get theirs beside the old one, in case the new ones are mistyped,
// unless they include all the old ones. It deletes only a slot beside the old one
// whose recipients the configuration no longer names.
func (k *Keep) reconcileRecovery(ctx context.Context) error {
	u := k.unsealed.Load()
	k.mu.Lock()
	recipients := k.recipients
	k.mu.Unlock()
	if u == nil || len(recipients) == 0 {
		return nil
	}
	u.slotting.Lock()
	defer u.slotting.Unlock()
	slots, _, err := u.Store.TrustedSlots()
	if err != nil {
		return fmt.Errorf("reading the slots: %w", err)
	}
	want := recipientsID(recipients)
	old, fresh := recoverySlot(slots, ageSlot), recoverySlot(slots, newAgeName)
	name := ageSlot
	switch {
	case old != nil && old.KeyID == want:
		if fresh == nil {
			return nil
		}
		if err := u.Store.RemoveSlot(ctx, newAgeName); err != nil {
			return err
		}
		k.log.Warn("the configuration names the old recipients again: the new ones' slot was removed", "slot", newAgeName, "recipients", fresh.KeyID)
		k.rearrange()
		return nil
	case old != nil && !within(old.KeyID, want):
		name = newAgeName
		if fresh != nil && fresh.KeyID == want {
			return nil
		}
	}
	if barred, err := u.barred(storage.Slot{Name: name, Type: recovery.Age, KeyID: want}); err != nil || barred {
		return err
	}
	root, generation, err := u.Store.RootKey()
	if err != nil {
		return err
	}
	defer clear(root)
	slot, err := newAgeSlot(name, recipients, root, u.Store.UUID(), generation, k.now())
	if err != nil {
		return err
	}
	if name == newAgeName {
		err = u.Store.PutSlot(ctx, slot)
	} else {
		err = u.Store.PutSlot(ctx, slot, newAgeName)
	}
	if err != nil {
		return err
	}
	if name == newAgeName {
		k.log.Warn("the recipients of the configuration have changed: the old ones' identities open the keep until a new one has",
			"slot", slot.Name, "recipients", slot.KeyID, "next", "sealkeep operator recovery verify -identity=FILE")
	} else {
		k.log.Info("the root key was wrapped for the recipients of the configuration", "slot", slot.Name, "recipients", slot.KeyID, "replaced", old != nil)
	}
	k.rearrange()
	return nil
}

// barred reports whether a slot was revoked, so that it is made only on request.
func (u *Unsealed) barred(slot storage.Slot) (bool, error) {
	revoked, err := u.Store.Revoked()
	return slices.ContainsFunc(revoked, func(r storage.Revoked) bool { return r.Bars(slot) }), err
}

// recoverySlot returns a recovery slot that the keyring vouches for, or nil if
// there is none.
func (u *Unsealed) recoverySlot(name string) (*storage.Slot, error) {
	slots, _, err := u.Store.TrustedSlots()
	if err != nil {
		return nil, fmt.Errorf("reading the slots: %w", err)
	}
	return recoverySlot(slots, name), nil
}

func recoverySlot(slots []storage.Slot, name string) *storage.Slot {
	i := slices.IndexFunc(slots, func(slot storage.Slot) bool { return slot.Name == name && isRecovery(slot) })
	if i < 0 {
		return nil
	}
	return &slots[i]
}

// rearrange updates the slots that Status shows.
func (k *Keep) rearrange() {
	k.mu.Lock()
	k.arrangeLocked()
	k.mu.Unlock()
	k.changed()
}

// arrangeRecoveryLocked fills in what Status shows of a stored recovery slot.
func (k *Keep) arrangeRecoveryLocked(sl *slot, entry storage.Slot, all []storage.Slot) {
	u := k.unsealed.Load()
	if u == nil || sl.State != SlotOpened {
		sl.State = SlotRecovery
	}
	sl.KeyID, sl.Class, sl.Error, sl.Hint = entry.KeyID, "", "", ""
	sl.Verified = time.Time{}
	if u != nil {
		if sl.Verified = u.drilled(entry); sl.State == SlotRecovery {
			sl.LastOpened = sl.Verified
		}
	}
	if entry.Type == recovery.Shares && (entry.Name == sharesSlot || k.shares.n == 0) {
		if _, n, t, err := recovery.Recipients(entry.Lock); err == nil {
			k.shares.n, k.shares.t = n, t
		}
	}
	sl.Since, sl.Warning = entry.Since, waiting(entry, all)
	switch {
	case u != nil:
	case entry.Type == recovery.Shares:
		sl.Hint = "opens with recovery shares, one at a time: sealkeep operator unseal -"
	default:
		sl.Hint = "opens with the age identity of a recipient: sealkeep operator unseal -identity=FILE"
	}
}

// waiting says, for a new slot, what it takes to replace the old one. It returns ""
// for other slots.
func waiting(slot storage.Slot, all []storage.Slot) string {
	if !isNew(slot) {
		return ""
	}
	what, when, how := "recovery shares", "", "sealkeep operator rekey -verify -"
	if slot.Type == recovery.Age {
		what, when, how = "age recipients", "an identity of the new one is given", "sealkeep operator recovery verify -identity=FILE"
	} else {
		_, n, t, _ := recovery.Recipients(slot.Lock) // a damaged lock is reported elsewhere
		when = fmt.Sprintf("%d of the %d new shares are given", t, n)
	}
	since := slot.Since.UTC().Format(time.RFC3339)
	if recoverySlot(all, strings.TrimSuffix(slot.Name, newSuffix)) == nil {
		return fmt.Sprintf("new %s are there since %s, and nobody has shown to hold them: %s", what, since, how)
	}
	return fmt.Sprintf("two sets of %s are open since %s; the old one ends when %s: %s", what, since, when, how)
}

// recoveryRecord remembers the drills.
type recoveryRecord struct {
	Version int              `json:"version"`
	Drills  map[string]drill `json:"drills"` // by slot
}

// A drill records when people last proved that they can open a slot. It counts
// only while the slot has that key ID.
type drill struct {
	KeyID string    `json:"key_id"`
	At    time.Time `json:"at"`
}

// loadDrills reads the drills when the keep opens.
func (u *Unsealed) loadDrills(ctx context.Context) error {
	return u.Store.View(ctx, func(tx *storage.Tx) error {
		r, err := readDrills(tx)
		if err == nil {
			u.drills.Store(&r.Drills)
		}
		return err
	})
}

func readDrills(tx *storage.Tx) (r recoveryRecord, err error) {
	value, err := tx.Get(recoveryPath)
	switch {
	case err != nil:
		return r, fmt.Errorf("reading the drills: %w", err)
	case value == nil:
		return recoveryRecord{Version: recordVersion, Drills: map[string]drill{}}, nil
	}
	if err := json.Unmarshal(value, &r); err != nil {
		return r, fmt.Errorf("decoding the drills: %w: %w", storage.ErrCorrupt, err)
	}
	if r.Version != recordVersion {
		return r, fmt.Errorf("decoding the drills: %w: record version %d, this program reads %d", storage.ErrFormat, r.Version, recordVersion)
	}
	return r, nil
}

// drilled returns when people last proved that they can open a slot, zero if never.
func (u *Unsealed) drilled(slot storage.Slot) time.Time {
	if drills := u.drills.Load(); drills != nil {
		if d := (*drills)[slot.Name]; d.KeyID == slot.KeyID {
			return d.At
		}
	}
	return time.Time{}
}

// noteDrill records that people opened slots.
func (u *Unsealed) noteDrill(ctx context.Context, now time.Time, slots ...storage.Slot) error {
	var r recoveryRecord
	err := u.Store.Update(ctx, func(tx *storage.Tx) (err error) {
		if r, err = readDrills(tx); err != nil {
			return err
		}
		r.Drills = maps.Clone(r.Drills)
		if r.Drills == nil {
			r.Drills = map[string]drill{}
		}
		for _, slot := range slots {
			r.Drills[slot.Name] = drill{slot.KeyID, now.UTC()}
		}
		value, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encoding the drills: %w", err)
		}
		return tx.Put(recoveryPath, value)
	})
	if errors.Is(err, storage.ErrUnknownOutcome) {
		err = errors.Join(err, u.loadDrills(u.ctx))
	}
	if err != nil {
		return fmt.Errorf("recording the drill: %w", err)
	}
	u.drills.Store(&r.Drills)
	return nil
}
