package recovery

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"
)

const (
	setSize   = 10
	checkSize = 4
	shareSize = 1 + setSize + 1 + scalarSize + checkSize
)

// setOf names the shares of a lock by its commitments.
func setOf(commitments []byte) [setSize]byte {
	h := sha256.Sum256(commitments)
	return [setSize]byte(h[:])
}

// SetID returns the public name of the shares that open a lock, in hex. Every
// share of a lock contains it, see [ShareSetID]; a new root key or another place
// for the slot does not change it. The error is ErrLock.
func SetID(lock []byte) (string, error) {
	l, err := decodeLock(lock)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(l.set[:]), nil
}

// ShareSetID returns the SetID of the lock to which a share claims to belong. The
// error is ErrShare.
func ShareSetID(share []byte) (string, error) {
	set, _, _, err := decodeShare(share)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(set[:]), nil
}

func encodeShare(set [setSize]byte, id byte, value []byte) []byte {
	b := append([]byte{version}, set[:]...)
	b = append(append(b, id), value...)
	h := sha256.Sum256(b)
	return append(b, h[:checkSize]...)
}

// decodeShare reads a share and checks what can be checked without its lock.
func decodeShare(b []byte) (set [setSize]byte, id byte, value group.Scalar, err error) {
	if len(b) != shareSize {
		return set, 0, nil, fmt.Errorf("%w: %d bytes instead of %d", ErrShare, len(b), shareSize)
	}
	body, check := b[:shareSize-checkSize], b[shareSize-checkSize:]
	if h := sha256.Sum256(body); !bytes.Equal(check, h[:checkSize]) {
		return set, 0, nil, fmt.Errorf("%w: its check digits do not fit", ErrShare)
	}
	if b[0] != version {
		return set, 0, nil, fmt.Errorf("%w: unknown version %d", ErrShare, b[0])
	}
	value = group.Ristretto255.NewScalar()
	if err := value.UnmarshalBinary(body[1+setSize+1:]); err != nil || body[1+setSize] == 0 {
		return set, 0, nil, fmt.Errorf("%w: its value is out of range", ErrShare)
	}
	return [setSize]byte(body[1:]), body[1+setSize], value, nil
}

// ParseShare reads the text of a share: hex, or base64 of any kind. Spaces and
// line breaks are ignored. The error is ErrShare.
func ParseShare(text string) ([]byte, error) {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return -1
		case r == '-':
			return '+'
		case r == '_':
			return '/'
		}
		return r
	}, text)
	var b []byte
	var err error
	if len(text) == hex.EncodedLen(shareSize) {
		b, err = hex.DecodeString(text)
	} else {
		b, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: neither hex nor base64", ErrShare)
	}
	if _, _, _, err := decodeShare(b); err != nil {
		return nil, err
	}
	return b, nil
}

// A Collection gathers shares until there are enough. It is not for use by
// several goroutines at once.
type Collection struct {
	lock   *lock
	shares []secretsharing.Share
}

// NewCollection begins to gather the shares of a lock.
func NewCollection(lock []byte) (*Collection, error) {
	l, err := decodeLock(lock)
	if err != nil {
		return nil, err
	}
	return &Collection{lock: l}, nil
}

// Add takes one share and returns how many there are now. If the error is ErrShare,
// ErrOtherSet, ErrWrongShare or ErrRepeated, the share does not count.
func (c *Collection) Add(share []byte) (have int, err error) {
	set, id, value, err := decodeShare(share)
	if err != nil {
		return len(c.shares), err
	}
	if set != c.lock.set {
		return len(c.shares), ErrOtherSet
	}
	s := secretsharing.Share{ID: group.Ristretto255.NewScalar().SetUint64(uint64(id)), Value: value}
	if int(id) > c.lock.n || !secretsharing.Verify(uint(c.lock.k-1), s, c.lock.commitments) {
		return len(c.shares), ErrWrongShare
	}
	for _, o := range c.shares {
		if o.ID.IsEqual(s.ID) {
			return len(c.shares), ErrRepeated
		}
	}
	c.shares = append(c.shares, s)
	return len(c.shares), nil
}

// Identity returns the text of the age identity that the shares give. ErrTooFew:
// there are fewer than k shares.
func (c *Collection) Identity() (string, error) {
	if len(c.shares) < c.lock.k {
		return "", fmt.Errorf("%w: %d of %d", ErrTooFew, len(c.shares), c.lock.k)
	}
	secret, err := secretsharing.Recover(uint(c.lock.k-1), c.shares)
	if err != nil {
		return "", fmt.Errorf("combining the shares: %w", err)
	}
	return c.lock.open(secret)
}

// Reset forgets the shares.
func (c *Collection) Reset() { c.shares = nil }
