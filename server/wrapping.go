package server

import (
	"cmp"
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
// is good for one request: the one that returns the answer. What is wrapped and its
// token are written in one transaction, and unwrapping uses up the token in the
// transaction that reads it. So exactly one bearer gets the answer; a second attempt
// fails, which reveals that someone already unwrapped it.

// wrappingRoutes are about answers that are wrapped, below sys/wrapping/. The first
// takes no token but the one that it is about, and does not use it up.
func (s *Server) wrappingRoutes() []api.Route {
	return []api.Route{
		{Path: "wrapping/lookup", Help: "What is known of a wrapped answer, which stays wrapped.", Gate: api.Unsealed,
			Ops: map[api.Op]api.Handler{api.Read: api.Do(lookupOwnWrapped), api.Write: api.Do(lookupWrapped)}},
		{Path: "wrapping/wrap", Help: "Wraps what it is given.", Free: true, Body: bodyKV,
			Ops: map[api.Op]api.Handler{api.Write: api.Do(wrapData)}},
		{Path: "wrapping/unwrap", Help: "Hands out a wrapped answer, once.", Denied: errNotWrapping,
			Ops: map[api.Op]api.Handler{api.Write: api.Do(unwrapAnswer)}},
		{Path: "wrapping/rewrap", Help: "Puts a wrapped answer behind a new token.",
			Ops: map[api.Op]api.Handler{api.Write: api.Do(rewrapAnswer)}},
	}
}

var errNotWrapping = api.Invalid.Errorf("wrapping token is not valid or does not exist")

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
	err = r.keep.Store.Update(ctx, func(tx *storage.Tx) error {
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

func wrapData(r *api.Request, in *api.Object) (api.Answer, error) {
	if r.WrapIn == 0 {
		return api.Answer{}, api.Invalid.Errorf("endpoint requires response wrapping to be used")
	}
	if in.JSON == nil {
		return api.Answer{Data: json.RawMessage("{}")}, nil
	}
	return api.Answer{Data: in.JSON}, nil
}

// wrappedInput names a wrapping token; without one, the caller's bearer is meant.
type wrappedInput struct {
	Token string `json:"token"`
}

func (in *wrappedInput) id(r *api.Request) (access.ID, error) {
	return unsealedOf(r).TokenID(r.Context, cmp.Or(in.Token, r.Caller.Bearer))
}

// notWrapping turns the error of a token that does not work into Vault's.
func notWrapping(err error) error {
	if errors.Is(err, access.ErrDenied) {
		return errNotWrapping
	}
	return err
}

func lookupOwnWrapped(r *api.Request, _ *api.None) (api.Answer, error) {
	return lookupWrapped(r, new(wrappedInput))
}

func lookupWrapped(r *api.Request, in *wrappedInput) (api.Answer, error) {
	id, err := in.id(r)
	if err != nil {
		return api.Answer{}, notWrapping(err)
	}
	var t *access.Token
	err = r.View(func(tx *storage.Tx) (err error) {
		t, err = access.Lookup(tx, id, r.Now)
		return err
	})
	if err == nil && !t.Wrapping() {
		err = errNotWrapping
	}
	if err != nil {
		return api.Answer{}, notWrapping(err)
	}
	return api.Answer{Data: map[string]any{
		"creation_path": t.Path, "creation_time": t.Created.Format(time.RFC3339Nano), "creation_ttl": int64(t.TTL / time.Second),
	}}, nil
}

func unwrapAnswer(r *api.Request, in *wrappedInput) (api.Answer, error) {
	w := r.Caller.Token.Wrapped() // of a wrapping token that the gate has used up
	if in.Token != "" && in.Token != r.Caller.Bearer {
		id, err := in.id(r)
		if err != nil {
			return api.Answer{}, notWrapping(err)
		}
		err = r.Update(func(tx *storage.Tx) error {
			t, err := access.Unwrap(tx, id, r.Now)
			if err == nil {
				w = t.Wrapped()
			}
			return err
		})
		if err != nil {
			return api.Answer{}, notWrapping(err)
		}
	} else if !r.Caller.Token.Wrapping() {
		return api.Answer{}, errNotWrapping
	}
	status, body, err := w.Open()
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Status: status, Raw: &api.Raw{Bytes: body}}, nil
}

// rewrapAnswer puts a wrapped answer behind a new token, which lives as long as
// the old one was made for, or for less if the client asks for that.
func rewrapAnswer(r *api.Request, in *wrappedInput) (api.Answer, error) {
	id, err := in.id(r)
	if err != nil {
		return api.Answer{}, notWrapping(err)
	}
	var view *api.Wrap
	err = r.Update(func(tx *storage.Tx) error {
		old, err := access.Unwrap(tx, id, r.Now)
		if err != nil {
			return err
		}
		ttl := old.TTL
		if r.WrapIn > 0 {
			ttl = min(ttl, r.WrapIn)
		}
		t, secret, err := access.Wrap(tx, old.Path, r.Caller.Token.DisplayName, ttl, old.Wrapped(), r.Now)
		if err == nil {
			view = api.NewWrap(t, secret)
		}
		return err
	})
	if err != nil {
		return api.Answer{}, notWrapping(err)
	}
	return api.Answer{Wrap: view}, nil
}
