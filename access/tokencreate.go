package access

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// The default and the maximum lifetime of a token: 32 days, as in Vault.
const (
	DefaultTTL = 768 * time.Hour
	SystemMax  = 768 * time.Hour
)

// A CreateRequest is a request for a new token.
type CreateRequest struct {
	Path            string // below auth/token/: "create", "create-orphan", "create/<role>"
	ID              string // a chosen token; "": random
	Policies        []string
	NoDefaultPolicy bool
	NoParent        bool // takes sudo
	Orphan          bool // the path makes orphans
	NotRenewable    bool
	TTL             time.Duration
	ExplicitMaxTTL  time.Duration
	Period          time.Duration // takes sudo
	NumUses         int
	DisplayName     string
	Meta            map[string]string
	Type            string
}

// Check refuses what no token may carry. It needs no transaction, so that a large
// request is refused before one begins.
func (q *CreateRequest) Check() error {
	return (&Token{Meta: q.Meta, DisplayName: q.DisplayName, Policies: CanonicalNames(q.Policies)}).checkSize()
}

// mistakeError is a client's mistake; its text goes to the client unchanged.
type mistakeError string

func (m mistakeError) Error() string        { return string(m) }
func (m mistakeError) Is(target error) bool { return target == ErrInvalid }

func mistake(format string, args ...any) error { return mistakeError(fmt.Sprintf(format, args...)) }

// notInName matches characters that a display name must not have.
var notInName = regexp.MustCompile(`[^a-zA-Z0-9-]`)

// Limits of what a token carries, in bytes.
const (
	maxMeta        = 16 << 10
	maxDisplayName = 512
	maxPolicies    = 256 // number of them
	maxPolicyName  = 512
)

// Derive computes the token that parent makes, by a role if that is not nil. sudo says
// whether parent has that capability on the path. The errors are [ErrInvalid], with
// Vault's texts. [Create] then writes the token.
func Derive(parent *Token, role *Role, q *CreateRequest, sudo bool, now time.Time) (t *Token, warnings []string, err error) {
	kind := q.Type
	if role != nil && role.Type == serviceType {
		kind = serviceType
	}
	switch {
	case parent.Limited(): // it would escape its limit
		return nil, nil, mistake("restricted use token cannot generate child tokens")
	case parent.depth >= MaxDepth:
		return nil, nil, mistake("there are %d tokens above this one already: make an orphan", MaxDepth)
	case kind == "batch":
		return nil, nil, mistake("batch tokens are not supported: leave the type out")
	case kind != "" && kind != serviceType:
		return nil, nil, mistake("invalid 'token_type' value")
	case q.NumUses < 0:
		return nil, nil, mistake("number of uses cannot be negative")
	case q.ID != "" && !sudo:
		return nil, nil, mistake("root or sudo privileges required to specify token id")
	case strings.HasPrefix(q.ID, "hvs."), strings.HasPrefix(q.ID, "s."):
		return nil, nil, mistake("custom token ID cannot have the '%s.' prefix", q.ID[:strings.Index(q.ID, ".")])
	case strings.Contains(q.ID, "."):
		return nil, nil, mistake("custom token ID cannot have a '.' in the value")
	case q.NoParent && !sudo && role == nil:
		return nil, nil, mistake("root or sudo privileges required to create orphan token")
	case q.ExplicitMaxTTL < 0:
		return nil, nil, mistake("explicit_max_ttl must be positive")
	case q.Period < 0:
		return nil, nil, mistake("period must be positive")
	case q.Period > 0 && !sudo:
		return nil, nil, mistake("root or sudo privileges required to create periodic token")
	case q.TTL < 0:
		return nil, nil, mistake("ttl must be positive")
	}
	t = &Token{
		DisplayName: "token", Path: tokenMountPath + q.Path, Type: serviceType, Created: now.UTC(), Renewable: !q.NotRenewable,
		NumUses: q.NumUses, Meta: q.Meta, ExplicitMaxTTL: q.ExplicitMaxTTL, Period: q.Period, Parent: parent.id,
	}
	if q.DisplayName != "" {
		t.DisplayName = strings.TrimSuffix(notInName.ReplaceAllString("token-"+q.DisplayName, "-"), "-")
	}
	if t.Policies, err = childPolicies(parent, role, q, sudo); err != nil {
		return nil, nil, err
	}
	if err := t.checkSize(); err != nil {
		return nil, nil, err
	}
	if slices.Contains(t.Policies, WrappingPolicy) {
		return nil, nil, mistake("cannot assign policy %q", WrappingPolicy)
	}
	if t.Root() && !parent.Root() {
		return nil, nil, mistake("root tokens may not be created without parent token being root")
	}
	orphan := q.Orphan || q.NoParent
	if role != nil {
		orphan = role.Orphan
		warnings = t.follow(role)
	}
	if orphan {
		t.Parent, t.Orphan = ID{}, true
	}
	t.EntityID = ""
	if !orphan {
		t.EntityID = parent.EntityID
	}
	t.BoundCIDRs = parent.BoundCIDRs // even for an orphan: it must not be usable where its maker is not
	if role != nil && len(role.BoundCIDRs) > 0 {
		t.BoundCIDRs = role.BoundCIDRs
	}
	if t.Period > 0 || q.TTL > 0 || !t.Root() {
		var more []string
		t.TTL, more = t.span(q.TTL, now)
		warnings = append(warnings, more...)
	} else {
		t.TTL = t.ExplicitMaxTTL
	}
	if t.TTL == 0 {
		if parent.TTL != 0 {
			return nil, nil, mistake("expiring root tokens cannot create non-expiring root tokens")
		}
		t.Renewable = false
	} else {
		t.Expires = t.Created.Add(t.TTL)
	}
	return t, warnings, nil
}

// follow applies the role to the requested token.
func (t *Token) follow(role *Role) (warnings []string) {
	t.Role = role.Name
	t.Renewable = t.Renewable && role.Renewable
	if role.NumUses > 0 && (t.NumUses == 0 || role.NumUses < t.NumUses) {
		t.NumUses = role.NumUses
	}
	if role.PathSuffix != "" {
		t.Path += "/" + role.PathSuffix
	}
	for _, d := range []struct {
		what  string
		asked *time.Duration
		role  time.Duration
	}{{"Explicit max TTL", &t.ExplicitMaxTTL, role.ExplicitMaxTTL}, {"Period", &t.Period, role.Period}} {
		switch {
		case d.role == 0:
		case *d.asked == 0:
			*d.asked = d.role
		default:
			*d.asked = min(*d.asked, d.role)
			warnings = append(warnings, fmt.Sprintf("%s specified both during creation call and in role; using the lesser value of %d seconds", d.what, int64(*d.asked/time.Second)))
		}
	}
	return warnings
}

// span returns how long the token lives from now on, within its limits, if ttl is
// requested (0: the token's own TTL, or the default). It returns 0 if the limits are
// used up.
func (t *Token) span(ttl time.Duration, now time.Time) (span time.Duration, warnings []string) {
	if ttl == 0 {
		ttl = t.TTL
	}
	if ttl == 0 {
		ttl = DefaultTTL
	}
	limit := SystemMax
	if t.MaxTTL > 0 && t.MaxTTL < limit {
		limit = t.MaxTTL
	}
	what := "TTL"
	left := limit - now.Sub(t.Created)
	if t.Period > 0 { // its lifetime is unlimited, but each span is not
		ttl, what, left = t.Period, "period", limit
	}
	if t.ExplicitMaxTTL > 0 {
		if t.ExplicitMaxTTL < limit {
			limit = t.ExplicitMaxTTL
		}
		left = min(left, t.ExplicitMaxTTL-now.Sub(t.Created))
	}
	if ttl <= left {
		return ttl, nil
	}
	return max(left, 0), []string{fmt.Sprintf("%s of %q exceeded the effective max_ttl of %q; %s value is capped accordingly", what, ttl, limit, what)}
}

func (t *Token) checkSize() error {
	size := 0
	for k, v := range t.Meta {
		size += len(k) + len(v)
	}
	if size > maxMeta {
		return mistake("the metadata of a token has at most %d bytes", maxMeta)
	}
	if len(t.DisplayName) > maxDisplayName {
		return mistake("a display name has at most %d bytes", maxDisplayName)
	}
	if len(t.Policies) > maxPolicies {
		return mistake("a token has at most %d policies", maxPolicies)
	}
	for _, p := range t.Policies {
		if len(p) > maxPolicyName {
			return mistake("the name of a policy has at most %d bytes", maxPolicyName)
		}
	}
	return checkNames("policy", t.Policies)
}

// childPolicies returns the policies of a new token: those that the role allows, if it
// lists any; otherwise a subset of the parent's, unless the parent has sudo.
func childPolicies(parent *Token, role *Role, q *CreateRequest, sudo bool) ([]string, error) {
	if role != nil && len(role.AllowedPolicies)+len(role.AllowedPoliciesGlob)+len(role.DisallowedPolicies)+len(role.DisallowedPoliciesGlob) > 0 {
		return rolePolicies(parent, role, q)
	}
	noDefault := q.NoDefaultPolicy || role != nil && role.NoDefaultPolicy
	asked := cleanPolicies(q.Policies, false)
	add := !noDefault
	switch {
	case len(q.Policies) == 0:
		asked, add = cleanPolicies(parent.Policies, false), false
	case !sudo:
		for _, p := range asked {
			if !slices.Contains(parent.Policies, p) {
				return nil, mistake("child policies must be subset of parent")
			}
		}
		add = add && slices.Contains(parent.Policies, DefaultPolicy)
	}
	asked = cleanPolicies(asked, add)
	if noDefault {
		asked = slices.DeleteFunc(asked, func(p string) bool { return p == DefaultPolicy })
	}
	return asked, nil
}

func rolePolicies(parent *Token, role *Role, q *CreateRequest) ([]string, error) {
	noDefault := q.NoDefaultPolicy || role.NoDefaultPolicy
	add := !noDefault && !slices.Contains(role.DisallowedPolicies, DefaultPolicy) && !globs(role.DisallowedPoliciesGlob, DefaultPolicy)
	var final []string
	if len(q.Policies) > 0 {
		final = cleanPolicies(q.Policies, add)
	}
	switch allowed := cleanPolicies(role.AllowedPolicies, add); {
	case len(role.AllowedPolicies)+len(role.AllowedPoliciesGlob) == 0:
		if len(final) == 0 {
			final = cleanPolicies(parent.Policies, add)
		}
	case len(final) == 0:
		final = allowed
	default:
		for _, p := range final {
			if !slices.Contains(allowed, p) && !globs(role.AllowedPoliciesGlob, p) {
				return nil, mistake("token policies (%q) must be subset of the role's allowed policies (%q) or glob policies (%q)", final, allowed, role.AllowedPoliciesGlob)
			}
		}
	}
	for _, p := range final {
		if slices.Contains(role.DisallowedPolicies, p) || globs(role.DisallowedPoliciesGlob, p) {
			return nil, mistake("token policy %q is disallowed by this role", p)
		}
	}
	if noDefault {
		final = slices.DeleteFunc(final, func(p string) bool { return p == DefaultPolicy })
	}
	return final, nil
}

// cleanPolicies returns names as they are compared and stored: in lower case, sorted,
// each once; root is always alone.
func cleanPolicies(names []string, addDefault bool) []string {
	clean := append([]string{}, CanonicalNames(names)...)
	if slices.Contains(clean, RootPolicy) {
		return []string{RootPolicy}
	}
	if addDefault {
		clean = append(clean, DefaultPolicy)
	}
	slices.Sort(clean)
	return slices.Compact(clean)
}

// globs reports whether one of the patterns matches name.
func globs(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return Glob(pattern, name) })
}

// Glob reports whether the pattern, in which "*" matches any text, matches name.
func Glob(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	rest, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, parts[last])
}

// Renew extends a token's life to increment from now, or to its original TTL if that
// is 0. A token of a login method gets the limits of the Login that again returns,
// which is what the login would be now. tree reports whether the token now ends earlier
// than before, and its descendants with it.
func Renew(tx *storage.Tx, id ID, increment time.Duration, again func(*Token) (*Login, error), now time.Time) (t *Token, tree bool, warnings []string, err error) {
	r, err := find(tx, id, now)
	if err != nil {
		return nil, false, nil, err
	}
	switch {
	case increment < 0:
		return nil, false, nil, mistake("increment must be positive")
	case !r.Renewable || r.Expires.IsZero():
		return nil, false, nil, mistake("lease is not renewable")
	}
	if r.Role != "" {
		role, err := GetRole(tx, r.Role)
		if err != nil {
			return nil, false, nil, err
		}
		if role == nil {
			return nil, false, nil, mistake("original token role %q could not be found, not renewing", r.Role)
		}
		r.Period = role.Period
	}
	made := r.TTL
	if r.Method != "" {
		l, err := again(&r.Token)
		if err != nil {
			return nil, false, nil, err
		}
		l.limit(&r.Token)
	}
	span, warnings := r.span(increment, now)
	r.TTL = made
	if span == 0 {
		return nil, false, nil, mistake("past the max TTL, cannot renew")
	}
	r.Renewed = now.UTC()
	expires := r.Renewed.Add(span)
	tree = r.Children && expires.Before(r.Expires)
	r.Expires = expires
	if err := r.write(tx); err != nil {
		return nil, false, nil, err
	}
	r, err = find(tx, id, now)
	if err != nil {
		return nil, false, nil, err
	}
	return &r.Token, tree, warnings, nil
}
