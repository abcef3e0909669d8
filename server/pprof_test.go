package server

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/audit"
)

// fetch reads a path of the API over HTTP.
func (f *fixture) fetch(t testing.TB, address, path string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+address+"/v1/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", f.root)
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
	d, _ := auditFile(t)
	f := freshAudited(t, []audit.Device{d}, newSeal("a", 1))
	address := f.overHTTP(t)
	const zipped = "\x1f\x8b"
	own := reflect.ValueOf(TestPprof).Pointer()
	for path, begins := range map[string]string{
		"": "allocs", "/": "allocs", "/allocs": zipped, "/block": zipped, "/goroutine": zipped, "/heap": zipped, "/mutex": zipped, "/threadcreate": zipped,
		"/heap?debug=1": "heap profile:", "/goroutine?debug=1": "goroutine profile:", "/goroutine?debug=2": "goroutine ",
		"/profile?seconds=10ms": zipped, "/trace?seconds=10ms": "go 1.", "/cmdline": os.Args[0],
		fmt.Sprintf("/symbol?0x0+nothing+%#x", own): "num_symbols: 1\n" + fmt.Sprintf("%#x github.com/sealkeep/sealkeep/server.TestPprof\n", own),
	} {
		if status, body := f.fetch(t, address, "sys/pprof"+path); status != 200 || !strings.HasPrefix(body, begins) {
			t.Errorf("%q: %d %.80q", path, status, body)
		}
	}
	if _, body := f.fetch(t, address, "sys/pprof/cmdline"); body != os.Args[0] || len(os.Args) < 2 {
		t.Errorf("the command line is %q of %q", body, os.Args)
	}
	for _, path := range []string{"/profile?seconds=61", "/trace?seconds=0", "/profile?seconds=-1", "/profile?seconds=x", "/heap?debug=x"} {
		f.must(t, 400, "GET", "sys/pprof"+path, "")
	}
	f.must(t, 404, "GET", "sys/pprof/other", "")
}

// A stack has where the functions are, and nothing of what they were called with.
func TestPprofValues(t *testing.T) {
	f := fresh(t, newSeal("a", 1))
	waits, goes := make(chan struct{}), make(chan struct{})
	defer close(goes)
	go holdKey([4]uint64{0x5ec4e7}, waits, goes)
	<-waits
	r := f.must(t, 200, "GET", "sys/pprof/goroutine?debug=2", "")
	if !strings.Contains(r.text, "server.holdKey(...)\n") || strings.Contains(r.text, "5ec4e7") || strings.Contains(r.text, "(0x") {
		t.Errorf("%s", r.text)
	}
	if !strings.Contains(r.text, "pprof_test.go:") || !strings.Contains(r.text, "created by ") {
		t.Errorf("it does not say where: %s", r.text)
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
	f := fresh(t, newSeal("a", 1))
	address := f.overHTTP(t)
	for _, kind := range []string{"profile", "trace"} {
		status := make(chan int)
		go func() {
			code := 429
			for code == 429 { // that of the loop below was first
				code, _ = f.fetch(t, address, "sys/pprof/"+kind+"?seconds=60")
			}
			status <- code
		}()
		until(t, func() bool {
			r := f.call(t, "GET", "sys/pprof/"+kind+"?seconds=1ms", "")
			return r.status == 429 && strings.Contains(r.errors(), "another profile") && r.header.Get("Retry-After") != ""
		})
		f.must(t, 204, "PUT", "sys/seal", "")
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

func TestRecordingFull(t *testing.T) {
	r := &recording{full: make(chan struct{})}
	piece := bytes.Repeat([]byte("x"), maxTrace/4+1)
	for range 5 {
		if n, err := r.Write(piece); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	<-r.full
	if !r.over || r.Len() != 3*len(piece) {
		t.Errorf("over %v, %d bytes", r.over, r.Len())
	}
}
