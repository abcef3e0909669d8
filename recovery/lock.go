package recovery

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"filippo.io/age"
	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"
)

// The types of slots that people open. The name of such a slot is "recovery-" and
// its type.
const (
	Shares = "shares"
	Age    = "age"
)

const (
	version   = 1
	maxShares = 255

	scalarSize    = 32 // of ristretto255, and of its elements
	recipientSize = 62 // of an X25519 recipient's text
	identitySize  = 74 // of an X25519 identity's text
	sealOverhead  = 12 + 16

	lockStart = 3 + recipientSize
)

// lock is a decoded lock.
type lock struct {
	n, k        int
	recipient   string
	commitments secretsharing.SecretCommitment
	set         [setSize]byte
	head        []byte // everything before the encrypted identity
	sealed      []byte
}

// Split makes an age identity and splits it into n shares, any k of which are
// enough: 1 <= k <= n <= 255, else ErrCount. The lock is public, and is needed
// with the shares; the shares are for n people.
func Split(n, k int) (lock []byte, shares [][]byte, err error) {
	if k < 1 || k > n || n > maxShares {
		return nil, nil, fmt.Errorf("%w: %d and %d", ErrCount, n, k)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, nil, fmt.Errorf("making an identity: %w", err)
	}
	secret := group.Ristretto255.RandomNonZeroScalar(rand.Reader)
	split := secretsharing.New(rand.Reader, uint(k-1), secret) // circl's threshold is the largest number that is not enough

	lock = append([]byte{version, byte(n), byte(k)}, identity.Recipient().String()...)
	for _, c := range split.CommitSecret() {
		b, err := c.MarshalBinary()
		if err != nil {
			return nil, nil, fmt.Errorf("encoding a commitment: %w", err)
		}
		lock = append(lock, b...)
	}
	aead, err := identityCipher(secret)
	if err != nil {
		return nil, nil, err
	}
	set := setOf(lock[lockStart:])
	lock = append(lock, aead.Seal(nil, nil, []byte(identity.String()), lock)...)
	// Make sure that the decoder accepts what is handed out.
	l, err := decodeLock(lock)
	if err != nil {
		return nil, nil, err
	}
	for i, s := range split.Share(uint(n)) {
		value, err := s.Value.MarshalBinary()
		if err != nil {
			return nil, nil, fmt.Errorf("encoding a share: %w", err)
		}
		if !secretsharing.Verify(uint(k-1), s, l.commitments) {
			return nil, nil, ErrWrongShare
		}
		shares = append(shares, encodeShare(set, byte(i+1), value))
	}
	return lock, shares, nil
}

// Recipients returns the recipients to which the secret of a slot with this lock
// is wrapped, the number of shares n and how many of them are needed, k.
func Recipients(lock []byte) (recipients []string, n, k int, err error) {
	l, err := decodeLock(lock)
	if err != nil {
		return nil, 0, 0, err
	}
	return []string{l.recipient}, l.n, l.k, nil
}

// decodeLock checks everything that can be checked without shares.
func decodeLock(b []byte) (*lock, error) {
	if len(b) < lockStart || b[0] != version {
		return nil, fmt.Errorf("%w: %d bytes of an unknown version", ErrLock, len(b))
	}
	l := &lock{n: int(b[1]), k: int(b[2]), recipient: string(b[3:lockStart])}
	if l.k < 1 || l.k > l.n {
		return nil, fmt.Errorf("%w: %d of %d shares", ErrLock, l.k, l.n)
	}
	end := lockStart + l.k*scalarSize
	if len(b) != end+sealOverhead+identitySize {
		return nil, fmt.Errorf("%w: %d bytes", ErrLock, len(b))
	}
	if _, err := age.ParseX25519Recipient(l.recipient); err != nil {
		return nil, fmt.Errorf("%w: recipient", ErrLock)
	}
	for i := range l.k {
		e := group.Ristretto255.NewElement()
		if err := e.UnmarshalBinary(b[lockStart+i*scalarSize:][:scalarSize]); err != nil {
			return nil, fmt.Errorf("%w: commitment %d", ErrLock, i)
		}
		l.commitments = append(l.commitments, e)
	}
	l.head, l.sealed, l.set = b[:end:end], b[end:], setOf(b[lockStart:end])
	return l, nil
}

// open decrypts the identity with the scalar that the shares gave.
func (l *lock) open(secret group.Scalar) (string, error) {
	aead, err := identityCipher(secret)
	if err != nil {
		return "", err
	}
	text, err := aead.Open(nil, nil, l.sealed, l.head)
	if err != nil {
		return "", fmt.Errorf("%w: it does not open with its own shares", ErrLock)
	}
	defer clear(text)
	return string(text), nil
}

// identityCipher returns the cipher that encrypts the identity. A scalar is used
// for one identity only.
func identityCipher(secret group.Scalar) (cipher.AEAD, error) {
	b, err := secret.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encoding the secret: %w", err)
	}
	defer clear(b)
	key, err := hkdf.Key(sha256.New, b, nil, "sealkeep/1 recovery identity", 32)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	defer clear(key)
	return newAEAD(key)
}

// newAEAD returns AES-256-GCM with a random nonce of 12 bytes before the
// ciphertext.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("making a cipher: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
