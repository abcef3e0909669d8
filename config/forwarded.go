package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

const maxHops = 100 // longer than any chain of proxies

// finishForwarded fills in whose X-Forwarded-For is trusted. It removes from v what has no effect.
func (l *loader) finishForwarded(n *Listener, v map[string]value) {
	hops, present, authorized := v["x_forwarded_for_hop_skips"], v["x_forwarded_for_reject_not_present"], v["x_forwarded_for_reject_not_authorized"]
	if addrs := v["x_forwarded_for_authorized_addrs"]; addrs.text != "" {
		n.Forwarded.Authorized, _ = parseAddrs(addrs.text) // both were checked
		n.Forwarded.HopSkips, _ = strconv.Atoi(hops.text)
		n.Forwarded.RejectNotPresent = present.text == "true"
		n.Forwarded.RejectNotAuthorized = authorized.text == "true"
		for _, p := range n.Forwarded.Authorized {
			if p.Bits() == 0 {
				l.warnf(addrs.at, "x_forwarded_for_authorized_addrs has %s in it: every client may say that it comes from any address", p)
			}
		}
		return
	}
	for _, o := range []value{hops, present, authorized} {
		if !o.def && o.text != "" {
			l.warnf(o.at, "%s has no effect without x_forwarded_for_authorized_addrs: X-Forwarded-For is not believed", o.name)
		}
		delete(v, o.name)
	}
}

// parseAddrs reads IP addresses and CIDR ranges separated by commas. If one is neither, wrong is its number, from 1;
// otherwise it is 0.
func parseAddrs(list string) (out []netip.Prefix, wrong int) {
	for i, text := range strings.Split(list, ",") {
		text = strings.TrimSpace(text)
		p, err := netip.ParsePrefix(text)
		if a, notAddr := netip.ParseAddr(text); notAddr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() { // such a range would match no address
			return nil, i + 1
		}
		out = append(out, p.Masked())
	}
	return out, 0
}

func checkAddrs(v string) string {
	if _, wrong := parseAddrs(v); wrong != 0 {
		return fmt.Sprintf("number %d is no IP address and no range of them: write \"10.0.0.7\" or \"10.0.0.0/8\", several in brackets or with commas between them", wrong)
	}
	return ""
}

func checkHops(v string) string {
	if n, err := strconv.Atoi(v); err != nil || n > maxHops {
		return fmt.Sprintf("%q is too many: write how many proxies add an address to X-Forwarded-For after the one that counts, up to %d", v, maxHops)
	}
	return ""
}
