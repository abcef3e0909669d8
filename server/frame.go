package server

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/textproto"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/storage"
)

// A request is one on its way through the stages.
type request struct {
	api.Request
	server *Server
	door
	target
	checks
	input
	recorded

	start  time.Time
	flight flight   // among those that are in flight
	label  string   // of the route, for metrics
	end    []func() // called when it has been answered
	upload *upload  // nil without one
}

// A door is how a request has come in.
type door struct {
	http   *http.Request
	w      http.ResponseWriter
	conn   *conn // nil without HTTPServer
	listen *Listener
}

// A target is what a request is for.
type target struct {
	unsealed *keep.Unsealed // nil unless unsealed
	typ      *api.Type      // of what the path is below; nil: nothing
	route    *route         // nil when there is none
	mounts   *mount.Table   // that has the mount; nil for a system type
	known    bool           // Op is what the method means
	help     bool           // what the path is for is asked
}

// checks are what policies leave to ask when more is known.
type checks struct {
	grant access.Grant      // to check the parameters with, if they matter
	only  access.Capability // the token may create, or may update, not both; 0: either
}

// An input is what the handler takes.
type input struct {
	in    any
	given map[string]json.RawMessage // the fields of the body
	bad   error                      // why it could not be decoded
}

// A recorded is what the audit log has of a request.
type recorded struct {
	entry *audit.Entry // nil when the request is not recorded
	holds bool         // the audit log is not closed meanwhile
	told  bool         // the audit log has the answer already
}

// Handler serves the API to the clients of one listener.
func (s *Server) Handler(l Listener) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		r := &request{server: s, door: door{h, w, connOf(h), &l}, label: "none", start: time.Now()}
		r.Context, r.ID, r.Header, r.Frame = h.Context(), storage.NewUUID(), textproto.MIMEHeader(h.Header), r
		r.conn.handling()
		status := 0
		defer func() {
			defer r.done()
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.log.Error("a request panicked", "request", r.ID, "route", r.label, "panic", fmt.Sprint(p), "stack", string(api.StackWithoutValues(debug.Stack())))
				if status == 0 {
					status = s.send(r, api.Answer{}, nil, errors.New("panic"))
				}
			}
			s.metrics.request(r.label, status, time.Since(r.start))
		}()
		w.Header().Set("Cache-Control", "no-store")
		if r.unsealed = s.keep.Unsealed(); r.unsealed != nil {
			r.Store = r.unsealed.Store
		}
		status = s.serve(r)
	})
}

// admission is what a request passes before it is recorded, in this order. The
// first that refuses it ends that.
var admission = []func(*Server, *request) error{
	(*Server).readHead,       // what it must not ignore, the path, the operation
	(*Server).findRoute,      // and the mount; where there is none it goes on
	(*Server).limitSource,    // the rate of where it comes from
	(*Server).identify,       // the gate, the token
	(*Server).authorize,      // the token's policies
	(*Server).limitToken,     // the token's rate
	(*Server).checkOperation, // the route has it
	(*Server).takeOff,        // it is shown as in flight
	(*Server).readBody,       // in its time, within the bounds of all bodies
	(*Server).decode,         // whose error is told when the request has been recorded
	(*Server).checkParams,    // the policies again, where they restrict parameters
}

// serve takes a request through every stage and returns the status of its answer.
// What is admitted or refused is recorded before it runs, and again before it is
// answered.
func (s *Server) serve(r *request) (status int) {
	var a api.Answer
	var body []byte
	var err error
	for _, stage := range admission {
		if err = stage(s, r); err != nil {
			break
		}
	}
	if unrecorded := s.auditRequest(r, err); unrecorded != nil {
		err = unrecorded
	}
	if err == nil {
		answered := r.conn.answering()
		defer answered()
		a, err = s.handle(r)
	}
	if err == nil {
		a, err = s.wrap(r, a)
	}
	if err == nil {
		body, err = s.encode(r, a)
	}
	if err == nil {
		err = s.auditResponse(r, a, "")
	}
	return s.send(r, a, body, err)
}

// decode fills in what the handler takes.
func (s *Server) decode(r *request) error {
	r.in, r.given, r.bad = r.route.on[r.Op].Decode(&r.Request, r.route.Settings)
	return nil
}

// handle runs the handler, and warns of parameters that it does not have, as Vault
// does, where there is an answer to put that in.
func (s *Server) handle(r *request) (api.Answer, error) {
	if r.bad != nil {
		return api.Answer{}, r.route.told(r.bad)
	}
	r.Now = s.now()
	a, err := r.route.on[r.Op].Run(&r.Request, r.in)
	if err != nil {
		return api.Answer{}, r.route.told(err)
	}
	if a.Data != nil && (len(r.given) > 0 || len(r.Query) > 0) {
		a.Warnings = append(a.Warnings, r.ignored()...)
	}
	return a, nil
}

// ignored warns of parameters that are not known.
func (r *request) ignored() []string {
	var unknown []string
	note := func(name string) {
		if !r.route.known[name] {
			unknown = append(unknown, name)
		}
	}
	switch {
	case r.route.Settings && r.given != nil, r.route.Free && r.Op.HasBody():
	case r.Op.HasBody():
		for _, name := range slices.Sorted(maps.Keys(r.given)) {
			note(name)
		}
	default:
		for _, name := range slices.Sorted(maps.Keys(r.Query)) {
			note(name)
		}
	}
	if unknown == nil {
		return nil
	}
	return []string{fmt.Sprintf("Endpoint ignored these unrecognized parameters: %v", unknown)}
}

// done ends what lasts until a request has been answered.
func (r *request) done() {
	r.release()
	r.server.land(r)
	for _, end := range slices.Backward(r.end) {
		end()
	}
	r.end = nil
}

// Time is the present time.
func (r *request) Time() time.Time { return r.server.now() }

// Log is the server's.
func (r *request) Log() *slog.Logger { return r.server.log }

// Remote is the client's address, or that which a proxy is believed to have told.
func (r *request) Remote() string { return r.http.RemoteAddr }

// TakeTime lifts the connection's deadlines; what sends the answer sets them again.
func (r *request) TakeTime() {
	conn := http.NewResponseController(r.w)
	conn.SetReadDeadline(time.Time{})
	conn.SetWriteDeadline(time.Time{})
}

// Unsealed is the instance that was open as the request came in; nil while there was
// none.
func (r *request) Unsealed() *keep.Unsealed { return r.unsealed }

// Stopping is closed when no more requests are taken.
func (r *request) Stopping() <-chan struct{} { return r.server.draining.Done() }

// Tidy has the sweep run now, after which the types tidy.
func (r *request) Tidy() { r.unsealed.WakeSweep() }

// Permit is asked first in every Update of the request.
func (r *request) Permit(tx *storage.Tx) error {
	if r.mounts != nil {
		there, err := r.mounts.Has(tx, r.Mount)
		if err != nil {
			return err
		}
		if !there {
			return errNoRoute(r.Path)
		}
	}
	return r.mayWrite(tx)
}

// Certificates are those that the client has shown. TLS has seen to it that it has
// the key of the first.
func (r *request) Certificates() ([]*x509.Certificate, error) {
	switch {
	case r.http.TLS == nil:
		return nil, invalid("no client certificate found: this connection has no TLS")
	case len(r.http.TLS.PeerCertificates) == 0:
		return nil, invalid("no client certificate found: show one, on a listener without tls_disable_client_certs")
	case len(r.listen.Forwarded.Authorized) > 0 && r.http.Header.Get(forwardedFor) != "":
		return nil, invalid("the client certificate is that of the proxy which has sent %s: connect without it", forwardedFor)
	}
	return r.http.TLS.PeerCertificates, nil
}

// withTimeout gives a request that has a body the time of its route.
func (r *request) withTimeout(d time.Duration) {
	var cancel context.CancelFunc
	r.Context, cancel = context.WithTimeout(r.Context, d)
	r.end = append(r.end, cancel)
}

// Operator reports whether a request comes from root on this machine, over a
// listener for that. A proxy may run as root and ask for anybody: a request with
// the marks of one does not count.
func (r *request) Operator() bool {
	if !r.listen.Operator {
		return false
	}
	for name := range r.http.Header {
		if name == "Forwarded" || name == "Via" || strings.HasPrefix(name, "X-Forwarded-") {
			return false
		}
	}
	peer, err := r.Peer()
	return err == nil && peer.UID == 0
}
