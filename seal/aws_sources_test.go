package seal

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/seal/sealtest"
)

// stsRecorder stands before moto and notes who asked STS for what. With expire set it answers itself, with credentials
// that live that long and have numbers.
type stsRecorder struct {
	*httptest.Server
	moto http.Handler

	mu     sync.Mutex
	last   string // "AssumeRole role/keep by AKIA..."
	token  string // the last web identity token
	number int
	expire time.Duration
}

func newSTS(t *testing.T, moto string) *stsRecorder {
	r := &stsRecorder{}
	if moto != "" {
		u, err := url.Parse(moto)
		if err != nil {
			t.Fatal(err)
		}
		r.moto = httputil.NewSingleHostReverseProxy(u)
	}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (s *stsRecorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	_, by, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	by, _, _ = strings.Cut(by, "/")
	_, role, _ := strings.Cut(form.Get("RoleArn"), ":role/")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = strings.TrimSpace(fmt.Sprintf("%s %s %s", form.Get("Action"), role, by))
	s.token = form.Get("WebIdentityToken")
	if s.moto != nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.moto.ServeHTTP(w, r)
		return
	}
	s.number++
	w.Header().Set("Content-Type", "text/xml")
	fmt.Fprintf(w, `<%sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials><AccessKeyId>ASIA%d</AccessKeyId>`+
		`<SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`,
		form.Get("Action"), s.number, time.Now().Add(s.expire).UTC().Format(time.RFC3339))
}

// machine is the metadata service of an instance (version 2 only) and the credentials endpoint of a container, which
// notes the token that it is shown. Its credentials are those that answer says.
type machine struct {
	*httptest.Server

	mu    sync.Mutex
	shown string
}

func newMachine(t *testing.T, answer func(source string) (id string, lives time.Duration)) *machine {
	m := &machine{}
	creds := func(w http.ResponseWriter, source string) {
		id, lives := answer(source)
		fmt.Fprintf(w, `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":%q,"SecretAccessKey":"s","Token":"t","Expiration":%q}`,
			id, time.Now().Add(lives).UTC().Format(time.RFC3339))
	}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		switch {
		case path == "/container":
			m.mu.Lock()
			m.shown = r.Header.Get("Authorization")
			m.mu.Unlock()
			creds(w, "container")
		case path == "/latest/api/token" && r.Method == http.MethodPut:
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
			io.WriteString(w, "imds-token")
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "imds-token":
			w.WriteHeader(http.StatusUnauthorized)
		case path == "/latest/meta-data/iam/security-credentials/":
			io.WriteString(w, "keep")
		case path == "/latest/meta-data/iam/security-credentials/keep":
			creds(w, "instance")
		case path == "/latest/dynamic/instance-identity/document":
			io.WriteString(w, `{"region":"`+sealtest.MotoRegion+`"}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(m.Close)
	return m
}

// TestAWSOrder has every source of credentials at once and takes the strongest away, again and again. Each that is used
// opens and closes a blob at moto.
func TestAWSOrder(t *testing.T) {
	clean(t)
	m := sealtest.Moto(t)
	sts := newSTS(t, m.URL)
	machine := newMachine(t, func(source string) (string, time.Duration) { return "AKIA-" + source, time.Hour })
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	role := func(name string) string { return "arn:aws:iam::123456789012:role/" + name }
	token := write("token", "a.web.token")
	keys := func(id string) string {
		return "aws_access_key_id = " + id + "\naws_secret_access_key = s\n"
	}
	process := "credential_process = printf '{\"Version\":1,\"AccessKeyId\":\"AKIA-process\",\"SecretAccessKey\":\"s\"}'\n"
	newSSO(t, func() (string, time.Duration) { return "AKIA-sso", time.Hour })
	ssoLogin(t, "corp", ssoToken, "", time.Hour)
	webIdentity := "web_identity_token_file = " + token + "\nrole_arn = " + role("profile-web") + "\n"
	profile := func(lines ...string) func() {
		return func() {
			write("config", "[profile keep]\n"+strings.Join(lines, "")+"[profile base]\n"+keys("AKIA-base")+ssoCorp)
		}
	}
	profile(keys("AKIA-profile"), "source_profile = base\nrole_arn = "+role("profile")+"\n")()

	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_STS": sts.URL, "AWS_CONFIG_FILE": filepath.Join(dir, "config"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(dir, "none"),
		"AWS_ACCESS_KEY_ID": "AKIA-environment", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t",
		"AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": role("environment-web"), "AWS_PROFILE": "keep",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": machine.URL + "/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": write("pod", "pod-token"),
		"AWS_EC2_METADATA_SERVICE_ENDPOINT": machine.URL, "AWS_EC2_METADATA_DISABLED": "false",
	} {
		t.Setenv(name, value)
	}
	params := map[string]string{"kms_key_id": m.KeyID, "endpoint": m.URL,
		"access_key": "AKIA-block", "secret_key": "s", "role_arn": role("block"), "web_identity_token_file": token,
		"shared_creds_filename": write("shared", "[mine]\n"+keys("AKIA-file")), "shared_creds_profile": "mine"}
	drop := func(names ...string) func() {
		return func() {
			for _, n := range names {
				delete(params, n)
				os.Unsetenv(n)
			}
		}
	}
	for _, step := range []struct {
		want string // access key, or what STS was asked
		then func() // takes it away
	}{
		{"AssumeRole block AKIA-block", drop("access_key", "secret_key")},
		{"AssumeRoleWithWebIdentity block", drop("web_identity_token_file")},
		{"AssumeRole block AKIA-file", drop("role_arn")},
		{"AKIA-file", drop("shared_creds_filename", "shared_creds_profile")},
		{"AKIA-environment", drop("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")},
		{"AssumeRoleWithWebIdentity environment-web", drop("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN")},
		{"AssumeRole profile AKIA-base", profile(keys("AKIA-profile"), ssoSession, process)},
		{"AKIA-profile", profile(webIdentity, ssoSession)}, // the SDK wants this without credential_process
		{"AssumeRoleWithWebIdentity profile-web", profile(ssoSession, process)},
		{"AKIA-sso", profile(process)},
		{"AKIA-process", profile("credential_source = EcsContainer\nrole_arn = " + role("profile") + "\n")},
		{"AssumeRole profile AKIA-container", profile("credential_source = Ec2InstanceMetadata\nrole_arn = " + role("profile") + "\n")},
		{"AssumeRole profile AKIA-instance", func() { drop("AWS_PROFILE")(); write("config", "[default]\n"+keys("AKIA-default")) }},
		{"AKIA-default", profile()},
		{"AKIA-container", drop("AWS_CONTAINER_CREDENTIALS_FULL_URI")},
		{"AKIA-instance", func() { t.Setenv("AWS_EC2_METADATA_DISABLED", "true"); t.Setenv("AWS_REGION", sealtest.MotoRegion) }},
	} {
		t.Run(step.want, func(t *testing.T) {
			var list []string
			for k, v := range params {
				list = append(list, k, v)
			}
			if step.want != "AKIA-instance" { // which has a region
				list = append(list, "region", sealtest.MotoRegion)
			}
			sts.last = ""
			s := make1(t, block("awskms", "aws", list...))
			roundTrip(t, s)
			creds, _, err := s.service.(*awsKMS).login.get(soon(t))
			if err != nil {
				t.Fatal(err)
			}
			if got := sts.last; got != step.want && creds.AccessKeyID != step.want {
				t.Errorf("used %s, STS was asked %q", creds.AccessKeyID, got)
			}
		})
		step.then()
	}
	_, _, err := make1(t, block("awskms", "aws", "kms_key_id", m.KeyID, "endpoint", m.URL)).Wrap(soon(t), secret, aad)
	hasClass(t, err, CredentialsMissing, "no AWS credentials were found")
}

// Temporary credentials are cached, and renewed by the same seal before they end.
func TestAWSRenewal(t *testing.T) {
	dir := t.TempDir()
	token, pod, output := filepath.Join(dir, "token"), filepath.Join(dir, "pod"), filepath.Join(dir, "output")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roleARN := "arn:aws:iam::111122223333:role/keep"
	number, lives := 0, time.Duration(0)
	process := func() { // the next credentials of the process
		write(output, fmt.Sprintf(`{"Version":1,"AccessKeyId":"ASIA%d","SecretAccessKey":"s","SessionToken":"t","Expiration":%q}`,
			number+1, time.Now().Add(lives).UTC().Format(time.RFC3339)))
	}
	write(filepath.Join(dir, "config"), "[profile process]\ncredential_process = cat "+output+"\n"+
		"[profile role]\nrole_arn = "+roleARN+"\nsource_profile = base\n[profile base]\naws_access_key_id = AKIA\naws_secret_access_key = s\n"+
		"[profile web]\nrole_arn = "+roleARN+"\nweb_identity_token_file = "+token+"\n[profile sso]\n"+ssoLegacy+"[profile sso-session]\n"+ssoSession+ssoCorp)
	for name, c := range map[string]struct {
		env    map[string]string
		params []string
	}{
		"role of the block":         {nil, []string{"access_key", accessKey, "secret_key", secretKey, "role_arn", roleARN}},
		"web identity of the block": {nil, []string{"web_identity_token_file", token, "role_arn", roleARN}},
		"web identity of a profile": {map[string]string{"AWS_PROFILE": "web"}, nil},
		"web identity":              {map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": roleARN}, nil},
		"role of a profile":         {map[string]string{"AWS_PROFILE": "role"}, nil},
		"process":                   {map[string]string{"AWS_PROFILE": "process"}, nil},
		"SSO":                       {map[string]string{"AWS_PROFILE": "sso"}, nil},
		"SSO by a session":          {map[string]string{"AWS_PROFILE": "sso-session"}, nil},
		"container":                 {map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": pod}, nil},
		"instance":                  {map[string]string{"AWS_EC2_METADATA_DISABLED": "false"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKMS(t)
			number = 0
			sts := newSTS(t, "")
			answer := func() (string, time.Duration) {
				number++
				return fmt.Sprintf("ASIA%d", number), lives
			}
			machine := newMachine(t, func(string) (string, time.Duration) { return answer() })
			newSSO(t, answer)
			ssoLogin(t, "https://start.example", ssoToken, "", time.Hour)
			ssoLogin(t, "corp", ssoToken, "", time.Hour)
			t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.URL)
			t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
			for name, v := range c.env {
				if strings.HasPrefix(v, "/container") {
					v = machine.URL + v
				}
				t.Setenv(name, v)
			}
			s := make1(t, block("awskms", "aws", append([]string{"kms_key_id", keyA, "endpoint", k.URL}, c.params...)...))
			used := func(next time.Duration) string {
				lives = next
				sts.mu.Lock()
				sts.expire = next
				sts.mu.Unlock()
				process()
				roundTrip(t, s)
				creds, _, err := s.service.(*awsKMS).login.get(soon(t))
				if err != nil {
					t.Fatal(err)
				}
				if name == "process" && creds.AccessKeyID == fmt.Sprintf("ASIA%d", number+1) {
					number++
				}
				return creds.AccessKeyID
			}
			write(token, "first.web.token")
			left := 2*maxAttempt - 5*time.Second // they end too soon to be used again
			if name == "instance" {
				left = time.Second // the SDK uses these until they end
			}
			write(pod, "first pod token")
			old := used(left)
			write(token, "second.web.token")
			write(pod, "second pod token")
			var next string
			waitFor(t, "new credentials", func() bool { next = used(time.Hour); return next != old || name != "instance" })
			if next == old {
				t.Error("credentials that end were not renewed")
			}
			if strings.HasPrefix(name, "web") && sts.token != "second.web.token" {
				t.Errorf("STS was shown %q", sts.token)
			}
			if name == "container" && machine.shown != "second pod token" {
				t.Errorf("the container's service was shown %q", machine.shown)
			}
			if got := used(time.Hour); got != next {
				t.Errorf("credentials that live are not kept: %s, then %s", next, got)
			}
		})
	}
}

// When an instance has no newer credentials, or does not answer, those that it gave are used past their end.
func TestAWSInstanceAway(t *testing.T) {
	k := newKMS(t)
	machine := newMachine(t, func(string) (string, time.Duration) { return "ASIA1", time.Second })
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.URL)
	s := make1(t, block("awskms", "aws", "kms_key_id", keyA, "endpoint", k.URL))
	roundTrip(t, s)
	machine.Close()
	waitFor(t, "the end of the credentials", func() bool {
		creds, _, err := s.service.(*awsKMS).login.get(soon(t))
		if err != nil || creds.AccessKeyID != "ASIA1" {
			t.Fatalf("%s, %v", creds.AccessKeyID, err)
		}
		return time.Until(creds.Expires) > time.Minute
	})
	roundTrip(t, s)
}

// Every request for credentials is made once more when there was no proper answer, or none in time, and not a third time.
func TestAWSRepeats(t *testing.T) {
	clean(t)
	sts := newSTS(t, "")
	sts.expire = time.Hour
	machine := newMachine(t, func(string) (string, time.Duration) { return "ASIA1", time.Hour })
	sso := newSSO(t, func() (string, time.Duration) { return "ASIA1", time.Hour })
	var far http.Handler
	var bad, asked atomic.Int32 // requests: to be answered badly, and all
	var stall atomic.Bool       // in place of a bad answer
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1); {
		case bad.Add(-1) < 0:
			far.ServeHTTP(w, r)
		case stall.Load():
			io.Copy(io.Discard, r.Body) // else nobody sees the client leave
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer front.Close()
	defer front.CloseClientConnections()
	dir := t.TempDir()
	token, profiles := filepath.Join(dir, "token"), filepath.Join(dir, "config")
	if err := os.WriteFile(token, []byte("a.web.token"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(profiles, []byte("[profile legacy]\n"+ssoLegacy+"[profile session]\n"+ssoSession+ssoCorp), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", profiles)
	role := "arn:aws:iam::111122223333:role/keep"
	for _, c := range []struct {
		name   string
		far    http.Handler
		env    map[string]string
		params []string
		want   Class // when it fails twice
	}{
		{"role", sts, map[string]string{"AWS_ENDPOINT_URL_STS": front.URL}, []string{"access_key", accessKey, "secret_key", secretKey, "role_arn", role}, Unreachable},
		{"web identity", sts, map[string]string{"AWS_ENDPOINT_URL_STS": front.URL}, []string{"web_identity_token_file", token, "role_arn", role}, Unreachable},
		{"SSO", sso, map[string]string{"AWS_ENDPOINT_URL_SSO": front.URL, "AWS_PROFILE": "legacy"}, nil, Unreachable},
		{"SSO's refresh token", sso, map[string]string{"AWS_ENDPOINT_URL_SSO_OIDC": front.URL, "AWS_ENDPOINT_URL_SSO": sso.URL, "AWS_PROFILE": "session"}, nil, Unreachable},
		{"container", machine.Config.Handler, map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": front.URL + "/container"}, nil, Unreachable},
		{"instance", machine.Config.Handler, map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": front.URL, "AWS_EC2_METADATA_DISABLED": "false"}, nil, CredentialsMissing},
	} {
		for name, v := range c.env {
			t.Setenv(name, v)
		}
		far = c.far
		for _, how := range []string{"bad", "bad, bad", "stalled"} {
			ssoLogin(t, "https://start.example", ssoToken, "", time.Hour)
			ssoLogin(t, "corp", ssoToken, ssoRefresh, -time.Hour)
			sso.set(func() { sso.token, sso.refresh = ssoToken, ssoRefresh })
			bad.Store(int32(strings.Count(how, ",") + 1))
			stall.Store(how == "stalled")
			asked.Store(0)
			login := make1(t, block("awskms", "aws", append([]string{"kms_key_id", keyA}, c.params...)...)).service.(*awsKMS).login
			login.timeout = 500 * time.Millisecond
			_, _, err := login.get(soon(t))
			switch {
			case how != "bad, bad" && err != nil:
				t.Errorf("%s, %s: was not asked again: %v", c.name, how, err)
			case how == "bad, bad" && (classify(err) != c.want || asked.Load() != 2):
				t.Errorf("%s, %s: asked %d times, %v", c.name, how, asked.Load(), err)
			}
		}
		for name := range c.env {
			os.Unsetenv(name)
		}
	}
}
