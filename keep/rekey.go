package keep

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/recovery"
	"github.com/sealkeep/sealkeep/storage"
)

// The shares that init makes by default.
const (
	defaultShares    = 5
	defaultThreshold = 3
)

// A rekey makes new shares: the bearer of a root token says how many, and holders
// of old shares approve with them. The old shares open the keep until enough of the
// new ones have been given back; recovery.go has the states. A keep without shares
// gets its first ones at once.
type rekey struct {
	gathering
	made *shareRequest // nil: none in progress; guarded by mu

	verifying gathering // collects new shares that are given back
	verified  string    // the key ID of their slot; guarded by verifying.mu
}

// A shareRequest says what shares to make.
type shareRequest struct {
	Shares, Threshold int
	Recipients        []string // one per share, to hand them out encrypted
}

// rekeyInput is the HTTP form of a shareRequest.
type rekeyInput struct {
	Shares     count    `json:"secret_shares"`
	Threshold  count    `json:"secret_threshold"`
	PGPKeys    []string `json:"pgp_keys"`
	Backup     bool     `json:"backup"`
	Verify     bool     `json:"require_verification"` // it always is
	Recipients []string `json:"recovery_age_recipients"`
}

// A count is a number in a request whose default is not 0. A null also means the
// default.
type count struct{ given *int }

// UnmarshalJSON reads a number, or a text that spells one.
func (c *count) UnmarshalJSON(b []byte) error {
	text := api.Scalar(b)
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return invalid("it is not a whole number") // without the value, see api.Handler.Decode
	}
	c.given = &n
	return nil
}

func (c count) or(n int) int {
	api.Set(&n, c.given)
	return n
}

func (in *rekeyInput) request() (made shareRequest, err error) {
	if len(in.PGPKeys) != 0 || in.Backup {
		return made, invalid("pgp_keys and backup are not supported: nothing is encrypted with PGP; recovery_age_recipients encrypts each share to an age recipient")
	}
	made = shareRequest{in.Shares.or(defaultShares), in.Threshold.or(defaultThreshold), in.Recipients}
	return made, checkShares("secret", made.Shares, made.Threshold, made.Recipients)
}

// checkShares refuses impossible numbers, and recipients that do not match them.
func checkShares(prefix string, n, k int, recipients []string) error {
	if k < 1 || k > n || n > 255 {
		return invalid("%s_shares is from 1 to 255, and %s_threshold from 1 to %s_shares: not %d and %d", prefix, prefix, prefix, n, k)
	}
	if len(recipients) == 0 {
		return nil
	}
	if len(recipients) != n {
		return invalid("recovery_age_recipients has %d recipients for %d shares: name one for each share", len(recipients), n)
	}
	for i, r := range recipients {
		if err := recovery.CheckRecipients([]string{r}); err != nil {
			return invalid("recovery_age_recipients, number %d of %d: %v", i+1, n, err)
		}
	}
	return nil
}

// shareTexts returns shares as they are handed out: in hex and in base64 or, in
// both lists, each as an armored age file encrypted to its recipient.
func shareTexts(shares [][]byte, recipients []string) (inHex, inBase64 []string, err error) {
	inHex, inBase64 = []string{}, []string{}
	for i, share := range shares {
		h, b := hex.EncodeToString(share), base64.StdEncoding.EncodeToString(share)
		if len(recipients) != 0 {
			if h, err = recovery.EncryptShare(recipients[i], share); err != nil {
				return nil, nil, fmt.Errorf("encrypting share %d: %w", i+1, err)
			}
			b = h
		}
		inHex, inBase64 = append(inHex, h), append(inBase64, b)
	}
	return inHex, inBase64, nil
}

// rekeyStatus has Vault's fields.
type rekeyStatus struct {
	Nonce                string   `json:"nonce"`
	Started              bool     `json:"started"`
	T                    int      `json:"t"`
	N                    int      `json:"n"`
	Progress             int      `json:"progress"`
	Required             int      `json:"required"`
	Complete             bool     `json:"complete"`
	Keys                 []string `json:"keys,omitempty"`
	KeysBase64           []string `json:"keys_base64,omitempty"`
	PGPFingerprints      []string `json:"pgp_fingerprints"`
	Backup               bool     `json:"backup"`
	VerificationRequired bool     `json:"verification_required"`
	VerificationNonce    string   `json:"verification_nonce"`

	Set   string    `json:"set,omitempty"`  // the ID of the new shares
	Since time.Time `json:"since,omitzero"` // since when two sets are open
}

func (u *Unsealed) rekeyStatusLocked() (out rekeyStatus, err error) {
	_, t, err := u.required()
	if err != nil {
		return out, err
	}
	out.Required = t
	if in := u.rekey.made; in != nil {
		p := u.rekey.progress()
		out.Started, out.Nonce, out.Progress, out.N, out.T = true, p.nonce, p.have, in.Shares, in.Threshold
		out.Required, out.VerificationRequired = cmp.Or(p.k, t), true
	}
	v := &u.rekey.verifying
	v.mu.Lock()
	defer v.mu.Unlock()
	fresh, err := u.toVerifyLocked()
	if err != nil || fresh == nil {
		return out, err
	}
	out.VerificationRequired, out.VerificationNonce, out.Since = true, v.progress().nonce, fresh.Since
	out.Set, err = recovery.SetID(fresh.Lock)
	return out, err
}

// toVerifyLocked returns the slot of new shares that wait to be given back, or nil
// if there is none. It begins a round for the slot if none runs yet; verifying.mu
// is held.
func (u *Unsealed) toVerifyLocked() (*storage.Slot, error) {
	fresh, err := u.recoverySlot(newSharesName)
	v := &u.rekey.verifying
	switch {
	case err != nil:
		return nil, err
	case fresh == nil:
		u.rekey.verified = ""
		v.resetLocked()
	case fresh.KeyID != u.rekey.verified:
		u.rekey.verified = fresh.KeyID
		v.beginLocked()
	}
	return fresh, nil
}

// recoveryRoutes returns the routes for people: new shares, at OpenBao's path and
// at Vault's, drills, and root tokens.
func (k *Keep) recoveryRoutes() []api.Route {
	routes := []api.Route{
		{Path: "recovery/verify", Help: "Shows that people can open a recovery slot.",
			Ops: map[api.Op]api.Handler{api.Read: api.Do(k.readDrill).Answers(drillStatus{}), api.Write: api.Do(k.writeDrill).Answers(drillStatus{})}},
		// Vault's client cancels here what it began below sys/rekey-recovery-key.
		{Path: "rekey/init", Help: "Cancels new recovery shares.", Sudo: []api.Op{api.Delete}, Ops: map[api.Op]api.Handler{api.Delete: api.Do(k.deleteRekey)}},
		{Path: "decode-token", Help: "Decrypts a root token with its one-time password.", Gate: api.Unsealed,
			Ops: map[api.Op]api.Handler{api.Write: api.Do(k.writeDecodeToken).Answers(decodedToken{})}},
	}
	for _, path := range []string{"rotate/recovery", "rekey-recovery-key"} {
		routes = append(routes,
			api.Route{Path: path + "/init", Help: "Begins to make new recovery shares, shows the progress, or cancels.", Sudo: []api.Op{api.Write, api.Delete},
				Ops: map[api.Op]api.Handler{api.Read: api.Do(k.readRekey).Answers(rekeyStatus{}), api.Write: api.Do(k.writeRekeyInit).Answers(rekeyStatus{}), api.Delete: api.Do(k.deleteRekey)}},
			api.Route{Path: path + "/update", Help: "Takes an old recovery share, and answers the last one with the new shares.", Sudo: []api.Op{api.Write},
				Ops: map[api.Op]api.Handler{api.Write: api.Do(k.writeRekeyUpdate).Answers(rekeyStatus{})}},
			api.Route{Path: path + "/verify", Help: "Takes a new recovery share back; with the last one the old shares end.", Sudo: []api.Op{api.Write, api.Delete},
				Ops: map[api.Op]api.Handler{api.Read: api.Do(k.readRekeyVerify).Answers(verifyStatus{}), api.Write: api.Do(k.writeRekeyVerify).Answers(verifyStatus{}), api.Delete: api.Do(k.deleteRekeyVerify).Answers(verifyStatus{})}})
	}
	for _, path := range []string{"generate-root", "generate-root-token"} {
		routes = append(routes,
			api.Route{Path: path + "/attempt", Help: "Begins to make a root token, shows the progress, or cancels.", Gate: api.Unsealed,
				Ops: map[api.Op]api.Handler{api.Read: api.Do(k.readGenerateRoot).Answers(rootStatus{}), api.Write: api.Do(k.beginGenerateRoot).Answers(rootStatus{}), api.Delete: api.Do(k.cancelGenerateRoot)}},
			api.Route{Path: path + "/update", Help: "Takes a recovery share or an identity, and answers the last one with the root token.", Gate: api.Unsealed,
				Ops: map[api.Op]api.Handler{api.Write: api.Do(k.updateGenerateRoot).Answers(rootStatus{})}})
	}
	return routes
}

func (k *Keep) readRekey(r *api.Request, _ *api.None) (api.Answer, error) {
	u := Of(r)
	u.rekey.mu.Lock()
	defer u.rekey.mu.Unlock()
	out, err := u.rekeyStatusLocked()
	return api.Answer{Inject: true, Data: out}, err
}

func (k *Keep) writeRekeyInit(r *api.Request, given *rekeyInput) (api.Answer, error) {
	in, err := given.request()
	if err != nil {
		return api.Answer{}, err
	}
	u := Of(r)
	g := &u.rekey
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.made != nil {
		return api.Answer{}, invalid("new shares are being made already: cancel that first, or give it the old shares")
	}
	old, err := u.recoverySlot(sharesSlot)
	if err != nil {
		return api.Answer{}, err
	}
	if old == nil {
		if old, err = u.recoverySlot(newSharesName); err != nil {
			return api.Answer{}, err
		}
	}
	switch {
	case old != nil:
	case strings.HasPrefix(r.Path, "sys/rekey-recovery-key/"): // its clients expect the shares in another answer
		return api.Answer{}, invalid("this keep has no recovery shares that others could take the place of: `sealkeep operator rekey -init` makes the first ones (sys/rotate/recovery/init)")
	default: // the bearer of the root token decides alone
		return k.finishRekeyLocked(r, in)
	}
	nonce := g.beginLocked()
	g.made = &in
	k.log.Warn("new recovery shares were requested", "nonce", nonce, "shares", in.Shares, "threshold", in.Threshold, "request", r.ID)
	out, err := u.rekeyStatusLocked()
	return api.Answer{Inject: true, Data: out}, err
}

// deleteRekey cancels a request for new shares, and removes new shares that have
// not been given back. The old shares always stay.
func (k *Keep) deleteRekey(r *api.Request, _ *api.None) (api.Answer, error) {
	u := Of(r)
	g := &u.rekey
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.made != nil {
		k.log.Warn("the request for new recovery shares was cancelled", "nonce", g.progress().nonce, "request", r.ID)
	}
	g.made = nil
	g.resetLocked()
	g.verifying.mu.Lock()
	defer g.verifying.mu.Unlock()
	u.slotting.Lock()
	defer u.slotting.Unlock()
	fresh, err := u.recoverySlot(newSharesName)
	if err != nil || fresh == nil {
		return api.Answer{}, err
	}
	old, err := u.recoverySlot(sharesSlot)
	switch {
	case err != nil:
		return api.Answer{}, err
	case old == nil:
		return api.Answer{}, invalid("there are no old recovery shares any more: give the new ones back (sealkeep operator rekey -verify -), or take them away with `sealkeep operator slot remove %s`", newSharesName)
	}
	if err := u.Store.RemoveSlot(r.Context, newSharesName); err != nil {
		return api.Answer{}, err
	}
	k.rearrange()
	k.log.Warn("new recovery shares were removed before they were given back: the old ones stay", "request", r.ID)
	return api.Answer{}, nil
}

func (k *Keep) writeRekeyUpdate(r *api.Request, in *offer) (api.Answer, error) {
	u := Of(r)
	g := &u.rekey
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.made == nil {
		return api.Answer{}, invalid("no new shares are being made: begin with sys/rotate/recovery/init (sealkeep operator rekey -init)")
	}
	if err := g.checkNonce(in.Nonce); err != nil {
		return api.Answer{}, err
	}
	opened, err := k.proveLocked(u, &g.gathering, *in, false)
	if err != nil {
		return api.Answer{}, err
	}
	if opened == nil {
		out, err := u.rekeyStatusLocked()
		return api.Answer{Inject: true, Data: out}, err
	}
	return k.finishRekeyLocked(r, *g.made, opened.warnings()...)
}

// checkNonce refuses offers for another round.
func (g *gathering) checkNonce(nonce string) error {
	if now := g.progress().nonce; nonce != now {
		return invalid("incorrect nonce supplied; nonce for this operation is %q", now)
	}
	return nil
}

// finishRekeyLocked makes the shares and the slot that they open: the first one of
// a keep without shares, otherwise one beside the old slot.
func (k *Keep) finishRekeyLocked(r *api.Request, in shareRequest, warnings ...string) (api.Answer, error) {
	u := Of(r)
	nonce := u.rekey.progress().nonce
	u.rekey.made = nil
	u.rekey.resetLocked()
	v := &u.rekey.verifying
	v.mu.Lock()
	defer v.mu.Unlock()
	u.slotting.Lock()
	defer u.slotting.Unlock()
	slots, missing, err := u.Store.TrustedSlots()
	if err != nil {
		return api.Answer{}, fmt.Errorf("reading the slots: %w", err)
	}
	root, generation, err := u.Store.RootKey()
	if err != nil {
		return api.Answer{}, err
	}
	defer clear(root)
	old, name := recoverySlot(slots, sharesSlot), sharesSlot
	if old != nil || recoverySlot(slots, newSharesName) != nil {
		name = newSharesName
	}
	slot, shares, err := newSharesSlot(name, in.Shares, in.Threshold, root, u.Store.UUID(), generation, k.now())
	if err != nil {
		return api.Answer{}, err
	}
	out := rekeyStatus{Nonce: nonce, Complete: true, T: in.Threshold, N: in.Shares, Required: in.Threshold, Since: slot.Since}
	if out.Set, err = recovery.SetID(slot.Lock); err != nil {
		return api.Answer{}, err
	}
	if out.Keys, out.KeysBase64, err = shareTexts(shares, in.Recipients); err != nil {
		return api.Answer{}, err
	}
	a := api.Answer{Inject: true, Warnings: warnings}
	if isNew(slot) {
		u.rekey.verified = slot.KeyID
		out.VerificationRequired, out.VerificationNonce = true, v.beginLocked()
		a.Warnings = append(a.Warnings, fmt.Sprintf("the shares that were handed out before open the keep until %d of the new ones are given back: `sealkeep operator rekey -verify -`, one at a time; keep both until then", in.Threshold))
	}
	if slices.Contains(missing, name) { // its shares open nothing, and cannot be asked for
		a.Warnings = append(a.Warnings, fmt.Sprintf("the keep had recovery shares, whose slot %q is not in the file as the store made it: find out who wrote to the file", name))
	}
	a.Data = out
	if err := r.Frame.Tell(a); err != nil {
		return api.Answer{}, err
	}
	err = u.Store.PutSlot(r.Context, slot)
	switch {
	case errors.Is(err, storage.ErrUnknownOutcome): // whichever slot is stored, somebody must hold its shares
		k.log.Error("whether the new recovery shares are in force is not known", "error", err, "request", r.ID)
		a.Warnings = append(a.Warnings, "the disk failed while the slot was written: keep old and new shares until `sealkeep operator recovery verify` has told which open")
	case err != nil:
		return api.Answer{}, err
	default:
		k.log.Warn("new recovery shares were made", "set", out.Set, "shares", in.Shares, "threshold", in.Threshold, "beside_old_ones", isNew(slot), "request", r.ID)
	}
	k.rearrange()
	return a, nil
}

// verifyStatus has Vault's fields, those of the answers while shares are given back
// and those of the last answer.
type verifyStatus struct {
	Nonce    string `json:"nonce"`
	Started  bool   `json:"started"`
	T        int    `json:"t"`
	N        int    `json:"n"`
	Progress int    `json:"progress"`
	Complete bool   `json:"complete"`
}

var errNothingToVerify = invalid("no new recovery shares wait to be given back: `sealkeep operator rekey -init` begins to make some, `sealkeep operator recovery verify` tries those that are in force")

func (u *Unsealed) verifyStatusLocked() (out verifyStatus, err error) {
	fresh, err := u.toVerifyLocked()
	switch {
	case err != nil:
		return out, err
	case fresh == nil:
		return out, errNothingToVerify
	}
	p := u.rekey.verifying.progress()
	out = verifyStatus{Nonce: p.nonce, Started: true, Progress: p.have}
	_, out.N, out.T, err = recovery.Recipients(fresh.Lock)
	return out, err
}

func (k *Keep) readRekeyVerify(r *api.Request, _ *api.None) (api.Answer, error) {
	u := Of(r)
	v := &u.rekey.verifying
	v.mu.Lock()
	defer v.mu.Unlock()
	out, err := u.verifyStatusLocked()
	return api.Answer{Inject: true, Data: out}, err
}

// deleteRekeyVerify forgets the shares given back so far. The new shares stay.
func (k *Keep) deleteRekeyVerify(r *api.Request, _ *api.None) (api.Answer, error) {
	u := Of(r)
	v := &u.rekey.verifying
	v.mu.Lock()
	defer v.mu.Unlock()
	v.beginLocked()
	out, err := u.verifyStatusLocked()
	return api.Answer{Inject: true, Data: out}, err
}

// writeRekeyVerify takes back a new share. The last one needed ends the old shares.
func (k *Keep) writeRekeyVerify(r *api.Request, in *offer) (api.Answer, error) {
	u := Of(r)
	v := &u.rekey.verifying
	v.mu.Lock()
	defer v.mu.Unlock()
	out, err := u.verifyStatusLocked()
	if err != nil {
		return api.Answer{}, err
	}
	if in.Identity != "" {
		return api.Answer{}, invalid("give a new recovery share, as key: an identity does not show that anybody has it")
	}
	if err := v.checkNonce(in.Nonce); err != nil {
		return api.Answer{}, err
	}
	fresh, err := u.toVerifyLocked()
	if err != nil || fresh == nil {
		return api.Answer{}, cmp.Or(err, errNothingToVerify)
	}
	opened, err := k.proveOneLocked(u, v, *in, []storage.Slot{*fresh}, false)
	if err != nil {
		return api.Answer{}, err
	}
	if opened == nil {
		out.Progress = v.progress().have
		return api.Answer{Inject: true, Data: out}, nil
	}
	out.Started, out.Complete, out.Progress = false, true, out.T
	return api.Answer{Inject: true, Data: out, Warnings: opened.warnings()}, nil
}
