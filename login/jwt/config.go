package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/storage"
)

const (
	maxKeys = 64   // of one mount
	minRSA  = 2048 // bits
)

// algorithms are all that a JWT may be signed with. None of them has a secret on this
// side, so that no public key can be taken for one.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// A Config says whose JWTs a mount believes. Exactly one of DiscoveryURL, JWKSURL and
// PublicKeys says where the keys are.
type Config struct {
	DiscoveryURL string   `json:"oidc_discovery_url"`     // of the issuer; https, but on the same machine
	DiscoveryCA  string   `json:"oidc_discovery_ca_pem"`  // authorities of that URL; "": the system's
	JWKSURL      string   `json:"jwks_url"`               // of a JSON Web Key Set; https, but on the same machine
	JWKSCA       string   `json:"jwks_ca_pem"`            // authorities of that URL; "": the system's
	PublicKeys   []string `json:"jwt_validation_pubkeys"` // PEM: public keys or certificates
	Algorithms   []string `json:"jwt_supported_algs"`     // empty: RS, PS and ES with 256, 384 and 512 bits, and EdDSA
	Issuer       string   `json:"bound_issuer"`           // claim iss; "": any, or DiscoveryURL where that is set
	DefaultRole  string   `json:"default_role"`           // of a login that names none
}

// Check says what is wrong with the configuration; it fetches nothing.
func (c *Config) Check() error {
	sources := 0
	for _, given := range []bool{c.DiscoveryURL != "", c.JWKSURL != "", len(c.PublicKeys) > 0} {
		if given {
			sources++
		}
	}
	switch {
	case sources != 1:
		return api.Invalid.Errorf("exactly one of 'jwt_validation_pubkeys', 'jwks_url' or 'oidc_discovery_url' must be set")
	case strings.Contains(c.DiscoveryURL, ".well-known"):
		return api.Invalid.Errorf("'oidc_discovery_url' contains '.well-known' component")
	case c.DiscoveryCA != "" && c.DiscoveryURL == "":
		return api.Invalid.Errorf("'oidc_discovery_ca_pem' is of use with 'oidc_discovery_url' only")
	case c.JWKSCA != "" && c.JWKSURL == "":
		return api.Invalid.Errorf("'jwks_ca_pem' is of use with 'jwks_url' only")
	}
	for _, from := range []struct{ name, url, ca string }{
		{"oidc_discovery", c.DiscoveryURL, c.DiscoveryCA}, {"jwks", c.JWKSURL, c.JWKSCA},
	} {
		if from.url == "" {
			continue
		}
		if err := checkKeyURL(from.url); err != nil {
			return api.Invalid.Errorf("'%s_url' %v", from.name, err)
		}
		if from.ca != "" {
			if _, err := login.ParseCertificates(from.ca); err != nil {
				return api.Invalid.Errorf("'%s_ca_pem' %v", from.name, err)
			}
		}
	}
	for _, name := range c.Algorithms {
		if !slices.Contains(algorithms, jose.SignatureAlgorithm(name)) {
			return api.Invalid.Errorf("unsupported signing algorithm %q in 'jwt_supported_algs': it is one of %v", name, algorithms)
		}
	}
	_, err := c.publicKeys()
	return err
}

// checkKeyURL demands TLS: whoever can change the keys on their way can log in as
// anybody.
func checkKeyURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil {
		return errors.New("is no URL: write one like https://issuer.example.com")
	}
	switch addr, err := netip.ParseAddr(u.Hostname()); {
	case u.Scheme == "https":
	case u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && addr.IsLoopback()):
	default:
		return errors.New("must begin with https://, unless it is on this machine")
	}
	return nil
}

// publicKeys parses the keys of the configuration, each in PEM.
func (c *Config) publicKeys() (keys []jose.JSONWebKey, err error) {
	if len(c.PublicKeys) > maxKeys {
		return nil, api.Invalid.Errorf("'jwt_validation_pubkeys' has at most %d keys", maxKeys)
	}
	for i, text := range c.PublicKeys {
		key, err := parsePublicKey([]byte(text))
		if err != nil {
			return nil, api.Invalid.Errorf("error parsing public key %d of 'jwt_validation_pubkeys': %v", i+1, err)
		}
		keys = append(keys, jose.JSONWebKey{Key: key})
	}
	return keys, nil
}

func parsePublicKey(text []byte) (key any, err error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("data does not contain any valid public keys")
	}
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	default:
		return nil, fmt.Errorf("it is a %s: write the public key", strings.ToLower(block.Type))
	}
	if err != nil {
		return nil, err
	}
	return key, checkPublicKey(key)
}

// checkPublicKey refuses a key that JWTs are not verified with.
func checkPublicKey(key any) error {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSA {
			return fmt.Errorf("RSA keys have at least %d bits", minRSA)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return errors.New("it is no RSA, ECDSA or Ed25519 public key")
	}
	return nil
}

// readConfig returns the configuration of a mount, nil before there is one.
func readConfig(tx *storage.Tx, folder string) (*Config, error) {
	c := new(Config)
	if found, err := login.ReadRecord(tx, folder+configFile, configKind, c); err != nil || !found {
		return nil, err
	}
	return c, nil
}

// Where the configuration lies, and what it is called in errors.
const (
	configFile = "/config"
	configKind = "a record of a login method"
)

func getConfig(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	c, err := readConfig(tx, r.Prefix())
	if err == nil && c == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: c}, nil
}

// configInput is a whole configuration: what it does not name is empty then.
type configInput struct {
	DiscoveryURL string         `json:"oidc_discovery_url"`
	DiscoveryCA  string         `json:"oidc_discovery_ca_pem"`
	JWKSURL      string         `json:"jwks_url"`
	JWKSCA       string         `json:"jwks_ca_pem"`
	PublicKeys   []string       `json:"jwt_validation_pubkeys"`
	Algorithms   []string       `json:"jwt_supported_algs"`
	Issuer       string         `json:"bound_issuer"`
	DefaultRole  string         `json:"default_role"`
	Skip         bool           `json:"skip_jwks_validation"`
	ClientID     string         `json:"oidc_client_id"`
	ClientSecret string         `json:"oidc_client_secret"`
	Provider     map[string]any `json:"provider_config"`
	ServerNames  []string       `json:"override_allowed_server_names"`
}

// putConfig replaces the configuration, after the keys have been fetched with it.
// Those fetched before are forgotten, also if it is the same as before.
func (m *method) putConfig(r *api.Request, in *configInput) (a api.Answer, err error) {
	switch {
	case in.ClientID != "", in.ClientSecret != "":
		return a, api.Invalid.Errorf("oidc_client_id and oidc_client_secret are for the login in a browser, which is not supported: leave them out")
	case len(in.Provider) > 0:
		return a, api.Invalid.Errorf("provider_config is not supported: leave it out")
	case len(in.ServerNames) > 0:
		return a, api.Invalid.Errorf("override_allowed_server_names is not supported: the certificate has to have the name that the URL has")
	}
	c := Config{
		DiscoveryURL: in.DiscoveryURL, DiscoveryCA: in.DiscoveryCA, JWKSURL: in.JWKSURL, JWKSCA: in.JWKSCA,
		PublicKeys: append([]string{}, in.PublicKeys...), Algorithms: append([]string{}, in.Algorithms...),
		Issuer: in.Issuer, DefaultRole: access.CanonicalName(in.DefaultRole),
	}
	if err := c.Check(); err != nil {
		return a, err
	}
	v, err := NewVerifier(c, r.Frame.Log())
	if err != nil {
		return a, err
	}
	if err := v.Probe(r.Context); err != nil {
		what := "error checking jwks URL: "
		if c.DiscoveryURL != "" {
			what = "error checking oidc discovery URL: "
		}
		if !in.Skip {
			return a, api.Invalid.Errorf("%s%v", what, err)
		}
		a.Warnings = append(a.Warnings, what+err.Error())
	}
	err = r.Update(func(tx *storage.Tx) error {
		return login.WriteRecord(tx, r.Prefix()+configFile, configKind, &c)
	})
	if err != nil {
		return api.Answer{}, err
	}
	m.issuers.Forget(r.Mount.UUID)
	return a, nil
}
