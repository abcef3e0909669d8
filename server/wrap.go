package server

import (
	"context"
	"net/http"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// A client that sends X-Vault-Wrap-TTL gets, in place of the answer, a token that
// is good for one request: the one that returns the answer. What is wrapped and its
// token are written in one transaction, and unwrapping uses up the token in the
// transaction that reads it. So exactly one bearer gets the answer; a second attempt
// fails, which reveals that someone already unwrapped it.

// wrapTTL is how long the client wants the answer to stay wrapped; 0: not at all.
func wrapTTL(h http.Header) (time.Duration, error) {
	values := h["X-Vault-Wrap-Ttl"]
	if len(values) == 0 {
		return 0, nil
	}
	ttl, err := access.ParseDuration(values[0])
	switch {
	case len(values) > 1:
		return 0, invalid("there is more than one header X-Vault-Wrap-TTL")
	case err != nil:
		return 0, invalid("error parsing X-Vault-Wrap-TTL header: %v", err)
	case ttl < 0:
		return 0, invalid("error parsing X-Vault-Wrap-TTL header: requested wrap ttl cannot be negative")
	case ttl > 0 && ttl < time.Second:
		return 0, invalid("error parsing X-Vault-Wrap-TTL header: it is less than a second")
	case ttl > 0 && h.Get("X-Vault-Wrap-Format") == "jwt":
		return 0, invalid("wrapping tokens are no JWTs here: remove the header X-Vault-Wrap-Format")
	}
	return ttl, nil
}

// wrap puts a token in the place of the answer, where the client asks for that
// and the answer is in Vault's envelope. Answers that need no token are not wrapped,
// otherwise anybody could fill the store.
func (s *Server) wrap(r *request, a api.Answer) (api.Answer, error) {
	empty, public := a.Data == nil && a.Auth == nil && a.Warnings == nil, r.Caller.Token == nil && a.Auth == nil
	if r.WrapIn == 0 || a.Wrap != nil || empty || public {
		return a, nil
	}
	a.Inject = false
	body, err := r.envelope(a)
	if err != nil {
		return api.Answer{}, err
	}
	w, err := access.NewWrapped(a.Status, body)
	if err != nil {
		return api.Answer{}, err
	}
	path, name := r.Path, ""
	if r.Op.Folder() {
		path += "/" // as policies have it
	}
	if r.Caller.Token != nil {
		name = r.Caller.Token.DisplayName
	}
	ctx, cancel := context.WithTimeout(storage.Patient(r.Context), timeoutShort) // the answer cannot be computed again
	defer cancel()
	var view *api.Wrap
	err = r.unsealed.Store.Update(ctx, func(tx *storage.Tx) error {
		t, secret, err := access.Wrap(tx, path, name, r.WrapIn, w, s.now())
		if err == nil {
			view = api.NewWrap(t, secret)
		}
		return err
	})
	if err != nil {
		return api.Answer{}, err
	}
	if a.Auth != nil {
		view.WrappedAccessor = a.Auth.Accessor
	} else if data, ok := a.Data.(map[string]any); ok { // of a secret ID, if it is one
		view.WrappedAccessor, _ = data["secret_id_accessor"].(string)
	}
	return api.Answer{Wrap: view}, nil
}
