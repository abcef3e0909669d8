package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/keep"
)

// errorBody is what Vault sends with every error.
type errorBody struct {
	Errors []string `json:"errors"`
}

// send writes an answer, or, recorded first, what an error stands for, and returns
// the status. The answer itself has been recorded.
func (s *Server) send(r *request, a api.Answer, body []byte, err error) (status int) {
	if a.Raw != nil && a.Raw.Stream != nil {
		defer a.Raw.Stream.Close()
	}
	status = a.Status
	kind := "application/json"
	if err != nil {
		var text string
		status, body, text = s.refusal(r, err)
		if e := s.auditResponse(r, api.Answer{}, text); e != nil && !errors.Is(err, audit.ErrFailed) {
			status, body, _ = s.refusal(r, e)
		}
		a.Raw = nil
	}
	r.release() // the client may take its time
	header := r.w.Header()
	if a.Raw != nil {
		kind = cmp.Or(a.Raw.Type, kind)
		for name, value := range a.Raw.Header {
			header.Set(name, value)
		}
		if a.Raw.Stream != nil {
			header.Set("Content-Type", kind)
			return s.stream(r, a)
		}
	}
	if status == 0 {
		status = http.StatusOK
		if body == nil {
			status = http.StatusNoContent
		}
	}
	switch {
	case r.http.ContentLength != 0 && r.Body == nil && !r.drained(): // the answer would wait for a body that nobody reads
		header.Set("Connection", "close")
	case r.http.TransferEncoding != nil: // there may have been a Content-Length too, which a proxy may have heeded
		header.Set("Connection", "close")
	}
	if body != nil {
		header.Set("Content-Type", kind)
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	r.w.WriteHeader(status)
	if body != nil && r.http.Method != http.MethodHead && status != http.StatusNoContent && status != http.StatusNotModified {
		r.w.Write(body)
	}
	return status
}

// streamPiece is how many bytes of a stream a client takes within exchangeTimeout,
// or is cut off.
const streamPiece = 1 << 20

// stream sends an answer of any length, however long that takes.
func (s *Server) stream(r *request, a api.Answer) int {
	if a.Raw.Length > 0 {
		r.w.Header().Set("Content-Length", strconv.FormatInt(a.Raw.Length, 10))
	}
	r.w.WriteHeader(http.StatusOK)
	conn := http.NewResponseController(r.w)
	conn.SetReadDeadline(time.Time{})
	var err error
	if a.Raw.Live {
		err = live(r.w, conn, a.Raw.Stream)
	}
	for err == nil {
		conn.SetWriteDeadline(time.Now().Add(exchangeTimeout))
		_, err = io.CopyN(r.w, a.Raw.Stream, streamPiece)
	}
	conn.SetWriteDeadline(time.Now().Add(exchangeTimeout)) // for what is buffered
	if err != io.EOF {
		s.log.Warn("an answer was not taken to its end", "request", r.ID, "path", r.Path, "error", err)
	}
	return http.StatusOK
}

// live sends what a stream has as soon as it has it, until the error of one of the
// two: io.EOF at the stream's end. The client takes that within exchangeTimeout, or
// is cut off.
func live(w io.Writer, conn *http.ResponseController, stream io.Reader) error {
	piece := make([]byte, 32<<10)
	var n int
	var ended error
	for {
		conn.SetWriteDeadline(time.Now().Add(exchangeTimeout))
		if _, err := w.Write(piece[:n]); err != nil {
			return err
		}
		if err := conn.Flush(); err != nil { // the first time, the headers
			return err
		}
		if ended != nil {
			return ended
		}
		n, ended = stream.Read(piece)
	}
}

// refusal is what an error stands for: a status, a body and the text in it.
func (s *Server) refusal(r *request, err error) (status int, body []byte, text string) {
	status, text, ours := fault(err)
	if ours {
		s.log.Error("a request failed", "request", r.ID, "method", r.http.Method, "path", r.Path, "error", err)
		text += " (request " + r.ID + ")" // by which the log has the cause
	}
	e := errorBody{Errors: []string{}}
	if text != "" {
		e.Errors = append(e.Errors, text)
	}
	if errors.Is(err, api.ErrSealed) {
		switch st := s.keep.Status(); {
		case st.Damage != nil:
			e.Errors = append(e.Errors, "the store is damaged: `sealkeep status` tells how")
		case !st.Initialized:
			e.Errors = append(e.Errors, keep.ErrNotInitialized.Error())
		}
	}
	told, _ := errors.AsType[*api.Error](err)
	after := time.Duration(0)
	switch {
	case told != nil && told.After > 0:
		after = told.After
	case status == http.StatusTooManyRequests:
		after = time.Second
	case status == http.StatusServiceUnavailable && r.waits():
		after = sealedWait
	}
	if after > 0 {
		r.w.Header().Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
	if status == http.StatusUnauthorized {
		r.w.Header().Set("WWW-Authenticate", `Basic realm="sealkeep", charset="UTF-8"`)
	}
	if told != nil && told.Body != nil {
		return status, told.Body, text
	}
	body, _ = json.Marshal(e) // strings always encode
	return status, body, text
}

// encode returns the body of an answer, nil for none.
func (s *Server) encode(r *request, a api.Answer) ([]byte, error) {
	switch {
	case a.Raw != nil && a.Raw.JSON != nil:
		return json.Marshal(a.Raw.JSON)
	case a.Raw != nil:
		return a.Raw.Bytes, nil
	case a.Data == nil && a.Warnings == nil && a.Auth == nil && a.Wrap == nil:
		return nil, nil
	}
	return r.envelope(a)
}

// envelope puts Vault's around an answer.
func (r *request) envelope(a api.Answer) ([]byte, error) {
	data := []byte("null")
	var err error
	size := 400
	switch d := a.Data.(type) {
	case nil:
	case api.Appender:
		if d, ok := a.Data.(interface{ Size() int }); ok {
			size += d.Size()
		}
	default:
		if data, err = json.Marshal(d); err != nil {
			return nil, err
		}
	}
	b := append(make([]byte, 0, size), '{')
	if a.Inject && len(data) > 2 && data[0] == '{' {
		b = append(append(b, data[1:len(data)-1]...), ',')
	}
	b = append(append(b, `"request_id":"`...), r.ID...)
	b = append(b, `","lease_id":"","renewable":false,"lease_duration":`...)
	b = strconv.AppendInt(b, int64(a.Lease/time.Second), 10)
	b = append(b, `,"data":`...)
	if d, ok := a.Data.(api.Appender); ok {
		b = d.AppendJSON(b)
	} else {
		b = append(b, data...)
	}
	b = append(b, `,"wrap_info":`...)
	if a.Wrap == nil {
		b = append(b, "null"...)
	} else {
		wrap, err := json.Marshal(a.Wrap)
		if err != nil {
			return nil, err
		}
		b = append(b, wrap...)
	}
	b = append(b, `,"warnings":`...)
	if a.Warnings == nil {
		b = append(b, "null"...)
	} else {
		list, err := json.Marshal(a.Warnings)
		if err != nil {
			return nil, err
		}
		b = append(b, list...)
	}
	b = append(b, `,"auth":`...)
	if a.Auth == nil {
		b = append(b, "null"...)
	} else {
		auth, err := json.Marshal(a.Auth)
		if err != nil {
			return nil, err
		}
		b = append(b, auth...)
	}
	b = append(b, `,"mount_type":"`...)
	if a.Wrap == nil {
		b = append(b, r.typ.Name...)
	}
	return append(b, "\"}\n"...), nil
}
