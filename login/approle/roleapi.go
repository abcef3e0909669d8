package approle

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/storage"
)

type roleInput struct {
	login.TokenFields
	RoleID          *string        `json:"role_id"`
	BindSecretID    *bool          `json:"bind_secret_id"`
	BoundCIDRs      *[]string      `json:"secret_id_bound_cidrs"`
	OldCIDRs        *[]string      `json:"bound_cidr_list"`
	SecretIDNumUses *int           `json:"secret_id_num_uses"`
	SecretIDTTL     *time.Duration `json:"secret_id_ttl"`
	LocalSecretIDs  *bool          `json:"local_secret_ids"`
}

// A field is a part of a role that has a path of its own.
type field struct {
	path  string
	names []string // in a request; the first is that of the answer
	reset string   // the body that sets it to its default; "": it cannot be reset
	fixed bool     // it cannot be written
}

var fields = []field{
	{path: "policies", names: []string{"token_policies", "policies"}, reset: `{"token_policies":[]}`},
	{path: "bound-cidr-list", names: []string{"bound_cidr_list"}, reset: `{"secret_id_bound_cidrs":[]}`},
	{path: "secret-id-bound-cidrs", names: []string{"secret_id_bound_cidrs"}, reset: `{"secret_id_bound_cidrs":[]}`},
	{path: "token-bound-cidrs", names: []string{"token_bound_cidrs"}, reset: `{"token_bound_cidrs":[]}`},
	{path: "bind-secret-id", names: []string{"bind_secret_id"}, reset: `{"bind_secret_id":true}`},
	{path: "secret-id-num-uses", names: []string{"secret_id_num_uses"}, reset: `{"secret_id_num_uses":0}`},
	{path: "secret-id-ttl", names: []string{"secret_id_ttl"}, reset: `{"secret_id_ttl":0}`},
	{path: "period", names: []string{"token_period", "period"}, reset: `{"token_period":0}`},
	{path: "token-num-uses", names: []string{"token_num_uses"}, reset: `{"token_num_uses":0}`},
	{path: "token-ttl", names: []string{"token_ttl"}, reset: `{"token_ttl":0}`},
	{path: "token-max-ttl", names: []string{"token_max_ttl"}, reset: `{"token_max_ttl":0}`},
	{path: "role-id", names: []string{"role_id"}},
	{path: "local-secret-ids", names: []string{"local_secret_ids"}, fixed: true},
}

func fieldRoutes() (routes []api.Route) {
	for _, f := range fields {
		r := api.Route{
			Path: oneRole + "/" + f.path, Help: "The field " + f.names[0] + " of a role.", Folded: true,
			Ops: map[api.Op]api.Handler{api.Read: api.View(f.read).Answers(f.of(view(new(role))))},
		}
		if !f.fixed {
			r.Ops[api.Write] = api.Do(f.write)
		}
		if f.reset != "" {
			r.Ops[api.Delete] = api.Do(f.remove)
		}
		routes = append(routes, r)
	}
	return routes
}

func (f field) read(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	view, err := viewOf(r, tx)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: f.of(view)}, nil
}

// of is what of a view the path of the field shows.
func (f field) of(view map[string]any) map[string]any {
	return map[string]any{f.names[0]: view[f.names[0]]}
}

// A fieldInput is the body of a write to a field. The handler decodes it, once it
// has refused what is not for the path.
type fieldInput struct{ given map[string]json.RawMessage }

// Decode finds the fields of the body.
func (in *fieldInput) Decode(r *api.Request) (map[string]json.RawMessage, error) {
	if body := bytes.TrimSpace(r.Body); len(body) > 0 {
		if err := json.Unmarshal(body, &in.given); err != nil {
			return nil, api.Invalid.Errorf("failed to parse JSON input: %v", err)
		}
	}
	return in.given, nil
}

// Names are those of all fields.
func (*fieldInput) Names() []string { return api.Update(write).Names() }

// Fields are those of a role.
func (*fieldInput) Fields() []api.Field { return api.Update(write).Fields() }

func (f field) write(r *api.Request, in *fieldInput) (api.Answer, error) {
	found := false
	for _, name := range slices.Sorted(maps.Keys(in.given)) {
		if slices.Contains(f.names, name) {
			found = true
		} else if !api.Void(in.given[name]) {
			return api.Answer{}, api.Invalid.Errorf("the parameter %.100q is not for this path, which sets %s", name, f.names[0])
		}
	}
	if !found {
		return api.Answer{}, api.Invalid.Errorf("missing %s", f.names[0])
	}
	return change(r, r.Body)
}

func (f field) remove(r *api.Request, _ *api.None) (api.Answer, error) {
	return change(r, []byte(f.reset))
}

// change changes what the body names of a role that must exist.
func change(r *api.Request, body []byte) (a api.Answer, err error) {
	in, err := api.DecodeBody[roleInput](r, body, true)
	if err != nil {
		return a, err
	}
	err = r.Update(func(tx *storage.Tx) (err error) {
		a, err = edit(r, tx, in, false)
		return err
	})
	if err != nil {
		return api.Answer{}, err
	}
	return a, nil
}

// named reads the role of the request, which must exist.
func named(r *api.Request, tx *storage.Tx) (*role, error) {
	role, err := of(r).role(tx, r.Param("name"))
	if err == nil && role == nil {
		err = errAbsent(r)
	}
	return role, err
}

func errAbsent(r *api.Request) error {
	return api.NotFound.Errorf("role %q does not exist", r.Param("name"))
}

func exists(r *api.Request, tx *storage.Tx) (bool, error) {
	role, err := of(r).role(tx, r.Param("name"))
	return role != nil, err
}

func write(r *api.Request, tx *storage.Tx, in *roleInput) (api.Answer, error) {
	return edit(r, tx, in, true)
}

// edit changes what the request names of a role; if create, it makes one that does
// not exist.
func edit(r *api.Request, tx *storage.Tx, in *roleInput, create bool) (a api.Answer, err error) {
	var cidrs []netip.Prefix
	given := cmp.Or(in.BoundCIDRs, in.OldCIDRs)
	if given != nil {
		if cidrs, err = access.ParseCIDRs(*given); err != nil {
			return a, err
		}
	}
	to, err := of(r).role(tx, r.Param("name"))
	switch {
	case err != nil:
		return a, err
	case to == nil && !create:
		return a, errAbsent(r)
	case to == nil:
		to = &role{Name: r.Param("name"), RoleID: storage.NewUUID(), BindSecretID: true}
		api.Set(&to.LocalSecretIDs, in.LocalSecretIDs)
	case in.LocalSecretIDs != nil && *in.LocalSecretIDs != to.LocalSecretIDs:
		return a, api.Invalid.Errorf("local_secret_ids can only be modified during role creation")
	}
	if given != nil {
		to.BoundCIDRs = cidrs
	}
	api.Set(&to.RoleID, in.RoleID)
	api.Set(&to.BindSecretID, in.BindSecretID)
	api.Set(&to.SecretIDNumUses, in.SecretIDNumUses)
	api.Set(&to.SecretIDTTL, in.SecretIDTTL)
	if a.Warnings, err = in.Apply(&to.Token); err != nil {
		return a, err
	}
	if longest := r.Mount.Longest(); to.Token.Period > longest {
		return a, api.Invalid.Errorf("period of %q is greater than the backend's maximum lease TTL of %q", to.Token.Period, longest)
	} else if to.Token.MaxTTL > longest {
		a.Warnings = append(a.Warnings, "token_max_ttl is greater than the backend mount's maximum TTL value; issued tokens' max TTL value will be truncated")
	}
	return a, of(r).write(tx, to)
}

// viewOf is all that is shown of the role of the request.
func viewOf(r *api.Request, tx *storage.Tx) (map[string]any, error) {
	role, err := of(r).role(tx, r.Param("name"))
	if err == nil && role == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return nil, err
	}
	return view(role), nil
}

// view is all that is shown of a role.
func view(role *role) map[string]any {
	return login.ViewParams(&role.Token, map[string]any{
		"role_id":               role.RoleID,
		"bind_secret_id":        role.BindSecretID,
		"secret_id_bound_cidrs": showPrefixes(role.BoundCIDRs),
		"bound_cidr_list":       showPrefixes(role.BoundCIDRs),
		"secret_id_num_uses":    role.SecretIDNumUses,
		"secret_id_ttl":         login.Seconds(role.SecretIDTTL),
		"local_secret_ids":      role.LocalSecretIDs,
	})
}

// showPrefixes is ranges as they are shown where Vault keeps the text; nil for none.
func showPrefixes(list []netip.Prefix) []string {
	var texts []string
	for _, p := range list {
		texts = append(texts, p.String())
	}
	return texts
}

func read(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	view, err := viewOf(r, tx)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: whole(view)}, nil
}

// whole is what of a view the path of the role itself shows.
func whole(view map[string]any) map[string]any {
	delete(view, "role_id") // has a path, and so a policy, of its own
	delete(view, "bound_cidr_list")
	return view
}

// remove deletes a role, whose tokens are renewed no more.
func remove(r *api.Request, _ *api.None) (api.Answer, error) {
	err := r.Update(func(tx *storage.Tx) error { return of(r).remove(tx, r.Param("name")) })
	r.Frame.Tidy()
	return api.Answer{}, err
}
