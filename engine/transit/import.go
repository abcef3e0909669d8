package transit

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// wrapper is the kind of the key that imports are wrapped for.
var wrapper = kindOf("rsa-4096")

func (e engine) wrappingPath() string { return e.prefix + "/wrapping" }

// wrapping returns the key that imports are wrapped for. The first that asks for it
// makes it.
func (e engine) wrapping(r *api.Request) (v *record, err error) {
	find := func(tx *storage.Tx) error {
		is := new(record)
		found, err := get(tx, e.wrappingPath(), is)
		if v = nil; found {
			v = is
		}
		return err
	}
	if err = r.View(find); err != nil || v != nil {
		return v, err
	}
	made, err := generate(&policy{Type: wrapper.name})
	if err != nil {
		return nil, err
	}
	err = r.Update(func(tx *storage.Tx) error {
		if err := find(tx); err != nil || v != nil {
			return err
		}
		v = &record{Created: r.Now.UTC(), Secret: made.Secret, Public: made.Public}
		return put(tx, e.wrappingPath(), v)
	})
	return v, err
}

func readWrapping(r *api.Request, _ *api.None) (a api.Answer, err error) {
	e, _ := of(r)
	v, err := e.wrapping(r)
	if err != nil {
		return a, fmt.Errorf("reading the wrapping key: %w", err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: v.Public}))
	return api.Answer{Data: map[string]string{"public_key": text}}, nil
}

// imported is the part of a body that has a key.
type imported struct {
	Ciphertext   *string `json:"ciphertext"` // given: public_key is ignored
	PublicKey    string  `json:"public_key"`
	HashFunction string  `json:"hash_function"`
}

// private reports whether the key is a secret one.
func (in *imported) private() bool { return in.Ciphertext != nil }

// material returns the key itself: PKCS #8 or the bytes of a symmetric key, or the PEM
// of a public key.
func (in *imported) material(r *api.Request, e engine) ([]byte, error) {
	if !in.private() {
		return []byte(in.PublicKey), nil
	}
	hash, ok := map[string]crypto.Hash{
		"SHA1": crypto.SHA1, "SHA224": crypto.SHA224, "SHA256": crypto.SHA256, "SHA384": crypto.SHA384, "SHA512": crypto.SHA512,
	}[strings.ToUpper(cmp.Or(in.HashFunction, "SHA256"))]
	if !ok {
		return nil, api.Invalid.Errorf("unknown hash function: %.100s", in.HashFunction)
	}
	ciphertext, err := decodeBase64([]byte(*in.Ciphertext))
	if err != nil {
		return nil, api.Invalid.Errorf("%v", err)
	}
	v, err := e.wrapping(r)
	if err != nil {
		return nil, fmt.Errorf("reading the wrapping key: %w", err)
	}
	key, err := wrapper.parsePrivate(v.Secret)
	if err != nil {
		return nil, fmt.Errorf("reading the wrapping key: %w", err)
	}
	b, err := unwrap(key.(*rsa.PrivateKey), hash, ciphertext)
	if err != nil {
		return nil, api.Invalid.Errorf("%v", err)
	}
	return b, nil
}

// unwrap opens what is wrapped as PKCS #11 calls CKM_RSA_AES_KEY_WRAP: an AES key of
// 256 bits by OAEP, and behind it by that key, as RFC 5649 has it, another.
func unwrap(key *rsa.PrivateKey, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) <= key.Size() {
		return nil, errors.New("provided ciphertext is too short")
	}
	secret, err := rsa.DecryptOAEP(hash.New(), rand.Reader, key, ciphertext[:key.Size()], nil)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	if len(secret) != 32 {
		return nil, errors.New("expected ephemeral AES key to be 256-bit")
	}
	kwp, err := subtle.NewKWP(secret)
	if err != nil {
		return nil, err
	}
	return kwp.Unwrap(ciphertext[key.Size():])
}

// oidPSS is what some programs say that RSA keys are for.
var oidPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}

// parsePKCS8 reads a private key, of RSA also one that is for PSS alone.
func parsePKCS8(der []byte) (any, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err == nil {
		return key, nil
	}
	var outer struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	if _, wrong := asn1.Unmarshal(der, &outer); wrong == nil && outer.Algorithm.Algorithm.Equal(oidPSS) {
		return x509.ParsePKCS1PrivateKey(outer.Key)
	}
	return nil, err
}

// imports makes a version of a key of material that is imported. Of an hmac key it
// sets the size in the policy.
func (p *policy) imports(material []byte, private bool) (v *record, err error) {
	k := kindOf(p.Type)
	switch {
	case !private && !k.asymmetric():
		return nil, errors.New("provided type does not support public_key import")
	case !private && p.Derived:
		return nil, errors.New("unable to import only public key for derived Ed25519 key: imported key should not be an Ed25519 key pair but is instead an HKDF key")
	case k.symmetric() && len(material) != k.size, k.hmac && (len(material) < hmacLeast || len(material) > hmacMost):
		return nil, fmt.Errorf("invalid key size %d bytes for key type %s", len(material), k.name)
	case k.hmac:
		p.KeySize = len(material)
		return &record{Secret: material}, nil
	}
	v = &record{HMAC: random(hmacSize)}
	if k.symmetric() {
		v.Secret = material
		return v, nil
	}
	if private {
		key, err := parsePKCS8(material)
		if err != nil {
			return nil, fmt.Errorf("error parsing asymmetric key: %w", err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, k.otherType(key)
		}
		if err := k.imports(signer.Public(), key); err != nil {
			return nil, err
		}
		return v, v.set(p, signer)
	}
	block, _ := pem.Decode(material)
	if block == nil {
		return nil, errors.New("error parsing public key: not in PEM format")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("error parsing public key: %w", err)
	}
	if err := k.imports(public, public); err != nil {
		return nil, err
	}
	v.Public, err = x509.MarshalPKIXPublicKey(public)
	return v, err
}

func (k *kind) otherType(given any) error {
	return fmt.Errorf("invalid key type: expected %s, got %T", k.name, given)
}

// imports is check in Vault's words. given is what was given.
func (k *kind) imports(public crypto.PublicKey, given any) error {
	switch public := public.(type) {
	case ed25519.PublicKey:
		if k.ed25519 {
			return nil
		}
	case *ecdsa.PublicKey:
		if k.curve != nil {
			if public.Curve != k.curve {
				return fmt.Errorf("invalid curve: expected %s, got %s", k.curve.Params().Name, public.Curve.Params().Name)
			}
			return nil
		}
	case *rsa.PublicKey:
		if k.bits > 0 {
			if public.Size() != k.bits/8 {
				return fmt.Errorf("invalid key size: expected %d bytes, got %d bytes", k.bits/8, public.Size())
			}
			return k.check(public)
		}
	}
	return k.otherType(given)
}

type importInput struct {
	imported
	Type                 string          `json:"type"`
	Derived              bool            `json:"derived"`
	Convergent           json.RawMessage `json:"convergent_encryption"`
	Exportable           bool            `json:"exportable"`
	AllowPlaintextBackup bool            `json:"allow_plaintext_backup"`
	AllowRotation        bool            `json:"allow_rotation"`
	AutoRotate           time.Duration   `json:"auto_rotate_period"`
}

// policy is that of the key to be imported.
func (in *importInput) policy() (*policy, error) {
	k := kindOf(strings.ToLower(cmp.Or(in.Type, defaultType)))
	switch {
	case in.Convergent != nil:
		return nil, api.Invalid.Errorf("import cannot be used on keys with convergent encryption enabled")
	case in.AutoRotate > 0 && !in.AllowRotation:
		return nil, api.Invalid.Errorf("allow_rotation must be set to true if auto-rotation is enabled")
	case k == nil:
		return nil, api.Invalid.Errorf("unknown key type: %.100s", in.Type)
	case in.Derived && !k.derives():
		return nil, api.Invalid.Errorf("key derivation and convergent encryption not supported for keys of type %s", k.name)
	}
	p := &policy{
		Type: k.name, Derived: in.Derived, Exportable: in.Exportable, AllowPlaintextBackup: in.AllowPlaintextBackup,
		Imported: true, AllowRotation: in.AllowRotation, AutoRotate: in.AutoRotate, MinDecryption: 1, First: 1,
	}
	if p.Derived {
		p.KDF = kdfHKDF
	}
	return p, checkAutoRotate(p.AutoRotate)
}

func importKey(r *api.Request, in *importInput) (a api.Answer, err error) {
	e, name := of(r)
	p, err := in.policy()
	if err == nil {
		err = checkName(name)
	}
	if err != nil {
		return a, err
	}
	absent := func(tx *storage.Tx) error {
		is, err := e.load(tx, name)
		if err == nil && is != nil {
			err = api.Invalid.Errorf("the import path cannot be used with an existing key; use import-version to rotate an existing imported key")
		}
		return err
	}
	if err := r.View(absent); err != nil {
		return a, err
	}
	material, err := in.material(r, e)
	if err != nil {
		return a, err
	}
	v, err := p.imports(material, in.private())
	if err != nil {
		return a, api.Invalid.Errorf("%v", err)
	}
	return a, r.Update(func(tx *storage.Tx) error {
		if err := absent(tx); err != nil {
			return err
		}
		fresh, first := *p, *v
		fresh.ID = storage.NewUUID()
		return e.add(tx, name, &fresh, &first, r.Now)
	})
}

type importVersionInput struct {
	imported
	Version *int `json:"version"` // the one that the private key is of
}

// extendable is the policy of a key that takes versions from outside.
func (e engine) extendable(tx *storage.Tx, name string) (*policy, error) {
	p, err := e.policy(tx, name)
	switch {
	case err != nil:
		return nil, err
	case p == nil:
		return nil, api.Invalid.Errorf("no key found with name %s; to import a new key, use the import/ endpoint", name)
	case !p.Imported:
		return nil, api.Invalid.Errorf("the import_version endpoint can only be used with an imported key")
	case p.Convergent:
		return nil, api.Invalid.Errorf("import_version cannot be used on keys with convergent encryption enabled")
	case p.SoftDeleted:
		return nil, errSoftDeleted
	}
	return p, nil
}

func importVersion(r *api.Request, in *importVersionInput) (a api.Answer, err error) {
	e, name := of(r)
	var is *policy
	err = r.View(func(tx *storage.Tx) (err error) {
		is, err = e.extendable(tx, name)
		return err
	})
	if err != nil {
		return a, err
	}
	material, err := in.material(r, e)
	if err != nil {
		return a, err
	}
	v, err := is.imports(material, in.private())
	if err != nil {
		return a, api.Invalid.Errorf("%v", err)
	}
	return a, r.Update(func(tx *storage.Tx) error {
		p, err := e.extendable(tx, name)
		if err != nil {
			return err
		}
		if p.ID != is.ID {
			return api.Invalid.Errorf("the key %s was replaced by another meanwhile: send the request again if it is still meant", name)
		}
		n := p.Latest
		if in.Version != nil {
			n = *in.Version
		}
		old, err := e.incomplete(tx, p, n, v)
		if _, told := errors.AsType[*api.Error](err); told && in.Version == nil {
			p.KeySize = is.KeySize
			fresh := *v
			return e.add(tx, name, p, &fresh, r.Now)
		}
		if err != nil {
			return err
		}
		old.Secret = v.Secret
		if err := e.putVersion(tx, p, n, old); err != nil {
			return err
		}
		return e.putPolicy(tx, name, p)
	})
}

// incomplete is a version of a key of which only the public key is there, and v has
// the private one. An [api.Error] says why it is not so.
func (e engine) incomplete(tx *storage.Tx, p *policy, n int, v *record) (*record, error) {
	if n < p.MinDecryption || n > p.Latest {
		return nil, errNoVersion
	}
	if !kindOf(p.Type).asymmetric() {
		return nil, api.Invalid.Errorf("provided type does not support importing key versions")
	}
	old, err := e.record(tx, p.ID, n)
	switch {
	case err != nil:
		return nil, err
	case old == nil:
		return nil, fmt.Errorf("reading version %d of the key: %w: it is missing", n, storage.ErrCorrupt)
	case len(old.Secret) > 0:
		return nil, api.Invalid.Errorf("private key imported, key version cannot be updated")
	case len(v.Secret) == 0:
		return nil, api.Invalid.Errorf("cannot add a public key to a key version that already has a public key set")
	case string(old.Public) != string(v.Public): // both were written by the same encoder
		return nil, api.Invalid.Errorf("cannot import key, key pair does not match")
	}
	return old, nil
}
