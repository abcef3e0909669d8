package cert

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/storage"
)

// A Role says which client certificates log in, and what their tokens are like. In
// the lists of names "*" stands for any text. An empty list allows every certificate,
// and of each other list one must match a name of the certificate.
type Role struct {
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
	access.TokenParams

	certs []*x509.Certificate // parsed by Check
}

// Check says what is wrong with the role, and makes it ready for [Roles].
func (r *Role) Check() error {
	certs, err := login.ParseCertificates(r.Certificate)
	if err != nil {
		return api.Invalid.Errorf("failed to parse certificate: it %v", err)
	}
	if leaf := certs[0]; !leaf.IsCA && !forClients(leaf) {
		return api.Invalid.Errorf("nonCA certificates should have TLS client authentication set as an extended key usage")
	}
	for _, e := range r.Extensions {
		if oid, _, ok := strings.Cut(strings.TrimPrefix(e, "hex:"), ":"); !ok || !isOID(oid) {
			return api.Invalid.Errorf("required extension %q is not like 1.2.3.4:value", e)
		}
	}
	for _, oid := range r.Metadata {
		if !isOID(oid) {
			return api.Invalid.Errorf("metadata extension %q is not like 1.2.3.4", oid)
		}
	}
	r.certs = certs
	return r.TokenParams.Check()
}

func isOID(text string) bool {
	_, err := x509.ParseOID(text)
	return err == nil
}

// forClients reports whether a certificate may be shown by a TLS client.
func forClients(c *x509.Certificate) bool {
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// roleInput is what a request says of a role. What is nil is not changed.
type roleInput struct {
	login.TokenFields
	Certificate *string   `json:"certificate"`
	DisplayName *string   `json:"display_name"`
	Names       *[]string `json:"allowed_names"`
	CommonNames *[]string `json:"allowed_common_names"`
	DNSNames    *[]string `json:"allowed_dns_sans"`
	Emails      *[]string `json:"allowed_email_sans"`
	URIs        *[]string `json:"allowed_uri_sans"`
	Units       *[]string `json:"allowed_organizational_units"`
	Extensions  *[]string `json:"required_extensions"`
	Metadata    *[]string `json:"allowed_metadata_extensions"`
	OCSP        bool      `json:"ocsp_enabled"`
}

var roles = login.Roles[Role, roleInput]{
	Path: "certs", Help: "A role: which certificates log in by it, and what their tokens are like.",
	New:   func(name string) *Role { return &Role{Name: name} },
	View:  viewRole,
	Edit:  editRole,
	Check: (*Role).Check,
}

func viewRole(r *Role) map[string]any {
	texts := func(list []string) []string { return append([]string{}, list...) } // [], never null
	return login.ViewParams(&r.TokenParams, map[string]any{
		"certificate":                  r.Certificate,
		"display_name":                 r.DisplayName,
		"allowed_names":                texts(r.Names),
		"allowed_common_names":         texts(r.CommonNames),
		"allowed_dns_sans":             texts(r.DNSNames),
		"allowed_email_sans":           texts(r.Emails),
		"allowed_uri_sans":             texts(r.URIs),
		"allowed_organizational_units": texts(r.Units),
		"required_extensions":          texts(r.Extensions),
		"allowed_metadata_extensions":  texts(r.Metadata),
		"ocsp_enabled":                 false,
	})
}

func editRole(r *api.Request, in *roleInput, role *Role) ([]string, error) {
	if in.OCSP {
		return nil, api.Invalid.Errorf("ocsp_enabled is not supported: write lists of revoked certificates below auth/%scrls/", r.Mount.Path)
	}
	api.Set(&role.Certificate, in.Certificate)
	api.Set(&role.DisplayName, in.DisplayName)
	role.DisplayName = cmp.Or(role.DisplayName, role.Name)
	api.Set(&role.Names, in.Names)
	api.Set(&role.CommonNames, in.CommonNames)
	api.Set(&role.DNSNames, in.DNSNames)
	api.Set(&role.Emails, in.Emails)
	api.Set(&role.URIs, in.URIs)
	api.Set(&role.Units, in.Units)
	api.Set(&role.Extensions, in.Extensions)
	api.Set(&role.Metadata, in.Metadata)
	return in.Apply(&role.TokenParams)
}

// readRoles reads all that the logins of a mount need.
func readRoles(tx *storage.Tx, folder string) (*Roles, error) {
	names, err := tx.List(folder + "/" + roles.Path)
	if err != nil {
		return nil, err
	}
	var all []*Role
	for _, name := range names {
		r, err := roles.Get(tx, folder, name)
		if err != nil {
			return nil, fmt.Errorf("reading the role %q: %w", name, err)
		}
		if err := r.Check(); err != nil { // it was right when it was written
			return nil, fmt.Errorf("reading the role %q: %w: %v", name, storage.ErrFormat, err)
		}
		all = append(all, r)
	}
	revoked, err := readCRLs(tx, folder)
	if err != nil {
		return nil, err
	}
	return NewRoles(all, revoked...), nil
}
