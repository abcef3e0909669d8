package sys

import (
	"cmp"
	"encoding/json"
	"errors"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/storage"
)

// wrappingRoutes are about answers that are wrapped, below sys/wrapping/. The first
// takes no token but the one that it is about, and does not use it up.
func wrappingRoutes() []api.Route {
	return []api.Route{
		{Path: "wrapping/lookup", Help: "What is known of a wrapped answer, which stays wrapped.", Gate: api.Unsealed,
			Ops: map[api.Op]api.Handler{api.Read: api.Do(lookupOwnWrapped).Answers(viewWrapped(new(access.Token))), api.Write: api.Do(lookupWrapped).Answers(viewWrapped(new(access.Token)))}},
		{Path: "wrapping/wrap", Help: "Wraps what it is given.", Free: true, Body: 2 * storage.MaxValue,
			Ops: map[api.Op]api.Handler{api.Write: api.Do(wrapData)}},
		{Path: "wrapping/unwrap", Help: "Hands out a wrapped answer, once.", Denied: errNotWrapping,
			Ops: map[api.Op]api.Handler{api.Write: api.Do(unwrapAnswer)}},
		{Path: "wrapping/rewrap", Help: "Puts a wrapped answer behind a new token.",
			Ops: map[api.Op]api.Handler{api.Write: api.Do(rewrapAnswer)}},
	}
}

var errNotWrapping = api.Invalid.Errorf("wrapping token is not valid or does not exist")

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
	return keep.Of(r).TokenID(r.Context, cmp.Or(in.Token, r.Caller.Bearer))
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
	return api.Answer{Data: viewWrapped(t)}, nil
}

func viewWrapped(t *access.Token) map[string]any {
	return map[string]any{
		"creation_path": t.Path, "creation_time": t.Created.Format(time.RFC3339Nano), "creation_ttl": int64(t.TTL / time.Second),
	}
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
