package transit

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/sealkeep/sealkeep/storage"
)

// derive makes the private key of a context, of an ed25519 key.
func (k *key) derive(secret, context []byte) (ed25519.PrivateKey, error) {
	seed, err := k.deriveBytes(secret, context, ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// deriveBytes makes so many bytes of a version's secret and a context.
func (k *key) deriveBytes(secret, context []byte, n int) ([]byte, error) {
	if len(context) == 0 {
		return nil, errNoContext
	}
	switch k.KDF {
	case kdfHKDF:
		return hkdf.Key(sha256.New, secret, nil, string(context), n)
	case kdfCounter: // SP 800-108 in counter mode, for one block of 256 bits
		if n != sha256.Size {
			break
		}
		h := hmac.New(sha256.New, secret)
		h.Write(make([]byte, 4)) // the counter
		h.Write(context)
		h.Write(binary.BigEndian.AppendUint32(nil, 8*sha256.Size))
		return h.Sum(nil), nil
	}
	return nil, fmt.Errorf("%w: derivation of %d bytes by %q", storage.ErrCorrupt, n, k.KDF)
}
