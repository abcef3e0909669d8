package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/engine/kv"
)

// An appender is data that writes its own JSON: the answers of the hot path.
type appender interface{ AppendJSON(b []byte) []byte }

// errorBody is what Vault sends with every error.
type errorBody struct {
	Errors []string `json:"errors"`
}

// send records the answer, or what the error stands for, writes it and returns the
// status.
func (s *Server) send(w http.ResponseWriter, r *request, a answer, err error) int {
	var body []byte
	if err == nil && a.stream == nil {
		body, err = s.encode(r, a)
	}
	if err == nil {
		err = s.auditResponse(r, a, "")
	}
	if err == nil && a.stream != nil {
		r.release()
		var status int
		if status, err = a.stream(s, w, r); err == nil {
			return status
		}
	}
	status := a.status
	if err != nil {
		var text string
		status, body, text = s.refusal(w, r, err)
		if e := s.auditResponse(r, answer{}, text); e != nil && !errors.Is(err, audit.ErrFailed) {
			status, body, _ = s.refusal(w, r, e)
		}
		a.kind = ""
	}
	if status == 0 {
		status = http.StatusOK
		if body == nil {
			status = http.StatusNoContent
		}
	}
	r.release() // the client may take its time
	header := w.Header()
	switch {
	case r.http.ContentLength != 0 && r.body == nil: // the answer would wait for a body that nobody reads
		header.Set("Connection", "close")
	case r.http.TransferEncoding != nil: // there may have been a Content-Length too, which a proxy may have heeded
		header.Set("Connection", "close")
	}
	if body != nil {
		kind := a.kind
		if kind == "" {
			kind = "application/json"
		}
		header.Set("Content-Type", kind)
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if body != nil && r.http.Method != http.MethodHead && status != http.StatusNoContent && status != http.StatusNotModified {
		w.Write(body)
	}
	return status
}

// refusal is what an error stands for: a status, a body and the text in it.
func (s *Server) refusal(w http.ResponseWriter, r *request, err error) (status int, body []byte, text string) {
	status, text, ours := fault(err)
	if ours {
		s.log.Error("a request failed", "request", r.id, "method", r.http.Method, "path", r.path, "error", err)
		text += " (request " + r.id + ")" // by which the log has the cause
	}
	e := errorBody{Errors: []string{}}
	if text != "" {
		e.Errors = append(e.Errors, text)
	}
	switch {
	case !errors.Is(err, errSealed):
	case s.damage != nil:
		e.Errors = append(e.Errors, "the store is damaged: `sealkeep status` tells how")
	case s.uninitialized():
		e.Errors = append(e.Errors, ErrNotInitialized.Error())
	}
	if status == http.StatusTooManyRequests {
		after := time.Second
		if early, ok := errors.AsType[*tooSoon](err); ok {
			after = early.wait
		}
		w.Header().Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
	body, _ = json.Marshal(e) // strings always encode
	return status, body, text
}

func (s *Server) uninitialized() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store == nil && s.damage == nil
}

// encode returns the body of an answer, nil for none.
func (s *Server) encode(r *request, a answer) ([]byte, error) {
	switch {
	case a.text != nil:
		return a.text, nil
	case a.raw != nil:
		return json.Marshal(a.raw)
	case a.data == nil && a.warnings == nil && a.auth == nil && a.wrap == nil:
		return nil, nil
	}
	data := []byte("null")
	var err error
	size := 512
	switch d := a.data.(type) {
	case nil:
	case kv.Secret:
		size += len(d.Data) + len(d.Meta.Custom)
	case appender:
	default:
		if data, err = json.Marshal(d); err != nil {
			return nil, err
		}
	}
	b := append(make([]byte, 0, size), '{')
	if a.inject && len(data) > 2 && data[0] == '{' {
		b = append(append(b, data[1:len(data)-1]...), ',')
	}
	b = append(append(b, `"request_id":"`...), r.id...)
	b = append(b, `","lease_id":"","renewable":false,"lease_duration":0,"data":`...)
	if d, ok := a.data.(appender); ok {
		b = d.AppendJSON(b)
	} else {
		b = append(b, data...)
	}
	b = append(b, `,"wrap_info":`...)
	if a.wrap == nil {
		b = append(b, "null"...)
	} else {
		wrap, err := json.Marshal(a.wrap)
		if err != nil {
			return nil, err
		}
		b = append(b, wrap...)
	}
	b = append(b, `,"warnings":`...)
	if a.warnings == nil {
		b = append(b, "null"...)
	} else {
		list, err := json.Marshal(a.warnings)
		if err != nil {
			return nil, err
		}
		b = append(b, list...)
	}
	b = append(b, `,"auth":`...)
	if a.auth == nil {
		b = append(b, "null"...)
	} else {
		auth, err := json.Marshal(a.auth)
		if err != nil {
			return nil, err
		}
		b = append(b, auth...)
	}
	b = append(b, `,"mount_type":"`...)
	switch {
	case a.wrap != nil:
	case r.mount != nil:
		b = append(b, r.mount.Type...)
	case strings.HasPrefix(r.path, "cubbyhole"):
		b = append(b, "cubbyhole"...)
	case strings.HasPrefix(r.path, "auth/token/"):
		b = append(b, "token"...)
	default:
		b = append(b, "system"...)
	}
	return append(b, "\"}\n"...), nil
}
