package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// appRole is the login method of machines: a role ID and a secret ID.
func appRole() authMethod {
	routes := []oldRoute{
		{path: "login", gate: unsealed, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: loginAppRole}},
		{path: "tidy/secret-id", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: tidySecretIDs}},
		{path: "role", gate: authenticated, on: [ops]handler{opList: listAppRoles}},
	}
	below := func(path string, on [ops]handler) {
		routes = append(routes, oldRoute{path: "role/*" + path, named: true, gate: authenticated, body: bodySmall, timeout: timeoutShort, on: on})
	}
	below("/secret-id", [ops]handler{opWrite: makeSecretID, opList: listSecretIDs})
	below("/custom-secret-id", [ops]handler{opWrite: makeCustomSecretID})
	below("/secret-id/lookup", [ops]handler{opWrite: lookupSecretID})
	below("/secret-id/destroy", [ops]handler{opWrite: destroySecretID, opDelete: destroySecretID})
	below("/secret-id-accessor/lookup", [ops]handler{opWrite: lookupSecretID})
	below("/secret-id-accessor/destroy", [ops]handler{opWrite: destroySecretID, opDelete: destroySecretID})
	for path, field := range appRoleFields {
		below("/"+path, field.handlers())
	}
	below("", [ops]handler{opRead: readAppRole, opWrite: writeAppRole, opDelete: deleteAppRole})
	routes[len(routes)-1].exists = appRoleExists
	return authMethod{
		routes: routes,
		renew: func(_ *request, tx *storage.Tx, folder string, t *access.Token) (*access.TokenParams, error) {
			role, err := access.AppRoles(folder).Get(tx, t.Login)
			if err == nil && role == nil {
				err = invalid("role %q does not exist during renewal", t.Login)
			}
			if err != nil {
				return nil, err
			}
			return &role.Token, nil
		},
		tidy: tidyAppRoles,
	}
}

// An appRoleField is a part of a role that has a path of its own.
type appRoleField struct {
	names []string // in a request; the first is that of the answer
	reset string   // the body that sets it to its default; "": it stays
	fixed bool     // nobody writes it
}

var appRoleFields = map[string]appRoleField{
	"policies":              {names: []string{"token_policies", "policies"}, reset: `{"token_policies":[]}`},
	"bound-cidr-list":       {names: []string{"bound_cidr_list"}, reset: `{"secret_id_bound_cidrs":[]}`},
	"secret-id-bound-cidrs": {names: []string{"secret_id_bound_cidrs"}, reset: `{"secret_id_bound_cidrs":[]}`},
	"token-bound-cidrs":     {names: []string{"token_bound_cidrs"}, reset: `{"token_bound_cidrs":[]}`},
	"bind-secret-id":        {names: []string{"bind_secret_id"}, reset: `{"bind_secret_id":true}`},
	"secret-id-num-uses":    {names: []string{"secret_id_num_uses"}, reset: `{"secret_id_num_uses":0}`},
	"secret-id-ttl":         {names: []string{"secret_id_ttl"}, reset: `{"secret_id_ttl":0}`},
	"period":                {names: []string{"token_period", "period"}, reset: `{"token_period":0}`},
	"token-num-uses":        {names: []string{"token_num_uses"}, reset: `{"token_num_uses":0}`},
	"token-ttl":             {names: []string{"token_ttl"}, reset: `{"token_ttl":0}`},
	"token-max-ttl":         {names: []string{"token_max_ttl"}, reset: `{"token_max_ttl":0}`},
	"role-id":               {names: []string{"role_id"}},
	"local-secret-ids":      {names: []string{"local_secret_ids"}, fixed: true},
}

func (f appRoleField) handlers() (on [ops]handler) {
	on[opRead] = func(s *Server, r *request) (answer, error) {
		view, err := viewAppRole(r)
		if err != nil {
			return answer{}, err
		}
		return answer{data: map[string]any{f.names[0]: view[f.names[0]]}}, nil
	}
	if f.fixed {
		return on
	}
	on[opWrite] = func(s *Server, r *request) (answer, error) {
		var given map[string]json.RawMessage
		if err := r.decode(&given); err != nil {
			return answer{}, err
		}
		found := false
		for name, value := range given {
			if slices.ContainsFunc(f.names, func(known string) bool { return strings.EqualFold(name, known) }) {
				found = true
			} else if !void(value) {
				return answer{}, invalid("the parameter %.100q is not for this path, which sets %s", name, f.names[0])
			}
		}
		if !found {
			return answer{}, invalid("missing %s", f.names[0])
		}
		return s.changeAppRole(r, r.Body, false)
	}
	if f.reset != "" {
		on[opDelete] = func(s *Server, r *request) (answer, error) { return s.changeAppRole(r, []byte(f.reset), false) }
	}
	return on
}

// getAppRole is the role of the request, which must be there.
func (r *request) getAppRole(tx *storage.Tx, folder string) (*access.AppRole, error) {
	role, err := access.AppRoles(folder).Get(tx, r.rest)
	if err == nil && role == nil {
		err = &api.Error{Code: api.NotFound, Text: fmt.Sprintf("role %q does not exist", r.rest)}
	}
	return role, err
}

func appRoleExists(r *request, tx *storage.Tx) (bool, error) {
	role, err := access.AppRoles(r.Mount.Prefix()).Get(tx, r.rest)
	return role != nil, err
}

func listAppRoles(s *Server, r *request) (answer, error) {
	return r.listMethod(func(tx *storage.Tx, folder string) ([]string, error) { return access.AppRoles(folder).List(tx) })
}

// viewAppRole is all that is shown of the role of the request.
func viewAppRole(r *request) (map[string]any, error) {
	var role *access.AppRole
	err := r.viewMethod(func(tx *storage.Tx, folder string) (err error) {
		role, err = access.AppRoles(folder).Get(tx, r.rest)
		return err
	})
	if err == nil && role == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return nil, err
	}
	return viewParams(&role.Token, map[string]any{
		"role_id":               role.RoleID,
		"bind_secret_id":        role.BindSecretID,
		"secret_id_bound_cidrs": showPrefixes(role.BoundCIDRs),
		"bound_cidr_list":       showPrefixes(role.BoundCIDRs),
		"secret_id_num_uses":    role.SecretIDNumUses,
		"secret_id_ttl":         int64(role.SecretIDTTL / time.Second),
		"local_secret_ids":      role.LocalSecretIDs,
	}), nil
}

// showPrefixes is ranges as they are shown where Vault keeps the text; nil for none.
func showPrefixes(list []netip.Prefix) []string {
	var texts []string
	for _, p := range list {
		texts = append(texts, p.String())
	}
	return texts
}

func readAppRole(s *Server, r *request) (answer, error) {
	view, err := viewAppRole(r)
	if err != nil {
		return answer{}, err
	}
	delete(view, "role_id") // has a path, and so a policy, of its own
	delete(view, "bound_cidr_list")
	return answer{data: view}, nil
}

func writeAppRole(s *Server, r *request) (answer, error) { return s.changeAppRole(r, r.Body, true) }

// changeAppRole changes what the body names of a role, or makes the role.
func (s *Server) changeAppRole(r *request, body []byte, create bool) (answer, error) {
	var in struct {
		tokenFields
		RoleID          *string              `json:"role_id"`
		BindSecretID    loose[bool]          `json:"bind_secret_id"`
		BoundCIDRs      loose[[]string]      `json:"secret_id_bound_cidrs"`
		OldCIDRs        loose[[]string]      `json:"bound_cidr_list"`
		SecretIDNumUses loose[int]           `json:"secret_id_num_uses"`
		SecretIDTTL     loose[time.Duration] `json:"secret_id_ttl"`
		LocalSecretIDs  loose[bool]          `json:"local_secret_ids"`
	}
	if err := r.settingsOf(body, &in); err != nil {
		return answer{}, err
	}
	if in.OldCIDRs.given && !in.BoundCIDRs.given {
		in.BoundCIDRs = in.OldCIDRs
	}
	cidrs, err := access.ParseCIDRs(in.BoundCIDRs.value)
	if err != nil {
		return answer{}, err
	}
	var warnings []string
	err = r.updateMethod(func(tx *storage.Tx, folder string) error {
		roles := access.AppRoles(folder)
		role, err := roles.Get(tx, r.rest)
		switch {
		case err != nil:
			return err
		case role == nil && !create:
			return &api.Error{Code: api.NotFound, Text: fmt.Sprintf("role %q does not exist", r.rest)}
		case role == nil:
			role = &access.AppRole{Name: r.rest, RoleID: storage.NewUUID(), BindSecretID: true, LocalSecretIDs: in.LocalSecretIDs.value}
		case in.LocalSecretIDs.given && in.LocalSecretIDs.value != role.LocalSecretIDs:
			return invalid("local_secret_ids can only be modified during role creation")
		}
		set(&role.RoleID, in.RoleID)
		set(&role.BindSecretID, in.BindSecretID.pointer())
		set(&role.SecretIDNumUses, in.SecretIDNumUses.pointer())
		set(&role.SecretIDTTL, in.SecretIDTTL.pointer())
		if in.BoundCIDRs.given {
			role.BoundCIDRs = cidrs
		}
		if warnings, err = in.apply(&role.Token); err != nil {
			return err
		}
		if most := r.Mount.Longest(); role.Token.Period > most {
			return invalid("period of %q is greater than the backend's maximum lease TTL of %q", role.Token.Period, most)
		} else if role.Token.MaxTTL > most {
			warnings = append(warnings, "token_max_ttl is greater than the backend mount's maximum TTL value; issued tokens' max TTL value will be truncated")
		}
		return roles.Put(tx, role)
	})
	if err != nil {
		return answer{}, err
	}
	return answer{warnings: warnings}, nil
}

func deleteAppRole(s *Server, r *request) (answer, error) {
	err := r.updateMethod(func(tx *storage.Tx, folder string) error { return access.AppRoles(folder).Delete(tx, r.rest) })
	r.keep.wakeSweep()
	return answer{}, err
}

func makeSecretID(s *Server, r *request) (answer, error) {
	return s.makeSecretID(r, func(string) string { return storage.NewUUID() })
}

func makeCustomSecretID(s *Server, r *request) (answer, error) {
	return s.makeSecretID(r, func(given string) string { return given })
}

func (s *Server) makeSecretID(r *request, choose func(given string) string) (answer, error) {
	var in struct {
		SecretID   string               `json:"secret_id"`
		Metadata   json.RawMessage      `json:"metadata"`
		CIDRs      loose[[]string]      `json:"cidr_list"`
		TokenCIDRs loose[[]string]      `json:"token_bound_cidrs"`
		NumUses    loose[int]           `json:"num_uses"`
		TTL        loose[time.Duration] `json:"ttl"`
	}
	if err := r.settings(&in); err != nil {
		return answer{}, err
	}
	meta, err := parsePairs(in.Metadata)
	if err != nil {
		return answer{}, err
	}
	id := access.SecretID{Meta: meta}
	if id.BoundCIDRs, err = access.ParseCIDRs(in.CIDRs.value); err != nil {
		return answer{}, err
	}
	if id.TokenCIDRs, err = access.ParseCIDRs(in.TokenCIDRs.value); err != nil {
		return answer{}, err
	}
	secret := choose(in.SecretID)
	now := s.now()
	err = r.updateMethod(func(tx *storage.Tx, folder string) error {
		role, err := r.getAppRole(tx, folder)
		if err != nil {
			return err
		}
		id.NumUses, id.TTL = role.SecretIDNumUses, role.SecretIDTTL
		set(&id.NumUses, in.NumUses.pointer())
		set(&id.TTL, in.TTL.pointer())
		return access.AppRoles(folder).AddSecretID(tx, role, secret, &id, r.Mount.Longest(), now)
	})
	if err != nil {
		return answer{}, err
	}
	return answer{data: map[string]any{
		"secret_id": secret, "secret_id_accessor": id.Accessor, "secret_id_ttl": int64(id.TTL / time.Second), "secret_id_num_uses": id.NumUses,
	}}, nil
}

// parsePairs reads metadata as Vault does: an object, a text that has one, or
// "a=1,b=2".
func parsePairs(b json.RawMessage) (map[string]string, error) {
	text := api.Scalar(b)
	if text == "" || text == "null" {
		return nil, nil
	}
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			return nil, invalid("failed to parse metadata: it is no JSON object")
		}
		meta := make(map[string]string, len(object))
		for k, v := range object {
			meta[k] = api.Scalar(v)
		}
		return meta, nil
	}
	meta := make(map[string]string)
	for pair := range strings.SplitSeq(text, ",") {
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, invalid("failed to parse metadata: it is a JSON object or a list of key=value")
		}
		meta[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	return meta, nil
}

func listSecretIDs(s *Server, r *request) (answer, error) {
	return r.listMethod(func(tx *storage.Tx, folder string) ([]string, error) {
		role, err := r.getAppRole(tx, folder)
		if err != nil {
			return nil, err
		}
		return access.AppRoles(folder).Accessors(tx, role)
	})
}

// findSecretID is the secret ID that the request names, itself or by its
// accessor. Where it is not there the second is an error, as with Vault, the
// first nil.
func (r *request) findSecretID(tx *storage.Tx, folder, secret, accessor string) (*access.AppRole, *access.SecretID, error) {
	byAccessor := strings.Contains(r.route.Path, "secret-id-accessor")
	switch {
	case byAccessor && accessor == "":
		return nil, nil, invalid("missing secret_id_accessor")
	case !byAccessor && secret == "":
		return nil, nil, invalid("missing secret_id")
	}
	role, err := r.getAppRole(tx, folder)
	if err != nil {
		return nil, nil, err
	}
	if !byAccessor {
		id, err := access.AppRoles(folder).SecretID(tx, role, strings.TrimSpace(secret))
		return role, id, err
	}
	id, err := access.AppRoles(folder).ByAccessor(tx, role, accessor)
	if err == nil && id == nil {
		err = &api.Error{Code: api.NotFound, Text: fmt.Sprintf("failed to find accessor entry for secret_id_accessor: %q", accessor)}
	}
	return role, id, err
}

type secretIDInput struct {
	SecretID string `json:"secret_id"`
	Accessor string `json:"secret_id_accessor"`
}

func lookupSecretID(s *Server, r *request) (answer, error) {
	var in secretIDInput
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	var id *access.SecretID
	err := r.viewMethod(func(tx *storage.Tx, folder string) (err error) {
		_, id, err = r.findSecretID(tx, folder, in.SecretID, in.Accessor)
		return err
	})
	if err != nil || id == nil {
		return answer{}, err
	}
	meta := id.Meta
	if meta == nil {
		meta = map[string]string{}
	}
	return answer{data: map[string]any{
		"secret_id_accessor": id.Accessor,
		"secret_id_num_uses": id.NumUses,
		"secret_id_ttl":      int64(id.TTL / time.Second),
		"creation_time":      id.Created,
		"expiration_time":    id.Expires,
		"last_updated_time":  id.Updated,
		"metadata":           meta,
		"cidr_list":          append([]string{}, showPrefixes(id.BoundCIDRs)...),
		"token_bound_cidrs":  append([]string{}, showPrefixes(id.TokenCIDRs)...),
	}}, nil
}

func destroySecretID(s *Server, r *request) (answer, error) {
	var in secretIDInput
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	return answer{}, r.updateMethod(func(tx *storage.Tx, folder string) error {
		role, id, err := r.findSecretID(tx, folder, in.SecretID, in.Accessor)
		if err != nil || id == nil {
			return err
		}
		return access.AppRoles(folder).Destroy(tx, role, id)
	})
}

func loginAppRole(s *Server, r *request) (answer, error) {
	var in struct {
		RoleID   string `json:"role_id"`
		SecretID string `json:"secret_id"`
	}
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	return s.tryLogin(r, strings.TrimSpace(in.RoleID), func() (answer, error) {
		return s.login(r, func(tx *storage.Tx, folder string) (*access.Login, error) {
			return access.AppRoles(folder).Login(tx, in.RoleID, in.SecretID, r.source(), s.now())
		})
	})
}

// tidySecretIDs has the sweep run now, which tidies them, too.
func tidySecretIDs(s *Server, r *request) (answer, error) {
	a, err := tidyTokens(&r.Request, nil)
	return answer{status: a.Status, warnings: a.Warnings}, err
}

// tidyAppRoles deletes the secret IDs of roles that were deleted, and those whose
// time has passed.
func tidyAppRoles(k *keep, folder string) (n int, err error) {
	roles := access.AppRoles(folder)
	var folders, lost []string
	err = k.store.View(k.ctx, func(tx *storage.Tx) (err error) {
		folders, err = roles.Folders(tx)
		return err
	})
	if err == nil {
		err = k.store.View(k.ctx, func(tx *storage.Tx) (err error) {
			lost, err = roles.Lost(tx, folders)
			return err
		})
	}
	if err != nil {
		return 0, err
	}
	for _, path := range lost {
		m, err := deleteFolder(k, path)
		if n += m; err != nil {
			return n, err
		}
	}
	for _, f := range folders {
		var all []string
		err := k.store.View(k.ctx, func(tx *storage.Tx) (err error) {
			all, err = roles.SecretIDs(tx, f)
			return err
		})
		if err != nil {
			return n, err
		}
		for batch := range slices.Chunk(all, purgeBatch) {
			began := time.Now()
			var expired []string
			err := k.store.View(k.ctx, func(tx *storage.Tx) (err error) {
				expired, err = roles.Expired(tx, f, batch, k.now())
				return err
			})
			if errors.Is(err, storage.ErrCorrupt) { // the check of the store reports it
				continue
			}
			if err == nil && len(expired) > 0 {
				n += len(expired)
				err = k.store.Update(k.ctx, func(tx *storage.Tx) error { return roles.Expire(tx, f, expired, k.now()) })
			}
			if err != nil {
				return n, err
			}
			sleep(k.ctx, sweepRest*time.Since(began), nil)
		}
	}
	return n, nil
}

// tidyMethods lets the login methods delete what is of no use any more.
func (s *Server) tidyMethods(k *keep) {
	for _, m := range k.auths.Load().all() {
		tidy := authMethods[m.Type].tidy
		if tidy == nil {
			continue
		}
		n, err := tidy(k, m.Prefix())
		switch {
		case errors.Is(err, context.Canceled):
			return
		case err != nil:
			s.log.Error("tidying a login method failed, will try again", "mount", m.UUID, "error", err)
		case n > 0:
			s.log.Info("deleted what a login method had no use for any more", "mount", m.UUID, "records", n)
		}
	}
}
