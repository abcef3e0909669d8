package jwt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"

	"github.com/go-jose/go-jose/v4"

	"github.com/sealkeep/sealkeep/api"
)

// MaxSize is the longest JWT that is looked at, in bytes.
const MaxSize = 32 << 10

// Claims are what a verified JWT says. Numbers are [json.Number].
type Claims map[string]any

// A Verifier verifies the JWTs of one configuration. Several goroutines may call its
// methods at once.
type Verifier struct {
	issuer     string
	algorithms []jose.SignatureAlgorithm
	static     []jose.JSONWebKey
	remote     *keySet // nil with static keys
}

// NewVerifier returns a verifier for a configuration that has been checked. It
// fetches nothing yet.
func NewVerifier(c Config, log *slog.Logger) (*Verifier, error) {
	v := &Verifier{issuer: c.Issuer, algorithms: algorithms}
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

// Probe fetches the keys of a configuration that has them fetched, so that a mistake
// in it shows when it is written. The error says why they could not be fetched.
func (v *Verifier) Probe(ctx context.Context) error {
	if v.remote == nil {
		return nil
	}
	_, err := v.remote.get(ctx)
	return err
}

// Verify checks the signature of a JWT and returns its claims, of which it checks only
// iss. The error is api.Invalid for a JWT that proves nothing, and [ErrKeys] when the
// keys to check it with could not be fetched.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	if len(token) > MaxSize {
		return nil, api.Invalid.Errorf("error validating token: it has more than %d bytes", MaxSize)
	}
	signed, err := jose.ParseSignedCompact(token, v.algorithms)
	if err != nil {
		var other *jose.ErrUnexpectedSignatureAlgorithm
		if errors.As(err, &other) {
			return nil, api.Invalid.Errorf("error validating token: token signed with unexpected algorithm: it is none of %v", v.algorithms)
		}
		return nil, api.Invalid.Errorf("error validating token: it is no signed JWT in the compact form")
	}
	payload, err := v.payload(ctx, signed)
	if err != nil {
		return nil, err
	}
	claims := Claims{}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if err := d.Decode(&claims); err != nil || claims == nil || d.More() {
		return nil, api.Invalid.Errorf("error validating token: its claims are no JSON object")
	}
	if v.issuer != "" && claims["iss"] != v.issuer {
		return nil, api.Invalid.Errorf("error validating token: invalid issuer (iss) claim")
	}
	return claims, nil
}

// payload returns what one of the configuration's keys has signed.
func (v *Verifier) payload(ctx context.Context, signed *jose.JSONWebSignature) (payload []byte, err error) {
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
		return nil, api.Invalid.Errorf("error validating token: no known key successfully validated the token signature")
	}
	return payload, nil
}

// verifyBy tries the keys that may have signed it, and returns nil when none has. A
// key without an ID may have signed any JWT, and any key a JWT that names none.
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
