package server

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Forwarded says whose X-Forwarded-For tells the address of a client, with the
// meaning of Vault's x_forwarded_for_* settings. The zero value believes nobody
// and refuses nothing.
type Forwarded struct {
	Authorized          []netip.Prefix // the proxies that may send it; none: the rest is not looked at
	HopSkips            int            // addresses at its end that are passed over; the one before them counts
	RejectNotPresent    bool           // refuse requests without it, whoever sends them
	RejectNotAuthorized bool           // refuse it from others; else it is ignored
}

const forwardedFor = "X-Forwarded-For"

// apply makes the request come from where a proxy says that it comes from: its
// RemoteAddr gets that address, and keeps the port of the connection. A header
// that must not be believed is gone thereafter.
func (f Forwarded) apply(h *http.Request) error {
	if len(f.Authorized) == 0 {
		return nil
	}
	// One header after the other, as if they were one: what clients make up
	// stands before what proxies add.
	said := strings.Join(h.Header[forwardedFor], ",")
	if strings.Trim(said, ", \t") == "" {
		if f.RejectNotPresent {
			return invalid("missing x-forwarded-for header and configured to reject when not present")
		}
		return nil
	}
	peer, err := netip.ParseAddrPort(h.RemoteAddr)
	by := peer.Addr().Unmap().WithZone("") // the zone is a name of this machine's
	if err != nil || !slices.ContainsFunc(f.Authorized, func(p netip.Prefix) bool { return p.Contains(by) }) {
		if f.RejectNotAuthorized {
			return invalid("client address not authorized for x-forwarded-for and configured to reject connection")
		}
		h.Header.Del(forwardedFor)
		return nil
	}
	hops := strings.Split(said, ",")
	i := len(hops) - 1 - f.HopSkips
	if i < 0 {
		return invalid("malformed x-forwarded-for configuration or request, hops to skip (%d) would skip before earliest chain link (chain length %d)", f.HopSkips, len(hops))
	}
	client, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
	if err != nil { // Vault would go on, with an address that no limit and no range fits
		return invalid("malformed x-forwarded-for header: link %d of %d is no IP address", i+1, len(hops))
	}

	h.RemoteAddr = netip.AddrPortFrom(client.Unmap().WithZone(""), peer.Port()).String()
	return nil
}
