package server

import (
	"net/netip"
	"time"

	"github.com/sealkeep/sealkeep/access"
)

// tokenFields are what a role or user of a login method says of its tokens, as
// requests have it, with Vault's older names. It is embedded in their bodies.
type tokenFields struct {
	TTL             loose[time.Duration] `json:"token_ttl"`
	MaxTTL          loose[time.Duration] `json:"token_max_ttl"`
	ExplicitMaxTTL  loose[time.Duration] `json:"token_explicit_max_ttl"`
	Period          loose[time.Duration] `json:"token_period"`
	Policies        loose[[]string]      `json:"token_policies"`
	NoDefaultPolicy loose[bool]          `json:"token_no_default_policy"`
	NumUses         loose[int]           `json:"token_num_uses"`
	BoundCIDRs      loose[[]string]      `json:"token_bound_cidrs"`
	Type            *string              `json:"token_type"`
	BindIP          loose[bool]          `json:"token_strictly_bind_ip"`

	OldTTL        loose[time.Duration] `json:"ttl"`
	OldMaxTTL     loose[time.Duration] `json:"max_ttl"`
	OldPeriod     loose[time.Duration] `json:"period"`
	OldPolicies   loose[[]string]      `json:"policies"`
	OldNumUses    loose[int]           `json:"num_uses"`
	OldBoundCIDRs loose[[]string]      `json:"bound_cidrs"`
}

// apply changes what the request names. After an error p is of no use.
func (in *tokenFields) apply(p *access.TokenParams) (warnings []string, err error) {
	if in.BindIP.value { // it would limit what the token may do
		return nil, invalid("token_strictly_bind_ip is not supported: use token_bound_cidrs")
	}
	prefer(&warnings, "ttl", &in.TTL, &in.OldTTL)
	prefer(&warnings, "max_ttl", &in.MaxTTL, &in.OldMaxTTL)
	prefer(&warnings, "period", &in.Period, &in.OldPeriod)
	prefer(&warnings, "policies", &in.Policies, &in.OldPolicies)
	prefer(&warnings, "num_uses", &in.NumUses, &in.OldNumUses)
	prefer(&warnings, "bound_cidrs", &in.BoundCIDRs, &in.OldBoundCIDRs)
	set(&p.TTL, in.TTL.pointer())
	set(&p.MaxTTL, in.MaxTTL.pointer())
	set(&p.ExplicitMaxTTL, in.ExplicitMaxTTL.pointer())
	set(&p.Period, in.Period.pointer())
	set(&p.Policies, in.Policies.pointer())
	set(&p.NoDefaultPolicy, in.NoDefaultPolicy.pointer())
	set(&p.NumUses, in.NumUses.pointer())
	set(&p.Type, in.Type)
	if in.BoundCIDRs.given {
		if p.BoundCIDRs, err = access.ParseCIDRs(in.BoundCIDRs.value); err != nil {
			return nil, err
		}
	}
	return warnings, p.Check()
}

// prefer lets the older name of a field count where the new one is not given.
func prefer[T any](warnings *[]string, name string, field, old *loose[T]) {
	if field.given && old.given {
		*warnings = append(*warnings, "Both 'token_"+name+"' and deprecated '"+name+"' value supplied, ignoring the deprecated value")
	} else if old.given {
		*field = *old
	}
}

// viewParams adds the parameters to what is shown of a role or user.
func viewParams(p *access.TokenParams, view map[string]any) map[string]any {
	seconds := func(d time.Duration) int64 { return int64(d / time.Second) }
	view["token_ttl"] = seconds(p.TTL)
	view["token_max_ttl"] = seconds(p.MaxTTL)
	view["token_explicit_max_ttl"] = seconds(p.ExplicitMaxTTL)
	view["token_period"] = seconds(p.Period)
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

// source is the address that the request comes from; the zero Addr where a client
// has none, as on a unix socket.
func (r *request) source() netip.Addr {
	from, err := netip.ParseAddrPort(r.http.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap().WithZone("")
}
