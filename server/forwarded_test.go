package server_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/server"
)

// Over a connection: Vault's error, and the client's address in the log.
func TestForwardedIsLogged(t *testing.T) {
	f := fresh(t)
	web := httptest.NewServer(f.Handler(server.Listener{Forwarded: server.Forwarded{Authorized: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RejectNotPresent: true}}))
	defer web.Close()
	call := func(method, path, from string) (int, []string) {
		req, err := http.NewRequestWithContext(t.Context(), method, web.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if from != "" {
			req.Header.Set("X-Forwarded-For", from)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var e server.ErrorBody
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, e.Errors
	}
	if status, errs := call("GET", "/v1/sys/health", ""); status != http.StatusBadRequest || len(errs) != 1 || !strings.HasPrefix(errs[0], "missing x-forwarded-for") {
		t.Error(status, errs)
	}
	if status, _ := call("GET", "/v1/sys/health", "192.0.2.7"); status == http.StatusBadRequest {
		t.Error(status)
	}
	call("PUT", "/v1/sys/generate-root/attempt", "192.0.2.7") // which is off, and logged
	web.Close()
	if log := f.Log.String(); !strings.Contains(log, "from=192.0.2.7:") || strings.Contains(log, "from=127.") {
		t.Errorf("the log does not name the client: %s", log)
	}
}
