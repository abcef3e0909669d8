package sys

import "github.com/sealkeep/sealkeep/api"

// resultantRoutes tell a token what its policies allow together, below sys/.
func resultantRoutes() []api.Route {
	return []api.Route{
		{Path: "internal/ui/resultant-acl", Help: "What the caller's policies allow together, by path.", Ops: map[api.Op]api.Handler{api.Read: api.Do(readResultant)}},
	}
}

func readResultant(r *api.Request, _ *api.None) (api.Answer, error) {
	acl := r.Caller.ACL
	data := map[string]any{"root": acl.Root()}
	if !acl.Root() {
		data["exact_paths"], data["glob_paths"] = acl.Permissions()
	}
	return api.Answer{Data: data, Inject: true}, nil
}
