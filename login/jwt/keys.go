package jwt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
)

// How the keys of an issuer are fetched:
//
//	keysTimeout  of both requests together, discovery and keys
//	keysSize     bytes of an answer at most, and of its headers
//	keysFresh    the age at which keys are fetched again, so that a withdrawn key ends
//	keysRetry    between two fetches because no key fits, however many JWTs come
//	keysOld      between two fetches of keys that fit and are merely old
const (
	keysTimeout = 5 * time.Second
	keysSize    = 256 << 10
	keysFresh   = time.Hour
	keysRetry   = 10 * time.Second
	keysOld     = time.Minute
)

// A keySet holds the keys that an issuer publishes. Keys that have been fetched stay in
// use while newer ones cannot be fetched.
type keySet struct {
	discovery, url string // one of the two
	client         *http.Client
	log            *slog.Logger
	now            func() time.Time

	mu       sync.Mutex
	keys     []jose.JSONWebKey // never changed in place
	fetches  int               // that have ended
	fetched  time.Time         // when the last one that brought keys ended
	tried    time.Time         // when the last one ended
	fetching chan struct{}     // closed when the one under way ends; nil: none is
}

func newKeySet(c Config, log *slog.Logger) (*keySet, error) {
	s := &keySet{discovery: c.DiscoveryURL, url: c.JWKSURL, log: log, now: time.Now}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca := c.DiscoveryCA + c.JWKSCA; ca != "" { // there is one of the two
		certs, err := login.ParseCertificates(ca)
		if err != nil {
			return nil, api.Invalid.Errorf("the authorities of the issuer: %v", err)
		}
		conf.RootCAs = x509.NewCertPool()
		for _, cert := range certs {
			conf.RootCAs.AddCert(cert)
		}
	}
	s.client = &http.Client{
		// A connection is not kept: the next fetch is an hour away.
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, DisableKeepAlives: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: keysSize,
		},
		// Only the server whose name was written says where the keys are.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, nil
}

// use calls try with the keys until it reports that one fits, or no newer keys can be
// fetched now. The error is [ErrKeys] when none have ever been fetched.
func (s *keySet) use(ctx context.Context, try func([]jose.JSONWebKey) bool) error {
	for {
		s.mu.Lock()
		keys, fetches := s.keys, s.fetches
		s.mu.Unlock()
		fits := try(keys)
		s.mu.Lock()
		now, wait := s.now(), s.fetching
		old, pause := now.Sub(s.fetched) >= keysFresh, now.Sub(s.tried)
		switch {
		case fetches != s.fetches: // there are newer ones
			s.mu.Unlock()
			continue
		case fits && (!old || wait != nil || pause < keysOld):
			s.mu.Unlock()
			return nil
		case wait == nil && fetches > 0 && pause < keysRetry:
			s.mu.Unlock()
			if keys == nil {
				return ErrKeys
			}
			return nil
		case wait == nil:
			s.fetching = make(chan struct{})
		}
		s.mu.Unlock()
		if wait == nil {
			s.fetch(ctx)
			continue
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fetch fetches the keys for every login that waits for them. It goes on when the
// client of the login that began it has gone.
func (s *keySet) fetch(ctx context.Context) {
	var keys []jose.JSONWebKey
	defer func() { // also when a key makes the library panic
		s.mu.Lock()
		defer s.mu.Unlock()
		s.tried = s.now()
		if keys != nil {
			s.keys, s.fetched = keys, s.tried
		}
		s.fetches++
		close(s.fetching)
		s.fetching = nil
	}()
	var err error
	if keys, err = s.get(context.WithoutCancel(ctx)); err != nil {
		s.log.Warn("the keys of an issuer of JWTs cannot be fetched, those fetched before stay in use", "error", err)
	}
}

// get fetches the keys.
func (s *keySet) get(ctx context.Context) ([]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	from := s.url
	if s.discovery != "" {
		var found struct {
			Issuer string `json:"issuer"`
			Keys   string `json:"jwks_uri"`
		}
		if err := s.read(ctx, strings.TrimSuffix(s.discovery, "/")+"/.well-known/openid-configuration", &found); err != nil {
			return nil, err
		}
		if found.Issuer != s.discovery {
			return nil, fmt.Errorf("the issuer calls itself %q, not %q: write what it says", bareURL(found.Issuer), bareURL(s.discovery))
		}
		if err := checkKeyURL(found.Keys); err != nil {
			return nil, fmt.Errorf("the jwks_uri of the issuer %w", err)
		}
		from = found.Keys
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := s.read(ctx, from, &set); err != nil {
		return nil, err
	}
	keys := publicKeys(set.Keys)
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has no public key for signatures", bareURL(from))
	}
	return keys, nil
}

// publicKeys returns the keys of a set that can verify JWTs. It leaves out keys for
// other uses and of kinds that it does not know.
func publicKeys(set []json.RawMessage) (keys []jose.JSONWebKey) {
	for _, raw := range set {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) != nil || key.Use != "" && key.Use != "sig" || checkPublicKey(key.Key) != nil || !key.Valid() {
			continue
		}
		if keys = append(keys, key); len(keys) == maxKeys {
			break
		}
	}
	return keys
}

// read fetches a JSON object.
func (s *keySet) read(ctx context.Context, from string, into any) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return withoutURL(err)
	}
	q.Header.Set("Accept", "application/json")
	a, err := s.client.Do(q)
	from = bareURL(from)
	if err != nil {
		return fmt.Errorf("fetching %s: %w", from, withoutURL(err))
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", from, a.Status)
	}
	b, err := io.ReadAll(io.LimitReader(a.Body, keysSize+1))
	switch {
	case err != nil:
		return fmt.Errorf("reading %s: %w", from, err)
	case len(b) > keysSize:
		return fmt.Errorf("%s has more than %d bytes", from, keysSize)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s is no JSON of the expected form", from)
	}
	return nil
}

// bareURL returns a URL as errors show it: what follows "?" may be a secret.
func bareURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "the URL"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// withoutURL returns the error of an HTTP client without the URL in it.
func withoutURL(err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err
	}
	return err
}
