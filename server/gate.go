package server

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/storage"
)

// params are what the rules about parameters see: the fields of the body of a
// write, the query of a read. Vault says the same of both.
func (r *request) params() (map[string]any, error) {
	if r.op == opRead || r.op == opHead {
		for name, values := range r.query {
			if len(values) > 1 {
				return nil, invalid("the parameter %s stands twice in the query, which is refused where a policy restricts parameters", name)
			}
		}
		return r.queryParams(), nil
	}
	params := make(map[string]any)
	body := strings.TrimSpace(string(r.body))
	if body == "" {
		return params, nil
	}
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&params); err != nil || d.More() {
		return nil, invalid("failed to parse JSON input: it must be one JSON object")
	}
	switch text := scan([]byte(body)); {
	case text.levels > maxLevels:
		return nil, errLevels
	case text.twice: // which of them counts must not depend on who reads it
		return nil, invalid("a name stands twice in the same JSON object, which is refused where a policy restricts parameters")
	}
	return params, nil
}

// queryParams are the parameters of the query. One that is there several times is
// a list.
func (r *request) queryParams() map[string]any {
	params := make(map[string]any)
	for name, values := range r.query {
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

// pass checks the gate and fills in the token, what it may do, and, where that
// depends on the parameters, the grant to check them with.
func (r *request) pass(g gate) (err error) {
	if g == open {
		return nil
	}
	if r.keep == nil {
		return errSealed
	}
	ctx := r.http.Context()
	if r.secret = bearer(r.http.Header); r.secret != "" {
		r.token, err = r.keep.use(ctx, r.secret, r.source(), g == authenticated)
		switch denied := errors.Is(err, access.ErrDenied); {
		case denied && r.route != nil && r.route.denied != nil:
			return r.route.denied
		case err != nil && (g == authenticated || !denied):
			return err
		case err == nil && r.keep.unused.Load():
			r.keep.used(ctx) // the request does not depend on it
		}
	}
	if r.acl, err = r.keep.acl(ctx, r.token); err != nil || g == unsealed {
		return err
	}
	return r.authorize(ctx)
}

// authorize asks the token's policies. A path that is listed or scanned is that
// of a folder, so it ends in a slash.
func (r *request) authorize(ctx context.Context) error {
	path := r.path
	if r.op.folder() {
		path += "/"
	}
	grant := r.acl.Find(path)
	allowed := grant.Has(capabilities[r.op])
	if r.op == opWrite && r.route != nil && r.route.exists != nil && allowed != grant.Has(access.CanCreate) {
		r.only = access.CanCreate
		if allowed {
			r.only = access.CanUpdate
		}
		allowed = true
		if err := r.keep.store.View(ctx, r.mayWrite); err != nil {
			return err
		}
	}
	if !allowed || r.route != nil && slices.Contains(r.route.sudo, r.op) && !grant.Has(access.CanSudo) {
		return access.ErrDenied
	}
	if err := grant.CheckWrap(r.wrap); err != nil {
		return err
	}
	if grant.Restricted() && !r.op.folder() && r.op != opDelete {
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
	exists, err := r.route.exists(r, tx)
	if err == nil && exists != (r.only == access.CanUpdate) {
		err = access.ErrDenied
	}
	return err
}

// checkParams asks the policies again when the body has been read.
func (r *request) checkParams() error {
	if !r.grant.Restricted() {
		return nil
	}
	params, err := r.params()
	if err != nil {
		return err
	}
	return r.grant.Check(params, r.route.free)
}

// roleExists tells whether writing a role updates it.
func roleExists(r *request, tx *storage.Tx) (bool, error) {
	role, err := access.GetRole(tx, r.rest)
	return role != nil, err
}
