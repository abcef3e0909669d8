package server

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
)

// systemTTL is what a lease TTL of 0 stands for when a mount is asked how it is tuned.
const systemTTL api.Seconds = 32 * 24 * 60 * 60

// mountView is a mount as sys/mounts shows it.
func mountView(m *api.Mount) map[string]any {
	return map[string]any{
		"accessor":                m.Accessor,
		"config":                  m.Config,
		"deprecation_status":      "supported",
		"description":             m.Description,
		"external_entropy_access": false,
		"local":                   m.Type == "cubbyhole",
		"options":                 m.Options,
		"plugin_version":          "",
		"running_plugin_version":  "",
		"running_sha256":          "",
		"seal_wrap":               false,
		"type":                    m.Type,
		"uuid":                    m.UUID,
	}
}

func listMounts(s *Server, r *request) (answer, error) {
	data := make(map[string]any)
	for _, m := range slices.Concat(r.keep.mounts.Load().all(), r.keep.builtin()) {
		data[m.Path] = mountView(m)
	}
	return answer{data: data, inject: true}, nil
}

func readMount(s *Server, r *request) (answer, error) {
	if path, ok := strings.CutPrefix(r.rest, "auth/"); ok { // as who has no sudo asks for a login method
		r.rest = path
		return readAuth(s, r)
	}
	m := r.keep.mountAt(r.rest)
	if m == nil {
		return answer{}, invalid("No secret engine mount at %s/", r.rest)
	}
	return answer{data: mountView(m), inject: true}, nil
}

// mountInput is the body of enable and, with its configuration beside the rest,
// of tune. A nil field is not changed.
type mountInput struct {
	Type        string            `json:"type"`
	Description *string           `json:"description"`
	Options     map[string]string `json:"options"`
	Config      mountConfigInput  `json:"config"`
	Local       bool              `json:"local"`
	SealWrap    bool              `json:"seal_wrap"`
}

type mountConfigInput struct {
	DefaultLeaseTTL           *api.Seconds `json:"default_lease_ttl"`
	MaxLeaseTTL               *api.Seconds `json:"max_lease_ttl"`
	ForceNoCache              *bool        `json:"force_no_cache"`
	ListingVisibility         *string      `json:"listing_visibility"`
	AuditNonHMACRequestKeys   *[]string    `json:"audit_non_hmac_request_keys"`
	AuditNonHMACResponseKeys  *[]string    `json:"audit_non_hmac_response_keys"`
	PassthroughRequestHeaders *[]string    `json:"passthrough_request_headers"`
	AllowedResponseHeaders    *[]string    `json:"allowed_response_headers"`
	TokenType                 *string      `json:"token_type"` // of a login method

	// Some clients write these here. What stands beside the configuration counts.
	Description *string           `json:"description"`
	Options     map[string]string `json:"options"`
}

// mountInput reads the body of enable, and refuses what no mount can be here.
func (r *request) mountInput() (in mountInput, err error) {
	err = r.settings(&in)
	switch {
	case err != nil:
	case in.SealWrap:
		err = invalid("seal_wrap is not supported")
	case in.Local:
		err = invalid("local is not supported, since nothing is replicated: leave it out")
	}
	if in.Description == nil {
		in.Description = in.Config.Description
	}
	if in.Options == nil {
		in.Options = in.Config.Options
	}
	return in, err
}

var errTokenType = invalid("token_type is a setting of login methods: leave it out")

func (in *mountConfigInput) apply(c *api.MountConfig) error {
	if in.DefaultLeaseTTL != nil && *in.DefaultLeaseTTL != api.Unchanged {
		c.DefaultLeaseTTL = *in.DefaultLeaseTTL
	}
	if in.MaxLeaseTTL != nil && *in.MaxLeaseTTL != api.Unchanged {
		c.MaxLeaseTTL = *in.MaxLeaseTTL
	}
	set(&c.ForceNoCache, in.ForceNoCache)
	set(&c.ListingVisibility, in.ListingVisibility)
	set(&c.AuditNonHMACRequestKeys, in.AuditNonHMACRequestKeys)
	set(&c.AuditNonHMACResponseKeys, in.AuditNonHMACResponseKeys)
	set(&c.PassthroughRequestHeaders, in.PassthroughRequestHeaders)
	set(&c.AllowedResponseHeaders, in.AllowedResponseHeaders)
	if in.TokenType != nil && c.TokenType != "" {
		c.TokenType = cmp.Or(*in.TokenType, "default-service")
	}
	switch c.ListingVisibility {
	case "", "hidden", "unauth":
	default:
		return invalid("invalid listing_visibility %q: use \"unauth\" or \"hidden\"", c.ListingVisibility)
	}
	if c.MaxLeaseTTL != 0 && c.DefaultLeaseTTL > c.MaxLeaseTTL {
		return invalid("default_lease_ttl is longer than max_lease_ttl")
	}
	return nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// checkVersion refuses an option that a type does not have, and a version that there
// is not.
func (s *Server) checkVersion(typ string, options map[string]string) error {
	for name, v := range options {
		switch {
		case name != "version":
			return invalid("unknown option %q: a %s engine has the option version only", name, typ)
		case v != "" && s.tables.types[typeKey{api.Secrets, typ, v}] == nil:
			return invalid("%s version %s is not supported: there are %s", strings.ToUpper(typ), v, strings.Join(s.tables.versions(api.Secrets, typ), " and "))
		}
	}
	return nil
}

func checkMountPath(path string) error {
	segments := strings.Split(path, "/")
	if slices.ContainsFunc(segments, func(s string) bool { return strings.TrimSpace(s) != s || s == "tune" }) {
		return invalid("a mount's path cannot have spaces at the ends of a segment, nor the segment \"tune\"")
	}
	if len(segments) > 8 || len(path) > maxMountPath {
		return invalid("a mount's path has at most 8 segments and %d bytes", maxMountPath)
	}
	return nil
}

func enableMount(s *Server, r *request) (answer, error) {
	in, err := r.mountInput()
	if err != nil {
		return answer{}, err
	}
	version := in.Options["version"]
	alias, ok := strings.CutPrefix(in.Type, "kv-v") // kv-v1, kv-v2
	switch {
	case ok && version != "" && version != alias:
		return answer{}, invalid("the type %s is not of version %s: leave out one of both", in.Type, version)
	case ok:
		version = alias
	case in.Type == "":
		return answer{}, invalid("backend type must be specified as a string")
	case in.Type != "kv":
		return answer{}, invalid("unknown backend type: %q; there is kv", in.Type)
	}
	for _, options := range []map[string]string{in.Options, {"version": version}} {
		if err := s.checkVersion("kv", options); err != nil {
			return answer{}, err
		}
	}
	if in.Config.TokenType != nil && *in.Config.TokenType != "" {
		return answer{}, errTokenType
	}
	if first, _, _ := strings.Cut(r.rest, "/"); slices.Contains(reserved, first) {
		return answer{}, invalid("cannot mount %q", r.rest+"/")
	}
	if err := checkMountPath(r.rest); err != nil {
		return answer{}, err
	}
	m := newMount(r.rest + "/")
	m.Options["version"] = cmp.Or(version, m.Options["version"])
	set(&m.Description, in.Description)
	if err := in.Config.apply(&m.Config); err != nil {
		return answer{}, err
	}
	if err := r.keep.enable(r.Context, &r.keep.mounts, m); err != nil {
		return answer{}, err
	}
	s.log.Info("mount enabled", "path", m.Path, "type", m.Type, "mount", m.UUID, "request", r.ID)
	if version == "" {
		return answer{warnings: []string{"the engine is KV version 2, since no version was given; for version 1, Vault's default for the type kv, give the option version=1"}}, nil
	}
	return answer{}, nil
}

func disableMount(s *Server, r *request) (answer, error) {
	if first, _, _ := strings.Cut(r.rest, "/"); slices.Contains(reserved, first) {
		return answer{}, invalid("cannot unmount %q", r.rest+"/")
	}
	if err := r.keep.disable(r.Context, &r.keep.mounts, r.rest); err != nil {
		return answer{}, err
	}
	s.log.Info("mount disabled", "path", r.rest+"/", "request", r.ID)
	return answer{}, nil
}

func readTune(s *Server, r *request) (answer, error) {
	m := r.keep.mountAt(r.rest)
	if m == nil {
		return answer{}, invalid("cannot fetch sysview for path %q", r.rest+"/")
	}
	return answer{data: tuneView(m), inject: true}, nil
}

func tuneView(m *api.Mount) any {
	data := struct {
		api.MountConfig
		Description string            `json:"description"`
		Options     map[string]string `json:"options,omitempty"`
	}{m.Config, m.Description, m.Options}
	data.DefaultLeaseTTL = cmp.Or(data.DefaultLeaseTTL, systemTTL)
	data.MaxLeaseTTL = cmp.Or(data.MaxLeaseTTL, systemTTL)
	return data
}

type tuneInput struct {
	mountConfigInput
	Description *string           `json:"description"`
	Options     map[string]string `json:"options"`
}

func writeTune(s *Server, r *request) (answer, error) {
	var in tuneInput
	if err := r.settings(&in); err != nil {
		return answer{}, err
	}
	if in.TokenType != nil && *in.TokenType != "" {
		return answer{}, errTokenType
	}
	err := r.keep.tune(r.Context, &r.keep.mounts, r.rest, func(m *api.Mount) error {
		if err := s.checkVersion(m.Type, in.Options); err != nil {
			return err
		}
		if v := in.Options["version"]; v != "" && v != m.Options["version"] {
			if err := s.upgrade(m, v); err != nil {
				return err
			}
		}
		set(&m.Description, in.Description)
		return in.apply(&m.Config)
	})
	if err == nil && in.Options["version"] != "" {
		r.keep.wakeSweep() // which converts what there is, if it is an upgrade
	}
	return answer{}, err
}

// uiMounts lists the mounts that the token may see; without one, and with
// little of each, those that everybody may.
func uiMounts(s *Server, r *request) (answer, error) {
	secret := make(map[string]any)
	for _, m := range slices.Concat(r.keep.mounts.Load().all(), r.keep.builtin()) {
		switch {
		case r.Caller.ACL.Within(m.Path):
			secret[m.Path] = mountView(m)
		case m.Config.ListingVisibility == "unauth":
			secret[m.Path] = map[string]any{"type": m.Type, "description": m.Description, "options": m.Options}
		}
	}
	auth := make(map[string]any)
	for _, m := range r.keep.allAuths() {
		switch {
		case m.Type == "token" && r.Caller.Token != nil, r.Caller.ACL.Within("auth/" + m.Path):
			auth[m.Path] = mountView(m)
		case m.Config.ListingVisibility == "unauth":
			auth[m.Path] = map[string]any{"type": m.Type, "description": m.Description, "options": m.Options}
		}
	}
	return answer{data: map[string]any{"secret": secret, "auth": auth}}, nil
}

// uiMount tells which mount a path is in: how clients find the version of KV.
func uiMount(s *Server, r *request) (answer, error) {
	m, _ := r.keep.mounts.Load().find(r.rest)
	if first, _, _ := strings.Cut(r.rest, "/"); first == "cubbyhole" {
		m = r.keep.cubbyhole()
	}
	if m == nil || !r.Caller.ACL.Within(m.Path) && r.Caller.ACL.Capabilities(r.rest)&^access.Denied == 0 {
		return answer{}, &api.Error{Code: api.Denied, Text: fmt.Sprintf(
			"preflight capability check returned 403, please ensure client's policies grant access to path %q", r.rest+"/")}
	}
	data := mountView(m)
	data["path"] = m.Path
	return answer{data: data}, nil
}
