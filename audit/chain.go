package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// A Head identifies the last line of an audit log by its number and hash. The zero
// value stands for a log without lines.
type Head struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"` // 64 hex digits, "" with Seq 0
}

// maxLine is the length of the longest line that is read, in bytes. The lines written
// are far shorter: see maxData.
const maxLine = 4 << 20

const (
	linePrefix  = `{"seq":`
	linePrev    = `,"prev":"`
	lineHash    = `,"hash":"`
	lineEnd     = `"}`
	hashDigits  = 2 * sha256.Size
	hashTrailer = len(lineHash) + hashDigits + len(lineEnd)
)

// noHash stands in the first line of a log for the hash of the line before.
var noHash = string(bytes.Repeat([]byte{'0'}, hashDigits))

// prev returns the hash as the next line names it.
func (h Head) prev() string {
	if h.Hash == "" {
		return noHash
	}
	return h.Hash
}

// line appends to b the line that follows h, with its newline, and returns the new
// head. The pieces of body together are the line's fields, without braces.
func (h Head) line(b []byte, body ...[]byte) ([]byte, Head) {
	start := len(b)
	b = strconv.AppendUint(append(b, linePrefix...), h.Seq+1, 10)
	b = append(append(append(b, linePrev...), h.prev()...), '"', ',')
	for _, piece := range body {
		b = append(b, piece...)
	}
	sum := sha256.Sum256(b[start:])
	next := Head{h.Seq + 1, hex.EncodeToString(sum[:])}
	b = append(append(b, lineHash...), next.Hash...)
	return append(append(b, lineEnd...), '\n'), next
}

var errNoLine = errors.New("no line of an audit log")

// parseLine reads from a line, without its newline, the line's own head and the hash
// of the line before. The error is errNoLine, or says that the hash does not match
// the text.
func parseLine(line []byte) (h Head, prev string, err error) {
	rest, ok := bytes.CutPrefix(line, []byte(linePrefix))
	digits, rest, ok2 := bytes.Cut(rest, []byte(linePrev))
	if !ok || !ok2 || len(rest) < hashDigits+2+hashTrailer {
		return h, "", errNoLine
	}
	h.Seq, err = strconv.ParseUint(string(digits), 10, 64)
	if err != nil || h.Seq == 0 || strconv.FormatUint(h.Seq, 10) != string(digits) {
		return h, "", errNoLine
	}
	prev = string(rest[:hashDigits])
	text, trailer := line[:len(line)-hashTrailer], line[len(line)-hashTrailer:]
	sum := sha256.Sum256(text)
	h.Hash = hex.EncodeToString(sum[:])
	if string(trailer) != lineHash+h.Hash+lineEnd {
		return h, prev, errors.New("was changed: its hash is not that of its text")
	}
	return h, prev, nil
}

// maxFindings is how many findings a Verifier describes; it counts the rest.
const maxFindings = 100

// A Verifier checks the lines of an audit log. Call [Verifier.Read] for each file, in
// the order in which they were written, then [Verifier.Close]. It needs little memory
// for files of any length.
type Verifier struct {
	// Known is the last line that the keep recorded as written. The log must have
	// it, unless its number is 0.
	Known Head
	// From is the number of the first line, or 0 if not known.
	From uint64

	Lines    int      // read
	First    Head     // the first whole line
	Last     Head     // the last whole line
	Findings []string // "FILE:LINE: what is wrong", at most 100
	More     int      // findings beyond those

	lost bool // the line before was unreadable, so the next one cannot be judged
}

func (v *Verifier) find(name string, line int, format string, args ...any) {
	if len(v.Findings) >= maxFindings {
		v.More++
		return
	}
	if line > 0 {
		name += ":" + strconv.Itoa(line)
	}
	v.Findings = append(v.Findings, name+": "+fmt.Sprintf(format, args...))
}

// Read checks one file. It returns an error only if the file cannot be read.
func (v *Verifier) Read(name string, r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		line, whole, err := readLine(in)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if !whole && line == nil {
			return nil
		}
		v.Lines++
		if !whole {
			v.find(name, n, "the line is not whole: the file was cut, or the keep or its disk failed while writing")
			v.lost = true
			continue
		}
		v.check(name, n, line)
	}
}

// readLine returns the next line without its newline. A last line without a newline
// is not whole. A line that is too long is returned empty; at the end line is nil.
func readLine(in *bufio.Reader) (line []byte, whole bool, err error) {
	line = []byte{}
	tooLong := false
	for {
		part, err := in.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(part) > maxLine; tooLong {
			line = line[:0]
		} else {
			line = append(line, part...)
		}
		switch {
		case err == nil:
			return bytes.TrimSuffix(line, []byte{'\n'}), true, nil
		case errors.Is(err, io.EOF) && len(line) == 0 && !tooLong:
			return nil, false, nil
		case errors.Is(err, io.EOF):
			return line, false, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, false, err
		}
	}
}

// check judges one whole line against those before it.
func (v *Verifier) check(name string, n int, line []byte) {
	h, prev, err := parseLine(line)
	if err != nil {
		v.lost = true
		if errors.Is(err, errNoLine) {
			v.find(name, n, "this is no line of the audit log")
		} else {
			v.find(name, n, "line %d of the log %v", h.Seq, err)
		}
		return
	}
	last := v.Last
	switch {
	case v.First.Seq == 0:
		v.First = h
		switch {
		case v.From == 0 || h.Seq == v.From || v.lost && h.Seq == v.From+1:
		case h.Seq > v.From:
			v.find(name, n, "lines %d to %d of the log are missing before this one", v.From, h.Seq-1)
		default:
			v.find(name, n, "the log begins with line %d, not with %d", h.Seq, v.From)
		}
		if !v.lost && h.Seq == 1 && prev != noHash {
			v.find(name, n, "line 1 of the log names a line before it")
		}
	case h.Seq > last.Seq+1 && v.lost && h.Seq == last.Seq+2: // the line between them was reported
	case h.Seq > last.Seq+1:
		v.find(name, n, "lines %d to %d of the log are missing before this one", last.Seq+1, h.Seq-1)
	case h == last:
		v.find(name, n, "line %d of the log stands here again", h.Seq)
	case h.Seq <= last.Seq:
		v.find(name, n, "line %d of the log stands after line %d: they were moved, or the log was continued from an older state", h.Seq, last.Seq)
	case prev != last.prev():
		v.find(name, n, "line %d of the log does not follow the line %d before it: one of them was replaced", h.Seq, last.Seq)
	}
	if h.Seq == v.Known.Seq && h.Hash != v.Known.Hash {
		v.find(name, n, "line %d of the log is not the one that the keep has written", h.Seq)
	}
	v.Last, v.lost = h, false
}

// Close checks what only the end of the log shows: that it reaches the known line.
func (v *Verifier) Close(name string) {
	switch {
	case v.Known.Seq > v.Last.Seq:
		v.find(name, 0, "the end is missing: the log ends with line %d, the keep has written %d", v.Last.Seq, v.Known.Seq)
	case v.Known.Seq > 0 && v.Known.Seq < v.First.Seq:
		v.find(name, 0, "the log begins with line %d, the keep has only written %d: it belongs to another keep or device", v.First.Seq, v.Known.Seq)
	}
}
