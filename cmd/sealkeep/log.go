package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"

	"github.com/sealkeep/sealkeep/sys"
)

// levels maps the log levels of the configuration.
var levels = map[string]slog.Level{"trace": -8, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

// newLog returns the handler of the daemon's log, which `sealkeep monitor` can follow. In the journal, lines carry their
// priority in the form that it reads, and no time of their own.
func newLog(w io.Writer, level slog.Leveler, format string, inJournal bool) *sys.Tail {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return sys.NewTail(slog.NewJSONHandler(w, o))
	}
	if inJournal {
		w = journal{w}
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	return sys.NewTail(slog.NewTextHandler(w, o))
}

// inJournal reports whether standard error goes to systemd's journal: JOURNAL_STREAM then names its file.
func (c *cli) inJournal() bool {
	f, ok := c.stderr.(*os.File)
	stream, set := c.lookup("JOURNAL_STREAM")
	if !ok || !set {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// journal puts the priority in front of each line. A slog handler writes each line with one call and, without a time, the
// line begins with the level.
type journal struct{ w io.Writer }

func (j journal) Write(line []byte) (int, error) {
	priority := "<6>"
	switch {
	case bytes.HasPrefix(line, []byte("level=ERROR")):
		priority = "<3>"
	case bytes.HasPrefix(line, []byte("level=WARN")):
		priority = "<4>"
	case bytes.HasPrefix(line, []byte("level=DEBUG")):
		priority = "<7>"
	}
	if _, err := j.w.Write(append([]byte(priority), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
