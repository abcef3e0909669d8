package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// viewToken is a token as a look-up shows it.
func viewToken(t *access.Token, secret string, now time.Time) map[string]any {
	view := map[string]any{
		"accessor":         t.Accessor,
		"creation_time":    t.Created.Unix(),
		"creation_ttl":     int64(t.TTL / time.Second),
		"display_name":     t.DisplayName,
		"entity_id":        t.EntityID,
		"expire_time":      nil,
		"explicit_max_ttl": int64(t.ExplicitMaxTTL / time.Second),
		"id":               secret,
		"issue_time":       t.Created.Format(time.RFC3339Nano),
		"meta":             t.Meta,
		"num_uses":         t.NumUses,
		"orphan":           t.Orphan,
		"path":             t.Path,
		"policies":         t.Policies,
		"renewable":        t.Renewable,
		"ttl":              api.Left(t, now),
		"type":             t.Type,
	}
	if !t.Expires.IsZero() {
		view["expire_time"] = t.Expires.Format(time.RFC3339Nano)
	}
	if !t.Renewed.IsZero() {
		view["last_renewal"] = t.Renewed.Format(time.RFC3339Nano)
		view["last_renewal_time"] = t.Renewed.Unix()
	}
	if t.Period > 0 {
		view["period"] = int64(t.Period / time.Second)
	}
	if t.Role != "" {
		view["role"] = t.Role
	}
	if len(t.BoundCIDRs) > 0 {
		view["bound_cidrs"] = access.ShowCIDRs(t.BoundCIDRs)
	}
	return view
}

func createToken(s *Server, r *request) (answer, error) { return s.create(r, "create", false, "") }

func createOrphan(s *Server, r *request) (answer, error) {
	return s.create(r, "create-orphan", true, "")
}

func createByRole(s *Server, r *request) (answer, error) {
	return s.create(r, "create/"+r.rest, false, r.rest)
}

// create makes a token for the bearer of another.
func (s *Server) create(r *request, path string, orphan bool, roleName string) (answer, error) {
	var in struct {
		ID              string               `json:"id"`
		Policies        loose[[]string]      `json:"policies"`
		Meta            json.RawMessage      `json:"meta"`
		NoParent        loose[bool]          `json:"no_parent"`
		NoDefaultPolicy loose[bool]          `json:"no_default_policy"`
		Renewable       loose[bool]          `json:"renewable"`
		TTL             loose[time.Duration] `json:"ttl"`
		Lease           loose[time.Duration] `json:"lease"` // Vault's older name
		ExplicitMaxTTL  loose[time.Duration] `json:"explicit_max_ttl"`
		Period          loose[time.Duration] `json:"period"`
		NumUses         loose[int]           `json:"num_uses"`
		DisplayName     string               `json:"display_name"`
		Type            string               `json:"type"`
		EntityAlias     string               `json:"entity_alias"`
	}
	if err := r.settings(&in); err != nil {
		return answer{}, err
	}
	if in.EntityAlias != "" {
		return answer{}, invalid("'entity_alias' is not supported: there are no entities")
	}
	meta, err := parseMeta(in.Meta)
	if err != nil {
		return answer{}, err
	}
	sudo := r.Caller.ACL.Sudo(r.Path)
	q := &access.CreateRequest{
		Path: path, ID: in.ID, Policies: in.Policies.value, NoDefaultPolicy: in.NoDefaultPolicy.value, NoParent: in.NoParent.value,
		Orphan: orphan, NotRenewable: in.Renewable.given && !in.Renewable.value, TTL: in.TTL.value, ExplicitMaxTTL: in.ExplicitMaxTTL.value,
		Period: in.Period.value, NumUses: in.NumUses.value, DisplayName: in.DisplayName, Meta: meta, Type: in.Type,
	}
	if !in.TTL.given {
		q.TTL = in.Lease.value
	}
	if err := q.Check(); err != nil {
		return answer{}, err
	}
	var t *access.Token
	var warnings []string
	var secret string
	now := s.now()
	err = r.keep.store.Update(r.Context, func(tx *storage.Tx) error {
		parent := r.Caller.Token
		if !parent.Limited() { // such a one makes none, and may be gone by now
			if parent, err = access.Lookup(tx, r.Caller.Token.ID(), now); err != nil {
				return err
			}
		}
		var role *access.Role
		if roleName != "" {
			if role, err = access.GetRole(tx, roleName); err != nil {
				return err
			}
			if role == nil {
				return invalid("unknown role %s", roleName)
			}
		}
		if t, warnings, err = access.Derive(parent, role, q, sudo, now); err != nil {
			return err
		}
		secret, err = access.Create(tx, q.ID, t)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	// Policies may be large: they are looked for after the token is made, where no write waits for it.
	missing, err := r.missingPolicies(t.Policies)
	if err != nil {
		s.log.Error("looking for the policies of a new token failed", "accessor", t.Accessor, "request", r.ID, "error", err)
		missing = []string{"It could not be checked whether the policies of the token exist"}
	}
	return answer{auth: api.NewAuth(t, secret, now), warnings: append(warnings, missing...)}, nil
}

// missingPolicies warns of policies that do not exist.
func (r *request) missingPolicies(names []string) (warnings []string, err error) {
	err = r.keep.store.View(r.Context, func(tx *storage.Tx) error {
		for _, name := range names {
			exists, err := access.HasPolicy(tx, name)
			if err != nil {
				return err
			}
			if !exists {
				warnings = append(warnings, fmt.Sprintf("Policy %q does not exist", name))
			}
		}
		return nil
	})
	return warnings, err
}

// parseMeta reads an object of texts, or, as Vault does, a list of "key=value".
func parseMeta(b json.RawMessage) (map[string]string, error) {
	if len(b) == 0 || string(b) == "null" {
		return nil, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b, &object); err != nil {
		return nil, invalid("the field meta must be an object of texts")
	}
	meta := make(map[string]string, len(object))
	for k, v := range object {
		meta[k] = api.Scalar(v)
	}
	return meta, nil
}

func readSelf(s *Server, r *request) (answer, error) {
	return answer{data: viewToken(r.Caller.Token, r.Caller.Bearer, s.now())}, nil
}

// target is what a request about another token says.
type target struct {
	Token     string               `json:"token"`
	Accessor  string               `json:"accessor"`
	Increment loose[time.Duration] `json:"increment"`
}

func (r *request) target() (in target, err error) { return in, r.decode(&in) }

// byAccessor finds the token that the request names.
func (r *request) byAccessor(in target) (*access.Token, error) {
	if in.Accessor == "" {
		return nil, invalid("missing accessor")
	}
	t, err := r.keep.lookupAccessor(r.Context, in.Accessor)
	if errors.Is(err, access.ErrDenied) {
		err = invalid("invalid accessor")
	}
	return t, err
}

// writeLookup looks up the token in the body; without one it is readSelf.
func writeLookup(s *Server, r *request) (answer, error) {
	in, err := r.target()
	if err != nil {
		return answer{}, err
	}
	if in.Token == "" || in.Token == r.Caller.Bearer { // which may just have been used up
		return readSelf(s, r)
	}
	t, err := r.keep.lookup(r.Context, in.Token)
	if errors.Is(err, access.ErrDenied) {
		err = &api.Error{Code: api.Denied, Text: "bad token"}
	}
	if err != nil {
		return answer{}, err
	}
	return answer{data: viewToken(t, in.Token, s.now())}, nil
}

func writeLookupAccessor(s *Server, r *request) (answer, error) {
	in, err := r.target()
	if err != nil {
		return answer{}, err
	}
	t, err := r.byAccessor(in)
	if err != nil {
		return answer{}, err
	}
	return answer{data: viewToken(t, "", s.now())}, nil
}

func listAccessors(s *Server, r *request) (answer, error) {
	var names []string
	err := r.keep.store.View(r.Context, func(tx *storage.Tx) (err error) {
		names, err = access.Accessors(tx)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return answer{data: map[string]any{"keys": names}}, nil
}

func renewToken(s *Server, r *request) (answer, error) {
	in, err := r.target()
	if err != nil {
		return answer{}, err
	}
	if in.Token == "" {
		return answer{}, invalid("missing token ID")
	}
	id, err := r.keep.tokenID(r.Context, in.Token)
	if errors.Is(err, access.ErrDenied) {
		err = invalid("token not found")
	}
	if err != nil {
		return answer{}, err
	}
	return s.renew(r, id, in.Token, in.Increment.value)
}

func renewSelf(s *Server, r *request) (answer, error) {
	in, err := r.target()
	if err != nil {
		return answer{}, err
	}
	return s.renew(r, r.Caller.Token.ID(), r.Caller.Bearer, in.Increment.value)
}

func renewAccessor(s *Server, r *request) (answer, error) {
	in, err := r.target()
	if err != nil {
		return answer{}, err
	}
	t, err := r.byAccessor(in)
	if err != nil {
		return answer{}, err
	}
	return s.renew(r, t.ID(), "", in.Increment.value)
}

// renew lets a token live on, and answers with it and the secret.
func (s *Server) renew(r *request, id access.ID, secret string, increment time.Duration) (answer, error) {
	var t *access.Token
	var warnings []string
	var at time.Time
	var err error
	for {
		var still func(*storage.Tx) error
		if still, err = s.proveAgain(r, id); err == nil {
			err = r.keep.changeToken(r.Context, id, func(tx *storage.Tx, now time.Time) (tree bool, err error) {
				if err := still(tx); err != nil {
					return false, err
				}
				at = now
				t, tree, warnings, err = access.Renew(tx, id, increment, func(t *access.Token) (*access.Login, error) { return s.loginAgain(r, tx, t) }, now)
				return tree, err
			})
		}
		if !errors.Is(err, api.ErrChanged) {
			break
		}
	}
	if errors.Is(err, access.ErrDenied) {
		err = invalid("token not found")
	}
	if err != nil {
		return answer{}, err
	}
	return answer{auth: api.NewAuth(t, secret, at), warnings: warnings}, nil
}

func revokeToken(s *Server, r *request) (answer, error) {
	in, err := r.target()
	if err != nil {
		return answer{}, err
	}
	if in.Token == "" {
		return answer{}, invalid("missing token ID")
	}
	id, err := r.keep.tokenID(r.Context, in.Token)
	if errors.Is(err, access.ErrDenied) { // no token looks like this
		return answer{}, nil
	}
	if err != nil {
		return answer{}, err
	}
	return answer{}, r.revoke(id, access.Revoke)
}

func revokeSelf(s *Server, r *request) (answer, error) {
	return answer{}, r.revoke(r.Caller.Token.ID(), access.Revoke)
}

func revokeAccessor(s *Server, r *request) (answer, error) {
	in, err := r.target()
	if err != nil {
		return answer{}, err
	}
	if in.Accessor == "" {
		return answer{}, invalid("missing accessor")
	}
	t, err := r.keep.lookupAccessor(r.Context, in.Accessor)
	if errors.Is(err, access.ErrDenied) {
		return answer{warnings: []string{"No token found with this accessor"}}, nil
	}
	if err != nil {
		return answer{}, err
	}
	return answer{}, r.revoke(t.ID(), access.Revoke)
}

func revokeOrphan(s *Server, r *request) (answer, error) {
	in, err := r.target()
	if err != nil {
		return answer{}, err
	}
	if in.Token == "" {
		return answer{}, invalid("missing token ID")
	}
	t, err := r.keep.lookup(r.Context, in.Token)
	if errors.Is(err, access.ErrDenied) {
		err = invalid("token to revoke not found")
	}
	if err != nil {
		return answer{}, err
	}
	return answer{}, r.revoke(t.ID(), access.RevokeOrphan)
}

func (r *request) revoke(id access.ID, how func(*storage.Tx, access.ID) (bool, error)) error {
	return r.keep.changeToken(r.Context, id, func(tx *storage.Tx, _ time.Time) (bool, error) { return how(tx, id) })
}

// tidyTokens has the sweep run now.
func tidyTokens(s *Server, r *request) (answer, error) {
	r.keep.wakeSweep()
	return answer{status: http.StatusAccepted, warnings: []string{
		"Tidy operation successfully started. Any information from the operation will be printed to the server's log.",
	}}, nil
}
