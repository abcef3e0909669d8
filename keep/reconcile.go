package keep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// Reconciliation brings the slots of an open keep in line with its configuration.
// A visit does this for one seal (see probe.go for when):
//
//   - it gives a seal a slot if it has none that the store vouches for;
//   - it opens the slot as stored;
//   - it wraps the root key again if the slot does not open because it was made
//     with another key, or was made with another key than the service would use
//     now (an alias was moved, a transit key rotated, a static key replaced).
//
// Reconciliation adds and replaces slots, and never deletes one. A new blob is
// opened before it replaces the old one, and once more as committed; until then
// the slot does not count. Slots of disabled seals stay as they are.

// wrapTimeout limits the time in which a seal makes a slot and opens it twice.
const wrapTimeout = 15 * time.Second

// A mismatch is the error of a slot that opens but holds something else.
type mismatch string

func (m mismatch) Error() string { return string(m) }
func (m mismatch) Class() string { return classMismatch }

const errOtherRoot = mismatch("the slot holds another root key than the one in use")

var (
	errNotTrusted = errors.New("the file has no such slot of the store's making")
	errReplaced   = errors.New("the seals were replaced meanwhile")
	errStored     = errors.New("the slot is in the store, but did not open there")
)

// visit reconciles one seal with its slot. It reports false if that must be tried
// again after retry.
func (k *Keep) visit(ctx context.Context, u *Unsealed, seal Seal, retry time.Duration) bool {
	sl, release := k.hold(ctx, seal)
	if sl == nil {
		return false
	}
	defer release()
	failed := func(err error) bool {
		if sl := k.slotOf(seal); sl != nil && ctx.Err() == nil {
			k.failed(sl, classOf(err), err, retry, probeInterval)
		}
		return false
	}
	var unopened error
	moved := ""
	if sl.stored {
		call, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		err := k.openStored(call, u, seal)
		switch {
		case errors.Is(err, errNotTrusted): // somebody has written to the file
			k.rearrange()
			return false
		case err == nil && sl.Disabled:
			k.passed(seal, "")
			return true
		case err == nil:
			id, err := k.keyID(ctx, seal)
			switch {
			case ctx.Err() != nil:
				return false
			case err != nil:
				k.passed(seal, "it cannot be told whether the key has changed: "+err.Error())
				return false
			}
			if k.inForce(seal, id); id == sl.KeyID {
				k.passed(seal, "")
				return true
			}
			moved = id
		case sl.Disabled || !k.otherKey(ctx, seal, sl, err):
			return failed(err)
		default:
			unopened = err
		}
	}
	call, cancel := context.WithTimeout(ctx, wrapTimeout)
	defer cancel()
	if err := k.give(call, u, seal, func(ctx context.Context, slot storage.Slot) error { return u.Store.PutSlot(ctx, slot) }); err != nil {
		switch {
		case unopened != nil:
			err = fmt.Errorf("%w; and wrapping the root key anew failed: %w", unopened, err)
		case moved != "":
			err = fmt.Errorf("it still hangs on the key %s, and wrapping the root key anew with the key in force, %s, failed: %w", sl.KeyID, moved, err)
		}
		return failed(err)
	}
	if unopened != nil {
		k.log.Warn("a slot did not open with its seal any more, and was replaced", "slot", seal.Name(), "type", seal.Type(), "error", unopened)
	}
	return true
}

// inForce notes the key with which a seal would wrap now. A slot that depends on
// another key is pending from here on.
func (k *Keep) inForce(seal Seal, id string) {
	k.mu.Lock()
	sl := k.slotOfLocked(seal)
	if sl == nil {
		k.mu.Unlock()
		return
	}
	sl.KeyInForce = id
	moved := id != sl.KeyID
	if moved {
		sl.settleLocked()
	}
	k.mu.Unlock()
	if moved {
		k.log.Warn("the key of a slot has moved: the root key is wrapped anew", "slot", seal.Name(), "type", seal.Type(), "key", sl.KeyID, "in_force", id)
		k.changed()
	}
}

// otherKey reports whether a slot does not open because the seal uses another key
// by now: the one that made the slot may be disabled or gone.
func (k *Keep) otherKey(ctx context.Context, seal Seal, sl *slot, err error) bool {
	switch classOf(err) {
	case classMismatch:
		return true
	case "key_not_found", "key_disabled", "key_pending_deletion", "auth_denied":
		id, err := k.keyID(ctx, seal)
		return err == nil && id != sl.KeyID
	}
	return false
}

// give has a seal wrap the root key, and stores the result as its slot. The error
// says why the slot does not count; it is errStored if the slot was stored
// nevertheless.
func (k *Keep) give(ctx context.Context, u *Unsealed, seal Seal, put func(context.Context, storage.Slot) error) error {
	u.slotting.Lock()
	defer u.slotting.Unlock()
	sl := k.slotOf(seal)
	if sl == nil {
		return errReplaced
	}
	root, generation, err := u.Store.RootKey()
	if err != nil {
		return err
	}
	defer clear(root)
	made, err := k.wrapRoot(ctx, seal, root, u.Store.UUID(), generation)
	if err != nil {
		return err
	}
	if err := put(ctx, made); err != nil {
		if errors.Is(err, storage.ErrUnknownOutcome) { // the file decides
			k.rearrange()
		}
		return err
	}
	if sl.stored {
		k.metrics.rewraps.WithLabelValues(sl.Name).Inc()
		k.log.Info("wrapped the root key anew", "slot", sl.Name, "type", sl.Type, "key", made.KeyID, "instead_of", sl.KeyID)
	} else {
		k.log.Info("a seal was given its slot", "slot", sl.Name, "type", sl.Type, "key", made.KeyID)
	}
	err = k.openStored(ctx, u, seal)
	k.mu.Lock()
	if now := k.slotOfLocked(seal); now != nil && err == nil {
		now.KeyInForce = made.KeyID
	}
	k.arrangeLocked()
	k.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%w: %w", errStored, err)
	}
	k.passed(seal, "")
	return nil
}

// slotOf returns the current slot of a seal, or nil if the seal was replaced.
func (k *Keep) slotOf(seal Seal) *slot {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.slotOfLocked(seal)
}

func (k *Keep) slotOfLocked(seal Seal) *slot {
	if i := slices.IndexFunc(k.slots, func(sl *slot) bool { return sl.seal == seal }); i >= 0 {
		return k.slots[i]
	}
	return nil
}

// wrapRoot has a seal wrap a root key, and opens the result.
func (k *Keep) wrapRoot(ctx context.Context, seal Seal, root []byte, uuid string, generation uint64) (storage.Slot, error) {
	slot := storage.Slot{Name: seal.Name(), Type: seal.Type(), RootGeneration: generation, Created: k.now().UTC()}
	var err error
	done := k.metrics.operation(slot.Name, "wrap")
	slot.Blob, slot.KeyID, err = seal.Wrap(ctx, root, slot.Context(uuid))
	if done(); err != nil {
		return slot, err
	}
	return slot, k.opens(ctx, seal, slot, root, uuid)
}

// openStored opens the slot of a seal as stored in the file.
func (k *Keep) openStored(ctx context.Context, u *Unsealed, seal Seal) error {
	slots, _, err := u.Store.TrustedSlots()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(slots, func(slot storage.Slot) bool { return slot.Name == seal.Name() && slot.Type == seal.Type() })
	if i < 0 {
		return errNotTrusted
	}
	root, _, err := u.Store.RootKey()
	if err != nil {
		return err
	}
	defer clear(root)
	return k.opens(ctx, seal, slots[i], root, u.Store.UUID())
}

// opens has a seal open a slot, compares the key with root and forgets it.
func (k *Keep) opens(ctx context.Context, seal Seal, slot storage.Slot, root []byte, uuid string) error {
	got, err := k.unwrap(ctx, seal, slot, uuid)
	defer clear(got)
	if err == nil && !bytes.Equal(got, root) {
		err = errOtherRoot
	}
	return err
}

func (k *Keep) keyID(ctx context.Context, seal Seal) (string, error) {
	defer k.metrics.operation(seal.Name(), "key_id")()
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return seal.KeyID(ctx)
}

func (k *Keep) unwrap(ctx context.Context, seal Seal, slot storage.Slot, uuid string) ([]byte, error) {
	defer k.metrics.operation(slot.Name, "unwrap")()
	return seal.Unwrap(ctx, slot.Blob, slot.Context(uuid))
}
