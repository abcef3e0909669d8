package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A server that refuses PATCH, as Vault does to a policy without that capability: kv patch then reads and writes the whole
// secret, unless it was told not to.
func TestPatchFallsBack(t *testing.T) {
	for _, tt := range []struct {
		refusal int
		flags   []string
		code    int
		written string // "": nothing
		cas     string
	}{
		{403, nil, 0, `"data":{"a":"1","b":"two","n":12345678901234567890}`, `"cas":7`},
		{405, []string{"-remove-data=n"}, 0, `"data":{"a":"1","b":"two"}`, `"cas":7`},
		{403, []string{"-cas=5"}, 0, `"data":{"a":"1","b":"two","n":12345678901234567890}`, `"cas":5`},
		{403, []string{"-method=patch"}, 2, "", ""},
		{400, nil, 2, "", ""},
		{500, nil, 2, "", ""},
	} {
		written := ""
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.Method + " " + r.URL.Path {
			case "GET /v1/sys/internal/ui/mounts/secret/x":
				fmt.Fprint(w, `{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}`)
			case "GET /v1/secret/data/x":
				fmt.Fprint(w, `{"data":{"data":{"a":"1","b":"2","n":12345678901234567890},"metadata":{"version":7}}}`)
			case "PATCH /v1/secret/data/x":
				w.WriteHeader(tt.refusal)
				fmt.Fprint(w, `{"errors":["1 error occurred:\n\t* no\n\n"]}`)
			case "POST /v1/secret/data/x":
				b, _ := io.ReadAll(r.Body)
				written = string(b)
				fmt.Fprint(w, `{"data":{"version":8,"deletion_time":""}}`)
			default:
				t.Errorf("%s %s", r.Method, r.URL)
			}
		}))
		args := append(append([]string{"kv", "patch", "-address=" + s.URL}, tt.flags...), "secret/x", "b=two")
		code, out, errs := runLine(t, nil, "", args...)
		s.Close()
		if code != tt.code || !strings.Contains(written, tt.written) || !strings.Contains(written, tt.cas) || tt.written == "" && written != "" {
			t.Errorf("%d %q: code %d, wrote %s; %s", tt.refusal, tt.flags, code, written, errs)
		}
		if tt.code == 0 && (!strings.Contains(out, "version          8") || !strings.Contains(errs, `the policy lacks the capability "patch"`)) {
			t.Errorf("%d %q: %s, %s", tt.refusal, tt.flags, out, errs)
		}
	}
}
