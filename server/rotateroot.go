package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sealkeep/sealkeep/storage"
)

// writeRotateRoot makes a new root key and wraps it for every slot that is kept:
// with its seal, or for its people. Either all of them have it afterwards, each
// opened once, or nothing has changed. It also begins a new key of the barrier:
// once all is re-encrypted, who had the old root key reads nothing newer.
func writeRotateRoot(s *Server, r *request) (answer, error) {
	var in struct {
		Drop []string `json:"drop"`
	}
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	k := r.keep
	k.slotting.Lock()
	defer k.slotting.Unlock()
	all, release := s.take()
	defer release()
	kept, err := s.keptSlots(k, all, in.Drop)
	if err != nil {
		return answer{}, err
	}
	old, generation, err := k.store.RootKey()
	if err != nil {
		return answer{}, err
	}
	clear(old)
	root := storage.NewRootKey()
	defer clear(root)
	slots, err := s.wrapKept(r.ctx, kept, root, k.store.UUID(), generation+1)
	if err != nil {
		return answer{}, err
	}
	before, after := k.store.Fingerprint(), storage.Fingerprint(root)
	names := make([]string, len(slots))
	for i, slot := range slots {
		names[i] = slot.Name
	}
	out := answer{data: map[string]any{"fingerprint": after, "previous_fingerprint": before, "root_generation": generation + 1, "slots": names}}
	if err := s.recordAnswer(r, out); err != nil {
		return answer{}, err
	}
	err = k.store.RotateRoot(r.ctx, root, slots)
	s.rearrange()
	if err != nil {
		return answer{}, err
	}
	k.wakeRotation()
	s.log.Warn("rotated the root key", "fingerprint", after, "instead_of", before, "slots", names, "dropped", in.Drop, "request", r.id)
	out.warnings = []string{
		"older copies of the file, backups among them, still open with the slots and the shares that they hold",
		"all records are being encrypted anew: `sealkeep operator key-status` shows how far it is; when it is done, " +
			"`sealkeep operator storage compact` on the stopped keep takes the last old bytes out of the file",
	}
	for _, sl := range s.Status().Slots {
		if sl.State == SlotPending && slices.Contains(in.Drop, sl.Name) {
			out.warnings = append(out.warnings, fmt.Sprintf("the configuration still has seal %q: take its block out, else it gets a new slot when it can be reached", sl.Name))
		}
	}
	return out, nil
}

// keptSlots are the slots that get the new root key. It is an error if one of
// them cannot, and is not to be dropped.
func (s *Server) keptSlots(k *keep, slots []*slot, drop []string) (kept []*slot, err error) {
	_, missing, err := k.store.TrustedSlots()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range drop {
		if !slices.ContainsFunc(slots, func(sl *slot) bool { return sl.Name == name }) {
			return nil, errNoSlotNamed(name)
		}
	}
	var stuck []string
	for _, sl := range slots {
		switch {
		case slices.Contains(drop, sl.Name), sl.State == SlotPending:
		case sl.stored, isRecovery(sl.entry) && sl.State != SlotQuarantined:
			kept = append(kept, sl)
		case sl.State == SlotOrphaned, slices.Contains(missing, sl.Name):
			stuck = append(stuck, fmt.Sprintf("%s: %s: %s", sl.Name, sl.State, sl.Error))
		} // a quarantined record of nobody's goes
	}
	switch {
	case len(stuck) > 0:
		return nil, invalid("these slots cannot be given a new root key: %s; make them work, or drop them by name; nothing was changed", strings.Join(stuck, "; "))
	case len(kept) == 0:
		return nil, invalid("one slot has to be kept, else nothing would open the keep; nothing was changed")
	}
	return kept, nil
}

// wrapKept makes the slots anew, side by side.
func (s *Server) wrapKept(ctx context.Context, kept []*slot, root []byte, uuid string, generation uint64) ([]storage.Slot, error) {
	slots, errs := make([]storage.Slot, len(kept)), make([]error, len(kept))
	var wait sync.WaitGroup
	for i, sl := range kept {
		wait.Go(func() {
			if sl.seal == nil {
				slots[i], errs[i] = rewrapRecovery(sl.entry, root, uuid, generation, s.now())
				return
			}
			ctx, cancel := context.WithTimeout(ctx, wrapTimeout)
			defer cancel()
			var err error
			if slots[i], err = s.wrapRoot(ctx, sl.seal, root, uuid, generation); err != nil {
				class := classOf(err)
				errs[i] = fmt.Errorf("slot %q: %s: %w; next: %s", sl.Name, class, err, hints[class])
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, invalid("the new root key could not be wrapped for every slot, and nothing was changed: %v; or drop the slot by name", err)
	}
	return slots, nil
}
