package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
)

// Every request is there twice, with who asked, and what is secret is not.
func TestAuditRecords(t *testing.T) {
	d, file := servertest.AuditFile(t)
	f := freshAudited(t, []audit.Device{d})
	f.Must(t, 200, "POST", "secret/data/app", `{"data":{"password":"hunter2","n":17,"on":true,"list":["hunter3",null]},"options":{"cas":0}}`)
	f.Must(t, 200, "GET", "secret/data/app?version=1", "")
	made := f.Must(t, 200, "POST", "auth/token/create", `{"policies":["default"],"ttl":"1h"}`)
	child, _ := made.Get("auth", "client_token").(string)
	f.Must(t, 403, "GET", "secret/data/app", "", "X-Vault-Token: "+child)
	f.Must(t, 403, "GET", "secret/data/app", "", "X-Vault-Token: hvs.wrong")
	f.Must(t, 403, "GET", "secret/data/app", "", "X-Vault-Token: ")
	f.Must(t, 404, "GET", "secret/data/none", "")
	f.Must(t, 400, "GET", "secret/../app", "")
	f.Must(t, 400, "GET", "secret/data/app", "", "X-Vault-Namespace: other")
	f.Must(t, 200, "GET", "sys/health", "")
	f.Must(t, 200, "GET", "sys/seal-status", "")
	f.Must(t, 204, "PUT", "sys/seal", "")
	f.Must(t, 503, "GET", "secret/data/app", "")

	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"hunter2", "hunter3", f.Root, child, "hvs.wrong"} {
		if strings.Contains(string(raw), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
	list := servertest.Records(t, file)
	var got []string
	for i, r := range list {
		got = append(got, fmt.Sprint(r["type"], " ", r.Get("request", "operation"), " ", r.Get("request", "path"), " ", r["error"]))
		if i%2 == 1 && r.Get("request", "id") != list[i-1].Get("request", "id") {
			t.Errorf("lines %d and %d are not of one request", i-1, i)
		}
	}
	var want []string
	for _, w := range []string{
		"update secret/data/app <nil>", "read secret/data/app <nil>", "update auth/token/create <nil>",
		"read secret/data/app permission denied", "read secret/data/app permission denied", "read secret/data/app permission denied",
		"request read secret/data/none <nil>", "response read secret/data/none <nil>",
		`<nil> secret/../app path cannot contain the segment ".."`,
		"<nil> secret/data/app namespaces are not supported: remove the header X-Vault-Namespace (VAULT_NAMESPACE)",
		"update sys/seal <nil>",
	} {
		if strings.HasPrefix(w, "request") || strings.HasPrefix(w, "response") {
			want = append(want, w)
			continue
		}
		want = append(want, "request "+w, "response "+w)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	write, read, create, denied := list[0], list[3], list[5], list[6]
	k := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	mac := func(r servertest.Record, path ...string) string {
		t.Helper()
		s, _ := r.Get(path...).(string)
		if !strings.HasPrefix(s, "hmac-sha256:") || len(s) != 12+64 {
			t.Errorf("%v is %q", path, s)
		}
		return s
	}
	for _, c := range []struct {
		r    servertest.Record
		path string
		want string
	}{
		{write, "request data data n", `17`}, {write, "request data data on", `true`}, {write, "request data options cas", `0`},
		{write, "request mount_point", `"secret/"`}, {write, "request mount_type", `"kv"`}, {write, "request mount_class", `"secret"`},
		{write, "request remote_address", `"192.0.2.1"`}, {write, "request remote_port", `1234`}, {write, "request namespace id", `"root"`},
		{write, "auth policies", `["root"]`}, {write, "auth token_type", `"service"`},
		{write, "auth policy_results allowed", `true`}, {denied, "auth policy_results allowed", `false`},
		{read, "response data metadata version", `1`}, {read, "response mount_type", `"kv"`},
		{create, "response auth policies", `["default"]`}, {create, "response auth token_ttl", `3600`},
		{list[12], "error", `null`}, {list[8], "auth token_type", `"default"`},
	} {
		if got := k(c.r.Get(strings.Fields(c.path)...)); got != c.want {
			t.Errorf("%s is %s, want %s", c.path, got, c.want)
		}
	}
	if mac(write, "request", "data", "data", "password") != mac(read, "response", "data", "data", "password") {
		t.Error("the same value has two HMACs")
	}
	if mac(create, "response", "auth", "client_token") != mac(denied, "request", "client_token") || mac(create, "response", "auth", "accessor") != mac(denied, "auth", "accessor") {
		t.Error("the same token has two HMACs")
	}
	mac(read, "request", "data", "version")
	mac(write, "auth", "display_name")

	// And after it was opened again, under the same salt.
	if err := f.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	hash := f.Must(t, 200, "POST", "sys/audit-hash/file", `{"input":"hunter2"}`).Get("data", "hash")
	if hash != mac(write, "request", "data", "data", "password") {
		t.Errorf("audit-hash says %v", hash)
	}
	if n := len(servertest.Records(t, file)); n != len(list)+2 {
		t.Errorf("the log has %d records, had %d", n, len(list))
	}
}

func TestAuditOptions(t *testing.T) {
	d, file := servertest.AuditFile(t, "log_raw=true", "hmac_accessor=false", "elide_list_responses=1", "mode=0640")
	hidden, hiddenFile := servertest.AuditFile(t, "elide_list_responses=1")
	hidden.Path = "hidden/"
	f := freshAudited(t, []audit.Device{d, hidden})
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"password":"hunter2"}}`)
	f.Must(t, 200, "POST", "secret/data/b", `{"data":{"large":"`+strings.Repeat("x", 200<<10)+`"}}`)
	f.Must(t, 400, "POST", "secret/data/c", `no JSON hunter4`)
	f.Must(t, 200, "LIST", "secret/metadata", "")
	f.Must(t, 204, "POST", "sys/mounts/secret/tune", `{"audit_non_hmac_request_keys":["data","note"],"audit_non_hmac_response_keys":["metadata","created_time"]}`)
	f.Must(t, 200, "POST", "secret/data/d", `{"data":{"password":"hunter3","note":"a note"},"options":{"x":"hunter5"}}`)
	f.Must(t, 200, "GET", "secret/data/d", "")
	f.Must(t, 200, "SCAN", "secret/detailed-metadata", "")

	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
	raw, list := servertest.Records(t, file), servertest.Records(t, hiddenFile)
	if raw[0].Get("request", "data", "data", "password") != "hunter2" || raw[0].Get("request", "client_token") != f.Root {
		t.Errorf("the raw log has %v", raw[0])
	}
	if m, _ := raw[2].Get("request", "data").(map[string]any); len(m) != 2 || m["omitted_bytes"] != float64(200<<10+len(`{"data":{"large":""}}`)) {
		t.Errorf("of a large body the raw log has %.300v", m)
	}
	if mac, _ := list[2].Get("request", "data", "data", "large").(string); !strings.HasPrefix(mac, "hmac-sha256:") {
		t.Errorf("of a large body the log has %.300v", mac)
	}
	for _, logs := range [][]servertest.Record{raw, list} {
		if m, _ := logs[4].Get("request", "data").(map[string]any); len(m) != 2 || m["omitted_bytes"] != float64(len("no JSON hunter4")) {
			t.Errorf("of a body that is no JSON the log has %v", m)
		}
		if n := logs[7].Get("response", "data", "keys"); n != 2.0 {
			t.Errorf("of a list the log has %v", n)
		}
		if scan := logs[15]; scan.Get("request", "operation") != "scan" || scan.Get("response", "data", "keys") != 3.0 || scan.Get("response", "data", "key_info") != 3.0 {
			t.Errorf("of a scan the log has %v", scan)
		}
	}
	if mac, _ := list[10].Get("request", "data", "data", "password").(string); !strings.HasPrefix(mac, "hmac-sha256:") {
		t.Errorf("audit_non_hmac_request_keys shows what is beneath a key: %v", list[10])
	}
	if list[10].Get("request", "data", "data", "note") != "a note" || list[10].Get("request", "data", "options", "x") == "hunter5" {
		t.Errorf("with audit_non_hmac_request_keys the log has %v", list[10])
	}
	if at, _ := list[13].Get("response", "data", "metadata", "created_time").(string); !strings.HasPrefix(at, "20") {
		t.Errorf("with audit_non_hmac_response_keys the log has %v", list[13])
	}
	if _, err := server.New(server.Config{Keep: keep.New(keep.Config{Path: filepath.Join(t.TempDir(), "x.db"), Audit: []audit.Device{{Path: "x/", Type: "syslog"}}})}); err == nil {
		t.Error("a wrong device is accepted")
	}
}

// When no device can write, nothing is done and nothing is answered.
func TestAuditFailsClosed(t *testing.T) {
	full := audit.Device{Path: "full/", Type: "file", Options: map[string]string{"file_path": "/dev/full"}}
	f := freshAudited(t, []audit.Device{full})
	for _, c := range []struct{ method, path, body, token string }{
		{"POST", "secret/data/a", `{"data":{"a":1}}`, f.Root}, {"GET", "secret/data/a", "", f.Root}, {"GET", "auth/token/lookup-self", "", ""},
	} {
		r := f.Must(t, 500, c.method, c.path, c.body, "X-Vault-Token: "+c.token)
		if !strings.Contains(r.Errors(), "not carried out, because it could not be recorded") {
			t.Errorf("%s %s: %s", c.method, c.path, r.Text)
		}
	}
	f.Must(t, 200, "GET", "sys/health", "")
	if n := strings.Count(f.Log.String(), "an audit device fails"); n != 1 {
		t.Errorf("the log says %d times that the device fails", n)
	}

	// Another device is enough.
	d, file := servertest.AuditFile(t)
	if err := f.SetAudit([]audit.Device{full, d}, false); err != nil {
		t.Fatal(err)
	}
	f.Must(t, 404, "GET", "secret/data/a", "")
	if n := len(servertest.Records(t, file)); n != 2 {
		t.Errorf("the log has %d records", n)
	}
	list := f.Must(t, 200, "GET", "sys/audit", "")
	if why, _ := list.Get("data", "full/", "failing").(string); !strings.Contains(why, "no space left") || list.Get("data", "file/", "failing") != nil {
		t.Errorf("sys/audit says %s", list.Text)
	}
	text := f.Must(t, 200, "GET", "sys/metrics", "").Text
	for _, want := range []string{
		`sealkeep_audit_device_failing{device="full"} 1`, `sealkeep_audit_device_failing{device="file"} 0`,
		`sealkeep_audit_records_total{device="file",outcome="written"}`, `sealkeep_audit_refused_total{record="request"} 3`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// TestReloadWithAnAuditDeviceThatCannotBeOpenedChangesNothing: the devices that work go on, every request is recorded,
// and the log stays one.
func TestReloadWithAnAuditDeviceThatCannotBeOpenedChangesNothing(t *testing.T) {
	d, path := servertest.AuditFile(t)
	f := freshAudited(t, []audit.Device{d})
	absent := filepath.Join(t.TempDir(), "absent", "audit.log")
	file := func(path, file string, options ...string) audit.Device {
		o := audit.Device{Path: path, Type: "file", Options: map[string]string{"file_path": file}}
		if len(options) > 0 {
			o.Options[options[0]] = options[1]
		}
		return o
	}
	nobody := audit.Device{Path: "socket/", Type: "socket", Options: map[string]string{"address": absent, "socket_type": "unix"}}
	full := file("full/", "/dev/full")
	for name, devices := range map[string][]audit.Device{
		"the same path, another file":           {file("file/", absent)},
		"another path":                          {file("other/", absent)},
		"beside the one that works":             {d, file("other/", absent)},
		"a collector that is away":              {d, nobody},
		"opens, but takes no line":              {d, full},
		"the same path, takes no line":          {file("file/", "/dev/full")},
		"one with other options, one that full": {file("file/", path, "log_raw", "true"), full},
		"the same file, and a path that fails":  {file("moved/", path), file("file/", "/dev/full")},
		"wrong":                                 {file("file/", path, "mode", "x")},
	} {
		t.Run(name, func(t *testing.T) {
			if err := f.SetAudit(devices, true); err == nil {
				t.Error("they are taken over")
			}
			before := len(servertest.Records(t, path))
			f.Must(t, 404, "GET", "secret/data/a", "")
			list := f.Must(t, 200, "GET", "sys/audit", "")
			if all, _ := list.Get("data").(map[string]any); len(all) != 1 || list.Get("data", "file/", "failing") != nil {
				t.Errorf("sys/audit says %s", list.Text)
			}
			if n := len(servertest.Records(t, path)) - before; n != 4 {
				t.Errorf("%d records", n)
			}
			if r := f.Must(t, 400, "PUT", "sys/audit/x", `{"type":"file","options":{"file_path":"/x"}}`); !strings.Contains(r.Errors(), "cannot enable") {
				t.Errorf("the rest is taken over: %s", r.Text)
			}
		})
	}
	// A device that stays is opened anew, or goes on in the file that it has.
	if err := errors.Join(os.Rename(path, path+".1"), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, reload := range []func() error{func() error { return f.SetAudit([]audit.Device{d}, false) }, f.ReopenAudit} {
		if err := reload(); err == nil || !strings.Contains(err.Error(), "is a directory") {
			t.Errorf("opened anew: %v", err)
		}
		f.Must(t, 404, "GET", "secret/data/a", "")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := f.SetAudit([]audit.Device{d}, false); err != nil {
		t.Error(err)
	}
	f.Must(t, 404, "GET", "secret/data/a", "")
	v := audit.Verifier{From: 1}
	for _, name := range []string{path + ".1", path} {
		in, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Read(name, in); err != nil {
			t.Error(err)
		}
		in.Close()
	}
	if v.Close(path); v.Findings != nil || v.Lines < 40 {
		t.Errorf("%d lines, %q", v.Lines, v.Findings)
	}
}

// An answer that cannot be recorded is withheld.
func TestAuditWithholdsAnswers(t *testing.T) {
	d, stop, collect := servertest.Collector(t)
	f := freshAudited(t, []audit.Device{d})
	for _, c := range []struct {
		method, path, body, route string
		op                        api.Op
	}{
		{"GET", "auth/token/lookup-self", "", "auth/token/lookup-self", api.Read}, {"POST", "secret/data/a", `{"data":{"k":"v"}}`, "data/{path...}", api.Write},
		{"GET", "sys/storage/backup", "", "sys/storage/backup", api.Read},
	} {
		restore := f.Before(c.route, c.op, func(*api.Request) { stop() }) // the collector is gone from here on
		r := f.Must(t, 500, c.method, c.path, c.body)
		if !strings.Contains(r.Errors(), "its answer is withheld") || strings.Contains(r.Text, f.Root) {
			t.Errorf("%s %s: %s", c.method, c.path, r.Text)
		}
		restore()
		collect()
		servertest.Eventually(t, "the device works again", func() bool { return f.Call(t, "GET", "secret/config", "").Status == 200 })
	}
}

// A collector that hangs holds up one request, and others only until it is known.
func TestAuditSocket(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conns := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	d := audit.Device{Path: "socket/", Type: "socket", Options: map[string]string{"address": l.Addr().String(), "socket_type": "unix", "write_timeout": "200ms"}}
	f := freshAudited(t, []audit.Device{d})
	c := <-conns
	f.Must(t, 404, "GET", "secret/data/a", "")
	// It stops reading: sooner or later the buffers are full.
	large := `{"data":{"` + strings.Repeat("k", 30<<10) + `":1}}`
	for n := 0; f.Call(t, "POST", "secret/data/b", large).Status == 200; n++ {
		if n > 1000 {
			t.Fatal("the socket takes everything")
		}
	}
	began := time.Now()
	for range 20 {
		f.Must(t, 500, "GET", "secret/data/a", "")
	}
	if took := time.Since(began); took > 2*time.Second { // waiting for the deadline each, it would be 4
		t.Errorf("twenty requests that nobody records took %v", took)
	}
	read := make(chan string)
	go func() {
		b, _ := io.ReadAll(c)
		read <- string(b)
	}()
	again := <-conns // the old connection was given up, half a line in it
	servertest.Eventually(t, "recovery", func() bool { return f.Call(t, "GET", "secret/config", "").Status == 200 })
	f.Stop(t)
	rest, _ := io.ReadAll(again)
	text := <-read
	text = text[:strings.LastIndexByte(text, '\n')+1] + string(rest)
	var v audit.Verifier
	if err := v.Read("both", strings.NewReader(text)); err != nil || v.Findings != nil {
		t.Errorf("what was collected does not verify: %q, %v", v.Findings, err)
	}
	if !strings.Contains(text, `"event":"opened","lost":2`) {
		t.Error("how many records were lost is not said")
	}
}

// While a collector hangs, the file is enough: one request waits for the deadline,
// those that come later do not.
func TestAuditSocketAndFile(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // which accepts nothing, and so reads nothing
	d, file := servertest.AuditFile(t)
	socket := audit.Device{Path: "socket/", Type: "socket", Options: map[string]string{"address": l.Addr().String(), "write_timeout": "500ms"}}
	f := freshAudited(t, []audit.Device{socket, d})
	large := `{"data":{"` + strings.Repeat("k", 50<<10) + `":1}}`
	n := 0
	for ; f.Unsealed().Audit.Status()[0].Failing == nil; n++ {
		if n > 1000 {
			t.Fatal("the socket takes everything")
		}
		f.Must(t, 200, "POST", "secret/data/b", large)
	}
	began := time.Now()
	for range 20 {
		f.Must(t, 200, "GET", "secret/config", "")
		n++
	}
	if took := time.Since(began); took > 5*time.Second { // waiting for the deadline each, it would be 10
		t.Errorf("twenty requests beside a device that hangs took %v", took)
	}
	if got := len(servertest.Records(t, file)); got != 2*n {
		t.Errorf("the file has %d records of %d requests", got, n)
	}
}

func TestAuditAPI(t *testing.T) {
	f := fresh(t)
	if err := f.SetAudit(nil, true); err != nil { // in no other test: fuzzing would write to any file
		t.Fatal(err)
	}
	c := f.Client(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "api.log")
	if err := c.Sys().EnableAudit("by-api", "file", "of the test", map[string]string{"file_path": file}); err != nil {
		t.Fatal(err)
	}
	list, err := c.Sys().ListAudit()
	if err != nil || len(list) != 1 || list["by-api/"].Type != "file" || list["by-api/"].Description != "of the test" || list["by-api/"].Options["file_path"] != file {
		t.Errorf("list: %v, %+v", err, list)
	}
	if hash, err := c.Sys().AuditHash("by-api", "x"); err != nil || !strings.HasPrefix(hash, "hmac-sha256:") {
		t.Errorf("hash: %q, %v", hash, err)
	}
	for body, want := range map[string]string{
		`{"type":"file"}`: "file_path is required", `{"type":"syslog"}`: `no type "syslog"`,
		`{"type":"file","options":{"file_path":"` + file + `"}}`:                       "already in use",
		`{"type":"file","options":{"file_path":"` + f.Path + `"}}`:                     "does not work",
		`{"type":"file","options":{"file_path":"` + dir + `/no/x"}}`:                   "does not work",
		`{"type":"file","options":{"file_path":"x"}}`:                                  "must be absolute",
		`{"type":"file","options":{"file_path":"/x","prefix":"a"}}`:                    `no option "prefix"`,
		`{"type":"socket","options":{"address":"127.0.0.1:1"}}`:                        "does not work",
		`{"type":"socket","options":{"address":"127.0.0.1:1","socket_type":"udp"}}`:    "tcp or unix",
		`{"type":"socket","options":{"address":"127.0.0.1:1","write_timeout":"soon"}}`: "write_timeout",
	} {
		if r := f.Must(t, 400, "PUT", "sys/audit/second", body); !strings.Contains(r.Errors(), want) {
			t.Errorf("%s: %s", body, r.Text)
		}
	}
	f.Must(t, 400, "PUT", "sys/audit/by-api/below", `{"type":"file","options":{"file_path":"discard"}}`)

	// It is there after a restart, and goes on where it was.
	f.Must(t, 204, "PUT", "sys/seal", "")
	if err := f.Unseal(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := len(servertest.Records(t, file))
	if err := c.Sys().DisableAudit("by-api"); err != nil {
		t.Fatal(err)
	}
	f.Must(t, 204, "DELETE", "sys/audit/by-api", "")
	f.Must(t, 200, "GET", "secret/config", "")
	if m := len(servertest.Records(t, file)); m != n+1 { // of disabling, the request
		t.Errorf("%d records after disabling, %d before", m, n)
	}

	d, _ := servertest.AuditFile(t)
	if err := f.SetAudit([]audit.Device{d}, false); err != nil {
		t.Fatal(err)
	}
	if r := f.Must(t, 400, "DELETE", "sys/audit/file", ""); !strings.Contains(r.Errors(), "configuration-managed") {
		t.Error(r.Text)
	}
	if r := f.Must(t, 400, "PUT", "sys/audit/x", `{"type":"file","options":{"file_path":"discard"}}`); !strings.Contains(r.Errors(), "cannot enable audit device via API") {
		t.Error(r.Text)
	}
}

// BenchmarkAudit is a read over the handler alone, without a device and with some.
func BenchmarkAudit(b *testing.B) {
	dir := b.TempDir()
	file := func(name string) audit.Device {
		return audit.Device{Path: name + "/", Type: "file", Options: map[string]string{"file_path": filepath.Join(dir, name)}}
	}
	for name, devices := range map[string][]audit.Device{
		"none": nil, "one file": {file("a")}, "two files": {file("b"), file("c")},
	} {
		b.Run(name, func(b *testing.B) {
			f := freshAudited(b, devices)
			f.Must(b, 200, "POST", "secret/data/read", `{"data":{"user":"app","password":"`+strings.Repeat("x", 32)+`"}}`)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					req := httptest.NewRequest("GET", "http://keep/v1/secret/data/read", http.NoBody)
					req.Header.Set("X-Vault-Token", f.Root)
					w := httptest.NewRecorder()
					f.HTTP.ServeHTTP(w, req)
					if w.Code != 200 {
						b.Fatal(w.Code)
					}
				}
			})
		})
	}
}

// What a client says is not in the log in the clear: neither what it calls a token
// and notes of it, nor a key in the URL of an issuer's keys.
func TestEveryTextIsHiddenInTheAuditLog(t *testing.T) {
	d, file := servertest.AuditFile(t)
	f := freshAudited(t, []audit.Device{d})
	issuer := httptest.NewServer(http.NotFoundHandler())
	defer issuer.Close()
	gone := httptest.NewServer(nil)
	gone.Close()

	token := f.Token(t, `{"display_name":"hunter1","meta":{"note":"hunter2"},"policies":["p"]}`)
	f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(token))
	f.Must(t, 204, "POST", "sys/auth/approle", `{"type":"approle"}`)
	f.Must(t, 204, "POST", "auth/approle/role/app", `{}`)
	id := f.Must(t, 200, "GET", "auth/approle/role/app/role-id", "").Get("data", "role_id").(string)
	secret := f.Must(t, 200, "POST", "auth/approle/role/app/secret-id", `{"metadata":"{\"note\":\"hunter3\"}"}`).Get("data", "secret_id").(string)
	f.Must(t, 200, "POST", "auth/approle/login", `{"role_id":"`+id+`","secret_id":"`+secret+`"}`, "X-Vault-Token: ")
	f.Must(t, 204, "POST", "sys/auth/jwt", `{"type":"jwt"}`)
	for _, url := range []string{issuer.URL, gone.URL} {
		for field, at := range map[string]string{"jwks_url": "/keys?key=hunter4", "oidc_discovery_url": "?key=hunter5#hunter6"} {
			f.Must(t, 400, "POST", "auth/jwt/config", `{"`+field+`":"`+url+at+`"}`)
			f.Must(t, 200, "POST", "auth/jwt/config", `{"`+field+`":"`+url+at+`","skip_jwks_validation":true}`)
			f.Call(t, "POST", "auth/jwt/login", `{"role":"x","jwt":"hunter7.hunter8.hunter9"}`)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if i := strings.Index(line, "hunter"); i >= 0 {
			t.Errorf("the log has %q in %s", line[i:i+7], line)
		}
	}
	list := servertest.Records(t, file)
	if m, _ := list[2].Get("auth", "metadata").(map[string]any); len(m) != 1 || !strings.HasPrefix(fmt.Sprint(m["note"]), "hmac-sha256:") {
		t.Errorf("of the metadata of a token the log has %v", list[2])
	}
}

// What is built in has a place in the log as a mount has, but no accessor, also where
// the request was refused.
func TestAuditRecordsWhatIsBuiltIn(t *testing.T) {
	d, file := servertest.AuditFile(t)
	f := startAudited(t, filepath.Join(t.TempDir(), "keep.db"), []audit.Device{d}, servertest.NewSeal("a", 1))
	f.Root, _ = f.Must(t, 200, "PUT", "sys/init", `{"recovery_shares":0,"recovery_threshold":0}`).Get("root_token").(string)
	f.Must(t, 204, "POST", "sys/auth/userpass", `{"type":"userpass"}`)
	f.Must(t, 404, "GET", "auth/userpass/users/none", "")
	f.Must(t, 404, "GET", "sys/nowhere", "")
	f.Must(t, 400, "GET", "sys/mounts?list=x", "")
	f.Must(t, 404, "GET", "sys", "")
	f.Must(t, 200, "GET", "auth/token/lookup-self", "")
	f.Must(t, 404, "GET", "auth/token/nowhere", "")
	f.Must(t, 404, "GET", "auth/token", "")
	f.Must(t, 400, "GET", "cubbyhole", "")
	f.Must(t, 404, "GET", "cubbyhole/a", "")
	f.Must(t, 403, "GET", "cubbyhole/a", "", "X-Vault-Token: hvs.wrong")
	f.Must(t, 404, "GET", "nowhere/a", "")
	accessor := f.Must(t, 200, "GET", "sys/auth/userpass", "").Get("data", "accessor")
	want := []string{
		"sys/ system secret <nil>", "sys/ system secret <nil>", "auth/userpass/ userpass auth " + fmt.Sprint(accessor),
		"sys/ system secret <nil>", "sys/ system secret <nil>", "<nil> <nil> <nil> <nil>",
		"auth/token/ token auth <nil>", "auth/token/ token auth <nil>", "<nil> <nil> <nil> <nil>",
		"cubbyhole/ cubbyhole secret <nil>", "cubbyhole/ cubbyhole secret <nil>", "cubbyhole/ cubbyhole secret <nil>",
		"<nil> <nil> <nil> <nil>", "sys/ system secret <nil>",
	}
	var got []string
	for _, r := range servertest.Records(t, file) {
		for _, kind := range []string{"request", "response"} {
			if r["type"] == kind {
				got = append(got, servertest.Say(r.Get(kind, "mount_point"), r.Get(kind, "mount_type"), r.Get(kind, "mount_class"), r.Get(kind, "mount_accessor")))
			}
		}
	}
	for i := range got {
		if i/2 >= len(want) || got[i] != want[i/2] {
			t.Errorf("line %d has %s", i, got[i])
		}
	}
	if len(got) != 2*len(want) {
		t.Errorf("%d lines", len(got))
	}
}
