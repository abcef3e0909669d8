package cert_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
)

// overTLS serves the keep to clients that may show certificates, and returns the
// official client of one that shows these, or none.
func (f *fixture) overTLS(t testing.TB, l server.Listener) func(...*servertest.Holder) *vault.Client {
	t.Helper()
	trusted := httptest.NewTLSServer(nil) // has a certificate, and a client that trusts it
	t.Cleanup(trusted.Close)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := f.HTTPServer(l)
	go server.Serve(web, socket, &tls.Config{Certificates: trusted.TLS.Certificates, ClientAuth: tls.RequestClientCert})
	t.Cleanup(func() { web.Close() })
	return func(shown ...*servertest.Holder) *vault.Client {
		config := vault.DefaultConfig()
		config.Address, config.MaxRetries = "https://"+socket.Addr().String(), 0
		transport := trusted.Client().Transport.(*http.Transport).Clone()
		if len(shown) > 0 {
			pair := tls.Certificate{PrivateKey: shown[0].Key}
			for _, h := range shown {
				pair.Certificate = append(pair.Certificate, h.Raw)
			}
			transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		config.HttpClient = &http.Client{Transport: transport}
		c, err := vault.NewClient(config)
		if err != nil {
			t.Fatal(err)
		}
		c.ClearNamespace()
		t.Cleanup(transport.CloseIdleConnections)
		return c
	}
}

func TestLoginCert(t *testing.T) {
	f := fresh(t)
	ca, other := servertest.NewHolder(t, nil, "ca", time.Hour), servertest.NewHolder(t, nil, "other", time.Hour)
	leaf, again := servertest.NewHolder(t, ca, "web.example.com", time.Hour), servertest.NewHolder(t, ca, "web.example.com", time.Hour)
	f.Must(t, 204, "POST", "sys/auth/cert", `{"type":"cert"}`)
	for body, text := range map[string]string{
		`{}`: "failed to parse certificate",
		`{"certificate":` + servertest.JSONText(ca.PEM()) + `,"ocsp_enabled":"true"}`:                                        "auth/cert/crls/",
		`{"certificate":` + servertest.JSONText(ca.PEM()) + `,"required_extensions":"x"}`:                                    "required extension",
		`{"certificate":` + servertest.JSONText(ca.PEM()) + `,"token_type":"batch"}`:                                         "batch tokens",
		`{"certificate":` + servertest.JSONText(ca.PEM()) + `,"allowed_names":"a,b","ocsp_enabled":false,"display_name":""}`: "",
	} {
		f.Must(t, 204, "DELETE", "auth/cert/certs/bad", "")
		if r := f.Call(t, "POST", "auth/cert/certs/bad", body); r.Status == 400 != (text != "") || !strings.Contains(r.Text, text) {
			t.Errorf("%s: %d %s", body, r.Status, r.Text)
		}
	}
	f.Must(t, 204, "DELETE", "auth/cert/certs/bad", "")
	f.Must(t, 404, "GET", "auth/cert/certs/bad", "")
	f.Must(t, 204, "POST", "auth/cert/certs/Web", servertest.JSONText(map[string]any{
		"certificate": ca.PEM(), "allowed_common_names": "web.*,x", "policies": "app", "ttl": "50m", "display_name": "web server",
	}))
	if r := f.Must(t, 200, "GET", "auth/cert/certs/web", ""); servertest.Say(r.Get("data", "allowed_common_names"), r.Get("data", "token_policies"), r.Get("data", "token_ttl"), r.Get("data", "display_name"), r.Get("data", "certificate") == ca.PEM()) !=
		"[web.* x] [app] 3000 web server true" {
		t.Error(r.Text)
	}
	if r := f.Must(t, 200, "LIST", "auth/cert/certs", ""); fmt.Sprint(r.Get("data", "keys")) != "[web]" {
		t.Error(r.Text)
	}

	client := f.overTLS(t, server.Listener{})
	login := func(name, want string, shown ...*servertest.Holder) *vault.Secret {
		t.Helper()
		secret, err := client(shown...).Logical().Write("auth/cert/login", map[string]any{"name": name})
		if err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("want %q: %v", want, err)
		}
		return secret
	}
	if r := f.Must(t, 400, "POST", "auth/cert/login", "{}"); !strings.Contains(r.Errors(), "this connection has no TLS") {
		t.Error(r.Text)
	}
	login("", "no client certificate found")
	login("", "invalid certificate", other)
	login("", "no chain", servertest.NewHolder(t, ca, "mail.example.com", time.Hour))
	login("", "has expired", servertest.NewHolder(t, ca, "web.example.com", -time.Minute))
	login("nobody", "no chain", leaf)
	secret := login("WEB", "", leaf)
	if got := servertest.Say(secret.Auth.Policies, secret.Auth.LeaseDuration, secret.Auth.Metadata["cert_name"], secret.Auth.Metadata["common_name"], secret.Auth.Metadata["serial_number"]); got !=
		"[app default] 3000 web web.example.com "+leaf.SerialNumber.String() {
		t.Error(got)
	}
	token := secret.Auth.ClientToken
	if r := f.Must(t, 200, "GET", "auth/token/lookup-self", "", servertest.As(token)); r.Get("data", "display_name") != "cert-web-server" {
		t.Error(r.Text)
	}

	// Renewed with the same certificate only, as long as that logs in.
	renew := func(want string, shown ...*servertest.Holder) {
		t.Helper()
		c := client(shown...)
		c.SetToken(token)
		if _, err := c.Auth().Token().RenewSelf(0); err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	renew("", leaf)
	renew("no client certificate found")
	renew("client identity", again)
	f.Must(t, 204, "POST", "auth/cert/certs/web", `{"token_policies":"app,more"}`)
	renew("policies have changed", leaf)
	f.Must(t, 204, "POST", "auth/cert/certs/web", `{"token_policies":"app","allowed_common_names":"x"}`)
	renew("no chain", leaf)
	f.Must(t, 204, "POST", "auth/cert/certs/web", `{"allowed_common_names":""}`)
	renew("", leaf)

	// A list of revoked certificates counts at once, for renewals too.
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now(),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: leaf.SerialNumber, RevocationTime: time.Now()}},
	}, ca.Certificate, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	list := string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
	for body, text := range map[string]string{`{}`: "'crl' must be", `{"url":"http://x"}`: "lists are not fetched", `{"crl":"x"}`: "failed to parse CRL"} {
		if r := f.Must(t, 400, "POST", "auth/cert/crls/ca", body); !strings.Contains(r.Errors(), text) {
			t.Error(r.Text)
		}
	}
	f.Must(t, 400, "GET", "auth/cert/crls/ca", "")
	f.Must(t, 204, "POST", "auth/cert/crls/ca", servertest.JSONText(map[string]string{"crl": list}))
	if r := f.Must(t, 200, "GET", "auth/cert/crls/ca", ""); r.Get("data", "serials", leaf.SerialNumber.String()) == nil {
		t.Error(r.Text)
	}
	if r := f.Must(t, 200, "LIST", "auth/cert/crls", ""); fmt.Sprint(r.Get("data", "keys")) != "[ca]" {
		t.Error(r.Text)
	}
	login("", "no chain", leaf)
	f.Clock.Add(2 * 15 * time.Minute)
	login("", "", again)
	renew("no chain", leaf)
	f.Must(t, 204, "DELETE", "auth/cert/crls/ca", "")
	renew("", leaf)
	f.Must(t, 204, "DELETE", "auth/cert/certs/web", "")
	renew("does not exist any more", leaf)

	// Without binding, the token alone renews; and a certificate can stand for itself.
	f.Must(t, 204, "POST", "auth/cert/config", `{"disable_binding":"true"}`)
	if r := f.Must(t, 200, "GET", "auth/cert/config", ""); r.Get("data", "disable_binding") != true {
		t.Error(r.Text)
	}
	f.Must(t, 204, "POST", "auth/cert/certs/one", servertest.JSONText(map[string]any{"certificate": again.PEM()}))
	login("", "invalid certificate", leaf)
	token = login("", "", again).Auth.ClientToken
	renew("")
}

// A proxy's certificate does not log in those who come through it.
func TestLoginCertForwarded(t *testing.T) {
	f := fresh(t)
	ca := servertest.NewHolder(t, nil, "ca", time.Hour)
	proxy := servertest.NewHolder(t, ca, "proxy", time.Hour)
	f.Must(t, 204, "POST", "sys/auth/cert", `{"type":"cert"}`)
	f.Must(t, 204, "POST", "auth/cert/certs/all", servertest.JSONText(map[string]any{"certificate": ca.PEM()}))
	client := f.overTLS(t, server.Listener{Forwarded: server.Forwarded{Authorized: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	c := client(proxy)
	if _, err := c.Logical().Write("auth/cert/login", nil); err != nil {
		t.Errorf("the proxy itself: %v", err)
	}
	c.AddHeader("X-Forwarded-For", "10.0.0.1")
	if _, err := c.Logical().Write("auth/cert/login", nil); err == nil || !strings.Contains(err.Error(), "is that of the proxy") {
		t.Error(err)
	}
}
