package keep

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
	SlotStandby     SlotState = "standby"     // ready, but its seal is disabled: it is tried last and never wrapped again
	SlotPending     SlotState = "pending"     // a configured seal whose slot has yet to be made, or to be wrapped with the key in force; Error says which
	SlotOrphaned    SlotState = "orphaned"    // a slot without a configured seal; never tried
	SlotQuarantined SlotState = "quarantined" // in the file, but not made by this store
	SlotMissing     SlotState = "missing"     // made by this store, but no longer in the file
	SlotRevoked     SlotState = "revoked"     // somebody else may have it: only `slot add` wraps for it again
)

// SlotStatus describes one slot, or a seal without one.
type SlotStatus struct {
	Name        string    `json:"name"`
	Type        string    `json:"type"`
	KeyID       string    `json:"key_id,omitempty"`       // the key that the slot depends on, according to the store: a hint
	KeyInForce  string    `json:"key_in_force,omitempty"` // the key with which the seal would wrap, when last asked
	Created     time.Time `json:"created,omitzero"`       // when the root key was wrapped; a hint, too
	Generation  uint64    `json:"root_generation,omitempty"`
	Priority    int       `json:"priority,omitempty"`
	Disabled    bool      `json:"disabled,omitempty"`
	State       SlotState `json:"state"`
	Opener      bool      `json:"opener,omitempty"` // this slot opened the keep
	Class       string    `json:"class,omitempty"`  // why it failed, in one word
	Error       string    `json:"error,omitempty"`
	Hint        string    `json:"hint,omitempty"` // what to do next
	Attempts    uint64    `json:"attempts"`       // since the process started
	LastAttempt time.Time `json:"last_attempt,omitzero"`
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	LastOpened  time.Time `json:"last_opened,omitzero"`  // when this process last opened it
	FailedSince time.Time `json:"failed_since,omitzero"` // since when every attempt has failed
	Warning     string    `json:"warning,omitempty"`     // what may keep it from opening soon
	Verified    time.Time `json:"verified,omitzero"`     // of a recovery slot: when people last proved that they can open it
	Since       time.Time `json:"since,omitzero"`        // of a recovery slot: since when it waits to replace another one
}

// Status is the state of a keep at one moment.
type Status struct {
	Initialized bool
	Sealed      bool
	Held        bool         // sealed by request
	Unused      bool         // no token has been used since Init
	KeepHeld    bool         // and held over restarts, too
	Damage      error        // why the existing store cannot be opened
	StoreID     string       // the store's UUID; a hint while sealed
	Fingerprint string       // of the root key; empty while sealed
	Settled     bool         // unsealed, and every enabled seal has a slot that opens with the key in force, or gets one only on request
	Slots       []SlotStatus // seals by priority, then orphaned slots
}

// A slot is one slot of the store, one configured seal, or both. Keep.mu guards all
// fields except seal, entry, context, stored and busy, which do not change.
type slot struct {
	SlotStatus
	seal    Seal         // nil: orphaned
	entry   storage.Slot // the stored slot, if stored
	context []byte       // associated data of entry.Blob
	stored  bool
	gets    getting       // for a seal without a slot
	busy    chan struct{} // holds one value while a race or a visit uses the slot

	logged   string // class last logged
	loggedAt time.Time
	visited  time.Time // when a visit last found nothing left to do
}

// A getting says how a seal without a slot gets one.
type getting int

const (
	byItself  getting = iota // by reconciliation
	whenAsked                // on request only; Error says why
	never                    // Error says why
)

const (
	classMismatch = "blob_mismatch"
	classRevoked  = "revoked"
	classStore    = "store"
	classUnknown  = "unknown"

	logEvery = time.Minute // how often an unchanged failure is logged
)

// hints says what to do about a failure, by class.
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
	classRevoked:           "give the seal another key; or, when nobody else has the use of this one, `sealkeep operator slot add NAME`",
	classUnknown:           "see the error",
}

// classOf returns the reason for a key service's failure in one word.
func classOf(err error) string {
	var c interface{ Class() string }
	switch {
	case errors.As(err, &c) && c.Class() != "":
		return c.Class()
	case errors.Is(err, storage.ErrRevoked):
		return classRevoked
	case errors.Is(err, context.DeadlineExceeded):
		return "unreachable"
	}
	return classUnknown
}

// Status returns the state of the keep.
func (k *Keep) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	st := Status{Sealed: true, Held: k.held, KeepHeld: k.keepHeld, Initialized: k.damage != nil, Damage: k.damage}
	if k.store != nil {
		st.Initialized, st.StoreID = true, k.store.UUID()
	}
	if u := k.unsealed.Load(); u != nil {
		st.Sealed, st.Fingerprint, st.Unused = false, u.Store.Fingerprint(), u.unused.Load()
		st.Settled = !slices.ContainsFunc(k.slots, (*slot).unsettled)
	}
	st.Slots = make([]SlotStatus, len(k.slots))
	for i, sl := range k.slots {
		st.Slots[i] = sl.SlotStatus
	}
	return st
}

// arrangeLocked matches the store's slots with the configured seals by name and
// type. It keeps what is known about a slot's attempts.
func (k *Keep) arrangeLocked() {
	entries, strays := k.entriesLocked()
	revoked := k.revokedLocked()
	k.shares.n, k.shares.t = 0, 0
	open := k.unsealed.Load() != nil
	type key struct{ name, typ string }
	old := make(map[key]*slot)
	for _, sl := range k.slots {
		if k := (key{sl.Name, sl.Type}); old[k] == nil { // a stray comes last
			old[k] = sl
		}
	}
	var slots []*slot
	add := func(name, typ string) *slot {
		sl := &slot{SlotStatus: SlotStatus{Name: name, Type: typ}, busy: make(chan struct{}, 1)}
		if o := old[key{name, typ}]; o != nil {
			sl.busy, sl.logged, sl.loggedAt, sl.visited = o.busy, o.logged, o.loggedAt, o.visited
			sl.Attempts, sl.LastAttempt, sl.NextAttempt, sl.LastOpened, sl.FailedSince = o.Attempts, o.LastAttempt, o.NextAttempt, o.LastOpened, o.FailedSince
			sl.State, sl.Class, sl.Error, sl.Hint = o.State, o.Class, o.Error, o.Hint
			sl.Warning, sl.KeyInForce, sl.Opener = o.Warning, o.KeyInForce, o.Opener
		}
		slots = append(slots, sl)
		return sl
	}
	used := make([]bool, len(entries))
	for _, seal := range k.seals.all {
		sl := add(seal.Name(), seal.Type())
		if o := old[key{sl.Name, sl.Type}]; !open || o == nil || o.seal != seal { // whether it would open now is not known
			sl.KeyInForce = ""
		}
		sl.seal, sl.Priority, sl.Disabled = seal, seal.Priority(), seal.Disabled()
		i := slices.IndexFunc(entries, func(e storage.Slot) bool { return e.Name == sl.Name && e.Type == sl.Type })
		if i < 0 {
			k.pendingLocked(sl, entries, revoked)
			continue
		}
		used[i] = true
		sl.setEntry(entries[i])
		sl.stored, sl.context = true, sl.entry.Context(k.store.UUID())
		switch {
		case sl.State == SlotFailed: // the reason stands until the next attempt
		case open:
			sl.settleLocked()
		default:
			sl.State, sl.Class, sl.Error, sl.Hint = SlotWaiting, "", "", ""
		}
		sl.Opener = sl.Opener && open
	}
	for i, e := range entries {
		if used[i] {
			continue
		}
		sl := add(e.Name, e.Type)
		sl.setEntry(e)
		if isRecovery(e) {
			k.arrangeRecoveryLocked(sl, e, entries)
			continue
		}
		sl.State, sl.Class = SlotOrphaned, ""
		sl.Error = fmt.Sprintf("no seal of type %q and name %q is configured", e.Type, e.Name)
		sl.Hint = "add that seal block, or remove the slot: sealkeep operator slot remove " + e.Name
	}
	for _, stray := range strays {
		sl := add(stray.Name, stray.Type)
		sl.setEntry(stray.Slot)
		sl.State, sl.Class, sl.Error = stray.state, "", "in the file, but not as this store made it: nothing is opened with it"
		if stray.state == SlotMissing {
			sl.Error = "the store has made it, but it is no longer in the file"
		}
		sl.Hint = "find out who wrote to the file; then: sealkeep operator slot remove " + stray.Name
	}
	for _, r := range revoked {
		if !slices.ContainsFunc(slots, func(sl *slot) bool { return sl.Name == r.Name }) {
			add(r.Name, r.Type).revoke(r)
		}
	}
	slices.SortStableFunc(slots, func(a, b *slot) int { // enabled ones first
		return cmp.Compare(rank(a), rank(b))
	})
	k.slots = slots
}

// settleLocked sets the state of a stored slot of an open keep that opens.
func (sl *slot) settleLocked() {
	sl.Class, sl.Error, sl.Hint = "", "", ""
	switch {
	case !sl.Disabled && (sl.KeyInForce == "" || sl.KeyInForce != sl.KeyID):
		sl.State = SlotPending
		sl.Error = fmt.Sprintf("it hangs on the key %s; whether that is still the one in force is being asked", sl.KeyID)
		if sl.KeyInForce != "" {
			sl.Error = fmt.Sprintf("it hangs on the key %s; the key in force is %s, with which it is made anew", sl.KeyID, sl.KeyInForce)
		}
		sl.Hint = "keep the key on which it hangs until the slot is ready"
	case sl.Opener:
		sl.State = SlotOpened
	case sl.Disabled:
		sl.State = SlotStandby
	default:
		sl.State = SlotReady
	}
}

// unsettled reports whether reconciliation has something to do for a slot of an
// open keep, or does not know yet.
func (sl *slot) unsettled() bool {
	switch {
	case sl.seal == nil || sl.Disabled:
		return false
	case sl.stored:
		return sl.State != SlotOpened && sl.State != SlotReady
	}
	return sl.gets == byItself
}

func (sl *slot) setEntry(e storage.Slot) {
	sl.entry, sl.KeyID, sl.Created, sl.Generation = e, e.KeyID, e.Created, e.RootGeneration
}

// revoke sets the state of a revoked slot.
func (sl *slot) revoke(r storage.Revoked) {
	sl.State, sl.Class, sl.FailedSince, sl.gets = SlotRevoked, "", time.Time{}, whenAsked
	if sl.KeyID = r.KeyID; sl.seal != nil {
		sl.KeyID = ""
	}
	sl.Error = fmt.Sprintf("revoked on %s, with the key %s: nothing wraps for it by itself", r.Since.UTC().Format(time.DateOnly), cmp.Or(r.KeyID, "n/a"))
	sl.Hint = "take its block out of the configuration; or, when nobody else has it any more: sealkeep operator slot add " + sl.Name
}

// revokedLocked returns the revoked slots of an open store.
func (k *Keep) revokedLocked() []storage.Revoked {
	if k.store == nil || k.unsealed.Load() == nil {
		return nil
	}
	revoked, err := k.store.Revoked()
	if err != nil { // harmless: the store itself refuses revoked slots
		k.log.Error("reading what was revoked failed", "store", k.store.UUID(), "error", err)
	}
	return revoked
}

// A stray is a slot about which the file and the keyring disagree.
type stray struct {
	storage.Slot // as far as known
	state        SlotState
}

// entriesLocked reads the slots. For an open store, entries are the slots that its
// keyring vouches for; for a sealed one, they are whatever is in the file.
func (k *Keep) entriesLocked() (entries []storage.Slot, strays []stray) {
	if k.store == nil {
		return nil, nil
	}
	if k.unsealed.Load() == nil {
		inFile, err := k.store.Slots()
		if err == nil {
			return inFile, nil
		}
		return k.unreadLocked(err), nil
	}
	table, err := k.store.SlotTable()
	if err != nil {
		return k.unreadLocked(err), nil
	}
	for _, e := range table.Others {
		strays = append(strays, stray{e, SlotQuarantined})
	}
	known := func(name string) bool {
		return slices.ContainsFunc(strays, func(x stray) bool { return x.Name == name })
	}
	for _, name := range table.Quarantined { // some do not decode
		if !known(name) {
			strays = append(strays, stray{storage.Slot{Name: name}, SlotQuarantined})
		}
	}
	for _, name := range table.Missing {
		if !known(name) {
			strays = append(strays, stray{storage.Slot{Name: name}, SlotMissing})
		}
	}
	return table.Trusted, strays
}

// unreadLocked returns the slots as they were when last read.
func (k *Keep) unreadLocked(err error) (entries []storage.Slot) {
	k.log.Error("reading the slots failed", "store", k.store.UUID(), "error", err, "next", hints[classStore])
	for _, sl := range k.slots {
		if sl.State != SlotQuarantined && sl.State != SlotMissing && sl.entry.Name != "" {
			entries = append(entries, sl.entry)
		}
	}
	return entries
}

// pendingLocked works out whether, and how, a seal without a slot gets one.
func (k *Keep) pendingLocked(sl *slot, entries []storage.Slot, revoked []storage.Revoked) {
	barred := slices.IndexFunc(revoked, func(r storage.Revoked) bool { return r.Name == sl.Name })
	other := slices.IndexFunc(entries, func(e storage.Slot) bool { return e.Name == sl.Name })
	why, next := "", ""
	sl.gets = never
	switch {
	case k.store == nil:
	case other >= 0:
		why = fmt.Sprintf("the store has a slot of that name for a seal of type %q", entries[other].Type)
		next = "give the seal block another name, or remove the slot: sealkeep operator slot remove " + sl.Name
	case sl.Disabled:
		why, next = "a disabled seal gets no slot", "remove disabled = true and reload, if it is to have one"
	case barred >= 0:
		sl.revoke(revoked[barred])
		return
	case manual(sl.seal):
		sl.gets = whenAsked
		why = "this seal comes from environment variables alone, which add no slot to a store that is there"
		next = "sealkeep operator slot add " + sl.Name
	default:
		sl.gets = byItself
	}
	if why != "" || sl.State != SlotPending || sl.Class == "" { // otherwise the reason stands until the next attempt
		sl.Class, sl.Error, sl.Hint, sl.FailedSince = "", why, next, time.Time{}
	}
	if sl.State = SlotPending; k.store != nil && sl.Error == "" {
		sl.Error = "this seal has no slot in the store yet"
	}
}

func rank(sl *slot) int {
	switch {
	case sl.seal == nil && sl.State != SlotRecovery:
		return 3
	case sl.seal == nil:
		return 2
	case sl.Disabled:
		return 1
	}
	return 0
}

// starting notes that an attempt begins, and returns its turn.
func (k *Keep) starting(r *race, sl *slot) *turn {
	k.mu.Lock()
	defer k.mu.Unlock()
	sl.State = SlotTrying
	sl.Attempts++
	sl.LastAttempt, sl.NextAttempt = k.now(), time.Time{}
	return r.turn
}

// ended notes that an attempt opened the keep, or ended with its race.
func (k *Keep) ended(sl *slot, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.metrics.attempts.WithLabelValues(sl.Name, "ok").Inc()
	}
	if sl.State == SlotTrying { // the slots were not rearranged
		sl.State = SlotWaiting
	}
}

// failed notes a failed attempt. It logs the failure if its class is new, and then
// once per every.
func (k *Keep) failed(sl *slot, class string, err error, next, every time.Duration) {
	k.mu.Lock()
	now := k.now()
	what := "a slot did not open"
	if sl.Class, sl.Error, sl.Hint = class, err.Error(), hints[class]; sl.stored {
		sl.State = SlotFailed
	} else {
		what = "a seal could not be given a slot"
	}
	sl.NextAttempt = now.Add(next)
	if sl.FailedSince.IsZero() {
		sl.FailedSince = sl.LastAttempt
	}
	news := sl.logged != class
	if news || now.Sub(sl.loggedAt) >= every {
		sl.logged, sl.loggedAt = class, now
		k.log.Error(what, "slot", sl.Name, "type", sl.Type, "class", class,
			"error", err, "attempts", sl.Attempts, "next", sl.Hint)
	}
	if sl.stored {
		k.metrics.attempts.WithLabelValues(sl.Name, class).Inc()
	}
	k.mu.Unlock()
	if news {
		k.changed()
	}
}
