package api

import (
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"net/netip"
	"net/textproto"
	"net/url"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/storage"
)

// MaxParams is how many parts of a route's path may stand in braces.
const MaxParams = 3

// Params are what the parts of the route's path in braces stand for.
type Params struct {
	Names  *[MaxParams]string // nil: there are none
	Values [MaxParams]string
}

// A Request is what a handler may know of one. It is read only.
type Request struct {
	context.Context        // ends when the client has gone, or the time of the route is over
	ID              string // UUID, in the answer and the log
	Op              Op
	Path            string // below /v1/, canonical, without a slash at its end
	Slash           bool   // there was one
	Params          Params
	Mount           *Mount // also that of a System type; nil for what is nowhere, and for a System type unless unsealed
	Caller          Caller
	Query           url.Values
	Body            []byte    // of what has a body; nil until it is read
	Upload          io.Reader // the body of what reads it itself
	Header          textproto.MIMEHeader
	Now             time.Time
	WrapIn          time.Duration // for which the answer is to be wrapped; 0: it is not

	Store *storage.Store // nil unless unsealed
	Frame Frame
}

// A Caller is who asks.
type Caller struct {
	Token  *access.Token // nil unless there was a valid one
	Bearer string        // the token itself
	ACL    *access.ACL   // what its policies allow; nil at an open route
	Ended  bool          // the time of the bearer is over, and something that is held open carries it, see Route.Session
	Source netip.Addr    // the zero Addr where a client has none, as on a unix socket
}

// A Frame is what the pipeline does for a request.
type Frame interface {
	// Time is the present time.
	Time() time.Time
	// Permit refuses a write to a mount that was removed, and one that the policies
	// do not allow as it turns out to be: creating, or updating.
	Permit(*storage.Tx) error
	// LogIn gives a token to whom check recognises, unless there were too many
	// failures of the name or the source. A source from which the last login of
	// the group went well does not wait for the name.
	LogIn(name, group string, check func() (Proof, error)) (Answer, error)
	// Certificates are those that the client has shown, its own first; that there
	// are none is an error which says why.
	Certificates() ([]*x509.Certificate, error)
	// Peer is the process at the other end of a unix socket.
	Peer() (access.Peer, error)
	// Operator reports whether root asks, on this machine, over a listener for that.
	Operator() bool
	// Remote is the client's address with its port, for the log.
	Remote() string
	// Tell records an answer that tells something once, which nobody can ask for
	// again, before what it tells is committed. After an error it must not be. The
	// handler returns that answer, to which it may add warnings. It is for a handler
	// made by Do that knows the answer before its transaction; without Tell an answer
	// that cannot be recorded is withheld after the change was made.
	Tell(Answer) error
	// TakeTime lets the answer take as long as it needs; the request's context still
	// ends when the client goes away.
	TakeTime()
	// Canonical is a path below /v1/ as it is authorized: the names in it are in their
	// canonical form.
	Canonical(path string) string
	// Stopping is closed when the server takes no more requests, so that an answer
	// without an end is to end.
	Stopping() <-chan struct{}
	// Tidy has the types tidy up soon.
	Tidy()
	// Log is the keep's log.
	Log() *slog.Logger
}

// A Proof is called in the transaction that makes the token. It reads again what must
// still hold, and refuses it, or returns ErrChanged to have everything checked again.
type Proof func(*storage.Tx) (*access.Login, error)

// Param is what the part of the route's path stands for that has the name in
// braces.
func (r *Request) Param(name string) string {
	if r.Params.Names != nil {
		for i, is := range r.Params.Names {
			if is == name {
				return r.Params.Values[i]
			}
		}
	}
	return ""
}

// Prefix is the folder of the request's mount in the store.
func (r *Request) Prefix() string { return r.Mount.Prefix() }

// View runs fn in a read transaction.
func (r *Request) View(fn func(*storage.Tx) error) error { return r.Store.View(r.Context, fn) }

// Update runs fn in a write transaction, unless the mount was removed by then, or
// what is to be written turns out to be there, or not, against the policies. It may
// run fn more than once, of which one time counts: fn has no effect outside of its
// transaction.
func (r *Request) Update(fn func(*storage.Tx) error) error {
	return r.Store.Update(r.Context, func(tx *storage.Tx) error {
		r.Now = r.Frame.Time()
		if err := r.Frame.Permit(tx); err != nil {
			return err
		}
		return fn(tx)
	})
}
