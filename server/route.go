package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/storage"
)

// A gate says what a request must pass before its handler runs.
type gate uint8

const (
	open          gate = iota // always
	unsealed                  // the keep is unsealed; a token that is sent is looked up
	authenticated             // and the token may do this
)

// An op is what a request wants, whatever HTTP method it came with.
type op uint8

const (
	opRead   op = iota // GET
	opList             // LIST, or GET with list=true
	opScan             // SCAN, or GET with scan=true: OpenBao's list of all folders beneath, too
	opWrite            // POST and PUT
	opPatch            // PATCH
	opDelete           // DELETE
	opHead             // HEAD
	ops
)

// folder tells whether the path of the operation is that of a folder.
func (o op) folder() bool { return o == opList || o == opScan }

var capabilities = [ops]access.Capability{
	opRead: access.CanRead, opList: access.CanList, opScan: access.CanScan, opWrite: access.CanUpdate,
	opPatch: access.CanPatch, opDelete: access.CanDelete, opHead: access.CanRead,
}

// A route is one row of an API. Its path is below /v1/ or below a mount; "*"
// stands for one or more segments.
type route struct {
	path    string
	gate    gate
	body    int64         // bytes that the body of a write, patch or delete may have; reads have none
	timeout time.Duration // of a write, patch or delete; reads end with the store's ViewTimeout
	on      [ops]handler  // nil: unsupported operation
	sudo    []op          // operations that take this capability too
	// exists tells whether what a write is for is there; writing what is not is
	// creating. nil: every write is an update.
	exists func(*request, *storage.Tx) (bool, error)
	// denied answers a token that does not work; nil: access.ErrDenied.
	denied error
	// named says that "*" stands for a name which is the same in upper case: the
	// request is that of its canonical form.
	named bool
	free  bool   // the fields of the body are the client's own data
	label string // the path with its prefix, for metrics; set by newTable
}

// A handler computes an answer. It returns after its transactions have ended.
type handler func(s *Server, r *request) (answer, error)

// A request is what a handler may know of one.
type request struct {
	http   *http.Request
	conn   *conn // nil without HTTPServer
	ctx    context.Context
	id     string // UUID, in the answer and the log
	op     op
	known  bool              // op is what the method means
	path   string            // below /v1/, canonical, without a slash at its end
	rest   string            // what the route's "*" stands for
	keep   *keep             // nil unless unsealed
	token  *access.Token     // nil unless there was a valid one
	secret string            // the token itself
	acl    *access.ACL       // what its policies allow; nil at an open route
	grant  access.Grant      // to check the parameters with, if they matter
	only   access.Capability // the token may create, or may update, not both; 0: either
	route  *route            // nil when there is none
	mount  *mount            // an engine's or a login method's; nil for system routes
	body   []byte            // of a write, patch or delete; nil until it is read
	wrap   time.Duration     // for which the answer is to be wrapped; 0: it is not
	query  url.Values        // never written to
	listen Listener
	label  string       // of the route, for metrics
	entry  *audit.Entry // of the audit log; nil when the request is not recorded
	holds  bool         // the audit log is not closed meanwhile
	told   bool         // the audit log has the answer already
	end    []func()     // called when it has been answered
}

// An answer is what goes to the client: Vault's envelope around data, or raw
// alone, or a wrapping token in its place, or, with none of them, 204.
type answer struct {
	status   int // 0: 200, or 204 when there is nothing to send
	data     any // JSON; a json.RawMessage is sent as it is
	auth     *authView
	wrap     *wrapView
	inject   bool // Vault repeats the fields of data beside the envelope
	raw      any
	text     []byte // sent as it is, with kind as Content-Type
	kind     string
	stream   func(*Server, http.ResponseWriter, *request) (status int, err error) // sends it all; an error: nothing was sent
	warnings []string
}

// Listener is what the handler must know of the listener that it serves.
type Listener struct {
	// UnauthenticatedMetricsAccess lets anyone read sys/metrics while
	// unsealed. While sealed everyone may.
	UnauthenticatedMetricsAccess bool
	// Operator lets root, and nobody else, lift the hold of a keep that was
	// sealed by request. It is for unix sockets that root alone can use.
	Operator bool
	// Forwarded says whose X-Forwarded-For is believed; default nobody's.
	Forwarded Forwarded
}

// A table finds the route of a path.
type table struct {
	exact map[string]*route
	wild  []wildcard // the more specific first
}

type wildcard struct {
	before, after string // of the "*"
	route         *route
}

type tables struct {
	sys, kv table
	auth    map[string]*authTable // by the type of the login method
}

func newTables() tables {
	return tables{newTable("", slices.Concat(authRoutes, sysRoutes, wrappingRoutes, cubbyholeRoutes, tokenRoutes, auditRoutes)), newTable("{mount}/", kvRoutes), newAuthTables(authMethods)}
}

func newTable(prefix string, routes []route) table {
	t := table{exact: make(map[string]*route)}
	for i := range routes {
		r := routes[i]
		r.label = prefix + strings.Replace(r.path, "*", "{path}", 1)
		if before, after, ok := strings.Cut(r.path, "*"); ok {
			t.wild = append(t.wild, wildcard{before, after, &r})
		} else {
			t.exact[r.path] = &r
		}
	}
	return t
}

// find returns the route of a path and what its "*" stands for, nil when there
// is none.
func (t *table) find(path string) (*route, string) {
	if r := t.exact[path]; r != nil {
		return r, ""
	}
	for i := range t.wild {
		w := &t.wild[i]
		if len(path) > len(w.before)+len(w.after) && strings.HasPrefix(path, w.before) && strings.HasSuffix(path, w.after) {
			return w.route, path[len(w.before) : len(path)-len(w.after)]
		}
	}
	return nil, ""
}

// Handler serves the API to the clients of one listener.
func (s *Server) Handler(l Listener) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		start := time.Now()
		r := &request{http: h, conn: connOf(h), listen: l, id: storage.NewUUID(), label: "none"}
		r.conn.handling()
		status := 0
		defer func() {
			defer r.done()
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.log.Error("a request panicked", "request", r.id, "route", r.label, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				if status == 0 {
					status = s.send(w, r, answer{}, errors.New("panic"))
				}
			}
			s.metrics.request(r.label, status, time.Since(start))
		}()
		a, err := s.serve(w, r)
		status = s.send(w, r, a, err)
	})
}

// done ends what lasts until a request has been answered.
func (r *request) done() {
	r.release()
	for _, end := range slices.Backward(r.end) {
		end()
	}
	r.end = nil
}

// serve admits a request, or refuses it; records which of the two; runs its
// handler; and wraps the answer.
func (s *Server) serve(w http.ResponseWriter, r *request) (a answer, err error) {
	w.Header().Set("Cache-Control", "no-store")
	r.keep = s.keep.Load()
	err = s.admit(w, r)
	if unrecorded := s.auditRequest(r, err); unrecorded != nil {
		return a, unrecorded
	}
	if err != nil {
		return a, err
	}
	defer r.conn.answering()()
	if a, err = r.route.on[r.op](s, r); err != nil {
		return a, err
	}
	return s.wrap(r, a)
}

// admit does with a request, in this order: refuse what it must not ignore; read
// the path; find the route; check the source's rate, the gate, the token's rate;
// check that the route has the operation; read the body; check the parameters,
// where a policy restricts them.
func (s *Server) admit(w http.ResponseWriter, r *request) (err error) {
	if err := r.listen.Forwarded.apply(r.http); err != nil {
		return err
	}
	if err := refuse(r.http.Header); err != nil {
		return err
	}
	if r.wrap, err = wrapTTL(r.http.Header); err != nil {
		return err
	}
	if r.path, err = cleanPath(r.http.URL.Path); err != nil {
		return err
	}
	if raw := r.http.URL.RawQuery; raw != "" {
		if r.query, err = url.ParseQuery(raw); err != nil {
			return invalid("failed to parse the query: %v", err)
		}
	}
	if r.op, r.known, err = operation(r.http.Method, r.query); err != nil {
		return err
	}
	route, gate := s.find(r), authenticated
	if r.route = route; route != nil {
		r.label, gate = route.label, route.gate
	}
	if err := s.limitSource(r); err != nil {
		return err
	}
	if err := r.pass(gate); err != nil {
		return err
	}
	if err := s.limitToken(r); err != nil {
		return err
	}
	switch {
	case route == nil:
		return errNoRoute(r.path)
	case !r.known || route.on[r.op] == nil:
		return errMethod
	}
	r.ctx = r.http.Context()
	if r.op == opWrite || r.op == opPatch || r.op == opDelete {
		var cancel context.CancelFunc
		r.ctx, cancel = context.WithTimeout(r.ctx, route.timeout)
		release, err := s.readBody(w, r, route.body)
		r.end = append(r.end, cancel, release)
		if err != nil {
			return err
		}
	}
	return r.checkParams()
}

// find returns the request's route, nil when there is none, and fills in the
// mount and what the route's "*" stands for. A name in the path becomes canonical,
// so that what is authorized is what the handler works on.
func (s *Server) find(r *request) (found *route) {
	found, r.mount, r.rest = s.locate(r.keep, r.path)
	r.path, r.rest = found.canonical(r.path, r.rest)
	return found
}

// canonicalPath is a path as it is authorized.
func (s *Server) canonicalPath(k *keep, path string) string {
	found, _, rest := s.locate(k, path)
	path, _ = found.canonical(path, rest)
	return path
}

// locate returns where a path leads: a route, the mount if it is in one, and what
// the route's "*" stands for. k is nil unless the keep is unsealed.
func (s *Server) locate(k *keep, path string) (found *route, m *mount, rest string) {
	if found, rest = s.tables.sys.find(path); found != nil || k == nil {
		return found, nil, rest
	}
	if below, ok := strings.CutPrefix(path, "auth/"); ok {
		return s.locateAuth(k, below)
	}
	m, below := k.mounts.Load().find(path)
	if m == nil {
		return nil, nil, ""
	}
	if found, rest = s.tables.kv.find(below); found == nil {
		found = &kvUnknown
	}
	return found, m, rest
}

// canonical returns a path of the route, whose "*" stands for rest, with the
// canonical form of the name in it, and that name.
func (t *route) canonical(path, rest string) (string, string) {
	if t == nil || !t.named {
		return path, rest
	}
	name := access.CanonicalName(rest)
	if name == rest {
		return path, rest
	}
	_, after, _ := strings.Cut(t.path, "*")
	return path[:len(path)-len(rest)-len(after)] + name + after, name
}

// refuse rejects headers that would change the meaning of the request if they
// were heeded, and that must not be ignored therefore.
func refuse(h http.Header) error {
	for _, ns := range h["X-Vault-Namespace"] {
		if name := strings.Trim(ns, "/"); name != "" && name != "root" {
			return invalid("namespaces are not supported: remove the header X-Vault-Namespace (VAULT_NAMESPACE)")
		}
	}
	return nil
}

// cleanPath returns the part of an URL's path below /v1/, without a slash at its
// end. Paths that would need to be cleaned are refused: a request is never sent
// elsewhere.
func cleanPath(path string) (string, error) {
	below, ok := strings.CutPrefix(path, "/v1/")
	if !ok {
		return "", errAbsent
	}
	below = strings.TrimSuffix(below, "/")
	for segment := range strings.SplitSeq(below, "/") {
		switch segment {
		case "":
			return "", invalid("path has an empty segment")
		case ".", "..":
			return "", invalid("path cannot contain the segment %q", segment)
		}
	}
	for _, c := range below {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			return "", invalid("path cannot contain non-printable characters")
		}
	}
	return below, nil
}

// operation tells what a method wants; known is false for methods that no route
// has.
func operation(method string, q url.Values) (o op, known bool, err error) {
	switch method {
	case http.MethodGet:
		list, err := truth(q, "list")
		if err != nil {
			return 0, true, err
		}
		scan, err := truth(q, "scan")
		switch {
		case err != nil:
			return 0, true, err
		case list && scan:
			return 0, true, invalid("the parameters list and scan cannot both be true")
		case list:
			return opList, true, nil
		case scan:
			return opScan, true, nil
		}
		return opRead, true, nil
	case "LIST":
		return opList, true, nil
	case "SCAN":
		return opScan, true, nil
	case http.MethodPost, http.MethodPut:
		return opWrite, true, nil
	case http.MethodPatch:
		return opPatch, true, nil
	case http.MethodDelete:
		return opDelete, true, nil
	case http.MethodHead:
		return opHead, true, nil
	}
	return 0, false, nil
}

// truth reads a parameter of the query that is true or false, false when absent.
func truth(q url.Values, name string) (bool, error) {
	v := q.Get(name)
	if v == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, invalid("the parameter %s must be true or false, not %q", name, v)
	}
	return b, nil
}

// bearer returns the token of a request, or "".
func bearer(h http.Header) string {
	if t := h["X-Vault-Token"]; t != nil {
		return t[0]
	}
	if a := h["Authorization"]; a != nil && len(a[0]) > 7 && strings.EqualFold(a[0][:7], "bearer ") {
		return strings.TrimSpace(a[0][7:])
	}
	return ""
}

// decode reads the request's body into v. An empty one leaves v as it is.
// Fields that v does not have are ignored, as Vault does.
func (r *request) decode(v any) error {
	if len(bytes.TrimSpace(r.body)) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.body, v); err != nil {
		return invalid("failed to parse JSON input: %v", err)
	}
	return nil
}
