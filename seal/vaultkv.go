package seal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/sealkeep/sealkeep/config"
)

// vaultKV wraps data keys with a key that is kept as a secret in a KV version 2 engine of Vault or OpenBao. The key is
// read for each attempt and not kept. Blobs wrapped with an older version of the secret still open.
type vaultKV struct {
	*vaultServer
	path string // of the API: mount/data/name
	kept kvVersion
}

// kvField is the field of the secret that holds the key.
const kvField = "key"

// oldVersions is how many versions before the newest one are searched for the key of a blob. By default a KV engine keeps
// ten in total.
const oldVersions = 10

func newVaultKV(c config.Seal) (service, error) {
	server, err := newVaultServer(c)
	if err != nil {
		return nil, err
	}
	s := &vaultKV{vaultServer: server, path: strings.Trim(c.Get("key_path"), "/")}
	if s.path == "" {
		return nil, errors.New("key_path is missing: give the path of the secret, such as kv/data/sealkeep")
	}
	return s, nil
}

func (s *vaultKV) close() {}

// connect renews the token and reads the key.
func (s *vaultKV) connect(ctx context.Context) (client, error) {
	c, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	renewed := s.settings["token"] != "" && c.renew(ctx)
	v, err := s.read(ctx, c, 0)
	if err != nil {
		return nil, err
	}
	return &kvClient{static{current: v.id, keys: map[string][]byte{v.id: v.key}}, s, c, v.number, renewed}, nil
}

// A kvVersion is one version of the secret.
type kvVersion struct {
	key    []byte
	id     string
	number int
	ends   time.Time // when the engine will delete it automatically; zero: never
}

// read reads a version of the secret, 0 for the newest one.
func (s *vaultKV) read(ctx context.Context, c *vaultClient, number int) (kvVersion, error) {
	query := ""
	if number > 0 {
		query = fmt.Sprintf("version=%d", number)
	}
	a, err := c.do(ctx, http.MethodGet, s.path, query, nil)
	var secret struct {
		Data     map[string]any
		Metadata struct {
			Version      int
			Destroyed    bool
			DeletionTime string `json:"deletion_time"`
		}
	}
	if json.Unmarshal(a.Data, &secret) != nil {
		secret.Metadata.Version = 0
	}
	m := secret.Metadata
	if e, ok := errors.AsType[*api.ResponseError](err); ok {
		kind := status(e.StatusCode)
		text := s.explain(kind)
		switch {
		case m.Version > 0 && m.Destroyed:
			text = fmt.Sprintf("version %d of the secret %s was destroyed, and its key is lost with it: restore that Vault from a backup, or open the keep another way", m.Version, s.path)
		case m.Version > 0:
			kind, text = KeyDisabled, fmt.Sprintf("version %d of the secret %s was deleted: bring it back (vault kv undelete -versions=%[1]d)", m.Version, s.path)
		case kind == AuthDenied:
			s.denied()
			text = fmt.Sprintf("not allowed: reading %s at %s: the token has expired or was revoked, or its policy lacks read on this path: make a new token, or correct the policy", s.path, s.where)
		}
		return kvVersion{}, &Error{Kind: kind, Text: text, Err: err}
	}
	if err != nil {
		return kvVersion{}, fmt.Errorf("reading the key: %w", err)
	}
	fail := func(format string, args ...any) (kvVersion, error) {
		return kvVersion{}, &Error{Kind: KeyNotFound, Text: fmt.Sprintf("the secret %s at %s %s", s.path, s.where, fmt.Sprintf(format, args...))}
	}
	if m.Version == 0 {
		return fail("is not of a KV version 2 engine: check key_path, which is as the API has it (kv/data/NAME), and the engine's version")
	}
	text, ok := secret.Data[kvField].(string)
	text = strings.TrimSpace(text)
	switch {
	case !ok || text == "":
		return fail("has no text in the field %q: write base64 of 32 bytes there (sealkeep keygen makes it)", kvField)
	case len(text) == keySize:
		return fail("has %d characters in the field %q, which are no key of 32 bytes: write base64 of 32 bytes there (sealkeep keygen makes it)", keySize, kvField)
	}
	key, err := config.DecodeKey(text)
	if err != nil {
		return fail("has no key in the field %q: %v", kvField, err)
	}
	v := kvVersion{key: key, id: config.KeyID(key), number: m.Version}
	v.ends, _ = time.Parse(time.RFC3339Nano, m.DeletionTime) // "" is never
	if number == 0 {
		s.mu.Lock()
		s.kept = kvVersion{number: v.number, ends: v.ends}
		s.mu.Unlock()
	}
	return v, nil
}

func (s *vaultKV) warning() string {
	w := s.vaultServer.warning()
	s.mu.Lock()
	defer s.mu.Unlock()
	if ends := s.kept.ends; w == "" && !ends.IsZero() && time.Until(ends) < ahead {
		w = fmt.Sprintf("version %d of the secret %s at %s is deleted %s by its engine (delete_version_after), and then this seal opens nothing more: "+
			"write the key again into a secret that is kept", s.kept.number, s.path, s.where, inDays(ends))
	}
	return w
}

func (s *vaultKV) explain(c Class) string {
	switch c {
	case DNS:
		return "the host name of " + s.where + " does not resolve: check the address and this machine's resolver"
	case TLS:
		return "there is no TLS connection to " + s.where + ": check its certificate and tls_ca_cert, tls_server_name, tls_client_cert, or the scheme of the address"
	case KeyNotFound:
		return s.where + " has no secret " + s.path + ": check key_path, which is as the API has it (kv/data/NAME), and namespace"
	case Throttled:
		return s.where + " has had too many requests: it is tried again; if this lasts, raise its quota"
	case BlobMismatch:
		return "the key in " + s.path + " did not make the blob, or it was altered: check key_path"
	}
	return s.where + " does not answer as it should: check that it runs, is unsealed and can be reached from here"
}

// kvClient has the newest version of the key; its static wraps and unwraps with that.
type kvClient struct {
	static
	s       *vaultKV
	c       *vaultClient
	version int
	renewed bool
}

func (c *kvClient) keyID(ctx context.Context) (string, error) {
	_, _ = c.c.lookUp(ctx, c.renewed) // only Warning and TokenTTL depend on it
	return c.current, nil
}

// unwrap also looks for the key of the blob in older versions of the secret, since the key may have been replaced.
func (c *kvClient) unwrap(ctx context.Context, wrapped []byte, keyID string) ([]byte, error) {
	for n := c.version - 1; c.keys[keyID] == nil && n > 0 && n >= c.version-oldVersions; n-- {
		v, err := c.s.read(ctx, c.c, n)
		if kind := classify(err); err != nil && kind != KeyNotFound && kind != KeyDisabled {
			return nil, err
		}
		if err == nil {
			c.keys[v.id] = v.key
		}
	}
	if c.keys[keyID] == nil {
		return nil, mismatch("the blob was made by the key %q, and no version of the secret %s that can be read has it: check key_path, or undelete the version", keyID, c.s.path)
	}
	return c.static.unwrap(ctx, wrapped, keyID)
}
