package token

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/storage"
)

var (
	errNoTokenID   = api.Invalid.Errorf("missing token ID")
	errTokenAbsent = api.Invalid.Errorf("token not found")
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

// exampleToken is a look-up of a token that has everything, but no end: its time is
// null then.
func exampleToken() map[string]any {
	at := time.Unix(1, 0)
	return viewToken(&access.Token{Renewed: at, Period: time.Hour, Role: "r", BoundCIDRs: make([]netip.Prefix, 1)}, "", at)
}

// createInput is what a new token is asked to be.
type createInput struct {
	ID              string            `json:"id"`
	Policies        []string          `json:"policies"`
	Meta            map[string]string `json:"meta"`
	NoParent        bool              `json:"no_parent"`
	NoDefaultPolicy bool              `json:"no_default_policy"`
	Renewable       *bool             `json:"renewable"`
	TTL             *time.Duration    `json:"ttl"`
	Lease           time.Duration     `json:"lease"` // Vault's older name
	ExplicitMaxTTL  time.Duration     `json:"explicit_max_ttl"`
	Period          time.Duration     `json:"period"`
	NumUses         int               `json:"num_uses"`
	DisplayName     string            `json:"display_name"`
	Type            string            `json:"type"`
	EntityAlias     string            `json:"entity_alias"`
}

func createToken(r *api.Request, in *createInput) (api.Answer, error) {
	return create(r, in, "create", false, "")
}

func createOrphan(r *api.Request, in *createInput) (api.Answer, error) {
	return create(r, in, "create-orphan", true, "")
}

func createByRole(r *api.Request, in *createInput) (api.Answer, error) {
	role := r.Param("name")
	return create(r, in, "create/"+role, false, role)
}

// create makes a token for the bearer of another.
func create(r *api.Request, in *createInput, path string, orphan bool, roleName string) (api.Answer, error) {
	if in.EntityAlias != "" {
		return api.Answer{}, api.Invalid.Errorf("'entity_alias' is not supported: there are no entities")
	}
	sudo := r.Caller.ACL.Sudo(r.Path)
	q := &access.CreateRequest{
		Path: path, ID: in.ID, Policies: in.Policies, NoDefaultPolicy: in.NoDefaultPolicy, NoParent: in.NoParent,
		Orphan: orphan, NotRenewable: in.Renewable != nil && !*in.Renewable, TTL: in.Lease, ExplicitMaxTTL: in.ExplicitMaxTTL,
		Period: in.Period, NumUses: in.NumUses, DisplayName: in.DisplayName, Meta: in.Meta, Type: in.Type,
	}
	if in.TTL != nil {
		q.TTL = *in.TTL
	}
	if err := q.Check(); err != nil {
		return api.Answer{}, err
	}
	var t *access.Token
	var warnings []string
	var secret string
	err := r.Update(func(tx *storage.Tx) (err error) {
		parent := r.Caller.Token
		if !parent.Limited() { // a limited one makes none, and may be gone by now
			if parent, err = access.Lookup(tx, parent.ID(), r.Now); err != nil {
				return err
			}
		}
		var role *access.Role
		if roleName != "" {
			if role, err = access.GetRole(tx, roleName); err != nil {
				return err
			}
			if role == nil {
				return api.Invalid.Errorf("unknown role %s", roleName)
			}
		}
		if t, warnings, err = access.Derive(parent, role, q, sudo, r.Now); err != nil {
			return err
		}
		secret, err = access.Create(tx, q.ID, t)
		return err
	})
	if err != nil {
		return api.Answer{}, err
	}
	// Policies may be large: they are looked for after the token is made, where no write waits for it.
	missing, err := missingPolicies(r, t.Policies)
	if err != nil {
		r.Frame.Log().Error("looking for the policies of a new token failed", "accessor", t.Accessor, "request", r.ID, "error", err)
		missing = []string{"It could not be checked whether the policies of the token exist"}
	}
	return api.Answer{Auth: api.NewAuth(t, secret, r.Now), Warnings: append(warnings, missing...)}, nil
}

// missingPolicies warns of policies that do not exist.
func missingPolicies(r *api.Request, names []string) (warnings []string, err error) {
	err = r.View(func(tx *storage.Tx) error {
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

// readSelf shows the caller's own token.
func readSelf(r *api.Request, _ *api.None) (api.Answer, error) {
	return api.Answer{Data: viewToken(r.Caller.Token, r.Caller.Bearer, r.Now)}, nil
}

// targetInput names the token that a request is about.
type targetInput struct {
	Token     string        `json:"token"`
	Accessor  string        `json:"accessor"`
	Increment time.Duration `json:"increment"`
}

// byAccessor finds the token that the request names.
func (in *targetInput) byAccessor(r *api.Request) (*access.Token, error) {
	if in.Accessor == "" {
		return nil, api.Invalid.Errorf("missing accessor")
	}
	t, err := keep.Of(r).LookupAccessor(r.Context, in.Accessor)
	if errors.Is(err, access.ErrDenied) {
		err = api.Invalid.Errorf("invalid accessor")
	}
	return t, err
}

// lookupToken shows the token in the body; without one it is readSelf.
func lookupToken(r *api.Request, in *targetInput) (api.Answer, error) {
	if in.Token == "" || in.Token == r.Caller.Bearer { // which may just have been used up
		return readSelf(r, nil)
	}
	t, err := keep.Of(r).Lookup(r.Context, in.Token)
	if errors.Is(err, access.ErrDenied) {
		err = api.Denied.Errorf("bad token")
	}
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: viewToken(t, in.Token, r.Now)}, nil
}

func lookupAccessor(r *api.Request, in *targetInput) (api.Answer, error) {
	t, err := in.byAccessor(r)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: viewToken(t, "", r.Now)}, nil
}

func listAccessors(_ *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	names, err := access.Accessors(tx)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: api.Names{Keys: names}}, nil
}

func renewToken(r *api.Request, in *targetInput) (api.Answer, error) {
	if in.Token == "" {
		return api.Answer{}, errNoTokenID
	}
	id, err := keep.Of(r).TokenID(r.Context, in.Token)
	if errors.Is(err, access.ErrDenied) {
		err = errTokenAbsent
	}
	if err != nil {
		return api.Answer{}, err
	}
	return renew(r, id, in.Token, in.Increment)
}

func renewSelf(r *api.Request, in *targetInput) (api.Answer, error) {
	return renew(r, r.Caller.Token.ID(), r.Caller.Bearer, in.Increment)
}

func renewAccessor(r *api.Request, in *targetInput) (api.Answer, error) {
	t, err := in.byAccessor(r)
	if err != nil {
		return api.Answer{}, err
	}
	return renew(r, t.ID(), "", in.Increment)
}

// renew lets a token live on, and answers with it and the secret.
func renew(r *api.Request, id access.ID, secret string, increment time.Duration) (api.Answer, error) {
	var t *access.Token
	var warnings []string
	var at time.Time
	var err error
	for {
		var still func(*storage.Tx) error
		if still, err = proveAgain(r, id); err == nil {
			err = keep.Of(r).ChangeToken(r.Context, id, func(tx *storage.Tx, now time.Time) (tree bool, err error) {
				if err := still(tx); err != nil {
					return false, err
				}
				at = now
				t, tree, warnings, err = access.Renew(tx, id, increment, func(t *access.Token) (*access.Login, error) { return loginAgain(r, tx, t) }, now)
				return tree, err
			})
		}
		if !errors.Is(err, api.ErrChanged) {
			break
		}
	}
	if errors.Is(err, access.ErrDenied) {
		err = errTokenAbsent
	}
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Auth: api.NewAuth(t, secret, at), Warnings: warnings}, nil
}

func revokeToken(r *api.Request, in *targetInput) (api.Answer, error) {
	if in.Token == "" {
		return api.Answer{}, errNoTokenID
	}
	id, err := keep.Of(r).TokenID(r.Context, in.Token)
	if errors.Is(err, access.ErrDenied) { // no token looks like this
		return api.Answer{}, nil
	}
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{}, revoke(r, id, access.Revoke)
}

func revokeSelf(r *api.Request, _ *api.None) (api.Answer, error) {
	return api.Answer{}, revoke(r, r.Caller.Token.ID(), access.Revoke)
}

func revokeAccessor(r *api.Request, in *targetInput) (api.Answer, error) {
	if in.Accessor == "" {
		return api.Answer{}, api.Invalid.Errorf("missing accessor")
	}
	t, err := keep.Of(r).LookupAccessor(r.Context, in.Accessor)
	if errors.Is(err, access.ErrDenied) {
		return api.Answer{Warnings: []string{"No token found with this accessor"}}, nil
	}
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{}, revoke(r, t.ID(), access.Revoke)
}

func revokeOrphan(r *api.Request, in *targetInput) (api.Answer, error) {
	if in.Token == "" {
		return api.Answer{}, errNoTokenID
	}
	t, err := keep.Of(r).Lookup(r.Context, in.Token)
	if errors.Is(err, access.ErrDenied) {
		err = api.Invalid.Errorf("token to revoke not found")
	}
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{}, revoke(r, t.ID(), access.RevokeOrphan)
}

func revoke(r *api.Request, id access.ID, how func(*storage.Tx, access.ID) (bool, error)) error {
	return keep.Of(r).ChangeToken(r.Context, id, func(tx *storage.Tx, _ time.Time) (bool, error) { return how(tx, id) })
}

// tidyTokens has the sweep run now.
func tidyTokens(r *api.Request, _ *api.None) (api.Answer, error) {
	r.Frame.Tidy()
	return api.Answer{Status: http.StatusAccepted, Warnings: []string{
		"Tidy operation successfully started. Any information from the operation will be printed to the server's log.",
	}}, nil
}
