package server

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/storage"
)

// certMethod is the login with a TLS client certificate.
var certMethod = authMethod{
	routes: append(certRoles.routes(),
		oldRoute{path: "config", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readCertConfig, opWrite: writeCertConfig}},
		oldRoute{path: "crls", gate: authenticated, on: [ops]handler{opList: listCRLs}},
		oldRoute{path: "crls/*", named: true, gate: authenticated, body: bodyKV, timeout: timeoutShort, on: [ops]handler{opRead: readCRL, opWrite: writeCRL, opDelete: deleteCRL}},
		oldRoute{path: "login", gate: unsealed, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: loginCert}},
	),
	renew: renewCert,
	prove: proveCert,
}

var certRoles = methodRole[access.CertRole]{
	path: strings.TrimPrefix(access.CertFolder, "/"), cached: true,
	new: func(name string) *access.CertRole {
		return &access.CertRole{Name: name}
	},
	check: func(r *access.CertRole) interface{ Check() error } { return r },
	view: func(r *access.CertRole) map[string]any {
		texts := func(list []string) []string { return append([]string{}, list...) } // [], never null
		return viewParams(&r.TokenParams, map[string]any{
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
	},
	edit: editCertRole,
}

func editCertRole(r *request) (apply func(*access.CertRole) ([]string, error), err error) {
	var in struct {
		tokenFields
		Certificate *string         `json:"certificate"`
		DisplayName *string         `json:"display_name"`
		Names       loose[[]string] `json:"allowed_names"`
		CommonNames loose[[]string] `json:"allowed_common_names"`
		DNSNames    loose[[]string] `json:"allowed_dns_sans"`
		Emails      loose[[]string] `json:"allowed_email_sans"`
		URIs        loose[[]string] `json:"allowed_uri_sans"`
		Units       loose[[]string] `json:"allowed_organizational_units"`
		Extensions  loose[[]string] `json:"required_extensions"`
		Metadata    loose[[]string] `json:"allowed_metadata_extensions"`
		OCSP        loose[bool]     `json:"ocsp_enabled"`
	}
	if err := r.settings(&in); err != nil {
		return nil, err
	}
	if in.OCSP.value {
		return nil, invalid("ocsp_enabled is not supported: write lists of revoked certificates below %scrls/", "auth/"+r.Mount.Path)
	}
	return func(role *access.CertRole) ([]string, error) {
		set(&role.Certificate, in.Certificate)
		set(&role.DisplayName, in.DisplayName)
		role.DisplayName = cmp.Or(role.DisplayName, role.Name)
		set(&role.Names, in.Names.pointer())
		set(&role.CommonNames, in.CommonNames.pointer())
		set(&role.DNSNames, in.DNSNames.pointer())
		set(&role.Emails, in.Emails.pointer())
		set(&role.URIs, in.URIs.pointer())
		set(&role.Units, in.Units.pointer())
		set(&role.Extensions, in.Extensions.pointer())
		set(&role.Metadata, in.Metadata.pointer())
		return in.apply(&role.TokenParams)
	}, nil
}

func readCertConfig(s *Server, r *request) (answer, error) {
	var c access.CertConfig
	err := r.viewMethod(func(tx *storage.Tx, folder string) (err error) {
		c, err = access.ReadCertConfig(tx, folder)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return answer{data: c}, nil
}

func writeCertConfig(s *Server, r *request) (answer, error) {
	var in struct {
		DisableBinding loose[bool] `json:"disable_binding"`
	}
	if err := r.settings(&in); err != nil {
		return answer{}, err
	}
	return answer{}, r.updateMethod(func(tx *storage.Tx, folder string) error {
		c, err := access.ReadCertConfig(tx, folder)
		if err != nil {
			return err
		}
		set(&c.DisableBinding, in.DisableBinding.pointer())
		return access.WriteCertConfig(tx, folder, c)
	})
}

func listCRLs(s *Server, r *request) (answer, error) { return r.listNames("crls") }

func readCRL(s *Server, r *request) (answer, error) {
	var serials []string
	err := r.viewMethod(func(tx *storage.Tx, folder string) (err error) {
		serials, err = access.ReadCRL(tx, folder, r.rest)
		return err
	})
	if err == nil && serials == nil {
		err = invalid("no such CRL %s", strings.ToLower(r.rest))
	}
	if err != nil {
		return answer{}, err
	}
	data := make(map[string]struct{})
	for _, serial := range serials {
		data[serial] = struct{}{}
	}
	return answer{data: map[string]any{"serials": data}}, nil
}

func writeCRL(s *Server, r *request) (answer, error) {
	var in struct {
		CRL string `json:"crl"`
		URL string `json:"url"`
	}
	if err := r.settings(&in); err != nil {
		return answer{}, err
	}
	switch {
	case in.URL != "":
		return answer{}, invalid("lists are not fetched: write the list itself as crl, again whenever there is a newer one")
	case in.CRL == "":
		return answer{}, invalid("'crl' must be provided")
	}
	serials, err := access.ParseCRL([]byte(in.CRL))
	if err != nil {
		return answer{}, err
	}
	list, err := access.EncodeCRL(serials)
	if err != nil {
		return answer{}, err
	}
	defer r.keep.logins.forget(r.Mount.UUID)
	return answer{}, r.updateMethod(func(tx *storage.Tx, folder string) error { return access.WriteCRL(tx, folder, r.rest, list) })
}

func deleteCRL(s *Server, r *request) (answer, error) {
	defer r.keep.logins.forget(r.Mount.UUID)
	return answer{}, r.updateMethod(func(tx *storage.Tx, folder string) error { return access.DeleteCRL(tx, folder, r.rest) })
}

// certHash names a certificate.
func certHash(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func loginCert(s *Server, r *request) (answer, error) {
	var in struct {
		Name string `json:"name"`
	}
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	shown, err := r.Certificates()
	if err != nil {
		return answer{}, err
	}
	leaf := shown[0]
	return s.tryLogin(r, certHash(leaf), func() (answer, error) {
		roles, err := r.certLogins(r.Mount.UUID, r.Mount.Prefix())
		if err != nil {
			return answer{}, err
		}
		role, err := roles.Match(shown, access.CanonicalName(in.Name), s.now())
		if err != nil {
			return answer{}, err
		}
		return s.login(r, func(tx *storage.Tx, folder string) (*access.Login, error) {
			c, err := access.ReadCertConfig(tx, folder)
			if err != nil {
				return nil, err
			}
			l := &access.Login{DisplayName: role.DisplayName, Name: role.Name, Params: role.TokenParams}
			if _, l.Meta = role.Identity(leaf); !c.DisableBinding {
				l.Certificate = certHash(leaf)
			}
			return l, nil
		})
	})
}

// certLogins are the roles of a method, ready for logins. They are parsed after
// they have been read, once after each change.
func (r *request) certLogins(uuid, folder string) (*access.CertRoles, error) {
	return cached(&r.keep.logins, uuid, func() (roles *access.CertRoles, err error) {
		err = r.keep.store.View(r.Context, func(tx *storage.Tx) error {
			roles, err = access.ReadCertRoles(tx, folder)
			return err
		})
		return roles, err
	})
}

// renewCert takes the role as it is now, if it has the token's policies.
func renewCert(_ *request, tx *storage.Tx, folder string, t *access.Token) (*access.TokenParams, error) {
	role, err := certRoles.renew(tx, folder, t.Login)
	if err != nil {
		return nil, err
	}
	if !role.Same(t.Policies) {
		return nil, invalid("policies have changed, not renewing")
	}
	return &role.TokenParams, nil
}

// proveCert wants the certificate of the login again, and that it could still log
// in. The signatures are checked here, before the transaction.
func proveCert(r *request, folder string, t *access.Token) error {
	if t.Certificate == "" {
		return nil
	}
	shown, err := r.Certificates()
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(certHash(shown[0])), []byte(t.Certificate)) != 1 {
		return invalid("client identity during renewal not matching client identity used during login")
	}
	roles, err := r.certLogins(t.Method, folder)
	if err != nil {
		return err
	}
	_, err = roles.Match(shown, t.Login, r.keep.now())
	return err
}
