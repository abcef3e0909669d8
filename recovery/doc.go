// Package recovery lets people open a keep when no key service does: with an age
// identity that is kept offline, whole or split into n shares, any k of which are
// enough.
//
// There is one mechanism, [Wrap]: the root key is wrapped to age recipients,
// which are public. A keep can therefore wrap a new root key without asking
// anybody, and only the holder of an identity can open it ([Unwrap]). Shares are
// a way to keep an identity: [Split] makes one, and a lock, which is also public,
// holds its private half encrypted under a key that takes k shares to compute. A
// [Collection] takes shares one at a time and says at once if one is wrong.
//
// The package does no I/O, keeps no state and knows nothing about stores.
//
// # How the shares work
//
// A random scalar of ristretto255 is the value at 0 of a random polynomial of
// degree k-1; share i is its value at i (Shamir). The lock has the polynomial's
// coefficients times the generator (Feldman), against which each share is
// checked when it is added: otherwise a wrong share would silently give a wrong
// secret. Fewer than k shares reveal nothing about the scalar; the commitments
// hide it as long as discrete logarithms are hard, on which X25519 also rests.
//
// # Cost
//
// Wrap and Unwrap cost one X25519 per recipient, well under a millisecond. A share
// costs k scalar multiplications to check, about 0.1 ms each.
//
// # Formats
//
// All begin with a version, 1. The numbers in parentheses are bytes.
//
// A share has 48 bytes, 64 characters of base64 or 96 of hex:
//
//	version(1) | set(10) | i(1) | value(32) | check(4)
//
// set is the beginning of SHA-256 of the lock's commitments, so that a share of
// another store, or of an older set, can be told from a wrong one; value is a
// scalar, little endian; check is the beginning of SHA-256 of everything before
// it, to detect typing errors.
//
// A lock:
//
//	version(1) | n(1) | k(1) | recipient(62) | commitments(32 each, k of them) |
//	nonce(12) | AES-256-GCM of the identity's text(74) | tag(16)
//
// The key is HKDF-SHA-256 of the scalar; the bytes before the nonce are the
// associated data.
//
// A blob:
//
//	version(1) | length(4, big endian) | age file of that length |
//	nonce(12) | AES-256-GCM of the secret | tag(16)
//
// The age file (age-encryption.org/v1) holds the key of the AES-256-GCM: 32
// random bytes, made for this blob. The caller's associated data binds the blob
// to its place, for which age has no means.
package recovery
