package servertest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/storage"
)

// Eventually waits for what happens in the background.
func Eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func Until(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within 20 s")
		}
	}
}

// Say is values with spaces between them.
func Say(values ...any) string { return strings.TrimSuffix(fmt.Sprintln(values...), "\n") }

// As is the header of a request by the bearer of a token.
func As(token string) (header string) { return "X-Vault-Token: " + token }

// JSONText is a value as JSON.
func JSONText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Scrape reads metrics as lines "name{labels} value".
func Scrape(t *testing.T, r Reply) map[string]string {
	t.Helper()
	if kind := r.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain; version=0.0.4") {
		t.Errorf("Content-Type %q", kind)
	}
	m := make(map[string]string)
	for lines := bufio.NewScanner(strings.NewReader(r.Text)); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "} "); ok && !strings.HasPrefix(name, "#") {
			m[name+"}"] = value
		} else if name, value, ok := strings.Cut(lines.Text(), " "); ok {
			m[name] = value
		}
	}
	return m
}

// Collector is an audit device that goes away when stop is called, and comes back
// with collect.
func Collector(t testing.TB) (d audit.Device, stop, collect func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "Collector") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	var end func()
	collect = func() {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Error(err)
			return
		}
		var mu sync.Mutex
		var conns []net.Conn
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				mu.Lock()
				conns = append(conns, c)
				mu.Unlock()
				go io.Copy(io.Discard, c)
			}
		}()
		end = func() {
			l.Close()
			mu.Lock()
			defer mu.Unlock()
			for _, c := range conns {
				c.Close()
			}
		}
	}
	collect()
	t.Cleanup(func() { end() })
	return audit.Device{Path: "socket/", Type: "socket", Options: map[string]string{"address": path, "socket_type": "unix"}}, func() { end() }, collect
}

// Metric is the value of a metric with its labels, "" where it is none.
func (f *Fixture) Metric(t testing.TB, line string) string {
	t.Helper()
	text := f.Must(t, 200, "GET", "sys/metrics", "").Text
	for l := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(l, line+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Token makes a token with the root token.
func (f *Fixture) Token(t testing.TB, body string, headers ...string) string {
	t.Helper()
	return f.Must(t, 200, "POST", "auth/token/create", body, headers...).Get("auth", "client_token").(string)
}

// WriteToken writes a token as it is, and returns its secret.
func (f *Fixture) WriteToken(t testing.TB, tok *access.Token) (secret string) {
	t.Helper()
	tok.Type, tok.Orphan = "service", true
	if tok.Created.IsZero() {
		tok.Created = time.Now()
	}
	err := f.Unsealed().Store.Update(t.Context(), func(tx *storage.Tx) (err error) {
		secret, err = access.Create(tx, "", tok)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// Bearer makes a token with these policies and no other.
func (f *Fixture) Bearer(t testing.TB, policies ...string) string {
	t.Helper()
	return f.WriteToken(t, &access.Token{Policies: policies})
}

// Policy writes a policy that has these capabilities on these paths.
func (f *Fixture) Policy(t testing.TB, name string, paths map[string]string) {
	t.Helper()
	var text strings.Builder
	for path, caps := range paths {
		fmt.Fprintf(&text, "path %q {\n capabilities = [%s]\n}\n", path, caps)
	}
	p, err := access.ParsePolicy(name, text.String())
	if err == nil {
		err = f.Unsealed().ChangePolicies(t.Context(), func(tx *storage.Tx) error { return access.PutPolicy(tx, p) })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// OverHTTP serves the keep's API on an address of its own.
func (f *Fixture) OverHTTP(t testing.TB) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := f.HTTPServer(server.Listener{})
	go server.Serve(web, l, nil)
	t.Cleanup(func() { web.Close() })
	return l.Addr().String()
}

// Slot is what is known of a slot.
func (f *Fixture) Slot(t *testing.T, name string) keep.SlotStatus {
	t.Helper()
	for _, sl := range f.Status().Slots {
		if sl.Name == name {
			return sl
		}
	}
	t.Fatalf("no slot %q in %+v", name, f.Status())
	return keep.SlotStatus{}
}

// OpenWithin waits, by the test's clock, until the keep is open.
func (f *Fixture) OpenWithin(t *testing.T, limit time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	for f.Status().Sealed {
		if time.Since(began) > limit {
			t.Fatalf("still sealed after %v: %+v", limit, f.Status().Slots)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}

// Below counts the records in a folder of the store.
func (f *Fixture) Below(t *testing.T, folder string) int {
	t.Helper()
	n := 0
	var walk func(tx *storage.Tx, folder string) error
	walk = func(tx *storage.Tx, folder string) error {
		names, err := tx.List(folder)
		if err != nil {
			return err
		}
		for _, name := range names {
			if sub, ok := strings.CutSuffix(name, "/"); ok {
				if err := walk(tx, folder+"/"+sub); err != nil {
					return err
				}
				continue
			}
			n++
		}
		return nil
	}
	if err := f.Unsealed().Store.View(context.Background(), func(tx *storage.Tx) error { return walk(tx, folder) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// A NullWriter takes an answer of which only the status counts.
type NullWriter struct {
	Head http.Header
	Code int
}

func (w *NullWriter) Header() http.Header         { return w.Head }
func (w *NullWriter) WriteHeader(status int)      { w.Code = status }
func (w *NullWriter) Write(p []byte) (int, error) { return len(p), nil }

// Snapshot is what the store holds, apart from the data of removed mounts, and from
// whether a token was ever used.
func (f *Fixture) Snapshot(t testing.TB) map[string]string {
	t.Helper()
	u := f.Unsealed()
	if u == nil {
		t.Fatal("the keep is sealed")
	}
	all := make(map[string]string)
	err := u.Store.View(context.Background(), func(tx *storage.Tx) error {
		clear(all)
		mounts, err := mount.ReadTable(tx, mount.EnginesPath)
		if err != nil {
			return err
		}
		folders := []string{"sys", "access"}
		for _, m := range mounts.All() {
			folders = append(folders, m.Prefix())
		}
		for len(folders) > 0 {
			folder := folders[0]
			folders = folders[1:]
			names, err := tx.List(folder)
			if err != nil {
				return err
			}
			for _, name := range names {
				path := folder + "/" + name
				if sub, ok := strings.CutSuffix(path, "/"); ok {
					if sub != mount.PurgeFolder {
						folders = append(folders, sub)
					}
					continue
				}
				value, err := tx.Get(path)
				if err != nil {
					return err
				}
				all[path] = string(value)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(all, "sys/unused")
	return all
}

// TokenRecords counts the records of tokens.
func (f *Fixture) TokenRecords(t testing.TB) (n int) {
	t.Helper()
	err := f.Unsealed().Store.View(t.Context(), func(tx *storage.Tx) error {
		folders, old, err := access.Folders(tx)
		n = len(old)
		for _, folder := range folders {
			names, err := tx.List("access/token/" + folder)
			if n += len(names); err != nil {
				return err
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Grow makes n tokens, each below one that parent chooses ("" for none), and returns them.
func (f *Fixture) Grow(t testing.TB, n int, parent func(made []string) string) (made []string) {
	t.Helper()
	u := f.Unsealed()
	for len(made) < n {
		before := made
		err := u.Store.Update(t.Context(), func(tx *storage.Tx) error {
			made = before
			for range min(256, n-len(made)) {
				tok := &access.Token{Policies: []string{"default"}, Type: "service", Orphan: true, Created: time.Now()}
				if above := parent(made); above != "" {
					id, err := u.TokenID(t.Context(), above)
					if err != nil {
						return err
					}
					tok.Orphan, tok.Parent = false, id
				}
				secret, err := access.Create(tx, "", tok)
				if err != nil {
					return err
				}
				made = append(made, secret)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return made
}
