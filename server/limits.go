package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/storage"
)

// What one client, and all of them together, may take of the process:
//
//	maxConns         open connections of one listener; one more takes the place of
//	                 one that waits for its client (conns.go)
//	maxHeader        bytes of a request's first line and headers; net/http adds
//	                 4 KiB. The longest path, all of it escaped, has 12 KiB.
//	                 Parsed, headers take up to fifteen times their bytes
//	headerTimeout    to send those, or to shake hands
//	requestTimeout   to send the whole request
//	exchangeTimeout  to have it answered and take the answer
//	idleTimeout      between two requests of a connection
//	bodySmall        bytes of a body that waits for nobody; the most that system
//	                 routes take, but for policies; some are open to all
//	bodyKV           bytes of a write to an engine, which may be indented: what is
//	                 stored of it has at most storage.MaxValue
//	bodyPolicy       bytes of a policy with what JSON adds to its quotes and lines
//	largeBodies      bodies above bodySmall in memory at once (places.go); raw,
//	                 decoded and compacted, one takes up to three times its bytes
//	largeWait        how long one more waits for its turn
//	uploads          bodies that are stored as they arrive (upload.go), at once, beyond
//	                 the first bodySmall bytes of each
const (
	maxConns        = 16_384
	maxHeader       = 16 << 10
	headerTimeout   = 10 * time.Second
	requestTimeout  = 30 * time.Second
	exchangeTimeout = 2 * time.Minute
	idleTimeout     = 5 * time.Minute

	bodySmall   = 64 << 10
	bodyKV      = 2 * storage.MaxValue
	bodyPolicy  = 2 * access.MaxPolicy
	largeBodies = 16
	largeWait   = 30 * time.Second
	uploads     = 4

	timeoutShort = 30 * time.Second // of routes
	timeoutLong  = 90 * time.Second
)

// HTTPServer returns a server of the API for one listener, which only [Serve] may
// serve on, with limits that suit a keep: 16,384 connections, or three quarters of
// the files that the process may have open, above which those that wait for their
// clients give way to new ones; 10 s for headers of at most 16 KiB, 30 s for the
// whole request, 2 minutes for the exchange; 5 minutes for an idle connection. It
// speaks HTTP/1 only: one connection then is one request at a time.
func (s *Server) HTTPServer(l Listener) *http.Server {
	web := &http.Server{
		Handler:                      s.Handler(l),
		Protocols:                    new(http.Protocols),
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            headerTimeout,
		ReadTimeout:                  requestTimeout,
		WriteTimeout:                 exchangeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeader,
	}
	web.Protocols.SetHTTP1(true)
	web.RegisterOnShutdown(s.drain)
	s.limitConns(web, min(maxConns, openFiles()/4*3))
	return web
}

// readBody reads a request's body, whatever its Content-Type says, if its operation
// has one; the time of its route begins. A large one waits for its turn.
func (s *Server) readBody(r *request) (err error) {
	if !r.Op.HasBody() {
		return nil
	}
	r.withTimeout(r.route.Timeout)
	limit := r.route.Body
	length := r.http.ContentLength // -1: not known
	if length > limit {
		return errTooLarge(limit)
	}
	if r.route.on[r.Op].Uploads() {
		s.beginUpload(r)
		return nil
	}
	in := http.MaxBytesReader(r.w, r.http.Body, limit)
	var b bytes.Buffer
	if length > 0 {
		b.Grow(int(min(length, bodySmall)) + bytes.MinRead)
	}
	_, err = io.CopyN(&b, in, bodySmall)
	if err == nil && length != bodySmall { // there may be more
		var mine *place
		if mine, err = placeFor(r, s.large); err != nil {
			r.w.Header().Set("Retry-After", "1")
			return err
		}
		r.end = append(r.end, func() { s.large.leave(mine) })
		// The wait does not count. net/http lifts the deadline at the body's end.
		control := http.NewResponseController(r.w)
		control.SetReadDeadline(time.Now().Add(requestTimeout))
		b.Grow(int(max(length, 2*bodySmall)) - bodySmall + bytes.MinRead)
		counted := &byteCounter{in: in}
		counted.n.Store(bodySmall)
		s.large.arriving(mine, &counted.n, func() { control.SetReadDeadline(time.Unix(1, 0)) })
		_, err = b.ReadFrom(counted)
		if s.large.arrived(mine) {
			r.w.Header().Set("Retry-After", "1")
			return errGaveWay
		}
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return errTooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlowBody
	case err != nil && err != io.EOF:
		return invalid("failed to read the body: %v", err)
	}
	r.Body = b.Bytes()
	return nil
}

// placeFor waits for a place for the request's body.
func placeFor(r *request, among *places) (*place, error) {
	ctx, cancel := context.WithTimeout(r.Context, largeWait)
	defer cancel()
	var token access.ID
	if r.Caller.Token != nil {
		token = r.Caller.Token.ID()
	}
	mine, err := among.take(ctx, token, r.network())
	if err != nil && r.Context.Err() == nil {
		err = errBusy
	}
	return mine, err
}

// A byteCounter counts the bytes that are read.
type byteCounter struct {
	in io.Reader
	n  atomic.Int64
}

func (c *byteCounter) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.n.Add(int64(n))
	return n, err
}
