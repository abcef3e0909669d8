package jwt

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
)

// How much the clocks of the issuer and of the keep may differ, and how long a JWT is
// good that does not say so itself, where the role does not say either.
const (
	defaultSkew   = time.Minute
	defaultLeeway = 150 * time.Second
)

// A Role says which JWTs log in, and what their tokens are like. A leeway of 0 stands
// for the default, a negative one for none.
type Role struct {
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
	access.TokenParams
}

// Check says what is wrong with the role.
func (r *Role) Check() error {
	switch {
	case r.UserClaim == "":
		return api.Invalid.Errorf("a user claim must be defined on the role")
	case len(r.Audiences) == 0 && r.Subject == "" && len(r.Claims) == 0 && len(r.BoundCIDRs) == 0:
		return api.Invalid.Errorf("must have at least one bound constraint when creating/updating a role")
	}
	for name, want := range r.Claims {
		list, ok := want.([]any)
		if !ok {
			list = []any{want}
		}
		values := claimValues(list)
		switch {
		case len(values) == 0 || len(values) < len(list):
			return api.Invalid.Errorf("bound claim %q is not a string, bool, number or list of them", name)
		case r.Glob && slices.ContainsFunc(values, func(v any) bool { _, ok := v.(string); return !ok }):
			return api.Invalid.Errorf("bound claim %q has a value that is not a string, which 'bound_claims_type' glob takes", name)
		}
	}
	targets := slices.Sorted(maps.Values(r.Mappings))
	for i, name := range targets {
		switch {
		case name == "role":
			return api.Invalid.Errorf("metadata key %q is reserved and may not be a mapping destination", name)
		case i > 0 && targets[i-1] == name:
			return api.Invalid.Errorf("multiple keys are mapped to metadata key %q", name)
		}
	}
	return r.TokenParams.Check()
}

// Match returns who the bearer of a JWT with these claims is and what to note with the
// token. The claims are those that a [Verifier] has verified. The error is api.Invalid
// when the role is not for them.
func (r *Role) Match(c Claims, now time.Time) (user string, meta map[string]string, err error) {
	if err := r.checkTimes(c, now); err != nil {
		return "", nil, err
	}
	if r.Subject != "" && c["sub"] != r.Subject {
		return "", nil, api.Invalid.Errorf("error validating token: invalid subject (sub) claim")
	}
	audiences, ok := c.audiences()
	switch {
	case !ok:
		return "", nil, api.Invalid.Errorf("error validating token: invalid audience (aud) claim")
	case len(r.Audiences) == 0 && len(audiences) > 0:
		return "", nil, api.Invalid.Errorf("audience claim found in JWT but no audiences bound to the role")
	case len(r.Audiences) > 0 && !slices.ContainsFunc(audiences, func(a string) bool { return slices.Contains(r.Audiences, a) }):
		return "", nil, api.Invalid.Errorf("error validating token: invalid audience (aud) claim: audience claim does not match any expected audience")
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
		return "", nil, api.Invalid.Errorf("claim %q not found in token", r.UserClaim)
	}
	if user, ok = who.(string); !ok || user == "" {
		return "", nil, api.Invalid.Errorf("claim %q could not be converted to string", r.UserClaim)
	}
	if err := access.CheckName("user", user); err != nil {
		return "", nil, api.Invalid.Errorf("claim %q: %v", r.UserClaim, err)
	}
	meta = map[string]string{"role": r.Name}
	for claim, name := range r.Mappings {
		switch value := c.at(claim).(type) {
		case nil:
		case string:
			meta[name] = value
		default:
			return "", nil, api.Invalid.Errorf("error converting claim '%s' to string", claim)
		}
	}
	return user, meta, nil
}

// checkTimes checks exp, nbf and iat. A JWT without nbf begins when it was issued; one
// without exp ends a leeway after it began; one with exp alone begins a leeway before.
func (r *Role) checkTimes(c Claims, now time.Time) error {
	var issued, begins, ends float64 // seconds; 0: not said
	for name, at := range map[string]*float64{"iat": &issued, "nbf": &begins, "exp": &ends} {
		switch value := c[name].(type) {
		case nil:
		case json.Number:
			seconds, err := strconv.ParseFloat(string(value), 64)
			if err != nil || seconds < 0 {
				return api.Invalid.Errorf("error validating token: claim %q is not a time", name)
			}
			*at = seconds
		default:
			return api.Invalid.Errorf("error validating token: claim %q is not a time", name)
		}
	}
	if issued == 0 && begins == 0 && ends == 0 {
		return api.Invalid.Errorf("error validating token: no issued at (iat), not before (nbf), or expiration time (exp) claims in token")
	}
	if ends == 0 {
		ends = max(issued, begins) + leeway(r.ExpiryLeeway, defaultLeeway)
	}
	if begins == 0 {
		if begins = issued; issued == 0 {
			begins = ends - leeway(r.NotBefore, defaultLeeway)
		}
	}
	at, skew := float64(now.UnixNano())/1e9, leeway(r.ClockSkew, defaultSkew)
	switch {
	case begins > at+skew:
		return api.Invalid.Errorf("error validating token: invalid not before (nbf) claim: token not yet valid")
	case ends < at-skew:
		return api.Invalid.Errorf("error validating token: invalid expiration time (exp) claim: token is expired")
	case issued > at+skew:
		return api.Invalid.Errorf("error validating token: invalid issued at (iat) claim: token issued in the future")
	}
	return nil
}

// leeway is what the role says, or otherwise, in seconds.
func leeway(said, otherwise time.Duration) float64 {
	if said == 0 {
		said = otherwise
	}
	return max(said, 0).Seconds()
}

// bound refuses claims of which the one with this name has none of the values.
func (r *Role) bound(name string, want []any, c Claims) error {
	got := c.at(name)
	if got == nil {
		return api.Invalid.Errorf("error validating claims: claim %q is missing", name)
	}
	for _, have := range claimValues(got) {
		for _, w := range want {
			if !r.Glob && have == w {
				return nil
			}
			pattern, _ := w.(string)
			if text, ok := have.(string); ok && r.Glob && access.Glob(pattern, text) {
				return nil
			}
		}
	}
	return api.Invalid.Errorf("error validating claims: claim %q does not match any associated bound claim values", name)
}

// claimValues are those values of a claim that can be compared.
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

// audiences reads the claim aud: a text or a list of texts.
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

// longestUser is how much of who logs in is in the display name, in bytes.
const longestUser = 256

// logIn is the login of the bearer of a JWT with these claims, if the role is for them.
func (r *Role) logIn(c Claims, now time.Time) (*access.Login, error) {
	user, meta, err := r.Match(c, now)
	if err != nil {
		return nil, err
	}
	return &access.Login{DisplayName: user[:min(len(user), longestUser)], Name: r.Name, Params: r.TokenParams, Meta: meta}, nil
}

// roleInput is what a request says of a role. What is nil is not changed.
type roleInput struct {
	login.TokenFields
	Type           string          `json:"role_type"`
	Audiences      *[]string       `json:"bound_audiences"`
	Subject        *string         `json:"bound_subject"`
	Claims         json.RawMessage `json:"bound_claims"`
	ClaimsType     string          `json:"bound_claims_type"`
	Mappings       json.RawMessage `json:"claim_mappings"`
	UserClaim      *string         `json:"user_claim"`
	UserPointer    *bool           `json:"user_claim_json_pointer"`
	GroupsClaim    string          `json:"groups_claim"`
	Expiry         *time.Duration  `json:"expiration_leeway"`
	NotBefore      *time.Duration  `json:"not_before_leeway"`
	ClockSkew      *time.Duration  `json:"clock_skew_leeway"`
	TemplateClaims bool            `json:"token_policies_template_claims"`
}

var roles = login.Roles[Role, roleInput]{
	Path: "role", Creates: true, Help: "A role: which JWTs log in by it, and what their tokens are like.",
	New:   func(name string) *Role { return &Role{Name: name} },
	View:  viewRole,
	Edit:  editRole,
	Check: (*Role).Check,
}

func viewRole(r *Role) map[string]any {
	kind := "string"
	if r.Glob {
		kind = "glob"
	}
	return login.ViewParams(&r.TokenParams, map[string]any{
		"role_type":               "jwt",
		"bound_audiences":         append([]string{}, r.Audiences...),
		"bound_subject":           r.Subject,
		"bound_claims":            r.Claims,
		"bound_claims_type":       kind,
		"claim_mappings":          r.Mappings,
		"user_claim":              r.UserClaim,
		"user_claim_json_pointer": r.UserPointer,
		"groups_claim":            "",
		"expiration_leeway":       login.Seconds(r.ExpiryLeeway),
		"not_before_leeway":       login.Seconds(r.NotBefore),
		"clock_skew_leeway":       login.Seconds(r.ClockSkew),
	})
}

func editRole(_ *api.Request, in *roleInput, role *Role) (warnings []string, err error) {
	switch {
	case in.Type == "oidc":
		return nil, api.Invalid.Errorf("role_type oidc, the login in a browser, is not supported: write role_type=jwt for programs that have a JWT")
	case in.Type != "" && in.Type != "jwt":
		return nil, api.Invalid.Errorf("invalid 'role_type': %s", in.Type)
	case in.GroupsClaim != "":
		return nil, api.Invalid.Errorf("groups_claim is not supported, since there are no groups: write a role for each group, with bound_claims")
	case in.TemplateClaims:
		return nil, api.Invalid.Errorf("token_policies_template_claims is not supported: write a role for each policy, with bound_claims")
	}
	switch in.ClaimsType {
	case "":
	case "string", "glob":
		role.Glob = in.ClaimsType == "glob"
	default:
		return nil, api.Invalid.Errorf("invalid 'bound_claims_type': %s", in.ClaimsType)
	}
	if in.Claims != nil {
		role.Claims = nil
		text := api.Scalar(in.Claims) // which may be JSON in a text, as the command line sends it
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if text != "" && d.Decode(&role.Claims) != nil {
			return nil, api.Invalid.Errorf(`bound_claims is not an object like {"ref": "refs/heads/main"}`)
		}
	}
	if in.Mappings != nil {
		if role.Mappings, err = login.Pairs(in.Mappings); err != nil {
			return nil, api.Invalid.Errorf(`claim_mappings is not an object like {"claim": "name"}`)
		}
	}
	api.Set(&role.Audiences, in.Audiences)
	api.Set(&role.Subject, in.Subject)
	api.Set(&role.UserClaim, in.UserClaim)
	api.Set(&role.UserPointer, in.UserPointer)
	api.Set(&role.ExpiryLeeway, in.Expiry)
	api.Set(&role.NotBefore, in.NotBefore)
	api.Set(&role.ClockSkew, in.ClockSkew)
	return in.Apply(&role.TokenParams)
}
