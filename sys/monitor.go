package sys

import (
	"cmp"
	"io"
	"log/slog"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
)

// monitorRoutes show the log as it is written, below sys/.
func (s *System) monitorRoutes() []api.Route {
	return []api.Route{
		{Path: "monitor", Help: "The server's log from now on, as a stream.", Sudo: []api.Op{api.Read}, Ops: map[api.Op]api.Handler{api.Read: api.Do(s.readMonitor)}},
	}
}

// monitorLevels are Vault's names of what slog has numbers for.
var monitorLevels = map[string]slog.Level{"trace": slog.LevelDebug - 4, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

type monitorInput struct {
	Level  string `json:"log_level"`
	Format string `json:"log_format"`
}

// readMonitor follows the log until the client has gone, or the keep is sealed, or
// the server stops.
func (s *System) readMonitor(r *api.Request, in *monitorInput) (api.Answer, error) {
	level, ok := monitorLevels[cmp.Or(in.Level, "info")]
	if !ok {
		return api.Answer{}, invalid("unknown log_level %q: it is trace, debug, info, warn or error", in.Level)
	}
	kind := map[string]string{"standard": "text/plain; charset=utf-8", "json": "application/x-ndjson"}[cmp.Or(in.Format, "standard")]
	if kind == "" {
		return api.Answer{}, invalid("unknown log_format %q: it is standard or json", in.Format)
	}
	f, err := s.tail.follow(level, in.Format == "json")
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Raw: &api.Raw{Type: kind, Live: true, Stream: &monitor{
		follower: f, tail: s.tail, gone: r.Done(), sealed: keep.Of(r).Done(), stopping: r.Frame.Stopping(),
	}}}, nil
}

// A monitor is a stream of the log's lines.
type monitor struct {
	*follower
	tail                   *Tail
	gone, sealed, stopping <-chan struct{}

	rest []byte // of what was taken
	over bool   // there will be no more
}

// Read waits for lines.
func (m *monitor) Read(p []byte) (int, error) {
	for len(m.rest) == 0 {
		if m.rest = m.take(); len(m.rest) > 0 {
			break
		}
		if m.over {
			return 0, io.EOF
		}
		select {
		case <-m.ready:
		case <-m.gone:
			return 0, io.EOF
		case <-m.stopping:
			m.end("the server stops")
		case <-m.sealed:
			m.end("the keep was sealed")
		}
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// end has the stream say why it ends.
func (m *monitor) end(why string) {
	m.over = true
	m.say(slog.LevelWarn, "the log is not followed any more: "+why)
}

// Close makes room for somebody else.
func (m *monitor) Close() error {
	m.tail.leave(m.follower)
	return nil
}
