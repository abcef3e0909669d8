// Package sealtest provides key services for tests, and only for tests: their keys are derived from their names, so that
// anybody can open what they wrapped.
//
//   - [KMS] speaks enough of the AWS KMS JSON protocol to encrypt, decrypt and describe keys, and fails as it is told
//     to.
//   - [Transit] is a stand-in for the Transit and KV version 2 engines of Vault and OpenBao, with renewal of its token
//     and logins of Kubernetes service accounts. It is not either of them and checks nothing that a seal does not need, but
//     its answers have their status, fields and words; package seal's tests compare it with a keep.
//   - [Moto] starts moto_server, a third-party fake of AWS, as a process of its own.
//
// All listen on loopback, on a free port, and end with the test.
package sealtest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A Server is one HTTP service on a loopback port. It can be stopped and started again on the same port, like a service
// that goes away and comes back.
type Server struct {
	URL string // http://127.0.0.1:port, the same for the server's whole life

	t       testing.TB
	addr    string
	handler http.Handler

	mu   sync.Mutex
	http *http.Server
}

// Serve starts a server for a handler.
func Serve(t testing.TB, h http.Handler) *Server {
	t.Helper()
	s := &Server{t: t, addr: "127.0.0.1:0", handler: h}
	s.Start()
	s.URL = "http://" + s.addr
	t.Cleanup(s.Stop)
	return s
}

// Start listens again after Stop. It does nothing if the server is running.
func (s *Server) Start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatalf("starting the fake key service: %v", err)
	}
	s.addr = l.Addr().String()
	s.http = &http.Server{Handler: s.handler, ReadHeaderTimeout: 10 * time.Second}
	go s.http.Serve(l)
}

// Stop closes the listener and every connection: new ones are refused.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		s.http.Close()
		s.http = nil
	}
}

// A Fault is a way to fail. The zero values of its fields change nothing.
type Fault struct {
	Op      string // only this operation, as Requests names it; "" is every operation
	Status  int    // answer with this HTTP status and the error below instead of doing the work
	Code    string // KMS: the error's type, for instance "ThrottlingException"
	Message string // the error's text
	Stall   bool   // read the request and do not answer until the client leaves or Heal is called

	WrongPlaintext bool          // Decrypt returns other bytes of the same length
	KeyID          string        // Encrypt and Decrypt claim to have used this key
	Skew           time.Duration // added to the Date header of the answer
}

// faults holds the faults of a fake and the requests that it got.
type faults struct {
	mu       sync.Mutex
	list     []Fault
	healed   chan struct{}
	requests []string
}

// Fail adds a fault. If several match a request, the last one added counts.
func (f *faults) Fail(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.healed == nil {
		f.healed = make(chan struct{})
	}
	f.list = append(f.list, fault)
}

// Heal forgets all faults; stalled requests are answered.
func (f *faults) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
	if f.healed != nil {
		close(f.healed)
		f.healed = nil
	}
}

// Requests returns the names of the operations asked for since the last call of Requests, in order.
func (f *faults) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.requests
	f.requests = nil
	return r
}

// next records a request and returns the fault for it. It returns when the request may be answered.
func (f *faults) next(ctx context.Context, w http.ResponseWriter, op string) Fault {
	f.mu.Lock()
	f.requests = append(f.requests, op)
	var fault Fault
	for _, x := range f.list {
		if x.Op == "" || x.Op == op {
			fault = x
		}
	}
	healed := f.healed
	f.mu.Unlock()
	if fault.Skew != 0 {
		w.Header().Set("Date", time.Now().Add(fault.Skew).UTC().Format(http.TimeFormat))
	}
	if fault.Stall {
		select {
		case <-healed:
		case <-ctx.Done():
		}
	}
	return fault
}
