package servertest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A Reply is an answer, decoded.
type Reply struct {
	Status int
	Header http.Header
	Text   string
	Body   map[string]any
}

// Call sends a request with the root token. Headers are "Name: value"; where the
// request comes from is one, too: "RemoteAddr: 10.0.0.1:1".
func (f *Fixture) Call(t testing.TB, method, path, body string, headers ...string) Reply {
	t.Helper()
	req := httptest.NewRequest(method, "http://keep/", strings.NewReader(body))
	SetURL(req, path)
	if f.Root != "" {
		req.Header.Set("X-Vault-Token", f.Root)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
		if value == "" || name == "RemoteAddr" {
			req.Header.Del(name)
			req.RemoteAddr = cmp.Or(value, req.RemoteAddr)
		}
	}
	w := httptest.NewRecorder()
	f.HTTP.ServeHTTP(w, req)
	r := Reply{Status: w.Code, Header: w.Header(), Text: w.Body.String()}
	if w.Body.Len() > 0 && strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		d := json.NewDecoder(strings.NewReader(r.Text))
		d.UseNumber()
		if err := d.Decode(&r.Body); err != nil {
			t.Fatalf("%s %s: %v in %q", method, path, err, r.Text)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			t.Fatalf("%s %s: more than one JSON value in %q", method, path, r.Text)
		}
	}
	return r
}

// Must is Call that wants the status.
func (f *Fixture) Must(t testing.TB, status int, method, path, body string, headers ...string) Reply {
	t.Helper()
	r := f.Call(t, method, path, body, headers...)
	if r.Status != status {
		t.Fatalf("%s %s %s: status %d, want %d: %s", method, path, body, r.Status, status, r.Text)
	}
	return r
}

// Get walks the answer: Get("data", "keys").
func (r Reply) Get(path ...string) any {
	var v any = r.Body
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

// Errors is the list of errors as one text.
func (r Reply) Errors() string {
	list, ok := r.Body["errors"].([]any)
	if !ok {
		return "(no list of errors) " + r.Text
	}
	var texts []string
	for _, e := range list {
		texts = append(texts, fmt.Sprint(e))
	}
	return strings.Join(texts, "; ")
}

// SetURL gives the request the path below /v1/ as it is, however odd.
func SetURL(req *http.Request, path string) {
	path, req.URL.RawQuery, _ = strings.Cut(path, "?")
	req.URL.Path, req.URL.RawPath = "/v1/"+path, ""
}
