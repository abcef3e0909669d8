package sealtest

import (
	"io"
	"log"
	"net/http/httputil"
	"net/url"
	"testing"
)

// NewProxy starts a server in front of another one, so that a third-party service can be stopped and started, too.
func NewProxy(t testing.TB, target string) *Server {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := httputil.NewSingleHostReverseProxy(u)
	p.ErrorLog = log.New(io.Discard, "", 0) // errors of clients that leave
	return Serve(t, p)
}
