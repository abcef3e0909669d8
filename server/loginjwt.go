package server

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// jwtMethod is the login with JWTs that somebody else has signed, as CI systems
// hand them to their jobs.
var jwtMethod = authMethod{
	routes: append(jwtRoles.routes(),
		oldRoute{path: "config", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readJWTConfig, opWrite: writeJWTConfig}},
		oldRoute{path: "login", gate: unsealed, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: loginJWT}},
	),
	renew: func(_ *request, tx *storage.Tx, folder string, t *access.Token) (*access.TokenParams, error) {
		role, err := jwtRoles.renew(tx, folder, t.Login)
		if err != nil {
			return nil, err
		}
		return &role.TokenParams, nil
	},
}

var jwtRoles = methodRole[access.JWTRole]{
	path: "role", create: true,
	new:   func(name string) *access.JWTRole { return &access.JWTRole{Name: name} },
	check: func(r *access.JWTRole) interface{ Check() error } { return r },
	view: func(r *access.JWTRole) map[string]any {
		seconds := func(d time.Duration) int64 { return int64(d / time.Second) }
		kind := "string"
		if r.Glob {
			kind = "glob"
		}
		return viewParams(&r.TokenParams, map[string]any{
			"role_type":               "jwt",
			"bound_audiences":         append([]string{}, r.Audiences...),
			"bound_subject":           r.Subject,
			"bound_claims":            r.Claims,
			"bound_claims_type":       kind,
			"claim_mappings":          r.Mappings,
			"user_claim":              r.UserClaim,
			"user_claim_json_pointer": r.UserPointer,
			"groups_claim":            "",
			"expiration_leeway":       seconds(r.ExpiryLeeway),
			"not_before_leeway":       seconds(r.NotBefore),
			"clock_skew_leeway":       seconds(r.ClockSkew),
		})
	},
	edit: editJWTRole,
}

func editJWTRole(r *request) (apply func(*access.JWTRole) ([]string, error), err error) {
	var in struct {
		tokenFields
		Type           string               `json:"role_type"`
		Audiences      loose[[]string]      `json:"bound_audiences"`
		Subject        *string              `json:"bound_subject"`
		Claims         json.RawMessage      `json:"bound_claims"`
		ClaimsType     string               `json:"bound_claims_type"`
		Mappings       json.RawMessage      `json:"claim_mappings"`
		UserClaim      *string              `json:"user_claim"`
		UserPointer    loose[bool]          `json:"user_claim_json_pointer"`
		GroupsClaim    string               `json:"groups_claim"`
		Expiry         loose[time.Duration] `json:"expiration_leeway"`
		NotBefore      loose[time.Duration] `json:"not_before_leeway"`
		ClockSkew      loose[time.Duration] `json:"clock_skew_leeway"`
		TemplateClaims loose[bool]          `json:"token_policies_template_claims"`
	}
	if err := r.settings(&in); err != nil {
		return nil, err
	}
	switch {
	case in.Type == "oidc":
		return nil, invalid("role_type oidc, the login in a browser, is not supported: write role_type=jwt for programs that have a JWT")
	case in.Type != "" && in.Type != "jwt":
		return nil, invalid("invalid 'role_type': %s", in.Type)
	case in.GroupsClaim != "":
		return nil, invalid("groups_claim is not supported, since there are no groups: write a role for each group, with bound_claims")
	case in.TemplateClaims.value:
		return nil, invalid("token_policies_template_claims is not supported: write a role for each policy, with bound_claims")
	}
	switch in.ClaimsType {
	case "", "string", "glob":
	default:
		return nil, invalid("invalid 'bound_claims_type': %s", in.ClaimsType)
	}
	var claims map[string]any
	if in.Claims != nil {
		text := api.Scalar(in.Claims) // which may be JSON in a text, as the command line sends it
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if text != "" && d.Decode(&claims) != nil {
			return nil, invalid(`bound_claims is not an object like {"ref": "refs/heads/main"}`)
		}
	}
	var mappings map[string]string
	if in.Mappings != nil {
		if mappings, err = parsePairs(in.Mappings); err != nil {
			return nil, invalid(`claim_mappings is not an object like {"claim": "name"}`)
		}
	}
	return func(role *access.JWTRole) ([]string, error) {
		if in.ClaimsType != "" {
			role.Glob = in.ClaimsType == "glob"
		}
		if in.Claims != nil {
			role.Claims = claims
		}
		if in.Mappings != nil {
			role.Mappings = mappings
		}
		set(&role.Audiences, in.Audiences.pointer())
		set(&role.Subject, in.Subject)
		set(&role.UserClaim, in.UserClaim)
		set(&role.UserPointer, in.UserPointer.pointer())
		set(&role.ExpiryLeeway, in.Expiry.pointer())
		set(&role.NotBefore, in.NotBefore.pointer())
		set(&role.ClockSkew, in.ClockSkew.pointer())
		return in.apply(&role.TokenParams)
	}, nil
}

func readJWTConfig(s *Server, r *request) (answer, error) {
	var c *access.JWTConfig
	err := r.viewMethod(func(tx *storage.Tx, folder string) (err error) {
		c, err = access.ReadJWTConfig(tx, folder)
		return err
	})
	if err == nil && c == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return answer{}, err
	}
	return answer{data: c}, nil
}

// writeJWTConfig replaces the configuration, after the keys were fetched with it.
func writeJWTConfig(s *Server, r *request) (answer, error) {
	var in struct {
		DiscoveryURL string          `json:"oidc_discovery_url"`
		DiscoveryCA  string          `json:"oidc_discovery_ca_pem"`
		JWKSURL      string          `json:"jwks_url"`
		JWKSCA       string          `json:"jwks_ca_pem"`
		PublicKeys   loose[[]string] `json:"jwt_validation_pubkeys"`
		Algorithms   loose[[]string] `json:"jwt_supported_algs"`
		Issuer       string          `json:"bound_issuer"`
		DefaultRole  string          `json:"default_role"`
		Skip         loose[bool]     `json:"skip_jwks_validation"`
		ClientID     string          `json:"oidc_client_id"`
		ClientSecret string          `json:"oidc_client_secret"`
		Provider     map[string]any  `json:"provider_config"`
		ServerNames  loose[[]string] `json:"override_allowed_server_names"`
	}
	if err := r.settings(&in); err != nil {
		return answer{}, err
	}
	switch {
	case in.ClientID != "", in.ClientSecret != "":
		return answer{}, invalid("oidc_client_id and oidc_client_secret are for the login in a browser, which is not supported: leave them out")
	case len(in.Provider) > 0:
		return answer{}, invalid("provider_config is not supported: leave it out")
	case len(in.ServerNames.value) > 0:
		return answer{}, invalid("override_allowed_server_names is not supported: the certificate has to have the name that the URL has")
	}
	c := access.JWTConfig{
		DiscoveryURL: in.DiscoveryURL, DiscoveryCA: in.DiscoveryCA, JWKSURL: in.JWKSURL, JWKSCA: in.JWKSCA,
		PublicKeys: append([]string{}, in.PublicKeys.value...), Algorithms: append([]string{}, in.Algorithms.value...),
		Issuer: in.Issuer, DefaultRole: access.CanonicalName(in.DefaultRole),
	}
	if err := c.Check(); err != nil {
		return answer{}, err
	}
	v, err := access.NewJWTVerifier(c, s.log)
	if err != nil {
		return answer{}, err
	}
	var warnings []string
	if err := v.Probe(r.Context); err != nil {
		what := "error checking jwks URL: "
		if c.DiscoveryURL != "" {
			what = "error checking oidc discovery URL: "
		}
		if !in.Skip.value {
			return answer{}, invalid("%s%v", what, err)
		}
		warnings = append(warnings, what+err.Error())
	}
	defer r.keep.logins.forget(r.Mount.UUID)
	err = r.updateMethod(func(tx *storage.Tx, folder string) error { return access.WriteJWTConfig(tx, folder, &c) })
	if err != nil {
		return answer{}, err
	}
	return answer{warnings: warnings}, nil
}

// longestUser is how much of who logs in is in the display name, in bytes.
const longestUser = 256

// A jwtLogin is what logins need of a configuration.
type jwtLogin struct {
	verifier    *access.JWTVerifier
	defaultRole string
}

func loginJWT(s *Server, r *request) (answer, error) {
	var in struct {
		Role string `json:"role"`
		JWT  string `json:"jwt"`
	}
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	l, err := cached(&r.keep.logins, r.Mount.UUID, func() (l *jwtLogin, err error) {
		err = r.viewMethod(func(tx *storage.Tx, folder string) error {
			c, err := access.ReadJWTConfig(tx, folder)
			if err == nil && c == nil {
				err = invalid("could not load configuration")
			}
			if err != nil {
				return err
			}
			l = &jwtLogin{defaultRole: c.DefaultRole}
			l.verifier, err = access.NewJWTVerifier(*c, s.log)
			return err
		})
		return l, err
	})
	if err != nil {
		return answer{}, err
	}
	if in.Role == "" {
		in.Role = l.defaultRole
	}
	switch {
	case in.Role == "":
		return answer{}, invalid("missing role")
	case in.JWT == "":
		return answer{}, invalid("missing token")
	}
	in.Role = access.CanonicalName(in.Role)
	// Nobody guesses a JWT: who shows bad ones must not slow down the jobs of a role, which come from anywhere.
	return s.tryLoginOf(r, in.JWT, in.Role, func() (answer, error) {
		var role *access.JWTRole
		err := r.viewMethod(func(tx *storage.Tx, folder string) (err error) {
			role, err = jwtRoles.get(tx, folder, in.Role)
			return err
		})
		if err == nil && role == nil {
			err = invalid("role %q could not be found", in.Role)
		}
		if err != nil {
			return answer{}, err
		}
		claims, err := l.verifier.Verify(r.Context, in.JWT)
		if err != nil {
			return answer{}, err
		}
		user, meta, err := role.Match(claims, s.now())
		if err != nil {
			return answer{}, err
		}
		return s.login(r, func(*storage.Tx, string) (*access.Login, error) {
			return &access.Login{DisplayName: user[:min(len(user), longestUser)], Name: role.Name, Params: role.TokenParams, Meta: meta}, nil
		})
	})
}
