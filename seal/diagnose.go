package seal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A Step is one thing that [Seal.Diagnose] tried. Nothing in it is a secret.
type Step struct {
	Name    string  `json:"name"`
	OK      bool    `json:"ok"`
	Warning bool    `json:"warning,omitempty"` // it works, but not for ever, or not safely; only with OK
	Class   string  `json:"class,omitempty"`   // a [Class], unless OK
	Text    string  `json:"text"`              // what was found
	Next    string  `json:"next,omitempty"`    // what to do; never empty unless all is well
	Paste   []Paste `json:"paste,omitempty"`   // pieces of policies to add
}

// Paste is a piece of a policy that allows what is missing.
type Paste struct {
	Into string `json:"into"`
	Text string `json:"text"`
}

const (
	stepTimeout = 5 * time.Second
	certAhead   = 14 * 24 * time.Hour // how long before its end a certificate is warned about
)

// Diagnose tries everything that the seal needs, one by one, and says how each step went and what to do: the connection
// and its certificates, the clock, the credentials or the token, the key, encrypting and decrypting. It changes nothing,
// except that a login with a Kubernetes service account makes a token and the key service may log the requests. It does
// not depend on earlier attempts. Soon after the end of its context it returns the steps that it has.
func (s *Seal) Diagnose(ctx context.Context) []Step {
	d := &diagnosis{seal: s}
	s.service.diagnose(ctx, d)
	return d.steps
}

// A diagnosis collects steps.
type diagnosis struct {
	seal  *Seal
	steps []Step
}

func (d *diagnosis) ok(name, format string, args ...any) {
	d.steps = append(d.steps, Step{Name: name, OK: true, Text: fmt.Sprintf(format, args...)})
}

func (d *diagnosis) warn(name, next, format string, args ...any) {
	d.steps = append(d.steps, Step{Name: name, OK: true, Warning: true, Next: next, Text: fmt.Sprintf(format, args...)})
}

// fail adds a step that failed, and returns it so that the caller can add to it.
func (d *diagnosis) fail(name string, err error) *Step {
	e, _ := errors.AsType[*Error](d.seal.fail(name, err))
	text := e.Text
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	d.steps = append(d.steps, Step{Name: name, Class: e.Class(), Text: text, Next: advice[e.Kind]})
	return &d.steps[len(d.steps)-1]
}

// advice says what to do about each class, in addition to the text.
var advice = map[Class]string{
	Unreachable:        "check that the service runs, its address, and firewalls and proxies (HTTPS_PROXY, NO_PROXY) between; the keep tries again by itself",
	DNS:                "check the host's spelling, and that this machine's resolver sees the zone (a private one perhaps not)",
	TLS:                "trust the authority that issued the certificate (tls_ca_cert, AWS_CA_BUNDLE), or mend the certificate, its dates and its names",
	CredentialsMissing: "give credentials, then systemctl reload sealkeep: go doc ./seal lists where they are looked for, in which order",
	CredentialsExpired: "renew the credentials, then systemctl reload sealkeep; a role or a profile renews them by itself",
	AuthDenied:         "allow what is missing, or give credentials of somebody who may",
	ClockSkew:          "set this machine's clock (timedatectl set-ntp true)",
	KeyNotFound:        "correct the key's name, its region or path; if it was deleted, open the keep another way and give it a new key",
	KeyDisabled:        "enable the key again (aws kms enable-key, vault kv undelete)",
	KeyPendingDeletion: "aws kms cancel-key-deletion, then aws kms enable-key, before that day; a second seal or recovery makes the keep independent of this key",
	Throttled:          "wait, or raise the quota of requests",
	BlobMismatch:       "give the seal the key that made this slot; if that is lost, open the keep another way and add the slot anew",
}

// Advice says what to do about a failure of that class, in a sentence.
func Advice(c Class) string { return advice[c] }

// stepContext bounds one step.
func stepContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, stepTimeout)
}

// reach makes one request without credentials, and adds steps about the connection: the name, TLS, and the clock of the
// other side. It returns the body of the answer, and whether there was one. If strict, a wrong clock is a failure.
func (d *diagnosis) reach(ctx context.Context, t *http.Transport, url string, strict bool) (body []byte, ok bool) {
	ctx, cancel := stepContext(ctx)
	defer cancel()
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		d.fail("connection", err)
		return nil, false
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := (&http.Client{Transport: t, CheckRedirect: stay}).Do(req)
	if err != nil {
		step := d.fail("connection", err)
		if certs := peek(ctx, t, url); step.Class == string(TLS) && len(certs) > 0 {
			step.Text += ". The server shows " + describeChain(certs)
		}
		return nil, false
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		d.fail("connection", err)
		return nil, false
	}
	d.secure(resp)
	switch off := skew(resp.Header); {
	case resp.Header.Get("Date") == "":
	case !skewed(resp.Header):
		d.ok("clock", "this machine's clock and the server's agree")
	case strict:
		d.fail("clock", &Error{Kind: ClockSkew, Text: fmt.Sprintf("this machine's clock is %s off: the server's says %s", off.Abs().Round(time.Minute), resp.Header.Get("Date"))})
	default:
		d.warn("clock", advice[ClockSkew], "this machine's clock is %s off: the server's says %s", off.Abs().Round(time.Minute), resp.Header.Get("Date"))
	}
	return body, true
}

// secure adds a step that says how a connection is encrypted.
func (d *diagnosis) secure(resp *http.Response) {
	url := resp.Request.URL
	host := url.Scheme + "://" + url.Host
	switch {
	case resp.TLS == nil && isLocal(url.Hostname()):
		d.ok("connection", "%s answers; not encrypted, on this machine", host)
	case resp.TLS == nil:
		d.warn("connection", "use https: whoever is on the way sees the credentials and can change the answers", "%s answers, and nothing is encrypted", host)
	default:
		certs := resp.TLS.PeerCertificates
		if len(resp.TLS.VerifiedChains) > 0 {
			certs = resp.TLS.VerifiedChains[0]
		}
		text := fmt.Sprintf("%s answers; %s, %s", host, tls.VersionName(resp.TLS.Version), describeChain(certs))
		switch {
		case len(resp.TLS.VerifiedChains) == 0:
			d.warn("connection", "remove tls_skip_verify, and set tls_ca_cert", "%s; nobody verified it", text)
		case time.Until(certs[0].NotAfter) < certAhead:
			d.warn("connection", "renew the server's certificate", "%s", text)
		default:
			d.ok("connection", "%s", text)
		}
	}
}

// describeChain says whose certificate it is, who issued it, and when it expires.
func describeChain(certs []*x509.Certificate) string {
	names := []string{}
	for _, c := range certs[1:] {
		names = append(names, nameOf(c.Subject.String()))
	}
	if len(names) == 0 {
		names = []string{nameOf(certs[0].Issuer.String())}
	}
	return fmt.Sprintf("a certificate of %s for %s, issued by %s, which ends %s", nameOf(certs[0].Subject.String()),
		nameOf(strings.Join(append(certs[0].DNSNames, addresses(certs[0])...), " ")), strings.Join(names, ", then "), inDays(certs[0].NotAfter))
}

func addresses(c *x509.Certificate) (out []string) {
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}

func nameOf(s string) string { return first(s, "(no name)") }

// peek returns the certificates of an untrusted server. It sends no request.
func peek(ctx context.Context, t *http.Transport, url string) (certs []*x509.Certificate) {
	t = t.Clone()
	defer t.CloseIdleConnections()
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{}
	}
	t.TLSClientConfig.InsecureSkipVerify = true
	t.TLSClientConfig.VerifyConnection = func(c tls.ConnectionState) error {
		certs = c.PeerCertificates
		return errors.New("seen")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil
	}
	if resp, err := t.RoundTrip(req); err == nil { // cannot happen
		resp.Body.Close()
	}
	return certs
}

func isLocal(host string) bool {
	return host == "localhost" || strings.HasPrefix(host, "127.") || host == "::1"
}

func (s *static) diagnose(_ context.Context, d *diagnosis) {
	text := fmt.Sprintf("the current key is %q", s.current)
	for id := range s.keys {
		if id != s.current {
			text += fmt.Sprintf(", the previous one %q", id)
		}
	}
	d.ok("key", "%s, and nobody needs to be asked", text)
}
