package config

import (
	"crypto/tls"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

func TestForwarded(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "keep.hcl")
	for text, want := range map[string]Forwarded{
		``:                                      {},
		`x_forwarded_for_hop_skips = 3`:         {},
		`x_forwarded_for_authorized_addrs = []`: {},
		`x_forwarded_for_authorized_addrs = "10.1.2.3/8, ::1"`: {prefixes("10.0.0.0/8", "::1/128"), 0, true, true},
		`x_forwarded_for_authorized_addrs = ["::ffff:10.0.0.1", "fd00::/8"]
x_forwarded_for_hop_skips = "2"
x_forwarded_for_reject_not_present = false`: {prefixes("10.0.0.1/32", "fd00::/8"), 2, false, true},
		`x_forwarded_for_authorized_addrs = "127.0.0.1/32"
x_forwarded_for_reject_not_authorized = "0"`: {prefixes("127.0.0.1/32"), 0, true, false},
	} {
		write(t, keep, "storage \"bbolt\" { path = \"/x.db\" }\nseal \"awskms\" { kms_key_id = \"alias/keep\" }\nlistener \"tcp\" {\n"+text+"\n}\n")
		c, err := Load([]string{keep}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Listeners[0].Forwarded; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
		inForce := slices.ContainsFunc(c.Settings, func(s Setting) bool { return s.Key == "x_forwarded_for_hop_skips" })
		if inForce != (want.Authorized != nil) {
			t.Errorf("%s: shown as in force: %t", text, inForce)
		}
	}
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestClientCerts(t *testing.T) {
	c, err := Load([]string{"testdata/good_clients.hcl"}, envOf("STATE_DIRECTORY=/x"))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		auth tls.ClientAuthType
		ca   string
	}{
		{tls.RequireAndVerifyClientCert, "/etc/keep/clients.pem"}, {tls.RequestClientCert, ""}, {}, {}, {},
	} {
		if l := c.Listeners[i]; l.TLSClientAuth != want.auth || l.TLSClientCAFile != want.ca {
			t.Errorf("%s: %v %q", l.At, l.TLSClientAuth, l.TLSClientCAFile)
		}
	}
	c, err = Load([]string{"testdata/vault_listeners.hcl"}, envOf("STATE_DIRECTORY=/x"))
	if err != nil || c.Listeners[0].TLSClientAuth != tls.NoClientCert {
		t.Error(c, err)
	}
}
