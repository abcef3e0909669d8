package server

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// The cases are those of Vault's own test, and what lies between them.
func TestForwarded(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	strict := Forwarded{Authorized: local, RejectNotPresent: true, RejectNotAuthorized: true}
	lenient := Forwarded{Authorized: local}
	skips := func(f Forwarded, n int) Forwarded { f.HopSkips = n; return f }
	for _, test := range []struct {
		what   string
		f      Forwarded
		peer   string
		header []string
		want   string // the client; or the error
	}{
		{"off", Forwarded{RejectNotPresent: true, RejectNotAuthorized: true, HopSkips: 9}, "10.0.0.1:5", []string{"1.2.3.4"}, "10.0.0.1:5"},
		{"one", strict, "10.0.0.1:5", []string{"1.2.3.4"}, "1.2.3.4:5"},
		{"the last", strict, "10.0.0.1:5", []string{"6.6.6.6, 1.2.3.4"}, "1.2.3.4:5"},
		{"skip", skips(strict, 1), "10.0.0.1:5", []string{"2.3.4.5,3.4.5.6,4.5.6.7,5.6.7.8"}, "4.5.6.7:5"},
		{"skip over headers", skips(strict, 1), "10.0.0.1:5", []string{"2.3.4.5", "3.4.5.6,4.5.6.7", "5.6.7.8"}, "4.5.6.7:5"},
		{"skip all but one", skips(strict, 1), "10.0.0.1:5", []string{"2.3.4.5,3.4.5.6"}, "2.3.4.5:5"},
		{"skip too many", skips(strict, 4), "10.0.0.1:5", []string{"2.3.4.5,3.4.5.6"}, "would skip before earliest chain link (chain length 2)"},
		{"skip too many, lenient", skips(lenient, 2), "10.0.0.1:5", []string{"2.3.4.5,3.4.5.6"}, "would skip before earliest"},
		{"IPv6", strict, "[fd00::1]:5", []string{"2001:db8::1"}, "[2001:db8::1]:5"},
		{"IPv4 in IPv6", strict, "[::ffff:10.0.0.1]:5", []string{"::ffff:1.2.3.4"}, "1.2.3.4:5"},
		{"zone", strict, "[fd00::1%eth0]:5", []string{"1.2.3.4"}, "1.2.3.4:5"},
		{"missing", strict, "10.0.0.1:5", nil, "missing x-forwarded-for"},
		{"missing from a stranger", strict, "8.8.8.8:5", nil, "missing x-forwarded-for"},
		{"empty", strict, "10.0.0.1:5", []string{"", " , "}, "missing x-forwarded-for"},
		{"missing, lenient", lenient, "10.0.0.1:5", nil, "10.0.0.1:5"},
		{"empty, lenient", lenient, "10.0.0.1:5", []string{" "}, "10.0.0.1:5"},
		{"a stranger", strict, "8.8.8.8:5", []string{"1.2.3.4"}, "not authorized for x-forwarded-for"},
		{"a stranger, lenient", lenient, "8.8.8.8:5", []string{"1.2.3.4"}, "8.8.8.8:5"},
		{"no address, lenient", lenient, "@", []string{"1.2.3.4"}, "@"},
		{"no address", strict, "@", []string{"1.2.3.4"}, "not authorized for x-forwarded-for"},
		{"a name", lenient, "10.0.0.1:5", []string{"localhost"}, "link 1 of 1 is no IP address"},
		{"a port", lenient, "10.0.0.1:5", []string{"9.9.9.9, 1.2.3.4:80"}, "link 2 of 2 is no IP address"},
		{"nothing at the end", lenient, "10.0.0.1:5", []string{"1.2.3.4,"}, "link 2 of 2 is no IP address"},
		{"noise", lenient, "10.0.0.1:5", []string{"1.2.3.4\tx"}, "link 1 of 1 is no IP address"},
	} {
		h := &http.Request{RemoteAddr: test.peer, Header: http.Header{}}
		if test.header != nil {
			h.Header[forwardedFor] = test.header
		}
		err := test.f.apply(h)
		if err == nil && h.RemoteAddr != test.want || err != nil && (!strings.Contains(err.Error(), test.want) || h.RemoteAddr != test.peer) {
			t.Errorf("%s: the client is %s (%v), want %s", test.what, h.RemoteAddr, err, test.want)
		}
		if status, _, ours := fault(err); err != nil && (status != http.StatusBadRequest || ours) {
			t.Errorf("%s: %d", test.what, status)
		}
		if strings.HasPrefix(test.what, "a stranger, lenient") && h.Header.Get(forwardedFor) != "" {
			t.Errorf("%s: the header is still there", test.what)
		}
	}
}
