package access

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// textLog collects a log.
type textLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *textLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *textLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func fileDevice(path string) Device {
	return Device{Path: "file/", Type: "file", Options: map[string]string{"file_path": path}}
}

// openAudit opens an audit log, to be closed by the caller.
func openAudit(t testing.TB, s *storage.Store, devices ...Device) (*Audit, *textLog) {
	t.Helper()
	log := new(textLog)
	a, err := OpenAudit(t.Context(), s, devices, time.Now, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return a, log
}

// write records n requests, each with its answer.
func (a *Audit) writeSome(t testing.TB, n int) {
	t.Helper()
	for i := range n {
		e := &Entry{ID: storage.NewUUID(), Operation: "read", Path: fmt.Sprint("secret/data/", i), Secret: "hvs.x", Data: []byte(`{"a":"b"}`)}
		if err := a.Request(e, ""); err != nil {
			t.Fatal(err)
		}
		if err := a.Response(e, Outcome{Data: []byte(`{"keys":["k"]}`)}); err != nil {
			t.Fatal(err)
		}
	}
}

// verify is what the verifier finds in files.
func verify(t testing.TB, known Head, files ...[]byte) Verifier {
	t.Helper()
	v := Verifier{Known: known, From: 1}
	for i, b := range files {
		if err := v.Read(fmt.Sprint("file", i), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	v.Close("end")
	return v
}

func readAll(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every single change of a log is found.
func TestVerifierFindsEveryEdit(t *testing.T) {
	s := newStore(t)
	path := filepath.Join(t.TempDir(), "audit.log")
	a, _ := openAudit(t, s, fileDevice(path))
	a.writeSome(t, 40)
	head := a.Status()[0].Head
	a.Close()
	log := readAll(t, path)
	if v := verify(t, head, log); v.Findings != nil || v.Lines != 81 || v.Last != head {
		t.Fatalf("the log itself: %+v", v)
	}
	r := rand.New(rand.NewPCG(1, 2))
	lines := slices.Collect(bytes.Lines(log))
	kinds := []struct {
		name string
		edit func() []byte
	}{
		{"bit", func() []byte {
			b := bytes.Clone(log)
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			return b
		}},
		{"deleted line", func() []byte {
			i := r.IntN(len(lines))
			return bytes.Join(slices.Concat(lines[:i], lines[i+1:]), nil)
		}},
		{"swapped lines", func() []byte {
			l := slices.Clone(lines)
			i, j := r.IntN(len(l)), r.IntN(len(l)-1)
			if j >= i {
				j++
			}
			l[i], l[j] = l[j], l[i]
			return bytes.Join(l, nil)
		}},
		{"duplicated line", func() []byte {
			i := r.IntN(len(lines))
			return bytes.Join(slices.Concat(lines[:i+1], lines[i:]), nil)
		}},
		{"deleted byte", func() []byte { i := r.IntN(len(log)); return slices.Concat(log[:i], log[i+1:]) }},
		{"inserted byte", func() []byte {
			i := r.IntN(len(log) + 1)
			return slices.Concat(log[:i], []byte{byte(r.IntN(256))}, log[i:])
		}},
		{"truncated tail", func() []byte { return log[:r.IntN(len(log))] }},
		{"lines off the end", func() []byte { return bytes.Join(lines[:r.IntN(len(lines))], nil) }},
		{"lines off the begin, renumbered", func() []byte { // a chain of its own
			var h Head
			var b []byte
			for _, line := range lines[1+r.IntN(len(lines)-1):] {
				body := line[bytes.Index(line, []byte(`"time"`)):bytes.LastIndex(line, []byte(lineHash))]
				b, h = h.line(b, body)
			}
			return b
		}},
		{"a line's text and hash", func() []byte {
			l := slices.Clone(lines)
			i := r.IntN(len(l))
			var before Head
			if i > 0 {
				before, _, _ = parseLine(bytes.TrimSuffix(l[i-1], []byte("\n")))
			}
			l[i], _ = before.line(nil, []byte(`"type":"request"`))
			return bytes.Join(l, nil)
		}},
	}
	for i := range 1000 {
		k := kinds[i%len(kinds)]
		b := k.edit()
		if v := verify(t, head, b); v.Findings == nil {
			t.Errorf("edit %d is not found: %s", i, k.name)
		}
	}
}

func TestVerifierSays(t *testing.T) {
	var h Head
	var l [][]byte
	for i := range 6 {
		var line []byte
		line, h = h.line(nil, fmt.Appendf(nil, `"n":%d`, i))
		l = append(l, line)
	}
	log := func(lines ...int) (b []byte) {
		for _, i := range lines {
			b = append(b, l[i]...)
		}
		return b
	}
	changed := bytes.Replace(log(0, 1, 2), []byte(`"n":1`), []byte(`"n":9`), 1)
	for _, c := range []struct {
		files [][]byte
		want  string
	}{
		{[][]byte{log(0, 1, 2), log(3, 4, 5)}, ""},
		{[][]byte{log(3, 4, 5)}, "file0:1: lines 1 to 3 of the log are missing before this one"},
		{[][]byte{nil, log(0, 1, 2, 3, 4, 5)}, ""},
		{[][]byte{log(3, 4, 5), log(0, 1, 2)}, "file0:1: lines 1 to 3 of the log are missing before this one; file1:1: line 1 of the log stands after line 6: they were moved, or the log was continued from an older state; end: the end is missing: the log ends with line 3, the keep has written 6"},
		{[][]byte{log(0, 1, 3, 4, 5)}, "file0:3: lines 3 to 3 of the log are missing before this one"},
		{[][]byte{log(0, 1, 1, 2, 3, 4, 5)}, "file0:3: line 2 of the log stands here again"},
		{[][]byte{changed, log(3, 4, 5)}, "file0:2: line 2 of the log was changed: its hash is not that of its text"},
		{[][]byte{log(0, 1), []byte("hello\n"), log(2, 3, 4, 5)}, "file1:1: this is no line of the audit log"},
		{[][]byte{log(0, 1, 2, 3), l[4][:20], log(4, 5)}, "file1:1: the line is not whole: the file was cut, or the keep or its disk failed while writing"},
		{[][]byte{log(0, 1, 2, 3, 4)}, "end: the end is missing: the log ends with line 5, the keep has written 6"},
		{[][]byte{nil}, "end: the end is missing: the log ends with line 0, the keep has written 6"},
		{[][]byte{bytes.Repeat([]byte{'x'}, maxLine+10), log(0, 1, 2, 3, 4, 5)}, "file0:1: the line is not whole: the file was cut, or the keep or its disk failed while writing"},
		{[][]byte{append(bytes.Repeat([]byte{'x'}, maxLine+10), '\n'), log(0, 1, 2, 3, 4, 5)}, "file0:1: this is no line of the audit log"},
	} {
		if v := verify(t, h, c.files...); strings.Join(v.Findings, "; ") != c.want {
			t.Errorf("%q, want %q", v.Findings, c.want)
		}
	}
	if v := verify(t, Head{2, noHash}, log(0, 1, 2)); len(v.Findings) != 1 || !strings.Contains(v.Findings[0], "not the one that the keep has written") {
		t.Errorf("of a line that the keep does not know: %q", v.Findings)
	}
	if v := verify(t, Head{}, bytes.Repeat([]byte("x\n"), 150)); len(v.Findings) != maxFindings || v.More != 50 {
		t.Errorf("%d findings and %d more", len(v.Findings), v.More)
	}
}

func FuzzAuditLine(f *testing.F) {
	var h Head
	line, next := h.line(nil, []byte(`"a":1`))
	more, _ := next.line(line, []byte(`"b":2`))
	f.Add(line)
	f.Add(more)
	f.Add([]byte(`{"seq":1,"prev":"` + noHash + `","hash":"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v := verify(t, Head{}, b)
		if v.Findings == nil && len(b) > 0 && (v.Lines == 0 || b[len(b)-1] != '\n' || bytes.Count(b, []byte("\n")) != v.Lines) {
			t.Errorf("%q is a log of %d lines", b, v.Lines)
		}
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, tail, err := openFile(path, 0, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		if left := readAll(t, path); len(left) > 0 && left[len(left)-1] != '\n' || !bytes.HasPrefix(b, left) || int64(len(b)-len(left)) != tail.cut {
			t.Errorf("of %q there is left %q, %d cut", b, left, tail.cut)
		}
	})
}

func FuzzAuditData(f *testing.F) {
	for _, seed := range []string{`{"a":"b","c":[1,true,null,{"d":"e"}]}`, `{"keys":["a","b"]}`, `[]`, `"x"`, `{"a":1}{`, `{"a":"\ud800"}`, strings.Repeat("[", 100), `{"a":1,}`, "{1:2}", `{"plain":["x"],"a\u0062":"\\\"}"}`, ` { "keys" : [ ] , "key_info" : {"a":{"b":[1,2]},"c":"d"}}`} {
		f.Add([]byte(seed), false, true)
		f.Add([]byte(seed), true, false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, clear, elide bool) {
		v := veil{salt: []byte("salt"), raw: clear, elide: elide}
		out := v.data(raw, []string{"plain"}, true)
		if len(bytes.TrimSpace(raw)) == 0 {
			if out != nil {
				t.Errorf("of nothing: %s", out)
			}
			return
		}
		if !json.Valid(out) || len(out) > 2*maxData+1000 || bytes.ContainsAny(out, "\n") {
			t.Errorf("of %q: %q", raw, out)
		}
		if !elide && json.Valid(raw) && !bytes.Contains(out, []byte(`{"omitted_bytes":`)) {
			var want, got any
			for text, into := range map[*[]byte]*any{&raw: &want, &out: &got} {
				d := json.NewDecoder(bytes.NewReader(*text))
				d.UseNumber() // some are in no float64
				if err := d.Decode(into); err != nil {
					t.Fatalf("%q became %q: %v", raw, out, err)
				}
			}
			want = hide(&v, want, clear)
			if !reflect.DeepEqual(want, got) {
				t.Errorf("%q became %q", raw, out)
			}
		}
	})
}

// hide is what veil.data does, the slow way.
func hide(v *veil, value any, clear bool) any {
	switch value := value.(type) {
	case string:
		if !clear {
			return string(v.append(nil, []byte(value)))
		}
	case []any:
		for i := range value {
			value[i] = hide(v, value[i], clear)
		}
	case map[string]any:
		for name := range value {
			value[name] = hide(v, value[name], v.raw || name == "plain")
		}
	}
	return value
}

// What is written is on record in the store, so that the log goes on after a crash
// and what is taken away from it is noticed.
func TestAuditGoesOn(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	open := func() (*Audit, *textLog) { t.Helper(); return openAudit(t, s, fileDevice(path)) }
	a, _ := open()
	a.writeSome(t, 3)
	a.Save(s)
	a.Close()

	// A crash: half a line, and lines that the store does not know.
	a, log := open()
	a.writeSome(t, 2)
	a.Close()
	if err := os.WriteFile(path, append(readAll(t, path), `{"seq":99,"prev`...), 0o600); err != nil {
		t.Fatal(err)
	}
	if log.String() != "" {
		t.Errorf("after a clean stop the log says %s", log)
	}
	a, log = open()
	a.writeSome(t, 1)
	head := a.Status()[0].Head
	a.Save(s)
	a.Close()
	if v := verify(t, head, readAll(t, path)); v.Findings != nil {
		t.Errorf("after a crash: %q", v.Findings)
	}
	if b := readAll(t, path); !bytes.Contains(b, []byte(`"event":"opened","cut":15}`)) || !strings.Contains(log.String(), "half a line") {
		t.Errorf("half a line is not mentioned: %s", log)
	}
	whole := readAll(t, path)
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
		a.writeSome(t, 1)
		a.Close()
		files := [][]byte{readAll(t, path)}
		if c.content == nil {
			files = [][]byte{whole, files[0]}
		}
		v := verify(t, Head{}, files...)
		if got := strings.Join(v.Findings, "; "); !strings.Contains(log.String(), c.says) || (got == "") != (c.finding == "") || !strings.Contains(got, c.finding) {
			t.Errorf("%s: the log says %s; found: %q", name, log, v.Findings)
		}
		if v.Last.Seq != head.Seq+3 {
			t.Errorf("%s: the log goes on to %d, was at %d", name, v.Last.Seq, head.Seq)
		}
	}
	// The last line that the store knows is another one, and more follow.
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

// With other options a device goes on where it was: also a socket, whose lines
// nobody here can read.
func TestAuditOptionsChange(t *testing.T) {
	s := newStore(t)
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
	devices := func(raw string) []Device {
		f := fileDevice(path)
		f.Options["log_raw"] = raw
		return []Device{f, {Path: "socket/", Type: "socket", Options: map[string]string{"address": l.Addr().String(), "log_raw": raw}}}
	}
	a, _ := openAudit(t, s, devices("false")...)
	a.writeSome(t, 2)
	if err := a.Set(t.Context(), s, devices("true")); err != nil {
		t.Fatal(err)
	}
	a.writeSome(t, 2)
	head := a.Status()
	a.Save(s)
	a.Close()
	first := <-got
	second := <-got
	l.Close()
	if v := verify(t, head[1].Head, first, second); v.Findings != nil || v.Lines != 10 {
		t.Errorf("socket: %+v", v)
	}
	b := readAll(t, path)
	if v := verify(t, head[0].Head, b); v.Findings != nil || v.Lines != 10 || bytes.Count(b, []byte(`"hvs.x"`)) != 4 {
		t.Errorf("file: %+v", v)
	}
}

func TestAuditRotates(t *testing.T) {
	s := newStore(t)
	path := filepath.Join(t.TempDir(), "audit.log")
	a, _ := openAudit(t, s, fileDevice(path))
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					a.writeSome(t, 1)
				}
			}
		})
	}
	var files [][]byte
	for i := range 5 {
		if err := os.Rename(path, fmt.Sprint(path, i)); err != nil {
			t.Fatal(err)
		}
		if err := a.Set(t.Context(), s, []Device{fileDevice(path)}); err != nil {
			t.Fatal(err)
		}
		files = append(files, readAll(t, fmt.Sprint(path, i)))
	}
	close(stop)
	writers.Wait()
	head := a.Status()[0].Head
	a.Close()
	if v := verify(t, head, append(files, readAll(t, path))...); v.Findings != nil || v.First.Seq != 1 {
		t.Errorf("%+v", v)
	}
}

// On a disk that fills up, half a line is taken away again. RLIMIT_FSIZE is a
// full disk for one process.
func TestAuditDiskFull(t *testing.T) {
	path := os.Getenv("SEALKEEP_TEST_FULL")
	if path == "" {
		path = filepath.Join(t.TempDir(), "audit.log")
		child := exec.Command(os.Args[0], "-test.run=^TestAuditDiskFull$", "-test.v")
		child.Env = append(os.Environ(), "SEALKEEP_TEST_FULL="+path)
		out, err := child.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("refused at")) {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	d := &device{conf: fileDevice(path), log: slog.New(slog.DiscardHandler)}
	var err error
	if d.opts, err = d.conf.parse(); err != nil {
		t.Fatal(err)
	}
	d.veil.salt = []byte("salt")
	a := &Audit{log: d.log, now: time.Now, wake: make(chan struct{}, 1)}
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
	if v := verify(t, d.head, readAll(t, path)); v.Findings != nil || v.Lines != n+1 {
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
	b := readAll(t, path)
	if v := verify(t, d.head, b); v.Findings != nil || !bytes.Contains(b, []byte(`"event":"opened","lost":6}`)) {
		t.Errorf("after that: %q, %s", v.Findings, b[len(b)-1000:])
	}
}

// A pipe that nobody reads has a deadline, and fails at once while nobody has it
// open.
func TestAuditPipe(t *testing.T) {
	s := newStore(t)
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	a, log := openAudit(t, s, fileDevice(path))
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

// The journal's own protocol, and what is too long for a datagram.
func TestAuditJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	sink := &journalSink{path: path, name: "main", wait: 100 * time.Millisecond}
	defer sink.close()
	for _, n := range []int{1, 100, 16 << 20} {
		line := append(bytes.Repeat([]byte{'x'}, n), '\n')
		if err := sink.write(line); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		b, oob := make([]byte, 1<<20), make([]byte, 100)
		m, k, _, _, err := server.ReadMsgUnix(b, oob)
		if err != nil {
			t.Fatal(err)
		}
		b = b[:m]
		if k > 0 {
			msgs, err := syscall.ParseSocketControlMessage(oob[:k])
			if err != nil {
				t.Fatal(err)
			}
			fds, err := syscall.ParseUnixRights(&msgs[0])
			if err != nil {
				t.Fatal(err)
			}
			f := os.NewFile(uintptr(fds[0]), "message")
			if b, err = io.ReadAll(io.NewSectionReader(f, 0, 32<<20)); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		head := "PRIORITY=6\nSYSLOG_IDENTIFIER=sealkeep-audit\nSEALKEEP_AUDIT_DEVICE=main\nMESSAGE\n"
		want := slices.Concat([]byte(head), binary.LittleEndian.AppendUint64(nil, uint64(n)), line)
		if !bytes.Equal(b, want) || (k > 0) != (n > 1<<19) {
			t.Errorf("of %d bytes came %d: %.200q", n, len(b), b)
		}
	}
	// It does not read: the deadline ends it.
	began := time.Now()
	for n := 0; sink.write([]byte("x\n")) == nil; n++ {
		if n > 10_000 {
			t.Fatal("the journal takes everything")
		}
	}
	if time.Since(began) > 5*time.Second {
		t.Errorf("it took %v", time.Since(began))
	}
	// It is gone.
	server.Close()
	if err := sink.write([]byte("x\n")); err == nil {
		t.Error("a journal that is gone takes lines")
	}
}

// While the journal is gone, another device is enough, and without one nothing
// passes. When it is back it is told what it missed.
func TestAuditJournalGone(t *testing.T) {
	s := newStore(t)
	file := filepath.Join(t.TempDir(), "audit.log")
	a, _ := openAudit(t, s, Device{Path: "journal/", Type: "journal"}, fileDevice(file))
	defer a.Close()
	j := (*a.devices.Load())[0]
	path := filepath.Join(t.TempDir(), "socket")
	j.mu.Lock()
	if j.out != nil { // this machine has one
		j.out.close()
	}
	j.out, j.opts.address, j.err, j.lost = nil, path, errClosed, 0
	j.mu.Unlock()
	a.writeSome(t, 3)
	if n := bytes.Count(readAll(t, file), []byte("\n")); n != 7 {
		t.Errorf("the file has %d lines", n)
	}
	only := []*device{j}
	both := *a.devices.Load()
	a.devices.Store(&only)
	if err := a.Request(&Entry{}, ""); !errors.Is(err, ErrAudit) {
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
	a.poke()
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

// Standard output that hangs.
func TestAuditStream(t *testing.T) {
	r, w := io.Pipe()
	s := newStream(w, 20*time.Millisecond)
	for range 3 {
		if err := s.write([]byte("x\n")); err == nil {
			t.Error("nobody reads, and it is written")
		}
	}
	go io.Copy(io.Discard, r)
	for end := time.Now().Add(10 * time.Second); s.write([]byte("x\n")) != nil; {
		if time.Now().After(end) {
			t.Fatal("it does not recover")
		}
	}
}

func TestDeviceCheck(t *testing.T) {
	for _, d := range []Device{
		{Path: "a/", Type: "file"}, {Path: "a/", Type: "file", Options: map[string]string{"file_path": "/x", "mode": "1777"}},
		{Path: "a/", Type: "file", Options: map[string]string{"file_path": "/x", "log_raw": "perhaps"}},
		{Path: "a/", Type: "file", Options: map[string]string{"file_path": "/x", "format": "jsonx"}},
		{Path: "a/", Type: "socket", Options: map[string]string{"address": "a:1", "write_timeout": "1h"}},
	} {
		if err := d.Check(); err == nil {
			t.Errorf("%+v passes", d)
		}
	}
	d := Device{Path: "a/", Type: "file", Options: map[string]string{"file_path": "/x", "mode": "0777"}}
	if o, err := d.parse(); err != nil || o.mode != 0o666 {
		t.Errorf("mode %v, %v", o.mode, err)
	}
}

// BenchmarkAudit records requests and their answers in a file.
func BenchmarkAudit(b *testing.B) {
	s := newStore(b)
	a, _ := openAudit(b, s, fileDevice(filepath.Join(b.TempDir(), "audit.log")))
	t := &Token{Accessor: "SYQ4VFUIIMNPXBJRJDGKTQLLJ7", DisplayName: "approle", Policies: []string{"default", "web"}, Type: "service", TTL: time.Hour, Created: time.Now()}
	answer := []byte(`{"data":{"user":"app","password":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},"metadata":{"created_time":"2026-01-02T03:04:05.678901234Z","custom_metadata":null,"deletion_time":"","destroyed":false,"version":1}}`)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			e := &Entry{ID: "4f9d5a5e-6b5c-4c5e-8d3f-1c2b3a4d5e6f", Operation: "read", Path: "secret/data/web/db", Token: t, Secret: "hvs.CAESIJzKhAh2xkLoV9", RemoteAddr: "192.0.2.1", RemotePort: 1234,
				Mount: EntryMount{"secret/", "kv", "kv_12345678", "secret"}, Decided: true, Allowed: true}
			if err := a.Request(e, ""); err != nil {
				b.Fatal(err)
			}
			if err := a.Response(e, Outcome{Data: answer}); err != nil {
				b.Fatal(err)
			}
		}
	})
	a.Close()
}

// Vault exempts the values whose nearest key is named, at any depth, and no others.
func TestAuditNonHMACKeysExemptTheValuesWhoseNearestKeyIsNamed(t *testing.T) {
	v := veil{salt: []byte("salt")}
	h := func(text string) string { return string(v.append(nil, []byte(text))) }
	for in, want := range map[string]string{
		`{"data":{"password":"p"},"options":{"x":"y"}}`: `{"data":{"password":"` + h("p") + `"},"options":{"x":"` + h("y") + `"}}`,
		`{"data":"d","other":"o"}`:                      `{"data":"d","other":"` + h("o") + `"}`,
		`{"other":{"data":"d","z":["o"]}}`:              `{"other":{"data":"d","z":["` + h("o") + `"]}}`,
		`{"data":["a",["b"],{"x":"c","data":["d"]}]}`:   `{"data":["a",["b"],{"x":"` + h("c") + `","data":["d"]}]}`,
		`{"d\u0061ta":"d","dat":"o"}`:                   `{"d\u0061ta":"d","dat":"` + h("o") + `"}`,
		`["a"]`:                                         `["` + h("a") + `"]`,
	} {
		if got := string(v.data([]byte(in), []string{"data"}, false)); got != want {
			t.Errorf("%s becomes\n%s, want\n%s", in, got, want)
		}
	}
}
