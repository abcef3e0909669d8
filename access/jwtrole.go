package access

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// How much the clocks of issuer and keep may differ, and how long a JWT is good
// that does not say, where a role does not say either.
const (
	jwtSkew   = time.Minute
	jwtLeeway = 150 * time.Second
)

// A JWTRole says which JWTs log in, and what their tokens are like. A leeway of
// 0 is the default, a negative one none.
type JWTRole struct {
	Name         string            `json:"name"`
	Audiences    []string          `json:"bound_audiences"` // the JWT has one of them
	Subject      string            `json:"bound_subject"`   // claim sub; "": any
	Claims       map[string]any    `json:"bound_claims"`    // each: a value or a list of values, one of which the JWT has
	Glob         bool              `json:"bound_claims_glob"`
	Mappings     map[string]string `json:"claim_mappings"` // claim to name of metadata
	UserClaim    string            `json:"user_claim"`     // says who it is
	UserPointer  bool              `json:"user_claim_json_pointer"`
	ExpiryLeeway time.Duration     `json:"expiration_leeway"` // how long after iat and nbf a JWT without exp is good
	NotBefore    time.Duration     `json:"not_before_leeway"` // how long before exp a JWT without iat and nbf is good
	ClockSkew    time.Duration     `json:"clock_skew_leeway"`
	TokenParams
}

// Check says what is wrong with the role.
func (r *JWTRole) Check() error {
	switch {
	case r.UserClaim == "":
		return mistake("a user claim must be defined on the role")
	case len(r.Audiences) == 0 && r.Subject == "" && len(r.Claims) == 0 && len(r.BoundCIDRs) == 0:
		return mistake("must have at least one bound constraint when creating/updating a role")
	}
	for name, want := range r.Claims {
		list, ok := want.([]any)
		if !ok {
			list = []any{want}
		}
		values := claimValues(list)
		switch {
		case len(values) == 0 || len(values) < len(list):
			return mistake("bound claim %q is not a string, bool, number or list of them", name)
		case r.Glob && slices.ContainsFunc(values, func(v any) bool { _, ok := v.(string); return !ok }):
			return mistake("bound claim %q has a value that is not a string, which 'bound_claims_type' glob takes", name)
		}
	}
	targets := slices.Sorted(maps.Values(r.Mappings))
	for i, name := range targets {
		switch {
		case name == "role":
			return mistake("metadata key %q is reserved and may not be a mapping destination", name)
		case i > 0 && targets[i-1] == name:
			return mistake("multiple keys are mapped to metadata key %q", name)
		}
	}
	return r.TokenParams.Check()
}

// Match tells who the bearer of a JWT with these claims is, which [JWTVerifier]
// has verified, and what to note of them. The error is [ErrInvalid] when the role
// is not for them.
func (r *JWTRole) Match(c Claims, now time.Time) (user string, meta map[string]string, err error) {
	if err := r.checkTimes(c, now); err != nil {
		return "", nil, err
	}
	if r.Subject != "" && c["sub"] != r.Subject {
		return "", nil, mistake("error validating token: invalid subject (sub) claim")
	}
	audiences, ok := c.audiences()
	switch {
	case !ok:
		return "", nil, mistake("error validating token: invalid audience (aud) claim")
	case len(r.Audiences) == 0 && len(audiences) > 0:
		return "", nil, mistake("audience claim found in JWT but no audiences bound to the role")
	case len(r.Audiences) > 0 && !slices.ContainsFunc(audiences, func(a string) bool { return slices.Contains(r.Audiences, a) }):
		return "", nil, mistake("error validating token: invalid audience (aud) claim: audience claim does not match any expected audience")
	}
	for name, want := range r.Claims {
		if err := r.bound(name, claimValues(want), c); err != nil {
			return "", nil, err
		}
	}
	who := c[r.UserClaim]
	if r.UserPointer {
		who = c.at(r.UserClaim)
	}
	if who == nil {
		return "", nil, mistake("claim %q not found in token", r.UserClaim)
	}
	if user, ok = who.(string); !ok || user == "" {
		return "", nil, mistake("claim %q could not be converted to string", r.UserClaim)
	}
	if err := CheckName("user", user); err != nil {
		return "", nil, mistake("claim %q: %v", r.UserClaim, err)
	}
	meta = map[string]string{"role": r.Name}
	for claim, name := range r.Mappings {
		switch value := c.at(claim).(type) {
		case nil:
		case string:
			meta[name] = value
		default:
			return "", nil, mistake("error converting claim '%s' to string", claim)
		}
	}
	return user, meta, nil
}

// checkTimes checks exp, nbf and iat. Of what is not said, a JWT begins when it
// was issued and ends a leeway after it began, or begins a leeway before it ends.
func (r *JWTRole) checkTimes(c Claims, now time.Time) error {
	var issued, begins, ends float64 // seconds; 0: not said
	for name, at := range map[string]*float64{"iat": &issued, "nbf": &begins, "exp": &ends} {
		switch value := c[name].(type) {
		case nil:
		case json.Number:
			seconds, err := strconv.ParseFloat(string(value), 64)
			if err != nil || seconds < 0 {
				return mistake("error validating token: claim %q is not a time", name)
			}
			*at = seconds
		default:
			return mistake("error validating token: claim %q is not a time", name)
		}
	}
	if issued == 0 && begins == 0 && ends == 0 {
		return mistake("error validating token: no issued at (iat), not before (nbf), or expiration time (exp) claims in token")
	}
	if ends == 0 {
		ends = max(issued, begins) + leeway(r.ExpiryLeeway, jwtLeeway)
	}
	if begins == 0 {
		if begins = issued; issued == 0 {
			begins = ends - leeway(r.NotBefore, jwtLeeway)
		}
	}
	at, skew := float64(now.UnixNano())/1e9, leeway(r.ClockSkew, jwtSkew)
	switch {
	case begins > at+skew:
		return mistake("error validating token: invalid not before (nbf) claim: token not yet valid")
	case ends < at-skew:
		return mistake("error validating token: invalid expiration time (exp) claim: token is expired")
	case issued > at+skew:
		return mistake("error validating token: invalid issued at (iat) claim: token issued in the future")
	}
	return nil
}

// leeway is what a role says, in seconds.
func leeway(said, otherwise time.Duration) float64 {
	if said == 0 {
		said = otherwise
	}
	return max(said, 0).Seconds()
}

// bound checks that the claim has one of the values.
func (r *JWTRole) bound(name string, want []any, c Claims) error {
	got := c.at(name)
	if got == nil {
		return mistake("error validating claims: claim %q is missing", name)
	}
	for _, have := range claimValues(got) {
		for _, w := range want {
			if !r.Glob && have == w {
				return nil
			}
			pattern, _ := w.(string)
			if text, ok := have.(string); ok && r.Glob && glob(pattern, text) {
				return nil
			}
		}
	}
	return mistake("error validating claims: claim %q does not match any associated bound claim values", name)
}

// claimValues are the values of a claim that can be compared.
func claimValues(claim any) (values []any) {
	list, ok := claim.([]any)
	if !ok {
		list = []any{claim}
	}
	for _, v := range list {
		switch v.(type) {
		case string, bool, json.Number:
			values = append(values, v)
		}
	}
	return values
}

// at returns the claim of a name, or, when the name begins with a slash, what a
// JSON pointer (RFC 6901) leads to; nil when there is none.
func (c Claims) at(name string) any {
	if !strings.HasPrefix(name, "/") {
		return c[name]
	}
	var value any = map[string]any(c)
	for part := range strings.SplitSeq(name[1:], "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch in := value.(type) {
		case map[string]any:
			value = in[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(in) {
				return nil
			}
			value = in[i]
		default:
			return nil
		}
	}
	return value
}

// audiences reads the claim aud: a text or a list of them.
func (c Claims) audiences() (list []string, ok bool) {
	switch aud := c["aud"].(type) {
	case nil:
	case string:
		list = []string{aud}
	case []any:
		for _, v := range aud {
			text, ok := v.(string)
			if !ok {
				return nil, false
			}
			list = append(list, text)
		}
	default:
		return nil, false
	}
	return list, true
}

// ReadJWTConfig returns the configuration of a method jwt, nil before there is one.
func ReadJWTConfig(tx *storage.Tx, folder string) (*JWTConfig, error) {
	var c JWTConfig
	if found, err := getRecord(tx, folder+"/config", methodKind, &c); err != nil || !found {
		return nil, err
	}
	return &c, nil
}

// WriteJWTConfig checks the configuration of a method jwt and writes it.
func WriteJWTConfig(tx *storage.Tx, folder string, c *JWTConfig) error {
	if err := c.Check(); err != nil {
		return err
	}
	return putRecord(tx, folder+"/config", methodKind, c, maxRoleLists)
}
