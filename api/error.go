package api

import (
	"errors"
	"fmt"
	"time"
)

// ErrRequest is every [Error]: the request is wrong, or cannot be served now; the
// text says what to change.
var ErrRequest = errors.New("invalid request")

// A Code says what kind of error a client is told of. The pipeline alone turns it
// into a status.
type Code uint8

const (
	Invalid     Code = iota // 400: the request is wrong
	Unknown                 // 401: who asks has not said who it is
	Denied                  // 403
	Absent                  // 404 without a text
	NotFound                // 404
	Unsupported             // 405: not this operation
	Slow                    // 408: the client took too long
	Conflict                // 409: what is there is against it
	TooLarge                // 413
	MediaType               // 415
	Locked                  // 423: somebody else holds it
	Unproven                // 428: a proof is missing
	Busy                    // 429: come again, after Error.After
	Failed                  // 500, with a text for the client
	Unavailable             // 503: not now
	Full                    // 507
	Codes                   // how many there are
)

// Errorf is an error of the code whose text goes to the client.
func (c Code) Errorf(format string, args ...any) *Error {
	return &Error{Code: c, Text: fmt.Sprintf(format, args...)}
}

// An Error is told to the client as it is.
type Error struct {
	Code  Code
	Text  string
	After time.Duration // when to come again; 0: of Busy in a second, else not said
	Body  []byte        // is sent in place of Vault's list of errors; JSON
}

func (e *Error) Error() string        { return e.Text }
func (e *Error) Is(target error) bool { return target == ErrRequest }

// ErrAbsent is Vault's answer where nothing is: 404 with an empty list of errors.
var ErrAbsent error = &Error{Code: Absent}

// ErrSealed is Vault's answer while the keep is sealed.
var ErrSealed error = &Error{Code: Unavailable, Text: "Vault is sealed"}

// ErrChanged: what was read before the transaction is not what it finds.
var ErrChanged = errors.New("what was read has changed meanwhile")
