package cert

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
)

var errCertificate = api.Invalid.Errorf("invalid certificate or no client certificate supplied")

// Roles are the roles of a mount, ready for logins. They do not change.
type Roles struct {
	roles   []*Role // by name
	roots   *x509.CertPool
	revoked map[string]bool // serial numbers, as text
}

// NewRoles takes roles that have been checked, and lists of the serial numbers of
// certificates that were revoked.
func NewRoles(roles []*Role, revoked ...[]string) *Roles {
	c := &Roles{roles: slices.Clone(roles), roots: x509.NewCertPool(), revoked: make(map[string]bool)}
	slices.SortFunc(c.roles, func(a, b *Role) int { return strings.Compare(a.Name, b.Name) })
	for _, r := range c.roles {
		if r.certs[0].IsCA {
			for _, cert := range r.certs {
				c.roots.AddCert(cert)
			}
		}
	}
	for _, list := range revoked {
		for _, serial := range list {
			c.revoked[serial] = true
		}
	}
	return c
}

// Match returns the first role, in the order of names, that is for what a client has
// shown: its certificate, and those that may lie between that and an authority. TLS has
// checked that the client has the key. With a name, only the role of that name counts.
// The error is api.Invalid.
func (c *Roles) Match(shown []*x509.Certificate, name string, now time.Time) (*Role, error) {
	if len(shown) == 0 {
		return nil, api.Invalid.Errorf("no client certificate found")
	}
	leaf := shown[0]
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return nil, api.Invalid.Errorf("failed to verify client's certificate: it has expired or is not yet valid")
	}
	for _, r := range c.roles {
		if (name == "" || r.Name == name) && !r.certs[0].IsCA && bytes.Equal(r.certs[0].Raw, leaf.Raw) &&
			!c.anyRevoked(shown[:1]) && r.allows(leaf) {
			return r, nil
		}
	}
	between := x509.NewCertPool()
	for _, cert := range shown[1:] {
		between.AddCert(cert)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return nil, errCertificate
	case err != nil:
		return nil, api.Invalid.Errorf("failed to verify client's certificate: %v", err)
	}
	chains = slices.DeleteFunc(chains, c.anyRevoked)
	for _, r := range c.roles {
		if (name == "" || r.Name == name) && r.certs[0].IsCA && r.leads(chains) && r.allows(leaf) {
			return r, nil
		}
	}
	return nil, api.Invalid.Errorf("no chain matching all constraints could be found for this login certificate")
}

// anyRevoked compares serial numbers alone, whoever the issuer is. So does Vault, and
// a certificate does not get around it by a name of its issuer that is spelt otherwise.
func (c *Roles) anyRevoked(chain []*x509.Certificate) bool {
	return slices.ContainsFunc(chain, func(cert *x509.Certificate) bool { return c.revoked[cert.SerialNumber.String()] })
}

// leads reports whether an authority of the role is in one of the chains.
func (r *Role) leads(chains [][]*x509.Certificate) bool {
	for _, chain := range chains {
		for _, cert := range chain {
			if slices.ContainsFunc(r.certs, cert.Equal) {
				return true
			}
		}
	}
	return false
}

// allows reports whether the role is for a certificate with these names and
// extensions.
func (r *Role) allows(leaf *x509.Certificate) bool {
	common := []string{leaf.Subject.CommonName}
	var uris []string
	for _, u := range leaf.URIs {
		uris = append(uris, u.String())
	}
	for _, rule := range []struct{ patterns, names []string }{
		{r.Names, slices.Concat(common, leaf.DNSNames, leaf.EmailAddresses)},
		{r.CommonNames, common},
		{r.DNSNames, leaf.DNSNames},
		{r.Emails, leaf.EmailAddresses},
		{r.URIs, uris},
		{r.Units, leaf.Subject.OrganizationalUnit},
	} {
		if len(rule.patterns) > 0 && !anyFits(rule.patterns, rule.names) {
			return false
		}
	}
	for _, e := range r.Extensions {
		rest, asHex := strings.CutPrefix(e, "hex:")
		oid, pattern, _ := strings.Cut(rest, ":")
		value, ok := extension(leaf, oid, asHex)
		if !ok || !access.Glob(pattern, value) {
			return false
		}
	}
	return true
}

// anyFits reports whether one of the patterns matches one of the names.
func anyFits(patterns, names []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return access.Glob(pattern, name) })
	})
}

// extension returns the text of an extension, or its bytes in hex digits.
func extension(cert *x509.Certificate, oid string, asHex bool) (value string, ok bool) {
	for _, e := range cert.Extensions {
		if e.Id.String() != oid {
			continue
		}
		if asHex {
			return hex.EncodeToString(e.Value), true
		}
		rest, err := asn1.Unmarshal(e.Value, &value)
		return value, err == nil && len(rest) == 0
	}
	return "", false
}

// Identity returns who has logged in with a certificate, and what to note with the
// token.
func (r *Role) Identity(leaf *x509.Certificate) (user string, meta map[string]string) {
	meta = map[string]string{
		"cert_name":        r.Name,
		"common_name":      leaf.Subject.CommonName,
		"serial_number":    leaf.SerialNumber.String(),
		"subject_key_id":   colons(leaf.SubjectKeyId),
		"authority_key_id": colons(leaf.AuthorityKeyId),
	}
	for _, oid := range r.Metadata {
		if value, ok := extension(leaf, oid, false); ok {
			meta[strings.ReplaceAll(oid, ".", "-")] = value
		}
	}
	return leaf.Subject.CommonName, meta
}

// colons writes bytes as hex digits with colons between them.
func colons(b []byte) string {
	var text strings.Builder
	for i := range b {
		if i > 0 {
			text.WriteByte(':')
		}
		text.WriteString(hex.EncodeToString(b[i : i+1]))
	}
	return text.String()
}
