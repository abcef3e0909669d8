// Package access decides who may do what: tokens, policies and login methods. It
// holds every such decision, so that the server only asks.
//
// A token is never stored. Its record is named by the HMAC-SHA256 of the token
// with a random key that the store itself keeps, so that neither a stolen record
// nor the order of the names says anything about the token, and a look-up
// compares no secret bytes.
//
// A token works while it and all its ancestors (its parent, the parent's parent
// and so on) are in the store and have not expired. So deleting one record, or
// the expiry of one token, ends a whole tree. The records of the descendants are
// deleted in the background, which finds them by the records alone. In the same
// way the tokens of a login method end when the method's mark is deleted.
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
// Package audit keeps its records beside these, as access/audit-*. The records of
// login methods are below the folder of the mount, each as JSON
// {"version":1,"data":...}; the packages below login describe them.
//
// A look-up costs one read, and one more for each ancestor; there are at most
// [MaxDepth] of those. Callers that serve many requests cache the result while
// the store stays unsealed and no token changes.
package access

import "errors"

var (
	// ErrDenied means that the token is unknown or may not do this. It never
	// says which of the two.
	ErrDenied = errors.New("permission denied")
	// ErrToken means that a chosen token cannot be used as one: see [Create].
	ErrToken = errors.New("not usable as a token")
	// ErrInvalid means that the input is wrong; the text says what to change.
	ErrInvalid = errors.New("invalid")
)
