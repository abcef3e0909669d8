package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/sealkeep/sealkeep/config"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/seal"
)

const (
	keepTimeout = 5 * time.Second
	certAhead   = 14 * 24 * time.Hour // how long before its end a certificate is warned about
)

// runningKeep asks the keep that has the store open for the state of its slots.
func (x *examination) runningKeep(locked error) {
	x.ok("store", "file", "%v", locked)
	var trouble error
	for _, l := range x.conf.Listeners {
		st, err := x.askKeep(l)
		if err != nil {
			trouble = fmt.Errorf("%s: %w", l.Address, err)
			continue
		}
		state := "open"
		if st.Sealed {
			state = "sealed"
		}
		x.ok("store", "keep", "the keep on %s is %s; it has the store for itself, so these are the states of the slots as it tells them", l.Address, state)
		if st.Held {
			x.warn("store", "held", heldHint(st.KeepHeld), "the keep was sealed by request, and does not open by itself")
		}
		x.slotStates(st.Slots)
		return
	}
	x.warn("store", "keep", "stop it for a moment, or run this where it listens", "another process has the store, and no listener of this configuration answers (%v), so that nothing is known of the slots", trouble)
}

// askKeep asks a listener of the configuration, from this machine. It sends nothing secret and anybody may ask, so it does
// not verify the certificate, which is for other names.
func (x *examination) askKeep(l config.Listener) (st struct {
	Sealed   bool
	Held     bool
	KeepHeld bool `json:"held_keep"`
	Slots    []keep.SlotStatus
}, err error) {
	t := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	network, address, scheme := "unix", l.Address, "http"
	if l.Type == "tcp" {
		host, port, err := net.SplitHostPort(l.Address)
		if err != nil {
			return st, err
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "localhost"
		}
		network, address = "tcp", net.JoinHostPort(host, port)
	}
	if !l.TLSDisable {
		scheme = "https"
	}
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	ctx, cancel := context.WithTimeout(x, keepTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://localhost/v1/sys/seal-status", nil)
	if err != nil {
		return st, err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("it answers %s", resp.Status)
	}
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	return st, err
}

// slotStates reports the states of the keep's slots.
func (x *examination) slotStates(slots []keep.SlotStatus) {
	people := 0
	for _, sl := range slots {
		scope := "slot " + sl.Name
		text := string(sl.State)
		if !sl.LastOpened.IsZero() {
			text += ", last opened " + sl.LastOpened.UTC().Format(time.RFC3339)
		}
		if sl.KeyID != "" {
			text += ", wrapped by " + sl.KeyID
		}
		if !sl.Verified.IsZero() {
			text += ", verified by people " + sl.Verified.UTC().Format(time.RFC3339)
		}
		switch {
		case sl.Class != "":
			x.findings = append(x.findings, finding{scope, seal.Step{Name: "state", Class: sl.Class, Text: text + ": " + sl.Error, Next: sl.Hint}})
		case sl.State == keep.SlotQuarantined || sl.State == keep.SlotMissing:
			x.fail(scope, "state", "somebody changed the file: look who could, then sealkeep operator slot remove "+sl.Name+", or slot add", "%s", text)
		case sl.State == keep.SlotOrphaned:
			x.warn(scope, "state", "sealkeep operator slot remove "+sl.Name+", or add its seal block again", "%s: no seal of the keep's configuration has this name and type", text)
		case sl.State == keep.SlotRevoked && sl.Priority > 0:
			x.warn(scope, "state", "take its seal block out; or, when nobody else has its key any more, sealkeep operator slot add "+sl.Name, "%s: somebody else may have it, so nothing wraps the root key for it", text)
		case sl.State == keep.SlotPending && sl.KeyID != "":
			x.warn(scope, "state", cmp.Or(sl.Hint, "see sealkeep status"), "%s: %s", text, sl.Error)
		case sl.State == keep.SlotPending:
			x.warn(scope, "state", "see sealkeep status; the keep tries again by itself (a seal of environment variables alone: sealkeep operator slot add "+sl.Name+")", "%s %s", text, sl.Error)
		case !sl.Since.IsZero():
			x.waiting(scope, sl.Type, sl.Since)
		case sl.Warning != "":
			x.warn(scope, "state", "mend it before the next start", "%s: %s", text, sl.Warning)
		default:
			x.ok(scope, "state", "%s", text)
		}
		if recoverySlot(sl.Name) && sl.State != keep.SlotRevoked {
			people++
		}
	}
	x.recovery(people)
}

// listeners examines the certificates of the keep's listeners.
func (x *examination) listeners() {
	for _, l := range x.conf.Listeners {
		if l.TLSDisable {
			continue
		}
		scope := fmt.Sprintf("listener %q on %s", l.Type, l.Address)
		cert, err := loadCertificate(l)
		switch {
		case err != nil:
			x.fail(scope, "certificate", "give it a certificate and the key that belongs to it, both in PEM, readable for the keep's user", "%v", err)
		case time.Until(cert.until()) < 0:
			x.fail(scope, "certificate", "renew it: the keep takes the new files by itself", "%s has ended on %s", l.TLSCertFile, cert.until().UTC().Format(time.DateOnly))
		case time.Until(cert.until()) < certAhead:
			x.warn(scope, "certificate", "renew it: the keep takes the new files by itself", "%s ends on %s", l.TLSCertFile, cert.until().UTC().Format(time.DateOnly))
		default:
			x.ok(scope, "certificate", "%s, until %s", l.TLSCertFile, cert.until().UTC().Format(time.DateOnly))
		}
	}
}

// ownAddress finds a seal whose server is this keep under another name. config compares the addresses as written; here
// names are resolved.
func (x *examination) ownAddress(scope, address string) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "unix" {
		return // config has compared the paths
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	ctx, cancel := context.WithTimeout(x, keepTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip", u.Hostname())
	if err != nil {
		return // the diagnosis reports it
	}
	for _, l := range x.conf.Listeners {
		host, own, err := net.SplitHostPort(l.Address)
		if err != nil || own != port {
			continue
		}
		for _, ip := range ips {
			if listensOn(host, ip) {
				x.fail(scope, "address", "write the address of another server: a keep cannot open itself with its own engines",
					"%s is %s, where this keep's own listener is (%s)", address, ip, l.At)
				return
			}
		}
	}
}

// listensOn reports whether a listener with this host can be reached at an address of this machine.
func listensOn(host string, ip net.IP) bool {
	own := net.ParseIP(host)
	if host != "" && (own == nil || !own.IsUnspecified()) {
		return own != nil && own.Equal(ip)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return ip.IsLoopback()
}
