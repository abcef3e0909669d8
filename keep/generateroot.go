package keep

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"math/big"
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// A rootGeneration makes a root token for people whose shares or identity open
// the keep, when the last root token is lost. Anybody can begin one, so it is
// off unless the configuration enables it, and every step is logged. The token
// is sent encrypted with a one-time password that only the initiator knows.
type rootGeneration struct {
	gathering
	otp string // empty: none in progress; guarded by mu
}

// rootStatus has Vault's fields.
type rootStatus struct {
	Nonce            string `json:"nonce"`
	Started          bool   `json:"started"`
	Progress         int    `json:"progress"`
	Required         int    `json:"required"`
	Complete         bool   `json:"complete"`
	EncodedToken     string `json:"encoded_token"`
	EncodedRootToken string `json:"encoded_root_token"`
	PGPFingerprint   string `json:"pgp_fingerprint"`
	OTP              string `json:"otp"`
	OTPLength        int    `json:"otp_length"`
}

var errGenerateRoot = &api.Error{Code: api.Denied, Text: "root generation is disabled: set enable_generate_root = true in the configuration, reload (SIGHUP), and remove it again afterwards"}

// generating returns an error unless the configuration allows root generation.
func (k *Keep) generating() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.generateRoot {
		return errGenerateRoot
	}
	return nil
}

func (u *Unsealed) rootStatusLocked() (rootStatus, error) {
	_, t, err := u.required()
	if err != nil {
		return rootStatus{}, err
	}
	p := u.generation.progress()
	return rootStatus{Nonce: p.nonce, Started: u.generation.otp != "", Progress: p.have, Required: cmp.Or(p.k, t), OTPLength: access.RandomToken}, nil
}

func (k *Keep) readGenerateRoot(r *api.Request, _ *api.None) (api.Answer, error) {
	if err := k.generating(); err != nil {
		return api.Answer{}, err
	}
	u := Of(r)
	u.generation.mu.Lock()
	defer u.generation.mu.Unlock()
	out, err := u.rootStatusLocked()
	return api.Answer{Inject: true, Data: out}, err
}

type generateRootInput struct {
	OTP    string `json:"otp"`
	PGPKey string `json:"pgp_key"`
}

func (k *Keep) beginGenerateRoot(r *api.Request, in *generateRootInput) (api.Answer, error) {
	if err := k.generating(); err != nil {
		k.log.Warn("a root token was requested, but root generation is disabled", "from", r.Frame.Remote(), "request", r.ID)
		return api.Answer{}, err
	}
	u := Of(r)
	_, t, err := u.required()
	switch {
	case err != nil:
		return api.Answer{}, err
	case in.PGPKey != "":
		return api.Answer{}, invalid("pgp_key is not supported: nothing is encrypted with PGP; use an otp")
	case in.OTP != "" && len(in.OTP) != access.RandomToken:
		return api.Answer{}, invalid("the otp has %d characters, not %d: leave it out to get one", len(in.OTP), access.RandomToken)
	case t == 0:
		return api.Answer{}, invalid("this store has no recovery slot: nobody can approve a root token")
	}
	g := &u.generation
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.otp != "" {
		return api.Answer{}, invalid("root generation already in progress: give it shares, or cancel it first")
	}
	g.otp = in.OTP
	if g.otp == "" {
		if g.otp, err = newOTP(); err != nil {
			return api.Answer{}, err
		}
	}
	nonce := g.beginLocked()
	k.log.Warn("a root token was requested", "nonce", nonce, "from", r.Frame.Remote(), "request", r.ID)
	out, err := u.rootStatusLocked()
	if in.OTP == "" {
		out.OTP = g.otp
	}
	return api.Answer{Inject: true, Data: out}, err
}

func (k *Keep) cancelGenerateRoot(r *api.Request, _ *api.None) (api.Answer, error) {
	if err := k.generating(); err != nil {
		return api.Answer{}, err
	}
	g := &Of(r).generation
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.otp != "" {
		k.log.Warn("the request for a root token was cancelled", "nonce", g.progress().nonce, "from", r.Frame.Remote(), "request", r.ID)
	}
	g.otp = ""
	g.resetLocked()
	return api.Answer{}, nil
}

func (k *Keep) updateGenerateRoot(r *api.Request, in *offer) (api.Answer, error) {
	if err := k.generating(); err != nil {
		return api.Answer{}, err
	}
	u := Of(r)
	g := &u.generation
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.otp == "" {
		return api.Answer{}, invalid("no root generation in progress: begin with sys/generate-root/attempt (sealkeep operator generate-root -init)")
	}
	if err := g.checkNonce(in.Nonce); err != nil {
		return api.Answer{}, err
	}
	opened, err := k.proveLocked(u, &g.gathering, *in, false)
	if err != nil {
		return api.Answer{}, err
	}
	out, err := u.rootStatusLocked()
	if err != nil || opened == nil {
		return api.Answer{Inject: true, Data: out}, err
	}
	otp := g.otp
	g.otp = ""
	g.resetLocked()
	token := access.NewSecret()
	out.EncodedToken = base64.RawStdEncoding.EncodeToString(xor(token, otp))
	out.Complete, out.EncodedRootToken, out.Progress = true, out.EncodedToken, out.Required
	a := api.Answer{Inject: true, Data: out, Warnings: opened.warnings()}
	if err := r.Frame.Tell(a); err != nil {
		return api.Answer{}, err
	}
	err = u.Store.Update(r.Context, func(tx *storage.Tx) error {
		_, err := access.CreateRoot(tx, token, k.now())
		return err
	})
	if err != nil {
		return api.Answer{}, err
	}
	k.log.Warn("a root token was made", "nonce", out.Nonce, "slot", opened.Name, "from", r.Frame.Remote(), "request", r.ID)
	return a, nil
}

type decodeTokenInput struct {
	Encoded string `json:"encoded_token"`
	OTP     string `json:"otp"`
}

type decodedToken struct {
	Token string `json:"token"`
}

// writeDecodeToken decrypts a token with its one-time password.
func (k *Keep) writeDecodeToken(r *api.Request, in *decodeTokenInput) (api.Answer, error) {
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(in.Encoded, "="))
	if err != nil || len(b) != len(in.OTP) || len(b) == 0 {
		return api.Answer{}, invalid("encoded_token is not base64, or its length differs from that of otp")
	}
	return api.Answer{Inject: true, Data: decodedToken{string(xor(string(b), in.OTP))}}, nil
}

// newOTP returns a one-time password for a token, in base62 as in Vault.
func newOTP() (string, error) {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	b := make([]byte, access.RandomToken)
	for i := range b {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(digits))))
		if err != nil {
			return "", err
		}
		b[i] = digits[n.Int64()]
	}
	return string(b), nil
}

// xor returns a XOR b; the strings have the same length.
func xor(a, b string) []byte {
	out := make([]byte, len(a))
	for i := range out {
		out[i] = a[i] ^ b[i]
	}
	return out
}
