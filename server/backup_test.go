package server

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// onlyStore wants no file beside the store.
func (f *fixture) onlyStore(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(f.path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(f.path) {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

func TestBackup(t *testing.T) {
	seal := newSeal("a", 1)
	f := fresh(t, seal)
	f.must(t, 200, "POST", "secret/data/x", `{"data":{"k":"in the backup"}}`)
	r := f.must(t, 200, "GET", "sys/storage/backup", "")
	sum := sha256.Sum256([]byte(r.text))
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	if got := r.header.Get(headerCRC); got != fmt.Sprintf("%08x", crc32.Checksum([]byte(r.text), castagnoli)) {
		t.Errorf("the checksum is %s", got)
	}
	if got := r.header.Get("Content-Length"); got != fmt.Sprint(len(r.text)) {
		t.Errorf("%d bytes, announced %s", len(r.text), got)
	}
	if got := r.header.Get(headerStore); got != f.Status().StoreID {
		t.Errorf("of store %s", got)
	}
	f.onlyStore(t)
	f.must(t, 200, "POST", "secret/data/x", `{"data":{"k":"after it"}}`)

	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, []byte(r.text), 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := storage.Inspect(path); err != nil || info.SHA256 != sum || len(info.Slots) < 2 {
		t.Errorf("%+v %v", info, err)
	}
	copied := start(t, path, seal.again())
	copied.root = f.root
	until(t, func() bool { return !copied.Status().Sealed })
	if got := copied.must(t, 200, "GET", "secret/data/x", "").get("data", "data", "k"); got != "in the backup" {
		t.Errorf("the backup has %v", got)
	}

	if r := f.call(t, "GET", "sys/storage/backup", "", "X-Vault-Token: "); r.status != 403 && r.status != 400 {
		t.Errorf("without a token: %d", r.status)
	}
	f.must(t, 405, "POST", "sys/storage/backup", "{}")
	f.Seal()
	f.must(t, 503, "GET", "sys/storage/backup", "")
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within 20 s")
		}
	}
}

// A client that reads nothing has the one backup; another is refused. When it
// goes away nothing is left, and the next one is made.
func TestBackupSlowClient(t *testing.T) {
	f := fresh(t, newSeal("a", 1))
	big := strings.Repeat("x", 700<<10)
	for i := range 24 { // more than the sockets hold
		f.must(t, 200, "POST", fmt.Sprintf("secret/data/%d", i), `{"data":{"k":"`+big+`"}}`)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := f.HTTPServer(Listener{})
	go Serve(web, l, nil)
	t.Cleanup(func() { web.Close() })
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprintf(conn, "GET /v1/sys/storage/backup HTTP/1.1\r\nHost: keep\r\nX-Vault-Token: %s\r\n\r\n", f.root)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%+v, %v", resp, err)
	}
	f.onlyStore(t) // no name already
	r := f.must(t, http.StatusTooManyRequests, "GET", "sys/storage/backup", "")
	if r.header.Get("Retry-After") == "" || !strings.Contains(r.errors(), "another backup") {
		t.Errorf("%v %s", r.header, r.errors())
	}
	conn.Close()
	until(t, func() bool { return f.call(t, "GET", "sys/storage/backup", "").status == http.StatusOK })
	if !strings.Contains(f.log.String(), "an answer was not taken to its end") {
		t.Error("the log does not say so")
	}
	f.onlyStore(t)
	// And one that takes all of it.
	conn, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/sys/storage/backup HTTP/1.1\r\nHost: keep\r\nX-Vault-Token: %s\r\n\r\n", f.root)
	if resp, err = http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
		t.Fatal(err)
	}
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	if n, err := io.Copy(h, resp.Body); err != nil || n != resp.ContentLength || fmt.Sprintf("%08x", h.Sum32()) != resp.Header.Get(headerCRC) {
		t.Errorf("%d of %d bytes, %v", n, resp.ContentLength, err)
	}
}

// What a killed process has left goes at the next start, and nothing else does.
func TestBackupLeftovers(t *testing.T) {
	seal := newSeal("a", 1)
	f := fresh(t, seal)
	f.stop(t)
	dir := filepath.Dir(f.path)
	gone := []string{".keep.db.backup-1", ".keep.db.backup-1.part", ".keep.db.restore-2"}
	stay := []string{"keep.db.backup-1", ".other.db.backup-1", "keep.db.before-restore-1"}
	for _, name := range append(gone, stay...) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := start(t, f.path, seal.again())
	for _, name := range gone {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	for _, name := range stay {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	again.stop(t)
}
