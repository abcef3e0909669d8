package sys

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/mount"
)

// systemTTL is what a lease TTL of 0 stands for when a mount is asked how it is tuned.
const systemTTL api.Seconds = 32 * 24 * 60 * 60

// reserved are the first segments of paths that are not for mounts.
var reserved = []string{"sys", "auth", "audit", "cubbyhole", "identity"}

// mountRoutes are the API of the engines' mounts.
func (s *System) mountRoutes() []api.Route {
	return []api.Route{
		{Path: "mounts", Help: "The mounts, by path.", Ops: map[api.Op]api.Handler{api.Read: api.Do(listMounts).Answers(map[string]any{api.Each: exampleMount})}},
		{Path: "mounts/{path...}", Help: "Shows, enables or disables a mount.", Settings: true,
			Ops: map[api.Op]api.Handler{api.Read: api.Do(readMount).Answers(exampleMount), api.Write: api.Do(enableMount), api.Delete: api.Do(disableMount)}},
		{Path: "mounts/{path...}/tune", Help: "The settings of a mount.", Settings: true,
			Ops: map[api.Op]api.Handler{api.Read: api.Do(readTune).Answers(tuneView(new(api.Mount))), api.Write: api.Do(writeTune)}},
		{Path: "internal/ui/mounts", Help: "The mounts that the token may see.", Gate: api.Unsealed, Ops: map[api.Op]api.Handler{api.Read: api.Do(uiMounts).Answers(uiList{})}},
		{Path: "internal/ui/mounts/{path...}", Help: "The mount that a path is in.", Gate: api.Unsealed, Ops: map[api.Op]api.Handler{api.Read: api.Do(uiMount).Answers(uiView(new(api.Mount)))}},
		{Path: "remount", Help: "Moves a mount to another path.", Sudo: []api.Op{api.Write}, Ops: map[api.Op]api.Handler{api.Write: api.Do(s.remount).Answers(moving{})}},
		{Path: "remount/status/{id...}", Help: "How a move went.", Ops: map[api.Op]api.Handler{api.Read: api.Do(s.remountStatus).Answers(moved{})}},
	}
}

var exampleMount = mountView(new(api.Mount))

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

func listMounts(r *api.Request, _ *api.None) (api.Answer, error) {
	u := keep.Of(r)
	data := make(map[string]any)
	for _, m := range u.AllEngines() {
		data[m.Path] = mountView(m)
	}
	return api.Answer{Data: data, Inject: true}, nil
}

func readMount(r *api.Request, _ *api.None) (api.Answer, error) {
	u, path := keep.Of(r), r.Param("path")
	if method, ok := strings.CutPrefix(path, "auth/"); ok { // callers without sudo read login methods through this path
		return showAuth(u, method)
	}
	m := u.Engine(path)
	if m == nil {
		return api.Answer{}, invalid("No secret engine mount at %s/", path)
	}
	return api.Answer{Data: mountView(m), Inject: true}, nil
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

// check refuses what no mount can be here, and takes up what stands in the
// configuration.
func (in *mountInput) check() error {
	switch {
	case in.SealWrap:
		return invalid("seal_wrap is not supported")
	case in.Local:
		return invalid("local is not supported, since nothing is replicated: leave it out")
	}
	if in.Description == nil {
		in.Description = in.Config.Description
	}
	if in.Options == nil {
		in.Options = in.Config.Options
	}
	return nil
}

var errTokenType = invalid("token_type is a setting of login methods: leave it out")

func (in *mountConfigInput) apply(c *api.MountConfig) error {
	if in.DefaultLeaseTTL != nil && *in.DefaultLeaseTTL != api.Unchanged {
		c.DefaultLeaseTTL = *in.DefaultLeaseTTL
	}
	if in.MaxLeaseTTL != nil && *in.MaxLeaseTTL != api.Unchanged {
		c.MaxLeaseTTL = *in.MaxLeaseTTL
	}
	api.Set(&c.ForceNoCache, in.ForceNoCache)
	api.Set(&c.ListingVisibility, in.ListingVisibility)
	api.Set(&c.AuditNonHMACRequestKeys, in.AuditNonHMACRequestKeys)
	api.Set(&c.AuditNonHMACResponseKeys, in.AuditNonHMACResponseKeys)
	api.Set(&c.PassthroughRequestHeaders, in.PassthroughRequestHeaders)
	api.Set(&c.AllowedResponseHeaders, in.AllowedResponseHeaders)
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

// engine is the type of engine of a name, of the version that the options say, else
// of the newest. A name like kv-v2 has its version in it.
func engine(t *mount.Types, name string, options map[string]string) (*api.Type, error) {
	if name == "" {
		return nil, invalid("backend type must be specified as a string")
	}
	version := options["version"]
	if base, of, ok := strings.Cut(name, "-v"); ok && t.Get(api.Secrets, base, of) != nil {
		if version != "" && version != of {
			return nil, invalid("the type %s is not of version %s: leave out one of both", name, version)
		}
		name, version = base, of
	}
	if !slices.Contains(t.Names(api.Secrets), name) {
		return nil, invalid("unknown backend type: %q; there is %s", name, strings.Join(t.Names(api.Secrets), ", "))
	}
	if err := checkVersion(t, name, options); err != nil {
		return nil, err
	}
	versions := t.Versions(name)
	return t.Get(api.Secrets, name, cmp.Or(version, versions[len(versions)-1])), nil
}

// checkVersion refuses options that no engine of the type has.
func checkVersion(t *mount.Types, name string, options map[string]string) error {
	versions := t.Versions(name)
	for option, v := range options {
		switch {
		case slices.Contains(versions, ""):
			return invalid("unknown option %q: a %s engine has no options", option, name)
		case option != "version":
			return invalid("unknown option %q: a %s engine has the option version only", option, name)
		case v == "" || slices.Contains(versions, v):
		case len(versions) == 1:
			return invalid("%s version %s is not supported: only version %s is; set version=%[3]s or leave it out", strings.ToUpper(name), v, versions[0])
		default:
			return invalid("%s version %s is not supported: there are the versions %s", strings.ToUpper(name), v, strings.Join(versions, ", "))
		}
	}
	return nil
}

func checkMountPath(path string) error {
	segments := strings.Split(path, "/")
	if slices.ContainsFunc(segments, func(s string) bool { return strings.TrimSpace(s) != s || s == "tune" }) {
		return invalid("a mount's path cannot have spaces at the ends of a segment, nor the segment \"tune\"")
	}
	if len(segments) > 8 || len(path) > mount.MaxPath {
		return invalid("a mount's path has at most 8 segments and %d bytes", mount.MaxPath)
	}
	return nil
}

func enableMount(r *api.Request, in *mountInput) (api.Answer, error) {
	if err := in.check(); err != nil {
		return api.Answer{}, err
	}
	typ, err := engine(keep.Of(r).Types, in.Type, in.Options)
	if err != nil {
		return api.Answer{}, err
	}
	if in.Config.TokenType != nil && *in.Config.TokenType != "" {
		return api.Answer{}, errTokenType
	}
	u, path := keep.Of(r), r.Param("path")
	if first, _, _ := strings.Cut(path, "/"); slices.Contains(reserved, first) {
		return api.Answer{}, invalid("cannot mount %q", path+"/")
	}
	if err := checkMountPath(path); err != nil {
		return api.Answer{}, err
	}
	m := mount.New(path+"/", typ.Name, typ.Version)
	api.Set(&m.Description, in.Description)
	if err := in.Config.apply(&m.Config); err != nil {
		return api.Answer{}, err
	}
	if err := u.Enable(r.Context, &u.Engines, m); err != nil {
		return api.Answer{}, err
	}
	r.Frame.Log().Info("mount enabled", "path", m.Path, "type", m.Type, "mount", m.UUID, "request", r.ID)
	if in.Type == "kv" && in.Options["version"] == "" {
		return api.Answer{Warnings: []string{"the engine is KV version 2, since no version was given; for version 1, Vault's default for the type kv, give the option version=1"}}, nil
	}
	return api.Answer{}, nil
}

func disableMount(r *api.Request, _ *api.None) (api.Answer, error) {
	u, path := keep.Of(r), r.Param("path")
	if first, _, _ := strings.Cut(path, "/"); slices.Contains(reserved, first) {
		return api.Answer{}, invalid("cannot unmount %q", path+"/")
	}
	if err := u.Disable(r.Context, &u.Engines, path); err != nil {
		return api.Answer{}, err
	}
	r.Frame.Log().Info("mount disabled", "path", path+"/", "request", r.ID)
	return api.Answer{}, nil
}

func readTune(r *api.Request, _ *api.None) (api.Answer, error) {
	path := r.Param("path")
	m := keep.Of(r).Engine(path)
	if m == nil {
		return api.Answer{}, invalid("cannot fetch sysview for path %q", path+"/")
	}
	return api.Answer{Data: tuneView(m), Inject: true}, nil
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

func writeTune(r *api.Request, in *mountConfigInput) (api.Answer, error) {
	if in.TokenType != nil && *in.TokenType != "" {
		return api.Answer{}, errTokenType
	}
	u := keep.Of(r)
	err := u.Tune(r.Context, &u.Engines, r.Param("path"), func(m *api.Mount) error {
		if err := changeVersion(u.Types, m, in.Options); err != nil {
			return err
		}
		api.Set(&m.Description, in.Description)
		return in.apply(&m.Config)
	})
	if err == nil && in.Options["version"] != "" {
		u.WakeSweep() // which converts what there is, if it is an upgrade
	}
	return api.Answer{}, err
}

type uiList struct {
	Auth   map[string]map[string]any `json:"auth"` // by path
	Secret map[string]map[string]any `json:"secret"`
}

// uiMounts lists the mounts that the token may see; without one, and with
// little of each, those that everybody may.
func uiMounts(r *api.Request, _ *api.None) (api.Answer, error) {
	u := keep.Of(r)
	secret := make(map[string]map[string]any)
	for _, m := range u.AllEngines() {
		switch {
		case r.Caller.ACL.Within(m.Path):
			secret[m.Path] = mountView(m)
		case m.Config.ListingVisibility == "unauth":
			secret[m.Path] = map[string]any{"type": m.Type, "description": m.Description, "options": m.Options}
		}
	}
	auth := make(map[string]map[string]any)
	for _, m := range u.AllLogins() {
		switch {
		case m.Type == "token" && r.Caller.Token != nil, r.Caller.ACL.Within("auth/" + m.Path):
			auth[m.Path] = mountView(m)
		case m.Config.ListingVisibility == "unauth":
			auth[m.Path] = map[string]any{"type": m.Type, "description": m.Description, "options": m.Options}
		}
	}
	return api.Answer{Data: uiList{auth, secret}}, nil
}

// uiMount tells which mount a path is in: how clients find the version of KV.
func uiMount(r *api.Request, _ *api.None) (api.Answer, error) {
	u, path := keep.Of(r), r.Param("path")
	m, _ := u.Engines.Load().Find(path)
	if first, _, _ := strings.Cut(path, "/"); first == "cubbyhole" {
		m = u.Fixed("cubbyhole/")
	}
	if m == nil || !r.Caller.ACL.Within(m.Path) && r.Caller.ACL.Capabilities(path)&^access.Denied == 0 {
		return api.Answer{}, &api.Error{Code: api.Denied, Text: fmt.Sprintf(
			"preflight capability check returned 403, please ensure client's policies grant access to path %q", path+"/")}
	}
	return api.Answer{Data: uiView(m)}, nil
}

func uiView(m *api.Mount) map[string]any {
	view := mountView(m)
	view["path"] = m.Path
	return view
}
