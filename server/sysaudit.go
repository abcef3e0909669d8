package server

import (
	"cmp"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/mount"
)

// auditRoutes are the API of the audit log.
func (s *Server) auditRoutes() []api.Route {
	return []api.Route{
		{Path: "sys/audit", Help: "The audit devices, by path.", Sudo: []api.Op{api.Read}, Ops: map[api.Op]api.Handler{api.Read: api.Do(s.listAudit)}},
		{Path: "sys/audit/{path...}", Help: "Enables or disables an audit device.", Sudo: []api.Op{api.Write, api.Delete}, Settings: true,
			Ops: map[api.Op]api.Handler{api.Write: api.Do(s.enableAudit), api.Delete: api.Do(s.disableAudit)}},
		{Path: "sys/audit-hash/{path...}", Help: "The hash that stands for a text in the log of an audit device.", Ops: map[api.Op]api.Handler{api.Write: api.Do(s.auditHash)}},
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

func (s *Server) listAudit(r *api.Request, _ *api.None) (api.Answer, error) {
	list := make(map[string]auditView)
	for _, d := range unsealedOf(r).audit.Status() {
		v := auditView{Path: d.Path, Type: d.Type, Description: d.Description, Options: d.Options, FromAPI: d.FromAPI, Head: entryOf(r).Before(d.Path, d.Head)}
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

func (s *Server) enableAudit(r *api.Request, in *enableAuditInput) (api.Answer, error) {
	if in.Local {
		return api.Answer{}, invalid("local is not supported, since nothing is replicated: leave it out")
	}
	s.mu.Lock()
	allowed := s.auditAPI
	s.mu.Unlock()
	if !allowed {
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
	k := unsealedOf(r)
	if err := k.audit.Enable(r.Context, k.Store, d); err != nil {
		return api.Answer{}, err
	}
	s.log.Info("audit device enabled", "device", d.Path, "type", d.Type, "request", r.ID)
	return api.Answer{}, nil
}

func (s *Server) disableAudit(r *api.Request, _ *api.None) (api.Answer, error) {
	k, path := unsealedOf(r), strings.TrimSuffix(r.Param("path"), "/")+"/"
	found, err := k.audit.Disable(r.Context, k.Store, path)
	if found && err == nil {
		s.log.Warn("audit device disabled", "device", path, "request", r.ID)
	}
	return api.Answer{}, err
}

type auditHashInput struct {
	Input string `json:"input"`
}

func (s *Server) auditHash(r *api.Request, in *auditHashInput) (api.Answer, error) {
	if in.Input == "" {
		return api.Answer{}, invalid(`the "input" parameter is empty`)
	}
	hash, err := unsealedOf(r).audit.Hash(strings.TrimSuffix(r.Param("path"), "/")+"/", in.Input)
	return api.Answer{Data: map[string]any{"hash": hash}}, err
}
