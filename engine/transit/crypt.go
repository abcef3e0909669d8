package transit

import (
	"bytes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// tagSize is that of every AEAD here.
const tagSize = 16

// seal appends what encrypts a plaintext. An error is for the client.
func (k *key) seal(v *version, dst, plaintext, context, additional []byte) ([]byte, error) {
	if k.bits > 0 {
		b, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, v.public.(*rsa.PublicKey), plaintext, nil)
		if err != nil {
			return nil, fmt.Errorf("failed to RSA encrypt the plaintext: %w", err)
		}
		return append(dst, b...), nil
	}
	if !k.Convergent {
		aead, err := k.box(v, context)
		if err != nil {
			return nil, err
		}
		return aead.Seal(dst, nil, plaintext, additional), nil
	}
	if err := v.checkConvergent(); err != nil {
		return nil, err
	}
	secret, err := k.deriveBytes(v.secret, context, k.size+sha256.Size)
	if err != nil {
		return nil, err
	}
	aead, err := k.aead(secret[:k.size])
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, secret[k.size:])
	h.Write(plaintext)
	nonce := h.Sum(nil)[:aead.NonceSize()]
	return aead.Seal(append(dst, nonce...), nonce, plaintext, additional), nil
}

// box is what encrypts with random nonces, and decrypts, under a context.
func (k *key) box(v *version, context []byte) (cipher.AEAD, error) {
	if !k.Derived {
		return v.aead, nil
	}
	secret, err := k.deriveBytes(v.secret, context, k.size)
	if err != nil {
		return nil, err
	}
	return k.random(secret)
}

func (v *version) checkConvergent() error {
	if v.convergent != convergent {
		return fmt.Errorf("refusing to support decryption with old convergent encryption key: version %d", v.convergent)
	}
	return nil
}

// open appends what a ciphertext holds. An error is for the client.
func (k *key) open(v *version, dst, ciphertext, context, additional []byte) ([]byte, error) {
	if k.bits > 0 {
		private, ok := v.private.(*rsa.PrivateKey)
		if !ok {
			return nil, errors.New("cannot decrypt ciphertext, key version does not have a private counterpart")
		}
		b, err := rsa.DecryptOAEP(sha256.New(), rand.Reader, private, ciphertext, nil)
		if err != nil {
			return nil, fmt.Errorf("failed to RSA decrypt the ciphertext: %w", err)
		}
		return append(dst, b...), nil
	}
	if k.Convergent {
		if err := v.checkConvergent(); err != nil {
			return nil, err
		}
	}
	aead, err := k.box(v, context)
	if err != nil {
		return nil, err
	}
	if len(ciphertext) < aead.Overhead()-tagSize {
		return nil, errShort
	}
	return aead.Open(dst, nil, ciphertext, additional)
}

// look finds the key of the request, and for each item that has not failed the
// versions that choose says. It has a View of its own.
func (e engine) look(r *api.Request, name string, items []item, choose func(*key, int, *item) (n, to int, err error)) (k *key, err error) {
	err = r.View(func(tx *storage.Tx) (err error) {
		if k, err = e.usable(tx, name); err != nil {
			return err
		}
		var last *version // mostly all have the same
		find := func(n int) (*version, error) {
			if n == 0 {
				return nil, nil
			}
			if last != nil && last.number == n {
				return last, nil
			}
			v, err := k.version(tx, n)
			last = v
			return v, err
		}
		for i := range items {
			it := &items[i]
			if it.err != "" {
				continue
			}
			n, to, err := choose(k, i, it)
			if err == nil {
				it.v, err = find(n)
			}
			if err == nil {
				it.to, err = find(to)
			}
			if told, ok := errors.AsType[*api.Error](err); ok {
				it.fail(told)
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		k.memory.uses.note(r, k)
	}
	return k, err
}

// encryption is the version that an item is encrypted with.
func (k *key) encryption(i int, it *item) (int, error) {
	switch {
	case !k.encrypts():
		return 0, api.Invalid.Errorf("message encryption not supported for key type %s", k.Type)
	case len(it.text[nonce]) > 0:
		return 0, api.Invalid.Errorf("nonce provided when not allowed")
	case len(it.text[associated]) > 0 && !k.symmetric():
		return 0, errAssociated(k, i)
	}
	return k.chosen(it.version, "encryption")
}

func errAssociated(k *key, i int) error {
	return api.Invalid.Errorf("'[%d].associated_data' provided for non-AEAD cipher suite %s", i, k.Type)
}

// chosen is the version to be used now where n was asked for, 0 being the latest.
func (k *key) chosen(n int, what string) (int, error) {
	switch {
	case n == 0:
		return k.Latest, nil
	case n < 0:
		return 0, api.Invalid.Errorf("requested version for %s is negative", what)
	case n > k.Latest:
		return 0, api.Invalid.Errorf("requested version for %s is higher than the latest key version", what)
	case n < k.MinEncryption:
		return 0, api.Invalid.Errorf("requested version for %s is less than the minimum encryption key version", what)
	}
	return n, nil
}

// decryption is the version that an item was encrypted with.
func (k *key) decryption(i int, it *item) (int, error) {
	switch {
	case !k.encrypts():
		return 0, api.Invalid.Errorf("message decryption not supported for key type %s", k.Type)
	case len(it.text[associated]) > 0 && !k.symmetric():
		return 0, errAssociated(k, i)
	}
	n, _, err := splitVersion(it.text[ciphertext], "invalid ciphertext: no prefix", "invalid ciphertext")
	switch {
	case err != nil:
		return 0, err
	case n > k.Latest:
		return 0, api.Invalid.Errorf("invalid ciphertext: version is too new")
	case n < k.MinDecryption:
		return 0, errTooOld
	}
	return n, nil
}

const versionPrefix = "vault:v"

// splitVersion reads the version, and what follows it, of what a key has made.
func splitVersion(b []byte, noPrefix, what string) (n int, rest []byte, err error) {
	if len(b) < len(versionPrefix) || string(b[:len(versionPrefix)]) != versionPrefix {
		return 0, nil, api.Invalid.Errorf("%s", noPrefix)
	}
	b = b[len(versionPrefix):]
	colon := bytes.IndexByte(b[:min(len(b), 32)], ':')
	if colon < 0 {
		return 0, nil, api.Invalid.Errorf("%s: wrong number of fields", what)
	}
	if n, err = strconv.Atoi(string(b[:colon])); err != nil {
		return 0, nil, api.Invalid.Errorf("%s: version number could not be decoded", what)
	}
	if n == 0 { // the first versions of Vault counted from 0
		n = 1
	}
	return n, b[colon+1:], nil
}

// prepare checks what can be checked of items without the key, as Vault does before
// it looks for that, and decodes the contexts.
func prepare(items []item, check func(*item) error) error {
	set := len(items[0].text[keyContext]) > 0
	for i := range items {
		it := &items[i]
		if len(it.text[keyContext]) > 0 != set {
			return api.Invalid.Errorf("context should be set either in all the request blocks or in none")
		}
		err := check(it)
		if err == nil && set {
			it.text[keyContext], err = decodeBase64(it.text[keyContext])
		}
		if err != nil {
			it.fail(err)
		}
	}
	return nil
}

func decodeBase64(b []byte) ([]byte, error) { return base64.StdEncoding.AppendDecode(nil, b) }

// additional is the associated data of an item.
func (it *item) additional() ([]byte, error) {
	if len(it.text[associated]) == 0 {
		return nil, nil
	}
	b, err := decodeBase64(it.text[associated])
	if err != nil {
		return nil, fmt.Errorf("unable to get associated_data/additional_data from factory[0]: %w", err)
	}
	return b, nil
}

type encrypting struct{}

func (encrypting) fields() []api.Field { return encryptFields }

var (
	batchField    = api.Field{Name: "batch_input", Kind: api.AnyField}
	partialField  = api.Field{Name: "partial_failure_response_code", Kind: api.NumberField}
	versionField  = api.Field{Name: "key_version", Kind: api.NumberField}
	encryptFields = append(textFields(plaintext, keyContext, associated, nonce, reference), versionField, batchField, partialField,
		api.Field{Name: "type", Kind: api.TextField}, api.Field{Name: "convergent_encryption", Kind: api.FlagField})
	decryptFields = append(textFields(ciphertext, keyContext, associated, nonce, reference), batchField, partialField)
	rewrapFields  = append(textFields(ciphertext, keyContext, associated, nonce, reference), versionField, batchField)
	datakeyFields = append(textFields(keyContext, associated, nonce), versionField, api.Field{Name: "bits", Kind: api.NumberField})
)

// exists reports whether the key is there, which an encryption would make otherwise.
func exists(r *api.Request, tx *storage.Tx) (bool, error) {
	e, name := of(r)
	at, err := tx.Version(e.policyPath(name))
	return at != (storage.Version{}), err
}

func encrypt(r *api.Request, in *in[encrypting]) (a api.Answer, err error) {
	e, name := of(r)
	items, err := in.each()
	if err != nil {
		return a, err
	}
	for i := range items {
		if items[i].text[plaintext] == nil {
			if in.batched {
				return a, api.Invalid.Errorf("failed to parse batch input: '[%d].plaintext' missing plaintext to encrypt", i)
			}
			return a, api.Invalid.Errorf("missing plaintext to encrypt")
		}
	}
	if err := prepare(items, func(*item) error { return nil }); err != nil {
		return a, err
	}
	choose := func(k *key, i int, it *item) (n, to int, err error) {
		n, err = k.encryption(i, it)
		return n, 0, err
	}
	k, err := e.look(r, name, items, choose)
	if errors.Is(err, errKeyNotFound) {
		if a.Warnings, err = e.upsert(r, name, &in.input, len(items[0].text[keyContext]) > 0); err == nil {
			k, err = e.look(r, name, items, choose)
		}
	}
	if err != nil {
		return api.Answer{}, err
	}
	var plain []byte
	a, err = answer(r, &in.input, items, a, func(b []byte, it *item, scratch []byte) ([]byte, []byte, error) {
		var err error
		if plain, err = base64.StdEncoding.AppendDecode(plain[:0], it.text[plaintext]); err != nil {
			return b, scratch, err
		}
		additional, err := it.additional()
		if err != nil {
			return b, scratch, err
		}
		if scratch, err = k.seal(it.v, scratch[:0], plain, it.text[keyContext], additional); err != nil {
			return b, scratch, err
		}
		return appendCiphertext(b, it.v, scratch), scratch, nil
	})
	return in.partly(items, a, err)
}

func appendCiphertext(b []byte, v *version, ciphertext []byte) []byte {
	b = append(append(b, `"ciphertext":"`...), v.prefix...)
	b = base64.StdEncoding.AppendEncode(b, ciphertext)
	b = append(b, `","key_version":`...)
	return strconv.AppendInt(b, int64(v.number), 10)
}

// upsert makes the key of an encryption, as Vault does.
func (e engine) upsert(r *api.Request, name string, in *input, derived bool) (warnings []string, err error) {
	if in.convergent && !derived {
		return nil, api.Invalid.Errorf("convergent encryption requires derivation to be enabled, so context is required")
	}
	c := &createInput{Type: in.typ, Derived: derived, Convergent: in.convergent}
	p, err := c.policy()
	if err != nil {
		return nil, err
	}
	if !kindOf(p.Type).symmetric() {
		return nil, api.Invalid.Errorf("key type %s not supported for this operation", p.Type)
	}
	err = r.View(func(tx *storage.Tx) error {
		c, err := e.config(tx)
		if err == nil && c.DisableUpsert {
			err = errKeyNotFound
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	existed, err := e.create(r, name, p)
	if existed {
		warnings = []string{"Attempted creation of the key during the encrypt operation, but it was created beforehand"}
	}
	return warnings, err
}

type decrypting struct{}

func (decrypting) fields() []api.Field { return decryptFields }

func (it *item) hasCiphertext() error {
	if len(it.text[ciphertext]) == 0 {
		return errors.New("missing ciphertext to decrypt")
	}
	return nil
}

// encrypted are the items of a request that decrypts.
func (in *input) encrypted() ([]item, error) {
	items, err := in.each()
	if err == nil {
		err = prepare(items, (*item).hasCiphertext)
	}
	return items, err
}

// decrypt appends what the item's ciphertext holds. sealed is memory to be used again.
func (k *key) decrypt(it *item, dst []byte, sealed *[]byte) ([]byte, error) {
	additional, err := it.additional()
	if err != nil {
		return nil, err
	}
	_, encoded, err := splitVersion(it.text[ciphertext], "", "")
	if err != nil {
		return nil, err
	}
	if *sealed, err = base64.StdEncoding.AppendDecode((*sealed)[:0], encoded); err != nil {
		return nil, errors.New("invalid ciphertext: could not decode base64")
	}
	return k.open(it.v, dst, *sealed, it.text[keyContext], additional)
}

func decrypt(r *api.Request, in *in[decrypting]) (a api.Answer, err error) {
	e, name := of(r)
	items, err := in.encrypted()
	if err != nil {
		return a, err
	}
	k, err := e.look(r, name, items, func(k *key, i int, it *item) (n, to int, err error) {
		n, err = k.decryption(i, it)
		return n, 0, err
	})
	if err != nil {
		return a, err
	}
	var sealed []byte
	a, err = answer(r, &in.input, items, a, func(b []byte, it *item, scratch []byte) ([]byte, []byte, error) {
		scratch, err := k.decrypt(it, scratch[:0], &sealed)
		if err != nil {
			return b, scratch, err
		}
		b = base64.StdEncoding.AppendEncode(append(b, `"plaintext":"`...), scratch)
		return append(b, '"'), scratch, nil
	})
	return in.partly(items, a, err)
}

type rewrapping struct{}

func (rewrapping) fields() []api.Field { return rewrapFields }

func rewrap(r *api.Request, in *in[rewrapping]) (a api.Answer, err error) {
	e, name := of(r)
	items, err := in.encrypted()
	if err != nil {
		return a, err
	}
	k, err := e.look(r, name, items, func(k *key, i int, it *item) (n, to int, err error) {
		if n, err = k.decryption(i, it); err == nil {
			to, err = k.encryption(i, it)
		}
		return n, to, err
	})
	if err != nil {
		return a, err
	}
	var plain, sealed []byte
	return answer(r, &in.input, items, a, func(b []byte, it *item, scratch []byte) ([]byte, []byte, error) {
		var err error
		if plain, err = k.decrypt(it, plain[:0], &sealed); err != nil {
			return b, scratch, err
		}
		additional, err := it.additional()
		if err == nil {
			scratch, err = k.seal(it.to, scratch[:0], plain, it.text[keyContext], additional)
		}
		if err != nil {
			return b, scratch, err
		}
		return appendCiphertext(b, it.to, scratch), scratch, nil
	})
}

type keying struct{}

func (keying) fields() []api.Field { return datakeyFields }

func datakey(r *api.Request, in *in[keying]) (a api.Answer, err error) {
	kind := r.Param("kind")
	if kind != "plaintext" && kind != "wrapped" {
		return a, api.Invalid.Errorf("Invalid path, must be 'plaintext' or 'wrapped'")
	}
	size := 32
	if in.bits != nil {
		switch *in.bits {
		case 128, 256, 512:
			size = *in.bits / 8
		default:
			return a, api.Invalid.Errorf("invalid bit length")
		}
	}
	e, name := of(r)
	items, _ := in.each()
	it := &items[0]
	if err := prepare(items, func(*item) error { return nil }); err != nil {
		return a, err
	}
	if it.err != "" {
		return a, api.Invalid.Errorf("failed to base64-decode context")
	}
	k, err := e.look(r, name, items, func(k *key, i int, it *item) (n, to int, err error) {
		if len(it.text[associated]) > 0 && !k.symmetric() {
			return 0, 0, api.Invalid.Errorf("'associated_data' provided for non-AEAD cipher suite %s", k.Type)
		}
		n, err = k.encryption(i, it)
		return n, 0, err
	})
	if err != nil {
		return a, err
	}
	fresh := random(size)
	return answer(r, &in.input, items, a, func(b []byte, it *item, scratch []byte) ([]byte, []byte, error) {
		additional, err := it.additional()
		if err == nil {
			scratch, err = k.seal(it.v, scratch[:0], fresh, it.text[keyContext], additional)
		}
		if err != nil {
			return b, scratch, err
		}
		b = appendCiphertext(b, it.v, scratch)
		if kind == "plaintext" {
			b = append(base64.StdEncoding.AppendEncode(append(b, `,"plaintext":"`...), fresh), '"')
		}
		return b, scratch, nil
	})
}
