// Package access decides who may do what, and records who did: tokens, policies,
// login methods and the audit log. It holds every such decision, so that the
// server only asks.
//
// A token is never stored. Its record sits under the HMAC-SHA256 of the token
// with a random key that the store itself keeps, so that neither a stolen
// record nor the order of its names says anything about the token, and a
// look-up compares no secret bytes.
//
// A token works while it and all those above it, the one that made it and so
// on, are in the store and have not ended. So a whole tree ends with one record
// deleted, or one time passed; what the store still has of the tokens below is
// deleted in the background, and is seen from the records alone. In the same way
// the tokens of a login method end with the mark of the method.
//
// # The audit log
//
// Each line is a JSON object in the shape of Vault's, between fields of ours:
//
//	{"seq":7,"prev":"<hash of line 6>","time":...,"type":"request",...,"hash":"<hash>"}
//
// The hash is the SHA-256, in hex, of the line's bytes up to its own field;
// prev is that of the line before, 64 zeros in line 1. So a line that is changed,
// removed, moved or repeated is seen from the log alone. A cut end is not: for that
// the store has the number and hash of the last line, written in the background
// after the file was flushed, and when the keep is sealed. Lines of type "device"
// tell that the device was opened, and what was lost before.
//
// A record costs one write per device, under a lock, and the hashes; nothing is
// waited for but a pipe, a socket or the journal, 2 s at most. A device that fails
// is left alone until the background has it working again. A part of a line that
// a full disk took is cut off again.
//
// # In the store
//
//	access/token-key             32 random bytes, made with the first token
//	access/token/<hh>/<hash>     JSON {"version":2, ...}: a token; <hh><hash> is 64 hex digits
//	access/token/<hash>          the same of version 1: root tokens of older stores
//	access/accessor/<accessor>   the 64 hex digits of its token
//	access/cubbyhole/<hh>/<hash> JSON {"version":1, ...}: what that token keeps for itself, or the answer it is for
//	access/token-role/<name>     JSON {"version":1, ...}: a role
//	access/policy/<name>         JSON {"version":1,"text":...}: a policy
//	access/method/<uuid>         JSON {"version":1}: a login method is enabled
//	access/audit-devices         JSON {"version":1,"data":[...]}: audit devices made over the API
//	access/audit-salt/<path>     JSON {"version":1,"data":...}: 32 random bytes of a device, in base64
//	access/audit-head/<path>     JSON {"version":1,"data":{"seq":...,"hash":...}}: how far its log has come
//
// and of the login methods, below the folder of the mount, which the server
// chooses, each as JSON {"version":1,"data":...}, see [AppRoles] and [Users] for
// theirs:
//
//	<folder>/config              jwt, cert: the configuration
//	<folder>/role/<name>         jwt, peer: a role
//	<folder>/certs/<name>        cert: a role
//	<folder>/crls/<name>         cert: the serial numbers of certificates that were revoked
//
// A look-up costs one read, and one more for each token above; there are at most
// [MaxDepth] of those. Callers that serve many requests keep the result while
// the store stays unsealed and no token changes.
package access

import (
	"errors"
)

var (
	// ErrDenied means that the token is unknown or may not do this. It never
	// says which of the two.
	ErrDenied = errors.New("permission denied")
	// ErrToken means that a chosen token cannot be one: see [Create].
	ErrToken = errors.New("not usable as a token")
	// ErrInvalid means that what was given is wrong; the text says what to change.
	ErrInvalid = errors.New("invalid")
)
