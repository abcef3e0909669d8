package server

import (
	"crypto/sha256"
	"fmt"
)

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
