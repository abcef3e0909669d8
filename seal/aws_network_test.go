package seal

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// internet is a proxy behind which every host is AWS, with certificates of its own authority.
type internet struct {
	*httptest.Server
	t   *testing.T
	kms http.Handler
	sts http.Handler // and every other service

	mu    sync.Mutex
	ca    *authority
	hosts []string
}

func newInternet(t *testing.T, kms, sts http.Handler) *internet {
	n := &internet{t: t, kms: kms, sts: sts, ca: newCA(t)}
	n.Server = httptest.NewServer(n)
	t.Cleanup(n.Close)
	return n
}

func (n *internet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	n.hosts = append(n.hosts, r.Host)
	ca := n.ca
	n.mu.Unlock()
	if r.Method != http.MethodConnect { // a request for an http: URL
		fmt.Fprintf(w, `{"AccessKeyId":"AKIA-proxied","SecretAccessKey":"s","Token":"t","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		return
	}
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	host, _, _ := net.SplitHostPort(r.Host)
	chain, err := tls.X509KeyPair(ca.issue(n.t, host))
	if err != nil {
		return
	}
	far := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{chain}})
	req, err := http.ReadRequest(bufio.NewReader(far))
	if err != nil {
		return
	}
	answer := httptest.NewRecorder()
	if strings.HasPrefix(req.Header.Get("X-Amz-Target"), "TrentService.") {
		n.kms.ServeHTTP(answer, req)
	} else {
		n.sts.ServeHTTP(answer, req)
	}
	res := answer.Result()
	res.ContentLength, res.Close = int64(answer.Body.Len()), true
	res.Write(far)
	far.Close()
}

// issuer makes another authority the one of all hosts, and returns the one before.
func (n *internet) issuer(ca *authority) *authority {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.ca
	n.ca = ca
	return old
}

// asked returns the hosts asked for since the last time, without repetitions.
func (n *internet) asked() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := slices.Compact(n.hosts)
	n.hosts = nil
	return h
}

// TestAWSNetwork runs in a process of its own: Go reads the proxy's variables once.
func TestAWSNetwork(t *testing.T) {
	if os.Getenv("SEAL_TEST_CHILD") == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAWSNetwork$")
		cmd.Env = append(os.Environ(), "SEAL_TEST_CHILD=network")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	k := newKMS(t)
	system := newCA(t)
	root := filepath.Join(t.TempDir(), "system.pem")
	if err := os.WriteFile(root, system.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", root) // which Go reads once, too
	sts := newSTS(t, "")
	sts.expire = time.Hour
	sso := newSSO(t, func() (string, time.Duration) { return "ASIAsso", time.Hour })
	os.Unsetenv("AWS_ENDPOINT_URL_SSO")
	os.Unsetenv("AWS_ENDPOINT_URL_SSO_OIDC")
	ssoLogin(t, "corp", ssoToken, ssoRefresh, -time.Minute)
	internet := newInternet(t, k, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			sts.ServeHTTP(w, r)
		} else {
			sso.ServeHTTP(w, r)
		}
	}))
	direct := noName + ".direct.example" // resolves nowhere
	t.Setenv("HTTPS_PROXY", internet.URL)
	t.Setenv("HTTP_PROXY", internet.URL)
	t.Setenv("NO_PROXY", ".direct.example")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, internet.ca.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	key := func(partition, region string) string {
		arn := "arn:" + partition + ":kms:" + region + ":111122223333:key/aaaaaaaa-0000-4000-8000-000000000001"
		k.AddKey(arn)
		return arn
	}
	profiles := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(profiles, []byte("[profile general]\nendpoint_url = https://all.profile.example\n"+
		"[profile special]\nendpoint_url = https://sts.profile.example\nservices = keep\n[services keep]\nkms =\n  endpoint_url = https://kms.profile.example\n"+
		"[profile sso]\n"+ssoSession+ssoCorp), 0o600); err != nil {
		t.Fatal(err)
	}
	type env = map[string]string
	const role = "role_arn"
	own := []string{"endpoint", "https://own.example"}
	none := []string{"access_key", "", "secret_key", ""}
	container := func(kind, uri string) env { return env{"AWS_CONTAINER_CREDENTIALS_" + kind + "_URI": uri} }
	var (
		all     = env{"AWS_ENDPOINT_URL": "https://all.example"}
		both    = env{"AWS_ENDPOINT_URL": "https://all.example", "AWS_ENDPOINT_URL_KMS": "https://kms.example"}
		general = env{"AWS_CONFIG_FILE": profiles, "AWS_PROFILE": "general"}
		special = env{"AWS_CONFIG_FILE": profiles, "AWS_PROFILE": "special"}
	)
	with := func(e env, name, value string) env {
		e = maps.Clone(e)
		e[name] = value
		return e
	}
	for _, c := range []struct {
		name   string
		env    env
		key    string
		params []string
		want   string // hosts, in order
	}{
		{"commercial", nil, keyA, nil, "kms.eu-central-1.amazonaws.com"},
		{"commercial, role", nil, keyA, []string{role}, "sts.eu-central-1.amazonaws.com kms.eu-central-1.amazonaws.com"},
		{"GovCloud", nil, key("aws-us-gov", "us-gov-west-1"), nil, "kms.us-gov-west-1.amazonaws.com"},
		{"GovCloud, role", nil, key("aws-us-gov", "us-gov-east-1"), []string{role}, "sts.us-gov-east-1.amazonaws.com kms.us-gov-east-1.amazonaws.com"},
		{"China", nil, key("aws-cn", "cn-north-1"), nil, "kms.cn-north-1.amazonaws.com.cn"},
		{"China, role", nil, key("aws-cn", "cn-northwest-1"), []string{role}, "sts.cn-northwest-1.amazonaws.com.cn kms.cn-northwest-1.amazonaws.com.cn"},
		{"FIPS", env{"AWS_USE_FIPS_ENDPOINT": "true"}, key("aws", "us-east-1"), []string{role}, "sts-fips.us-east-1.amazonaws.com kms-fips.us-east-1.amazonaws.com"},
		{"FIPS, GovCloud", env{"AWS_USE_FIPS_ENDPOINT": "true"}, key("aws-us-gov", "us-gov-west-1"), []string{role}, "sts.us-gov-west-1.amazonaws.com kms-fips.us-gov-west-1.amazonaws.com"},
		{"dual stack", env{"AWS_USE_DUALSTACK_ENDPOINT": "true"}, keyA, []string{role}, "sts.eu-central-1.api.aws kms.eu-central-1.api.aws"},
		{"VPC endpoint", nil, keyA, []string{role, "endpoint", "https://vpce-1.kms.eu-central-1.vpce.amazonaws.com"},
			"sts.eu-central-1.amazonaws.com vpce-1.kms.eu-central-1.vpce.amazonaws.com"},
		{"VPC endpoint of STS", env{"AWS_ENDPOINT_URL_STS": "https://vpce-1.sts.eu-central-1.vpce.amazonaws.com"}, keyA, []string{role},
			"vpce-1.sts.eu-central-1.vpce.amazonaws.com kms.eu-central-1.amazonaws.com"},
		{"endpoint of everything", all, keyA, []string{role}, "all.example"},
		{"endpoint of KMS", both, keyA, []string{role}, "all.example kms.example"},
		{"endpoint of KMS, keys alone", both, keyA, nil, "kms.example"},
		{"endpoints not to be heeded", with(both, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"), keyA, []string{role}, "sts.eu-central-1.amazonaws.com kms.eu-central-1.amazonaws.com"},
		{"the file before both", both, keyA, own, "own.example"},
		{"sealkeep's own variable before both", with(both, "AWS_KMS_ENDPOINT", "https://own.example"), keyA, nil, "own.example"},
		{"profile's endpoint", general, keyA, []string{role}, "all.profile.example"},
		{"profile's endpoint of KMS", special, keyA, []string{role}, "sts.profile.example kms.profile.example"},
		{"profile's endpoint not to be heeded", with(special, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"), keyA, []string{role}, "sts.eu-central-1.amazonaws.com kms.eu-central-1.amazonaws.com"},
		{"the file before the profile", special, keyA, append(own, role), "sts.profile.example own.example"},
		{"general variable before the profile", with(special, "AWS_ENDPOINT_URL", "https://all.example"), keyA, []string{role}, "all.example"},
		{"keys of the block without a profile", special, keyA, nil, "kms.eu-central-1.amazonaws.com"},
		{"legacy STS", env{"AWS_STS_REGIONAL_ENDPOINTS": "legacy"}, keyA, []string{role}, "sts.eu-central-1.amazonaws.com kms.eu-central-1.amazonaws.com"},
		{"SSO", env{"AWS_CONFIG_FILE": profiles, "AWS_PROFILE": "sso"}, keyA, none,
			"oidc.eu-west-1.amazonaws.com portal.sso.eu-west-1.amazonaws.com kms.eu-central-1.amazonaws.com"},
		{"container by relative URI", container("RELATIVE", "/v2/credentials/x"), keyA, none, "169.254.170.2 kms.eu-central-1.amazonaws.com"},
		{"container by both", with(container("RELATIVE", "/v2/credentials/x"), "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
			keyA, none, "169.254.170.2 kms.eu-central-1.amazonaws.com"},
		{"pod", container("FULL", "http://169.254.170.23/v1/credentials"), keyA, none, "169.254.170.23 kms.eu-central-1.amazonaws.com"},
		{"pod, IPv6", container("FULL", "http://[fd00:ec2::23]/v1/credentials"), keyA, none, "[fd00:ec2::23] kms.eu-central-1.amazonaws.com"},
	} {
		t.Setenv("AWS_CA_BUNDLE", ca)
		for name, value := range c.env {
			t.Setenv(name, value)
		}
		params := env{"kms_key_id": c.key, "access_key": accessKey, "secret_key": secretKey}
		for i := 0; i < len(c.params); i++ {
			if c.params[i] == role {
				params[role] = strings.Split(c.key, ":kms:")[0] + ":iam::111122223333:role/keep"
				continue
			}
			params[c.params[i]] = c.params[i+1]
			i++
		}
		hcl := "seal \"awskms\" {\n"
		for name, value := range params {
			hcl += fmt.Sprintf("%s = %q\n", name, value)
		}
		hcl += "}"
		internet.asked()
		_, _, err := load(t, hcl).Wrap(soon(t), secret, aad)
		if got := strings.ReplaceAll(strings.Join(internet.asked(), " "), ":443", ""); got != c.want || err != nil {
			t.Errorf("%s: asked %s\n\twant %s, error %v", c.name, got, c.want, err)
		}

		// Without the authority's certificate there is no connection, to KMS or STS, whichever is asked first.
		os.Unsetenv("AWS_CA_BUNDLE")
		_, _, err = load(t, hcl).Wrap(soon(t), secret, aad)
		hasClass(t, err, TLS, "AWS_CA_BUNDLE")
		for name := range c.env {
			os.Unsetenv(name)
		}
	}

	// Nobody else is shown a pod's token in the clear.
	internet.asked()
	for _, host := range []string{"169.254.169.254", "10.0.0.1", "[fd00:ec2::24]"} {
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://"+host+"/v1/credentials")
		_, _, err := make1(t, block("awskms", "aws", "kms_key_id", keyA)).Wrap(soon(t), secret, aad)
		hasClass(t, err, CredentialsMissing, "only loopback/ecs/eks hosts are allowed")
	}
	os.Unsetenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if got := internet.asked(); len(got) != 0 {
		t.Errorf("hosts that are not allowed: asked %v", got)
	}

	// The metadata of an instance is asked for through the proxy too.
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	_, _, err := make1(t, block("awskms", "aws", "kms_key_id", keyA)).Wrap(soon(t), secret, aad)
	hasClass(t, err, CredentialsMissing)
	if got := internet.asked(); !slices.Equal(got, []string{"169.254.169.254"}) {
		t.Errorf("instance: asked %v", got)
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")

	aws := func(params ...string) *Seal {
		return make1(t, block("awskms", "aws", append([]string{"kms_key_id", keyA, "access_key", accessKey, "secret_key", secretKey}, params...)...))
	}
	internet.asked()
	_, _, err = aws("endpoint", strings.Replace(direct, "http:", "https:", 1)).Wrap(soon(t), secret, aad)
	hasClass(t, err, DNS)
	t.Setenv("AWS_ENDPOINT_URL_STS", strings.Replace(direct, "http:", "https:", 1))
	_, _, err = aws("role_arn", "arn:aws:iam::111122223333:role/keep").Wrap(soon(t), secret, aad)
	hasClass(t, err, DNS)
	if got := internet.asked(); len(got) != 0 {
		t.Errorf("NO_PROXY: the proxy was asked for %v", got)
	}
	os.Unsetenv("AWS_ENDPOINT_URL_STS")

	// Loopback is not asked through the proxy.
	roundTrip(t, aws("endpoint", k.URL))
	if got := internet.asked(); len(got) != 0 {
		t.Errorf("loopback: the proxy was asked for %v", got)
	}

	// The bundle's authorities replace the system's.
	whole := internet.issuer(system)
	for _, params := range [][]string{nil, {"role_arn", "arn:aws:iam::111122223333:role/keep"}} {
		os.Unsetenv("AWS_CA_BUNDLE")
		roundTrip(t, aws(params...))
		t.Setenv("AWS_CA_BUNDLE", ca)
		_, _, err = aws(params...).Wrap(soon(t), secret, aad)
		hasClass(t, err, TLS, "AWS_CA_BUNDLE")
	}
	internet.issuer(whole)

	// The bundle's file is read again for each attempt.
	s := aws()
	for _, damage := range []func() error{
		func() error { return os.WriteFile(ca, []byte("no PEM"), 0o600) },
		func() error { return os.Remove(ca) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Seal{s, aws("role_arn", "arn:aws:iam::111122223333:role/keep")} {
			_, _, err = s.Wrap(soon(t), secret, aad)
			hasClass(t, err, TLS, "AWS_CA_BUNDLE")
		}
	}
	if err := os.WriteFile(ca, internet.ca.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, s)

	internet.Close()
	_, _, err = aws().Wrap(soon(t), secret, aad)
	hasClass(t, err, Unreachable, "proxy")
}

func TestAWSIPv6(t *testing.T) {
	k := newKMS(t)
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: k}}
	server.Start()
	defer server.Close()
	roundTrip(t, awsBlock(k, keyA, "endpoint", server.URL))
	if !strings.Contains(server.URL, "[::1]") {
		t.Errorf("the endpoint is %s", server.URL)
	}
}
