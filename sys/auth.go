package sys

import (
	"strings"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/mount"
)

// authRoutes are the API that enables login methods.
func authRoutes() []api.Route {
	return []api.Route{
		{Path: "auth", Help: "The login methods, by path.", Ops: map[api.Op]api.Handler{api.Read: api.Do(listAuth).Answers(map[string]any{api.Each: exampleMount})}},
		{Path: "auth/{path...}", Help: "Shows, enables or disables a login method.", Sudo: []api.Op{api.Read, api.Write, api.Delete}, Settings: true,
			Ops: map[api.Op]api.Handler{api.Read: api.Do(readAuth).Answers(exampleMount), api.Write: api.Do(enableAuth), api.Delete: api.Do(disableAuth)}},
		authTune("auth/{path...}/tune", api.Read, api.Write),
		authTune("mounts/auth/{path...}/tune"),
	}
}

func authTune(path string, sudo ...api.Op) api.Route {
	return api.Route{Path: path, Help: "The settings of a login method.", Sudo: sudo, Settings: true,
		Ops: map[api.Op]api.Handler{api.Read: api.Do(readAuthTune).Answers(tuneView(new(api.Mount))), api.Write: api.Do(writeAuthTune)}}
}

func listAuth(r *api.Request, _ *api.None) (api.Answer, error) {
	data := make(map[string]any)
	for _, m := range keep.Of(r).AllLogins() {
		data[m.Path] = mountView(m)
	}
	return api.Answer{Data: data, Inject: true}, nil
}

func readAuth(r *api.Request, _ *api.None) (api.Answer, error) {
	return showAuth(keep.Of(r), r.Param("path"))
}

func showAuth(u *keep.Unsealed, path string) (api.Answer, error) {
	m := u.Login(path)
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

func enableAuth(r *api.Request, in *mountInput) (api.Answer, error) {
	if err := in.check(); err != nil {
		return api.Answer{}, err
	}
	u, path := keep.Of(r), r.Param("path")
	switch {
	case in.Type == "":
		return api.Answer{}, invalid("backend type must be specified as a string")
	case in.Type == "token":
		return api.Answer{}, invalid("token credential backend cannot be instantiated")
	case u.Types.Get(api.Login, in.Type, "") == nil:
		return api.Answer{}, invalid("unknown auth type %q: there is %s", in.Type, strings.Join(u.Types.Names(api.Login), ", "))
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
	api.Set(&m.Description, in.Description)
	if err := in.Config.apply(&m.Config); err != nil {
		return api.Answer{}, err
	}
	if err := u.Enable(r.Context, &u.Logins, m); err != nil {
		return api.Answer{}, err
	}
	r.Frame.Log().Info("login method enabled", "path", m.Path, "type", m.Type, "mount", m.UUID, "request", r.ID)
	return api.Answer{}, nil
}

func disableAuth(r *api.Request, _ *api.None) (api.Answer, error) {
	u, path := keep.Of(r), r.Param("path")
	if path == "token" {
		return api.Answer{}, invalid("token credential backend cannot be disabled")
	}
	if err := u.Disable(r.Context, &u.Logins, path); err != nil {
		return api.Answer{}, err
	}
	r.Frame.Log().Info("login method disabled", "path", path+"/", "request", r.ID)
	return api.Answer{}, nil
}

func readAuthTune(r *api.Request, _ *api.None) (api.Answer, error) {
	path := r.Param("path")
	m := keep.Of(r).Login(path)
	if m == nil {
		return api.Answer{}, invalid("cannot fetch sysview for path %q", "auth/"+path+"/")
	}
	return api.Answer{Data: tuneView(m), Inject: true}, nil
}

func writeAuthTune(r *api.Request, in *mountConfigInput) (api.Answer, error) {
	u, path := keep.Of(r), r.Param("path")
	switch {
	case path == "token":
		return api.Answer{}, invalid("the login by token cannot be tuned: give tokens their limits when they are made, or by roles")
	case len(in.Options) > 0:
		return api.Answer{}, invalid("a login method has no options")
	}
	if err := checkTokenType(in.TokenType); err != nil {
		return api.Answer{}, err
	}
	return api.Answer{}, u.Tune(r.Context, &u.Logins, path, func(m *api.Mount) error {
		api.Set(&m.Description, in.Description)
		return in.apply(&m.Config)
	})
}
