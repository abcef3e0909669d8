package keep

import (
	"context"

	"github.com/sealkeep/sealkeep/storage"
)

// What the tests, which sit outside, see of the inside.

const (
	AttemptTimeout = attemptTimeout
	HeadStart      = headStart
	UnsealWait     = unsealWait
	ProbeInterval  = probeInterval
	RetryFirst     = retryFirst
	RetryMost      = retryMost
	ScrubDelay     = scrubDelay
	WrapTimeout    = wrapTimeout

	HoldSuffix    = holdSuffix
	UnusedPath    = unusedPath
	RefusedBurst  = refusedBurst
	ClassRevoked  = classRevoked
	SharesSlot    = sharesSlot
	AgeSlot       = ageSlot
	NewSharesName = newSharesName
	NewAgeName    = newAgeName
)

type Offer = offer

var (
	NewSharesSlot = newSharesSlot
	RecipientsID  = recipientsID
	XOR           = xor
)

// Store is the keep's, sealed or not.
func (k *Keep) Store() *storage.Store {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.store
}

func (k *Keep) Recipients() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.recipients
}

func (k *Keep) ReconcileRecovery(ctx context.Context) error { return k.reconcileRecovery(ctx) }
func (k *Keep) Rearrange()                                  { k.rearrange() }
func (k *Keep) Findings() int                               { return k.scrubbed.Load().findings }

func (k *Keep) WrapRoot(ctx context.Context, seal Seal, root []byte, generation uint64) (storage.Slot, error) {
	return k.wrapRoot(ctx, seal, root, k.Store().UUID(), generation)
}

// PutFirst gives the keep one more seal, before the others, which it does not visit.
func (k *Keep) PutFirst(seal Seal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seals.all = append([]Seal{seal}, k.seals.all...)
	k.arrangeLocked()
}

// Show changes the state that a seal's slot is shown in.
func (k *Keep) Show(seal Seal, state SlotState) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.slotOfLocked(seal).State = state
}

// Unstore has the arrangement of the slots know nothing of the seal's in the store.
func (k *Keep) Unstore(seal Seal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, sl := range k.slots {
		if sl.seal == seal { // what is stored of a slot does not change: another takes its place
			old := *sl
			old.stored = false
			k.slots[i] = &old
		}
	}
}

// AgeSlotKey is what the slot for age identities hangs on.
func (u *Unsealed) AgeSlotKey() (string, error) {
	slot, err := u.recoverySlot(ageSlot)
	if err != nil || slot == nil {
		return "", err
	}
	return slot.KeyID, nil
}
