package server

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

// A rootGeneration makes a root token for people whose shares, or identity, open
// the keep, when the last root token is lost. It is off unless the configuration
// says otherwise, for it is open to anybody until then, and always in the log.
// The token is sent under a one-time password, which who began alone knows.
type rootGeneration struct {
	gathering
	otp string // empty: none is under way; guarded by mu
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

var errGenerateRoot = &api.Error{Code: api.Denied, Text: "generating a root token is off: set enable_generate_root = true in the configuration, reload (SIGHUP), and take it out again afterwards"}

// generating refuses unless the configuration allows it.
func (s *Server) generating() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.generateRoot {
		return errGenerateRoot
	}
	return nil
}

func (k *keep) rootStatusLocked() (rootStatus, error) {
	_, t, err := k.required()
	if err != nil {
		return rootStatus{}, err
	}
	p := k.generation.progress()
	return rootStatus{Nonce: p.nonce, Started: k.generation.otp != "", Progress: p.have, Required: cmp.Or(p.k, t), OTPLength: access.RandomToken}, nil
}

func readGenerateRoot(s *Server, r *request) (answer, error) {
	if err := s.generating(); err != nil {
		return answer{}, err
	}
	r.keep.generation.mu.Lock()
	defer r.keep.generation.mu.Unlock()
	out, err := r.keep.rootStatusLocked()
	return answer{inject: true, data: out}, err
}

func beginGenerateRoot(s *Server, r *request) (answer, error) {
	if err := s.generating(); err != nil {
		s.log.Warn("a root token was asked for, which is off", "from", r.http.RemoteAddr, "request", r.ID)
		return answer{}, err
	}
	var in struct {
		OTP    string `json:"otp"`
		PGPKey string `json:"pgp_key"`
	}
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	_, t, err := r.keep.required()
	switch {
	case err != nil:
		return answer{}, err
	case in.PGPKey != "":
		return answer{}, invalid("pgp_key is not supported: nothing is encrypted with PGP; use an otp")
	case in.OTP != "" && len(in.OTP) != access.RandomToken:
		return answer{}, invalid("the otp has %d characters, not %d: leave it out to get one", len(in.OTP), access.RandomToken)
	case t == 0:
		return answer{}, invalid("this store has no recovery slot: there is nobody to ask whether a root token may be made")
	}
	g := &r.keep.generation
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.otp != "" {
		return answer{}, invalid("root generation already in progress: give it shares, or cancel it first")
	}
	g.otp = in.OTP
	if g.otp == "" {
		if g.otp, err = newOTP(); err != nil {
			return answer{}, err
		}
	}
	nonce := g.beginLocked()
	s.log.Warn("a root token was asked for", "nonce", nonce, "from", r.http.RemoteAddr, "request", r.ID)
	out, err := r.keep.rootStatusLocked()
	if in.OTP == "" {
		out.OTP = g.otp
	}
	return answer{inject: true, data: out}, err
}

func cancelGenerateRoot(s *Server, r *request) (answer, error) {
	if err := s.generating(); err != nil {
		return answer{}, err
	}
	g := &r.keep.generation
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.otp != "" {
		s.log.Warn("the root token was called off", "nonce", g.progress().nonce, "from", r.http.RemoteAddr, "request", r.ID)
	}
	g.otp = ""
	g.resetLocked()
	return answer{}, nil
}

func updateGenerateRoot(s *Server, r *request) (answer, error) {
	if err := s.generating(); err != nil {
		return answer{}, err
	}
	var in offer
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	g := &r.keep.generation
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.otp == "" {
		return answer{}, invalid("no root generation in progress: begin with sys/generate-root/attempt (sealkeep operator generate-root -init)")
	}
	if err := g.checkNonce(in.Nonce); err != nil {
		return answer{}, err
	}
	opened, err := s.proveLocked(r.keep, &g.gathering, in, false)
	if err != nil {
		return answer{}, err
	}
	out, err := r.keep.rootStatusLocked()
	if err != nil || opened == nil {
		return answer{inject: true, data: out}, err
	}
	otp := g.otp
	g.otp = ""
	g.resetLocked()
	token := access.NewSecret()
	out.EncodedToken = base64.RawStdEncoding.EncodeToString(xor(token, otp))
	out.Complete, out.EncodedRootToken, out.Progress = true, out.EncodedToken, out.Required
	a := answer{inject: true, data: out, warnings: opened.warnings()}
	if err := s.recordAnswer(r, a); err != nil {
		return answer{}, err
	}
	err = r.keep.store.Update(r.Context, func(tx *storage.Tx) error {
		_, err := access.CreateRoot(tx, token, s.now())
		return err
	})
	if err != nil {
		return answer{}, err
	}
	s.log.Warn("a root token was made", "nonce", out.Nonce, "slot", opened.Name, "from", r.http.RemoteAddr, "request", r.ID)
	return a, nil
}

// writeDecodeToken takes the one-time password off a token.
func writeDecodeToken(s *Server, r *request) (answer, error) {
	var in struct {
		Encoded string `json:"encoded_token"`
		OTP     string `json:"otp"`
	}
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(in.Encoded, "="))
	if err != nil || len(b) != len(in.OTP) || len(b) == 0 {
		return answer{}, invalid("encoded_token is not base64, or does not have the length of otp")
	}
	return answer{inject: true, data: map[string]string{"token": string(xor(string(b), in.OTP))}}, nil
}

// newOTP returns a one-time password for a token, in base62 as Vault has it.
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

// xor is of two strings of one length.
func xor(a, b string) []byte {
	out := make([]byte, len(a))
	for i := range out {
		out[i] = a[i] ^ b[i]
	}
	return out
}
