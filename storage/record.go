package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// The purpose of a record, which is part of its associated data.
const (
	purposeValue   = "value"
	purposePointer = "pointer"
	purposeBlob    = "blob"
	purposeKeyring = "keyring"
	purposeDigest  = "digest"
	purposeSlot    = "slot"
)

const (
	kindValue   = 1
	kindPointer = 2

	headerSize = 1 + 4
	nonceSize  = 24
	tagSize    = 16
	recordMin  = headerSize + nonceSize + tagSize
)

// associated returns the associated data of everything that this package encrypts
// or has encrypted by a key service: each part is preceded by its length, so that
// no two lists of parts give the same bytes.
func associated(parts ...string) []byte {
	n := 0
	for _, p := range parts {
		n += 4 + len(p)
	}
	b := make([]byte, 0, n)
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

const formatName = "sealkeep/1"

// newXAES returns XAES-256-GCM under a key of 32 bytes. It makes the nonce
// itself, at random, and puts it first.
func newXAES(key []byte) (tink.AEAD, error) {
	params, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, 12)
	if err != nil {
		return nil, err
	}
	k, err := xaesgcm.NewKey(secretdata.NewBytesFromData(key, insecuresecretdataaccess.Token{}), 0, params)
	if err != nil {
		return nil, err
	}
	m := keyset.NewManager()
	id, err := m.AddKey(k)
	if err != nil {
		return nil, err
	}
	if err := m.SetPrimary(id); err != nil {
		return nil, err
	}
	h, err := m.Handle()
	if err != nil {
		return nil, err
	}
	return aead.New(h)
}

// sealRecord encrypts plaintext into a record.
func sealRecord(a tink.AEAD, kind byte, term uint32, plaintext, ad []byte) ([]byte, error) {
	ct, err := a.Encrypt(plaintext, ad)
	if err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	rec := make([]byte, headerSize, headerSize+len(ct))
	rec[0] = kind
	binary.BigEndian.PutUint32(rec[1:], term)
	return append(rec, ct...), nil
}

// splitRecord checks the length and returns the parts of a record.
func splitRecord(rec []byte) (kind byte, term uint32, ct []byte, ok bool) {
	if len(rec) < recordMin {
		return 0, 0, nil, false
	}
	return rec[0], binary.BigEndian.Uint32(rec[1:]), rec[headerSize:], true
}
