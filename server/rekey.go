package server

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/sealkeep/sealkeep/recovery"
	"github.com/sealkeep/sealkeep/storage"
)

// The shares of a keep that is initialized without being told otherwise.
const (
	defaultShares    = 5
	defaultThreshold = 3
)

// A rekey is new shares in the making: who has the root token says how many, who
// has the old shares agrees. A keep that has none gets them at once.
type rekey struct {
	gathering
	made *shareRequest // nil: none is under way; guarded by mu
}

// A shareRequest says what shares to make.
type shareRequest struct {
	Shares     int      `json:"secret_shares"`
	Threshold  int      `json:"secret_threshold"`
	PGPKeys    []string `json:"pgp_keys"`
	Backup     bool     `json:"backup"`
	Verify     bool     `json:"require_verification"`
	Recipients []string `json:"recovery_age_recipients"` // one a share, to hand them out encrypted
}

func (in shareRequest) check() error {
	switch {
	case len(in.PGPKeys) != 0 || in.Backup:
		return invalid("pgp_keys and backup are not supported: nothing is encrypted with PGP; recovery_age_recipients encrypts each share to an age recipient")
	case in.Verify:
		return invalid("require_verification is not supported: try the new shares with sys/recovery/verify (sealkeep operator recovery verify)")
	}
	return checkShares("secret", in.Shares, in.Threshold, in.Recipients)
}

// checkShares refuses numbers that cannot be, and recipients that do not fit.
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

// shareTexts are shares as they are handed out: hex and base64, or for each a
// recipient's armored age file, in both lists.
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
}

func (k *keep) rekeyStatusLocked() (rekeyStatus, error) {
	_, t, err := k.required()
	if err != nil {
		return rekeyStatus{}, err
	}
	out := rekeyStatus{Required: t}
	if in := k.rekey.made; in != nil {
		p := k.rekey.progress()
		out.Started, out.Nonce, out.Progress, out.N, out.T = true, p.nonce, p.have, in.Shares, in.Threshold
	}
	return out, nil
}

func readRekey(s *Server, r *request) (answer, error) {
	r.keep.rekey.mu.Lock()
	defer r.keep.rekey.mu.Unlock()
	out, err := r.keep.rekeyStatusLocked()
	return answer{inject: true, data: out}, err
}

func writeRekeyInit(s *Server, r *request) (answer, error) {
	in := shareRequest{Shares: defaultShares, Threshold: defaultThreshold}
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	if err := in.check(); err != nil {
		return answer{}, err
	}
	g := &r.keep.rekey
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.made != nil {
		return answer{}, invalid("new shares are being made already: cancel that first, or give it the old shares")
	}
	old, err := r.keep.recoverySlot(sharesSlot)
	if err != nil {
		return answer{}, err
	}
	if old == nil { // nobody to ask but the bearer of the root token
		return s.finishRekeyLocked(r, in)
	}
	nonce := g.beginLocked()
	g.made = &in
	s.log.Warn("new recovery shares were asked for", "nonce", nonce, "shares", in.Shares, "threshold", in.Threshold, "request", r.id)
	out, err := r.keep.rekeyStatusLocked()
	return answer{inject: true, data: out}, err
}

func deleteRekey(s *Server, r *request) (answer, error) {
	g := &r.keep.rekey
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.made != nil {
		s.log.Warn("new recovery shares were called off", "nonce", g.progress().nonce, "request", r.id)
	}
	g.made = nil
	g.resetLocked()
	return answer{}, nil
}

func writeRekeyUpdate(s *Server, r *request) (answer, error) {
	var in offer
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	g := &r.keep.rekey
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.made == nil {
		return answer{}, invalid("no new shares are being made: begin with sys/rotate/recovery/init (sealkeep operator rekey -init)")
	}
	if err := g.checkNonce(in.Nonce); err != nil {
		return answer{}, err
	}
	opened, err := s.proveLocked(r.keep, &g.gathering, in)
	if err != nil {
		return answer{}, err
	}
	if opened == nil {
		out, err := r.keep.rekeyStatusLocked()
		return answer{inject: true, data: out}, err
	}
	return s.finishRekeyLocked(r, *g.made)
}

// checkNonce refuses offers that are for another round.
func (g *gathering) checkNonce(nonce string) error {
	if now := g.progress().nonce; nonce != now {
		return invalid("incorrect nonce supplied; nonce for this operation is %q", now)
	}
	return nil
}

// finishRekeyLocked makes the shares, and in one commit the slot that they open
// takes the place of the old one.
func (s *Server) finishRekeyLocked(r *request, in shareRequest) (answer, error) {
	k := r.keep
	nonce := k.rekey.progress().nonce
	k.rekey.made = nil
	k.rekey.resetLocked()
	k.slotting.Lock()
	defer k.slotting.Unlock()
	root, generation, err := k.store.RootKey()
	if err != nil {
		return answer{}, err
	}
	defer clear(root)
	slot, shares, err := newSharesSlot(in.Shares, in.Threshold, root, k.store.UUID(), generation, s.now())
	if err != nil {
		return answer{}, err
	}
	out := rekeyStatus{Nonce: nonce, Complete: true, T: in.Threshold, N: in.Shares, Required: in.Threshold}
	if out.Keys, out.KeysBase64, err = shareTexts(shares, in.Recipients); err != nil {
		return answer{}, err
	}
	warnings := []string{"shares that were handed out before open older copies of this store's file still, and what is left of the old slot in the file itself; " +
		"`sealkeep operator rotate-root`, and then `sealkeep operator storage compact`, make them useless for this file"}
	err = k.store.PutSlot(r.ctx, slot)
	switch {
	case errors.Is(err, storage.ErrUnknownOutcome): // whichever is there, its shares must be in somebody's hands
		s.log.Error("whether the new recovery shares are in force is not known", "error", err, "request", r.id)
		warnings = append(warnings, "the disk failed while the slot was written: keep old and new shares until `sealkeep operator recovery verify` has told which open")
	case err != nil:
		return answer{}, err
	default:
		s.log.Warn("new recovery shares were made", "shares", in.Shares, "threshold", in.Threshold, "request", r.id)
	}
	s.rearrange()
	return answer{inject: true, data: out, warnings: warnings}, nil
}
