package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// conns are the open connections of a listener. When there are too many, new
// ones do not stay outside: else whoever holds enough idle connections locks
// everybody out. Of a few taken at random, the one whose client has been silent
// longest is closed; a connection on which a request is being answered never is.
type conns struct {
	most int
	m    *metrics

	mu  sync.Mutex
	all map[net.Conn]*conn
}

// conn is what is known of a connection.
type conn struct {
	busy  atomic.Bool   // a whole request is here and is being answered
	since atomic.Int64  // ns since 1970: when it began to wait for its client
	unix  *net.UnixConn // nil for others
}

// evictionSample is how many waiting connections are looked at to close one.
const evictionSample = 16

type connKey struct{}

func (s *Server) limitConns(web *http.Server, most int) {
	c := &conns{most: most, m: s.metrics, all: make(map[net.Conn]*conn)}
	web.ConnContext = c.add
	web.ConnState = c.state
}

// add counts a new connection; net/http calls it before anything else.
func (c *conns) add(ctx context.Context, nc net.Conn) context.Context {
	one := new(conn)
	one.unix, _ = nc.(*net.UnixConn)
	one.wait()
	c.m.connections.Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= c.most && !c.evictLocked() {
		cut(nc)
		c.m.refused.Inc()
	}
	c.all[nc] = one
	return context.WithValue(ctx, connKey{}, one)
}

func (c *conns) state(nc net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	c.m.connections.Dec()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, nc)
}

// evictLocked closes a connection that waits for its client; false: none does.
func (c *conns) evictLocked() bool {
	var oldest net.Conn
	var since int64
	seen := 0
	for nc, one := range c.all { // in random order
		if one.busy.Load() {
			continue
		}
		if at := one.since.Load(); oldest == nil || at < since {
			oldest, since = nc, at
		}
		if seen++; seen == evictionSample {
			break
		}
	}
	if oldest == nil {
		return false
	}
	delete(c.all, oldest)
	cut(oldest)
	c.m.refused.Inc()
	return true
}

// wait says that the connection waits for its client from now on.
func (c *conn) wait() {
	c.since.Store(time.Now().UnixNano())
	c.busy.Store(false)
}

// answering marks the request's connection, so that it is not closed for another,
// until the returned function is called.
func answering(ctx context.Context) (done func()) {
	one, _ := ctx.Value(connKey{}).(*conn)
	if one == nil {
		return func() {}
	}
	one.busy.Store(true)
	return one.wait
}

// cut closes a connection without waiting for anything.
func cut(nc net.Conn) {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn() // else it would want to say goodbye
	}
	nc.Close()
}

// openFiles is how many files the process may have open.
func openFiles() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return maxConns
	}
	return int(min(r.Cur, 4*maxConns))
}
