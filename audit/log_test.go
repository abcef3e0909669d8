package audit

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage/storagetest"
)

// The store knows what was written, so that the log goes on after a crash and lines
// that were taken away are noticed.
func TestGoesOn(t *testing.T) {
	s := storagetest.New(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	open := func() (*Log, *textLog) { t.Helper(); return OpenLog(t, s, FileDevice(path)) }
	a, _ := open()
	a.WriteSome(t, 3)
	a.Save(s)
	a.Close()

	// A crash: half a line, and lines that the store does not know.
	a, log := open()
	a.WriteSome(t, 2)
	a.Close()
	if err := os.WriteFile(path, append(ReadAll(t, path), `{"seq":99,"prev`...), 0o600); err != nil {
		t.Fatal(err)
	}
	if log.String() != "" {
		t.Errorf("after a clean stop the log says %s", log)
	}
	a, log = open()
	a.WriteSome(t, 1)
	head := a.Status()[0].Head
	a.Save(s)
	a.Close()
	if v := Verify(t, head, ReadAll(t, path)); v.Findings != nil {
		t.Errorf("after a crash: %q", v.Findings)
	}
	if b := ReadAll(t, path); !bytes.Contains(b, []byte(`"event":"opened","cut":15}`)) || !strings.Contains(log.String(), "half a line") {
		t.Errorf("half a line is not mentioned: %s", log)
	}
	whole := ReadAll(t, path)
	lines := slices.Collect(bytes.Lines(whole))

	var other Head
	forged, _ := other.line(nil, []byte(`"type":"request"`))
	for name, c := range map[string]struct {
		content []byte
		says    string
		finding string
	}{
		"rotated":     {nil, "goes on in an empty file", ""},
		"shorter":     {bytes.Join(lines[:len(lines)-2], nil), "lines are missing", "are missing before"},
		"another one": {forged, "lines are missing", "are missing before"},
		"of Vault":    {[]byte(`{"type":"request"}` + "\n"), "does not end in a line of the audit log", "no line of the audit log"},
	} {
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		a, log := open()
		a.WriteSome(t, 1)
		a.Close()
		files := [][]byte{ReadAll(t, path)}
		if c.content == nil {
			files = [][]byte{whole, files[0]}
		}
		v := Verify(t, Head{}, files...)
		if got := strings.Join(v.Findings, "; "); !strings.Contains(log.String(), c.says) || (got == "") != (c.finding == "") || !strings.Contains(got, c.finding) {
			t.Errorf("%s: the log says %s; found: %q", name, log, v.Findings)
		}
		if v.Last.Seq != head.Seq+3 {
			t.Errorf("%s: the log goes on to %d, was at %d", name, v.Last.Seq, head.Seq)
		}
	}
	// The last line that the store knows was replaced, and more lines follow.
	b := bytes.Join(lines[:len(lines)-1], nil)
	before, _, _ := parseLine(bytes.TrimSuffix(lines[len(lines)-2], []byte("\n")))
	b, before = before.line(b, []byte(`"x":1`))
	b, _ = before.line(b, []byte(`"x":2`))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	a, log = open()
	a.Close()
	if !strings.Contains(log.String(), "is not the one that was written") {
		t.Errorf("a replaced end is not noticed: %s", log)
	}
}

// On a disk that fills up, half a line is cut off again. RLIMIT_FSIZE makes the disk
// look full to one process.
func TestDiskFull(t *testing.T) {
	path := os.Getenv("SEALKEEP_TEST_FULL")
	if path == "" {
		path = filepath.Join(t.TempDir(), "audit.log")
		child := exec.Command(os.Args[0], "-test.run=^TestDiskFull$", "-test.v")
		child.Env = append(os.Environ(), "SEALKEEP_TEST_FULL="+path)
		out, err := child.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("refused at")) {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	d := &device{conf: FileDevice(path), log: slog.New(slog.DiscardHandler)}
	var err error
	if d.opts, err = d.conf.parse(); err != nil {
		t.Fatal(err)
	}
	d.veil.salt = []byte("salt")
	a := &Log{log: d.log, now: time.Now, wake: make(chan struct{}, 1)}
	a.devices.Store(&[]*device{d})
	if err := d.reopen(a); err != nil {
		t.Fatal(err)
	}
	limit := func(n uint64) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: 1 << 40}); err != nil {
			t.Fatal(err)
		}
	}
	limit(10_000)
	e := &Entry{ID: "x", Path: "a/b"}
	n := 0
	for ; n < 1000 && a.Request(e, "") == nil; n++ {
	}
	if d.err == nil || n == 1000 {
		t.Fatalf("%d records fit", n)
	}
	t.Logf("refused at %d: %v", n, d.err)
	if v := Verify(t, d.head, ReadAll(t, path)); v.Findings != nil || v.Lines != n+1 {
		t.Errorf("on a full disk: %+v after %d records", v, n)
	}
	for range 5 {
		if a.Request(e, "") == nil {
			t.Error("a record was written")
		}
	}
	limit(1 << 30)
	d.next = time.Now()
	a.retry()
	if err := a.Request(e, ""); err != nil {
		t.Error(err)
	}
	b := ReadAll(t, path)
	if v := Verify(t, d.head, b); v.Findings != nil || !bytes.Contains(b, []byte(`"event":"opened","lost":6}`)) {
		t.Errorf("after that: %q, %s", v.Findings, b[len(b)-1000:])
	}
}

// A pipe that nobody reads has a deadline; one that nobody has open fails at once.
func TestPipe(t *testing.T) {
	s := storagetest.New(t)
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	a, log := OpenLog(t, s, FileDevice(path))
	if err := a.Request(&Entry{}, ""); err == nil || time.Since(began) > time.Second {
		t.Errorf("without a reader: %v after %v", err, time.Since(began))
	}
	r, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	d := (*a.devices.Load())[0]
	d.opts.wait = 50 * time.Millisecond
	d.next = time.Now()
	a.retry()
	for n := 0; a.Request(&Entry{Path: strings.Repeat("x", 1000)}, "") == nil; n++ {
		if n > 1000 {
			t.Fatal("the pipe takes everything")
		}
	}
	if !strings.Contains(log.String(), "timeout") {
		t.Errorf("the log says %s", log)
	}
	a.Close()
}

// While the journal is gone, another device is enough; without one, requests are
// refused. When the journal is back, its first line says how many records it missed.
func TestJournalGone(t *testing.T) {
	s := storagetest.New(t)
	file := filepath.Join(t.TempDir(), "audit.log")
	a, _ := OpenLog(t, s, Device{Path: "journal/", Type: "journal"}, FileDevice(file))
	defer a.Close()
	j := (*a.devices.Load())[0]
	path := filepath.Join(t.TempDir(), "socket")
	j.mu.Lock()
	if j.out != nil { // this machine has one
		j.out.close()
	}
	j.out, j.opts.address, j.err, j.lost = nil, path, errClosed, 0
	j.mu.Unlock()
	a.WriteSome(t, 3)
	if n := bytes.Count(ReadAll(t, file), []byte("\n")); n != 7 {
		t.Errorf("the file has %d lines", n)
	}
	only := []*device{j}
	both := *a.devices.Load()
	a.devices.Store(&only)
	if err := a.Request(&Entry{}, ""); !errors.Is(err, ErrFailed) {
		t.Errorf("without any device: %v", err)
	}
	a.devices.Store(&both)

	server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { a.Run(ctx, s) })
	a.notify()
	b := make([]byte, 10_000)
	server.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := server.Read(b)
	if err != nil || !bytes.Contains(b[:n], []byte(`"event":"opened","lost":7}`)) {
		t.Errorf("%v: %s", err, b[:n])
	}
	cancel()
	run.Wait()
	if st := a.Status(); st[0].Failing != nil || st[0].Lost != 7 {
		t.Errorf("%+v", st[0])
	}
}
