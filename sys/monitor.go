package sys

import (
	"cmp"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/sealkeep/sealkeep/access"
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

// monitorCheck is how often a monitor asks whether its token may still follow the log.
const monitorCheck = time.Second

// readMonitor follows the log until the client has gone, its token ends or loses
// sudo, the keep is sealed, or the server stops.
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
		follower: f, tail: s.tail, request: r, check: time.NewTicker(monitorCheck),
	}}}, nil
}

// A monitor is a stream of the log's lines.
type monitor struct {
	*follower
	tail    *Tail
	request *api.Request
	check   *time.Ticker

	rest []byte // of what was taken
	over bool   // nothing follows it
}

// Read waits for lines.
func (m *monitor) Read(p []byte) (int, error) {
	for len(m.rest) == 0 {
		if m.over {
			return 0, io.EOF
		}
		select {
		case <-m.ready:
			m.rest = m.take()
		case <-m.request.Done():
			return 0, io.EOF
		case <-m.request.Frame.Stopping():
			m.end("the server stops")
		case <-keep.Of(m.request).Done():
			m.end("the keep was sealed")
		case <-m.check.C:
			if errors.Is(m.allowed(), access.ErrDenied) {
				m.end("the token has ended, or may not follow it any more")
			}
		}
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// allowed is [access.ErrDenied] when a new request would be refused.
func (m *monitor) allowed() error {
	r, u := m.request, keep.Of(m.request)
	t, err := u.Lookup(r, r.Caller.Bearer)
	if err != nil {
		return err
	}
	acl, err := u.ACL(r, t)
	if err == nil && !acl.Find(r.Path).Has(access.CanRead|access.CanSudo) {
		err = access.ErrDenied
	}
	return err
}

// end has the stream say why it ends, after what there is.
func (m *monitor) end(why string) {
	m.over = true
	m.tail.leave(m.follower)
	m.rest = m.take()
	m.say(slog.LevelWarn, "the log is not followed any more: "+why)
	m.rest = append(m.rest, m.take()...)
}

// Close makes room for somebody else.
func (m *monitor) Close() error {
	m.check.Stop()
	m.tail.leave(m.follower)
	return nil
}
