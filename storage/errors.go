package storage

import (
	"errors"
	"fmt"
)

// Opening.
var (
	// ErrExists: there is already a file where a store was to be created.
	ErrExists = errors.New("a store or another file is already there")
	// ErrLocked: another process has the store open. The text names it if the
	// system can tell.
	ErrLocked = errors.New("store is in use by another process")
	// ErrFormat: the store was written by a newer version that this one
	// cannot read.
	ErrFormat = errors.New("store format is too new")
	// ErrRootKey: the key given is not this store's root key.
	ErrRootKey = errors.New("not the root key of this store")
)

// Using.
var (
	// ErrSealed: the store has no keys in memory.
	ErrSealed = errors.New("store is sealed")
	// ErrClosed: the store is closed, or the transaction has ended.
	ErrClosed = errors.New("store is closed")
	// ErrUnavailable: a commit failed and the file is being reopened.
	ErrUnavailable = errors.New("store is recovering from a failed write")
	// ErrUnknownOutcome: the commit failed; after the recovery the change is
	// there or it is not, but never in part.
	ErrUnknownOutcome = errors.New("outcome of the write is unknown")
	// ErrBusy: too many updates are waiting already. Nothing was done.
	ErrBusy = errors.New("too many writes are waiting")
	// ErrCorrupt: stored bytes are damaged, or belong to another place.
	ErrCorrupt = errors.New("store is damaged")
	// ErrReadOnly: a write inside View.
	ErrReadOnly = errors.New("transaction is read-only")
	// ErrNested: View or Update called from inside another transaction.
	ErrNested = errors.New("transactions cannot be nested")
	// ErrExpired: a View ran longer than its deadline.
	ErrExpired = errors.New("transaction ran too long")
	// ErrPath: the path has an empty segment, or is too long or too deep.
	ErrPath = errors.New("invalid path")
	// ErrTooLarge: the value is larger than MaxValue, or the slot too large.
	ErrTooLarge = errors.New("value is too large")
	// ErrNoSlot: the store has no slot of that name.
	ErrNoSlot = errors.New("no such slot")
	// ErrLastSlot: without this slot nothing would open the store.
	ErrLastSlot = errors.New("it is the last slot")
	// ErrRevoked: the slot, or its key, was revoked.
	ErrRevoked = errors.New("it was revoked")
	// ErrGeneration: the slot holds another root key than the store expects.
	ErrGeneration = errors.New("root key of another generation")
)

func corrupt(where, what string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrCorrupt, where, fmt.Sprintf(what, args...))
}
