// Package storage is the encrypted, transactional store of a keep: a barrier
// over one bbolt file. Everything beneath it is ciphertext. The bbolt handle is
// unexported, so this package alone, and not the discipline of its callers,
// ensures that no plaintext reaches the disk.
//
// There are three types to know: [Store], [Tx] and [Slot]. A Store is opened
// sealed; [Store.Unseal] opens the keyring with the root key, and then
// [Store.View] and [Store.Update] run functions over a [Tx].
//
// # Cost
//
// A read costs one B+tree look-up, one AES-SIV per path segment and one
// XAES-256-GCM. An update costs its share of one bbolt commit (two fdatasync):
// one committer runs the waiting functions inside one transaction and commits
// once; nothing waits for a timer. Opening costs the same at any size; the first
// update after it waits for one walk over the pages, 0.3 s for a million secrets
// of 1 KiB in the page cache, while reads are served.
//
// # Format 1
//
// The file is a bbolt database with four buckets:
//
//	meta     "store"   -> JSON {format, reader, uuid, created, lineage} in clear
//	         "keyring" -> record under the root key
//	         "digest"  -> record under the newest term
//	slots    NAME      -> version(1)=1 | JSON slot                      in clear
//	data     PATH      -> record under a term
//	blobs    id(16) | chunk(4) -> record under a term
//	         id(16) | ffffffff -> record: the blob is referred to
//
// A record, everywhere:
//
//	kind(1) | term(4, big endian) | nonce(24) | ciphertext | tag(16)
//
// kind is 1 for a value and 2 for a pointer to a blob; the keyring's term is 0,
// which stands for the root key. nonce, ciphertext and tag are XAES-256-GCM
// (C2SP, https://c2sp.org/XAES-256-GCM). The associated data is, each with its
// length before it as four bytes big endian: "sealkeep/1", the purpose
// ("value", "pointer", "blob", "keyring", "digest"), the store's UUID and the
// full path. So a record that was cut, edited, or copied to another place or
// another store does not authenticate: [ErrCorrupt], naming the path.
//
// PATH hides names. For each segment of a path it holds
//
//	length(2, big endian) | AES-SIV(segment)                        (RFC 5297)
//
// with the parent segment's 16-byte SIV tag as associated data (a constant at
// the top). The children of a folder therefore lie together, and listing costs
// the folder. SECURITY.md describes what this leaks (the tree's shape, the
// lengths of names and values, that a name is used again).
//
// The keyring is JSON under the root key: the barrier keys by term, the name
// key, the digest key, the authoritative list of slots with the hash of each
// blob, and the list of revoked slots. While the latter is not empty, the keyring
// has version 2 and the header says reader 2, so that a program that does not know
// the list refuses the store instead of dropping the list. The slots bucket is only
// a hint, since anybody who can write the disk can write it: a slot that is not in
// the keyring's list, or differs from it, is quarantined when the keyring opens.
//
// The digest is the sum modulo 2^256 of HMAC-SHA-256(digest key, bucket, key,
// nonce, tag) over all live records, kept with the store's generation (one per
// commit) and the keyring's:
//
//	version(1)=1 | generation(8) | keyring(8) | records(8) | writes(8) | sum(32)
//
// [Store.Check] compares it, and so finds missing, added and replayed records,
// which authentication alone cannot. It cannot find a replay of the whole file.
//
// # Changing keys
//
// Every change of the keyring is alone in its commit: a new term, a slot added or
// removed, or a new root key with its slots and the revoked ones. [Store.Rotate]
// begins a term; [Store.Reencrypt] re-encrypts the records of older terms under
// the newest one, in small updates among the others, and then forgets those terms.
//
// A View begins with the keyring of its snapshot. Readers see a commit before it
// returns, so the new keyring and the number of its transaction are published
// before the commit. No View therefore has a record or a slot that its keyring
// does not know, or the reverse.
//
// # What bbolt believes
//
// bbolt trusts its file. So this package reads nothing through bbolt, and checks
// every page before bbolt itself reads or writes it: its elements must fill it,
// one after the other and in order, and it must claim no more pages than they
// need. The meta pages and the header of the free list are checked before bbolt
// opens the file; a meta page that differs in up to three bits from one with a
// valid checksum is repaired. The free list is verified before the first update:
// it must name no page that can be reached, and none twice. A wrong one is
// replaced by what the walk found. See meta.go, walk.go and freelist.go.
//
// # When a commit fails
//
// After any error of bbolt's commit the kernel may have dropped what it could
// not write, so the handle is not used again: the batch gets [ErrUnknownOutcome],
// Views end with [ErrUnavailable] at their next call, the file is reopened, both
// meta pages are written back as they were read, and the store resumes only when
// fdatasync succeeds. Until then it returns [ErrUnavailable] at once. The first
// update verifies the free list again.
package storage
