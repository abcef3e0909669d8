package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/keep"
)

// manager stands in for systemd: it receives what a notifier says.
func manager(t *testing.T) (next func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	b := make([]byte, 4096)
	return func() string {
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := conn.Read(b)
		if err != nil {
			t.Fatalf("the service manager heard nothing: %v", err)
		}
		return string(b[:n])
	}
}

func TestNotify(t *testing.T) {
	next := manager(t)
	var st atomic.Pointer[keep.Status]
	down := keep.Status{Initialized: true, Sealed: true, Slots: []keep.SlotStatus{
		{Name: "main", State: keep.SlotFailed, Class: "unreachable", Error: "dial:\nrefused", Attempts: 3}}}
	st.Store(&down)
	n := &notifier{log: slog.New(slog.DiscardHandler), status: func() keep.Status { return *st.Load() }}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wake, ended := make(chan struct{}), make(chan struct{})
	go func() { n.run(ctx, wake); close(ended) }()

	// Sealed: why, and more time for the start.
	if got, want := next(), "STATUS=sealed; main: unreachable: dial: refused (attempt 3)\nEXTEND_TIMEOUT_USEC=30000000"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// A reload before READY says nothing: its READY would end the start.
	reloaded := 0
	n.reloading(func() { reloaded++ })
	wake <- struct{}{}
	if got := next(); got != "EXTEND_TIMEOUT_USEC=30000000" {
		t.Errorf("%q", got)
	}
	// Open: ready, once.
	st.Store(&keep.Status{Initialized: true, Settled: true})
	wake <- struct{}{}
	if got := next(); got != "STATUS=unsealed\nREADY=1" {
		t.Errorf("%q", got)
	}
	st.Store(&keep.Status{Initialized: true, Slots: []keep.SlotStatus{{Name: "main", State: keep.SlotPending, Error: "it hangs on the key old"}}})
	n.tell(false)
	if got := next(); got != "STATUS=unsealed, and not settled yet; main: pending: it hangs on the key old" {
		t.Errorf("%q", got)
	}
	st.Store(&keep.Status{Initialized: true, Settled: true})
	n.tell(false)
	if got := next(); got != "STATUS=unsealed" {
		t.Errorf("%q", got)
	}
	n.reloading(func() { reloaded++ })
	if got := next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("%q", got)
	}
	if got := next(); got != "READY=1" {
		t.Errorf("%q", got)
	}
	if reloaded != 2 {
		t.Errorf("reloaded %d times", reloaded)
	}
	st.Store(&keep.Status{Initialized: true, Sealed: true, Held: true})
	wake <- struct{}{}
	if got := next(); !strings.HasPrefix(got, "STATUS=sealed by request: a restart opens it; or people open it") {
		t.Errorf("%q", got)
	}
	why := "keep.hcl:3: unknown key"
	n.refused.Store(&why)
	n.tell(false)
	if got := next(); !strings.HasSuffix(got, "; reload refused, the old configuration stays: "+why) {
		t.Errorf("%q", got)
	}
	n.stopping()
	if got := next(); !strings.HasPrefix(got, "STOPPING=1\n") {
		t.Errorf("%q", got)
	}
	cancel()
	<-ended
}

func TestNotifyIsReadyWhenNotInitialized(t *testing.T) {
	next := manager(t)
	n := &notifier{log: slog.New(slog.DiscardHandler), status: func() keep.Status { return keep.Status{Sealed: true} }}
	n.tell(true)
	if got := next(); got != "STATUS=not initialized: run sealkeep operator init\nREADY=1\nWATCHDOG=1" {
		t.Errorf("%q", got)
	}
}

// No service manager lifts what somebody has sealed, by taking it for a start that fails.
func TestAHeldKeepIsHealthyForTheServiceManager(t *testing.T) {
	next := manager(t)
	n := &notifier{log: slog.New(slog.DiscardHandler), status: func() keep.Status {
		return keep.Status{Initialized: true, Sealed: true, Held: true, KeepHeld: true}
	}}
	n.tell(true)
	if got := next(); got != "STATUS=sealed by request: people open it (sealkeep operator unseal -), or root over a listener with operator = true\nREADY=1\nWATCHDOG=1" {
		t.Errorf("%q", got)
	}
}

func TestJournalLines(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(newLog(&b, slog.LevelDebug, "text", true))
	log.Debug("d")
	log.Info("i", "k", "v")
	log.Warn("w")
	log.Error("e")
	if want := "<7>level=DEBUG msg=d\n<6>level=INFO msg=i k=v\n<4>level=WARN msg=w\n<3>level=ERROR msg=e\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	slog.New(newLog(&b, slog.LevelInfo, "json", true)).Info("i")
	if !strings.HasPrefix(b.String(), `{"time":`) {
		t.Errorf("%q", b.String())
	}
}
