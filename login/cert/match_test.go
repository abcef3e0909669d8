package cert

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
)

var certTime = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A holder has a certificate and its key.
type holder struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

func (h *holder) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Raw}))
}

// certify makes a certificate that by has signed, or itself when by is nil.
func certify(t testing.TB, by *holder, name string, change func(*x509.Certificate)) *holder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: certTime.Add(-time.Hour), NotAfter: certTime.Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(c)
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.Certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &holder{c, key}
}

func authority(c *x509.Certificate) {
	c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
}

func newRoles(t testing.TB, roles []*Role, revoked ...[]string) *Roles {
	t.Helper()
	for _, r := range roles {
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
	}
	return NewRoles(roles, revoked...)
}

func TestRoles(t *testing.T) {
	ca := certify(t, nil, "ca", authority)
	other, same := certify(t, nil, "other", authority), certify(t, nil, "ca", authority)
	middle := certify(t, ca, "middle", authority)
	leaf := certify(t, ca, "leaf", nil)
	far := certify(t, middle, "far", nil)
	self := certify(t, nil, "self", nil)
	all := newRoles(t, []*Role{
		{Name: "z-ca", Certificate: ca.pem()},
		{Name: "b-middle", Certificate: middle.pem()},
		{Name: "self", Certificate: self.pem()},
		{Name: "leaf", Certificate: leaf.pem()},
		{Name: "old", Certificate: certify(t, nil, "old", func(c *x509.Certificate) { c.NotAfter = certTime.Add(-time.Second) }).pem()},
	})
	list := func(holders ...*holder) (certs []*x509.Certificate) {
		for _, h := range holders {
			certs = append(certs, h.Certificate)
		}
		return certs
	}
	change := func(f func(*x509.Certificate)) *holder { return certify(t, ca, "x", f) }
	for what, c := range map[string]struct {
		shown []*x509.Certificate
		name  string
		want  string // the role, or the error
	}{
		"nothing":                         {nil, "", "no client certificate found"},
		"a leaf":                          {list(change(nil)), "", "z-ca"},
		"a pinned leaf":                   {list(leaf), "", "leaf"},
		"a pinned leaf by its authority":  {list(leaf), "z-ca", "z-ca"},
		"a leaf by a name that is not":    {list(leaf), "nobody", "no chain"},
		"a leaf by another name":          {list(leaf), "self", "no chain"},
		"the authority itself":            {list(ca), "", "z-ca"},
		"its own signature":               {list(self), "", "self"},
		"its own signature, another":      {list(certify(t, nil, "self", nil)), "", "invalid certificate"},
		"its own signature, by authority": {list(self), "z-ca", "invalid certificate"},
		"through the middle":              {list(far, middle), "", "b-middle"},
		"through the middle, by the root": {list(far, middle), "z-ca", "z-ca"},
		"the middle is not shown":         {list(far), "", "b-middle"},
		"another authority":               {list(certify(t, other, "x", nil)), "", "invalid certificate"},
		"another authority of this name":  {list(certify(t, same, "x", nil), same), "", "invalid certificate"},
		"another authority that is shown": {list(certify(t, other, "x", nil), other), "", "invalid certificate"},
		"signed by a leaf":                {list(certify(t, leaf, "x", nil), leaf), "", "invalid certificate"},
		"signed by a pinned one":          {list(certify(t, self, "x", nil), self), "", "invalid certificate"},
		"expired":                         {list(change(func(c *x509.Certificate) { c.NotAfter = certTime.Add(-time.Second) })), "", "has expired"},
		"not yet valid":                   {list(change(func(c *x509.Certificate) { c.NotBefore = certTime.Add(time.Second) })), "", "not yet valid"},
		"of a server":                     {list(change(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })), "", "failed to verify"},
		"of any use":                      {list(change(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} })), "", "z-ca"},
		"of no stated use":                {list(change(func(c *x509.Certificate) { c.ExtKeyUsage = nil })), "", "z-ca"},
		"with an unknown critical extension": {list(change(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		})), "", "failed to verify"},
	} {
		r, err := all.Match(c.shown, c.name, certTime)
		switch {
		case err == nil && r.Name != c.want:
			t.Errorf("%s: role %s, want %s", what, r.Name, c.want)
		case err != nil && (!errors.Is(err, api.ErrRequest) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %s", what, err, c.want)
		}
	}
	old, _ := login.ParseCertificates(all.roles[2].Certificate)
	if all.roles[2].Name != "old" {
		t.Fatal(all.roles[2].Name)
	}
	if _, err := all.Match(old, "", certTime); err == nil {
		t.Error("a pinned certificate that has expired")
	}
	if _, err := NewRoles(nil).Match(list(leaf), "", certTime); !errors.Is(err, api.ErrRequest) {
		t.Errorf("without roles: %v", err)
	}
	// The authority has expired, or has not: it is looked at, too.
	if _, err := all.Match(list(change(func(c *x509.Certificate) { c.NotAfter = certTime.Add(3 * time.Hour) })), "", certTime.Add(2*time.Hour)); !errors.Is(err, api.ErrRequest) {
		t.Errorf("an authority that has expired: %v", err)
	}
}

func TestNames(t *testing.T) {
	ca := certify(t, nil, "ca", authority)
	oid := asn1.ObjectIdentifier{1, 2, 3, 4}
	text, err := asn1.MarshalWithParams("team-red", "utf8")
	if err != nil {
		t.Fatal(err)
	}
	leaf := certify(t, ca, "web.example.com", func(c *x509.Certificate) {
		c.Subject.OrganizationalUnit = []string{"Ops", "Web"}
		c.DNSNames, c.EmailAddresses = []string{"a.example.com", "b.example.org"}, []string{"ops@example.com"}
		c.URIs = []*url.URL{{Scheme: "spiffe", Host: "example.com", Path: "/web"}}
		c.ExtraExtensions = []pkix.Extension{{Id: oid, Value: text}, {Id: asn1.ObjectIdentifier{1, 2, 3, 5}, Value: []byte{2, 1, 7}}}
		c.SerialNumber = big.NewInt(1 << 40)
		c.SubjectKeyId = []byte{1, 0xab}
	})
	for _, c := range []struct {
		role Role
		want bool
	}{
		{Role{}, true},
		{Role{Names: []string{"web.*"}}, true},
		{Role{Names: []string{"nothing", "a.example.com"}}, true},
		{Role{Names: []string{"ops@*"}}, true},
		{Role{Names: []string{"spiffe*", "Ops"}}, false},
		{Role{CommonNames: []string{"*.example.com"}}, true},
		{Role{CommonNames: []string{"a.example.com"}}, false},
		{Role{DNSNames: []string{"*.example.org"}}, true},
		{Role{DNSNames: []string{"web.example.com"}}, false},
		{Role{Emails: []string{"ops@example.com"}}, true},
		{Role{Emails: []string{"ops"}}, false},
		{Role{URIs: []string{"spiffe://example.com/*"}}, true},
		{Role{URIs: []string{"spiffe://example.com/x"}}, false},
		{Role{Units: []string{"Web"}}, true},
		{Role{Units: []string{"web"}}, false},
		{Role{CommonNames: []string{"*"}, DNSNames: []string{"x"}}, false}, // each list
		{Role{Extensions: []string{"1.2.3.4:team-*"}}, true},
		{Role{Extensions: []string{"1.2.3.4:team-*", "1.2.3.6:*"}}, false},
		{Role{Extensions: []string{"1.2.3.4:team"}}, false},
		{Role{Extensions: []string{"1.2.3.5:*"}}, false}, // it is no text
		{Role{Extensions: []string{"hex:1.2.3.5:020107"}}, true},
		{Role{Extensions: []string{"hex:1.2.3.5:02010*", "1.2.3.4:team-red"}}, true},
	} {
		r := c.role
		r.Certificate = ca.pem()
		roles := newRoles(t, []*Role{&r})
		if _, err := roles.Match([]*x509.Certificate{leaf.Certificate}, "", certTime); (err == nil) != c.want {
			t.Errorf("%+v: %v", c.role, err)
		}
		r.Certificate = leaf.pem() // pinned
		roles = newRoles(t, []*Role{&r})
		if _, err := roles.Match([]*x509.Certificate{leaf.Certificate}, "", certTime); (err == nil) != c.want {
			t.Errorf("pinned, %+v: %v", c.role, err)
		}
	}
	user, meta := (&Role{Name: "web", Metadata: []string{"1.2.3.4", "1.2.3.5", "1.1.1"}}).Identity(leaf.Certificate)
	want := map[string]string{
		"cert_name": "web", "common_name": "web.example.com", "serial_number": "1099511627776", "subject_key_id": "01:ab",
		"authority_key_id": colons(ca.SubjectKeyId), "1-2-3-4": "team-red",
	}
	if user != "web.example.com" || !reflect.DeepEqual(meta, want) {
		t.Errorf("%s %v", user, meta)
	}

	server := certify(t, ca, "x", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	for want, r := range map[string]Role{
		"failed to parse certificate":    {},
		"has a private key":              {Certificate: ca.pem() + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"}))},
		"damaged":                        {Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw[:50]}))},
		"nonCA certificates":             {Certificate: server.pem()},
		`required extension "x"`:         {Certificate: ca.pem(), Extensions: []string{"x"}},
		`required extension "x:y"`:       {Certificate: ca.pem(), Extensions: []string{"x:y"}},
		`metadata extension "1.2.3:way"`: {Certificate: ca.pem(), Metadata: []string{"1.2.3:way"}},
	} {
		if err := r.Check(); !errors.Is(err, api.ErrRequest) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestCRL(t *testing.T) {
	ca := certify(t, nil, "ca", authority)
	middle, second := certify(t, ca, "middle", authority), certify(t, ca, "second", authority)
	leaf, pinned := certify(t, middle, "leaf", nil), certify(t, nil, "pinned", nil)
	crl := func(certs ...*holder) []byte {
		list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: certTime.Add(-48 * time.Hour), NextUpdate: certTime.Add(-24 * time.Hour)}
		for _, c := range certs {
			list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: certTime})
		}
		der, err := x509.CreateRevocationList(rand.Reader, list, ca.Certificate, ca.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	roles := []*Role{{Name: "ca", Certificate: ca.pem()}, {Name: "pinned", Certificate: pinned.pem()}}
	for what, c := range map[string]struct {
		crl    []byte
		leaf   bool
		pinned bool
	}{
		"nothing":          {crl(), true, true},
		"something else":   {crl(second), true, true},
		"the leaf":         {crl(second, leaf), false, true},
		"what lies above":  {crl(middle), false, true},
		"the authority":    {crl(ca), false, true},
		"the pinned one":   {crl(pinned), true, false},
		"the leaf, in PEM": {pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl(leaf)}), false, true},
	} {
		serials, err := ParseCRL(c.crl)
		if err != nil {
			t.Fatal(err)
		}
		all := newRoles(t, roles, nil, serials)
		if _, err := all.Match([]*x509.Certificate{leaf.Certificate, middle.Certificate}, "", certTime); (err == nil) != c.leaf {
			t.Errorf("with %s revoked, the leaf: %v", what, err)
		}
		if _, err := all.Match([]*x509.Certificate{pinned.Certificate}, "", certTime); (err == nil) != c.pinned {
			t.Errorf("with %s revoked, the pinned one: %v", what, err)
		}
	}
	for _, b := range [][]byte{nil, []byte("x"), ca.Raw, bytes.Repeat([]byte{0x30}, 100)} {
		if _, err := ParseCRL(b); !errors.Is(err, api.ErrRequest) {
			t.Errorf("%.20q: %v", b, err)
		}
	}
}

// FuzzCert shows the keep every certificate there is: none logs in but the two
// that may.
func FuzzCert(f *testing.F) {
	ca, pinned := certify(f, nil, "ca", authority), certify(f, nil, "pinned", nil)
	leaf := certify(f, ca, "leaf", func(c *x509.Certificate) { c.DNSNames = []string{"leaf.example.com"} })
	roles := newRoles(f, []*Role{
		{Name: "ca", Certificate: ca.pem(), DNSNames: []string{"*.example.com"}, Extensions: []string{"2.5.29.17:*"}},
		{Name: "any", Certificate: ca.pem()},
		{Name: "pinned", Certificate: pinned.pem()},
	})
	for _, h := range []*holder{ca, pinned, leaf, certify(f, leaf, "x", nil)} {
		f.Add(h.Raw, leaf.Raw)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		c, err := x509.ParseCertificate(first)
		if err != nil {
			return
		}
		shown := []*x509.Certificate{c}
		if above, err := x509.ParseCertificate(second); err == nil {
			shown = append(shown, above)
		}
		r, err := roles.Match(shown, "", certTime)
		switch {
		case err != nil:
			if !errors.Is(err, api.ErrRequest) {
				t.Error(err)
			}
		case !bytes.Equal(c.RawTBSCertificate, leaf.RawTBSCertificate) && !bytes.Equal(c.RawTBSCertificate, ca.RawTBSCertificate) && !bytes.Equal(c.Raw, pinned.Raw):
			t.Errorf("%s let in %x", r.Name, first)
		}
		(&Role{Metadata: []string{"2.5.29.17"}}).Identity(c)
	})
}

// FuzzCRL reads what anybody who may write a list sends.
func FuzzCRL(f *testing.F) {
	ca := certify(f, nil, "ca", authority)
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: certTime, NextUpdate: certTime,
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: certTime}},
	}, ca.Certificate, ca.key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
	f.Fuzz(func(t *testing.T, b []byte) {
		serials, err := ParseCRL(b)
		if err == nil && len(serials) > len(b) {
			t.Error(len(serials))
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	ca := certify(b, nil, "ca", authority)
	leaf := certify(b, ca, "leaf", nil)
	var list []*Role
	for i := range 100 {
		list = append(list, &Role{Name: fmt.Sprint(i), Certificate: certify(b, nil, fmt.Sprint("ca", i), authority).pem()})
	}
	roles := newRoles(b, append(list, &Role{Name: "z", Certificate: ca.pem()}))
	shown := []*x509.Certificate{leaf.Certificate}
	for b.Loop() {
		if _, err := roles.Match(shown, "", certTime); err != nil {
			b.Fatal(err)
		}
	}
}
