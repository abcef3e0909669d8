package server

import (
	"errors"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// queryParams are the parameters of the query. One that is there several times is
// a list.
func (r *request) queryParams() map[string]any {
	params := make(map[string]any)
	for name, values := range r.Query {
		if params[name] = values[0]; len(values) > 1 {
			list := make([]any, len(values))
			for i, v := range values {
				list[i] = v
			}
			params[name] = list
		}
	}
	delete(params, "list") // these say which operation it is
	delete(params, "scan")
	return params
}

// metricsPath is open while the keep is sealed, and where the listener has it so.
const metricsPath = "sys/metrics"

// gate is that of the route; who asks for one that is not there must be allowed to.
func (r *request) gate() api.Gate {
	switch {
	case r.route == nil:
		return api.Authenticated
	case r.Path == metricsPath && (r.unsealed == nil || r.listen.UnauthenticatedMetricsAccess):
		return api.Open
	}
	return r.route.Gate
}

// identify checks the gate and fills in the token and what it may do.
func (s *Server) identify(r *request) (err error) {
	g := r.gate()
	if g == api.Open {
		return nil
	}
	if r.unsealed == nil {
		return api.ErrSealed
	}
	ctx := r.Context
	r.Caller.Bearer = bearer(r.http.Header)
	if r.Caller.Bearer == "" && r.typ != nil && r.typ.TakesBasic {
		role, err := s.basic(r)
		switch {
		case err != nil:
			return err
		case role != nil:
			if r.Caller.Token, err = s.passing(r, role); err == nil {
				r.Caller.ACL, err = r.unsealed.ACL(ctx, r.Caller.Token)
			}
			return err
		case r.Caller.Bearer == "":
			return errNoToken
		}
	}
	if r.Caller.Bearer != "" {
		r.Caller.Token, err = r.unsealed.Use(ctx, r.Caller.Bearer, r.Caller.Source, g == api.Authenticated)
		switch denied := errors.Is(err, access.ErrDenied); {
		case denied && r.route != nil && r.route.Denied != nil:
			return r.route.Denied
		case err != nil && (g == api.Authenticated || !denied):
			return err
		case err == nil:
			r.unsealed.Used(ctx) // the request does not depend on it
		}
	}
	r.Caller.ACL, err = r.unsealed.ACL(ctx, r.Caller.Token)
	return err
}

// authorize asks the token's policies, and fills in the grant to check the
// parameters with, if it depends on them. A path that is listed or scanned is that
// of a folder, so it ends in a slash.
func (s *Server) authorize(r *request) error {
	if r.gate() != api.Authenticated {
		return nil
	}
	if r.help && r.route != nil {
		if r.Caller.Token == nil {
			return access.ErrDenied
		}
		return nil
	}
	path := r.Path
	if r.Op.Folder() {
		path += "/"
	}
	grant := r.Caller.ACL.Find(path)
	allowed := grant.Has(r.Op.Capability())
	if !allowed && r.route != nil && r.route.Or != "" && grant.Capabilities()&access.Denied == 0 {
		grant = r.Caller.ACL.Find(r.Mount.Path + r.route.fill(r.route.Or, r.Params))
		allowed = grant.Has(r.Op.Capability())
	}
	if r.Op == api.Write && r.route != nil && r.route.Exists != nil && allowed != grant.Has(access.CanCreate) {
		r.only = access.CanCreate
		if allowed {
			r.only = access.CanUpdate
		}
		allowed = true
		if err := r.View(r.mayWrite); err != nil {
			return err
		}
	}
	if !allowed || r.route != nil && r.route.sudo[r.Op] && !grant.Has(access.CanSudo) {
		return access.ErrDenied
	}
	if err := grant.CheckWrap(r.WrapIn); err != nil {
		return err
	}
	if grant.Restricted() && !r.Op.Folder() && r.Op != api.Delete {
		r.grant = grant
	}
	return nil
}

// mayWrite refuses to write what is there with a token that may only create, and
// what is not there with one that may only update.
func (r *request) mayWrite(tx *storage.Tx) error {
	if r.only == 0 {
		return nil
	}
	exists, err := r.route.Exists(&r.Request, tx)
	if err == nil && exists != (r.only == access.CanUpdate) {
		err = access.ErrDenied
	}
	return r.route.told(err)
}

// checkOperation refuses what the route does not have, or that there is none.
func (s *Server) checkOperation(r *request) error {
	switch {
	case r.route == nil:
		return errNoRoute(r.Path)
	case !r.known || r.route.on[r.Op] == nil:
		return errMethod
	}
	return nil
}

// checkParams asks the policies again when the body has been read. What could not be
// decoded is not carried out anyway.
func (s *Server) checkParams(r *request) error {
	if !r.grant.Restricted() || r.bad != nil {
		return nil
	}
	h := r.route.on[r.Op]
	params, err := h.Params(&r.Request, r.given, r.route.Free)
	if err != nil {
		return err
	}
	return r.grant.Check(params, h.ParamKind, r.route.Free)
}
