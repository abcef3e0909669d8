package access

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// MaxJWT is the longest JWT that is looked at, in bytes.
const MaxJWT = 32 << 10

const (
	maxJWTKeys = 64   // that one mount believes
	minRSA     = 2048 // bits
)

// ErrKeys means that the keys which verify a JWT could not be fetched.
var ErrKeys = errors.New("the keys of the issuer cannot be fetched")

// jwtAlgorithms are all that a JWT may be signed with: none of them has a secret
// on this side, so that no public key can be taken for one.
var jwtAlgorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// A JWTConfig says whose tokens a mount of the method jwt believes. Exactly one
// of DiscoveryURL, JWKSURL and PublicKeys says where the keys are.
type JWTConfig struct {
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
func (c *JWTConfig) Check() error {
	sources := 0
	for _, given := range []bool{c.DiscoveryURL != "", c.JWKSURL != "", len(c.PublicKeys) > 0} {
		if given {
			sources++
		}
	}
	switch {
	case sources != 1:
		return mistake("exactly one of 'jwt_validation_pubkeys', 'jwks_url' or 'oidc_discovery_url' must be set")
	case strings.Contains(c.DiscoveryURL, ".well-known"):
		return mistake("'oidc_discovery_url' contains '.well-known' component")
	case c.DiscoveryCA != "" && c.DiscoveryURL == "":
		return mistake("'oidc_discovery_ca_pem' is of use with 'oidc_discovery_url' only")
	case c.JWKSCA != "" && c.JWKSURL == "":
		return mistake("'jwks_ca_pem' is of use with 'jwks_url' only")
	}
	for _, from := range []struct{ name, url, ca string }{
		{"oidc_discovery", c.DiscoveryURL, c.DiscoveryCA}, {"jwks", c.JWKSURL, c.JWKSCA},
	} {
		if from.url == "" {
			continue
		}
		if err := checkKeyURL(from.url); err != nil {
			return mistake("'%s_url' %v", from.name, err)
		}
		if from.ca != "" {
			if _, err := parseCertificates(from.ca); err != nil {
				return mistake("'%s_ca_pem' %v", from.name, err)
			}
		}
	}
	for _, name := range c.Algorithms {
		if !slices.Contains(jwtAlgorithms, jose.SignatureAlgorithm(name)) {
			return mistake("unsupported signing algorithm %q in 'jwt_supported_algs': it is one of %v", name, jwtAlgorithms)
		}
	}
	_, err := c.publicKeys()
	return err
}

// checkKeyURL wants TLS, since whoever changes the keys on the way logs in as
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

// publicKeys reads the keys of the configuration, each in PEM.
func (c *JWTConfig) publicKeys() (keys []jose.JSONWebKey, err error) {
	if len(c.PublicKeys) > maxJWTKeys {
		return nil, mistake("'jwt_validation_pubkeys' has at most %d keys", maxJWTKeys)
	}
	for i, text := range c.PublicKeys {
		key, err := parsePublicKey([]byte(text))
		if err != nil {
			return nil, mistake("error parsing public key %d of 'jwt_validation_pubkeys': %v", i+1, err)
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

// checkPublicKey tells whether JWTs may be verified with the key.
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

// Claims are what a verified JWT says. Numbers are [json.Number].
type Claims map[string]any

// A JWTVerifier verifies the JWTs of one configuration. Its methods may be
// called by several goroutines at once.
type JWTVerifier struct {
	issuer     string
	algorithms []jose.SignatureAlgorithm
	static     []jose.JSONWebKey
	remote     *keySet // nil with static keys
}

// NewJWTVerifier returns a verifier for a configuration that was checked. It
// fetches nothing yet.
func NewJWTVerifier(c JWTConfig, log *slog.Logger) (*JWTVerifier, error) {
	v := &JWTVerifier{issuer: c.Issuer, algorithms: jwtAlgorithms}
	if v.issuer == "" {
		v.issuer = c.DiscoveryURL
	}
	if len(c.Algorithms) > 0 {
		v.algorithms = nil
		for _, name := range c.Algorithms {
			v.algorithms = append(v.algorithms, jose.SignatureAlgorithm(name))
		}
	}
	var err error
	if len(c.PublicKeys) > 0 {
		v.static, err = c.publicKeys()
	} else {
		v.remote, err = newKeySet(c, log)
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// Probe fetches the keys, if they have to be, so that a wrong configuration is
// seen when it is written. The error tells why they cannot be had.
func (v *JWTVerifier) Probe(ctx context.Context) error {
	if v.remote == nil {
		return nil
	}
	_, err := v.remote.get(ctx)
	return err
}

// Verify checks the signature of a JWT and returns its claims, of which only
// iss has been looked at. The error is [ErrInvalid] when the JWT is of no use,
// [ErrKeys] when that cannot be told.
func (v *JWTVerifier) Verify(ctx context.Context, token string) (Claims, error) {
	if len(token) > MaxJWT {
		return nil, mistake("error validating token: it has more than %d bytes", MaxJWT)
	}
	signed, err := jose.ParseSignedCompact(token, v.algorithms)
	if err != nil {
		var other *jose.ErrUnexpectedSignatureAlgorithm
		if errors.As(err, &other) {
			return nil, mistake("error validating token: token signed with unexpected algorithm: it is none of %v", v.algorithms)
		}
		return nil, mistake("error validating token: it is no signed JWT in the compact form")
	}
	payload, err := v.payload(ctx, signed)
	if err != nil {
		return nil, err
	}
	claims := Claims{}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if err := d.Decode(&claims); err != nil || claims == nil || d.More() {
		return nil, mistake("error validating token: its claims are no JSON object")
	}
	if v.issuer != "" && claims["iss"] != v.issuer {
		return nil, mistake("error validating token: invalid issuer (iss) claim")
	}
	return claims, nil
}

// payload returns what a key of the configuration has signed.
func (v *JWTVerifier) payload(ctx context.Context, signed *jose.JSONWebSignature) (payload []byte, err error) {
	try := func(keys []jose.JSONWebKey) bool {
		payload = verifyBy(signed, keys)
		return payload != nil
	}
	if v.remote == nil {
		try(v.static)
	} else if err := v.remote.use(ctx, try); err != nil {
		return nil, err
	}
	if payload == nil {
		return nil, mistake("error validating token: no known key successfully validated the token signature")
	}
	return payload, nil
}

// verifyBy tries the keys that may have signed it. Keys without an ID are tried
// for every ID, and all for a JWT that names none.
func verifyBy(signed *jose.JSONWebSignature, keys []jose.JSONWebKey) (payload []byte) {
	header := signed.Signatures[0].Protected
	for i := range keys {
		key := &keys[i]
		if key.KeyID != "" && header.KeyID != "" && key.KeyID != header.KeyID ||
			key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if payload, err := signed.Verify(key.Key); err == nil {
			return payload
		}
	}
	return nil
}
