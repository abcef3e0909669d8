package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// While the keep is open it needs no key service; but the next boot does. So
// each slot that has a seal is opened again now and then, as it stands in the
// file, and what comes out is compared and forgotten: a key that was disabled or
// a token that has ended shows before the reboot and not after. This also keeps
// alive what a seal has to keep alive, such as a transit token.
//
//	probeDelay     after unsealing, the slots that were not needed; after a
//	               reload all of them, at once
//	probeInterval  then; up to a tenth is taken off by chance
//	probeRetry     when a slot has failed
//
// That is 24 openings a slot and day: with awskms 48 requests.
const (
	probeDelay    = 15 * time.Second
	probeInterval = time.Hour
	probeRetry    = time.Minute
)

var errOtherRoot = errors.New("the slot holds another root key than the one in use")

// probe opens the slots now and then, until the keep ends.
func (s *Server) probe(k *keep) {
	for delay := probeDelay; ; {
		var proven time.Time // slots that opened after this need no probe
		t := time.NewTimer(delay)
		select {
		case <-t.C:
			proven = s.now().Add(-probeInterval / 2)
		case <-k.probing: // a reload: nothing is known of the new seals
			proven = s.now()
			t.Stop()
		case <-k.ctx.Done():
			t.Stop()
			return
		}
		delay = probeInterval - rand.N(probeInterval/10)
		s.mu.Lock()
		slots := slices.DeleteFunc(slices.Clone(s.slots), func(sl *slot) bool { return sl.LastOpened.After(proven) })
		s.mu.Unlock()
		for _, sl := range slots {
			if !s.probeSlot(k, sl) {
				delay = probeRetry
			}
		}
	}
}

// probeSlot opens one slot and notes the outcome. It reports false when the slot
// ought to be tried again soon.
func (s *Server) probeSlot(k *keep, sl *slot) bool {
	s.mu.Lock()
	set := s.seals
	current := slices.Contains(s.slots, sl) && sl.seal != nil && sl.stored
	if current {
		set.users.Add(1)
	}
	s.mu.Unlock()
	if !current {
		return true
	}
	defer set.users.Done()
	select { // an attempt of a race may still be out
	case sl.busy <- struct{}{}:
		defer func() { <-sl.busy }()
	default:
		return false
	}
	ctx, cancel := context.WithTimeout(k.ctx, attemptTimeout)
	defer cancel()
	s.mu.Lock()
	before := sl.State
	sl.tryLocked(s.now())
	s.mu.Unlock()
	root, err := sl.seal.Unwrap(ctx, sl.entry.Blob, sl.context)
	if k.ctx.Err() != nil {
		s.restore(sl, before)
		return true
	}
	class := ""
	if err != nil {
		class = classOf(err)
	} else if storage.Fingerprint(root) != k.fingerprint {
		class, err = classMismatch, errOtherRoot
	}
	clear(root)
	if err != nil {
		s.failed(sl, class, err, probeRetry, probeInterval)
		return false
	}
	if before == SlotFailed || before == SlotTrying {
		before = SlotReady
	}
	s.passed(sl, before)
	return true
}

// restore takes back what starting has noted.
func (s *Server) restore(sl *slot, state SlotState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.State = state
}

// passed notes that a slot opened, and what its seal warns of.
func (s *Server) passed(sl *slot, state SlotState) {
	s.mu.Lock()
	healed := !sl.FailedSince.IsZero()
	sl.State, sl.Class, sl.Error, sl.Hint = state, "", "", ""
	sl.FailedSince, sl.logged = time.Time{}, ""
	sl.LastOpened = s.now()
	warning := ""
	if w, ok := sl.seal.(interface{ Warning() string }); ok {
		warning = w.Warning()
	}
	news := warning != sl.Warning
	sl.Warning = warning
	s.metrics.attempts.WithLabelValues(sl.Name, "ok").Inc()
	s.mu.Unlock()
	if news && warning != "" {
		s.log.Warn("a slot opens, but may not for long", "slot", sl.Name, "type", sl.Type, "warning", warning)
	}
	if healed {
		s.log.Info("a slot opens again", "slot", sl.Name, "type", sl.Type)
	}
	if healed || news {
		s.changed()
	}
}
