package transit

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/sealkeep/sealkeep/api"
)

// signOptions are the parameters of signatures, as they are given.
type signOptions struct {
	prehashed             bool
	scheme, marshal, salt string
}

// member takes one of them.
func (o *signOptions) member(s *scanner, name string) (known bool, err error) {
	switch name {
	case "prehashed":
		text, ok := s.scalar()
		o.prehashed = false
		if len(text) > 0 || !ok {
			if o.prehashed, err = strconv.ParseBool(string(text)); err != nil {
				err = api.Invalid.Errorf("the parameter %s must be true or false", name)
			}
		}
		return true, err
	case "signature_algorithm":
		return true, s.string(name, &o.scheme)
	case "marshaling_algorithm":
		return true, s.string(name, &o.marshal)
	case "salt_length":
		return true, s.string(name, &o.salt)
	}
	return false, nil
}

// A scheme is how a request has things signed. What a type of key does not have, it
// does not look at.
type scheme struct {
	hash      crypto.Hash // 0: none
	prehashed bool        // what is given is the hash already
	jws       bool        // ECDSA as two numbers of fixed width, and all in base64 for URLs
	rsa       string      // "pss", "pkcs1v15", or what no RSA key knows
	salt      int         // of PSS, as rsa.PSSOptions has it
}

func (in *input) scheme(r *api.Request) (s scheme, err error) {
	o := &in.signing
	s = scheme{prehashed: o.prehashed, rsa: cmp.Or(o.scheme, "pss")}
	name, known := algorithmOf(r, in.algorithm, in.hashAlgorithm), false
	if s.hash, known = hashes[name]; !known && name != "none" {
		return s, api.Invalid.Errorf("invalid hash algorithm %.100q", name)
	}
	switch o.marshal {
	case "", "asn1":
	case "jws":
		s.jws = true
	default:
		return s, api.Invalid.Errorf("invalid marshaling type %.100q", o.marshal)
	}
	switch strings.ToLower(o.salt) {
	case "", "auto":
		s.salt = rsa.PSSSaltLengthAuto
	case "hash":
		s.salt = rsa.PSSSaltLengthEqualsHash
	default:
		n, err := strconv.Atoi(o.salt)
		if err != nil {
			return s, api.Invalid.Errorf("salt length neither 'auto', 'hash', nor an int: %.100s", o.salt)
		}
		if n < rsa.PSSSaltLengthEqualsHash {
			return s, api.Invalid.Errorf("salt length is invalid: %d", n)
		}
		s.salt = n
	}
	return s, nil
}

// check refuses what Vault refuses whatever the type of the key.
func (s *scheme) check() error {
	if s.hash == 0 && (!s.prehashed || s.rsa != "pkcs1v15") {
		return api.Invalid.Errorf("hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15")
	}
	return nil
}

// encoding is how signatures are written.
func (s *scheme) encoding() *base64.Encoding {
	if s.jws {
		return base64.RawURLEncoding
	}
	return base64.StdEncoding
}

// digest appends what is signed of a message.
func (s *scheme) digest(k *key, dst, message []byte) []byte {
	if s.prehashed || k.ed25519 {
		return append(dst, message...)
	}
	h := s.hash.New()
	h.Write(message)
	return h.Sum(dst)
}

// pss is the options of PSS, if a salt can be as long as that.
func (s *scheme) pss(public *rsa.PublicKey) (*rsa.PSSOptions, error) {
	if s.salt > (public.N.BitLen()+6)/8-2-s.hash.Size() {
		return nil, fmt.Errorf("requested salt length %d is invalid", s.salt)
	}
	return &rsa.PSSOptions{SaltLength: s.salt}, nil
}

func (s *scheme) unsupported() error {
	return fmt.Errorf("unsupported rsa signature algorithm %.100s", s.rsa)
}

// derived is the private key of a context, of a key that is derived.
func (k *key) derived(v *version, context []byte) (ed25519.PrivateKey, error) {
	private, err := k.derive(v.secret, context)
	if err != nil {
		return nil, fmt.Errorf("error deriving key: %w", err)
	}
	return private, nil
}

// sign signs what [scheme.digest] has made of a message. public is not nil of a key
// that is derived: nobody could know it otherwise.
func (k *key) sign(v *version, s *scheme, digest, context []byte) (signature []byte, public ed25519.PublicKey, err error) {
	private := v.private
	if k.Derived {
		derived, err := k.derived(v, context)
		if err != nil {
			return nil, nil, err
		}
		private, public = derived, derived.Public().(ed25519.PublicKey)
	}
	switch private := private.(type) {
	case nil:
		return nil, nil, errors.New("requested version for signing does not contain a private part")
	case ed25519.PrivateKey:
		return ed25519.Sign(private, digest), public, nil
	case *ecdsa.PrivateKey:
		if !s.jws {
			signature, err = ecdsa.SignASN1(rand.Reader, private, digest)
			return signature, nil, err
		}
		r, t, err := ecdsa.Sign(rand.Reader, private, digest)
		if err != nil {
			return nil, nil, err
		}
		size := coordinate(&private.PublicKey)
		signature = make([]byte, 2*size)
		r.FillBytes(signature[:size])
		t.FillBytes(signature[size:])
		return signature, nil, nil
	case *rsa.PrivateKey:
		switch s.rsa {
		case "pss":
			options, err := s.pss(&private.PublicKey)
			if err != nil {
				return nil, nil, err
			}
			signature, err = rsa.SignPSS(rand.Reader, private, s.hash, digest, options)
			return signature, nil, err
		case "pkcs1v15":
			signature, err = rsa.SignPKCS1v15(rand.Reader, private, s.hash, digest)
			return signature, nil, err
		}
		return nil, nil, s.unsupported()
	}
	return nil, nil, fmt.Errorf("unsupported key type %s", k.Type)
}

// coordinate is how many bytes either number of an ECDSA signature has.
func coordinate(public *ecdsa.PublicKey) int { return (public.Curve.Params().BitSize + 7) / 8 }

// verify reports whether a signature is that of what [scheme.digest] has made of a
// message.
func (k *key) verify(v *version, s *scheme, digest, context, signature []byte) (valid bool, err error) {
	public := v.public
	if k.Derived {
		derived, err := k.derived(v, context)
		if err != nil {
			return false, err
		}
		public = derived.Public()
	}
	switch public := public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(public, digest, signature), nil
	case *ecdsa.PublicKey:
		if !s.jws {
			if ecdsa.VerifyASN1(public, digest, signature) {
				return true, nil
			}
			return false, checkASN1(signature)
		}
		size := coordinate(public)
		if len(signature) != 2*size {
			return false, nil
		}
		r, t := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		return ecdsa.Verify(public, digest, r, t), nil
	case *rsa.PublicKey:
		switch s.rsa {
		case "pss":
			options, err := s.pss(public)
			if err != nil {
				return false, err
			}
			return rsa.VerifyPSS(public, s.hash, digest, signature, options) == nil, nil
		case "pkcs1v15":
			return rsa.VerifyPKCS1v15(public, s.hash, digest, signature) == nil, nil
		}
		return false, s.unsupported()
	}
	return false, fmt.Errorf("unsupported key type %s", k.Type)
}

// checkASN1 tells a signature that is none from a wrong one.
func checkASN1(signature []byte) error {
	var numbers struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(signature, &numbers)
	switch {
	case err != nil:
		return errors.New("supplied signature is invalid")
	case len(rest) > 0:
		return errors.New("supplied signature contains extra data")
	}
	return nil
}

type signing struct{}

func (signing) fields() []api.Field { return signFields }

type verifying struct{}

func (verifying) fields() []api.Field { return verifyFields }

var (
	hashFields   = []api.Field{{Name: "hash_algorithm", Kind: api.TextField}, {Name: "algorithm", Kind: api.TextField}}
	schemeFields = append([]api.Field{{Name: "prehashed", Kind: api.FlagField}, {Name: "signature_algorithm", Kind: api.TextField},
		{Name: "marshaling_algorithm", Kind: api.TextField}, {Name: "salt_length", Kind: api.TextField}, batchField}, hashFields...)
	signFields   = append(append(textFields(data, keyContext, reference), versionField), schemeFields...)
	verifyFields = append(textFields(data, keyContext, signature, mac, reference), schemeFields...)
)

// decodeInputs leaves what is to be signed or verified itself in the place of its
// base64. Only in a batch it must be there.
func (in *input) decodeInputs(items []item) {
	for i := range items {
		it := &items[i]
		if it.text[data] == nil && !in.batched {
			it.text[data] = []byte{}
		}
		it.decodeInput("missing input")
	}
}

// decodeContexts is the same for contexts.
func decodeContexts(items []item) {
	for i := range items {
		it := &items[i]
		var err error
		if it.text[keyContext], err = decodeBase64(it.text[keyContext]); err != nil && it.err == "" {
			it.fail(errors.New("failed to base64-decode context"))
		}
	}
}

// named is an error that tells, in the words of an operation, that there is no key.
func named(err error, absent string) error {
	if errors.Is(err, errKeyNotFound) {
		return api.Invalid.Errorf("%s", absent)
	}
	return err
}

func sign(r *api.Request, in *in[signing]) (a api.Answer, err error) {
	s, err := in.scheme(r)
	if err != nil {
		return a, err
	}
	items, err := in.each()
	if err != nil {
		return a, err
	}
	in.decodeInputs(items)
	decodeContexts(items)
	e, name := of(r)
	k, err := e.look(r, name, items, func(k *key, _ int, it *item) (n, to int, err error) {
		if k.asymmetric() {
			n, err = k.chosen(cmp.Or(it.version, in.own.version), "signing")
		}
		return n, 0, err
	})
	if err != nil {
		return a, named(err, "signing key not found")
	}
	if !k.asymmetric() {
		return a, api.Invalid.Errorf("key type %s does not support signing", k.Type)
	}
	if err := s.check(); err != nil {
		return a, err
	}
	publicName := `,"public_key":"`
	if in.batched {
		publicName = `,"publickey":"`
	}
	return answer(r, &in.input, items, a, func(b []byte, it *item, scratch []byte) ([]byte, []byte, error) {
		scratch = s.digest(k, scratch[:0], it.text[data])
		signature, public, err := k.sign(it.v, &s, scratch, it.text[keyContext])
		if err != nil {
			return b, scratch, err
		}
		b = append(append(b, `"signature":"`...), it.v.prefix...)
		b = s.encoding().AppendEncode(b, signature)
		b = append(b, `","key_version":`...)
		b = strconv.AppendInt(b, int64(it.v.number), 10)
		if public != nil {
			b = append(base64.StdEncoding.AppendEncode(append(b, publicName...), public), '"')
		}
		return b, scratch, nil
	})
}

// claims says whether the items of a request are to be verified as HMACs or as
// signatures: they must all be the same.
func (in *input) claims(items []item) (macs bool, err error) {
	var signed, hashed, neither bool
	for i := range items {
		it := &items[i]
		switch {
		case it.text[signature] != nil:
			signed = true
			hashed = hashed || it.text[mac] != nil && !in.batched
		case it.text[mac] != nil:
			hashed = true
		default:
			neither = true
		}
	}
	text := ""
	switch {
	case !in.batched && signed && hashed:
		text = "provide one of 'signature' or 'hmac'"
	case !in.batched && neither:
		text = "neither a 'signature' nor an 'hmac' were given to verify"
	case signed && hashed:
		text = "elements of batch_input must all provide 'signature' or all provide 'hmac'"
	case neither && signed:
		text = "some elements of batch_input are missing 'signature'"
	case neither && hashed:
		text = "some elements of batch_input are missing 'hmac'"
	case neither:
		text = "no batch_input elements have 'signature' or 'hmac'"
	}
	if text != "" {
		return false, api.Invalid.Errorf("%s", text)
	}
	return hashed, nil
}

func verify(r *api.Request, in *in[verifying]) (a api.Answer, err error) {
	items, err := in.each()
	if err != nil {
		return a, err
	}
	macs, err := in.claims(items)
	if err != nil {
		return a, err
	}
	if in.failing = `"valid":false,`; macs {
		return checkMAC(r, &in.input, items)
	}
	return verifySignatures(r, &in.input, items)
}

func appendValid(b []byte, valid bool) []byte {
	return strconv.AppendBool(append(b, `"valid":`...), valid)
}

func verifySignatures(r *api.Request, in *input, items []item) (a api.Answer, err error) {
	s, err := in.scheme(r)
	if err != nil {
		return a, err
	}
	in.decodeInputs(items)
	decodeContexts(items)
	e, name := of(r)
	k, err := e.look(r, name, items, func(k *key, _ int, it *item) (n, to int, err error) {
		if !k.asymmetric() {
			return 0, 0, nil
		}
		n, _, err = splitVersion(it.text[signature], "invalid signature: no prefix", "invalid signature")
		switch {
		case err != nil:
			return 0, 0, err
		case n > k.Latest:
			return 0, 0, api.Invalid.Errorf("invalid signature: version is too new")
		case n < k.MinDecryption:
			return 0, 0, errTooOld
		}
		return n, 0, nil
	})
	if err != nil {
		return a, named(err, "signature verification key not found")
	}
	if !k.asymmetric() {
		return a, api.Invalid.Errorf("key type %s does not support verification", k.Type)
	}
	if err := s.check(); err != nil {
		return a, err
	}
	return answer(r, in, items, a, func(b []byte, it *item, scratch []byte) ([]byte, []byte, error) {
		_, encoded, err := splitVersion(it.text[signature], "", "")
		if err != nil {
			return b, scratch, err
		}
		signature, err := s.encoding().AppendDecode(nil, encoded)
		if err != nil {
			return b, scratch, errors.New("invalid base64 signature value")
		}
		scratch = s.digest(k, scratch[:0], it.text[data])
		valid, err := k.verify(it.v, &s, scratch, it.text[keyContext], signature)
		if err != nil {
			return b, scratch, err
		}
		return appendValid(b, valid), scratch, nil
	})
}
