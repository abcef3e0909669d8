package recovery

import "errors"

// Errors about shares. The text is for the person who has the share.
var (
	// ErrShare: not a share at all.
	ErrShare = errors.New("not a recovery share: mistyped, or cut short")
	// ErrOtherSet: a share of another lock.
	ErrOtherSet = errors.New("a recovery share of another store, or of a set that was replaced by a newer one")
	// ErrWrongShare: the share names this lock, but was not handed out for it.
	ErrWrongShare = errors.New("a wrong recovery share: not one that was handed out for this store")
	// ErrRepeated: the share was given before.
	ErrRepeated = errors.New("this recovery share was given before: give another one")
	// ErrTooFew: more shares are needed.
	ErrTooFew = errors.New("more recovery shares are needed")
	// ErrCount: n and k of Split are out of bounds.
	ErrCount = errors.New("the number of shares is from 1 to 255, the threshold from 1 to the number of shares")
)

// Other errors.
var (
	// ErrLock: the bytes are not a lock, or were changed.
	ErrLock = errors.New("the lock of the recovery shares is damaged")
	// ErrRecipients: a recipient is invalid, or they cannot be combined.
	ErrRecipients = errors.New("unusable age recipient")
	// ErrIdentity: the text holds no usable age identity.
	ErrIdentity = errors.New("not an age identity: the text has lines that begin with AGE-SECRET-KEY-")
	// ErrOtherIdentity: none of the recipients belongs to the identity.
	ErrOtherIdentity = errors.New("this age identity is not one of the recipients")
	// ErrBlob: the bytes are not a blob, were changed, or belong elsewhere.
	ErrBlob = errors.New("the wrapped key is damaged, or belongs to another place")
)
