package server

import (
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/storage"
)

// authRoutes are the API that enables login methods.
func (s *Server) authRoutes() []api.Route {
	return []api.Route{
		{Path: "sys/auth", Help: "The login methods, by path.", Ops: map[api.Op]api.Handler{api.Read: api.Do(s.listAuth)}},
		{Path: "sys/auth/{path...}", Help: "Shows, enables or disables a login method.", Sudo: []api.Op{api.Read, api.Write, api.Delete}, Settings: true,
			Ops: map[api.Op]api.Handler{api.Read: api.Do(s.readAuth), api.Write: api.Do(s.enableAuth), api.Delete: api.Do(s.disableAuth)}},
		s.authTune("sys/auth/{path...}/tune", api.Read, api.Write),
		s.authTune("sys/mounts/auth/{path...}/tune"),
	}
}

func (s *Server) authTune(path string, sudo ...api.Op) api.Route {
	return api.Route{Path: path, Help: "The settings of a login method.", Sudo: sudo, Settings: true,
		Ops: map[api.Op]api.Handler{api.Read: api.Do(s.readAuthTune), api.Write: api.Do(s.writeAuthTune)}}
}

// allAuths are the login methods by path.
func (k *keep) allAuths() []*api.Mount { return append(k.Logins.Load().All(), k.tokenAuth()) }

// authAt is the login method at a path without the slash at its end, nil when there
// is none.
func (k *keep) authAt(path string) *api.Mount {
	if path == "token" {
		return k.tokenAuth()
	}
	return k.Logins.Load().At(path)
}

func (s *Server) listAuth(r *api.Request, _ *api.None) (api.Answer, error) {
	data := make(map[string]any)
	for _, m := range unsealedOf(r).allAuths() {
		data[m.Path] = mountView(m)
	}
	return api.Answer{Data: data, Inject: true}, nil
}

func (s *Server) readAuth(r *api.Request, _ *api.None) (api.Answer, error) {
	return showAuth(unsealedOf(r), r.Param("path"))
}

func showAuth(k *keep, path string) (api.Answer, error) {
	m := k.authAt(path)
	if m == nil {
		return api.Answer{}, invalid("No auth engine at %s/", path)
	}
	return api.Answer{Data: mountView(m), Inject: true}, nil
}

// checkTokenType refuses what is not there: methods make service tokens.
func checkTokenType(kind *string) error {
	if kind != nil && *kind != "" && *kind != "default-service" && *kind != "service" {
		return invalid("token_type %q is not supported: it is default-service or service", *kind)
	}
	return nil
}

func (s *Server) enableAuth(r *api.Request, in *mountInput) (api.Answer, error) {
	if err := in.check(); err != nil {
		return api.Answer{}, err
	}
	k, path := unsealedOf(r), r.Param("path")
	switch {
	case in.Type == "":
		return api.Answer{}, invalid("backend type must be specified as a string")
	case in.Type == "token":
		return api.Answer{}, invalid("token credential backend cannot be instantiated")
	case s.tables.types[typeKey{api.Login, in.Type, ""}] == nil:
		return api.Answer{}, invalid("unknown auth type %q: there is %s", in.Type, strings.Join(s.tables.names(api.Login), ", "))
	case len(in.Options) > 0:
		return api.Answer{}, invalid("a login method has no options")
	case strings.HasPrefix(path+"/", "token/"):
		return api.Answer{}, invalid("path is already in use at token/")
	}
	if err := checkMountPath(path); err != nil {
		return api.Answer{}, err
	}
	if err := checkTokenType(in.Config.TokenType); err != nil {
		return api.Answer{}, err
	}
	m := mount.New(path+"/", in.Type, "")
	m.Accessor = "auth_" + m.Accessor
	m.Config.TokenType = "default-service"
	set(&m.Description, in.Description)
	if err := in.Config.apply(&m.Config); err != nil {
		return api.Answer{}, err
	}
	if err := k.Enable(r.Context, &k.Logins, m); err != nil {
		return api.Answer{}, err
	}
	s.log.Info("login method enabled", "path", m.Path, "type", m.Type, "mount", m.UUID, "request", r.ID)
	return api.Answer{}, nil
}

func (s *Server) disableAuth(r *api.Request, _ *api.None) (api.Answer, error) {
	k, path := unsealedOf(r), r.Param("path")
	if path == "token" {
		return api.Answer{}, invalid("token credential backend cannot be disabled")
	}
	if err := k.Disable(r.Context, &k.Logins, path); err != nil {
		return api.Answer{}, err
	}
	s.log.Info("login method disabled", "path", path+"/", "request", r.ID)
	return api.Answer{}, nil
}

func (s *Server) readAuthTune(r *api.Request, _ *api.None) (api.Answer, error) {
	path := r.Param("path")
	m := unsealedOf(r).authAt(path)
	if m == nil {
		return api.Answer{}, invalid("cannot fetch sysview for path %q", "auth/"+path+"/")
	}
	return api.Answer{Data: tuneView(m), Inject: true}, nil
}

func (s *Server) writeAuthTune(r *api.Request, in *mountConfigInput) (api.Answer, error) {
	k, path := unsealedOf(r), r.Param("path")
	switch {
	case path == "token":
		return api.Answer{}, invalid("the login by token cannot be tuned: give tokens their limits when they are made, or by roles")
	case len(in.Options) > 0:
		return api.Answer{}, invalid("a login method has no options")
	}
	if err := checkTokenType(in.TokenType); err != nil {
		return api.Answer{}, err
	}
	return api.Answer{}, k.Tune(r.Context, &k.Logins, path, func(m *api.Mount) error {
		set(&m.Description, in.Description)
		return in.apply(&m.Config)
	})
}

// methodOf is the login method that made a token, nil when it is no more.
func (s *Server) methodOf(r *api.Request, t *access.Token) (*api.Mount, *typeTable) {
	for _, m := range unsealedOf(r).Logins.Load().All() {
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
