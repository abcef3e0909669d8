package sys

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealkeep/sealkeep/api"
)

// A Tail is a log handler that passes every record on to another one, and to those
// who follow the log with sys/monitor. Without any it costs a look at that.
//
// What follows has a level of its own. It takes lines from a buffer, and nobody who
// logs waits for it: what the buffer has no room for is lost, and counted.
type Tail struct {
	next slog.Handler
	with []func(slog.Handler) slog.Handler // what next has in front of each record
	*followers
}

const (
	tailFollowers = 4         // at once
	tailBuffer    = 256 << 10 // bytes of lines that one has not taken yet
)

// NewTail returns a handler that passes records on to next.
func NewTail(next slog.Handler) *Tail {
	t := &Tail{next: next, followers: new(followers)}
	t.all.Store(new([]*follower))
	return t
}

// Enabled reports whether anybody wants records of the level.
func (t *Tail) Enabled(ctx context.Context, level slog.Level) bool {
	return t.next.Enabled(ctx, level) || slices.ContainsFunc(*t.all.Load(), func(f *follower) bool { return level >= f.level })
}

// Handle passes the record on. The error is that of the handler behind it.
func (t *Tail) Handle(ctx context.Context, r slog.Record) error {
	for _, f := range *t.all.Load() {
		if r.Level < f.level {
			continue
		}
		to := f.lines
		for _, with := range t.with {
			to = with(to)
		}
		to.Handle(ctx, r) // into memory
	}
	if !t.next.Enabled(ctx, r.Level) {
		return nil
	}
	return t.next.Handle(ctx, r)
}

// WithAttrs returns a handler with attributes that every record has.
func (t *Tail) WithAttrs(attrs []slog.Attr) slog.Handler {
	return t.having(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup returns a handler that puts the attributes of every record in a group.
func (t *Tail) WithGroup(name string) slog.Handler {
	return t.having(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (t *Tail) having(with func(slog.Handler) slog.Handler) slog.Handler {
	return &Tail{next: with(t.next), with: append(slices.Clip(t.with), with), followers: t.followers}
}

// followers are those who follow a log.
type followers struct {
	all      atomic.Pointer[[]*follower] // never changed, but replaced
	changing sync.Mutex                  // held while it is
}

var errFollowers = api.Busy.Errorf("%d clients follow the log already: try again when one of them has gone", tailFollowers)

// follow begins to gather lines until leave is called.
func (t *followers) follow(level slog.Level, asJSON bool) (*follower, error) {
	f := &follower{level: level, ready: make(chan struct{}, 1)}
	if f.lines = slog.NewTextHandler(f, nil); asJSON {
		f.lines = slog.NewJSONHandler(f, nil)
	}
	t.changing.Lock()
	defer t.changing.Unlock()
	all := slices.Clone(*t.all.Load())
	if len(all) == tailFollowers {
		return nil, errFollowers
	}
	all = append(all, f)
	t.all.Store(&all)
	return f, nil
}

func (t *followers) leave(f *follower) {
	t.changing.Lock()
	defer t.changing.Unlock()
	all := slices.DeleteFunc(slices.Clone(*t.all.Load()), func(o *follower) bool { return o == f })
	t.all.Store(&all)
}

// A follower is one who follows a log.
type follower struct {
	level slog.Level
	lines slog.Handler  // writes to it
	ready chan struct{} // has a value when there is something to take

	mu     sync.Mutex
	buffer []byte
	lost   int // lines since the last of the buffer
}

// Write takes a line, or counts it among those that are lost.
func (f *follower) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost > 0 || len(f.buffer)+len(line) > tailBuffer {
		f.lost++
		return len(line), nil
	}
	f.buffer = append(f.buffer, line...)
	select {
	case f.ready <- struct{}{}:
	default:
	}
	return len(line), nil
}

// take returns the lines that there are, and says after them how many were lost.
func (f *follower) take() []byte {
	f.mu.Lock()
	lines, lost := f.buffer, f.lost
	f.buffer, f.lost = nil, 0
	f.mu.Unlock()
	if lost > 0 {
		f.say(slog.LevelWarn, "lines of the log are missing here: they were not taken in time", slog.Int("lines", lost))
	}
	return lines
}

// say tells the one who follows, and nobody else.
func (f *follower) say(level slog.Level, text string, attrs ...slog.Attr) {
	r := slog.NewRecord(time.Now(), level, text, 0)
	r.AddAttrs(attrs...)
	f.lines.Handle(context.Background(), r)
}
