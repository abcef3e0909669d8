// Package access decides who may do what: tokens, policies and login methods. It
// holds every such decision, so that the server only asks.
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
// # In the store
//
//	access/token-key             32 random bytes, made with the first token
//	access/token/<hh>/<hash>     JSON {"version":2, ...}: a token; <hh><hash> is 64 hex digits
//	access/token/<hash>          the same of version 1: root tokens of older stores
//	access/accessor/<accessor>   the 64 hex digits of its token
//	access/cubbyhole/<hh>/<hash> JSON {"version":1, ...}: what that token keeps for itself (package cubbyhole), or the answer it is for
//	access/token-role/<name>     JSON {"version":1, ...}: a role
//	access/policy/<name>         JSON {"version":1,"text":...}: a policy
//	access/method/<uuid>         JSON {"version":1}: a login method is enabled
//
// Package audit keeps its records beside these, as access/audit-*. Those of the
// login methods sit below the folder of the mount, each as JSON
// {"version":1,"data":...}; the packages below
// login say which.
//
// A look-up costs one read, and one more for each token above; there are at most
// [MaxDepth] of those. Callers that serve many requests keep the result while
// the store stays unsealed and no token changes.
package access

import "errors"

var (
	// ErrDenied means that the token is unknown or may not do this. It never
	// says which of the two.
	ErrDenied = errors.New("permission denied")
	// ErrToken means that a chosen token cannot be one: see [Create].
	ErrToken = errors.New("not usable as a token")
	// ErrInvalid means that what was given is wrong; the text says what to change.
	ErrInvalid = errors.New("invalid")
)
