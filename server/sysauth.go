package server

import (
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// viewMethod and updateMethod run a transaction of a login method, which has its
// records in a folder. A method that was disabled by a transaction before this
// one changes nothing any more.
func (r *request) viewMethod(fn func(tx *storage.Tx, folder string) error) error {
	return r.keep.store.View(r.Context, func(tx *storage.Tx) error { return fn(tx, r.Mount.Prefix()) })
}

func (r *request) updateMethod(fn func(tx *storage.Tx, folder string) error) error {
	return r.Update(func(tx *storage.Tx) error { return fn(tx, r.Mount.Prefix()) })
}

// listMethod answers with names; that there are none is 404, as with Vault.
func (r *request) listMethod(fn func(tx *storage.Tx, folder string) ([]string, error)) (answer, error) {
	var names []string
	err := r.viewMethod(func(tx *storage.Tx, folder string) (err error) {
		names, err = fn(tx, folder)
		return err
	})
	if err == nil && len(names) == 0 {
		err = api.ErrAbsent
	}
	if err != nil {
		return answer{}, err
	}
	return answer{data: map[string]any{"keys": names}}, nil
}

// authRoutes is the API that enables login methods. It goes before sysRoutes.
var authRoutes = []oldRoute{
	{path: "sys/auth", gate: authenticated, on: [ops]handler{opRead: listAuth}},
	{path: "sys/auth/*/tune", gate: authenticated, sudo: []api.Op{opRead, opWrite}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readAuthTune, opWrite: writeAuthTune}},
	{path: "sys/auth/*", gate: authenticated, sudo: []api.Op{opRead, opWrite, opDelete}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readAuth, opWrite: enableAuth, opDelete: disableAuth}},
	{path: "sys/mounts/auth/*/tune", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readAuthTune, opWrite: writeAuthTune}},
}

// allAuths are the login methods by path.
func (k *keep) allAuths() []*api.Mount { return append(k.auths.Load().all(), k.tokenAuth()) }

// auth finds the login method that a request names.
func (r *request) auth() *api.Mount {
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
	case s.tables.types[typeKey{api.Login, in.Type, ""}] == nil:
		return answer{}, invalid("unknown auth type %q: there is %s", in.Type, strings.Join(s.tables.names(api.Login), ", "))
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
	if err := r.keep.enable(r.Context, &r.keep.auths, m); err != nil {
		return answer{}, err
	}
	s.log.Info("login method enabled", "path", m.Path, "type", m.Type, "mount", m.UUID, "request", r.ID)
	return answer{}, nil
}

func disableAuth(s *Server, r *request) (answer, error) {
	if r.rest == "token" {
		return answer{}, invalid("token credential backend cannot be disabled")
	}
	if err := r.keep.disable(r.Context, &r.keep.auths, r.rest); err != nil {
		return answer{}, err
	}
	s.log.Info("login method disabled", "path", r.rest+"/", "request", r.ID)
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
	return answer{}, r.keep.tune(r.Context, &r.keep.auths, r.rest, func(m *api.Mount) error {
		set(&m.Description, in.Description)
		return in.apply(&m.Config)
	})
}

// login makes a token for whom fn recognises; both happen in one transaction.
func (s *Server) login(r *request, fn func(tx *storage.Tx, folder string) (*access.Login, error)) (answer, error) {
	var t *access.Token
	var secret string
	var warnings []string
	m, now := r.Mount, s.now()
	err := r.updateMethod(func(tx *storage.Tx, folder string) error {
		l, err := fn(tx, folder)
		if err != nil {
			return err
		}
		if !access.Within(l.Params.BoundCIDRs, r.source()) {
			return access.ErrDenied
		}
		m.Limit(l)
		l.Path = r.Path
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
	return answer{auth: api.NewAuth(t, secret, now), warnings: warnings}, nil
}

// methodOf is the login method that made a token, nil when it is no more.
func (s *Server) methodOf(r *api.Request, t *access.Token) (*api.Mount, *typeTable) {
	for _, m := range unsealedOf(r).auths.Load().byPath {
		if m.UUID == t.Method {
			if typ := s.tables.of(api.Login, m); typ != nil {
				return m, typ
			}
		}
	}
	return nil, nil
}

// proveAgain does what comes before loginAgain and takes no write transaction; still
// is asked in that.
func (s *Server) proveAgain(r *api.Request, id access.ID) (still func(*storage.Tx) error, err error) {
	still = func(*storage.Tx) error { return nil }
	var t *access.Token
	var m *api.Mount
	var method *typeTable
	err = r.View(func(tx *storage.Tx) (err error) {
		if t, err = access.Lookup(tx, id, r.Now); err != nil {
			return err
		}
		if m, method = s.methodOf(r, t); m == nil || method.Prove == nil {
			return nil
		}
		_, err = method.Renew(r, tx, m, t) // what it refuses needs no proof
		return err
	})
	if err != nil || m == nil || method.Prove == nil {
		return still, err
	}
	return method.Prove(r, m, t)
}

// loginAgain is what the login that made a token would make now.
func (s *Server) loginAgain(r *api.Request, tx *storage.Tx, t *access.Token) (*access.Login, error) {
	m, method := s.methodOf(r, t)
	if m == nil {
		return nil, access.ErrDenied // it was disabled just now
	}
	params, err := method.Renew(r, tx, m, t)
	if err != nil {
		return nil, err
	}
	l := &access.Login{Params: *params}
	m.Limit(l)
	return l, nil
}
