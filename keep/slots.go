package keep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// The API of the slots. Reconciliation adds and replaces slots automatically; they
// are removed only on request, and only after another slot was just seen to open
// the keep.

const migrateAnswer = "there is no migration of seals, and none is needed: add the new seal block beside the old one and reload (SIGHUP); " +
	"when `sealkeep operator slot list` shows the new slot as ready, take the old block out of the configuration, reload, and `sealkeep operator slot remove` the old slot"

func errNoSlotNamed(name string) error {
	return &api.Error{Code: api.NotFound, Text: fmt.Sprintf("there is no slot named %q: sealkeep operator slot list shows them", name)}
}

// take returns the current slots; their seals are not closed until release is
// called.
func (k *Keep) take() (slots []*slot, release func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	users := &k.seals.users
	users.Add(1)
	return k.slots, users.Done // arranging makes a new list
}

// named returns the slots with a name, a seal's first. There are rarely two: a seal
// and a slot of different types, or a slot and a record that somebody else put in
// its place.
func named(slots []*slot, name string) []*slot {
	return slices.DeleteFunc(slices.Clone(slots), func(sl *slot) bool { return sl.Name != name })
}

// slotRoutes returns the routes for the slots.
func (k *Keep) slotRoutes() []api.Route {
	list := api.Do(k.listSlots).Answers(slotList{})
	return []api.Route{
		{Path: "slots", Help: "The slots, and the seals that have none.", Ops: map[api.Op]api.Handler{api.Read: list, api.List: list}},
		{Path: "slots/{name...}", Help: "Shows, makes or removes a slot.", Sudo: []api.Op{api.Write, api.Delete},
			Ops: map[api.Op]api.Handler{api.Read: api.Do(k.readSlot).Answers(SlotStatus{}), api.Write: api.Do(k.addSlot).Answers(SlotStatus{}), api.Delete: api.Do(k.removeSlot).Answers(removal{})}},
		{Path: "slots/{name...}/verify", Help: "Opens a slot as it stands in the file.", Ops: map[api.Op]api.Handler{api.Write: api.Do(k.verifySlot).Answers(opening{})}},
		{Path: "rotate/root", Help: "Makes a new root key, and wraps it for every slot.", Sudo: []api.Op{api.Write}, Timeout: longTimeout,
			Ops: map[api.Op]api.Handler{api.Write: api.Do(k.writeRotateRoot).Answers(rootRotation{})}},
	}
}

type slotList struct {
	Names []string     `json:"keys"`
	Slots []SlotStatus `json:"slots"`
}

func (k *Keep) listSlots(r *api.Request, _ *api.None) (api.Answer, error) {
	slots := k.Status().Slots
	names := make([]string, len(slots))
	for i, sl := range slots {
		names[i] = sl.Name
	}
	return api.Answer{Data: slotList{slices.Compact(slices.Sorted(slices.Values(names))), slots}}, nil
}

func (k *Keep) readSlot(r *api.Request, _ *api.None) (api.Answer, error) {
	return k.showSlot(r.Param("name"))
}

func (k *Keep) showSlot(name string) (api.Answer, error) {
	for _, sl := range k.Status().Slots {
		if sl.Name == name {
			return api.Answer{Data: sl}, nil
		}
	}
	return api.Answer{}, errNoSlotNamed(name)
}

// addSlot gives a configured seal, or the configured recipients, their slot now,
// even if it was revoked.
func (k *Keep) addSlot(r *api.Request, _ *api.None) (api.Answer, error) {
	u, name := Of(r), r.Param("name")
	if name == ageSlot {
		return k.addAgeSlot(r)
	}
	slots, release := k.take()
	defer release()
	named := named(slots, name)
	if len(named) == 0 {
		return api.Answer{}, &api.Error{Code: api.NotFound, Text: fmt.Sprintf("there is no seal named %q: add its block to the configuration and reload (SIGHUP)", name)}
	}
	sl := named[0]
	switch {
	case sl.seal == nil:
		return api.Answer{}, invalid("slot %q has no seal in the configuration: add its block and reload (SIGHUP)", sl.Name)
	case sl.stored:
		return api.Answer{}, invalid("seal %q has its slot already: `sealkeep operator slot verify %s` opens it", sl.Name, sl.Name)
	case sl.gets == never:
		return api.Answer{}, invalid("%s: %s", sl.Error, sl.Hint)
	}
	ctx, cancel := context.WithTimeout(r.Context, wrapTimeout)
	defer cancel()
	err := k.give(ctx, u, sl.seal, u.Store.AllowSlot)
	class := classOf(err)
	switch {
	case err == nil:
		return k.showSlot(name)
	case errors.Is(err, storage.ErrSealed), errors.Is(err, storage.ErrUnknownOutcome):
		return api.Answer{}, err
	case errors.Is(err, errStored):
		if now := k.slotOf(sl.seal); now != nil {
			k.failed(now, class, err, retryFirst, probeInterval)
		}
		u.wakeVisits()
		return api.Answer{}, invalid("seal %q (%s) has its slot, but it could not be opened as it was stored: %s: %v; the keep tries it again by itself, and makes it anew if it has to; next: %s", sl.Name, sl.Type, class, err, hints[class])
	}
	return api.Answer{}, invalid("seal %q (%s) could not make a slot: %s: %v; next: %s", sl.Name, sl.Type, class, err, hints[class])
}

// addAgeSlot wraps the root key for the configured recipients, if reconciliation
// does not.
func (k *Keep) addAgeSlot(r *api.Request) (api.Answer, error) {
	u := Of(r)
	u.slotting.Lock()
	defer u.slotting.Unlock()
	k.mu.Lock()
	recipients := k.recipients
	k.mu.Unlock()
	old, err := u.recoverySlot(ageSlot)
	switch {
	case err != nil:
		return api.Answer{}, err
	case len(recipients) == 0:
		return api.Answer{}, invalid("the configuration names no recipients: add recovery \"age\" and reload (SIGHUP)")
	case old != nil:
		return api.Answer{}, invalid("the recipients of the configuration have their slot already, or get it by themselves")
	}
	root, generation, err := u.Store.RootKey()
	if err != nil {
		return api.Answer{}, err
	}
	defer clear(root)
	slot, err := newAgeSlot(ageSlot, recipients, root, u.Store.UUID(), generation, k.now())
	if err == nil {
		err = u.Store.AllowSlot(r.Context, slot)
	}
	k.rearrange()
	if err != nil {
		return api.Answer{}, err
	}
	k.log.Warn("the root key was wrapped for the recipients of the configuration, as asked", "slot", slot.Name, "recipients", slot.KeyID, "request", r.ID)
	return k.showSlot(slot.Name)
}

// An opening is the outcome of opening a stored slot.
type opening struct {
	Name   string  `json:"name"`
	Type   string  `json:"type"`
	Opened bool    `json:"opened"`
	Took   float64 `json:"seconds"`
	Class  string  `json:"class,omitempty"`
	Error  string  `json:"error,omitempty"`
	Hint   string  `json:"hint,omitempty"`
}

// verifySlot opens a slot as stored in the file, and changes nothing.
func (k *Keep) verifySlot(r *api.Request, _ *api.None) (api.Answer, error) {
	name := r.Param("name")
	slots, release := k.take()
	defer release()
	named := named(slots, name)
	if len(named) == 0 {
		return api.Answer{}, errNoSlotNamed(name)
	}
	return api.Answer{Data: k.tryOpening(r.Context, Of(r), named[0])}, nil
}

// tryOpening opens the slot of a seal as stored in the file.
func (k *Keep) tryOpening(ctx context.Context, u *Unsealed, sl *slot) opening {
	out := opening{Name: sl.Name, Type: sl.Type}
	if !sl.stored {
		k.mu.Lock()
		defer k.mu.Unlock()
		if out.Class, out.Error, out.Hint = sl.Class, sl.Error, sl.Hint; out.Error == "" && isRecovery(sl.entry) {
			out.Error, out.Hint = "people open this slot", "sealkeep operator recovery verify"
		}
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	began := time.Now()
	err := k.openStored(ctx, u, sl.seal)
	if out.Took = time.Since(began).Seconds(); err != nil {
		out.Class, out.Error = classOf(err), err.Error()
		out.Hint = hints[out.Class]
		return out
	}
	k.passed(sl.seal, "")
	out.Opened = true
	return out
}

type removal struct {
	Name   string `json:"name"`
	Opened string `json:"opened_instead"`
}

// removeSlot removes a slot after it has opened another enabled one as stored in
// the file. A record that the store did not make is removed without that.
func (k *Keep) removeSlot(r *api.Request, _ *api.None) (api.Answer, error) {
	u, name := Of(r), r.Param("name")
	u.slotting.Lock()
	defer u.slotting.Unlock()
	slots, release := k.take()
	defer release()
	named := named(slots, name)
	if len(named) == 0 {
		return api.Answer{}, errNoSlotNamed(name)
	}
	for _, sl := range named {
		switch {
		case sl.seal == nil || sl.Disabled || sl.gets == never:
		case sl.stored && !manual(sl.seal):
			return api.Answer{}, invalid("the configuration has seal %q, and the slot would come back: take its block out, or set disabled = true, reload (SIGHUP), and remove the slot then", sl.Name)
		case !sl.stored && len(named) == 1:
			return api.Answer{}, invalid("seal %q has no slot in the store: to have none, take its block out of the configuration", sl.Name)
		}
	}
	trusted, missing, err := u.Store.TrustedSlots()
	if err != nil {
		return api.Answer{}, err
	}
	listed := slices.Contains(missing, name) || slices.ContainsFunc(trusted, func(e storage.Slot) bool { return e.Name == name })
	by := ""
	if listed {
		if by, err = k.anotherOpens(r.Context, u, slots, name); err != nil {
			return api.Answer{}, err
		}
	}
	if err := u.Store.RemoveSlot(r.Context, name); err != nil {
		if errors.Is(err, storage.ErrUnknownOutcome) { // the file decides
			k.rearrange()
		}
		if errors.Is(err, storage.ErrNoSlot) {
			err = errNoSlotNamed(name)
		}
		return api.Answer{}, err
	}
	k.rearrange()
	u.wakeVisits() // a seal may have been waiting for the name
	k.log.Warn("removed a slot", "slot", name, "opened_instead", by, "request", r.ID)
	out := api.Answer{Data: removal{name, by}}
	if listed {
		out.Warnings = []string{"older copies of the file still have this slot, and so do the bytes that are left of it in this one: it opens them, and what the root key of today opens; " +
			"if somebody else may have its key, `sealkeep operator rotate-root`, and when all is encrypted anew `sealkeep operator storage compact`, make it worthless for this file"}
	}
	return out, nil
}

func manual(seal Seal) bool {
	m, ok := seal.(interface{ Manual() bool })
	return ok && m.Manual()
}

// anotherOpens opens the slots of enabled seals, except the one named but, and
// returns the name of the best one that opened.
func (k *Keep) anotherOpens(ctx context.Context, u *Unsealed, slots []*slot, but string) (string, error) {
	others := slices.DeleteFunc(slices.Clone(slots), func(sl *slot) bool { return sl.Name == but || !sl.stored || sl.Disabled })
	outcomes := make([]opening, len(others))
	var wait sync.WaitGroup
	for i, sl := range others {
		wait.Go(func() { outcomes[i] = k.tryOpening(ctx, u, sl) })
	}
	wait.Wait()
	why := []string{"there is no other slot with an enabled seal: add a seal block and reload (SIGHUP)"}
	if len(others) > 0 {
		why = nil
	}
	for _, o := range outcomes {
		if o.Opened {
			return o.Name, nil
		}
		why = append(why, fmt.Sprintf("%s: %s: %s; next: %s", o.Name, o.Class, o.Error, o.Hint))
	}
	return "", invalid("slot %q stays, for no other slot opens the keep now: %s", but, strings.Join(why, "; "))
}
