package sys_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/servertest"
)

// fetch reads a path of the API over HTTP.
func (f *fixture) fetch(t testing.TB, address, path string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+address+"/v1/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", f.Root)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(b)
}

func TestPprof(t *testing.T) {
	d, _ := servertest.AuditFile(t)
	f := freshAudited(t, []audit.Device{d}, servertest.NewSeal("a", 1))
	address := f.OverHTTP(t)
	const zipped = "\x1f\x8b"
	own := reflect.ValueOf(TestPprof).Pointer()
	for path, begins := range map[string]string{
		"": "allocs", "/": "allocs", "/allocs": zipped, "/block": zipped, "/goroutine": zipped, "/heap": zipped, "/mutex": zipped, "/threadcreate": zipped,
		"/heap?debug=1": "heap profile:", "/goroutine?debug=1": "goroutine profile:", "/goroutine?debug=2": "goroutine ",
		"/profile?seconds=10ms": zipped, "/trace?seconds=10ms": "go 1.", "/cmdline": os.Args[0],
		fmt.Sprintf("/symbol?0x0+nothing+%#x", own): "num_symbols: 1\n" + fmt.Sprintf("%#x github.com/sealkeep/sealkeep/sys_test.TestPprof\n", own),
	} {
		if status, body := f.fetch(t, address, "sys/pprof"+path); status != 200 || !strings.HasPrefix(body, begins) {
			t.Errorf("%q: %d %.80q", path, status, body)
		}
	}
	if _, body := f.fetch(t, address, "sys/pprof/cmdline"); body != os.Args[0] || len(os.Args) < 2 {
		t.Errorf("the command line is %q of %q", body, os.Args)
	}
	for _, path := range []string{"/profile?seconds=61", "/trace?seconds=0", "/profile?seconds=-1", "/profile?seconds=x", "/heap?debug=x"} {
		f.Must(t, 400, "GET", "sys/pprof"+path, "")
	}
	f.Must(t, 404, "GET", "sys/pprof/other", "")
}

// A stack has where the functions are, and nothing of what they were called with.
func TestPprofValues(t *testing.T) {
	f := fresh(t, servertest.NewSeal("a", 1))
	waits, goes := make(chan struct{}), make(chan struct{})
	defer close(goes)
	go holdKey([4]uint64{0x5ec4e7}, waits, goes)
	<-waits
	r := f.Must(t, 200, "GET", "sys/pprof/goroutine?debug=2", "")
	if !strings.Contains(r.Text, "sys_test.holdKey(...)\n") || strings.Contains(r.Text, "5ec4e7") || strings.Contains(r.Text, "(0x") {
		t.Errorf("%s", r.Text)
	}
	if !strings.Contains(r.Text, "pprof_test.go:") || !strings.Contains(r.Text, "created by ") {
		t.Errorf("it does not say where: %s", r.Text)
	}
}

//go:noinline
func holdKey(key [4]uint64, waits, goes chan struct{}) {
	close(waits)
	<-goes
	key[0]++
}

// There is one profile of a kind at a time. It ends with its client, and when the
// keep is sealed.
func TestPprofOne(t *testing.T) {
	f := fresh(t, servertest.NewSeal("a", 1))
	address := f.OverHTTP(t)
	for _, kind := range []string{"profile", "trace"} {
		status := make(chan int)
		go func() {
			code := 429
			for code == 429 { // that of the loop below was first
				code, _ = f.fetch(t, address, "sys/pprof/"+kind+"?seconds=60")
			}
			status <- code
		}()
		servertest.Until(t, func() bool {
			r := f.Call(t, "GET", "sys/pprof/"+kind+"?seconds=1ms", "")
			return r.Status == 429 && strings.Contains(r.Errors(), "another profile") && r.Header.Get("Retry-After") != ""
		})
		f.Must(t, 204, "PUT", "sys/seal", "")
		if code := <-status; code != 503 {
			t.Errorf("%s: %d when the keep was sealed", kind, code)
		}
		if err := f.Unseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if status, _ := f.fetch(t, address, "sys/pprof/"+kind+"?seconds=1ms"); status != 200 {
			t.Errorf("%s: %d thereafter", kind, status)
		}
	}
}
