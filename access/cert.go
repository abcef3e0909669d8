package access

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A CertRole says which client certificates log in, and what their tokens are
// like. In the lists "*" stands for any text, and an empty list is for all; each
// of the others must have a name that fits.
type CertRole struct {
	Name        string   `json:"name"`
	Certificate string   `json:"certificate"` // PEM: authorities, or the one certificate that logs in
	DisplayName string   `json:"display_name"`
	Names       []string `json:"allowed_names"` // common name, DNS name or email address
	CommonNames []string `json:"allowed_common_names"`
	DNSNames    []string `json:"allowed_dns_sans"`
	Emails      []string `json:"allowed_email_sans"`
	URIs        []string `json:"allowed_uri_sans"`
	Units       []string `json:"allowed_organizational_units"`
	Extensions  []string `json:"required_extensions"`         // "OID:pattern", or "hex:OID:pattern"; the certificate has all
	Metadata    []string `json:"allowed_metadata_extensions"` // OIDs that are noted with the token
	TokenParams

	certs []*x509.Certificate // parsed by Check
}

// Check says what is wrong with the role, and makes it ready for [CertRoles].
func (r *CertRole) Check() error {
	certs, err := parseCertificates(r.Certificate)
	if err != nil {
		return mistake("failed to parse certificate: it %v", err)
	}
	if leaf := certs[0]; !leaf.IsCA && !forClients(leaf) {
		return mistake("nonCA certificates should have TLS client authentication set as an extended key usage")
	}
	for _, e := range r.Extensions {
		if oid, _, ok := strings.Cut(strings.TrimPrefix(e, "hex:"), ":"); !ok || !isOID(oid) {
			return mistake("required extension %q is not like 1.2.3.4:value", e)
		}
	}
	for _, oid := range r.Metadata {
		if !isOID(oid) {
			return mistake("metadata extension %q is not like 1.2.3.4", oid)
		}
	}
	r.certs = certs
	return r.TokenParams.Check()
}

func isOID(text string) bool {
	_, err := x509.ParseOID(text)
	return err == nil
}

// forClients tells whether a certificate may be shown by a TLS client.
func forClients(c *x509.Certificate) bool {
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

var errCertificate = mistakeError("invalid certificate or no client certificate supplied")

// CertRoles are the roles of a mount of the method cert, ready for logins.
type CertRoles struct {
	roles   []*CertRole // by name
	roots   *x509.CertPool
	revoked map[string]bool // serial numbers, as text
}

// NewCertRoles takes roles that were checked, and the serial numbers of all
// certificates that were revoked.
func NewCertRoles(roles []*CertRole, revoked ...[]string) *CertRoles {
	c := &CertRoles{roles: slices.Clone(roles), roots: x509.NewCertPool(), revoked: make(map[string]bool)}
	slices.SortFunc(c.roles, func(a, b *CertRole) int { return strings.Compare(a.Name, b.Name) })
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

// Match returns the first role, by its name, that is for what a client has shown:
// its certificate, and those that may lie between this and an authority. That the
// client has the key is for TLS to see. A name leaves only the role of this name.
// The error is [ErrInvalid].
func (c *CertRoles) Match(shown []*x509.Certificate, name string, now time.Time) (*CertRole, error) {
	if len(shown) == 0 {
		return nil, mistake("no client certificate found")
	}
	leaf := shown[0]
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return nil, mistake("failed to verify client's certificate: it has expired or is not yet valid")
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
		return nil, mistake("failed to verify client's certificate: %v", err)
	}
	chains = slices.DeleteFunc(chains, c.anyRevoked)
	for _, r := range c.roles {
		if (name == "" || r.Name == name) && r.certs[0].IsCA && r.leads(chains) && r.allows(leaf) {
			return r, nil
		}
	}
	return nil, mistake("no chain matching all constraints could be found for this login certificate")
}

// anyRevoked looks at the serial numbers alone, whoever the issuer: so does
// Vault, and a name of an issuer that is written otherwise saves nobody.
func (c *CertRoles) anyRevoked(chain []*x509.Certificate) bool {
	return slices.ContainsFunc(chain, func(cert *x509.Certificate) bool { return c.revoked[cert.SerialNumber.String()] })
}

// leads tells whether one of the chains has an authority of the role.
func (r *CertRole) leads(chains [][]*x509.Certificate) bool {
	for _, chain := range chains {
		for _, cert := range chain {
			if slices.ContainsFunc(r.certs, cert.Equal) {
				return true
			}
		}
	}
	return false
}

// allows checks the names and extensions of the certificate itself.
func (r *CertRole) allows(leaf *x509.Certificate) bool {
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
		if len(rule.patterns) > 0 && !slices.ContainsFunc(rule.names, func(name string) bool { return globs(rule.patterns, name) }) {
			return false
		}
	}
	for _, e := range r.Extensions {
		rest, asHex := strings.CutPrefix(e, "hex:")
		oid, pattern, _ := strings.Cut(rest, ":")
		value, ok := extension(leaf, oid, asHex)
		if !ok || !Glob(pattern, value) {
			return false
		}
	}
	return true
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

// Identity is what to note of a client that has logged in with a certificate.
func (r *CertRole) Identity(leaf *x509.Certificate) (user string, meta map[string]string) {
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

// ParseCRL returns the serial numbers of a list of revoked certificates, in PEM
// or DER. Whose it is, and until when it counts, is for whoever writes it to see.
func ParseCRL(text []byte) (serials []string, err error) {
	if block, _ := pem.Decode(text); block != nil {
		text = block.Bytes
	}
	list, err := x509.ParseRevocationList(text)
	if err != nil {
		return nil, mistake("failed to parse CRL: %v", err)
	}
	for _, e := range list.RevokedCertificateEntries {
		serials = append(serials, e.SerialNumber.String())
	}
	return serials, nil
}

// parseCertificates reads certificates in PEM, at least one, and nothing else.
func parseCertificates(text string) (certs []*x509.Certificate, err error) {
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("has a %s in it: write certificates only", strings.ToLower(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("has a damaged certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 || strings.Contains(string(rest), "-----BEGIN") {
		return nil, errors.New("must be certificates in PEM")
	}
	return certs, nil
}
