package server

import (
	"errors"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

func listRoles(s *Server, r *request) (answer, error) {
	var names []string
	err := r.keep.store.View(r.Context, func(tx *storage.Tx) (err error) {
		names, err = access.ListRoles(tx)
		return err
	})
	if err == nil && len(names) == 0 {
		err = api.ErrAbsent
	}
	if err != nil {
		return answer{}, err
	}
	return answer{data: map[string]any{"keys": names}}, nil
}

func readRole(s *Server, r *request) (answer, error) {
	var role *access.Role
	err := r.keep.store.View(r.Context, func(tx *storage.Tx) (err error) {
		role, err = access.GetRole(tx, r.rest)
		return err
	})
	if err == nil && role == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return answer{}, err
	}
	seconds := func(d time.Duration) int64 { return int64(d / time.Second) }
	texts := func(list []string) []string { return append([]string{}, list...) } // [], never null
	return answer{data: map[string]any{
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
	}}, nil
}

// writeRole writes a role; what the request does not name stays as it is.
func writeRole(s *Server, r *request) (answer, error) {
	var in struct {
		AllowedPolicies        loose[[]string]      `json:"allowed_policies"`
		AllowedPoliciesGlob    loose[[]string]      `json:"allowed_policies_glob"`
		DisallowedPolicies     loose[[]string]      `json:"disallowed_policies"`
		DisallowedPoliciesGlob loose[[]string]      `json:"disallowed_policies_glob"`
		Orphan                 loose[bool]          `json:"orphan"`
		Renewable              loose[bool]          `json:"renewable"`
		PathSuffix             *string              `json:"path_suffix"`
		OldExplicitMaxTTL      loose[time.Duration] `json:"explicit_max_ttl"` // Vault's older names
		OldPeriod              loose[time.Duration] `json:"period"`
		ExplicitMaxTTL         loose[time.Duration] `json:"token_explicit_max_ttl"`
		Period                 loose[time.Duration] `json:"token_period"`
		NumUses                loose[int]           `json:"token_num_uses"`
		NoDefaultPolicy        loose[bool]          `json:"token_no_default_policy"`
		Type                   *string              `json:"token_type"`
		EntityAliases          loose[[]string]      `json:"allowed_entity_aliases"`
		CIDRs                  loose[[]string]      `json:"token_bound_cidrs"`
		OldCIDRs               loose[[]string]      `json:"bound_cidrs"`
	}
	if err := r.settings(&in); err != nil {
		return answer{}, err
	}
	if len(in.EntityAliases.value) > 0 { // what would widen what a token may do is not ignored
		return answer{}, invalid("allowed_entity_aliases is not supported: there are no entities")
	}
	kind := "default-service"
	if in.Type != nil {
		switch *in.Type {
		case "", "default", "default-service":
		case "service":
			kind = *in.Type
		case "batch", "default-batch":
			return answer{}, invalid("batch tokens are not supported: token_type is service or default-service")
		default:
			return answer{}, invalid("invalid 'token_type' value %q", *in.Type)
		}
	}
	var warnings []string
	prefer(&warnings, "period", &in.Period, &in.OldPeriod)
	prefer(&warnings, "explicit_max_ttl", &in.ExplicitMaxTTL, &in.OldExplicitMaxTTL)
	prefer(&warnings, "bound_cidrs", &in.CIDRs, &in.OldCIDRs)
	cidrs, err := access.ParseCIDRs(in.CIDRs.value)
	if err != nil {
		return answer{}, err
	}
	err = r.keep.store.Update(r.Context, func(tx *storage.Tx) error {
		role, err := access.GetRole(tx, r.rest)
		if err != nil && !errors.Is(err, storage.ErrCorrupt) {
			return err
		}
		if role == nil {
			role = &access.Role{Name: r.rest, Renewable: true, Type: "default-service"}
		}
		set(&role.AllowedPolicies, in.AllowedPolicies.pointer())
		set(&role.AllowedPoliciesGlob, in.AllowedPoliciesGlob.pointer())
		set(&role.DisallowedPolicies, in.DisallowedPolicies.pointer())
		set(&role.DisallowedPoliciesGlob, in.DisallowedPoliciesGlob.pointer())
		set(&role.Orphan, in.Orphan.pointer())
		set(&role.Renewable, in.Renewable.pointer())
		set(&role.ExplicitMaxTTL, in.ExplicitMaxTTL.pointer())
		set(&role.Period, in.Period.pointer())
		set(&role.NumUses, in.NumUses.pointer())
		set(&role.NoDefaultPolicy, in.NoDefaultPolicy.pointer())
		set(&role.PathSuffix, in.PathSuffix)
		if in.CIDRs.given {
			role.BoundCIDRs = cidrs
		}
		if in.Type != nil {
			role.Type = kind
		}
		if err := r.mayWrite(tx); err != nil { // again: another may have been quicker
			return err
		}
		return access.PutRole(tx, role)
	})
	if err != nil {
		return answer{}, err
	}
	return answer{warnings: warnings}, nil
}

func deleteRole(s *Server, r *request) (answer, error) {
	return answer{}, r.keep.store.Update(r.Context, func(tx *storage.Tx) error { return access.DeleteRole(tx, r.rest) })
}
