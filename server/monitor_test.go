package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/audit"
)

// follow begins to follow the log over a connection of its own.
func (f *fixture) follow(t testing.TB, address, query string) (lines *bufio.Reader, resp *http.Response, gone func()) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "GET /v1/sys/monitor%s HTTP/1.1\r\nHost: keep\r\nX-Vault-Token: %s\r\n\r\n", query, f.root)
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

// Who follows the log has each line at once, at a level and in a form of its own, and
// is in the audit log before the first. The last one says why it is the last.
func TestMonitor(t *testing.T) {
	d, path := auditFile(t)
	f := freshAudited(t, []audit.Device{d}, newSeal("a", 1))
	address := f.overHTTP(t)
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
	log := f.Server.log.With("who", "test").WithGroup("g")
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
	if own := f.log.String(); strings.Contains(own, "first") || !strings.Contains(own, "second") {
		t.Errorf("the server's own log has %q", own)
	}
	f.must(t, 204, "PUT", "sys/seal", "")
	for _, from := range []*bufio.Reader{plain, fine} {
		last := ""
		for {
			text, err := from.ReadString('\n')
			if err != nil {
				break
			}
			last = text
		}
		if !strings.Contains(last, "the log is not followed any more: the keep was sealed") {
			t.Errorf("the last line is %q", last)
		}
	}
	f.must(t, 503, "GET", "sys/monitor", "")
}

func TestMonitorRefusals(t *testing.T) {
	f := fresh(t, newSeal("a", 1))
	f.must(t, 400, "GET", "sys/monitor?log_level=loud", "")
	f.must(t, 400, "GET", "sys/monitor?log_format=xml", "")
	address := f.overHTTP(t)
	var gone func()
	for range tailFollowers {
		_, _, gone = f.follow(t, address, "")
	}
	if r := f.must(t, 429, "GET", "sys/monitor", ""); r.errors() != errFollowers.Text || r.header.Get("Retry-After") == "" {
		t.Errorf("%v %s", r.header, r.text)
	}
	gone()
	until(t, func() bool { return len(*f.tail.all.Load()) == tailFollowers-1 })
	if _, resp, _ := f.follow(t, address, ""); resp.StatusCode != 200 {
		t.Errorf("%d when one has gone", resp.StatusCode)
	}
}

// A server that stops does not wait for those who follow its log.
func TestMonitorShutdown(t *testing.T) {
	f := fresh(t, newSeal("a", 1))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := f.HTTPServer(Listener{})
	go Serve(web, l, nil)
	lines, _, _ := f.follow(t, l.Addr().String(), "")
	if err := web.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := nextLine(t, lines); !strings.Contains(got, "the server stops") {
		t.Errorf("%q", got)
	}
}

// Who is slow misses lines, and is told how many; nobody waits for it.
func TestTailLosesLines(t *testing.T) {
	var own bytes.Buffer
	tail := NewTail(slog.NewTextHandler(&own, nil))
	f, err := tail.follow(slog.LevelInfo, false)
	if err != nil {
		t.Fatal(err)
	}
	log, long := slog.New(tail), strings.Repeat("x", 1<<10)
	const all = 2 * tailBuffer >> 10
	for range all {
		log.Info(long)
	}
	log.Info("short enough") // but not in its turn
	first := f.take()
	came := bytes.Count(first, []byte("\n"))
	if len(first) > tailBuffer || came == 0 || came >= all {
		t.Errorf("%d lines, %d bytes", came, len(first))
	}
	log.Info("next")
	want := fmt.Sprintf(`level=WARN msg="lines of the log are missing here: they were not taken in time" lines=%d`, all+1-came)
	if rest := string(f.take()); !strings.Contains(rest, want) || !strings.Contains(rest, "msg=next") {
		t.Errorf("then %q, want %q", rest, want)
	}
	tail.leave(f)
	log.Info("alone")
	if rest := f.take(); rest != nil || strings.Count(own.String(), "\n") != all+3 {
		t.Errorf("after it left: %q", rest)
	}
}
