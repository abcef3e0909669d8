package sys_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/sys"
)

// follow begins to follow the log over a connection of its own.
func (f *fixture) follow(t testing.TB, address, query string) (lines *bufio.Reader, resp *http.Response, gone func()) {
	t.Helper()
	return followAs(t, f.Root, address, query)
}

func followAs(t testing.TB, token, address, query string) (lines *bufio.Reader, resp *http.Response, gone func()) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "GET /v1/sys/monitor%s HTTP/1.1\r\nHost: keep\r\nX-Vault-Token: %s\r\n\r\n", query, token)
	if resp, err = http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(resp.Body), resp, func() { conn.Close() }
}

func nextLine(t testing.TB, from *bufio.Reader) string {
	t.Helper()
	text, err := from.ReadString('\n')
	if err != nil {
		t.Fatalf("reading a line: %v after %q", err, text)
	}
	return text
}

// lastLine reads to the end of a stream.
func lastLine(t testing.TB, from *bufio.Reader) (last string) {
	t.Helper()
	for {
		text, err := from.ReadString('\n')
		if err == io.EOF {
			return last
		}
		if err != nil {
			t.Fatalf("reading to the end: %v after %q", err, last)
		}
		last = text
	}
}

// Who follows the log has each line at once, at a level and in a form of its own, and
// is in the audit log before the first. The last one says why it is the last.
func TestMonitor(t *testing.T) {
	d, path := servertest.AuditFile(t)
	f := freshAudited(t, []audit.Device{d}, servertest.NewSeal("a", 1))
	address := f.OverHTTP(t)
	plain, resp, _ := f.follow(t, address, "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	if text, err := os.ReadFile(path); err != nil || strings.Count(string(text), `"path":"sys/monitor"`) != 2 {
		t.Errorf("the audit log has %s, %v", text, err)
	}
	fine, resp, _ := f.follow(t, address, "?log_level=debug&log_format=json")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	log := slog.New(f.Tail).With("who", "test").WithGroup("g")
	log.Debug("first", "k", 1)
	var got map[string]any
	if err := json.Unmarshal([]byte(nextLine(t, fine)), &got); err != nil || got["msg"] != "first" || got["level"] != "DEBUG" || got["who"] != "test" || fmt.Sprint(got["g"]) != "map[k:1]" {
		t.Errorf("%v, %v", got, err)
	}
	log.Info("second", "k", 2)
	if got := nextLine(t, plain); !strings.Contains(got, "level=INFO msg=second who=test g.k=2") {
		t.Errorf("%q", got)
	}
	if got := nextLine(t, fine); !strings.Contains(got, "second") {
		t.Errorf("%q", got)
	}
	if own := f.Log.String(); strings.Contains(own, "first") || !strings.Contains(own, "second") {
		t.Errorf("the server's own log has %q", own)
	}
	f.Must(t, 204, "PUT", "sys/seal", "")
	for _, from := range []*bufio.Reader{plain, fine} {
		if last := lastLine(t, from); !strings.Contains(last, "the log is not followed any more: the keep was sealed") {
			t.Errorf("the last line is %q", last)
		}
	}
	f.Must(t, 503, "GET", "sys/monitor", "")
}

// The log is followed no longer than the token lasts, and its policies allow it,
// however much is logged meanwhile.
func TestMonitorEndsWithItsToken(t *testing.T) {
	f := fresh(t, servertest.NewSeal("a", 1))
	address := f.OverHTTP(t)
	done := make(chan struct{})
	defer close(done)
	go func() {
		log := slog.New(f.Tail)
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
				log.Info("busy")
			}
		}
	}()
	monitor := map[string]string{"sys/monitor": `"read", "sudo"`}
	f.Policy(t, "kept", monitor)
	f.Policy(t, "lost", monitor)
	kept, _, _ := followAs(t, f.Token(t, `{"policies":"kept"}`), address, "")
	for name, end := range map[string]func(token string){
		"revoked": func(token string) { f.Must(t, 204, "POST", "auth/token/revoke", `{"token":"`+token+`"}`) },
		"expired": func(string) { f.Clock.Add(2 * time.Hour) },
		"policy":  func(string) { f.Policy(t, "lost", map[string]string{"sys/monitor": `"read"`}) },
	} {
		policy := map[bool]string{true: "lost", false: "kept"}[name == "policy"]
		token := f.Token(t, `{"policies":"`+policy+`","ttl":"1h"}`)
		lines, resp, _ := followAs(t, token, address, "")
		if resp.StatusCode != 200 {
			t.Fatalf("%s: %d", name, resp.StatusCode)
		}
		nextLine(t, lines)
		end(token)
		if last := lastLine(t, lines); !strings.Contains(last, "the token has ended") {
			t.Errorf("%s: the last line is %q", name, last)
		}
		nextLine(t, kept)
	}
}

func TestMonitorRefusals(t *testing.T) {
	f := fresh(t, servertest.NewSeal("a", 1))
	f.Must(t, 400, "GET", "sys/monitor?log_level=loud", "")
	f.Must(t, 400, "GET", "sys/monitor?log_format=xml", "")
	address := f.OverHTTP(t)
	var gone func()
	for range sys.TailFollowers {
		_, _, gone = f.follow(t, address, "")
	}
	if r := f.Must(t, 429, "GET", "sys/monitor", ""); r.Errors() != sys.ErrFollowers.Text || r.Header.Get("Retry-After") == "" {
		t.Errorf("%v %s", r.Header, r.Text)
	}
	gone()
	servertest.Until(t, func() bool { return f.Tail.Followers() == sys.TailFollowers-1 })
	if _, resp, _ := f.follow(t, address, ""); resp.StatusCode != 200 {
		t.Errorf("%d when one has gone", resp.StatusCode)
	}
}

// A server that stops does not wait for those who follow its log.
func TestMonitorShutdown(t *testing.T) {
	f := fresh(t, servertest.NewSeal("a", 1))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := f.HTTPServer(server.Listener{})
	go server.Serve(web, l, nil)
	lines, _, _ := f.follow(t, l.Addr().String(), "")
	if err := web.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := nextLine(t, lines); !strings.Contains(got, "the server stops") {
		t.Errorf("%q", got)
	}
}
