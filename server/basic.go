package server

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// A basicLogin is somebody who logs in for one request, by HTTP's Basic authentication.
type basicLogin struct {
	typ   *api.Type
	mount *api.Mount
	role  string
}

// basic reads the credentials of HTTP's Basic authentication into the request: the
// password as its bearer, whatever the user is, unless that names a role of a login
// method, which is returned then.
func (s *Server) basic(r *request) (*basicLogin, error) {
	user, password, ok := r.http.BasicAuth()
	if !ok || password == "" {
		return nil, nil
	}
	// HTTP ends the user at its first colon.
	if mount, proof, ok := strings.Cut(password, ":"); ok && strings.Contains(mount, "/") && !strings.Contains(user, "/") {
		user, password = user+":"+mount, proof
	}
	// A browser sends them by itself, also for the pages of others.
	if err := new(http.CrossOriginProtection).Check(r.http); err != nil {
		return nil, api.Denied.Errorf("Basic authentication is not taken from the page of another site")
	}
	r.Caller.Bearer = password
	at, role, ok := strings.Cut(user, "/")
	name, mount, named := strings.Cut(at, ":")
	if named {
		if i := strings.LastIndexByte(user, '/'); i > len(name) {
			mount, role = user[len(name)+1:i], user[i+1:]
		}
	} else {
		mount = name
	}
	if !ok || role == "" {
		return nil, nil
	}
	m := r.unsealed.Logins.Load().At(mount)
	if m == nil || m.Type != name {
		if named {
			return nil, api.Denied.Errorf("no login method %s is enabled at auth/%s/, which the user of Basic authentication names", name, mount)
		}
		return nil, nil
	}
	typ := s.types.Of(api.Login, m)
	if typ == nil || typ.Basic == nil {
		return nil, nil
	}
	return &basicLogin{typ, m, role}, nil
}

// passing is the token of somebody who logs in for this request. It is stored nowhere.
// A proof whose time is over counts if a session carries it.
func (s *Server) passing(r *request, in *basicLogin) (t *access.Token, err error) {
	of := r.Request
	of.Mount, of.Now = in.mount, s.now()
	id := access.ID(sha256.Sum256([]byte(r.Caller.Bearer)))
	key := in.mount.UUID + "/" + string(id[:])
	attempt := s.slowdown.begin(r.Context, key, in.mount.UUID+"/"+in.role, r.Caller.Source, s.now)
	if attempt.wait > 0 {
		s.metrics.login(in.mount.Type, "slowed")
		return nil, &api.Error{Code: api.Busy, Text: "too many failed logins: try again later", After: attempt.wait}
	}
	result := "error" // also when the method panics
	defer func() {
		s.slowdown.end(attempt, result, s.now())
		s.metrics.login(in.mount.Type, result)
	}()
	l, ended, err := in.typ.Basic(&of, in.role, r.Caller.Bearer)
	switch {
	case err != nil:
	case l.Params.NumUses != 0 || l.Params.Period != 0:
		err = invalid("role %q has token_num_uses or token_period, which a login for one request cannot heed: use a role without them", in.role)
	case !access.Within(l.Params.BoundCIDRs, r.Caller.Source):
		err = access.ErrDenied
	default:
		in.mount.Limit(l)
		l.Path = "auth/" + in.mount.Path + "login"
		l.DisplayName = strings.Trim(strings.ReplaceAll(in.mount.Path, "/", "-")+l.DisplayName, "-")
		if t, err = l.Passing(of.Now, id); err == nil && ended {
			err = s.carried(r, t)
		}
	}
	if err == nil {
		result = "ok"
		return t, nil
	}
	if told, ok := errors.AsType[*api.Error](in.told(err)); ok && told.Code == api.Invalid {
		result = "failed"
		return nil, api.Denied.Errorf("%s", told.Text)
	}
	if errors.Is(err, access.ErrDenied) || errors.Is(err, access.ErrInvalid) {
		result = "failed"
		return nil, access.ErrDenied
	}
	return nil, in.told(err)
}

// told is an error of the method as the client is told of it.
func (in *basicLogin) told(err error) error { return (&route{typ: in.typ}).told(err) }

// errEnded is told of a proof whose time is over.
var errEnded = api.Denied.Errorf("error validating token: invalid expiration time (exp) claim: token is expired")

// carried refuses a proof whose time is over unless the route has a session for it.
func (s *Server) carried(r *request, t *access.Token) error {
	if r.route == nil || r.route.Session == nil {
		return errEnded
	}
	of := r.Request
	of.Caller.Token, of.Now = t, s.now()
	carries := false
	err := r.Store.View(r.Context, func(tx *storage.Tx) (err error) {
		carries, err = r.route.Session(&of, tx)
		return err
	})
	if err == nil && !carries {
		err = errEnded
	}
	r.Caller.Ended = err == nil
	return err
}
