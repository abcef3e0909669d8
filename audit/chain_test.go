package audit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage/storagetest"
)

// Every change of a log is found, whatever is edited.
func TestVerifierFindsEveryEdit(t *testing.T) {
	s := storagetest.New(t)
	path := filepath.Join(t.TempDir(), "audit.log")
	a, _ := OpenLog(t, s, FileDevice(path))
	a.WriteSome(t, 40)
	head := a.Status()[0].Head
	a.Close()
	log := ReadAll(t, path)
	if v := Verify(t, head, log); v.Findings != nil || v.Lines != 81 || v.Last != head {
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
		if v := Verify(t, head, b); v.Findings == nil {
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
		if v := Verify(t, h, c.files...); strings.Join(v.Findings, "; ") != c.want {
			t.Errorf("%q, want %q", v.Findings, c.want)
		}
	}
	if v := Verify(t, Head{2, noHash}, log(0, 1, 2)); len(v.Findings) != 1 || !strings.Contains(v.Findings[0], "not the one that the keep has written") {
		t.Errorf("of a line that the keep does not know: %q", v.Findings)
	}
	if v := Verify(t, Head{}, bytes.Repeat([]byte("x\n"), 150)); len(v.Findings) != maxFindings || v.More != 50 {
		t.Errorf("%d findings and %d more", len(v.Findings), v.More)
	}
}

func FuzzLine(f *testing.F) {
	var h Head
	line, next := h.line(nil, []byte(`"a":1`))
	more, _ := next.line(line, []byte(`"b":2`))
	f.Add(line)
	f.Add(more)
	f.Add([]byte(`{"seq":1,"prev":"` + noHash + `","hash":"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v := Verify(t, Head{}, b)
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
		if left := ReadAll(t, path); len(left) > 0 && left[len(left)-1] != '\n' || !bytes.HasPrefix(b, left) || int64(len(b)-len(left)) != tail.cut {
			t.Errorf("of %q there is left %q, %d cut", b, left, tail.cut)
		}
	})
}
