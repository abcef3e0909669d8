package server

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// Serve serves on a listener what [Server.HTTPServer] returned, with TLS if c is not nil, until one of the two is
// closed, as http.Server.Serve does. What net/http refuses by itself, before there is a request, gets Vault's list
// of errors too, where net/http has plain text, or nothing for headers that come too slowly.
func Serve(web *http.Server, l net.Listener, c *tls.Config) error {
	return web.Serve(&accepting{l, web, c})
}

type accepting struct {
	net.Listener
	web *http.Server
	tls *tls.Config // nil: without
}

func (l *accepting) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	switch {
	case err != nil:
		return nil, err
	case l.tls != nil:
		return &tlsConn{&conn{Conn: tls.Server(nc, l.tls)}, l.web}, nil
	}
	return &conn{Conn: nc}, nil
}

// Read reads for net/http.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.between.Load() {
		if c.asked && errors.Is(err, os.ErrDeadlineExceeded) {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			c.Write([]byte("HTTP/1.1 408 Request Timeout: the request's headers did not arrive in time"))
		}
		c.asked = c.asked || n > 0
	}
	return n, err
}

// Write writes an answer, or what net/http says instead of one.
func (c *conn) Write(p []byte) (int, error) {
	if !c.between.Load() {
		return c.Conn.Write(p)
	}
	if !c.told {
		c.told = true
		if _, err := c.Conn.Write(refused(p)); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// CloseWrite is for net/http, which wants the client to read a refusal in the middle of its request.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// tlsConn is a connection with TLS.
type tlsConn struct {
	*conn
	web *http.Server
}

// ConnectionState shakes hands first: net/http calls it before anything else, and takes what it returns for the
// requests' TLS.
func (c *tlsConn) ConnectionState() tls.ConnectionState {
	t := c.Conn.(*tls.Conn)
	t.SetDeadline(time.Now().Add(c.web.ReadHeaderTimeout))
	err := t.Handshake()
	t.SetDeadline(time.Time{})
	if err != nil {
		var record tls.RecordHeaderError
		if errors.As(err, &record) && record.Conn != nil && isHTTP(record.RecordHeader[:]) {
			record.Conn.Write(refused([]byte("HTTP/1.0 400 Bad Request: Client sent an HTTP request to an HTTPS server.")))
		}
		if c.web.ErrorLog != nil {
			c.web.ErrorLog.Printf("TLS handshake with %s: %v", c.RemoteAddr(), err)
		}
		c.cut()
	}
	return t.ConnectionState()
}

// isHTTP reports whether a client's first five bytes begin a request without TLS.
func isHTTP(head []byte) bool {
	return slices.Contains([]string{"GET /", "HEAD ", "POST ", "PUT /", "DELET", "PATCH", "LIST ", "SCAN ", "LOCK ", "UNLOC", "OPTIO"}, string(head))
}

// refused is Vault's form of what net/http writes in place of an answer: a status line, with the reason after a
// colon if there is one, and more. The connection ends with it.
func refused(p []byte) []byte {
	line, _, _ := strings.Cut(string(p), "\r\n")
	version, status, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(status, " ")
	status, reason, _ := strings.Cut(status, ": ")
	switch code {
	case "417":
		reason = `the header Expect may say "100-continue", and nothing else`
	case "431":
		reason = fmt.Sprintf("the request's first line and headers are too long: at most %d bytes are accepted", maxHeader)
	case "501":
		reason = "unsupported transfer encoding: send the body chunked, or with its Content-Length"
	default: // 400 and 505, mostly with a reason
		reason = cmp.Or(reason, "malformed HTTP request")
	}
	body, _ := json.Marshal(errorBody{Errors: []string{reason}}) // strings always encode
	return fmt.Appendf(nil, "%s %s\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Length: %d\r\nContent-Type: application/json\r\n\r\n%s\n",
		version, status, len(body)+1, body)
}
