package keep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/recovery"
	"github.com/sealkeep/sealkeep/storage"
)

// A rotation of the root key makes a new one and wraps it for every slot that is
// kept: with its seal, or for its people. One commit changes all slots, or nothing
// changes. Every stored slot is kept, whatever its state, unless it is named:
//
//	drop    its service is away: the seal later gets a slot again automatically
//	revoke  somebody else may have it: only `slot add` wraps for it again
//
// Something must be left that was seen to open the new root key: an enabled seal
// that wrapped and opened it in this request, or people who sent k shares or an
// identity with it. If there is neither, a first request makes shares
// (secret_shares), which the keep only holds in memory, and a second one with k of
// them and the nonce rotates. Until then nothing has changed, so losing the first
// answer does no harm.
type rootRequest struct {
	Drop     []string `json:"drop"`
	Revoke   []string `json:"revoke"`
	Keys     []string `json:"keys"`     // recovery shares: as many as the threshold
	Identity string   `json:"identity"` // the text of an age identity file
	Nonce    string   `json:"nonce"`    // of the shares that were made for this

	Shares     int      `json:"secret_shares"` // not 0: only make shares
	Threshold  int      `json:"secret_threshold"`
	Recipients []string `json:"recovery_age_recipients"` // one per share, to hand them out encrypted
}

// rootShares holds shares that were made for a rotation of the root key and have
// not been given back yet. They exist only in memory.
type rootShares struct {
	nonce string
	slot  storage.Slot // holds the present root key
}

// rootRotation is the answer of sys/rotate/root.
type rootRotation struct {
	Complete bool `json:"complete"` // false: shares were made, nothing has changed

	Fingerprint string   `json:"fingerprint,omitempty"`
	Previous    string   `json:"previous_fingerprint,omitempty"`
	Generation  uint64   `json:"root_generation,omitempty"`
	Slots       []string `json:"slots,omitempty"`     // the slots with the new root key
	ProvedBy    string   `json:"proved_by,omitempty"` // the slot that was seen to open it

	Nonce      string   `json:"nonce,omitempty"`
	N          int      `json:"n,omitempty"`
	T          int      `json:"t,omitempty"`
	Keys       []string `json:"keys,omitempty"`
	KeysBase64 []string `json:"keys_base64,omitempty"`
	Set        string   `json:"set,omitempty"` // the ID of the shares
}

// writeRotateRoot rotates the root key. It also adds a key to the barrier: once
// everything is re-encrypted, a holder of the old root key can read no value of
// this file or of a newer one. Names stay readable, since their key does not change.
func (k *Keep) writeRotateRoot(r *api.Request, in *rootRequest) (api.Answer, error) {
	u := Of(r)
	u.slotting.Lock()
	defer u.slotting.Unlock()
	all, release := k.take()
	defer release()
	kept, revoked, err := k.keptSlots(u, all, *in)
	if err != nil {
		return api.Answer{}, err
	}
	if in.Shares != 0 {
		return k.makeRootShares(r, *in, kept)
	}
	kept, by, identity, err := k.proveRoot(u, *in, kept)
	if err != nil {
		return api.Answer{}, err
	}
	service := slices.IndexFunc(kept, func(sl *slot) bool { return sl.seal != nil && !sl.seal.Disabled() })
	if service < 0 && by == "" {
		return api.Answer{}, in.unproven()
	}
	old, generation, err := u.Store.RootKey()
	if err != nil {
		return api.Answer{}, err
	}
	clear(old)
	root := storage.NewRootKey()
	defer clear(root)
	slots, err := k.wrapKept(r.Context, kept, root, u.Store.UUID(), generation+1)
	if err != nil {
		return api.Answer{}, err
	}
	if by == "" {
		by = kept[service].Name
	} else if err := tryIdentity(slots, by, identity, root, u.Store.UUID()); err != nil {
		return api.Answer{}, err
	}
	out := rootRotation{Complete: true, Previous: u.Store.Fingerprint(), Fingerprint: storage.Fingerprint(root), Generation: generation + 1, ProvedBy: by}
	for _, slot := range slots {
		out.Slots = append(out.Slots, slot.Name)
	}
	if err := r.Frame.Tell(api.Answer{Data: out}); err != nil {
		return api.Answer{}, err
	}
	err = u.Store.RotateRoot(r.Context, root, slots, revoked...)
	k.rearrange()
	if err != nil {
		if errors.Is(err, storage.ErrRevoked) {
			err = invalid("%v: it would hang on a key that somebody else may have; revoke it too, or drop it and give its seal another key; nothing was changed", err)
		}
		return api.Answer{}, err
	}
	u.rootShares = nil
	u.wakeRotation()
	u.wakeVisits() // dropped seals may be back soon
	k.log.Warn("rotated the root key", "fingerprint", out.Fingerprint, "instead_of", out.Previous, "slots", out.Slots,
		"dropped", in.Drop, "revoked", in.Revoke, "proved_by", by, "request", r.ID)
	opens := slices.ContainsFunc(kept, func(sl *slot) bool { return sl.seal != nil })
	return api.Answer{Data: out, Warnings: k.rootWarnings(*in, opens)}, nil
}

// rootWarnings says what a rotation did not do, and what to do next.
func (k *Keep) rootWarnings(in rootRequest, service bool) (warnings []string) {
	if !service {
		warnings = append(warnings, "no service opens this keep at the next start: people do, with `sealkeep operator unseal -` or `sealkeep operator unseal -identity=FILE`; "+
			"a seal block of another key service makes it automatic again")
	}
	for _, sl := range k.Status().Slots {
		switch {
		case sl.State == SlotPending && slices.Contains(in.Drop, sl.Name):
			warnings = append(warnings, fmt.Sprintf("the configuration still has seal %q: it gets its slot again when its service can be reached; take its block out, or revoke it, if it must not", sl.Name))
		case sl.State == SlotRevoked && slices.Contains(in.Revoke, sl.Name):
			warnings = append(warnings, fmt.Sprintf("%q gets no slot again, whatever is reloaded or restarted, until `sealkeep operator slot add %s`", sl.Name, sl.Name))
		}
	}
	return append(warnings,
		"older copies of the file, backups among them, still open with the slots and the shares that they hold: whoever had both has had the secrets, so replace those",
		"all records are being encrypted anew: `sealkeep operator key-status` shows how far it is; when it is done, "+
			"`sealkeep operator storage compact` on the stopped keep takes the last old bytes out of the file",
		"whoever had the old root key and gets a later copy still reads the names in it, though no value")
}

// keptSlots returns the slots that get the new root key, and the slots to remember
// as revoked. It fails if a stored slot cannot be kept and is not named. slotting
// is held.
func (k *Keep) keptSlots(u *Unsealed, all []*slot, in rootRequest) (kept []*slot, revoked []storage.Revoked, err error) {
	stored, missing, err := u.Store.TrustedSlots()
	if err != nil {
		return nil, nil, err
	}
	named := func(name string) bool { return slices.Contains(in.Drop, name) || slices.Contains(in.Revoke, name) }
	of := func(name string) func(*slot) bool { return func(sl *slot) bool { return sl.Name == name } }
	for _, name := range slices.Concat(in.Drop, in.Revoke) {
		if !slices.ContainsFunc(all, of(name)) && !slices.Contains(missing, name) && !slices.ContainsFunc(stored, func(e storage.Slot) bool { return e.Name == name }) {
			return nil, nil, errNoSlotNamed(name)
		}
	}
	var stuck []string
	for _, e := range stored {
		if named(e.Name) {
			continue
		}
		if isRecovery(e) {
			kept = append(kept, &slot{SlotStatus: SlotStatus{Name: e.Name, Type: e.Type}, entry: e})
			continue
		}
		i := slices.IndexFunc(all, func(sl *slot) bool { return sl.seal != nil && sl.Name == e.Name && sl.Type == e.Type })
		if i < 0 {
			stuck = append(stuck, fmt.Sprintf("%s: %s: no seal of type %q and name %q is configured", e.Name, SlotOrphaned, e.Type, e.Name))
			continue
		}
		kept = append(kept, all[i])
	}
	for _, name := range missing {
		if !named(name) {
			stuck = append(stuck, fmt.Sprintf("%s: %s: the store has made it, but it is not in the file as it was made", name, SlotMissing))
		}
	} // a quarantined record is not the store's own, and goes
	if len(stuck) > 0 {
		return nil, nil, invalid("these slots cannot be given a new root key: %s; make them work, or name them: drop what is only away, revoke what somebody else may have; nothing was changed", strings.Join(stuck, "; "))
	}
	slices.SortStableFunc(kept, func(a, b *slot) int { // in the order of Status
		return slices.IndexFunc(all, of(a.Name)) - slices.IndexFunc(all, of(b.Name))
	})
	for _, name := range in.Revoke {
		if name == sharesSlot || name == newSharesName {
			continue // without their lock, nothing can be wrapped for shares again
		}
		one := storage.Revoked{Name: name, Since: k.now().UTC()}
		if i := slices.IndexFunc(stored, func(e storage.Slot) bool { return e.Name == name }); i >= 0 {
			one.Type, one.KeyID, one.People = stored[i].Type, stored[i].KeyID, isRecovery(stored[i])
		} else if i := slices.IndexFunc(all, of(name)); i >= 0 {
			one.Type, one.KeyID = all[i].Type, all[i].KeyID
		}
		revoked = append(revoked, one)
	}
	return kept, revoked, nil
}

// unproven returns the error for a rotation after which nothing would be known to
// open the keep.
func (in rootRequest) unproven() error {
	command := "sealkeep operator rotate-root"
	for _, name := range in.Drop {
		command += " -drop=" + name
	}
	for _, name := range in.Revoke {
		command += " -revoke=" + name
	}
	return &api.Error{Code: api.Unproven, Text: "no enabled service slot would be left, so that only people could open the keep, and nobody has shown that they can: " +
		"give as many recovery shares as open (keys) or an age identity (identity) of a slot that is kept, or have shares made first (secret_shares and secret_threshold, then keys and nonce); " +
		"`" + command + "` asks for them on a terminal; nothing was changed"}
}

// makeRootShares makes shares for a rotation after which nothing else would be
// known to open the keep. slotting is held.
func (k *Keep) makeRootShares(r *api.Request, in rootRequest, kept []*slot) (api.Answer, error) {
	u := Of(r)
	if err := checkShares("secret", in.Shares, in.Threshold, in.Recipients); err != nil {
		return api.Answer{}, err
	}
	if hasShares(kept) {
		return api.Answer{}, invalid("this keep has recovery shares: give as many of them as open (keys); if they are lost, drop them: %s", sharesSlot)
	}
	root, generation, err := u.Store.RootKey()
	if err != nil {
		return api.Answer{}, err
	}
	defer clear(root)
	slot, shares, err := newSharesSlot(sharesSlot, in.Shares, in.Threshold, root, u.Store.UUID(), generation, k.now())
	if err != nil {
		return api.Answer{}, err
	}
	out := rootRotation{Nonce: storage.NewUUID(), N: in.Shares, T: in.Threshold}
	if out.Keys, out.KeysBase64, err = shareTexts(shares, in.Recipients); err != nil {
		return api.Answer{}, err
	}
	if out.Set, err = recovery.SetID(slot.Lock); err != nil {
		return api.Answer{}, err
	}
	u.rootShares = &rootShares{out.Nonce, slot}
	k.log.Warn("recovery shares were made, to rotate the root key with", "shares", in.Shares, "threshold", in.Threshold, "request", r.ID)
	return api.Answer{Data: out, Warnings: []string{fmt.Sprintf("nothing has changed yet: hand the shares out, then give %d of them back (keys, with this nonce, and the same drop and revoke); a restart or a seal of the keep makes them worthless", in.Threshold)}}, nil
}

func hasShares(kept []*slot) bool {
	return slices.ContainsFunc(kept, func(sl *slot) bool { return sl.seal == nil && sl.Type == recovery.Shares })
}

// proveRoot opens a kept slot with the shares or the identity of the request, and
// returns its name, or "" if the request has neither. Shares that were made for
// this rotation add a slot to the kept ones. slotting is held.
func (k *Keep) proveRoot(u *Unsealed, in rootRequest, kept []*slot) (all []*slot, by, identity string, err error) {
	if made := u.rootShares; in.Nonce != "" {
		switch {
		case made == nil || made.nonce != in.Nonce:
			return nil, "", "", invalid("no shares with this nonce are waiting to be given back: they were made for an earlier root key, or the keep was sealed since, or newer ones were made; have them made again")
		case hasShares(kept):
			return nil, "", "", invalid("this keep has got recovery shares meanwhile: give those, without a nonce")
		case len(in.Keys) == 0:
			return nil, "", "", invalid("give back the shares that were made, as keys")
		}
		kept = append(kept, &slot{SlotStatus: SlotStatus{Name: made.slot.Name, Type: made.slot.Type}, entry: made.slot})
	}
	var offers []offer
	for _, key := range in.Keys {
		offers = append(offers, offer{Key: key})
	}
	if in.Identity != "" {
		offers = append(offers, offer{Identity: in.Identity})
	}
	if offers == nil {
		return kept, "", "", nil
	}
	var slots []storage.Slot
	for _, sl := range kept {
		if sl.seal == nil {
			slots = append(slots, sl.entry)
		}
	}
	if slots == nil {
		return nil, "", "", invalid("no slot that people open is kept, so shares and identities prove nothing here; nothing was changed")
	}
	g := new(gathering)
	for i, o := range offers {
		proofs, err := k.proofsLocked(u, g, o, slots)
		switch wrong, ok := errors.AsType[*api.Error](err); {
		case ok && o.Key != "" && wrong.Code == api.Invalid:
			return nil, "", "", invalid("share %d of %d: %v; nothing was changed", i+1, len(offers), err)
		case err != nil:
			return nil, "", "", err
		case proofs != nil:
			forget(proofs)
			return kept, proofs[0].slot.Name, proofs[0].identity, nil
		}
	}
	return nil, "", "", invalid("%d recovery shares are too few: give as many as open, all in one request; nothing was changed", len(offers))
}

// tryIdentity opens a new recovery slot with the identity that people proved to have.
func tryIdentity(slots []storage.Slot, name, identity string, root []byte, uuid string) error {
	slot := recoverySlot(slots, name)
	got, err := recovery.Unwrap(identity, slot.Blob, slot.Context(uuid))
	defer clear(got)
	if err == nil && !bytes.Equal(got, root) {
		err = errOtherRoot
	}
	if err != nil {
		return fmt.Errorf("opening the new slot %q, nothing was changed: %w", name, err)
	}
	return nil
}

// wrapKept wraps the root key for every kept slot, concurrently. It opens the slots
// of seals again, but not those of people, who need not be present.
func (k *Keep) wrapKept(ctx context.Context, kept []*slot, root []byte, uuid string, generation uint64) ([]storage.Slot, error) {
	slots, errs := make([]storage.Slot, len(kept)), make([]error, len(kept))
	var wait sync.WaitGroup
	for i, sl := range kept {
		wait.Go(func() {
			if sl.seal == nil {
				slots[i], errs[i] = rewrapRecovery(sl.entry, root, uuid, generation, k.now())
				return
			}
			ctx, cancel := context.WithTimeout(ctx, wrapTimeout)
			defer cancel()
			var err error
			if slots[i], err = k.wrapRoot(ctx, sl.seal, root, uuid, generation); err != nil {
				class := classOf(err)
				errs[i] = fmt.Errorf("slot %q: %s: %w; next: %s", sl.Name, class, err, hints[class])
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, invalid("the new root key could not be wrapped for every slot, and nothing was changed: %v; or name the slot: drop it if its service is only away, revoke it if somebody else may have it", err)
	}
	return slots, nil
}
