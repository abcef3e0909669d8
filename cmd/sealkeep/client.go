package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const defaultAddress = "http://127.0.0.1:8200"

// remote holds the client's settings: the flags, which the environment supplements.
type remote struct {
	address, caCert, caPath, cert, key, serverName, namespace, format, wrapTTL string
	token                                                                      string // the token that login checks
	skipVerify                                                                 bool
}

// remoteFlags lists the flags that every client command has.
var remoteFlags = []string{"address", "ca-cert", "ca-path", "client-cert", "client-key", "tls-server-name", "tls-skip-verify", "namespace", "format", "wrap-ttl"}

func (r *remote) register(f *flag.FlagSet) {
	f.StringVar(&r.address, "address", "", "address of the server: http://, https:// or unix://; else VAULT_ADDR, else "+defaultAddress)
	f.StringVar(&r.caCert, "ca-cert", "", "`file` with the certificates to trust, PEM; else VAULT_CACERT")
	f.StringVar(&r.caPath, "ca-path", "", "`folder` of such files; else VAULT_CAPATH")
	f.StringVar(&r.cert, "client-cert", "", "`file` with the client's certificate, PEM; else VAULT_CLIENT_CERT")
	f.StringVar(&r.key, "client-key", "", "`file` with its key, PEM; else VAULT_CLIENT_KEY")
	f.StringVar(&r.serverName, "tls-server-name", "", "`name` to expect in the server's certificate; else VAULT_TLS_SERVER_NAME")
	f.BoolVar(&r.skipVerify, "tls-skip-verify", false, "do not verify the server's certificate (unsafe); else VAULT_SKIP_VERIFY")
	f.StringVar(&r.namespace, "namespace", "", "namespace to name in the request; sealkeep has none and refuses it; else VAULT_NAMESPACE")
	f.StringVar(&r.wrapTTL, "wrap-ttl", "", "wrap the answer: print, in its place, a token that unwraps it once within this `duration`; else VAULT_WRAP_TTL")
	f.StringVar(&r.format, "format", "", "`table` or json; else VAULT_FORMAT")
}

// env returns BAO_<name> if that is not empty, else VAULT_<name>.
func (c *cli) env(name string) string {
	for _, prefix := range []string{"BAO_", "VAULT_"} {
		if v, _ := c.lookup(prefix + name); v != "" {
			return v
		}
	}
	return ""
}

func (c *cli) home() string { h, _ := c.lookup("HOME"); return h }

// asJSON reports whether the output is JSON, and refuses unknown formats.
func (c *cli) asJSON() (bool, error) {
	switch format := cmp.Or(c.remote.format, c.env("FORMAT"), "table"); format {
	case "json", "table":
		return format == "json", nil
	default:
		return false, hint(fmt.Errorf("unknown format %q", format), "-format is table or json")
	}
}

// A keepClient is a client of one server.
type keepClient struct {
	http             *http.Client
	base             *url.URL
	address          string // as given by the user
	token, namespace string
	wrapTTL          string // for which the server should wrap the answers; "": not at all
}

// api makes the client that flags and environment describe. It does no network I/O.
func (c *cli) api() (*keepClient, error) {
	if _, err := c.asJSON(); err != nil {
		return nil, err // before anything is changed on the server
	}
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	a := &keepClient{
		address:   cmp.Or(c.remote.address, c.env("ADDR"), defaultAddress),
		token:     token,
		namespace: cmp.Or(c.remote.namespace, c.env("NAMESPACE")),
		wrapTTL:   cmp.Or(c.remote.wrapTTL, c.env("WRAP_TTL")),
	}
	if a.wrapTTL != "" {
		if _, err := duration(a.wrapTTL); err != nil {
			return nil, hint(fmt.Errorf("the wrapping TTL %q is wrong", a.wrapTTL), "-wrap-ttl and VAULT_WRAP_TTL are a number of seconds or a duration such as 5m")
		}
	}
	timeout := 60 * time.Second
	if v := c.env("CLIENT_TIMEOUT"); v != "" {
		if timeout, err = duration(v); err != nil {
			return nil, hint(fmt.Errorf("the client timeout %q is wrong", v), "VAULT_CLIENT_TIMEOUT is a number of seconds or a duration such as 90s")
		}
	}
	conf, err := c.tls()
	if err != nil {
		return nil, err
	}
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second}
	if path, ok := strings.CutPrefix(a.address, "unix://"); ok {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		a.base = &url.URL{Scheme: "http", Host: "localhost"}
	} else if a.base, err = url.Parse(a.address); err != nil || a.base.Scheme != "http" && a.base.Scheme != "https" || a.base.Host == "" {
		return nil, hint(fmt.Errorf("the address %q is wrong", a.address), "write it like %s, https://keep.example.com:8200 or unix:///run/sealkeep/api.sock", defaultAddress)
	}
	a.http = &http.Client{Transport: t, Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the token must not follow a redirect
	}}
	return a, nil
}

// token returns the token from the environment, else the one of the last login, else "".
func (c *cli) token() (string, error) {
	token := cmp.Or(c.remote.token, c.env("TOKEN"))
	if token == "" && c.home() != "" {
		b, err := os.ReadFile(c.tokenFile())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("reading the token of the last login: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", hint(errors.New("the token has characters that no token has"), "check VAULT_TOKEN for a space, a newline or quotes that are too much")
	}
	return token, nil
}

func (c *cli) tokenFile() string { return filepath.Join(c.home(), ".vault-token") }

func (c *cli) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: cmp.Or(c.remote.serverName, c.env("TLS_SERVER_NAME")), InsecureSkipVerify: c.remote.skipVerify}
	if v := c.env("SKIP_VERIFY"); v != "" && !conf.InsecureSkipVerify {
		skip, err := strconv.ParseBool(v)
		if err != nil {
			return nil, hint(fmt.Errorf("VAULT_SKIP_VERIFY is %q", v), "it is true or false")
		}
		conf.InsecureSkipVerify = skip
	}
	var files []string
	if file := cmp.Or(c.remote.caCert, c.env("CACERT")); file != "" {
		files = []string{file}
	} else if dir := cmp.Or(c.remote.caPath, c.env("CAPATH")); dir != "" {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("reading certificates to trust: %w", err)
		}
		for _, e := range entries {
			if !e.IsDir() {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
		if files == nil {
			return nil, fmt.Errorf("reading certificates to trust: %s is empty", dir)
		}
	}
	for _, file := range files {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading certificates to trust: %w", err)
		}
		if conf.RootCAs == nil {
			conf.RootCAs = x509.NewCertPool()
		}
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading certificates to trust: %s has no certificate in PEM form", file)
		}
	}
	cert, key := cmp.Or(c.remote.cert, c.env("CLIENT_CERT")), cmp.Or(c.remote.key, c.env("CLIENT_KEY"))
	if (cert == "") != (key == "") {
		return nil, errors.New("a client certificate and its key must be given together")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("reading the client certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// duration reads Vault's form of a duration: a number of seconds, or one with a unit.
func duration(s string) (time.Duration, error) {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n < 1<<31 {
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = errors.New("negative duration")
	}
	return d, err
}

// apiError is an unsuccessful answer.
type apiError struct {
	method, url string
	code        int
	errors      []string
	body        []byte // the whole answer
}

func (e *apiError) Error() string {
	list := "* " + strings.Join(e.errors, "\n* ")
	if len(e.errors) == 0 {
		list = "* " + cmp.Or(http.StatusText(e.code), "no reason given")
	}
	return fmt.Sprintf("making API request\n\nURL: %s %s\nCode: %d. Errors:\n\n%s", e.method, e.url, e.code, list)
}

// notFound reports whether err is a 404 without an error text: Vault's way to say that there is nothing.
func notFound(err error) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && e.code == http.StatusNotFound && len(e.errors) == 0
}

// maxAnswer bounds the answers that the client reads: larger than any secret, and small enough to do no harm.
const maxAnswer = 64 << 20

// request returns a new request. path has no leading "/v1/"; it is escaped here.
func (a *keepClient) request(ctx context.Context, method, path string, query url.Values, body any) (*http.Request, error) {
	target := *a.base
	target.Path, target.RawQuery = strings.TrimRight(target.Path, "/")+"/v1/"+strings.TrimLeft(path, "/"), query.Encode()
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encoding the request: %w", err)
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), payload)
	if err != nil {
		return nil, fmt.Errorf("making API request: %w", err)
	}
	req.Header.Set("X-Vault-Request", "true")
	if a.token != "" {
		req.Header.Set("X-Vault-Token", a.token)
	}
	if a.namespace != "" {
		req.Header.Set("X-Vault-Namespace", a.namespace)
	}
	if a.wrapTTL != "" {
		req.Header.Set("X-Vault-Wrap-TTL", a.wrapTTL)
	}
	switch {
	case method == http.MethodPatch:
		req.Header.Set("Content-Type", "application/merge-patch+json")
	case payload != nil:
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// do sends one request and returns the answer's body. Its errors have exit code 2, like all remote errors.
func (a *keepClient) do(c *cli, method, path string, query url.Values, body any) ([]byte, error) {
	b, _, err := a.send(c, method, path, query, body)
	return b, err
}

// send is do, and returns the Content-Type, too.
func (a *keepClient) send(c *cli, method, path string, query url.Values, body any) (b []byte, kind string, err error) {
	req, err := a.request(c, method, path, query, body)
	if err != nil {
		return nil, "", err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, "", coded{a.explain(err), 2}
	}
	defer resp.Body.Close()
	b, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(b) > maxAnswer {
		err = fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	if err != nil {
		return nil, "", coded{fmt.Errorf("reading the answer of %s: %w", req.URL, err), 2}
	}
	if resp.StatusCode/100 != 2 {
		return nil, "", coded{a.refusal(&apiError{method: method, url: req.URL.String(), code: resp.StatusCode, body: b}), 2}
	}
	if a.wrapTTL != "" {
		err = asWrapped(b)
	}
	return b, resp.Header.Get("Content-Type"), err
}

// refusal fills the error texts of an answer and finds the next step.
func (a *keepClient) refusal(e *apiError) error {
	var answer struct {
		Errors []string `json:"errors"`
	}
	if json.Unmarshal(e.body, &answer) == nil {
		for _, text := range answer.Errors {
			e.errors = append(e.errors, strings.TrimSpace(text))
		}
	} else if text := strings.TrimSpace(string(e.body)); text != "" {
		e.errors = []string{text[:min(len(text), 200)]}
	}
	switch {
	case e.code == http.StatusBadRequest && a.base.Scheme == "http" && strings.Contains(string(e.body), "HTTP request to an HTTPS server"):
		return hint(e, "the server speaks TLS: set VAULT_ADDR or -address to https://%s", a.base.Host)
	case e.code/100 == 3:
		return hint(e, "the server redirects; set VAULT_ADDR or -address to the address that answers itself")
	case e.code == http.StatusForbidden && a.token == "" && !strings.HasSuffix(e.url, "/sys/unseal"): // unseal takes no token
		return hint(e, "no token was sent: set VAULT_TOKEN, or run sealkeep login")
	case e.code == http.StatusServiceUnavailable:
		return hint(e, "sealkeep status shows whether the keep is sealed, and why")
	}
	return e
}

// explain names the next step for an error of the transport.
func (a *keepClient) explain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok && u.URL != "" {
		err = fmt.Errorf("reaching %s: %w", a.address, u.Err)
	}
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return hint(err, "the server speaks plain HTTP: set VAULT_ADDR or -address to http://%s", a.base.Host)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(a.address, "unix://"):
		return hint(err, "nothing listens there: is the server running, and is VAULT_ADDR (or -address) right?")
	case errors.As(err, &unknown):
		return hint(err, "name the authority that signed the server's certificate: VAULT_CACERT or -ca-cert")
	case errors.As(err, &host):
		return hint(err, "the certificate is for another name: use that name in VAULT_ADDR, or give it with -tls-server-name")
	}
	return err
}
