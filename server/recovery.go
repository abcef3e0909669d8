package server

import (
	"bytes"
	"context"
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
// half of what opens it: the recipients of "recovery-age", the recipient that
// the lock of "recovery-shares" has. Root keys are wrapped to recipients of
// slots that the keyring vouches for, never to what merely stands in the file.
const (
	recoveryPrefix = "recovery-"
	sharesSlot     = recoveryPrefix + recovery.Shares
	ageSlot        = recoveryPrefix + recovery.Age

	// SlotRecovery is the state of a recovery slot that did not open the keep:
	// people open it.
	SlotRecovery SlotState = "recovery"

	recoveryPath = "sys/recovery" // JSON recoveryRecord
)

// isRecovery tells whether people open a slot.
func isRecovery(slot storage.Slot) bool {
	return slot.Name == sharesSlot && slot.Type == recovery.Shares || slot.Name == ageSlot && slot.Type == recovery.Age
}

// recipientsID is the key ID of a slot for these recipients, in whatever order.
func recipientsID(recipients []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(recipients))), ",")
}

// newAgeSlot wraps a root key to recipients that the user has named.
func newAgeSlot(recipients []string, root []byte, uuid string, generation uint64, now time.Time) (storage.Slot, error) {
	slot := storage.Slot{Name: ageSlot, Type: recovery.Age, KeyID: recipientsID(recipients)}
	return rewrapRecovery(slot, root, uuid, generation, now)
}

// newSharesSlot makes n shares, any k of which open, and wraps a root key to
// their lock. The slot has been opened with the last k of them.
func newSharesSlot(n, k int, root []byte, uuid string, generation uint64, now time.Time) (slot storage.Slot, shares [][]byte, err error) {
	lock, shares, err := recovery.Split(n, k)
	if err != nil {
		return slot, nil, err
	}
	to, _, _, err := recovery.Recipients(lock)
	if err != nil {
		return slot, nil, err
	}
	slot = storage.Slot{Name: sharesSlot, Type: recovery.Shares, KeyID: to[0], Lock: lock}
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
	again, err := recovery.Unwrap(identity, slot.Blob, slot.Context(uuid))
	if err == nil && !bytes.Equal(again, root) {
		err = errOtherRoot
	}
	clear(again)
	if err != nil {
		return slot, nil, fmt.Errorf("trying the new shares: %w", err)
	}
	return slot, shares, nil
}

// rewrapRecovery returns the slot with another root key in it, for the same
// people. The slot must be one that the keyring vouches for.
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

// SetRecovery takes over what a reload of the configuration says about recovery:
// see [Config]. The slot of new recipients is written with the next
// reconciliation; call it before [Server.SetSeals], which brings one about.
func (s *Server) SetRecovery(recipients []string, generateRoot bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recipients, s.generateRoot = slices.Clone(recipients), generateRoot
}

// reconcileRecovery gives the recipients of the configuration a slot, or wraps
// the one there is anew when they have changed. It never deletes.
func (s *Server) reconcileRecovery(ctx context.Context) error {
	k := s.keep.Load()
	s.mu.Lock()
	recipients := s.recipients
	s.mu.Unlock()
	if k == nil || len(recipients) == 0 {
		return nil
	}
	k.slotting.Lock()
	defer k.slotting.Unlock()
	old, err := k.recoverySlot(ageSlot)
	if err != nil || old != nil && old.KeyID == recipientsID(recipients) {
		return err
	}
	if barred, err := k.barred(storage.Slot{Name: ageSlot, Type: recovery.Age, KeyID: recipientsID(recipients)}); err != nil || barred {
		return err
	}
	root, generation, err := k.store.RootKey()
	if err != nil {
		return err
	}
	defer clear(root)
	slot, err := newAgeSlot(recipients, root, k.store.UUID(), generation, s.now())
	if err != nil {
		return err
	}
	if err := k.store.PutSlot(ctx, slot); err != nil {
		return err
	}
	s.log.Info("the root key was wrapped for the recipients of the configuration", "slot", slot.Name, "recipients", slot.KeyID, "replaced", old != nil)
	s.rearrange()
	return nil
}

// barred tells whether a slot was revoked, so that it is made only when asked for.
func (k *keep) barred(slot storage.Slot) (bool, error) {
	revoked, err := k.store.Revoked()
	return slices.ContainsFunc(revoked, func(r storage.Revoked) bool { return r.Bars(slot) }), err
}

// recoverySlot returns a recovery slot that the keyring vouches for, nil when
// there is none.
func (k *keep) recoverySlot(name string) (*storage.Slot, error) {
	slots, _, err := k.store.TrustedSlots()
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

// rearrange shows the slots as they are now.
func (s *Server) rearrange() {
	s.mu.Lock()
	s.arrangeLocked()
	s.mu.Unlock()
	s.changed()
}

// arrangeRecoveryLocked fills in what is shown of a recovery slot of the store.
func (s *Server) arrangeRecoveryLocked(sl *slot, entry storage.Slot) {
	k := s.keep.Load()
	if k == nil || sl.State != SlotOpened {
		sl.State = SlotRecovery
	}
	sl.KeyID, sl.Class, sl.Error, sl.Hint = entry.KeyID, "", "", ""
	sl.Verified = time.Time{}
	if k != nil {
		if sl.Verified = k.drilled(entry); sl.State == SlotRecovery {
			sl.LastOpened = sl.Verified
		}
	}
	if entry.Name == sharesSlot {
		if _, n, t, err := recovery.Recipients(entry.Lock); err == nil {
			s.shares.n, s.shares.t = n, t
		}
	}
	switch {
	case k != nil:
	case entry.Name == sharesSlot:
		sl.Hint = "opens with recovery shares, one at a time: sealkeep operator unseal -"
	default:
		sl.Hint = "opens with the age identity of a recipient: sealkeep operator unseal -identity=FILE"
	}
}

// recoveryRecord remembers the drills.
type recoveryRecord struct {
	Version int              `json:"version"`
	Drills  map[string]drill `json:"drills"` // by slot
}

// A drill is when people last showed that they can open a slot. It counts for
// the people of that key ID.
type drill struct {
	KeyID string    `json:"key_id"`
	At    time.Time `json:"at"`
}

// loadDrills reads the drills when the keep opens.
func (k *keep) loadDrills(ctx context.Context) error {
	return k.store.View(ctx, func(tx *storage.Tx) error {
		r, err := readDrills(tx)
		if err == nil {
			k.drills.Store(&r.Drills)
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

// drilled tells when a slot was last shown to open, zero if never.
func (k *keep) drilled(slot storage.Slot) time.Time {
	if drills := k.drills.Load(); drills != nil {
		if d := (*drills)[slot.Name]; d.KeyID == slot.KeyID {
			return d.At
		}
	}
	return time.Time{}
}

// noteDrill records that people have opened a slot.
func (k *keep) noteDrill(ctx context.Context, slot storage.Slot, now time.Time) error {
	var r recoveryRecord
	err := k.store.Update(ctx, func(tx *storage.Tx) (err error) {
		if r, err = readDrills(tx); err != nil {
			return err
		}
		r.Drills = maps.Clone(r.Drills)
		if r.Drills == nil {
			r.Drills = map[string]drill{}
		}
		r.Drills[slot.Name] = drill{slot.KeyID, now.UTC()}
		value, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encoding the drills: %w", err)
		}
		return tx.Put(recoveryPath, value)
	})
	if errors.Is(err, storage.ErrUnknownOutcome) {
		err = errors.Join(err, k.loadDrills(k.ctx))
	}
	if err != nil {
		return fmt.Errorf("recording the drill: %w", err)
	}
	k.drills.Store(&r.Drills)
	return nil
}
