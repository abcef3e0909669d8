package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// A SlotState says what a slot is doing.
type SlotState string

const (
	SlotWaiting     SlotState = "waiting"     // not tried yet
	SlotTrying      SlotState = "trying"      // its key service is being asked
	SlotFailed      SlotState = "failed"      // the last attempt failed; see NextAttempt
	SlotOpened      SlotState = "opened"      // this one opened the keep
	SlotReady       SlotState = "ready"       // not needed: the keep is open
	SlotPending     SlotState = "pending"     // a configured seal that has no slot in the store yet
	SlotOrphaned    SlotState = "orphaned"    // a slot without a configured seal; never tried
	SlotQuarantined SlotState = "quarantined" // in the file, but not of this store's making
)

// SlotStatus is what is known of one slot, or of a seal without one.
type SlotStatus struct {
	Name        string    `json:"name"`
	Type        string    `json:"type"`
	KeyID       string    `json:"key_id,omitempty"` // as the store has it: a hint
	Priority    int       `json:"priority,omitempty"`
	Disabled    bool      `json:"disabled,omitempty"`
	State       SlotState `json:"state"`
	Class       string    `json:"class,omitempty"` // why it failed, in one word
	Error       string    `json:"error,omitempty"`
	Hint        string    `json:"hint,omitempty"` // what to do next
	Attempts    uint64    `json:"attempts"`       // since the process started
	LastAttempt time.Time `json:"last_attempt,omitzero"`
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	LastOpened  time.Time `json:"last_opened,omitzero"`  // when it last opened, by this process
	FailedSince time.Time `json:"failed_since,omitzero"` // since when every attempt has failed
	Warning     string    `json:"warning,omitempty"`     // what may keep it from opening soon
}

// Status is the state of a keep at one moment.
type Status struct {
	Initialized bool
	Sealed      bool
	Held        bool         // sealed by request
	StoreID     string       // the store's UUID; a hint while sealed
	Fingerprint string       // of the root key; empty while sealed
	Slots       []SlotStatus // seals by priority, then orphaned slots
}

// A slot is one slot of the store, one configured seal, or both. All but seal,
// entry, context, stored and busy changes under Server.mu.
type slot struct {
	SlotStatus
	seal    Seal         // nil: orphaned
	entry   storage.Slot // what the store has, when stored
	context []byte       // associated data of entry.Blob
	stored  bool
	busy    chan struct{} // holds one value while a race's goroutine has the slot

	logged   string // class last logged
	loggedAt time.Time
}

const (
	classMismatch = "blob_mismatch"
	classStore    = "store"
	classUnknown  = "unknown"

	logEvery = time.Minute // a failure that stays the same is logged this often
)

// hints says what to do about a failure of each class.
var hints = map[string]string{
	"unreachable":          "check the network, the address or endpoint, and that the key service runs",
	"dns":                  "check the host name of the key service and this machine's resolver",
	"tls":                  "check the key service's certificate, the CA file and this machine's clock",
	"credentials_missing":  "give credentials: parameters of the seal block, environment, or the instance's role",
	"credentials_expired":  "renew the credentials, then reload (SIGHUP)",
	"auth_denied":          "allow this identity to decrypt with the key (the key's policy and the identity's own)",
	"clock_skew":           "set this machine's clock",
	"key_not_found":        "check key and region of the seal block; the key may have been deleted",
	"key_disabled":         "enable the key in the key service",
	"key_pending_deletion": "cancel the deletion of the key at once: without it this slot never opens again",
	"throttled":            "wait, or raise the request quota of the key service",
	classMismatch:          "the key service answered, but this slot was not made with that key for this store: check the key in the seal block and the store's path",
	classStore:             "the key is right, the store is not: stop the server and run `sealkeep operator storage check`",
	classUnknown:           "see the error",
}

// classOf names the reason of a key service's failure in one word.
func classOf(err error) string {
	var c interface{ Class() string }
	switch {
	case errors.As(err, &c) && c.Class() != "":
		return c.Class()
	case errors.Is(err, context.DeadlineExceeded):
		return "unreachable"
	}
	return classUnknown
}

// Status returns the state of the keep.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Sealed: true, Held: s.held}
	if s.store != nil {
		st.Initialized, st.StoreID = true, s.store.UUID()
	}
	if k := s.keep.Load(); k != nil {
		st.Sealed, st.Fingerprint = false, k.fingerprint
	}
	st.Slots = make([]SlotStatus, len(s.slots))
	for i, sl := range s.slots {
		st.Slots[i] = sl.SlotStatus
	}
	return st
}

// arrangeLocked matches the store's slots with the configured seals by name and
// type. What is known of a slot's attempts stays.
func (s *Server) arrangeLocked() {
	var entries []storage.Slot
	var uuid string
	if s.store != nil {
		uuid = s.store.UUID()
		var err error
		if entries, err = s.store.Slots(); err != nil {
			s.log.Error("reading the slots failed", "store", uuid, "error", err, "next", hints[classStore])
		}
	}
	open := s.keep.Load() != nil
	type key struct{ name, typ string }
	old := make(map[key]*slot)
	for _, sl := range s.slots {
		old[key{sl.Name, sl.Type}] = sl
	}
	var slots []*slot
	add := func(name, typ string) *slot {
		sl := &slot{SlotStatus: SlotStatus{Name: name, Type: typ}, busy: make(chan struct{}, 1)}
		if o := old[key{name, typ}]; o != nil {
			sl.busy, sl.logged, sl.loggedAt = o.busy, o.logged, o.loggedAt
			sl.Attempts, sl.LastAttempt, sl.LastOpened, sl.FailedSince = o.Attempts, o.LastAttempt, o.LastOpened, o.FailedSince
			sl.State, sl.Class, sl.Error, sl.Hint = o.State, o.Class, o.Error, o.Hint
		}
		slots = append(slots, sl)
		return sl
	}
	used := make([]bool, len(entries))
	for _, seal := range s.seals.all {
		sl := add(seal.Name(), seal.Type())
		sl.seal, sl.Priority, sl.Disabled = seal, seal.Priority(), seal.Disabled()
		i := slices.IndexFunc(entries, func(e storage.Slot) bool { return e.Name == sl.Name && e.Type == sl.Type })
		if i < 0 {
			sl.State, sl.Class, sl.Error, sl.Hint = SlotPending, "", "", ""
			if s.store != nil {
				sl.Error = "this seal has no slot in the store yet"
			}
			continue
		}
		used[i] = true
		sl.entry, sl.stored, sl.KeyID, sl.context = entries[i], true, entries[i].KeyID, entries[i].Context(uuid)
		switch sl.State {
		case SlotFailed: // the reason stands until the next attempt
		case SlotOpened:
			if !open {
				sl.State = SlotWaiting
			}
		default:
			sl.State = SlotWaiting
			if open {
				sl.State = SlotReady
			}
		}
	}
	for i, e := range entries {
		if used[i] {
			continue
		}
		sl := add(e.Name, e.Type)
		sl.KeyID, sl.State, sl.Class = e.KeyID, SlotOrphaned, ""
		sl.Error = fmt.Sprintf("no seal of type %q and name %q is configured", e.Type, e.Name)
		sl.Hint = "add that seal block, or leave the slot unused"
	}
	if open {
		for _, name := range s.store.Quarantined() {
			for _, sl := range slots {
				if sl.Name == name && sl.State != SlotOpened {
					sl.State, sl.Class, sl.Hint = SlotQuarantined, "", ""
					sl.Error = "in the file, but not made by this store"
				}
			}
		}
	}
	slices.SortStableFunc(slots, func(a, b *slot) int { // enabled ones first
		return cmp.Compare(rank(a), rank(b))
	})
	s.slots = slots
}

func rank(sl *slot) int {
	switch {
	case sl.seal == nil:
		return 2
	case sl.Disabled:
		return 1
	}
	return 0
}

// starting notes that an attempt begins, and returns the turn that it is for.
func (s *Server) starting(r *race, sl *slot) *turn {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.tryLocked(s.now())
	return r.turn
}

func (sl *slot) tryLocked(now time.Time) {
	sl.State = SlotTrying
	sl.Attempts++
	sl.LastAttempt, sl.NextAttempt = now, time.Time{}
}

// ended notes that an attempt opened the keep, or ended with its race.
func (s *Server) ended(sl *slot, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.metrics.attempts.WithLabelValues(sl.Name, "ok").Inc()
	}
	if sl.State == SlotTrying { // nobody arranged the slots anew
		sl.State = SlotWaiting
	}
}

// failed notes a failed attempt. It is logged when its class is new, then as
// often as every says.
func (s *Server) failed(sl *slot, class string, err error, next, every time.Duration) {
	s.mu.Lock()
	now := s.now()
	sl.State, sl.Class, sl.Error, sl.Hint = SlotFailed, class, err.Error(), hints[class]
	sl.NextAttempt = now.Add(next)
	if sl.FailedSince.IsZero() {
		sl.FailedSince = sl.LastAttempt
	}
	news := sl.logged != class
	if news || now.Sub(sl.loggedAt) >= every {
		sl.logged, sl.loggedAt = class, now
		s.log.Error("a slot did not open", "slot", sl.Name, "type", sl.Type, "class", class,
			"error", err, "attempts", sl.Attempts, "next", sl.Hint)
	}
	s.metrics.attempts.WithLabelValues(sl.Name, class).Inc()
	s.mu.Unlock()
	if news {
		s.changed()
	}
}
