package audit_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage/storagetest"

	"github.com/sealkeep/sealkeep/audit"
)

// With other options a device goes on where it was, even a socket, whose lines cannot
// be read back.
func TestOptionsChange(t *testing.T) {
	s := storagetest.New(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(got)
				return
			}
			b, _ := io.ReadAll(c)
			got <- b
		}
	}()
	path := filepath.Join(t.TempDir(), "audit.log")
	devices := func(raw string) []audit.Device {
		f := audit.FileDevice(path)
		f.Options["log_raw"] = raw
		return []audit.Device{f, {Path: "socket/", Type: "socket", Options: map[string]string{"address": l.Addr().String(), "log_raw": raw}}}
	}
	a, _ := audit.OpenLog(t, s, devices("false")...)
	a.WriteSome(t, 2)
	if err := a.Set(t.Context(), s, devices("true")); err != nil {
		t.Fatal(err)
	}
	a.WriteSome(t, 2)
	head := a.Status()
	a.Save(s)
	a.Close()
	first := <-got
	second := <-got
	l.Close()
	if v := audit.Verify(t, head[1].Head, first, second); v.Findings != nil || v.Lines != 10 {
		t.Errorf("socket: %+v", v)
	}
	b := audit.ReadAll(t, path)
	if v := audit.Verify(t, head[0].Head, b); v.Findings != nil || v.Lines != 10 || bytes.Count(b, []byte(`"hvs.x"`)) != 4 {
		t.Errorf("file: %+v", v)
	}
}

// A file that is renamed while requests are recorded misses none of them.
func TestRotates(t *testing.T) {
	s := storagetest.New(t)
	path := filepath.Join(t.TempDir(), "audit.log")
	a, _ := audit.OpenLog(t, s, audit.FileDevice(path))
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					a.WriteSome(t, 1)
				}
			}
		})
	}
	var files [][]byte
	for i := range 5 {
		if err := os.Rename(path, fmt.Sprint(path, i)); err != nil {
			t.Fatal(err)
		}
		if err := a.Set(t.Context(), s, []audit.Device{audit.FileDevice(path)}); err != nil {
			t.Fatal(err)
		}
		files = append(files, audit.ReadAll(t, fmt.Sprint(path, i)))
	}
	close(stop)
	writers.Wait()
	head := a.Status()[0].Head
	a.Close()
	if v := audit.Verify(t, head, append(files, audit.ReadAll(t, path))...); v.Findings != nil || v.First.Seq != 1 {
		t.Errorf("%+v", v)
	}
}

// BenchmarkLog records requests and their answers in a file.
func BenchmarkLog(b *testing.B) {
	s := storagetest.New(b)
	a, _ := audit.OpenLog(b, s, audit.FileDevice(filepath.Join(b.TempDir(), "audit.log")))
	created, policies := time.Now(), []string{"default", "web"}
	answer := []byte(`{"data":{"user":"app","password":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},"metadata":{"created_time":"2026-01-02T03:04:05.678901234Z","custom_metadata":null,"deletion_time":"","destroyed":false,"version":1}}`)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			auth := &audit.Auth{Accessor: "SYQ4VFUIIMNPXBJRJDGKTQLLJ7", DisplayName: "approle", Policies: policies, TokenPolicies: policies, TokenType: "service", TokenTTL: 3600, IssueTime: created.UTC().Format(time.RFC3339)}
			e := &audit.Entry{ID: "4f9d5a5e-6b5c-4c5e-8d3f-1c2b3a4d5e6f", Operation: "read", Path: "secret/data/web/db", Auth: auth, Secret: "hvs.CAESIJzKhAh2xkLoV9", RemoteAddr: "192.0.2.1", RemotePort: 1234,
				Mount: audit.Mount{Point: "secret/", Type: "kv", Accessor: "kv_12345678", Class: "secret"}, Decided: true, Allowed: true}
			if err := a.Request(e, ""); err != nil {
				b.Fatal(err)
			}
			if err := a.Response(e, audit.Outcome{Data: answer}); err != nil {
				b.Fatal(err)
			}
		}
	})
	a.Close()
}
