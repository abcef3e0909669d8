package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/storage"
)

func TestRefusedHeaders(t *testing.T) {
	f := fresh(t)
	for _, ns := range []string{"", "root", "/", "root/", "/root/"} {
		f.must(t, 200, "GET", "sys/mounts", "", "X-Vault-Namespace: "+ns)
	}
	for _, ns := range []string{"team", "root/team", "/team/", "Root"} {
		for _, path := range []string{"sys/mounts", "sys/health", "secret/data/x", "nowhere"} {
			if r := f.call(t, "GET", path, "", "X-Vault-Namespace: "+ns); r.status != 400 || !strings.Contains(r.errors(), "namespaces are not supported") {
				t.Errorf("%s in %q: %d %s", path, ns, r.status, r.text)
			}
		}
	}
	f.must(t, 200, "GET", "sys/mounts", "", "X-Vault-Wrap-TTL: 0", "X-Vault-Request: true")
}

func TestUnknownPaths(t *testing.T) {
	f := fresh(t)
	for _, path := range []string{"nowhere", "nowhere/x", "sys/nowhere", "sys", "sys/mounts/x/y/tune/z/", "auth/token/nowhere", "secrets"} {
		r := f.call(t, "PATCH", path, "{}")
		want := fmt.Sprintf("no handler for route %q. route entry not found.", strings.TrimSuffix(path, "/"))
		if strings.HasPrefix(path, "sys/mounts/") {
			continue // a mount may be called so
		}
		if r.status != 404 || r.errors() != want {
			t.Errorf("%s: %d %s", path, r.status, r.text)
		}
	}
	for _, path := range []string{"/", "/v1", "/v2/sys/health", "/ui/", "*", "/v1x/sys/health"} {
		req := httptest.NewRequest("GET", "http://keep/", nil)
		req.URL.Path = path
		w := httptest.NewRecorder()
		f.http.ServeHTTP(w, req)
		if w.Code != 404 || w.Body.String() != `{"errors":[]}` {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	for _, c := range []struct{ method, path string }{{"DELETE", "sys/health"}, {"POST", "sys/seal-status"}, {"GET", "sys/seal"}, {"GET", "sys/unseal"},
		{"LIST", "sys/init"}, {"TRACE", "sys/mounts"}, {"BREW", "sys/health"}, {"HEAD", "sys/mounts"}, {"GET", "sys/rotate"}} {
		r := f.call(t, c.method, c.path, "")
		if r.status != 405 || (c.method != "HEAD" && r.errors() != "1 error occurred:\n\t* unsupported operation\n\n") {
			t.Errorf("%s %s: %d %s", c.method, c.path, r.status, r.text)
		}
	}
}

func TestFault(t *testing.T) {
	tables, err := newTables([]api.Type{kv.Type()})
	if err != nil {
		t.Fatal(err)
	}
	rt, _ := tables.types[typeKey{api.Secrets, "kv", "2"}].find("data/a")
	for _, c := range []struct {
		err    error
		status int
		text   string
		ours   bool
	}{
		{storage.ErrSealed, 503, "Vault is sealed", false},
		{storage.ErrClosed, 503, "Vault is sealed", false},
		{storage.ErrUnavailable, 503, "recovering", false},
		{storage.ErrUnknownOutcome, 500, "outcome of the write is unknown", true},
		{storage.ErrTooLarge, 413, "too large", false},
		{storage.ErrPath, 400, "invalid path", false},
		{storage.ErrCorrupt, 500, "sealkeep operator storage check", true},
		{access.ErrDenied, 403, "permission denied", false},
		{kv.ErrNotFound, 404, "", false},
		{kv.ErrCASMismatch, 400, "check-and-set", false},
		{kv.ErrCASRequired, 400, "check-and-set", false},
		{kv.ErrMetadataCASMismatch, 400, "metadata check-and-set", false},
		{kv.ErrMetadataCASRequired, 400, "metadata check-and-set", false},
		{kv.ErrInvalid, 400, "invalid request", false},
		{fmt.Errorf("%w audit device a/: x", audit.ErrInvalid), 400, "invalid audit device a/: x", false},
		{ErrInitialized, 400, "Vault is already initialized", false},
		{ErrNotInitialized, 400, "operator init", false},
		{invalid("do %s", "this"), 400, "do this", false},
		{fs.ErrPermission, 500, "internal error", true},
		{errors.New("a secret detail"), 500, "internal error", true},
	} {
		status, text, ours := fault(rt.told(fmt.Errorf("doing: %w", c.err)))
		if status != c.status || !strings.Contains(text, c.text) || ours != c.ours || (c.text == "") != (text == "") {
			t.Errorf("%v: %d %q %v", c.err, status, text, ours)
		}
	}
}

// An error that is ours is bland for the client and full in the log.
func TestInternalErrors(t *testing.T) {
	f := fresh(t)
	f.tables.system.exact["sys/leader"].set(api.Read, func(*Server, *request) (api.Answer, error) { return api.Answer{}, errors.New("some detail") })
	f.tables.system.exact["sys/mounts"].set(api.Read, func(*Server, *request) (api.Answer, error) { panic("at the disco") })
	f.tables.system.exact["sys/key-status"].set(api.Read, func(*Server, *request) (api.Answer, error) { return api.Answer{Data: make(chan int)}, nil })
	for path, detail := range map[string]string{"sys/leader": "some detail", "sys/mounts": "at the disco", "sys/key-status": "unsupported type"} {
		r := f.must(t, 500, "GET", path, "")
		id, ok := strings.CutPrefix(strings.TrimSuffix(r.errors(), ")"), "internal error (request ")
		if !ok || !strings.Contains(f.log.String(), "request="+id) || !strings.Contains(f.log.String(), detail) {
			t.Errorf("%s: %s", path, r.text)
		}
	}
	if strings.Contains(f.log.String(), f.root) {
		t.Error("the log has the root token")
	}
}

// A damaged record is reported as what it is.
func TestDamagedMountTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSeal("a", 1)
		path := filepath.Join(t.TempDir(), "keep.db")
		f := start(t, path, a)
		f.init(t)
		err := f.keep.Load().Store.Update(t.Context(), func(tx *storage.Tx) error { return tx.Put(mount.EnginesPath, []byte("{")) })
		if err != nil {
			t.Fatal(err)
		}
		f.Server.Seal()
		if err := f.Unseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := f.slot(t, "a"); !f.Status().Sealed || got.Class != "store" || !strings.Contains(got.Hint, "storage check") {
			t.Errorf("%+v", got)
		}
	})
}

func TestHTTPServerHasLimits(t *testing.T) {
	s := fresh(t).HTTPServer(Listener{})
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.WriteTimeout <= timeoutLong || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
		t.Errorf("%+v", s)
	}
}

// A client that takes its time to read an answer holds no transaction.
func TestSlowClientHoldsNoTransaction(t *testing.T) {
	f := fresh(t)
	f.must(t, 200, "POST", "secret/data/a", `{"data":{"k":"v"}}`)
	w := &slowWriter{ResponseRecorder: httptest.NewRecorder(), views: func() int { return f.keep.Load().Store.Stats().Views }}
	req := httptest.NewRequest("GET", "/v1/secret/data/a", nil)
	req.Header.Set("X-Vault-Token", f.root)
	f.http.ServeHTTP(w, req)
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
	f.must(b, 200, "POST", "secret/data/some/secret", `{"data":{"k":"`+strings.Repeat("x", 1000)+`"}}`)
	req := httptest.NewRequest("GET", "/v1/secret/data/some/secret", nil)
	req.Header.Set("X-Vault-Token", f.root)
	w := &nullWriter{header: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		f.http.ServeHTTP(w, req)
	}
	if w.status != 200 {
		b.Fatal(w.status)
	}
}

// BenchmarkLookupSelf is nearly the floor: what every request costs.
func BenchmarkLookupSelf(b *testing.B) {
	f := fresh(b)
	req := httptest.NewRequest("GET", "/v1/auth/token/lookup-self", nil)
	req.Header.Set("X-Vault-Token", f.root)
	w := &nullWriter{header: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		f.http.ServeHTTP(w, req)
	}
}

type nullWriter struct {
	header http.Header
	status int
}

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) WriteHeader(status int)      { w.status = status }
func (w *nullWriter) Write(p []byte) (int, error) { return len(p), nil }
