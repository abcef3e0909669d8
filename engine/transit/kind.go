package transit

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sealkeep/sealkeep/storage"
)

// A kind is a type of key. What it can do follows from what it has.
type kind struct {
	name   string
	number int    // in a backup
	shown  string // the name that a version has, beside its public key

	size   int                                   // bytes of a symmetric key
	aead   func(key []byte) (cipher.AEAD, error) // of a symmetric one
	random func(key []byte) (cipher.AEAD, error) // the same, with a random nonce that it puts before what it encrypts

	ed25519 bool
	curve   elliptic.Curve // of ECDSA
	bits    int            // of RSA
	hmac    bool
}

// kinds are all types of keys. Their numbers are OpenBao's; Vault has others for
// hmac, see backup.go.
var kinds = []*kind{
	{name: "aes256-gcm96", number: 0, size: 32, aead: newGCM, random: randomGCM},
	{name: "ecdsa-p256", number: 1, shown: "P-256", curve: elliptic.P256()},
	{name: "ed25519", number: 2, shown: "ed25519", ed25519: true},
	{name: "rsa-2048", number: 3, shown: "rsa-2048", bits: 2048},
	{name: "rsa-4096", number: 4, shown: "rsa-4096", bits: 4096},
	{name: "chacha20-poly1305", number: 5, size: 32, aead: chacha20poly1305.New, random: randomNonces(chacha20poly1305.New)},
	{name: "ecdsa-p384", number: 6, shown: "P-384", curve: elliptic.P384()},
	{name: "ecdsa-p521", number: 7, shown: "P-521", curve: elliptic.P521()},
	{name: "aes128-gcm96", number: 8, size: 16, aead: newGCM, random: randomGCM},
	{name: "rsa-3072", number: 9, shown: "rsa-3072", bits: 3072},
	{name: "hmac", number: 10, hmac: true},
	{name: "xchacha20-poly1305", number: 11, size: 32, aead: chacha20poly1305.NewX, random: randomNonces(chacha20poly1305.NewX)},
}

// kindOf is the type of a name, nil when there is none.
func kindOf(name string) *kind {
	for _, k := range kinds {
		if k.name == name {
			return k
		}
	}
	return nil
}

func (k *kind) symmetric() bool  { return k.aead != nil }
func (k *kind) encrypts() bool   { return k.symmetric() || k.bits > 0 }
func (k *kind) asymmetric() bool { return k.shown != "" }
func (k *kind) derives() bool    { return k.symmetric() || k.ed25519 }

// memory is about how many bytes a parsed version takes.
func (k *kind) memory() int { return 2<<10 + 4*k.bits }

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func randomGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func randomNonces(of func([]byte) (cipher.AEAD, error)) func([]byte) (cipher.AEAD, error) {
	return func(key []byte) (cipher.AEAD, error) {
		aead, err := of(key)
		return randomNonce{aead}, err
	}
}

// randomNonce puts a random nonce before what it encrypts, as
// cipher.NewGCMWithRandomNonce does.
type randomNonce struct{ cipher.AEAD }

func (r randomNonce) NonceSize() int { return 0 }
func (r randomNonce) Overhead() int  { return r.AEAD.NonceSize() + r.AEAD.Overhead() }

func (r randomNonce) Seal(dst, _, plaintext, additional []byte) []byte {
	at, size := len(dst), r.AEAD.NonceSize()
	dst = append(dst, make([]byte, size)...)
	rand.Read(dst[at:])
	return r.AEAD.Seal(dst, dst[at:at+size], plaintext, additional)
}

func (r randomNonce) Open(dst, _, ciphertext, additional []byte) ([]byte, error) {
	size := r.AEAD.NonceSize()
	if len(ciphertext) < size {
		return nil, errShort
	}
	return r.AEAD.Open(dst, ciphertext[:size], ciphertext[size:], additional)
}

// generate makes a new version of a key.
func generate(p *policy) (*record, error) {
	k := kindOf(p.Type)
	v := new(record)
	var signer crypto.Signer
	var err error
	switch {
	case k.symmetric():
		v.Secret = random(k.size)
	case k.hmac:
		v.Secret = random(p.KeySize)
		return v, nil
	case k.ed25519:
		_, signer, err = ed25519.GenerateKey(rand.Reader)
	case k.curve != nil:
		signer, err = ecdsa.GenerateKey(k.curve, rand.Reader)
	case k.bits > 0:
		signer, err = rsa.GenerateKey(rand.Reader, k.bits)
	}
	if err == nil && signer != nil {
		err = v.set(p, signer)
	}
	if err != nil {
		return nil, fmt.Errorf("generating a key: %w", err)
	}
	v.HMAC = random(hmacSize)
	if p.Convergent {
		v.Convergent = convergent
	}
	return v, nil
}

// hmacSize is how many bytes the HMAC key has that every version has.
const hmacSize = 32

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

// set makes a private key that of the version.
func (v *record) set(p *policy, private crypto.Signer) (err error) {
	if key, ok := private.(ed25519.PrivateKey); ok {
		v.Secret = key
		if p.Derived { // it is the key of a KDF, and half of it must not be shown
			return nil
		}
	} else if v.Secret, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
		return err
	}
	v.Public, err = x509.MarshalPKIXPublicKey(private.Public())
	return err
}

// parsePrivate reads the private key of a version of an asymmetric type.
func (k *kind) parsePrivate(secret []byte) (crypto.Signer, error) {
	if k.ed25519 {
		if len(secret) != ed25519.PrivateKeySize {
			return nil, fmt.Errorf("%w: %d bytes of an ed25519 key", storage.ErrCorrupt, len(secret))
		}
		return ed25519.PrivateKey(secret), nil
	}
	any, err := x509.ParsePKCS8PrivateKey(secret)
	if err != nil {
		return nil, fmt.Errorf("%w: parsing a private key: %w", storage.ErrCorrupt, err)
	}
	private, ok := any.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: it cannot sign", errOtherKind)
	}
	return private, k.check(private.Public())
}

// parsePublic reads a public key.
func (k *kind) parsePublic(der []byte) (crypto.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: parsing a public key: %w", storage.ErrCorrupt, err)
	}
	return public, k.check(public)
}

// check refuses a key of another type.
func (k *kind) check(public crypto.PublicKey) error {
	ok := false
	switch key := public.(type) {
	case ed25519.PublicKey:
		ok = k.ed25519
	case *ecdsa.PublicKey:
		ok = key.Curve == k.curve
	case *rsa.PublicKey:
		ok = key.N.BitLen() == k.bits
	}
	if !ok {
		return fmt.Errorf("%w: it is no %s key", errOtherKind, k.name)
	}
	return nil
}
