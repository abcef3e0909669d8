package seal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/wrappers/transit/v2"
	"github.com/hashicorp/vault/api"

	"github.com/sealkeep/sealkeep/config"
)

// transitEngine wraps data keys with a key of a Transit engine. The library's wrapper does the work. Making one renews
// the token and encrypts an "a". That ignores the context and is bounded only by Vault's client (VAULT_CLIENT_TIMEOUT, 60
// seconds if unset, and VAULT_MAX_RETRIES); attempt copes with that.
type transitEngine struct {
	server   *vaultServer
	settings map[string]string // the library's
	where    string

	mu     sync.Mutex
	live   *transitWrapper // the one made last, which renews the token
	closed bool
}

// transitWrapper is a wrapper of the library that knows whether its token's renewal has ended.
type transitWrapper struct {
	*transit.Wrapper
	over atomic.Bool // the library has given up, or was told to stop
}

// newTransitWrapper makes a wrapper that notices the end of the renewal. The library only reports that to its logger, and
// logs nothing else at this level.
func newTransitWrapper() (*transitWrapper, hclog.Logger) {
	w := &transitWrapper{Wrapper: transit.NewWrapper()}
	return w, hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: io.Discard, Exclude: func(level hclog.Level, _ string, _ ...any) bool {
		if level >= hclog.Info {
			w.over.Store(true)
		}
		return true
	}})
}

// transitSettings lists the library's settings that a seal block may have, under the same names.
var transitSettings = []string{"address", "token", "mount_path", "key_name", "namespace", "disable_renewal", "key_id_prefix",
	"tls_ca_cert", "tls_ca_path", "tls_client_cert", "tls_client_key", "tls_server_name", "tls_skip_verify"}

func newTransit(c config.Seal) (service, error) {
	server, err := newVaultServer(c)
	if err != nil {
		return nil, err
	}
	s := &transitEngine{server: server, settings: map[string]string{"key_id_prefix": c.Name + ":"}, where: "the transit engine at " + server.where}
	for _, name := range transitSettings {
		if v := c.Get(name); v != "" {
			s.settings[name] = v
		}
	}
	for _, name := range []string{"mount_path", "key_name"} {
		if s.settings[name] == "" {
			return nil, fmt.Errorf("%s is missing", name)
		}
	}
	if v := s.settings["disable_renewal"]; v != "" {
		if _, err := strconv.ParseBool(v); err != nil {
			return nil, fmt.Errorf("disable_renewal is %q: use true or false", v)
		}
	}
	if err := s.environment(); err != nil {
		return nil, err
	}
	return s, nil
}

// environment refuses variables that Vault's client would obey although the seal says something else. Variables that
// count by the rules of config are already in the settings.
func (s *transitEngine) environment() error {
	for _, name := range []string{api.EnvVaultAgentAddr, api.EnvVaultWrapTTL} {
		if os.Getenv(name) != "" {
			return fmt.Errorf("the variable %s would change every request of the seal: unset it for this process", name)
		}
	}
	ca := first(s.settings["tls_ca_cert"], s.settings["tls_ca_path"])
	for _, v := range []struct{ name, key, value string }{
		{api.EnvVaultCACert, "tls_ca_cert", ca},
		{api.EnvVaultCACertBytes, "tls_ca_cert", ca},
		{api.EnvVaultCAPath, "tls_ca_path", ca},
		{api.EnvVaultClientCert, "tls_client_cert", s.settings["tls_client_cert"]},
		{api.EnvVaultTLSServerName, "tls_server_name", s.settings["tls_server_name"]},
		{api.EnvVaultNamespace, "namespace", s.settings["namespace"]},
	} {
		if os.Getenv(v.name) != "" && v.value == "" {
			return fmt.Errorf("the variable %s would count, though the seal has no %s: unset it for this process, or set %[2]s", v.name, v.key)
		}
	}
	skip, _ := strconv.ParseBool(s.settings["tls_skip_verify"])
	if v, err := strconv.ParseBool(os.Getenv(api.EnvVaultSkipVerify)); err == nil && v && !skip {
		return fmt.Errorf("the variable %s would turn off the check of certificates, though the seal does not: unset it, or set tls_skip_verify", api.EnvVaultSkipVerify)
	}
	return nil
}

func (s *transitEngine) secrets() []string { return s.server.secrets() }

func (s *transitEngine) tokenTTL() (time.Duration, bool) { return s.server.tokenTTL() }

// connect makes a wrapper, which replaces the last one.
func (s *transitEngine) connect(ctx context.Context) (client, error) {
	asker, err := s.server.open(ctx)
	if err != nil {
		return nil, err
	}
	settings := maps.Clone(s.settings)
	settings["token"] = asker.token
	w, log := newTransitWrapper()
	if _, err := w.SetConfig(ctx, wrapping.WithConfigMap(settings), wrapping.WithDisallowEnvVars(true), transit.WithLogger(log)); err != nil {
		return nil, s.answer("encrypting", err) // w has no client: Finalize would panic
	}
	s.mu.Lock()
	old := s.live
	s.live = w
	if s.closed {
		old, s.live = w, nil
	}
	s.mu.Unlock()
	finalize(old)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &transitClient{s, w, asker}, nil
}

func (s *transitEngine) close() {
	s.mu.Lock()
	old := s.live
	s.live, s.closed = nil, true
	s.mu.Unlock()
	finalize(old)
}

func (s *transitEngine) warning() string {
	if w := s.server.warning(); w != "" {
		return w
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil || !s.live.over.Load() || s.server.neverEnds() {
		return ""
	}
	return "the token for " + s.where + " is no longer renewed: when its TTL ends this seal opens nothing more. " + wantToken
}

// finalize ends the renewal. The wrapper's method lacks the options of wrapping.InitFinalizer, so a type assertion would
// miss it.
func finalize(w *transitWrapper) {
	if w != nil {
		w.Finalize(context.Background())
	}
}

// answer classifies the errors of Vault's API. It has only HTTP status codes, and 400 for anything wrong with the request,
// but the operation narrows that down: before a key decrypts anything, it has already encrypted.
func (s *transitEngine) answer(op string, err error) error {
	e, ok := errors.AsType[*api.ResponseError](err)
	if !ok {
		return fmt.Errorf("%s: %w", op, err)
	}
	kind := status(e.StatusCode)
	switch {
	case e.StatusCode == http.StatusBadRequest && op == "decrypting":
		kind = BlobMismatch
	case e.StatusCode == http.StatusBadRequest:
		kind = KeyNotFound
	}
	text := s.explain(kind)
	if kind == AuthDenied {
		s.server.denied()
		mount, name, missing := strings.Trim(s.settings["mount_path"], "/"), s.settings["key_name"], ""
		if op == "encrypting" { // which makes keys, by a policy with create
			missing = ", or there is no key " + name
		}
		text = fmt.Sprintf("not allowed: %s with %s: the token has expired or was revoked, or its policy lacks update on %s/encrypt/%s and %[3]s/decrypt/%[4]s%s: make a new token, or correct the policy",
			op, s.where, mount, name, missing)
	}
	return &Error{Kind: kind, Text: text, Err: err}
}

func (s *transitEngine) explain(c Class) string {
	switch c {
	case DNS:
		return "the host name of " + s.where + " does not resolve: check the address and this machine's resolver"
	case TLS:
		return "there is no TLS connection to " + s.where + ": check its certificate and tls_ca_cert, tls_server_name, tls_client_cert, or the scheme of the address"
	case KeyNotFound:
		return s.where + " has no key " + s.settings["key_name"] + " at the mount " + s.settings["mount_path"] + ", or it is soft-deleted there: check key_name, mount_path and namespace"
	case Throttled:
		return s.where + " has had too many requests: it is tried again; if this lasts, raise its quota"
	case BlobMismatch:
		return "the transit key " + s.settings["key_name"] + " does not decrypt the blob's data key: another key made it, it was altered, " +
			"or min_decryption_version excludes its version"
	}
	return s.where + " does not answer as it should: check that it runs, is unsealed and can be reached from here"
}

// transitClient is a connected wrapper.
type transitClient struct {
	s     *transitEngine
	w     *transitWrapper
	asker *vaultClient
}

// keyID returns the ID known from the library's own encryption, for which connect waited.
func (c *transitClient) keyID(ctx context.Context) (string, error) {
	unrenewed, _ := strconv.ParseBool(c.s.settings["disable_renewal"])
	_, _ = c.asker.lookUp(ctx, !unrenewed) // only Warning and TokenTTL depend on it
	return c.w.KeyId(ctx)
}

func (c *transitClient) wrap(ctx context.Context, key []byte) ([]byte, string, error) {
	info, err := c.w.Encrypt(ctx, key)
	if err != nil {
		return nil, "", c.s.answer("encrypting", err)
	}
	return info.Ciphertext, info.KeyInfo.KeyId, nil
}

func (c *transitClient) unwrap(ctx context.Context, wrapped []byte, _ string) ([]byte, error) {
	key, err := c.w.Decrypt(ctx, &wrapping.BlobInfo{Ciphertext: wrapped})
	if err != nil {
		return nil, c.s.answer("decrypting", err)
	}
	return key, nil
}
