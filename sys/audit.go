package sys

import (
	"cmp"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/mount"
)

// auditRoutes are the API of the audit log.
func (s *System) auditRoutes() []api.Route {
	return []api.Route{
		{Path: "audit", Help: "The audit devices, by path.", Sudo: []api.Op{api.Read}, Ops: map[api.Op]api.Handler{api.Read: api.Do(listAudit).Answers(map[string]auditView{})}},
		{Path: "audit/{path...}", Help: "Enables or disables an audit device.", Sudo: []api.Op{api.Write, api.Delete}, Settings: true,
			Ops: map[api.Op]api.Handler{api.Write: api.Do(s.enableAudit), api.Delete: api.Do(disableAudit)}},
		{Path: "audit-hash/{path...}", Help: "The hash that stands for a text in the log of an audit device.", Ops: map[api.Op]api.Handler{api.Write: api.Do(auditHash).Answers(hashed{})}},
	}
}

// auditView has Vault's fields first, then ours.
type auditView struct {
	Path        string            `json:"path"`
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Options     map[string]string `json:"options"`
	Local       bool              `json:"local"`

	FromAPI bool       `json:"from_api"` // not of the configuration
	Head    audit.Head `json:"head"`     // the last line that was written before this request's own
	Failing string     `json:"failing,omitempty"`
	Since   *time.Time `json:"failing_since,omitempty"`
}

func listAudit(r *api.Request, _ *api.None) (api.Answer, error) {
	list := make(map[string]auditView)
	for _, d := range keep.Of(r).Audit.Status() {
		v := auditView{Path: d.Path, Type: d.Type, Description: d.Description, Options: d.Options, FromAPI: d.FromAPI, Head: keep.EntryOf(r).Before(d.Path, d.Head)}
		if d.Failing != nil {
			v.Failing, v.Since = d.Failing.Error(), &d.Since
		}
		list[d.Path] = v
	}
	return api.Answer{Data: list, Inject: true}, nil
}

type enableAuditInput struct {
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Options     map[string]string `json:"options"`
	Local       bool              `json:"local"`
}

func (s *System) enableAudit(r *api.Request, in *enableAuditInput) (api.Answer, error) {
	if in.Local {
		return api.Answer{}, invalid("local is not supported, since nothing is replicated: leave it out")
	}
	if !s.keep.AllowAuditAPI() {
		return api.Answer{}, invalid("cannot enable audit device via API; use declarative, config-based audit device management instead (or set unsafe_allow_api_audit_creation)")
	}
	path := r.Param("path")
	d := audit.Device{Path: path + "/", Type: cmp.Or(in.Type, path), Description: in.Description, Options: in.Options}
	if d.Options == nil {
		d.Options = make(map[string]string)
	}
	if len(d.Path) > mount.MaxPath {
		return api.Answer{}, invalid("the path is too long: at most %d bytes are accepted", mount.MaxPath)
	}
	u := keep.Of(r)
	if err := u.Audit.Enable(r.Context, u.Store, d); err != nil {
		return api.Answer{}, err
	}
	r.Frame.Log().Info("audit device enabled", "device", d.Path, "type", d.Type, "request", r.ID)
	return api.Answer{}, nil
}

func disableAudit(r *api.Request, _ *api.None) (api.Answer, error) {
	u, path := keep.Of(r), strings.TrimSuffix(r.Param("path"), "/")+"/"
	found, err := u.Audit.Disable(r.Context, u.Store, path)
	if found && err == nil {
		r.Frame.Log().Warn("audit device disabled", "device", path, "request", r.ID)
	}
	return api.Answer{}, err
}

type auditHashInput struct {
	Input string `json:"input"`
}

type hashed struct {
	Hash string `json:"hash"`
}

func auditHash(r *api.Request, in *auditHashInput) (api.Answer, error) {
	if in.Input == "" {
		return api.Answer{}, invalid(`the "input" parameter is empty`)
	}
	hash, err := keep.Of(r).Audit.Hash(strings.TrimSuffix(r.Param("path"), "/")+"/", in.Input)
	return api.Answer{Data: hashed{hash}}, err
}
