package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/sealkeep/sealkeep/keep"
)

// A notifier reports the state of the keep to the service manager. It sends READY when the keep is open, so that units
// ordered after it find it usable. A keep that is not initialized, or was sealed by request, is ready at once, since it
// waits for a person: a service manager that took this for a failed start would restart the keep, and so open it.
type notifier struct {
	log     *slog.Logger
	status  func() keep.Status
	refused atomic.Pointer[string] // why the last reload was refused; nil if it was not

	mu    sync.Mutex
	ready bool
	said  string // the last STATUS sent
}

const (
	notifyEvery = 5 * time.Second  // longest time between two messages
	extension   = 30 * time.Second // how much longer the start may take, sent with every message until ready
)

// run sends the state on every wake and every notifyEvery, with the watchdog's ping. It returns when ctx ends.
func (n *notifier) run(ctx context.Context, wake <-chan struct{}) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return
	}
	watchdog, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("reading the watchdog's interval failed", "error", err)
	}
	tick := time.NewTicker(min(notifyEvery, cmp.Or(watchdog/2, notifyEvery)))
	defer tick.Stop()
	for {
		n.tell(watchdog > 0)
		select {
		case <-tick.C:
		case <-wake:
		case <-ctx.Done():
			return
		}
	}
}

// tell sends the state. It feeds the watchdog only after the server has returned its state.
func (n *notifier) tell(watchdog bool) {
	st := n.status()
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []string
	s := statusLine(st)
	if why := n.refused.Load(); why != nil {
		s += "; reload refused, the old configuration stays: " + *why
	}
	if s != n.said {
		n.said = s
		lines = append(lines, "STATUS="+s)
	}
	if !n.ready {
		if n.ready = !st.Sealed || !st.Initialized || st.Held; n.ready {
			lines = append(lines, sd.SdNotifyReady)
		} else {
			lines = append(lines, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extension.Microseconds()))
		}
	}
	if watchdog {
		lines = append(lines, sd.SdNotifyWatchdog)
	}
	if lines != nil {
		n.send(lines...)
	}
}

// reloading brackets a reload: the service manager waits for its end. Before the first READY it sends nothing, since the
// READY that ends a reload would end the start.
func (n *notifier) reloading(reload func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ready {
		n.send(sd.SdNotifyReloading, sd.SdNotifyMonotonicUsec())
		defer n.send(sd.SdNotifyReady)
	}
	reload()
}

func (n *notifier) stopping() { n.send(sd.SdNotifyStopping, "STATUS=draining, then sealing") }

func (n *notifier) send(lines ...string) {
	if _, err := sd.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		n.log.Warn("telling the service manager failed", "error", err, "next", "allow AF_UNIX in the unit's RestrictAddressFamilies=")
	}
}

// heldHint says what opens a keep that was sealed by request.
func heldHint(keep bool) string {
	hint := "people open it (sealkeep operator unseal -), or root over a listener with operator = true"
	if !keep {
		hint = "a restart opens it; or " + hint
	}
	return hint
}

// statusLine describes in one line the state of the keep, and why it is sealed or not settled.
func statusLine(st keep.Status) string {
	switch {
	case !st.Initialized:
		return "not initialized: run sealkeep operator init"
	case st.Damage != nil:
		return "sealed; " + st.Damage.Error()
	case !st.Sealed && st.Settled:
		return "unsealed"
	case st.Held:
		return "sealed by request: " + heldHint(st.KeepHeld)
	}
	line := "sealed"
	if !st.Sealed {
		line = "unsealed, and not settled yet"
	}
	for _, sl := range st.Slots {
		if !st.Sealed && sl.State == keep.SlotPending && sl.Class == "" {
			line += fmt.Sprintf("; %s: %s: %s", sl.Name, sl.State, sl.Error)
		}
		if sl.Class != "" {
			line += fmt.Sprintf("; %s: %s: %s (attempt %d)", sl.Name, sl.Class, sl.Error, sl.Attempts)
		}
	}
	return strings.Join(strings.Fields(line), " ") // one line, even with multi-line errors
}
