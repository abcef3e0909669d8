package sys

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// Who is slow misses lines, and is told how many; nobody waits for it.
func TestTailLosesLines(t *testing.T) {
	var own bytes.Buffer
	tail := NewTail(slog.NewTextHandler(&own, nil))
	f, err := tail.follow(slog.LevelInfo, false)
	if err != nil {
		t.Fatal(err)
	}
	log, long := slog.New(tail), strings.Repeat("x", 1<<10)
	const all = 2 * tailBuffer >> 10
	for range all {
		log.Info(long)
	}
	log.Info("short enough") // but not in its turn
	first := f.take()
	came := bytes.Count(first, []byte("\n"))
	if len(first) > tailBuffer || came == 0 || came >= all {
		t.Errorf("%d lines, %d bytes", came, len(first))
	}
	log.Info("next")
	want := fmt.Sprintf(`level=WARN msg="lines of the log are missing here: they were not taken in time" lines=%d`, all+1-came)
	if rest := string(f.take()); !strings.Contains(rest, want) || !strings.Contains(rest, "msg=next") {
		t.Errorf("then %q, want %q", rest, want)
	}
	tail.leave(f)
	log.Info("alone")
	if rest := f.take(); rest != nil || strings.Count(own.String(), "\n") != all+3 {
		t.Errorf("after it left: %q", rest)
	}
}

func TestRecordingFull(t *testing.T) {
	r := &recording{full: make(chan struct{})}
	piece := bytes.Repeat([]byte("x"), maxTrace/4+1)
	for range 5 {
		if n, err := r.Write(piece); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	<-r.full
	if !r.over || r.Len() != 3*len(piece) {
		t.Errorf("over %v, %d bytes", r.over, r.Len())
	}
}
