package access

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// TokenParams describes the tokens that a login as some role or user makes. The zero
// value is a token with the method's default TTL and the policy default.
type TokenParams struct {
	TTL             time.Duration  `json:"token_ttl,omitempty"`              // 0: the method's
	MaxTTL          time.Duration  `json:"token_max_ttl,omitempty"`          // 0: the method's
	ExplicitMaxTTL  time.Duration  `json:"token_explicit_max_ttl,omitempty"` // 0: none
	Period          time.Duration  `json:"token_period,omitempty"`           // 0: not periodic
	Policies        []string       `json:"token_policies,omitempty"`
	NoDefaultPolicy bool           `json:"token_no_default_policy,omitempty"`
	NumUses         int            `json:"token_num_uses,omitempty"`    // 0: no limit
	BoundCIDRs      []netip.Prefix `json:"token_bound_cidrs,omitempty"` // empty: any source
	Type            string         `json:"token_type,omitempty"`        // "": default
}

// Check returns what is wrong with the parameters as [ErrInvalid], with Vault's texts.
// It makes the names of the policies canonical.
func (p *TokenParams) Check() error {
	p.Policies = CanonicalNames(p.Policies)
	if err := checkNames("policy", p.Policies); err != nil {
		return err
	}
	switch {
	case p.TTL < 0:
		return mistake("'token_ttl' cannot be negative")
	case p.MaxTTL < 0:
		return mistake("'token_max_ttl' cannot be negative")
	case p.ExplicitMaxTTL < 0:
		return mistake("'token_explicit_max_ttl' cannot be negative")
	case p.Period < 0:
		return mistake("'token_period' cannot be negative")
	case p.NumUses < 0:
		return mistake("'token_num_uses' cannot be negative")
	case p.MaxTTL > 0 && p.TTL > p.MaxTTL:
		return mistake("'token_ttl' cannot be greater than 'token_max_ttl'")
	case len(p.Policies) > maxPolicies:
		return mistake("a token has at most %d policies", maxPolicies)
	}
	if slices.Contains(cleanPolicies(p.Policies, false), WrappingPolicy) {
		return mistake("cannot assign policy %q", WrappingPolicy)
	}
	switch p.Type {
	case "", "default", serviceType, "default-service":
	case "batch", "default-batch":
		return mistake("batch tokens are not supported: token_type is default, service or default-service")
	default:
		return mistake("invalid 'token_type' value %q", p.Type)
	}
	return nil
}

// Same reports whether tokens with these parameters have these policies.
func (p *TokenParams) Same(policies []string) bool {
	return slices.Equal(cleanPolicies(p.Policies, !p.NoDefaultPolicy), policies)
}

const maxCIDRs = 256

// ParseCIDRs reads ranges of addresses like 10.0.0.0/8, and single addresses.
func ParseCIDRs(texts []string) ([]netip.Prefix, error) {
	if len(texts) > maxCIDRs {
		return nil, mistake("at most %d ranges of addresses are accepted", maxCIDRs)
	}
	var list []netip.Prefix
	for _, text := range texts {
		text = strings.TrimSpace(text)
		p, err := netip.ParsePrefix(text)
		if err != nil {
			addr, err := netip.ParseAddr(text)
			if err != nil || addr.Zone() != "" {
				return nil, mistake("%q is neither an IP address nor a range like 10.0.0.0/8", text)
			}
			p = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		list = append(list, p.Masked())
	}
	return list, nil
}

// ShowCIDRs returns the ranges as Vault shows them: single addresses without a length.
func ShowCIDRs(list []netip.Prefix) []string {
	texts := make([]string, len(list))
	for i, p := range list {
		if texts[i] = p.String(); p.IsSingleIP() {
			texts[i] = p.Addr().String()
		}
	}
	return texts
}

// Within reports whether the address is in one of the ranges. An empty list contains
// every address; the zero Addr, of a client without an address, is in no range.
func Within(list []netip.Prefix, addr netip.Addr) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// A Login is somebody whom a login method has authenticated.
type Login struct {
	Method       string        // the UUID under which the method was enabled
	DefaultTTL   time.Duration // of the method; 0: the keep's
	MaxTTL       time.Duration // of the method; 0: the keep's
	Path         string        // the API path of the login
	DisplayName  string
	Name         string // of the role or user, whose parameters at that time count for a renewal
	Params       TokenParams
	Meta         map[string]string
	Certificate  string // SHA-256, in hex, of the certificate needed to renew it; "": none
	NotRenewable bool
}

// Token computes the token of a login: an orphan. [Create] then writes it. The
// errors are [ErrInvalid].
func (l *Login) Token(now time.Time) (t *Token, warnings []string, err error) {
	t = &Token{
		DisplayName: strings.Trim(notInName.ReplaceAllString(l.DisplayName, "-"), "-"), Path: l.Path, Type: serviceType, Created: now.UTC(),
		Policies: cleanPolicies(l.Params.Policies, !l.Params.NoDefaultPolicy), Orphan: true, Renewable: !l.NotRenewable, NumUses: l.Params.NumUses,
		BoundCIDRs: l.Params.BoundCIDRs, Meta: l.Meta, Method: l.Method, Login: l.Name, Certificate: l.Certificate,
	}
	if t.Root() {
		return nil, nil, mistake("auth methods cannot create root tokens")
	}
	if err := t.checkSize(); err != nil {
		return nil, nil, err
	}
	l.limit(t)
	t.TTL, warnings = t.span(0, now)
	t.Expires = t.Created.Add(t.TTL)
	return t, warnings, nil
}

// Passing is the token of a login for one request, which is stored nowhere. id is what
// limits of tokens know it by.
func (l *Login) Passing(now time.Time, id ID) (*Token, error) {
	t, _, err := l.Token(now)
	if err != nil {
		return nil, err
	}
	t.id, t.Renewable, t.until = id, false, t.Expires
	return t, nil
}

// limit sets the TTLs of the token to those of the login.
func (l *Login) limit(t *Token) {
	t.TTL, t.MaxTTL = l.Params.TTL, l.Params.MaxTTL
	if t.TTL == 0 {
		t.TTL = l.DefaultTTL
	}
	if l.MaxTTL > 0 && (t.MaxTTL == 0 || l.MaxTTL < t.MaxTTL) {
		t.MaxTTL = l.MaxTTL
	}
	t.ExplicitMaxTTL, t.Period = l.Params.ExplicitMaxTTL, l.Params.Period
}

// methodFolder holds a mark for each login method. Without its mark, the tokens of
// the method do not work.
const methodFolder = "access/method"

// EnableMethod lets the tokens of a login method work.
func EnableMethod(tx *storage.Tx, uuid string) error {
	if err := tx.Put(methodFolder+"/"+uuid, []byte(`{"version":1}`)); err != nil {
		return fmt.Errorf("writing a login method: %w", err)
	}
	return nil
}

// DisableMethod ends the tokens of a login method and all their descendants. It costs
// the same for any number of them; [Stale] and [Tidy] delete them afterwards.
func DisableMethod(tx *storage.Tx, uuid string) error {
	if err := tx.Delete(methodFolder + "/" + uuid); err != nil {
		return fmt.Errorf("deleting a login method: %w", err)
	}
	return nil
}

// MethodEnabled reports whether the login method is enabled.
func MethodEnabled(tx *storage.Tx, uuid string) (bool, error) {
	value, err := tx.Get(methodFolder + "/" + uuid)
	if err != nil {
		return false, fmt.Errorf("reading a login method: %w", err)
	}
	return value != nil, nil
}
