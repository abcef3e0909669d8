package sys_test

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

	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
	"github.com/sealkeep/sealkeep/sys"
)

// onlyStore wants no file beside the store.
func (f *fixture) onlyStore(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(f.Path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(f.Path) {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

func TestBackup(t *testing.T) {
	seal := servertest.NewSeal("a", 1)
	f := fresh(t, seal)
	f.Must(t, 200, "POST", "secret/data/x", `{"data":{"k":"in the backup"}}`)
	r := f.Must(t, 200, "GET", "sys/storage/backup", "")
	sum := sha256.Sum256([]byte(r.Text))
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	if got := r.Header.Get(sys.HeaderCRC); got != fmt.Sprintf("%08x", crc32.Checksum([]byte(r.Text), castagnoli)) {
		t.Errorf("the checksum is %s", got)
	}
	if got := r.Header.Get("Content-Length"); got != fmt.Sprint(len(r.Text)) {
		t.Errorf("%d bytes, announced %s", len(r.Text), got)
	}
	if got := r.Header.Get(sys.HeaderStore); got != f.Status().StoreID {
		t.Errorf("of store %s", got)
	}
	f.onlyStore(t)
	f.Must(t, 200, "POST", "secret/data/x", `{"data":{"k":"after it"}}`)

	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, []byte(r.Text), 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := storage.Inspect(path); err != nil || info.SHA256 != sum || len(info.Slots) < 2 {
		t.Errorf("%+v %v", info, err)
	}
	copied := start(t, path, seal.Again())
	copied.Root = f.Root
	servertest.Until(t, func() bool { return !copied.Status().Sealed })
	if got := copied.Must(t, 200, "GET", "secret/data/x", "").Get("data", "data", "k"); got != "in the backup" {
		t.Errorf("the backup has %v", got)
	}

	if r := f.Call(t, "GET", "sys/storage/backup", "", "X-Vault-Token: "); r.Status != 403 && r.Status != 400 {
		t.Errorf("without a token: %d", r.Status)
	}
	f.Must(t, 405, "POST", "sys/storage/backup", "{}")
	f.Seal()
	f.Must(t, 503, "GET", "sys/storage/backup", "")
}

// A client that reads nothing has the one backup; another is refused. When it
// goes away nothing is left, and the next one is made.
func TestBackupSlowClient(t *testing.T) {
	f := fresh(t, servertest.NewSeal("a", 1))
	big := strings.Repeat("x", 700<<10)
	for i := range 24 { // more than the sockets hold
		f.Must(t, 200, "POST", fmt.Sprintf("secret/data/%d", i), `{"data":{"k":"`+big+`"}}`)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := f.HTTPServer(server.Listener{})
	go server.Serve(web, l, nil)
	t.Cleanup(func() { web.Close() })
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprintf(conn, "GET /v1/sys/storage/backup HTTP/1.1\r\nHost: keep\r\nX-Vault-Token: %s\r\n\r\n", f.Root)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%+v, %v", resp, err)
	}
	f.onlyStore(t) // no name already
	r := f.Must(t, http.StatusTooManyRequests, "GET", "sys/storage/backup", "")
	if r.Header.Get("Retry-After") == "" || !strings.Contains(r.Errors(), "another backup") {
		t.Errorf("%v %s", r.Header, r.Errors())
	}
	conn.Close()
	servertest.Until(t, func() bool { return f.Call(t, "GET", "sys/storage/backup", "").Status == http.StatusOK })
	if !strings.Contains(f.Log.String(), "an answer was not taken to its end") {
		t.Error("the log does not say so")
	}
	f.onlyStore(t)
	// And one that takes all of it.
	conn, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/sys/storage/backup HTTP/1.1\r\nHost: keep\r\nX-Vault-Token: %s\r\n\r\n", f.Root)
	if resp, err = http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
		t.Fatal(err)
	}
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	if n, err := io.Copy(h, resp.Body); err != nil || n != resp.ContentLength || fmt.Sprintf("%08x", h.Sum32()) != resp.Header.Get(sys.HeaderCRC) {
		t.Errorf("%d of %d bytes, %v", n, resp.ContentLength, err)
	}
}

// What a killed process has left goes at the next start, and nothing else does.
func TestBackupLeftovers(t *testing.T) {
	seal := servertest.NewSeal("a", 1)
	f := fresh(t, seal)
	f.Stop(t)
	dir := filepath.Dir(f.Path)
	gone := []string{".keep.db.backup-1", ".keep.db.backup-1.part", ".keep.db.restore-2"}
	stay := []string{"keep.db.backup-1", ".other.db.backup-1", "keep.db.before-restore-1"}
	for _, name := range append(gone, stay...) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := start(t, f.Path, seal.Again())
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
	again.Stop(t)
}
