package server

import (
	"errors"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/access"
)

// capabilitiesInput is the body of sys/capabilities and its kin.
type capabilitiesInput struct {
	Token    string          `json:"token"`
	Accessor string          `json:"accessor"`
	Path     loose[[]string] `json:"path"` // Vault's older name: heeded without the newer
	Paths    loose[[]string] `json:"paths"`
}

func writeCapabilitiesSelf(s *Server, r *request) (answer, error) {
	return s.capabilities(r, func(*capabilitiesInput) (*access.Token, error) { return r.Caller.Token, nil })
}

func writeCapabilities(s *Server, r *request) (answer, error) {
	return s.capabilities(r, func(in *capabilitiesInput) (*access.Token, error) {
		if in.Token == "" {
			return nil, invalid("no token found")
		}
		t, err := r.keep.lookup(r.Context, in.Token)
		if errors.Is(err, access.ErrDenied) {
			err = invalid("invalid token")
		}
		return t, err
	})
}

func writeCapabilitiesAccessor(s *Server, r *request) (answer, error) {
	return s.capabilities(r, func(in *capabilitiesInput) (*access.Token, error) {
		if in.Accessor == "" {
			return nil, invalid("missing accessor")
		}
		t, err := r.keep.lookupAccessor(r.Context, in.Accessor)
		if errors.Is(err, access.ErrDenied) {
			err = invalid("invalid accessor")
		}
		return t, err
	})
}

// capabilities answers what the token that find returns may do on some paths.
func (s *Server) capabilities(r *request, find func(*capabilitiesInput) (*access.Token, error)) (answer, error) {
	var in capabilitiesInput
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	paths := in.Paths.value
	if len(paths) == 0 {
		paths = in.Path.value
	}
	switch {
	case len(paths) == 0:
		return answer{}, invalid("paths must be supplied")
	case slices.Contains(paths, ""):
		return answer{}, invalid("missing path")
	}
	t, err := find(&in)
	if err != nil {
		return answer{}, err
	}
	acl, err := r.keep.acl(r.Context, t)
	if err != nil {
		return answer{}, err
	}
	data := make(map[string]any)
	for _, p := range paths {
		path, folder := strings.CutSuffix(strings.TrimPrefix(p, "/"), "/")
		if path = s.canonicalPath(r.keep, path); folder {
			path += "/"
		}
		data[p] = acl.Capabilities(path).Names()
	}
	if len(paths) == 1 {
		data["capabilities"] = data[paths[0]]
	}
	return answer{data: data, inject: true}, nil
}
