package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	"github.com/hashicorp/vault/api/auth/userpass"
)

// issue writes a certificate with its key to name.pem and name.key; it is its own authority.
func issue(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	err = errors.Join(os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// A keeper is a keep behind TLS, driven by Vault's own client in Go.
type keeper struct {
	*testing.T
	address, ca string
	root        *api.Client
}

// client makes a client with a token, and with a certificate if one is given.
func (k *keeper) client(token string, pair ...string) *api.Client {
	k.Helper()
	conf := api.DefaultConfig()
	conf.Address, conf.MaxRetries = k.address, 0
	tls := &api.TLSConfig{CACert: k.ca}
	if len(pair) == 2 {
		tls.ClientCert, tls.ClientKey = pair[0], pair[1]
	}
	if err := conf.ConfigureTLS(tls); err != nil {
		k.Fatal(err)
	}
	c, err := api.NewClient(conf)
	if err != nil {
		k.Fatal(err)
	}
	c.SetToken(token)
	return c
}

func (k *keeper) ok(what string, err error) {
	k.Helper()
	if err != nil {
		k.Fatalf("%s: %v", what, err)
	}
}

// refused wants an answer with this status.
func (k *keeper) refused(what string, status int, err error) {
	k.Helper()
	var answer *api.ResponseError
	if !errors.As(err, &answer) || answer.StatusCode != status {
		k.Errorf("%s: %v, want status %d", what, err, status)
	}
}

func (k *keeper) equal(what string, got, want any) {
	k.Helper()
	if !reflect.DeepEqual(got, want) {
		k.Errorf("%s: %v, want %v", what, got, want)
	}
}

// write writes with the root token.
func (k *keeper) write(path string, data map[string]any) *api.Secret {
	k.Helper()
	s, err := k.root.Logical().WriteWithContext(k.Context(), path, data)
	k.ok("writing "+path, err)
	return s
}

// reads wants a token to have the policy app: it reads one secret and writes none.
func (k *keeper) reads(what string, c *api.Client, login *api.Secret) {
	k.Helper()
	if login == nil || login.Auth == nil {
		k.Fatalf("%s: no token", what)
	}
	if !slices.Contains(login.Auth.Policies, "app") {
		k.Errorf("%s: policies %v", what, login.Auth.Policies)
	}
	c.SetToken(login.Auth.ClientToken)
	s, err := c.KVv2("secret").Get(k.Context(), "app/db")
	k.ok(what+": reading", err)
	k.equal(what, s.Data["password"], marker)
	_, err = c.KVv2("secret").Put(k.Context(), "app/db", map[string]any{"password": "x"})
	k.refused(what+": writing", http.StatusForbidden, err)
	_, err = c.KVv2("secret").Get(k.Context(), "other")
	k.refused(what+": another secret", http.StatusForbidden, err)
}

// TestVaultAPI drives a keep behind TLS with Vault's client for Go and its login helpers: policies, tokens, logins,
// wrapping.
func TestVaultAPI(t *testing.T) {
	program, dir := build(t), t.TempDir()
	ca, key := issue(t, dir, "keep")
	k := &keeper{T: t, ca: ca}
	k.address = startKeep(t, program, fmt.Sprintf("  tls_cert_file = %q\n  tls_key_file = %q\n", ca, key))
	k.root = k.client("")
	first, err := k.root.Sys().Init(&api.InitRequest{RecoveryShares: 1, RecoveryThreshold: 1})
	k.ok("init", err)
	k.root.SetToken(first.RootToken)
	ctx := t.Context()

	// Policies.
	k.ok("writing a policy", k.root.Sys().PutPolicy("app", `path "secret/data/app/*" { capabilities = ["read"] }`))
	text, err := k.root.Sys().GetPolicy("app")
	k.ok("reading a policy", err)
	k.equal("the policy", strings.Contains(text, "secret/data/app/*"), true)
	names, err := k.root.Sys().ListPolicies()
	k.ok("listing policies", err)
	k.equal("policies", names, []string{"app", "default", "root"})
	k.refused("a policy that is none", http.StatusBadRequest, k.root.Sys().PutPolicy("bad", `path "x" { capabilities = ["fly"] }`))
	_, err = k.root.KVv2("secret").Put(ctx, "app/db", map[string]any{"password": marker})
	k.ok("writing a secret", err)

	// Tokens.
	tokens := k.root.Auth().Token()
	mother, err := tokens.Create(&api.TokenCreateRequest{Policies: []string{"app"}, TTL: "1h", Metadata: map[string]string{"of": "ci"}, DisplayName: "mother"})
	k.ok("making a token", err)
	c := k.client("")
	k.reads("a token", c, mother)
	caps, err := c.Sys().CapabilitiesSelf("secret/data/app/db")
	k.ok("capabilities", err)
	k.equal("capabilities", caps, []string{"read"})
	caps, err = k.root.Sys().Capabilities(mother.Auth.ClientToken, "secret/data/other")
	k.ok("capabilities", err)
	k.equal("capabilities elsewhere", caps, []string{"deny"})
	renewed, err := c.Auth().Token().RenewSelf(600)
	k.ok("renewing", err)
	k.equal("renewed for", renewed.Auth.LeaseDuration, 600)
	watcher, err := c.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: renewed, Increment: 900})
	k.ok("watching a token", err)
	go watcher.Start()
	select {
	case done := <-watcher.RenewCh():
		k.equal("the watcher renewed for", done.Secret.Auth.LeaseDuration, 900)
	case err := <-watcher.DoneCh():
		t.Errorf("the watcher gave up: %v", err)
	case <-time.After(patience):
		t.Error("the watcher did not renew the token")
	}
	watcher.Stop()
	k.ok("a policy that may make tokens", k.root.Sys().PutPolicy("maker", `path "auth/token/create" { capabilities = ["update"] }`))
	parent, err := tokens.Create(&api.TokenCreateRequest{Policies: []string{"app", "maker"}})
	k.ok("making a parent", err)
	child, err := k.client(parent.Auth.ClientToken).Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"app"}})
	k.ok("making a child", err)
	k.reads("a child", k.client(""), child)
	k.ok("revoking a tree", tokens.RevokeTree(parent.Auth.ClientToken))
	_, err = k.client(child.Auth.ClientToken).Auth().Token().LookupSelf()
	k.refused("a child of what was revoked", http.StatusForbidden, err)
	info, err := tokens.LookupAccessor(mother.Auth.Accessor)
	k.ok("looking up an accessor", err)
	k.equal("its metadata", info.Data["meta"], map[string]any{"of": "ci"})
	k.ok("revoking by accessor", tokens.RevokeAccessor(mother.Auth.Accessor))
	_, err = c.Auth().Token().LookupSelf()
	k.refused("a revoked token", http.StatusForbidden, err)
	once, err := tokens.Create(&api.TokenCreateRequest{Policies: []string{"app"}, NumUses: 1})
	k.ok("a token for one use", err)
	c = k.client(once.Auth.ClientToken)
	_, err = c.KVv2("secret").Get(ctx, "app/db")
	k.ok("its use", err)
	_, err = c.KVv2("secret").Get(ctx, "app/db")
	k.refused("another use", http.StatusForbidden, err)

	// Wrapping.
	wrapper := k.client(first.RootToken)
	wrapper.SetWrappingLookupFunc(func(string, string) string { return "5m" })
	wrapped, err := wrapper.Logical().Read("secret/data/app/db")
	k.ok("reading, wrapped", err)
	k.equal("what is wrapped has data", wrapped.Data == nil, true)
	k.equal("it is of", wrapped.WrapInfo.CreationPath, "secret/data/app/db")
	secret, err := k.client("").Logical().Unwrap(wrapped.WrapInfo.Token)
	k.ok("unwrapping", err)
	k.equal("unwrapped", secret.Data["data"], map[string]any{"password": marker})
	_, err = k.client("").Logical().Unwrap(wrapped.WrapInfo.Token)
	k.refused("unwrapping again", http.StatusBadRequest, err)

	// AppRole: the secret ID is handed over wrapped.
	k.ok("enabling approle", k.root.Sys().EnableAuthWithOptions("machines", &api.EnableAuthOptions{Type: "approle"}))
	k.write("auth/machines/role/web", map[string]any{"token_policies": "app", "token_ttl": "10m", "secret_id_num_uses": 2})
	id, err := k.root.Logical().Read("auth/machines/role/web/role-id")
	k.ok("reading the role ID", err)
	roleID := id.Data["role_id"].(string)
	handed, err := wrapper.Logical().Write("auth/machines/role/web/secret-id", nil)
	k.ok("making a secret ID, wrapped", err)
	method, err := approle.NewAppRoleAuth(roleID, &approle.SecretID{FromString: handed.WrapInfo.Token}, approle.WithWrappingToken(), approle.WithMountPath("machines"))
	k.ok("approle", err)
	c = k.client("")
	login, err := c.Auth().Login(ctx, method)
	k.ok("logging in by approle", err)
	k.reads("approle", c, login)
	k.equal("its lease", login.Auth.LeaseDuration, 600)
	_, err = k.client("").Auth().Login(ctx, method)
	k.refused("the wrapped secret ID again", http.StatusBadRequest, err)

	// Passwords.
	k.ok("enabling userpass", k.root.Sys().EnableAuthWithOptions("userpass", &api.EnableAuthOptions{Type: "userpass"}))
	k.write("auth/userpass/users/ann", map[string]any{"password": marker + "-of-ann", "token_policies": "app"})
	person, err := userpass.NewUserpassAuth("ann", &userpass.Password{FromString: marker + "-of-ann"})
	k.ok("userpass", err)
	c = k.client("")
	login, err = c.Auth().Login(ctx, person)
	k.ok("logging in with a password", err)
	k.reads("userpass", c, login)
	guess, err := userpass.NewUserpassAuth("ann", &userpass.Password{FromString: "guess"})
	k.ok("userpass", err)
	_, err = k.client("").Auth().Login(ctx, guess)
	k.refused("a wrong password", http.StatusBadRequest, err)

	// Certificates.
	cert, certKey := issue(t, dir, "web")
	pinned, err := os.ReadFile(cert)
	k.ok("reading the certificate", err)
	k.ok("enabling cert", k.root.Sys().EnableAuthWithOptions("cert", &api.EnableAuthOptions{Type: "cert"}))
	k.write("auth/cert/certs/web", map[string]any{"certificate": string(pinned), "token_policies": "app"})
	c = k.client("", cert, certKey)
	login, err = c.Logical().Write("auth/cert/login", map[string]any{"name": "web"})
	k.ok("logging in with a certificate", err)
	k.reads("cert", c, login)
	_, err = k.client("").Logical().Write("auth/cert/login", nil)
	k.refused("no certificate", http.StatusBadRequest, err)
	c = k.client("", ca, key)
	_, err = c.Logical().Write("auth/cert/login", nil)
	k.refused("another certificate", http.StatusBadRequest, err)

	// Login methods as mounts.
	twoHours := "2h"
	k.ok("tuning", k.root.Sys().TuneMountAllowNil("auth/userpass", api.TuneMountConfigInput{MaxLeaseTTL: &twoHours}))
	tuned, err := k.root.Sys().MountConfig("auth/userpass")
	k.ok("reading how it is tuned", err)
	k.equal("max_lease_ttl", tuned.MaxLeaseTTL, 7200)
	all, err := k.root.Sys().ListAuth()
	k.ok("listing login methods", err)
	for path, kind := range map[string]string{"token/": "token", "machines/": "approle", "userpass/": "userpass", "cert/": "cert"} {
		if all[path] == nil || all[path].Type != kind {
			t.Errorf("%s is not of type %s: %v", path, kind, all[path])
		}
	}
	c = k.client("")
	_, err = c.Auth().Login(ctx, person)
	k.ok("logging in again", err)
	k.ok("disabling", k.root.Sys().DisableAuth("userpass"))
	_, err = c.Auth().Token().LookupSelf()
	k.refused("a token of a method that is gone", http.StatusForbidden, err)
}
