package transit

import (
	"errors"

	"github.com/sealkeep/sealkeep/api"
)

// What clients are told, in Vault's and OpenBao's words.
var (
	errKeyNotFound = api.Invalid.Errorf("encryption key not found")
	errSoftDeleted = api.Invalid.Errorf("refusing to use soft-deleted key")
	errNoVersion   = api.Invalid.Errorf("no such key version")
	errTooOld      = api.Invalid.Errorf("ciphertext or signature version is disallowed by policy (too old)")
	errNoContext   = api.Invalid.Errorf("missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request information must be included in order to perform operations with the key")
)

var (
	// errOtherKind means that key material is of another type than its policy says.
	errOtherKind = errors.New("key of another type")
	// errShort means that a ciphertext is shorter than its nonce.
	errShort = errors.New("invalid ciphertext length")
)
