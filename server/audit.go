package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
)

// auditRequest records a request that is about to be carried out, or refused with
// an error. When that fails it must not be carried out. All that an open keep is
// asked is in its audit log, also what it refuses, but for what is quiet, and for the
// rate limits: otherwise a flood of refused requests would fill the disk.
func (s *Server) auditRequest(r *request, refused error) error {
	u := r.unsealed
	if u == nil || !u.Audit.On() || r.route != nil && r.route.Quiet {
		return nil
	}
	if told, ok := errors.AsType[*api.Error](refused); ok && told.Code == api.Busy {
		return nil
	}
	if !r.hold() {
		return api.ErrSealed
	}
	text := ""
	if refused != nil {
		_, text, _ = fault(refused)
	}
	e := s.auditEntry(r, refused)
	if err := u.Audit.Request(e, text); err != nil {
		s.keep.Withheld("request")
		return fmt.Errorf("the request was not carried out, because it could not be recorded: %w", err)
	}
	r.entry = e
	return nil
}

// hold keeps the audit log open until release, so that a request that seals the keep
// has its answer recorded.
func (r *request) hold() bool {
	if !r.holds {
		r.holds = r.unsealed.Audit.Begin()
	}
	return r.holds
}

func (r *request) release() {
	if r.holds {
		r.unsealed.Audit.End()
		r.holds = false
	}
}

// Tell records an answer that tells something once, before what it tells is committed.
func (r *request) Tell(a api.Answer) error {
	if err := r.server.writeResponse(r, a, ""); err != nil {
		return fmt.Errorf("nothing was changed, because the answer could not be recorded: %w; begin again when an audit device works", err)
	}
	r.told = true
	return nil
}

// auditResponse records an answer that is about to be sent. When that fails it must
// not be.
func (s *Server) auditResponse(r *request, a api.Answer, text string) error {
	if r.told && text == "" && a.Wrap == nil {
		return nil
	}
	if err := s.writeResponse(r, a, text); err != nil {
		return fmt.Errorf("the request was carried out, but its answer is withheld, because it could not be recorded: %w", err)
	}
	return nil
}

func (s *Server) writeResponse(r *request, a api.Answer, text string) error {
	if r.entry == nil {
		return nil
	}
	if !r.hold() { // only after what began to be sent
		return api.ErrSealed
	}
	o := audit.Outcome{Error: text, Warnings: a.Warnings, List: r.Op.Folder()}
	if r.Mount != nil {
		o.Plain = r.Mount.Config.AuditNonHMACResponseKeys
	}
	if r.route != nil {
		o.Whole = r.route.Whole
	}
	if a.Auth != nil {
		o.Auth = &audit.Auth{
			ClientToken: a.Auth.ClientToken, Accessor: a.Auth.Accessor, DisplayName: a.Auth.DisplayName, Policies: a.Auth.Policies, TokenPolicies: a.Auth.TokenPolicies,
			Metadata: a.Auth.Metadata, NumUses: a.Auth.NumUses, EntityID: a.Auth.EntityID, TokenType: a.Auth.TokenType, TokenTTL: a.Auth.LeaseDuration,
		}
	}
	if w := a.Wrap; w != nil {
		o.Wrap = &audit.Wrap{TTL: w.TTL, Token: w.Token, Accessor: w.Accessor, CreationTime: w.CreationTime, CreationPath: w.CreationPath, WrappedAccessor: w.WrappedAccessor}
	}
	var err error
	switch d := a.Data.(type) {
	case nil:
		if a.Raw != nil {
			switch o.Data = a.Raw.Bytes; {
			case a.Raw.Record != nil:
				o.Data, err = json.Marshal(a.Raw.Record)
			case a.Raw.JSON != nil:
				o.Data, err = json.Marshal(a.Raw.JSON)
			}
		}
	case api.Appender:
		o.Data = d.AppendJSON(nil)
	default:
		o.Data, err = json.Marshal(d)
	}
	if err != nil {
		return err
	}
	if err := r.unsealed.Audit.Response(r.entry, o); err != nil {
		s.keep.Withheld("response")
		return err
	}
	return nil
}

// Entry is what the audit log is told of the request.
func (r *request) Entry() *audit.Entry {
	if r.entry != nil {
		return r.entry
	}
	return r.server.auditEntry(r, nil)
}

// auditEntry is what the audit log is told of a request.
func (s *Server) auditEntry(r *request, refused error) *audit.Entry {
	e := &audit.Entry{ID: r.ID, Path: r.Path, Secret: r.Caller.Bearer, Data: r.Body, WrapTTL: r.WrapIn}
	if t := r.Caller.Token; t != nil {
		e.Auth = &audit.Auth{
			Accessor: t.Accessor, DisplayName: t.DisplayName, Policies: t.Policies, TokenPolicies: t.Policies, Metadata: t.Meta,
			RemainingUses: t.NumUses, EntityID: t.EntityID, TokenType: t.Type, TokenTTL: int64(t.TTL / time.Second),
			IssueTime: t.Created.UTC().Format(time.RFC3339),
		}
	}
	if r.Path == "" { // it is none
		e.Path = audit.Shorten(strings.TrimPrefix(r.http.URL.Path, "/v1/"))
	}
	if e.Secret == "" { // refused before it was looked at
		e.Secret = bearer(r.http.Header)
	}
	if r.known {
		e.Operation = r.Op.String()
	}
	if r.Caller.ACL != nil && r.gate() == api.Authenticated {
		e.Decided, e.Allowed = true, !errors.Is(refused, access.ErrDenied)
	}
	if r.route != nil {
		e.Whole = r.route.Whole
	}
	typ := r.typ
	if typ == nil { // refused before it was looked for
		_, _, typ = s.tables.findFixed(r.Path)
	}
	if typ != nil {
		e.Mount = audit.Mount{Point: typ.At, Type: typ.Name, Class: "secret"}
		folder := ""
		if strings.HasPrefix(r.Path, "auth/") {
			folder, e.Mount.Class = "auth/", "auth"
		}
		if r.mounts != nil { // what is there without being mounted has no accessor in the log
			e.Mount.Point, e.Mount.Accessor = folder+r.Mount.Path, r.Mount.Accessor
			e.Plain = r.Mount.Config.AuditNonHMACRequestKeys
		}
	}
	params := r.queryParams()
	if r.Upload != nil {
		params["content_length"] = r.http.ContentLength
	}
	if len(params) > 0 && r.Body == nil {
		e.Data, _ = json.Marshal(params) // texts always encode
	}
	if host, port, err := net.SplitHostPort(r.http.RemoteAddr); err == nil {
		e.RemoteAddr = host
		e.RemotePort, _ = strconv.Atoi(port)
	}
	if t := r.http.TLS; t != nil && len(t.VerifiedChains) > 0 {
		e.CertSerial = t.VerifiedChains[0][0].SerialNumber.String()
	}
	return e
}
