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
	all map[*conn]struct{}
}

// conn is a connection that [Serve] has accepted.
type conn struct {
	net.Conn
	busy  atomic.Bool  // a whole request is here and is being answered
	since atomic.Int64 // ns since 1970: when it began to wait for its client

	// No handler has the next request yet: what net/http writes, it says by itself.
	between atomic.Bool
	asked   bool // a part of that request has come
	told    bool // and was refused
}

// accepted is what net/http has of a connection: a *conn, or one with TLS.
type accepted interface{ plain() *conn }

func (c *conn) plain() *conn { return c }

// evictionSample is how many waiting connections are looked at to close one.
const evictionSample = 16

type connKey struct{}

func (s *Server) limitConns(web *http.Server, most int) {
	c := &conns{most: most, m: s.metrics, all: make(map[*conn]struct{})}
	web.ConnContext = c.add
	web.ConnState = c.state
}

// add counts a new connection; net/http calls it before anything else.
func (c *conns) add(ctx context.Context, nc net.Conn) context.Context {
	one := nc.(accepted).plain()
	one.wait()
	c.m.connections.Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= c.most && !c.evictLocked() {
		one.cut()
		c.m.refused.Inc()
	}
	c.all[one] = struct{}{}
	return context.WithValue(ctx, connKey{}, one)
}

func (c *conns) state(nc net.Conn, state http.ConnState) {
	one := nc.(accepted).plain()
	switch state {
	case http.StateNew, http.StateIdle:
		one.asked = false
		one.between.Store(true)
	case http.StateClosed, http.StateHijacked:
		c.m.connections.Dec()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.all, one)
	}
}

// evictLocked closes a connection that waits for its client; false: none does.
func (c *conns) evictLocked() bool {
	var oldest *conn
	var since int64
	seen := 0
	for one := range c.all { // in random order
		if one.busy.Load() {
			continue
		}
		if at := one.since.Load(); oldest == nil || at < since {
			oldest, since = one, at
		}
		if seen++; seen == evictionSample {
			break
		}
	}
	if oldest == nil {
		return false
	}
	delete(c.all, oldest)
	oldest.cut()
	c.m.refused.Inc()
	return true
}

// wait says that the connection waits for its client from now on.
func (c *conn) wait() {
	c.since.Store(time.Now().UnixNano())
	c.busy.Store(false)
}

// connOf is the connection of a request, nil when it came without one.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

// handling says that a handler has the request, whole or not.
func (c *conn) handling() {
	if c != nil {
		c.between.Store(false)
	}
}

// answering marks the connection, so that it is not closed for another, until the
// returned function is called.
func (c *conn) answering() (done func()) {
	if c == nil {
		return func() {}
	}
	c.busy.Store(true)
	return c.wait
}

// cut closes the connection without waiting for anything.
func (c *conn) cut() {
	nc := c.Conn
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
