package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
)

func writeCapabilitiesSelf(s *Server, r *request) (answer, error) {
	return r.capabilities(func(string) (*access.Token, error) { return r.token, nil })
}

func writeCapabilities(s *Server, r *request) (answer, error) {
	return r.capabilities(func(token string) (*access.Token, error) {
		if token == "" {
			return nil, invalid("no token found")
		}
		t, err := r.keep.lookup(r.ctx, token)
		if errors.Is(err, access.ErrDenied) {
			err = invalid("invalid token")
		}
		return t, err
	})
}

// capabilities answers what the token that find returns may do on some paths.
func (r *request) capabilities(find func(token string) (*access.Token, error)) (answer, error) {
	var in struct {
		Token string          `json:"token"`
		Path  loose[[]string] `json:"path"` // Vault's older name: heeded without the newer
		Paths loose[[]string] `json:"paths"`
	}
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
	t, err := find(in.Token)
	if err != nil {
		return answer{}, err
	}
	data := make(map[string]any)
	for _, p := range paths {
		data[p] = access.Capabilities(t, strings.Trim(p, "/"))
	}
	if len(paths) == 1 {
		data["capabilities"] = data[paths[0]]
	}
	return answer{data: data, inject: true}, nil
}

func readSelf(s *Server, r *request) (answer, error) {
	return answer{data: tokenView(r.token, r.secret)}, nil
}

// writeLookup looks up the token in the body; without one it is readSelf.
func writeLookup(s *Server, r *request) (answer, error) {
	var in struct {
		Token string `json:"token"`
	}
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	if in.Token == "" {
		return readSelf(s, r)
	}
	t, err := r.keep.lookup(r.ctx, in.Token)
	if errors.Is(err, access.ErrDenied) {
		err = &requestError{http.StatusForbidden, "bad token"}
	}
	if err != nil {
		return answer{}, err
	}
	return answer{data: tokenView(t, in.Token)}, nil
}

// writeRenewSelf refuses: no token here ends, so none is renewable.
func writeRenewSelf(s *Server, r *request) (answer, error) {
	return answer{}, invalid("lease is not renewable")
}

// tokenView is a token as auth/token/lookup shows it.
func tokenView(t *access.Token, secret string) map[string]any {
	return map[string]any{
		"accessor":         t.Accessor,
		"creation_time":    t.Created.Unix(),
		"creation_ttl":     int64(t.TTL / time.Second),
		"display_name":     t.DisplayName,
		"entity_id":        "",
		"expire_time":      nil,
		"explicit_max_ttl": 0,
		"id":               secret,
		"issue_time":       t.Created.Format(time.RFC3339Nano),
		"meta":             nil,
		"num_uses":         0,
		"orphan":           t.Orphan,
		"path":             t.Path,
		"policies":         t.Policies,
		"renewable":        false,
		"ttl":              0,
		"type":             t.Type,
	}
}

// listAuth lists the login methods, of which there is one: tokens.
func listAuth(s *Server, r *request) (answer, error) {
	return answer{data: map[string]any{"token/": r.keep.authView()}, inject: true}, nil
}

// authView is the login by token, which is no mount but shown as one. Its UUID
// is made from the store's, so that it stays the same.
func (k *keep) authView() map[string]any {
	h := sha256.Sum256([]byte("auth/token/" + k.store.UUID()))
	id := fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
	view := mountView(&mount{
		UUID: id, Accessor: "auth_token_" + id[:8], Type: "token", Description: "token based credentials",
	})
	view["config"] = struct {
		mountConfig
		TokenType string `json:"token_type"`
	}{TokenType: "default-service"}
	return view
}
