package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/servertest"
)

// A request is in flight from when it is admitted, before its body is here, until it
// is answered. What is shown of it has no secret.
func TestInFlight(t *testing.T) {
	f := fresh(t, servertest.NewSeal("a", 1))
	conn, err := net.Dial("tcp", f.OverHTTP(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"data":{"k":"hidden"}}`
	fmt.Fprintf(conn, "PUT /v1/secret/data/a?hint=hidden HTTP/1.1\r\nHost: keep\r\nX-Vault-Token: %s\r\nContent-Length: %d\r\n\r\n%s", f.Root, len(body), body[:20])
	var flying servertest.Reply
	slow := func() (id string, view map[string]any) {
		flying = f.Must(t, 200, "GET", "sys/in-flight-req", "")
		for id, v := range flying.Body {
			if v := v.(map[string]any); v["request_path"] == "/v1/secret/data/a" {
				return id, v
			}
		}
		return "", nil
	}
	servertest.Until(t, func() bool { id, _ := slow(); return id != "" })
	id, view := slow()
	if len(flying.Body) != 2 || strings.Contains(flying.Text, f.Root) || strings.Contains(flying.Text, "hidden") {
		t.Errorf("in flight: %s", flying.Text)
	}
	if view["client_remote_address"] != conn.LocalAddr().String() || view["request_method"] != "PUT" || view["client_id"] != "" || len(view) != 5 {
		t.Errorf("the request is shown as %v", view)
	}
	if at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(view["start_time"])); err != nil || time.Since(at) > time.Minute {
		t.Errorf("it began at %v, %v", view["start_time"], err)
	}
	io.WriteString(conn, body[20:])
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !strings.Contains(string(text), id) {
		t.Errorf("%d %s, %v: not the request %s", resp.StatusCode, text, err, id)
	}
	servertest.Until(t, func() bool { id, _ := slow(); return id == "" })
	f.Must(t, 403, "PUT", "secret/data/a", body, "X-Vault-Token: wrong")
	f.Must(t, 405, "PUT", "sys/metrics", "{}")

	// The list holds together while many come and go, and nobody stays.
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				f.Call(t, "GET", "secret/data/a", "")
				f.Call(t, "GET", "sys/in-flight-req", "")
			}
		})
	}
	all.Wait()
	if slow(); len(flying.Body) != 1 {
		t.Errorf("these are still in flight: %s", flying.Text)
	}
}
