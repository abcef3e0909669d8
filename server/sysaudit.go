package server

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
)

// auditRoutes is the API of the audit log.
var auditRoutes = []oldRoute{
	{path: "sys/audit", gate: authenticated, sudo: []api.Op{opRead}, on: [ops]handler{opRead: listAudit}},
	{path: "sys/audit/*", gate: authenticated, sudo: []api.Op{opWrite, opDelete}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: enableAudit, opDelete: disableAudit}},
	{path: "sys/audit-hash/*", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: auditHash}},
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

func listAudit(s *Server, r *request) (answer, error) {
	list := make(map[string]auditView)
	for _, d := range r.keep.audit.Status() {
		v := auditView{Path: d.Path, Type: d.Type, Description: d.Description, Options: d.Options, FromAPI: d.FromAPI, Head: r.entry.Before(d.Path, d.Head)}
		if d.Failing != nil {
			v.Failing, v.Since = d.Failing.Error(), &d.Since
		}
		list[d.Path] = v
	}
	return answer{data: list, inject: true}, nil
}

func enableAudit(s *Server, r *request) (answer, error) {
	var in struct {
		Type        string                     `json:"type"`
		Description string                     `json:"description"`
		Options     map[string]json.RawMessage `json:"options"`
		Local       loose[bool]                `json:"local"`
	}
	if err := r.settings(&in); err != nil {
		return answer{}, err
	}
	if in.Local.value {
		return answer{}, invalid("local is not supported, since nothing is replicated: leave it out")
	}
	s.mu.Lock()
	allowed := s.auditAPI
	s.mu.Unlock()
	if !allowed {
		return answer{}, invalid("cannot enable audit device via API; use declarative, config-based audit device management instead (or set unsafe_allow_api_audit_creation)")
	}
	d := audit.Device{Path: r.rest + "/", Type: in.Type, Description: in.Description, Options: make(map[string]string)}
	if d.Type == "" {
		d.Type = r.rest
	}
	for key, value := range in.Options {
		d.Options[key] = api.Scalar(value)
	}
	if len(d.Path) > maxMountPath {
		return answer{}, invalid("the path is too long: at most %d bytes are accepted", maxMountPath)
	}
	if err := r.keep.audit.Enable(r.Context, r.keep.store, d); err != nil {
		return answer{}, err
	}
	s.log.Info("audit device enabled", "device", d.Path, "type", d.Type, "request", r.ID)
	return answer{}, nil
}

func disableAudit(s *Server, r *request) (answer, error) {
	path := strings.TrimSuffix(r.rest, "/") + "/"
	found, err := r.keep.audit.Disable(r.Context, r.keep.store, path)
	if found && err == nil {
		s.log.Warn("audit device disabled", "device", path, "request", r.ID)
	}
	return answer{}, err
}

func auditHash(s *Server, r *request) (answer, error) {
	var in struct {
		Input string `json:"input"`
	}
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	if in.Input == "" {
		return answer{}, invalid(`the "input" parameter is empty`)
	}
	hash, err := r.keep.audit.Hash(strings.TrimSuffix(r.rest, "/")+"/", in.Input)
	return answer{data: map[string]any{"hash": hash}}, err
}
