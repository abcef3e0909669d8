package seal

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/sealkeep/sealkeep/config"
)

// vaultServer is the Vault or OpenBao of one seal. Its requests are made here, since Vault's own client takes settings
// from a dozen variables and only partly respects the context.
type vaultServer struct {
	settings map[string]string
	base     *url.URL
	where    string // scheme, host and path

	logins sync.Mutex // held while logging in; never taken under mu

	mu    sync.Mutex
	login vaultLogin
	seen  []string // secrets of logins
	token *vaultToken
	// What the token was refused last time.
	noRenewal, noLookUp bool
}

// vaultLogin is the token of a login by service account. It is used for as long as it lasts, so that a seal that keeps
// trying does not fill the server with tokens.
type vaultLogin struct {
	token      string
	born, ends time.Time
}

// vaultSettings lists the settings that transit and vaultkv have in common.
var vaultSettings = []string{"address", "token", "namespace", "kube_auth_role", "kube_auth_name", "kube_token_file",
	"tls_ca_cert", "tls_ca_path", "tls_client_cert", "tls_client_key", "tls_server_name", "tls_skip_verify"}

const (
	kubeAuthName  = "kubernetes"
	kubeTokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"

	maxAnswer   = 1 << 20
	minLogin    = time.Minute      // how long a login that was denied something is kept
	sideRequest = 3 * time.Second  // for requests that an attempt can do without
	idle        = 10 * time.Second // for unused connections
)

func newVaultServer(c config.Seal) (*vaultServer, error) {
	v := &vaultServer{settings: map[string]string{}}
	for _, name := range vaultSettings {
		if s := c.Get(name); s != "" {
			v.settings[name] = s
		}
	}
	switch {
	case v.settings["address"] == "":
		return nil, errors.New("address is missing")
	case v.settings["token"] == "" && v.settings["kube_auth_role"] == "":
		return nil, errors.New("token is missing: set it, or kube_auth_role to log in with a Kubernetes service account")
	case (v.settings["tls_client_cert"] == "") != (v.settings["tls_client_key"] == ""):
		return nil, errors.New("tls_client_cert and tls_client_key belong together: set both")
	}
	u, err := url.Parse(v.settings["address"])
	if err != nil || u.Scheme == "" || u.Host == "" && u.Scheme != "unix" || u.User != nil {
		return nil, errors.New("address is no URL: it looks like https://vault.example.com:8200, without a user")
	}
	if s := v.settings["tls_skip_verify"]; s != "" {
		if _, err := strconv.ParseBool(s); err != nil {
			return nil, fmt.Errorf("tls_skip_verify is %q: use true or false", s)
		}
	}
	v.base, v.where = u, u.Scheme+"://"+u.Host+u.Path
	return v, nil
}

// secrets returns the configured token and the secrets of logins.
func (v *vaultServer) secrets() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string{v.settings["token"]}, v.seen...)
}

// A vaultClient makes requests to a server. Its TLS files were read when it was made.
type vaultClient struct {
	server *vaultServer
	http   *http.Client
	token  string
}

// dial makes a client without a token. It makes no request.
func (v *vaultServer) dial() (*vaultClient, error) {
	conf, err := v.tlsConfig()
	if err != nil {
		return nil, &Error{Kind: TLS, Err: err, Text: "the TLS settings cannot be used: check the files of tls_ca_cert, tls_ca_path, tls_client_cert and tls_client_key"}
	}
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, ForceAttemptHTTP2: true, IdleConnTimeout: idle}
	if v.base.Scheme == "unix" {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", v.base.Path)
		}
	}
	return &vaultClient{server: v, http: &http.Client{Transport: t, CheckRedirect: follow}}, nil
}

// follow lets a standby redirect a request, with its token, to the active node: once, and never from TLS to plain HTTP.
func follow(next *http.Request, before []*http.Request) error {
	if len(before) > 1 || before[0].URL.Scheme == "https" && next.URL.Scheme != "https" {
		return errors.New("the server redirects more than once, or away from TLS")
	}
	return nil
}

func (v *vaultServer) tlsConfig() (*tls.Config, error) {
	skip, _ := strconv.ParseBool(v.settings["tls_skip_verify"]) // was checked
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: v.settings["tls_server_name"], InsecureSkipVerify: skip}
	files := []string{v.settings["tls_ca_cert"]}
	if dir := v.settings["tls_ca_path"]; files[0] == "" && dir != "" {
		var err error
		if files, err = filepath.Glob(filepath.Join(dir, "*")); err != nil || len(files) == 0 {
			return nil, fmt.Errorf("there is no file in %s", dir)
		}
	}
	if files[0] != "" {
		c.RootCAs = x509.NewCertPool()
		for _, name := range files {
			pem, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			if !c.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("there is no certificate in %s", name)
			}
		}
	}
	if cert := v.settings["tls_client_cert"]; cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, v.settings["tls_client_key"])
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// open makes a client with a token, either the configured one or one from a login.
func (v *vaultServer) open(ctx context.Context) (*vaultClient, error) {
	c, err := v.dial()
	if err != nil {
		return nil, err
	}
	if c.token = v.settings["token"]; c.token != "" {
		return c, nil
	}
	v.logins.Lock()
	defer v.logins.Unlock()
	login := v.lastLogin()
	if time.Now().After(login.ends) {
		if login, err = v.logIn(ctx, c); err != nil {
			return nil, err
		}
		v.mu.Lock()
		v.login = login
		v.mu.Unlock()
	}
	c.token = login.token
	return c, nil
}

func (v *vaultServer) lastLogin() vaultLogin {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.login
}

// hide keeps a secret out of errors. Only the last few are remembered.
func (v *vaultServer) hide(secret string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.seen = append(v.seen, secret); len(v.seen) > 4 { // those of this login and of the one before
		v.seen = slices.Clone(v.seen[len(v.seen)-4:])
	}
}

// logIn logs in with the Kubernetes service account.
func (v *vaultServer) logIn(ctx context.Context, c *vaultClient) (vaultLogin, error) {
	role, path := v.settings["kube_auth_role"], "auth/"+first(v.settings["kube_auth_name"], kubeAuthName)+"/login"
	file := first(v.settings["kube_token_file"], kubeTokenFile)
	jwt, err := os.ReadFile(file)
	if err != nil {
		return vaultLogin{}, &Error{Kind: CredentialsMissing, Err: err,
			Text: "the service account's token cannot be read: this is no pod with a service account, or kube_token_file is another path; or set token"}
	}
	account := strings.TrimSpace(string(jwt))
	v.hide(account)
	born := time.Now()
	a, err := c.do(ctx, http.MethodPost, path, "", map[string]string{"role": role, "jwt": account})
	if e, ok := errors.AsType[*api.ResponseError](err); ok {
		kind := status(e.StatusCode)
		if e.StatusCode == http.StatusBadRequest || kind == KeyNotFound {
			kind = AuthDenied
		}
		if kind == AuthDenied {
			return vaultLogin{}, &Error{Kind: kind, Err: err, Text: fmt.Sprintf("the login at %s with the role %s is refused by %s: "+
				"check kube_auth_name, kube_auth_role, and the service account and namespace that the role is for", path, role, v.where)}
		}
	}
	if err != nil {
		return vaultLogin{}, fmt.Errorf("logging in: %w", err)
	}
	if a.Auth == nil || a.Auth.ClientToken == "" {
		return vaultLogin{}, &Error{Kind: AuthDenied, Text: "the login at " + path + " of " + v.where + " gave no token: check that it is a Kubernetes auth method"}
	}
	lasts := time.Duration(a.Auth.LeaseDuration) * time.Second
	if lasts == 0 {
		lasts = 24 * time.Hour
	}
	v.hide(a.Auth.ClientToken)
	return vaultLogin{a.Auth.ClientToken, born, born.Add(lasts - 2*maxAttempt)}, nil // outlives the attempt that uses it
}

// denied makes the next attempt log in again: the token may have been revoked, or the policies of the role changed.
func (v *vaultServer) denied() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if time.Since(v.login.born) > minLogin {
		v.login.ends = time.Time{}
	}
}

// A vaultAnswer is an answer of a server, including error answers.
type vaultAnswer struct {
	Data json.RawMessage
	Auth *struct {
		ClientToken   string `json:"client_token"`
		LeaseDuration int64  `json:"lease_duration"` // seconds
	}
	Errors []string
}

// do makes one request. An answer of 400 or more is an [api.ResponseError].
func (c *vaultClient) do(ctx context.Context, method, path, query string, in any) (a vaultAnswer, err error) {
	u := *c.server.base
	if u.Scheme == "unix" {
		u = url.URL{Scheme: "http", Host: "localhost"}
	}
	u.Path, u.RawQuery = strings.TrimRight(u.Path, "/")+"/v1/"+strings.Trim(path, "/"), query
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return a, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return a, err
	}
	req.Header.Set("X-Vault-Request", "true")
	if c.token != "" {
		req.Header.Set("X-Vault-Token", c.token)
	}
	if ns := c.server.settings["namespace"]; ns != "" {
		req.Header.Set("X-Vault-Namespace", ns)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return a, err
	}
	wrong := json.Unmarshal(text, &a)
	if resp.StatusCode >= http.StatusBadRequest {
		return a, &api.ResponseError{HTTPMethod: method, URL: u.String(), StatusCode: resp.StatusCode, Errors: a.Errors}
	}
	if wrong != nil && len(text) > 0 {
		return a, fmt.Errorf("%s %s: the answer is not JSON", method, u.String())
	}
	return a, nil
}

// A vaultToken is what a look-up says about the client's token.
type vaultToken struct {
	TTL            int64    `json:"ttl"` // in seconds, like the fields below; 0: it never ends
	CreationTTL    int64    `json:"creation_ttl"`
	ExplicitMaxTTL int64    `json:"explicit_max_ttl"`
	Period         int64    `json:"period"`
	CreationTime   int64    `json:"creation_time"` // Unix time
	Renewable      bool     `json:"renewable"`
	Orphan         bool     `json:"orphan"`
	Type           string   `json:"type"`
	Policies       []string `json:"policies"`

	at      time.Time // of the look-up
	renewed bool      // just before it
}

// lookUp asks about the client's token and keeps the answer. An attempt can do without it.
func (c *vaultClient) lookUp(ctx context.Context, renewed bool) (*vaultToken, error) {
	ctx, cancel := context.WithTimeout(ctx, sideRequest)
	defer cancel()
	t := &vaultToken{at: time.Now(), renewed: renewed}
	a, err := c.do(ctx, http.MethodGet, "auth/token/lookup-self", "", nil)
	if err == nil {
		err = json.Unmarshal(a.Data, t)
	}
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.server.noLookUp = refused(err); err != nil {
		return nil, err
	}
	c.server.token = t
	return t, nil
}

// renew renews the token if possible.
func (c *vaultClient) renew(ctx context.Context) (renewed bool) {
	ctx, cancel := context.WithTimeout(ctx, sideRequest)
	defer cancel()
	_, err := c.do(ctx, http.MethodPost, "auth/token/renew-self", "", struct{}{})
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.server.noRenewal = refused(err)
	return err == nil
}

// refused reports whether the server understood a request and said no.
func refused(err error) bool {
	e, ok := errors.AsType[*api.ResponseError](err)
	return ok && (e.StatusCode == http.StatusForbidden || e.StatusCode == http.StatusBadRequest)
}

// expires returns when the token ends unless it is renewed; false means never.
func (t *vaultToken) expires() (time.Time, bool) {
	return t.at.Add(time.Duration(t.TTL) * time.Second), t.TTL > 0
}

// ends returns when the token ends even if it is renewed; false means never, as far as the look-up shows.
func (t *vaultToken) ends() (time.Time, bool) {
	expires, ok := t.expires()
	switch {
	case !ok:
		return expires, false
	case t.ExplicitMaxTTL > 0:
		return time.Unix(t.CreationTime+t.ExplicitMaxTTL, 0), true
	case !t.Renewable:
		return expires, true
	case t.renewed && t.Period == 0 && t.TTL < t.CreationTTL-t.CreationTTL/10: // the renewal was cut short
		return expires, true
	}
	return expires, false
}

// tokenTTL returns how long the token still lives according to the last look-up. Tokens of logins do not count: the seal
// gets new ones when they end.
func (v *vaultServer) tokenTTL() (time.Duration, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.token == nil || v.settings["token"] == "" {
		return 0, false
	}
	expires, ok := v.token.expires()
	return max(0, time.Until(expires)), ok
}

// warning warns of a token that will end, early enough to make another.
func (v *vaultServer) warning() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.settings["token"] == "":
	case v.token != nil:
		ends, ok := v.token.ends()
		if v.noRenewal && !ok {
			ends, ok = v.token.expires()
		}
		if ok && time.Until(ends) < ahead {
			return fmt.Sprintf("the token for %s ends %s, and no renewal changes that: when it has, this seal opens nothing more. %s", v.where, inDays(ends), wantToken)
		}
	case v.noRenewal && v.noLookUp:
		return fmt.Sprintf("the token for %s may neither renew itself nor look when it ends: when it has, this seal opens nothing more. %s", v.where, wantToken)
	}
	return ""
}

// neverEnds reports whether the token is known to live for ever, so that it need not be renewed.
func (v *vaultServer) neverEnds() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.token != nil && v.token.TTL == 0
}

const wantToken = "Give it a token that is orphan, periodic, without a maximum TTL and allowed to renew itself"

// ahead is how long in advance dated trouble is warned about.
const ahead = 30 * 24 * time.Hour

// inDays describes t as a date and a number of days from now.
func inDays(t time.Time) string {
	left := time.Until(t)
	switch {
	case left <= 0:
		return "on " + t.UTC().Format(time.DateOnly) + ", which is past"
	case left < 2*time.Hour:
		return fmt.Sprintf("at %s, in %d minutes", t.UTC().Format(time.RFC3339), int(left.Minutes()))
	case left < 48*time.Hour:
		return fmt.Sprintf("at %s, in %d hours", t.UTC().Format(time.RFC3339), int(left.Hours()))
	}
	return fmt.Sprintf("on %s, in %d days", t.UTC().Format(time.DateOnly), int(left.Hours()/24))
}
