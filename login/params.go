package login

import (
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
)

// TokenFields are what a role or user says of its tokens, as requests have it, with
// Vault's older names. It is embedded in what a handler takes.
type TokenFields struct {
	TTL             *time.Duration `json:"token_ttl"`
	MaxTTL          *time.Duration `json:"token_max_ttl"`
	ExplicitMaxTTL  *time.Duration `json:"token_explicit_max_ttl"`
	Period          *time.Duration `json:"token_period"`
	Policies        *[]string      `json:"token_policies"`
	NoDefaultPolicy *bool          `json:"token_no_default_policy"`
	NumUses         *int           `json:"token_num_uses"`
	BoundCIDRs      *[]string      `json:"token_bound_cidrs"`
	Type            *string        `json:"token_type"`
	BindIP          bool           `json:"token_strictly_bind_ip"`

	OldTTL        *time.Duration `json:"ttl"`
	OldMaxTTL     *time.Duration `json:"max_ttl"`
	OldPeriod     *time.Duration `json:"period"`
	OldPolicies   *[]string      `json:"policies"`
	OldNumUses    *int           `json:"num_uses"`
	OldBoundCIDRs *[]string      `json:"bound_cidrs"`
}

// Apply changes what the request names. After an error p is of no use.
func (in *TokenFields) Apply(p *access.TokenParams) (warnings []string, err error) {
	if in.BindIP { // it would limit what the token may do
		return nil, api.Invalid.Errorf("token_strictly_bind_ip is not supported: use token_bound_cidrs")
	}
	api.Set(&p.TTL, Prefer(&warnings, "ttl", in.TTL, in.OldTTL))
	api.Set(&p.MaxTTL, Prefer(&warnings, "max_ttl", in.MaxTTL, in.OldMaxTTL))
	api.Set(&p.ExplicitMaxTTL, in.ExplicitMaxTTL)
	api.Set(&p.Period, Prefer(&warnings, "period", in.Period, in.OldPeriod))
	api.Set(&p.Policies, Prefer(&warnings, "policies", in.Policies, in.OldPolicies))
	api.Set(&p.NoDefaultPolicy, in.NoDefaultPolicy)
	api.Set(&p.NumUses, Prefer(&warnings, "num_uses", in.NumUses, in.OldNumUses))
	api.Set(&p.Type, in.Type)
	if cidrs := Prefer(&warnings, "bound_cidrs", in.BoundCIDRs, in.OldBoundCIDRs); cidrs != nil {
		if p.BoundCIDRs, err = access.ParseCIDRs(*cidrs); err != nil {
			return nil, err
		}
	}
	return warnings, p.Check()
}

// Prefer lets the older name of a field count where the new one, with token_ before
// it, is not given.
func Prefer[T any](warnings *[]string, name string, field, old *T) *T {
	switch {
	case old == nil:
		return field
	case field == nil:
		return old
	}
	*warnings = append(*warnings, "Both 'token_"+name+"' and deprecated '"+name+"' value supplied, ignoring the deprecated value")
	return field
}

// ViewParams adds the parameters to what is shown of a role or user.
func ViewParams(p *access.TokenParams, view map[string]any) map[string]any {
	view["token_ttl"] = Seconds(p.TTL)
	view["token_max_ttl"] = Seconds(p.MaxTTL)
	view["token_explicit_max_ttl"] = Seconds(p.ExplicitMaxTTL)
	view["token_period"] = Seconds(p.Period)
	view["token_policies"] = append([]string{}, p.Policies...)
	view["token_no_default_policy"] = p.NoDefaultPolicy
	view["token_num_uses"] = p.NumUses
	view["token_bound_cidrs"] = access.ShowCIDRs(p.BoundCIDRs)
	view["token_type"] = "default"
	if p.Type != "" {
		view["token_type"] = p.Type
	}
	return view
}

// Seconds is a duration as Vault shows it.
func Seconds(d time.Duration) int64 { return int64(d / time.Second) }
