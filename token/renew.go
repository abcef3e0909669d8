package token

import (
	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/storage"
)

// methodOf is the login method that made a token, nil when it is no more.
func methodOf(r *api.Request, t *access.Token) (*api.Mount, *api.Type) {
	for _, m := range keep.Of(r).Logins.Load().All() {
		if m.UUID == t.Method {
			if typ := keep.Of(r).Types.Of(api.Login, m); typ != nil {
				return m, typ
			}
		}
	}
	return nil, nil
}

// proveAgain does what comes before loginAgain and takes no write transaction; still
// is asked in that.
func proveAgain(r *api.Request, id access.ID) (still func(*storage.Tx) error, err error) {
	still = func(*storage.Tx) error { return nil }
	var t *access.Token
	var m *api.Mount
	var method *api.Type
	err = r.View(func(tx *storage.Tx) (err error) {
		if t, err = access.Lookup(tx, id, r.Now); err != nil {
			return err
		}
		if m, method = methodOf(r, t); m == nil || method.Prove == nil {
			return nil
		}
		_, err = method.Renew(r, tx, m, t) // what it refuses needs no proof
		return err
	})
	if err != nil || m == nil || method.Prove == nil {
		return still, err
	}
	return method.Prove(r, m, t)
}

// loginAgain is what the login that made a token would make now.
func loginAgain(r *api.Request, tx *storage.Tx, t *access.Token) (*access.Login, error) {
	m, method := methodOf(r, t)
	if m == nil {
		return nil, access.ErrDenied // it was disabled just now
	}
	params, err := method.Renew(r, tx, m, t)
	if err != nil {
		return nil, err
	}
	l := &access.Login{Params: *params}
	m.Limit(l)
	return l, nil
}
