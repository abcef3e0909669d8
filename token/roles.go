package token

import (
	"errors"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

func roleExists(r *api.Request, tx *storage.Tx) (bool, error) {
	role, err := access.GetRole(tx, r.Param("name"))
	return role != nil, err
}

func listRoles(_ *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	return api.Keys(access.ListRoles(tx))
}

func readRole(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	role, err := access.GetRole(tx, r.Param("name"))
	if err == nil && role == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: viewRole(role)}, nil
}

func viewRole(role *access.Role) map[string]any {
	seconds := func(d time.Duration) int64 { return int64(d / time.Second) }
	texts := func(list []string) []string { return append([]string{}, list...) } // [], never null
	return map[string]any{
		"allowed_entity_aliases":   nil,
		"allowed_policies":         texts(role.AllowedPolicies),
		"allowed_policies_glob":    texts(role.AllowedPoliciesGlob),
		"disallowed_policies":      texts(role.DisallowedPolicies),
		"disallowed_policies_glob": texts(role.DisallowedPoliciesGlob),
		"explicit_max_ttl":         seconds(role.ExplicitMaxTTL),
		"name":                     role.Name,
		"orphan":                   role.Orphan,
		"path_suffix":              role.PathSuffix,
		"period":                   seconds(role.Period),
		"renewable":                role.Renewable,
		"token_bound_cidrs":        access.ShowCIDRs(role.BoundCIDRs),
		"token_explicit_max_ttl":   seconds(role.ExplicitMaxTTL),
		"token_no_default_policy":  role.NoDefaultPolicy,
		"token_num_uses":           role.NumUses,
		"token_period":             seconds(role.Period),
		"token_type":               role.Type,
	}
}

// roleInput is a change of a role; what is nil stays as it is.
type roleInput struct {
	AllowedPolicies        *[]string      `json:"allowed_policies"`
	AllowedPoliciesGlob    *[]string      `json:"allowed_policies_glob"`
	DisallowedPolicies     *[]string      `json:"disallowed_policies"`
	DisallowedPoliciesGlob *[]string      `json:"disallowed_policies_glob"`
	Orphan                 *bool          `json:"orphan"`
	Renewable              *bool          `json:"renewable"`
	PathSuffix             *string        `json:"path_suffix"`
	OldExplicitMaxTTL      *time.Duration `json:"explicit_max_ttl"` // Vault's older names
	OldPeriod              *time.Duration `json:"period"`
	OldCIDRs               *[]string      `json:"bound_cidrs"`
	ExplicitMaxTTL         *time.Duration `json:"token_explicit_max_ttl"`
	Period                 *time.Duration `json:"token_period"`
	CIDRs                  *[]string      `json:"token_bound_cidrs"`
	NumUses                *int           `json:"token_num_uses"`
	NoDefaultPolicy        *bool          `json:"token_no_default_policy"`
	Type                   *string        `json:"token_type"`
	EntityAliases          []string       `json:"allowed_entity_aliases"`
}

func writeRole(r *api.Request, tx *storage.Tx, in *roleInput) (a api.Answer, err error) {
	if len(in.EntityAliases) > 0 { // what would widen what a token may do is not ignored
		return a, api.Invalid.Errorf("allowed_entity_aliases is not supported: there are no entities")
	}
	if in.Type != nil {
		switch *in.Type {
		case "", "default", "default-service", "service":
		case "batch", "default-batch":
			return a, api.Invalid.Errorf("batch tokens are not supported: token_type is service or default-service")
		default:
			return a, api.Invalid.Errorf("invalid 'token_type' value %q", *in.Type)
		}
	}
	role, err := access.GetRole(tx, r.Param("name"))
	if err != nil && !errors.Is(err, storage.ErrCorrupt) {
		return a, err
	}
	if role == nil {
		role = &access.Role{Name: r.Param("name"), Renewable: true, Type: "default-service"}
	}
	api.Set(&role.AllowedPolicies, in.AllowedPolicies)
	api.Set(&role.AllowedPoliciesGlob, in.AllowedPoliciesGlob)
	api.Set(&role.DisallowedPolicies, in.DisallowedPolicies)
	api.Set(&role.DisallowedPoliciesGlob, in.DisallowedPoliciesGlob)
	api.Set(&role.Orphan, in.Orphan)
	api.Set(&role.Renewable, in.Renewable)
	api.Set(&role.Period, newer(&a, "period", in.Period, in.OldPeriod))
	api.Set(&role.ExplicitMaxTTL, newer(&a, "explicit_max_ttl", in.ExplicitMaxTTL, in.OldExplicitMaxTTL))
	api.Set(&role.NumUses, in.NumUses)
	api.Set(&role.NoDefaultPolicy, in.NoDefaultPolicy)
	api.Set(&role.PathSuffix, in.PathSuffix)
	if cidrs := newer(&a, "bound_cidrs", in.CIDRs, in.OldCIDRs); cidrs != nil {
		if role.BoundCIDRs, err = access.ParseCIDRs(*cidrs); err != nil {
			return api.Answer{}, err
		}
	}
	if in.Type != nil {
		role.Type = "default-service"
		if *in.Type == "service" {
			role.Type = *in.Type
		}
	}
	return a, access.PutRole(tx, role)
}

// newer is a field under Vault's newer name or, where that is not given, its older.
func newer[T any](a *api.Answer, name string, field, old *T) *T {
	if field == nil {
		return old
	}
	if old != nil {
		a.Warnings = append(a.Warnings, "Both 'token_"+name+"' and deprecated '"+name+"' value supplied, ignoring the deprecated value")
	}
	return field
}

func deleteRole(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	return api.Answer{}, access.DeleteRole(tx, r.Param("name"))
}
