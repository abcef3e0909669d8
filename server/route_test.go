package server_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

func TestRefusedHeaders(t *testing.T) {
	f := fresh(t)
	for _, ns := range []string{"", "root", "/", "root/", "/root/"} {
		f.Must(t, 200, "GET", "sys/mounts", "", "X-Vault-Namespace: "+ns)
	}
	for _, ns := range []string{"team", "root/team", "/team/", "Root"} {
		for _, path := range []string{"sys/mounts", "sys/health", "secret/data/x", "nowhere"} {
			if r := f.Call(t, "GET", path, "", "X-Vault-Namespace: "+ns); r.Status != 400 || !strings.Contains(r.Errors(), "namespaces are not supported") {
				t.Errorf("%s in %q: %d %s", path, ns, r.Status, r.Text)
			}
		}
	}
	f.Must(t, 200, "GET", "sys/mounts", "", "X-Vault-Wrap-TTL: 0", "X-Vault-Request: true")
}

func TestUnknownPaths(t *testing.T) {
	f := fresh(t)
	for _, path := range []string{"nowhere", "nowhere/x", "sys/nowhere", "sys", "sys/mounts/x/y/tune/z/", "auth/token/nowhere", "secrets"} {
		r := f.Call(t, "PATCH", path, "{}")
		want := fmt.Sprintf("no handler for route %q. route entry not found.", strings.TrimSuffix(path, "/"))
		if strings.HasPrefix(path, "sys/mounts/") {
			continue // a mount may be called so
		}
		if r.Status != 404 || r.Errors() != want {
			t.Errorf("%s: %d %s", path, r.Status, r.Text)
		}
	}
	for _, path := range []string{"/", "/v1", "/v2/sys/health", "/ui/", "*", "/v1x/sys/health"} {
		req := httptest.NewRequest("GET", "http://keep/", nil)
		req.URL.Path = path
		w := httptest.NewRecorder()
		f.HTTP.ServeHTTP(w, req)
		if w.Code != 404 || w.Body.String() != `{"errors":[]}` {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	for _, c := range []struct{ method, path string }{{"DELETE", "sys/health"}, {"POST", "sys/seal-status"}, {"GET", "sys/seal"}, {"GET", "sys/unseal"},
		{"LIST", "sys/init"}, {"TRACE", "sys/mounts"}, {"BREW", "sys/health"}, {"HEAD", "sys/mounts"}, {"GET", "sys/rotate"}} {
		r := f.Call(t, c.method, c.path, "")
		if r.Status != 405 || (c.method != "HEAD" && r.Errors() != "1 error occurred:\n\t* unsupported operation\n\n") {
			t.Errorf("%s %s: %d %s", c.method, c.path, r.Status, r.Text)
		}
	}
}

// An error that is ours is bland for the client and full in the log.
func TestInternalErrors(t *testing.T) {
	f := fresh(t)
	f.Replace("sys/leader", api.Read, func(*api.Request) (api.Answer, error) { return api.Answer{}, errors.New("some detail") })
	f.Replace("sys/mounts", api.Read, func(*api.Request) (api.Answer, error) { panic("at the disco") })
	f.Replace("sys/key-status", api.Read, func(*api.Request) (api.Answer, error) { return api.Answer{Data: make(chan int)}, nil })
	for path, detail := range map[string]string{"sys/leader": "some detail", "sys/mounts": "at the disco", "sys/key-status": "unsupported type"} {
		r := f.Must(t, 500, "GET", path, "")
		id, ok := strings.CutPrefix(strings.TrimSuffix(r.Errors(), ")"), "internal error (request ")
		if !ok || !strings.Contains(f.Log.String(), "request="+id) || !strings.Contains(f.Log.String(), detail) {
			t.Errorf("%s: %s", path, r.Text)
		}
	}
	if strings.Contains(f.Log.String(), f.Root) {
		t.Error("the log has the root token")
	}
}

// A damaged record is reported as what it is.
func TestDamagedMountTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := servertest.NewSeal("a", 1)
		path := filepath.Join(t.TempDir(), "keep.db")
		f := start(t, path, a)
		f.Initialize(t)
		err := f.Unsealed().Store.Update(t.Context(), func(tx *storage.Tx) error { return tx.Put(mount.EnginesPath, []byte("{")) })
		if err != nil {
			t.Fatal(err)
		}
		f.Keep.Seal()
		if err := f.Unseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := f.Slot(t, "a"); !f.Status().Sealed || got.Class != "store" || !strings.Contains(got.Hint, "storage check") {
			t.Errorf("%+v", got)
		}
	})
}

func TestHTTPServerHasLimits(t *testing.T) {
	s := fresh(t).HTTPServer(server.Listener{})
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.WriteTimeout <= server.TimeoutLong || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
		t.Errorf("%+v", s)
	}
}

// A client that takes its time to read an answer holds no transaction.
func TestSlowClientHoldsNoTransaction(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"v"}}`)
	w := &slowWriter{ResponseRecorder: httptest.NewRecorder(), views: func() int { return f.Unsealed().Store.Stats().Views }}
	req := httptest.NewRequest("GET", "/v1/secret/data/a", nil)
	req.Header.Set("X-Vault-Token", f.Root)
	f.HTTP.ServeHTTP(w, req)
	if w.writes == 0 || w.open != 0 {
		t.Errorf("%d writes, %d of them inside a transaction", w.writes, w.open)
	}
}

type slowWriter struct {
	*httptest.ResponseRecorder
	views        func() int
	writes, open int
}

func (w *slowWriter) Write(p []byte) (int, error) {
	w.writes++
	w.open += w.views()
	return w.ResponseRecorder.Write(p)
}

func BenchmarkKVRead(b *testing.B) {
	f := fresh(b)
	f.Must(b, 200, "POST", "secret/data/some/secret", `{"data":{"k":"`+strings.Repeat("x", 1000)+`"}}`)
	req := httptest.NewRequest("GET", "/v1/secret/data/some/secret", nil)
	req.Header.Set("X-Vault-Token", f.Root)
	w := &servertest.NullWriter{Head: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		f.HTTP.ServeHTTP(w, req)
	}
	if w.Code != 200 {
		b.Fatal(w.Code)
	}
}

// BenchmarkLookupSelf is nearly the floor: what every request costs.
func BenchmarkLookupSelf(b *testing.B) {
	f := fresh(b)
	req := httptest.NewRequest("GET", "/v1/auth/token/lookup-self", nil)
	req.Header.Set("X-Vault-Token", f.Root)
	w := &servertest.NullWriter{Head: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		f.HTTP.ServeHTTP(w, req)
	}
}
