// Package transit is the engine that encrypts for others: Vault's and OpenBao's
// Transit. Keys are made, kept and used here, and leave only where that is allowed;
// what they encrypt is kept by whoever asked.
//
// # Design
//
// A key is a name, its settings (the policy) and its versions, counted from 1. What
// is encrypted names its version ("vault:v3:..."), so a key is rotated without
// anything being encrypted anew. Types of keys are data (see kinds): what a type can
// do follows from what it has.
//
// What uses a key (encrypt, decrypt, sign and the like) writes nothing: it looks the
// key up in one View, and computes when that has ended, so that no slow signature
// keeps pages. The one exception is Vault's: encrypting with a key that is not there
// makes it, where the token may create and config/keys does not forbid it. Keys are
// made before the transaction that writes them: an RSA key takes seconds, for which
// no other writer waits.
//
// The formats that clients keep are Vault's, byte by byte:
//
//	ciphertext  vault:v<n>:base64(nonce | ciphertext | tag); of RSA, base64(OAEP with SHA-256)
//	hmac        vault:v<n>:base64(HMAC of the input), with a key of the version's own
//	signature   vault:v<n>:base64(signature), of ECDSA in ASN.1; or as JWS has it, in base64
//	            for URLs, of ECDSA as two numbers of the curve's width
//	derived     HKDF-SHA256 of the version's key, no salt, info = context; from it the
//	            key, and for convergent encryption 32 bytes behind it, which make the
//	            nonce: the beginning of HMAC-SHA256(those, plaintext)
//	backup      base64 of the JSON of Vault's keysutil, see backup.go
//
// An ed25519 key signs what it is given, with prehashed as without: so do OpenBao and
// Vault up to 1.18, whose signatures would not be the same otherwise. Of ECDSA and
// ed25519 what is only of RSA is ignored, signature_algorithm and salt_length, because
// clients send it for every key. Batches of signatures are answered with status 200
// whatever has become of their items, as Vault does.
//
// A key that was made elsewhere is imported wrapped for an RSA key of the mount, which
// the first who asks for it has made; or as a public key alone, which verifies until
// its private key comes after it.
//
// Who uses a key is noted in memory, by the accessor of the token, and written by the
// next Tidy. A key that another token has used within 30 days, which still works, is
// not deleted unless it was soft-deleted before: that is seen by whoever needs it, and
// can be taken back. A key's usage may be some minutes old after a restart.
//
// # Cost
//
// A use of a key costs one look-up of its policy's version in the store, without
// decrypting, and one in memory: parsed keys are kept there, at most maxMemory bytes
// of them, each valid only as long as its policy's record is the same. Sealing the
// store lets go of them all. A version that is not in memory costs one Get and its
// parsing. Neither depends on how many versions a key has. A batch pays for the
// look-up, the request and the audit log once. A signature costs some microseconds
// more than the primitive, see BenchmarkSign.
//
// A use is noted for one more look-up in memory, and one Put for each key that was used
// since the last Tidy.
//
// Reading a key tells of all its versions, one Get each; rotating it is two Puts;
// deleting it one Delete, and one for each version afterwards.
//
// # Format
//
// Below the mount's prefix:
//
//	<prefix>/policy/<name>   the settings of a key
//	<prefix>/key/<id>/<n>    version n (decimal) of the key whose policy has the ID
//	<prefix>/use/<id>        who has used the key whose policy has the ID
//	<prefix>/config/keys     what holds for all keys
//	<prefix>/wrapping        the RSA key that imports are wrapped for
//
// Each record is
//
//	format(1)=1 | JSON
//
// of the types policy, record, usage and config. A key that is deleted, or replaced by a
// restored one, loses its policy at once, and with it the ID; the versions below that
// are deleted afterwards, by the next Tidy at the latest. Whoever changes a version
// writes the policy in the same transaction, because what is in memory is valid as
// long as that is the same.
package transit
