package recovery

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

const (
	// MaxRecipients is the most recipients to which one secret may be wrapped.
	MaxRecipients = 16

	keySize = 32
)

// CheckRecipients checks that a secret can be wrapped to the recipients: from one
// to MaxRecipients, each an age recipient (age1...), none twice, and either all
// or none of them post-quantum. The error is ErrRecipients and says which one is
// wrong.
func CheckRecipients(recipients []string) error {
	_, err := encryptKey(recipients, make([]byte, keySize))
	return err
}

func parseRecipients(texts []string) ([]age.Recipient, error) {
	if len(texts) == 0 || len(texts) > MaxRecipients {
		return nil, fmt.Errorf("%w: there are %d, and from 1 to %d are possible", ErrRecipients, len(texts), MaxRecipients)
	}
	var all []age.Recipient
	for i, text := range texts {
		var r age.Recipient
		var err error
		switch {
		case slices.Contains(texts[:i], text):
			return nil, fmt.Errorf("%w: number %d was listed before", ErrRecipients, i+1)
		case strings.HasPrefix(text, "age1pq1"):
			r, err = age.ParseHybridRecipient(text)
		case strings.HasPrefix(text, "age1"):
			r, err = age.ParseX25519Recipient(text)
		case strings.HasPrefix(text, "AGE-SECRET-KEY-"): // never shown
			return nil, fmt.Errorf("%w: number %d is a private key; give the public one (age-keygen -y), and do not use this key any more if others could read it", ErrRecipients, i+1)
		default:
			return nil, fmt.Errorf("%w: number %d does not begin with age1 (keys of SSH and of plugins cannot be used)", ErrRecipients, i+1)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: number %d: %v", ErrRecipients, i+1, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// encryptKey makes the age file of a blob.
func encryptKey(recipients []string, key []byte) ([]byte, error) {
	to, err := parseRecipients(recipients)
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to...)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRecipients, err)
	}
	if _, err := w.Write(key); err != nil {
		return nil, fmt.Errorf("encrypting to the recipients: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypting to the recipients: %w", err)
	}
	return file.Bytes(), nil
}

// Wrap encrypts a secret so that the identity of any one of the recipients opens
// it, in the place that aad names.
func Wrap(recipients []string, secret, aad []byte) (blob []byte, err error) {
	key := make([]byte, keySize)
	defer clear(key)
	rand.Read(key) // never fails, crypto/rand says
	file, err := encryptKey(recipients, key)
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	blob = binary.BigEndian.AppendUint32([]byte{version}, uint32(len(file)))
	return aead.Seal(append(blob, file...), nil, secret, aad), nil
}

// Unwrap is the inverse of Wrap. identities is the text of an age identity file:
// one identity per line; empty lines and lines that begin with # are ignored. The
// error is ErrIdentity, ErrOtherIdentity or ErrBlob.
func Unwrap(identities string, blob, aad []byte) ([]byte, error) {
	ids, err := parseIdentities(identities)
	if err != nil {
		return nil, err
	}
	file, sealed, err := splitBlob(blob)
	if err != nil {
		return nil, err
	}
	r, err := age.Decrypt(bytes.NewReader(file), ids...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, ErrOtherIdentity
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBlob, err)
	}
	key := make([]byte, keySize+1)
	defer clear(key)
	if n, err := io.ReadFull(r, key); n != keySize || err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("%w: its age file holds no key", ErrBlob)
	}
	aead, err := newAEAD(key[:keySize])
	if err != nil {
		return nil, err
	}
	secret, err := aead.Open(nil, nil, sealed, aad)
	if err != nil {
		return nil, fmt.Errorf("%w: it does not authenticate", ErrBlob)
	}
	return secret, nil
}

func splitBlob(b []byte) (file, sealed []byte, err error) {
	if len(b) < 5 || b[0] != version {
		return nil, nil, fmt.Errorf("%w: %d bytes of an unknown version", ErrBlob, len(b))
	}
	size, rest := binary.BigEndian.Uint32(b[1:]), b[5:]
	if uint64(size) > uint64(len(rest)) {
		return nil, nil, fmt.Errorf("%w: %d bytes", ErrBlob, len(b))
	}
	return rest[:size], rest[size:], nil
}

// parseIdentities reads the identities of a text. Its error says what an unusable
// text seems to be, and shows nothing of it.
func parseIdentities(text string) ([]age.Identity, error) {
	var lines strings.Builder
	for line := range strings.Lines(text) {
		lines.WriteString(strings.TrimSpace(line) + "\n")
	}
	text = strings.TrimSpace(text)
	ids, err := age.ParseIdentities(strings.NewReader(lines.String()))
	switch {
	case err == nil:
		return ids, nil
	case strings.HasPrefix(text, "age-encryption.org/"), strings.HasPrefix(text, armor.Header):
		return nil, fmt.Errorf("%w; this one is encrypted: decrypt it first (age -d)", ErrIdentity)
	case strings.HasPrefix(text, "age1"):
		return nil, fmt.Errorf("%w; this one is a recipient, the public half", ErrIdentity)
	}
	return nil, ErrIdentity
}

// EncryptShare encrypts the base64 text of a share to one age recipient, as an
// armored age file: `age -d` gives its owner the text to type when it is needed.
func EncryptShare(recipient string, share []byte) (string, error) {
	to, err := parseRecipients([]string{recipient})
	if err != nil {
		return "", err
	}
	var text strings.Builder
	a := armor.NewWriter(&text)
	w, err := age.Encrypt(a, to...)
	if err != nil {
		return "", fmt.Errorf("%w: %v", ErrRecipients, err)
	}
	if _, err := io.WriteString(w, base64.StdEncoding.EncodeToString(share)+"\n"); err != nil {
		return "", fmt.Errorf("encrypting a share: %w", err)
	}
	if err := errors.Join(w.Close(), a.Close()); err != nil {
		return "", fmt.Errorf("encrypting a share: %w", err)
	}
	return text.String(), nil
}
