package sys

import (
	"errors"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
)

// capabilityRoutes say what a token may do, below sys/.
func capabilityRoutes() []api.Route {
	example := map[string]any{"capabilities": []string{}, api.Each: []string{}} // by path
	return []api.Route{
		{Path: "capabilities", Help: "What a token may do on some paths.",
			Ops: map[api.Op]api.Handler{api.Write: api.Do(capabilitiesOfToken).Answers(example)}},
		{Path: "capabilities-accessor", Help: "What the token that has an accessor may do on some paths.",
			Ops: map[api.Op]api.Handler{api.Write: api.Do(capabilitiesOfAccessor).Answers(example)}},
		{Path: "capabilities-self", Help: "What the caller's token may do on some paths.",
			Ops: map[api.Op]api.Handler{api.Write: api.Do(capabilitiesOfSelf).Answers(example)}},
	}
}

// capabilitiesInput is the body of sys/capabilities and its kin.
type capabilitiesInput struct {
	Token    string   `json:"token"`
	Accessor string   `json:"accessor"`
	Path     []string `json:"path"` // Vault's older name: heeded without the newer
	Paths    []string `json:"paths"`
}

func capabilitiesOfSelf(r *api.Request, in *capabilitiesInput) (api.Answer, error) {
	return capabilities(r, in, func() (*access.Token, error) { return r.Caller.Token, nil })
}

func capabilitiesOfToken(r *api.Request, in *capabilitiesInput) (api.Answer, error) {
	return capabilities(r, in, func() (*access.Token, error) {
		if in.Token == "" {
			return nil, api.Invalid.Errorf("no token found")
		}
		t, err := keep.Of(r).Lookup(r.Context, in.Token)
		if errors.Is(err, access.ErrDenied) {
			err = api.Invalid.Errorf("invalid token")
		}
		return t, err
	})
}

func capabilitiesOfAccessor(r *api.Request, in *capabilitiesInput) (api.Answer, error) {
	return capabilities(r, in, func() (*access.Token, error) {
		if in.Accessor == "" {
			return nil, api.Invalid.Errorf("missing accessor")
		}
		t, err := keep.Of(r).LookupAccessor(r.Context, in.Accessor)
		if errors.Is(err, access.ErrDenied) {
			err = api.Invalid.Errorf("invalid accessor")
		}
		return t, err
	})
}

// capabilities answers what the token that find returns may do on some paths.
func capabilities(r *api.Request, in *capabilitiesInput, find func() (*access.Token, error)) (api.Answer, error) {
	paths := in.Paths
	if len(paths) == 0 {
		paths = in.Path
	}
	switch {
	case len(paths) == 0:
		return api.Answer{}, api.Invalid.Errorf("paths must be supplied")
	case slices.Contains(paths, ""):
		return api.Answer{}, api.Invalid.Errorf("missing path")
	}
	t, err := find()
	if err != nil {
		return api.Answer{}, err
	}
	u := keep.Of(r)
	acl, err := u.ACL(r.Context, t)
	if err != nil {
		return api.Answer{}, err
	}
	data := make(map[string]any)
	for _, p := range paths {
		path, folder := strings.CutSuffix(strings.TrimPrefix(p, "/"), "/")
		if path = r.Frame.Canonical(path); folder {
			path += "/"
		}
		data[p] = acl.Capabilities(path).Names()
	}
	if len(paths) == 1 {
		data["capabilities"] = data[paths[0]]
	}
	return api.Answer{Data: data, Inject: true}, nil
}
