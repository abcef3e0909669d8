package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// A client that sends X-Vault-Wrap-TTL gets, in place of the answer, a token that
// is good for one request: to have the answer. What is wrapped and its token are
// written in one transaction; unwrapping uses up the token in the one that reads
// it. So exactly one who has the token gets the answer, and who comes too late
// knows that another was there before.

// wrappingRoutes are about answers that are wrapped. The first takes no token but
// the one that it is about, and does not use it up.
var wrappingRoutes = []oldRoute{
	{path: "sys/wrapping/lookup", gate: unsealed, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: lookupWrapped, opWrite: lookupWrapped}},
	{path: "sys/wrapping/wrap", free: true, gate: authenticated, body: bodyKV, timeout: timeoutShort, on: [ops]handler{opWrite: wrapData}},
	{path: "sys/wrapping/unwrap", gate: authenticated, denied: errNotWrapping, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: unwrapAnswer}},
	{path: "sys/wrapping/rewrap", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: rewrapAnswer}},
}

var errNotWrapping = &api.Error{Code: api.Invalid, Text: "wrapping token is not valid or does not exist"}

func viewWrap(t *access.Token, secret string) *api.Wrap {
	return &api.Wrap{
		Token: secret, Accessor: t.Accessor, TTL: int64(t.TTL / time.Second), CreationTime: t.Created.Format(time.RFC3339Nano), CreationPath: t.Path,
	}
}

// wrapTTL is for how long the client wants the answer to be wrapped; 0: not at all.
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
// and the answer is in Vault's envelope. What anybody may have, without a token,
// is not wrapped: else anybody could fill the store.
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
	ctx, cancel := context.WithTimeout(storage.Patient(r.Context), timeoutShort) // the answer is not to be had again
	defer cancel()
	var view *api.Wrap
	err = r.keep.store.Update(ctx, func(tx *storage.Tx) error {
		t, secret, err := access.Wrap(tx, path, name, r.WrapIn, w, s.now())
		if err == nil {
			view = viewWrap(t, secret)
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

func wrapData(s *Server, r *request) (answer, error) {
	if r.WrapIn == 0 {
		return answer{}, invalid("endpoint requires response wrapping to be used")
	}
	object, err := r.object()
	if object == nil {
		object = json.RawMessage("{}")
	}
	return answer{data: object}, err
}

// wrappingID returns the name of the wrapping token that the body or else the
// header has.
func (r *request) wrappingID() (access.ID, error) {
	in, err := r.target()
	if err != nil {
		return access.ID{}, err
	}
	if in.Token == "" {
		in.Token = bearer(r.http.Header)
	}
	return r.keep.tokenID(r.Context, in.Token)
}

// notWrapping says of a token that does not work what Vault says.
func notWrapping(err error) error {
	if errors.Is(err, access.ErrDenied) {
		return errNotWrapping
	}
	return err
}

func lookupWrapped(s *Server, r *request) (answer, error) {
	id, err := r.wrappingID()
	if err != nil {
		return answer{}, notWrapping(err)
	}
	var t *access.Token
	err = r.keep.store.View(r.Context, func(tx *storage.Tx) (err error) {
		t, err = access.Lookup(tx, id, s.now())
		return err
	})
	if err == nil && !t.Wrapping() {
		err = errNotWrapping
	}
	if err != nil {
		return answer{}, notWrapping(err)
	}
	return answer{data: map[string]any{
		"creation_path": t.Path, "creation_time": t.Created.Format(time.RFC3339Nano), "creation_ttl": int64(t.TTL / time.Second),
	}}, nil
}

func unwrapAnswer(s *Server, r *request) (answer, error) {
	in, err := r.target()
	if err != nil {
		return answer{}, err
	}
	w := r.Caller.Token.Wrapped() // of a wrapping token that the gate has used up
	if in.Token != "" && in.Token != r.Caller.Bearer {
		id, err := r.wrappingID()
		if err != nil {
			return answer{}, notWrapping(err)
		}
		err = r.keep.store.Update(r.Context, func(tx *storage.Tx) error {
			t, err := access.Unwrap(tx, id, s.now())
			if err == nil {
				w = t.Wrapped()
			}
			return err
		})
		if err != nil {
			return answer{}, notWrapping(err)
		}
	} else if !r.Caller.Token.Wrapping() {
		return answer{}, errNotWrapping
	}
	status, body, err := w.Open()
	if err != nil {
		return answer{}, err
	}
	return answer{status: status, text: body}, nil
}

// rewrapAnswer puts a wrapped answer behind a new token, which lives as long as
// the old one was made for, or for less if the client asks for that.
func rewrapAnswer(s *Server, r *request) (answer, error) {
	id, err := r.wrappingID()
	if err != nil {
		return answer{}, notWrapping(err)
	}
	var view *api.Wrap
	err = r.keep.store.Update(r.Context, func(tx *storage.Tx) error {
		old, err := access.Unwrap(tx, id, s.now())
		if err != nil {
			return err
		}
		ttl := old.TTL
		if r.WrapIn > 0 {
			ttl = min(ttl, r.WrapIn)
		}
		t, secret, err := access.Wrap(tx, old.Path, r.Caller.Token.DisplayName, ttl, old.Wrapped(), s.now())
		if err == nil {
			view = viewWrap(t, secret)
		}
		return err
	})
	if err != nil {
		return answer{}, notWrapping(err)
	}
	return answer{wrap: view}, nil
}
