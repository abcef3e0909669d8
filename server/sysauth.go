package server

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/storage"
)

// An authMethod is a type of login method: its API below auth/<path>/, and how
// its tokens are renewed.
type authMethod struct {
	routes []route
	// renew returns what the tokens of the one who once logged in are like now,
	// or why they are not renewed any more.
	renew func(r *request, tx *storage.Tx, folder string, t *access.Token) (*access.TokenParams, error)
	// prove is what of renew is too slow for a transaction: it is called before.
	// What it saw must come from the login cache. nil: nothing is.
	prove func(r *request, folder string, t *access.Token) error
	// tidy deletes what is of no use any more; it is called after each sweep of
	// the tokens, and returns how many records there were. nil: nothing to do.
	tidy func(k *keep, folder string) (n int, err error)
}

// authMethods are all types of login methods but token, which is always there.
var authMethods = map[string]authMethod{
	"approle": appRole(), "userpass": userPass(),
	"jwt": jwtMethod, "cert": certMethod, "peer": peerMethod,
}

type authTable struct {
	table
	authMethod
}

func newAuthTables(methods map[string]authMethod) map[string]*authTable {
	tables := make(map[string]*authTable)
	for name, m := range methods {
		tables[name] = &authTable{newTable("auth/{"+name+"}/", m.routes), m}
	}
	return tables
}

// locateAuth is locate below auth/.
func (s *Server) locateAuth(k *keep, path string) (found *route, m *mount, rest string) {
	m, below := k.auths.Load().find(path)
	if m == nil || s.tables.auth[m.Type] == nil {
		return nil, nil, ""
	}
	found, rest = s.tables.auth[m.Type].find(below)
	return found, m, rest
}

// viewMethod and updateMethod run a transaction of a login method, which has its
// records in a folder. A method that was disabled by a transaction before this
// one changes nothing any more.
func (r *request) viewMethod(fn func(tx *storage.Tx, folder string) error) error {
	return r.keep.store.View(r.http.Context(), func(tx *storage.Tx) error { return fn(tx, r.mount.prefix()) })
}

func (r *request) updateMethod(fn func(tx *storage.Tx, folder string) error) error {
	return r.keep.store.Update(r.ctx, func(tx *storage.Tx) error {
		if r.mount.gone.Load() {
			return errNoRoute(r.path)
		}
		if err := r.mayWrite(tx); err != nil { // again: another may have been quicker
			return err
		}
		return fn(tx, r.mount.prefix())
	})
}

// listMethod answers with names; that there are none is 404, as with Vault.
func (r *request) listMethod(fn func(tx *storage.Tx, folder string) ([]string, error)) (answer, error) {
	var names []string
	err := r.viewMethod(func(tx *storage.Tx, folder string) (err error) {
		names, err = fn(tx, folder)
		return err
	})
	if err == nil && len(names) == 0 {
		err = errAbsent
	}
	if err != nil {
		return answer{}, err
	}
	return answer{data: map[string]any{"keys": names}}, nil
}

// authRoutes is the API that enables login methods. It goes before sysRoutes.
var authRoutes = []route{
	{path: "sys/auth", gate: authenticated, on: [ops]handler{opRead: listAuth}},
	{path: "sys/auth/*/tune", gate: authenticated, sudo: []op{opRead, opWrite}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readAuthTune, opWrite: writeAuthTune}},
	{path: "sys/auth/*", gate: authenticated, sudo: []op{opRead, opWrite, opDelete}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readAuth, opWrite: enableAuth, opDelete: disableAuth}},
	{path: "sys/mounts/auth/*/tune", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readAuthTune, opWrite: writeAuthTune}},
}

// tokenAuth is the login by token, which is no mount but shown as one. Its UUID
// is made from the store's, so that it stays the same.
func (k *keep) tokenAuth() *mount {
	h := sha256.Sum256([]byte("auth/token/" + k.store.UUID()))
	id := fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
	return &mount{
		Path: "token/", UUID: id, Accessor: "auth_token_" + id[:8], Type: "token", Description: "token based credentials",
		Config: mountConfig{TokenType: "default-service"},
	}
}

// allAuths are the login methods by path.
func (k *keep) allAuths() []*mount { return append(k.auths.Load().all(), k.tokenAuth()) }

// auth finds the login method that a request names.
func (r *request) auth() *mount {
	if r.rest == "token" {
		return r.keep.tokenAuth()
	}
	return r.keep.auths.Load().byPath[r.rest]
}

func listAuth(s *Server, r *request) (answer, error) {
	data := make(map[string]any)
	for _, m := range r.keep.allAuths() {
		data[m.Path] = mountView(m)
	}
	return answer{data: data, inject: true}, nil
}

func readAuth(s *Server, r *request) (answer, error) {
	m := r.auth()
	if m == nil {
		return answer{}, invalid("No auth engine at %s/", r.rest)
	}
	return answer{data: mountView(m), inject: true}, nil
}

// checkTokenType refuses what is not there: methods make service tokens.
func checkTokenType(kind *string) error {
	if kind != nil && *kind != "" && *kind != "default-service" && *kind != "service" {
		return invalid("token_type %q is not supported: it is default-service or service", *kind)
	}
	return nil
}

func enableAuth(s *Server, r *request) (answer, error) {
	in, err := r.mountInput()
	if err != nil {
		return answer{}, err
	}
	switch {
	case in.Type == "":
		return answer{}, invalid("backend type must be specified as a string")
	case in.Type == "token":
		return answer{}, invalid("token credential backend cannot be instantiated")
	case s.tables.auth[in.Type] == nil:
		return answer{}, invalid("unknown auth type %q: there is %s", in.Type, strings.Join(slices.Sorted(maps.Keys(s.tables.auth)), ", "))
	case len(in.Options) > 0:
		return answer{}, invalid("a login method has no options")
	case strings.HasPrefix(r.rest+"/", "token/"):
		return answer{}, invalid("path is already in use at token/")
	}
	if err := checkMountPath(r.rest); err != nil {
		return answer{}, err
	}
	if err := checkTokenType(in.Config.TokenType); err != nil {
		return answer{}, err
	}
	m := newMount(r.rest + "/")
	m.Type, m.Accessor, m.Options = in.Type, "auth_"+in.Type+"_"+m.UUID[:8], nil
	m.Config.TokenType = "default-service"
	set(&m.Description, in.Description)
	if err := in.Config.apply(&m.Config); err != nil {
		return answer{}, err
	}
	if err := r.keep.enable(r.ctx, &r.keep.auths, m); err != nil {
		return answer{}, err
	}
	s.log.Info("login method enabled", "path", m.Path, "type", m.Type, "mount", m.UUID, "request", r.id)
	return answer{}, nil
}

func disableAuth(s *Server, r *request) (answer, error) {
	if r.rest == "token" {
		return answer{}, invalid("token credential backend cannot be disabled")
	}
	if err := r.keep.disable(r.ctx, &r.keep.auths, r.rest); err != nil {
		return answer{}, err
	}
	s.log.Info("login method disabled", "path", r.rest+"/", "request", r.id)
	return answer{}, nil
}

func readAuthTune(s *Server, r *request) (answer, error) {
	m := r.auth()
	if m == nil {
		return answer{}, invalid("cannot fetch sysview for path %q", "auth/"+r.rest+"/")
	}
	return answer{data: tuneView(m), inject: true}, nil
}

func writeAuthTune(s *Server, r *request) (answer, error) {
	var in tuneInput
	if err := r.settings(&in); err != nil {
		return answer{}, err
	}
	switch {
	case r.rest == "token":
		return answer{}, invalid("the login by token cannot be tuned: give tokens their limits when they are made, or by roles")
	case len(in.Options) > 0:
		return answer{}, invalid("a login method has no options")
	}
	if err := checkTokenType(in.TokenType); err != nil {
		return answer{}, err
	}
	return answer{}, r.keep.tune(r.ctx, &r.keep.auths, r.rest, func(m *mount) error {
		set(&m.Description, in.Description)
		return in.apply(&m.Config)
	})
}

// login makes a token for whom fn recognises; both happen in one transaction.
func (s *Server) login(r *request, fn func(tx *storage.Tx, folder string) (*access.Login, error)) (answer, error) {
	var t *access.Token
	var secret string
	var warnings []string
	m, now := r.mount, s.now()
	err := r.updateMethod(func(tx *storage.Tx, folder string) error {
		l, err := fn(tx, folder)
		if err != nil {
			return err
		}
		if !access.Within(l.Params.BoundCIDRs, r.source()) {
			return access.ErrDenied
		}
		m.limit(l)
		l.Path = r.path
		l.DisplayName = strings.Trim(strings.ReplaceAll(m.Path, "/", "-")+l.DisplayName, "-")
		if t, warnings, err = l.Token(now); err != nil {
			return err
		}
		secret, err = access.Create(tx, "", t)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return answer{auth: viewAuth(t, secret, now), warnings: warnings}, nil
}

// limit gives a login what the method says.
func (m *mount) limit(l *access.Login) {
	l.Method = m.UUID
	l.DefaultTTL = time.Duration(m.Config.DefaultLeaseTTL) * time.Second
	l.MaxTTL = time.Duration(m.Config.MaxLeaseTTL) * time.Second
}

// longest is how long anything that the method makes may live.
func (m *mount) longest() time.Duration {
	if most := time.Duration(m.Config.MaxLeaseTTL) * time.Second; most > 0 {
		return min(most, access.SystemMax)
	}
	return access.SystemMax
}

// methodOf is the login method that made a token, nil when it is no more.
func (s *Server) methodOf(r *request, t *access.Token) (*mount, *authTable) {
	for _, m := range r.keep.auths.Load().byPath {
		if m.UUID == t.Method && s.tables.auth[m.Type] != nil {
			return m, s.tables.auth[m.Type]
		}
	}
	return nil, nil
}

// proveAgain does what comes before loginAgain and takes no transaction.
func (s *Server) proveAgain(r *request, id access.ID) error {
	var t *access.Token
	var prove func() error
	err := r.keep.store.View(r.ctx, func(tx *storage.Tx) (err error) {
		if t, err = access.Lookup(tx, id, s.now()); err != nil {
			return err
		}
		m, method := s.methodOf(r, t)
		if m == nil || method.prove == nil {
			return nil
		}
		prove = func() error { return method.prove(r, m.prefix(), t) }
		_, err = method.renew(r, tx, m.prefix(), t) // what it refuses needs no proof
		return err
	})
	if err != nil || prove == nil {
		return err
	}
	return prove()
}

// loginAgain is what the login that made a token would make now.
func (s *Server) loginAgain(r *request, tx *storage.Tx, t *access.Token) (*access.Login, error) {
	m, method := s.methodOf(r, t)
	if m == nil {
		return nil, access.ErrDenied // it was disabled just now
	}
	params, err := method.renew(r, tx, m.prefix(), t)
	if err != nil {
		return nil, err
	}
	l := &access.Login{Params: *params}
	m.limit(l)
	return l, nil
}
