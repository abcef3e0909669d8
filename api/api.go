// Package api is the vocabulary between the pipeline and the rooms of a keep: what
// an engine, a login method or a part of the system says of itself, what it is
// asked and what it answers.
//
// A room is a [Type]: a value with a name and a list of [Route]s. A route is data:
// a path, what a request must pass before it, and a [Handler] for each operation.
// From that the pipeline (package server) does for every room what no room can
// forget then: it finds the route, asks the policies, reads and decodes the body,
// records the request and its answer, slows down who guesses, wraps and encodes.
// A room never sees HTTP.
//
// A handler is a function of the request and of what was decoded for it, made by
// one of
//
//	View    runs in a read transaction
//	Update  runs in a write transaction, perhaps more than once
//	Do      has none, and runs its own with Request.View and Request.Update
//	LogIn   recognises somebody, who gets a token
//
// What it takes from the request is a plain struct with json tags. One decoder
// fills it from the query of a read and from the body of a write, and takes the
// weak forms that Vault takes ("true" or 1 for true, "1h" for a duration, "a,b" for
// a list), see [Handler.Decode]. Where the shape of its answers is fixed, the handler
// says so with [Handler.Answers], by what it answers for an empty record, and the
// OpenAPI document has it.
//
// The pipeline has checked the path: it is valid UTF-8, printable, without empty
// segments, "." and "..". The errors of package storage have their answers already;
// what else a type's functions return is a failure of the server, unless it is an
// [Error] or in Type.Errors. A function of Update may run more than once.
//
// The example shows a whole engine. Its line in the list of types of the program is
// in cmd/sealkeep/types.go.
//
// # Cost
//
// A handler costs the allocation of its struct and of its closures. A decoded
// body costs a map of its fields, one pass by encoding/json over it, and one by
// reflection over the fields that are there.
package api

import (
	"context"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/storage"
)

// An Alias is another spelling of requests: what is sent to Path is a request for To
// in all respects, as which it is authorized, recorded and counted. The names in the
// braces of To are among those of Path, see [Route].
//
// A Path that begins with a slash is one of the server, below which there may be no
// other, and To is below /v1/; the operation is that of the method. Any other Path, and
// its To, is below the mount, and counts for one method.
type Alias struct {
	Method string // of HTTP; "" where the path begins with a slash
	Query  string // a parameter that the query must have; "": none
	Path   string
	Op     Op // of a path below the mount
	To     string
}

// A Kind is what a type is for.
type Kind uint8

const (
	Secrets Kind = iota // an engine, mounted below /v1/
	Login               // a login method, enabled below /v1/auth/
	System              // is at Type.At without being mounted
)

// A Type is an engine, a login method or a part of the system. It is keyed by its
// name and version.
type Type struct {
	Name    string // as sys/mounts shows it
	Version string // the mount's option version; "": the type has none
	Help    string // one sentence; of a System type, the description of its mount
	Kind    Kind
	At      string // where a System type is: "sys/"; no path of one begins with another's
	Routes  []Route
	Label   string // what stands for the mount's path in metrics; "": the name in braces

	// First is where a mount of the engine is from the beginning: "state/"; "": nowhere.
	First string
	// Aliases are other spellings of requests. Optional.
	Aliases []Alias
	// TakesBasic says that a token may come as the password of HTTP's Basic
	// authentication, too, whatever the user, and that who sends none is asked for it.
	// The user NAME/ROLE, where a login method is enabled at NAME that has Basic, or
	// NAME:MOUNT/ROLE where it is at MOUNT, is a login for this one request.
	TakesBasic bool
	// Basic is a login for one request, with nothing stored: of a login method that can
	// tell at once, by a proof that nobody guesses. ended says that the proof is right
	// but for its time, which is over. Optional.
	Basic func(r *Request, role, proof string) (l *access.Login, ended bool, err error)

	// From is the version of the same name whose mounts can be tuned to this one,
	// at once and for good. What such a mount has of the old version is read as long
	// as the mount has it as its own From, until Tidy has converted it. Optional.
	From string

	// Errors says what the type's own errors are. Any other is a failure, of which
	// the client gets no text.
	Errors map[error]Code

	// Renew returns what the tokens of the one who once logged in are like now, or
	// why they are not renewed any more.
	Renew func(*Request, *storage.Tx, *Mount, *access.Token) (*access.TokenParams, error)
	// Prove is what of Renew is too slow for a write transaction, and takes place
	// before. still refuses with ErrChanged, inside, what it has read and is no more
	// so. Optional.
	Prove func(*Request, *Mount, *access.Token) (still func(*storage.Tx) error, err error)
	// Tidy deletes what a mount has no use for any more, and converts what it has of
	// the version that [Mount.From] says, in transactions of bounded size. It returns
	// how many records there were; without an error nothing is left of that version.
	// Optional.
	Tidy func(ctx context.Context, store *storage.Store, m *Mount, now func() time.Time) (records int, err error)
}
