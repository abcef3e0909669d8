package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// listening serves a new keep on a TCP port, as the daemon does; edit changes the server first.
func listening(t testing.TB, edit func(*fixture, *http.Server)) (f *fixture, addr string) {
	t.Helper()
	f = fresh(t)
	web := f.HTTPServer(server.Listener{})
	if edit != nil {
		edit(f, web)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(web, l, nil) }()
	t.Cleanup(func() {
		web.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serving: %v", err)
		}
	})
	return f, l.Addr().String()
}

// A wire is one connection on which anything can be said.
type wire struct {
	t testing.TB
	*net.TCPConn
	r *bufio.Reader
}

func dial(t testing.TB, addr string) *wire {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &wire{t, c.(*net.TCPConn), bufio.NewReader(c)}
}

// say sends text; that the server hung up in the middle shows in what it answers.
func (w *wire) say(text string) { io.WriteString(w, text) }

// hear reads one answer and checks its shape: JSON, and Vault's list of errors for an error, with a text unless there
// is nothing at a path.
func (w *wire) hear() (*http.Response, string) {
	w.t.Helper()
	resp, err := http.ReadResponse(w.r, nil)
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("half an answer: %v in %q", err, body)
	}
	switch kind := resp.Header.Get("Content-Type"); {
	case kind == "" && len(body) == 0 && resp.StatusCode < 400:
	case kind == "application/json" && resp.StatusCode < 400 && json.Valid(body):
	case kind == "application/json" && isErrors(body):
	default:
		w.t.Fatalf("status %d, Content-Type %q, close %v: %.300q", resp.StatusCode, kind, resp.Close, body)
	}
	return resp, string(body)
}

// isErrors reports whether a body is {"errors":[...]} and no more.
func isErrors(body []byte) bool {
	var list struct {
		Errors []string `json:"errors"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	return d.Decode(&list) == nil && list.Errors != nil && !d.More()
}

// closed wants the end of the connection, and nothing before it.
func (w *wire) closed() {
	w.t.Helper()
	rest, err := io.ReadAll(w.r)
	if len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		w.t.Fatalf("the connection was not closed: %v, %.300q", err, rest)
	}
}

// head begins a request with the root token, whose headers are not finished.
func (f *fixture) head(line string) string {
	return line + " HTTP/1.1\r\nHost: keep\r\nX-Vault-Token: " + f.Root + "\r\n"
}

// TestHostileRequests sends what no client should, to a real listener. Each gets the answers it must, in order; then
// the connection is closed, or goes on as if nothing had been: a request that hides in another one is never answered.
// The store stays as it is.
func TestHostileRequests(t *testing.T) {
	f, addr := listening(t, nil)
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"v"}}`)
	const (
		goesOn = false
		closes = true
	)
	put, get := f.head("PUT /v1/secret/data/a"), f.head("GET /v1/sys/leader")
	good := `{"data":{"k":"hostile"}}`
	hidden := f.head("PUT /v1/secret/data/hidden") + "Content-Length: " + fmt.Sprint(len(good)) + "\r\n\r\n" + good
	length := func(body string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body) }
	chunked := func(body string) string { return "Transfer-Encoding: chunked\r\n\r\n" + body }
	path := func(p string) string { return f.head("PUT "+p) + length(good) }
	deep := strings.Repeat("[", 1e6)
	for _, c := range []struct {
		name, say string
		want      []int
		closes    bool
	}{
		// Where one request ends and the next begins.
		{"length and chunked", put + "Content-Length: 5\r\n" + chunked("0\r\n\r\n"+hidden), []int{400}, closes},
		{"chunked and length", put + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + hidden, []int{400}, closes},
		{"two lengths", put + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}    " + hidden, []int{400}, closes},
		{"two lengths in one", put + "Content-Length: 2, 2\r\n\r\n{}" + hidden, []int{400}, closes},
		{"the same length twice", put + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", []int{400}, goesOn},
		{"signed length", put + "Content-Length: +2\r\n\r\n{}" + hidden, []int{400}, closes},
		{"negative length", put + "Content-Length: -2\r\n\r\n{}" + hidden, []int{400}, closes},
		{"hexadecimal length", put + "Content-Length: 0x2\r\n\r\n{}" + hidden, []int{400}, closes},
		{"empty length", put + "Content-Length: \r\n\r\n" + hidden, []int{400}, closes},
		{"endless length", put + "Content-Length: 99999999999999999999\r\n\r\n" + hidden, []int{400}, closes},
		{"chunked, identity", put + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + hidden, []int{501}, closes},
		{"gzip, chunked", put + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + hidden, []int{501}, closes},
		{"xchunked", put + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden, []int{501}, closes},
		{"chunked twice", put + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, []int{501}, closes},
		{"vertical tab before chunked", put + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n" + hidden, []int{400}, closes},
		{"space before the colon", put + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + hidden, []int{400}, closes},
		{"chunked in HTTP/1.0", strings.Replace(put, "HTTP/1.1", "HTTP/1.0", 1) + chunked("0\r\n\r\n"+hidden), []int{400}, closes},
		{"chunk extension", put + chunked("2;a=b\r\n{}\r\n0\r\n\r\n"+hidden), []int{400}, closes},
		{"line feed in a chunk extension", put + chunked("2;a\nb\r\n{}\r\n0\r\n\r\n"+hidden), []int{400}, closes},
		{"endless chunk extension", put + chunked("2;"+strings.Repeat("a", 1<<20)+"\r\n{}\r\n0\r\n\r\n"), []int{400}, closes},
		{"negative chunk", put + chunked("-2\r\n{}\r\n0\r\n\r\n"+hidden), []int{400}, closes},
		{"chunk of 2^68", put + chunked("fffffffffffffffff\r\n{}\r\n0\r\n\r\n"), []int{400}, closes},
		{"chunk 0x2", put + chunked("0x2\r\n{}\r\n0\r\n\r\n"+hidden), []int{400}, closes},
		{"chunk longer than it says", put + chunked("2\r\n{}{}\r\n0\r\n\r\n"+hidden), []int{400}, closes},
		{"trailers", put + chunked("2\r\n{}\r\n0\r\nContent-Length: 5\r\nX-Vault-Namespace: team\r\n\r\n"+hidden), []int{400}, closes},
		{"one byte a chunk, much said of each", put + chunked(strings.Repeat("1;"+strings.Repeat("x", 200)+"\r\na\r\n", 1000)), []int{400}, closes},
		{"bare line feeds", strings.ReplaceAll(get, "\r", "") + "\n", []int{200}, goesOn},
		{"folded header", get + "X-A: a\r\n b\r\n\r\n", []int{200}, goesOn},
		{"folded token", "GET /v1/sys/mounts HTTP/1.1\r\nHost: keep\r\nX-Vault-Token:\r\n " + f.Root + "\r\n\r\n", []int{200}, goesOn},
		{"fold first", "GET /v1/sys/leader HTTP/1.1\r\n Host: keep\r\n\r\n", []int{400}, closes},
		{"NUL in a header", get + "X-A: a\x00b\r\n\r\n", []int{400}, closes},
		{"header without a name", get + ": a\r\n\r\n", []int{400}, closes},
		{"body of a GET", get + length(hidden), []int{200}, closes},
		{"body of a GET, chunked", get + chunked("2\r\n{}\r\n0\r\n\r\n"+hidden), []int{200}, closes},
		{"pipeline", get + "\r\n" + get + "\r\n" + f.head("GET /v1/nowhere") + "\r\n" + get + "\r\n", []int{200, 200, 404, 200}, goesOn},
		{"pipeline after a refusal", put + "Content-Length: 2\r\n\r\n[]" + get + "\r\n", []int{400, 200}, goesOn},
		{"pipeline after a body that is not read", strings.Replace(put, f.Root, "wrong", 1) + length(good) + hidden, []int{403}, closes},

		// Another protocol, or another part of this one.
		{"absolute form", f.head("GET http://elsewhere/v1/sys/leader") + "\r\n", []int{200}, goesOn},
		{"absolute form, not http", f.head("GET ftp://elsewhere/v1/sys/leader") + "\r\n", []int{200}, goesOn},
		{"authority form", f.head("GET keep:80") + "\r\n", []int{404}, goesOn},
		{"CONNECT", f.head("CONNECT keep:80") + "\r\n", []int{404}, goesOn},
		{"CONNECT a path", f.head("CONNECT /v1/sys/leader") + "\r\n", []int{405}, goesOn},
		{"OPTIONS *", f.head("OPTIONS *") + "\r\n", []int{404}, goesOn},
		{"OPTIONS", f.head("OPTIONS /v1/secret/data/a") + "\r\n", []int{405}, goesOn},
		{"TRACE", f.head("TRACE /v1/secret/data/a") + "\r\n", []int{405}, goesOn},
		{"no method", f.head(" /v1/sys/leader") + "\r\n", []int{400}, closes},
		{"lower case method", f.head("put /v1/secret/data/a") + length(good), []int{405}, closes},
		{"HTTP/0.9", "GET /v1/sys/health\r\n\r\n", []int{400}, closes},
		{"HTTP/2.0", "GET /v1/sys/leader HTTP/2.0\r\nHost: keep\r\n\r\n", []int{505}, closes},
		{"HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", []int{404}, closes},
		{"upgrade to h2c", get + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", []int{200}, goesOn},
		{"upgrade to a websocket", get + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA\r\n\r\n", []int{200}, goesOn},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{400}, closes},
		{"no host", "GET /v1/sys/leader HTTP/1.1\r\n\r\n", []int{400}, closes},
		{"two hosts", get + "Host: elsewhere\r\n\r\n", []int{400}, closes},
		{"unknown expectation", put + "Expect: 200-ok\r\n" + length(good), []int{417}, closes},
		{"expecting too much", put + "Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n", []int{413}, closes},
		{"expecting without a token", strings.Replace(put, f.Root, "wrong", 1) + "Expect: 100-continue\r\nContent-Length: 9\r\n\r\n{\"data\":0", []int{403}, closes},

		// Paths.
		{"dots", path("/v1/secret/data/../../sys/seal"), []int{400}, closes},
		{"escaped dots", path("/v1/secret/data/%2e%2e/%2E./x"), []int{400}, closes},
		{"dot", path("/v1/secret/./data/x"), []int{400}, closes},
		{"escaped slashes with dots", path("/v1/secret/data/x%2f..%2f..%2fsys%2fseal"), []int{400}, closes},
		{"dots before the version", path("/../v1/secret/data/x"), []int{404}, closes},
		{"empty segment", path("/v1/secret//data/x"), []int{400}, closes},
		{"empty segment, escaped", path("/v1/secret/data/%2fx"), []int{400}, closes},
		{"empty first segment", path("//v1/secret/data/x"), []int{404}, closes},
		{"nothing", path("/v1/"), []int{400}, closes},
		{"NUL", path("/v1/secret/data/\x00"), []int{400}, closes},
		{"escaped NUL", path("/v1/secret/data/%00"), []int{400}, closes},
		{"escaped line", path("/v1/secret/data/a%0d%0aX:y"), []int{400}, closes},
		{"bad escape", path("/v1/secret/data/%zz"), []int{400}, closes},
		{"half an escape", path("/v1/secret/data/%2"), []int{400}, closes},
		{"not UTF-8", path("/v1/secret/data/\xff\xfe"), []int{400}, closes},
		{"not UTF-8, escaped", path("/v1/secret/data/%c0%ae%c0%ae"), []int{400}, closes},
		{"surrogate", path("/v1/secret/data/%ed%a0%80"), []int{400}, closes},
		{"line separator", path("/v1/secret/data/%e2%80%a8"), []int{400}, closes},
		{"paragraph separator", path("/v1/secret/data/%e2%80%a9"), []int{400}, closes},
		{"right to left", path("/v1/secret/data/%e2%80%ae"), []int{400}, closes},
		{"backslashes", path(`/v1/secret\data\x`), []int{404}, closes},
		{"backslash dots", path(`/v1/secret\..\sys/seal`), []int{404}, closes},
		{"space", path("/v1/secret/data/a b"), []int{400}, closes},
		{"segment of 10 kB", path("/v1/secret/data/" + strings.Repeat("a", 10_000)), []int{400}, goesOn},
		{"too many segments", path("/v1/secret/data" + strings.Repeat("/a", 5_000)), []int{400}, goesOn},
		{"path of 100 kB", path("/v1/secret/data/" + strings.Repeat("a", 100_000)), []int{431}, closes},
		{"query of 100 kB", path("/v1/secret/data/x?" + strings.Repeat("a", 100_000)), []int{431}, closes},
		{"bad query", f.head("GET /v1/sys/leader?a;b=%zz") + "\r\n", []int{400}, goesOn},
		{"another version", path("/v2/secret/data/x"), []int{404}, closes},
		{"unknown mount", path("/v1/nowhere/data/x"), []int{404}, closes},
		{"unknown version of a secret", f.head("GET /v1/secret/data/a?version=99") + "\r\n", []int{404}, goesOn},
		{"bad version of a secret", f.head("GET /v1/secret/data/a?version=-1") + "\r\n", []int{400}, goesOn},

		// Tokens and headers.
		{"no token", "GET /v1/secret/data/a HTTP/1.1\r\nHost: keep\r\n\r\n", []int{403}, goesOn},
		{"wrong token", strings.Replace(f.head("GET /v1/secret/data/a"), f.Root, f.Root+"x", 1) + "\r\n", []int{403}, goesOn},
		{"token of 15 kB", strings.Replace(f.head("GET /v1/secret/data/a"), f.Root, strings.Repeat("x", 15_000), 1) + "\r\n", []int{403}, goesOn},
		{"binary token", strings.Replace(f.head("GET /v1/secret/data/a"), f.Root, "\xff\xfe\x80", 1) + "\r\n", []int{403}, goesOn},
		{"right token after a wrong one", "GET /v1/secret/data/a HTTP/1.1\r\nHost: keep\r\nX-Vault-Token: wrong\r\nX-Vault-Token: " + f.Root + "\r\n\r\n", []int{403}, goesOn},
		{"second namespace", get + "X-Vault-Namespace: root\r\nX-Vault-Namespace: team\r\n\r\n", []int{400}, goesOn},
		{"second wrapping", get + "X-Vault-Wrap-TTL: 0\r\nX-Vault-Wrap-TTL: 60\r\n\r\n", []int{400}, goesOn},
		{"header of 64 KiB", get + "X-A: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", []int{431}, closes},
		{"name of 64 KiB", get + strings.Repeat("a", 64<<10) + ": a\r\n\r\n", []int{431}, closes},
		{"10,000 headers", get + strings.Repeat("X-Abcd: e\r\n", 10_000) + "\r\n", []int{431}, closes},
		{"headers without end", get + strings.Repeat("X-Abcd: e\r\n", 1_000_000), []int{431}, closes},

		// Bodies.
		{"declared too large", put + fmt.Sprintf("Content-Length: %d\r\n\r\n", server.BodyKV+1), []int{413}, closes},
		{"declared 1 TB", put + "Content-Length: 1000000000000\r\n\r\n", []int{413}, closes},
		{"chunked too large", put + chunked(fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", server.BodyKV+1, strings.Repeat(" ", server.BodyKV+1))), []int{413}, closes},
		{"many chunks, too large", put + chunked(strings.Repeat("1000\r\n"+strings.Repeat(" ", 0x1000)+"\r\n", 3*server.BodyKV/0x1000/2)), []int{413}, closes},
		{"too large for system routes", f.head("PUT /v1/sys/mounts/b") + length(strings.Repeat(" ", server.BodySmall+1)), []int{413}, closes},
		{"too large to init", "PUT /v1/sys/init HTTP/1.1\r\nHost: keep\r\n" + chunked(fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", server.BodySmall+1, strings.Repeat(" ", server.BodySmall+1))), []int{413}, closes},
		{"too large to store", put + length(`{"data":{"k":"`+strings.Repeat("x", storage.MaxValue)+`"}}`), []int{413}, goesOn},
		{"truncated", put + length(`{"data":{"k":"v"}`), []int{400}, goesOn},
		{"empty", put + length(""), []int{400}, goesOn},
		{"text", put + length("k=v"), []int{400}, goesOn},
		{"list", put + length(`[{"data":{}}]`), []int{400}, goesOn},
		{"two values", put + length(good+good), []int{400}, goesOn},
		{"data is text", put + length(`{"data":"{}"}`), []int{400}, goesOn},
		{"1,000,000 brackets", put + length(`{"data":`+deep), []int{400}, goesOn},
		{"1,000,000 brackets in data", put + length(`{"data":{"k":`+deep[:900_000]+strings.Repeat("]", 900_000)+`}}`), []int{400}, goesOn},
		{"1,000,000 objects", put + length(strings.Repeat(`{"":`, 500_000)), []int{400}, goesOn},
		{"1,000,000 keys", put + length(`{"data":{`+strings.Repeat(`"a":1,`, 1_000_000)+`"b":1}}`), []int{413}, closes},
		{"1,000,000 versions", f.head("PUT /v1/secret/destroy/a") + length(`{"versions":[`+strings.Repeat("9,", 1_000_000)+`9]}`), []int{204}, goesOn},
		{"UTF-8 cut short", put + length("{\"data\":{\"k\":\"\xc3\"}}"), []int{400}, goesOn},
		{"UTF-16", put + length("\xff\xfe{\x00}\x00"), []int{400}, goesOn},
		{"byte order mark", put + length("\xef\xbb\xbf"+good), []int{400}, goesOn},
		{"NUL after the JSON", put + length(good+"\x00"), []int{400}, goesOn},
		{"huge check-and-set", put + length(`{"options":{"cas":1e400},"data":{}}`), []int{400}, goesOn},
		{"huge setting", f.head("PUT /v1/secret/metadata/a") + length(`{"max_versions":99999999999999999999}`), []int{400}, goesOn},
		{"huge duration", f.head("PUT /v1/sys/mounts/b") + length(`{"type":"kv","config":{"max_lease_ttl":"9999999999999999h"}}`), []int{400}, goesOn},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := f.Snapshot(t)
			w := dial(t, addr)
			said := make(chan bool)
			go func() { w.say(c.say); close(said) }()
			for i, want := range c.want {
				if resp, body := w.hear(); resp.StatusCode != want {
					t.Fatalf("answer %d: %d, want %d: %.300s", i, resp.StatusCode, want, body)
				}
			}
			if c.closes {
				w.closed()
			}
			<-said
			if !c.closes {
				w.say(f.head("GET /v1/auth/token/lookup-self") + "Connection: close\r\n\r\n")
				if resp, body := w.hear(); resp.StatusCode != 200 || !strings.Contains(body, f.Root) {
					t.Fatalf("the next request: %d %.300s", resp.StatusCode, body)
				}
				w.closed()
			}
			if !maps.Equal(before, f.Snapshot(t)) {
				t.Fatal("the store has changed")
			}
		})
	}
	if log := f.Log.String(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "panicked") {
		t.Errorf("a client's mistake is in the log as ours:\n%s", log)
	}
}

// A client that is slow, or leaves, is told so or cut off, in the time that the server gives it.
func TestSlowClients(t *testing.T) {
	f, addr := listening(t, func(_ *fixture, s *http.Server) {
		s.ReadHeaderTimeout = 100 * time.Millisecond
		s.ReadTimeout = 300 * time.Millisecond
	})
	f.Must(t, 200, "GET", "auth/token/lookup-self", "") // the first use of a token is noted
	before := f.Snapshot(t)
	put := f.head("PUT /v1/secret/data/a")
	for name, c := range map[string]struct {
		say    string
		leaves bool // closes its half of the connection
		drips  bool // goes on, a byte at a time
		want   int  // 0: hung up without an answer
		text   string
	}{
		"says nothing":                 {},
		"half a line":                  {say: "GET /v1/sys", want: 408, text: "in time"},
		"half the headers":             {say: put, want: 408, text: "in time"},
		"headers in drips":             {say: put + "X-A: ", drips: true, want: 408, text: "in time"},
		"half of a second request":     {say: f.head("GET /v1/sys/leader") + "\r\n" + put, want: 200},
		"TLS":                          {say: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", want: 408, text: "in time"},
		"half a body":                  {say: put + "Content-Length: 100\r\n\r\n{", want: 408, text: "in time"},
		"no body":                      {say: put + "Content-Length: 100\r\n\r\n", want: 408, text: "in time"},
		"body in drips":                {say: put + "Content-Length: 100000\r\n\r\n", drips: true, want: 408, text: "in time"},
		"half a chunked body":          {say: put + "Transfer-Encoding: chunked\r\n\r\n10\r\n{", want: 408, text: "in time"},
		"chunks in drips":              {say: put + "Transfer-Encoding: chunked\r\n\r\n10000\r\n", drips: true, want: 408, text: "in time"},
		"body to open route":           {say: "PUT /v1/sys/init HTTP/1.1\r\nHost: k\r\nContent-Length: 9\r\n\r\n{", want: 408, text: "in time"},
		"body to nobody":               {say: "PUT /v1/secret/data/a HTTP/1.1\r\nHost: k\r\nContent-Length: 9\r\n\r\n{", want: 403, text: "denied"},
		"leaves in the first line":     {say: "GET /v1/sys", leaves: true, want: 400, text: "malformed HTTP request"},
		"leaves in the headers":        {say: put, leaves: true, want: 400, text: "malformed HTTP request"},
		"leaves in the body":           {say: put + "Content-Length: 100\r\n\r\n{", leaves: true, want: 400, text: "unexpected EOF"},
		"leaves between chunks":        {say: put + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", leaves: true, want: 400, text: "unexpected EOF"},
		"leaves after the request":     {say: f.head("GET /v1/sys/leader") + "\r\n", leaves: true, want: 200},
		"leaves before it says a word": {leaves: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := dial(t, addr)
			w.say(c.say)
			if c.leaves {
				w.CloseWrite()
			}
			if c.drips {
				go func() {
					for drop := time.NewTicker(10 * time.Millisecond); ; <-drop.C {
						if _, err := w.Write([]byte("x")); err != nil {
							drop.Stop()
							return
						}
					}
				}()
			}
			if c.want != 0 {
				if resp, body := w.hear(); resp.StatusCode != c.want || !strings.Contains(body, c.text) {
					t.Fatalf("%d %s", resp.StatusCode, body)
				}
			}
			w.closed()
			if !maps.Equal(before, f.Snapshot(t)) {
				t.Error("the store has changed")
			}
		})
	}
}

// A client that asks first gets leave, and then its answer.
func TestExpectContinue(t *testing.T) {
	f, addr := listening(t, nil)
	w := dial(t, addr)
	body := `{"data":{"k":"asked"}}`
	w.say(f.head("PUT /v1/secret/data/a") + fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body)))
	if resp, _ := w.hear(); resp.StatusCode != 100 {
		t.Fatal(resp.Status)
	}
	w.say(body)
	if resp, text := w.hear(); resp.StatusCode != 200 {
		t.Fatal(resp.Status, text)
	}
	if r := f.Must(t, 200, "GET", "secret/data/a", ""); r.Get("data", "data", "k") != "asked" {
		t.Error(r.Text)
	}
}

// The time for sending a request does not count for answering it, and a client that leaves ends its request.
func TestHandlersOutliveTheReadTimeout(t *testing.T) {
	const limit = 50 * time.Millisecond
	f, addr := listening(t, func(_ *fixture, s *http.Server) { s.ReadTimeout = limit })
	began, ended := make(chan bool), make(chan error, 1)
	f.Replace("sys/rotate", api.Write, func(r *api.Request) (api.Answer, error) {
		close(began)
		select {
		case <-r.Context.Done():
		case <-time.After(4 * limit):
		}
		return api.Answer{}, r.Context.Err()
	})
	f.Replace("sys/seal", api.Write, func(r *api.Request) (api.Answer, error) {
		close(began)
		<-r.Context.Done()
		ended <- r.Context.Err()
		return api.Answer{}, r.Context.Err()
	})
	for _, body := range []string{"", "{}"} {
		began = make(chan bool)
		w := dial(t, addr)
		w.say(f.head("PUT /v1/sys/rotate") + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))
		if resp, text := w.hear(); resp.StatusCode != 204 {
			t.Errorf("with the body %q: %s %s", body, resp.Status, text)
		}
	}
	began = make(chan bool)
	w := dial(t, addr)
	w.say(f.head("PUT /v1/sys/seal") + "Content-Length: 2\r\n\r\n{}")
	<-began
	w.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the request goes on without its client")
	}
}

// Who sends far too much, or has no leave to send, hears why, and not only that the connection was reset.
func TestRefusedUploadsAreTold(t *testing.T) {
	f, addr := listening(t, nil)
	body := strings.Repeat(" ", 16<<20)
	for token, want := range map[string]int{f.Root: 413, "wrong": 403} {
		for i := range 10 {
			var in io.Reader = strings.NewReader(body)
			if i%2 == 0 {
				in = io.MultiReader(in) // of a length that is not known: chunked
			}
			req, err := http.NewRequest("PUT", "http://"+addr+"/v1/secret/data/a", in)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Vault-Token", token)
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != want || !isErrors(text) {
				t.Fatalf("%s %s %v", resp.Status, text, err)
			}
		}
	}
}

// A listener that has all its connections closes one that waits for its client for a new one, and none on which a
// request is being answered.
func TestConnectionLimit(t *testing.T) {
	f, addr := listening(t, func(f *fixture, s *http.Server) { f.LimitConns(s, 3) })
	began, end := make(chan bool), make(chan bool)
	f.Replace("sys/rotate", api.Write, func(*api.Request) (api.Answer, error) {
		began <- true
		<-end
		return api.Answer{}, nil
	})
	ask := func(w *wire) {
		t.Helper()
		w.say(f.head("GET /v1/sys/leader") + "\r\n")
		if resp, _ := w.hear(); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
	busy := dial(t, addr)
	busy.say(f.head("PUT /v1/sys/rotate") + "Content-Length: 0\r\n\r\n")
	<-began
	first := dial(t, addr) // silent
	second := dial(t, addr)
	ask(second)
	third := dial(t, addr)
	ask(third)
	first.closed() // it waited longest
	half := dial(t, addr)
	half.say("GET /v1/sys/leader HTTP/1.1\r\n")
	second.closed()
	fourth := dial(t, addr)
	ask(fourth)
	third.closed()
	for range 5 {
		ask(dial(t, addr))
	}
	half.closed()
	fourth.closed()
	if m := servertest.Scrape(t, f.Must(t, 200, "GET", "sys/metrics", "")); m["sealkeep_http_connections_refused_total"] != "8" {
		t.Errorf("%s were closed", m["sealkeep_http_connections_refused_total"])
	}
	var all []*wire
	for range 2 {
		w := dial(t, addr)
		w.say(f.head("PUT /v1/sys/rotate") + "Content-Length: 0\r\n\r\n")
		<-began
		all = append(all, w)
	}
	dial(t, addr).closed() // all are at work
	close(end)
	for _, w := range append(all, busy) {
		if resp, text := w.hear(); resp.StatusCode != 204 {
			t.Error(resp.Status, text)
		}
	}
	ask(dial(t, addr))
}

// Large bodies wait for their turn; small ones never do.
func TestLargeBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fresh(t)
		small := `{"data":{"k":"` + strings.Repeat("x", server.BodySmall-100) + `"}}`
		large := `{"data":{"k":"` + strings.Repeat("x", server.BodySmall) + `"}}`
		var held []func() // by bodies that are being answered
		for range server.LargeBodies {
			one, err := f.TakePlace(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, one)
		}
		f.Must(t, 200, "PUT", "secret/data/small", small)
		r := f.Must(t, 503, "PUT", "secret/data/large", large)
		if r.Header.Get("Retry-After") != "1" || !strings.Contains(r.Errors(), "try again") {
			t.Errorf("%v %s", r.Header, r.Text)
		}
		time.AfterFunc(server.LargeWait/2, held[0])
		f.Must(t, 200, "PUT", "secret/data/large", large)
		f.Must(t, 400, "PUT", "secret/data/large", "["+large)
		f.Must(t, 413, "PUT", "secret/data/large", strings.Repeat(" ", server.BodyKV+1))
		f.Replace("secret/data/large", api.Write, func(*api.Request) (api.Answer, error) { panic("in the handler") })
		f.Must(t, 500, "PUT", "secret/data/large", large)
		if free, n, _ := f.Places(); n != server.LargeBodies-1 || free != 1 {
			t.Errorf("%d places are taken, not %d", n, server.LargeBodies-1)
		}
	})
}

// TestSlowBodiesOfOneTokenStopNoOthersWrites: a token with the policy default alone sends 200 large bodies that never end.
func TestSlowBodiesOfOneTokenStopNoOthersWrites(t *testing.T) {
	f, addr := listening(t, nil)
	slow := f.Token(t, `{"policies":["default"]}`)
	large := `{"data":{"k":"` + strings.Repeat("x", 2*server.BodySmall) + `"}}`
	var wires []*wire
	for i := range 200 {
		w := dial(t, addr)
		w.say(strings.Replace(f.head(fmt.Sprintf("PUT /v1/cubbyhole/%d", i)), f.Root, slow, 1) + fmt.Sprintf("Content-Length: %d\r\n\r\n", 2*server.BodySmall) + strings.Repeat(" ", server.BodySmall+1))
		wires = append(wires, w)
	}
	servertest.Eventually(t, "all places are taken", func() bool {
		free, _, waiting := f.Places()
		return free == 0 && waiting > 0 // some may have given way already
	})
	for i := range 3 {
		began := time.Now()
		w := dial(t, addr)
		w.say(f.head(fmt.Sprintf("PUT /v1/secret/data/large%d", i)) + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(large), large))
		if resp, body := w.hear(); resp.StatusCode != 200 {
			t.Fatalf("%d: %s", resp.StatusCode, body)
		}
		if took := time.Since(began); took > server.LargeWait/3 {
			t.Errorf("a write waited for %v", took)
		}
	}
	_, arriving, waiting := f.Places()
	if arriving+waiting > len(wires)-3 {
		t.Errorf("%d bodies arrive, %d wait: none gave way", arriving, waiting)
	}
}
