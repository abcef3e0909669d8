package sys

import (
	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
)

// resultantRoutes tell a token what its policies allow together, below sys/.
func resultantRoutes() []api.Route {
	return []api.Route{
		{Path: "internal/ui/resultant-acl", Help: "What the caller's policies allow together, by path.", Ops: map[api.Op]api.Handler{api.Read: api.Do(readResultant).Answers(resultant(new(access.ACL)))}},
	}
}

func readResultant(r *api.Request, _ *api.None) (api.Answer, error) {
	return api.Answer{Data: resultant(r.Caller.ACL), Inject: true}, nil
}

func resultant(acl *access.ACL) map[string]any {
	data := map[string]any{"root": acl.Root()}
	if !acl.Root() {
		data["exact_paths"], data["glob_paths"] = acl.Permissions()
	}
	return data
}
