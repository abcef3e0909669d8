package jwt

import (
	"encoding/json"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// basic is the login for one request, with the JWT itself as password. It checks what a
// login checks. The role must name audiences: a JWT that was made for somebody else,
// who passes it on, is of no use then.
func (m *method) basic(r *api.Request, name, token string) (l *access.Login, ended bool, err error) {
	i, err := m.issuer(r)
	if err != nil {
		return nil, false, err
	}
	name = access.CanonicalName(name)
	var role *Role
	err = r.View(func(tx *storage.Tx) (err error) {
		role, err = roles.Get(tx, r.Prefix(), name)
		return err
	})
	switch {
	case err != nil:
		return nil, false, err
	case role == nil:
		return nil, false, api.Invalid.Errorf("role %q could not be found", name)
	case len(role.Audiences) == 0:
		return nil, false, api.Invalid.Errorf("role %q has no bound_audiences, which a login by Basic authentication takes", name)
	}
	claims, err := i.verifier.Verify(r.Context, token)
	if err != nil {
		return nil, false, err
	}
	now := r.Frame.Time()
	if l, err = role.logIn(claims, now); err == nil {
		return l, false, nil
	}
	if end, ok := claims.end(); ok && end.Before(now) { // was it right then?
		if l, then := role.logIn(claims, end); then == nil {
			return l, true, nil
		}
	}
	return nil, false, err
}

// end is the time that the claim exp says.
func (c Claims) end() (time.Time, bool) {
	number, ok := c["exp"].(json.Number)
	if !ok {
		return time.Time{}, false
	}
	seconds, err := number.Float64()
	if err != nil || seconds < 0 || seconds > 1<<40 {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(seconds * 1e6)), true
}
