package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// Reconciliation makes the slots of an open keep what its configuration says. A
// visit does it for one seal (see probe.go for when):
//
//   - a seal without a slot that the store vouches for is given one;
//   - a slot is opened as it stands in the file;
//   - what does not open because another key has made it, or was made with
//     another key than the service would use now (an alias was moved, a transit
//     key rotated, a static key replaced), is wrapped anew.
//
// It adds and replaces, and never deletes. A new blob is opened before it takes
// the place of the old one, and once more as it was committed; until then the
// slot does not count. Disabled seals are left as they are.

// wrapTimeout is what a seal may take to make a slot and open it twice.
const wrapTimeout = 15 * time.Second

// A mismatch is the error of a slot that opens to something else.
type mismatch string

func (m mismatch) Error() string { return string(m) }
func (m mismatch) Class() string { return classMismatch }

const errOtherRoot = mismatch("the slot holds another root key than the one in use")

var (
	errNotTrusted = errors.New("the file has no such slot of the store's making")
	errReplaced   = errors.New("the seals were replaced meanwhile")
	errStored     = errors.New("the slot is in the store, but did not open there")
)

// visit brings one seal and its slot together. It reports false when that is to
// be tried again, after retry.
func (s *Server) visit(ctx context.Context, k *keep, seal Seal, retry time.Duration) bool {
	sl, release := s.hold(ctx, seal)
	if sl == nil {
		return false
	}
	defer release()
	failed := func(err error) bool {
		if sl := s.slotOf(seal); sl != nil && ctx.Err() == nil {
			s.failed(sl, classOf(err), err, retry, probeInterval)
		}
		return false
	}
	var unopened error
	moved := ""
	if sl.stored {
		call, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		err := s.openStored(call, k, seal)
		switch {
		case errors.Is(err, errNotTrusted): // somebody has written to the file
			s.rearrange()
			return false
		case err == nil && sl.Disabled:
			s.passed(seal, "")
			return true
		case err == nil:
			id, err := s.keyID(ctx, seal)
			switch {
			case ctx.Err() != nil:
				return false
			case err != nil:
				s.passed(seal, "it cannot be told whether the key has changed: "+err.Error())
				return false
			}
			if s.inForce(seal, id); id == sl.KeyID {
				s.passed(seal, "")
				return true
			}
			moved = id
		case sl.Disabled || !s.otherKey(ctx, seal, sl, err):
			return failed(err)
		default:
			unopened = err
		}
	}
	call, cancel := context.WithTimeout(ctx, wrapTimeout)
	defer cancel()
	if err := s.give(call, k, seal, func(ctx context.Context, slot storage.Slot) error { return k.Store.PutSlot(ctx, slot) }); err != nil {
		switch {
		case unopened != nil:
			err = fmt.Errorf("%w; and wrapping the root key anew failed: %w", unopened, err)
		case moved != "":
			err = fmt.Errorf("it still hangs on the key %s, and wrapping the root key anew with the key in force, %s, failed: %w", sl.KeyID, moved, err)
		}
		return failed(err)
	}
	if unopened != nil {
		s.log.Warn("a slot did not open with its seal any more, and was replaced", "slot", seal.Name(), "type", seal.Type(), "error", unopened)
	}
	return true
}

// inForce notes with which key a seal would wrap now. A slot that hangs on
// another one is pending from here on.
func (s *Server) inForce(seal Seal, id string) {
	s.mu.Lock()
	sl := s.slotOfLocked(seal)
	if sl == nil {
		s.mu.Unlock()
		return
	}
	sl.KeyInForce = id
	moved := id != sl.KeyID
	if moved {
		sl.settleLocked()
	}
	s.mu.Unlock()
	if moved {
		s.log.Warn("the key of a slot has moved: the root key is wrapped anew", "slot", seal.Name(), "type", seal.Type(), "key", sl.KeyID, "in_force", id)
		s.changed()
	}
}

// otherKey tells whether a slot does not open because the seal has another key by
// now: the one that made it may be disabled or gone.
func (s *Server) otherKey(ctx context.Context, seal Seal, sl *slot, err error) bool {
	switch classOf(err) {
	case classMismatch:
		return true
	case "key_not_found", "key_disabled", "key_pending_deletion", "auth_denied":
		id, err := s.keyID(ctx, seal)
		return err == nil && id != sl.KeyID
	}
	return false
}

// give has a seal wrap the root key, and puts that in the file as its slot. The
// error says why the slot does not count; it is errStored when the slot is in
// the file all the same.
func (s *Server) give(ctx context.Context, k *keep, seal Seal, put func(context.Context, storage.Slot) error) error {
	k.slotting.Lock()
	defer k.slotting.Unlock()
	sl := s.slotOf(seal)
	if sl == nil {
		return errReplaced
	}
	root, generation, err := k.Store.RootKey()
	if err != nil {
		return err
	}
	defer clear(root)
	made, err := s.wrapRoot(ctx, seal, root, k.Store.UUID(), generation)
	if err != nil {
		return err
	}
	if err := put(ctx, made); err != nil {
		if errors.Is(err, storage.ErrUnknownOutcome) { // what the file says counts
			s.rearrange()
		}
		return err
	}
	if sl.stored {
		s.metrics.rewraps.WithLabelValues(sl.Name).Inc()
		s.log.Info("wrapped the root key anew", "slot", sl.Name, "type", sl.Type, "key", made.KeyID, "instead_of", sl.KeyID)
	} else {
		s.log.Info("a seal was given its slot", "slot", sl.Name, "type", sl.Type, "key", made.KeyID)
	}
	err = s.openStored(ctx, k, seal)
	s.mu.Lock()
	if now := s.slotOfLocked(seal); now != nil && err == nil {
		now.KeyInForce = made.KeyID
	}
	s.arrangeLocked()
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%w: %w", errStored, err)
	}
	s.passed(seal, "")
	return nil
}

// slotOf is the slot of a seal as it is arranged now; nil when the seal has been
// replaced.
func (s *Server) slotOf(seal Seal) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slotOfLocked(seal)
}

func (s *Server) slotOfLocked(seal Seal) *slot {
	if i := slices.IndexFunc(s.slots, func(sl *slot) bool { return sl.seal == seal }); i >= 0 {
		return s.slots[i]
	}
	return nil
}

// wrapRoot has a seal wrap a root key, and opens what it made.
func (s *Server) wrapRoot(ctx context.Context, seal Seal, root []byte, uuid string, generation uint64) (storage.Slot, error) {
	slot := storage.Slot{Name: seal.Name(), Type: seal.Type(), RootGeneration: generation, Created: s.now().UTC()}
	var err error
	done := s.metrics.operation(slot.Name, "wrap")
	slot.Blob, slot.KeyID, err = seal.Wrap(ctx, root, slot.Context(uuid))
	if done(); err != nil {
		return slot, err
	}
	return slot, s.opens(ctx, seal, slot, root, uuid)
}

// openStored opens the slot of a seal as it stands in the file.
func (s *Server) openStored(ctx context.Context, k *keep, seal Seal) error {
	slots, _, err := k.Store.TrustedSlots()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(slots, func(slot storage.Slot) bool { return slot.Name == seal.Name() && slot.Type == seal.Type() })
	if i < 0 {
		return errNotTrusted
	}
	root, _, err := k.Store.RootKey()
	if err != nil {
		return err
	}
	defer clear(root)
	return s.opens(ctx, seal, slots[i], root, k.Store.UUID())
}

// opens has a seal open a slot and compares what comes out, which is forgotten.
func (s *Server) opens(ctx context.Context, seal Seal, slot storage.Slot, root []byte, uuid string) error {
	got, err := s.unwrap(ctx, seal, slot, uuid)
	defer clear(got)
	if err == nil && !bytes.Equal(got, root) {
		err = errOtherRoot
	}
	return err
}

func (s *Server) keyID(ctx context.Context, seal Seal) (string, error) {
	defer s.metrics.operation(seal.Name(), "key_id")()
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return seal.KeyID(ctx)
}

func (s *Server) unwrap(ctx context.Context, seal Seal, slot storage.Slot, uuid string) ([]byte, error) {
	defer s.metrics.operation(slot.Name, "unwrap")()
	return seal.Unwrap(ctx, slot.Blob, slot.Context(uuid))
}
