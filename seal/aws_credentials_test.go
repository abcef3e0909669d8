package seal

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/seal/sealtest"
)

// The block's credentials are not mixed with those of the environment; no region is invented.
func TestAWSLogin(t *testing.T) {
	clean(t)
	dir := t.TempDir()
	credentials := filepath.Join(dir, "credentials")
	if err := os.WriteFile(credentials, []byte("[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = d\n"+
		"[keep]\naws_access_key_id = AKIAKEEP\naws_secret_access_key = k\naws_session_token = kt\n"+
		"[process]\ncredential_process = printf '{\"Version\":1,\"AccessKeyId\":\"AKIAPROCESS\",\"SecretAccessKey\":\"p\"}'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	configFile := filepath.Join(dir, "config")
	if err := os.WriteFile(configFile, []byte("[profile keep]\nregion = ap-south-1\n[default]\nregion = sa-east-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	type env = map[string]string
	for _, c := range []struct {
		name   string
		env    env
		params []string
		want   string // access key, region
	}{
		{"block", env{"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "e", "AWS_REGION": "eu-west-1"},
			[]string{"access_key", "AKIABLOCK", "secret_key", "b", "region", "eu-north-1"}, "AKIABLOCK eu-north-1"},
		{"environment", env{"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "e", "AWS_REGION": "eu-west-1"}, nil, "AKIAENV eu-west-1"},
		{"environment's other region", env{"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "e", "AWS_DEFAULT_REGION": "eu-west-2"}, nil, "AKIAENV eu-west-2"},
		{"ARN before the profile", env{"AWS_SHARED_CREDENTIALS_FILE": credentials, "AWS_CONFIG_FILE": configFile, "AWS_PROFILE": "keep"},
			[]string{"kms_key_id", keyA}, "AKIAKEEP eu-central-1"},
		{"file before the environment", env{"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "e", "AWS_REGION": "eu-west-1"},
			[]string{"shared_creds_filename", credentials}, "AKIADEFAULT eu-west-1"},
		{"file and profile", nil, []string{"shared_creds_filename", credentials, "shared_creds_profile", "keep", "region", "r-1"}, "AKIAKEEP r-1"},
		{"profile of the block", env{"AWS_SHARED_CREDENTIALS_FILE": credentials, "AWS_CONFIG_FILE": configFile, "AWS_PROFILE": "default"},
			[]string{"shared_creds_profile", "keep"}, "AKIAKEEP ap-south-1"},
		{"profile of the environment", env{"AWS_SHARED_CREDENTIALS_FILE": credentials, "AWS_CONFIG_FILE": configFile, "AWS_PROFILE": "keep"}, nil, "AKIAKEEP ap-south-1"},
		{"process", env{"AWS_SHARED_CREDENTIALS_FILE": credentials, "AWS_CONFIG_FILE": configFile, "AWS_PROFILE": "process", "AWS_REGION": "r-2"}, nil, "AKIAPROCESS r-2"},
		{"no region", env{"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "e"}, nil, "error: the AWS region of the key is not known: set region in the seal block, AWS_REGION"},
		{"nothing", env{"AWS_REGION": "eu-west-1"}, nil, "error: no AWS credentials were found"},
		{"no such profile", nil, []string{"shared_creds_filename", credentials, "shared_creds_profile", "nobody"}, "error: the AWS profile or environment cannot be used"},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t)
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			hcl := "seal \"awskms\" {\n"
			if !slices.Contains(c.params, "kms_key_id") {
				hcl += "kms_key_id = \"alias/main\"\n"
			}
			for i := 0; i < len(c.params); i += 2 {
				hcl += fmt.Sprintf("%s = %q\n", c.params[i], c.params[i+1])
			}
			svc := load(t, hcl+"}").service.(*awsKMS)
			creds, region, err := svc.login.get(soon(t))
			got := creds.AccessKeyID + " " + region
			if err != nil {
				e, ok := err.(*Error)
				if !ok || e.Kind != CredentialsMissing {
					t.Fatalf("got %v", err)
				}
				got = "error: " + e.Text
			}
			if got != c.want && !(err != nil && strings.HasPrefix(got, c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Credentials that were refused are read again, so that a refreshed profile is seen.
func TestAWSLoginForget(t *testing.T) {
	k := newKMS(t)
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(id string) {
		if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = "+id+"\naws_secret_access_key = s\naws_session_token = t\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("AKIAOLD")
	s := make1(t, block("awskms", "aws", "kms_key_id", keyA, "endpoint", k.URL, "shared_creds_filename", file))
	roundTrip(t, s)
	write("AKIANEW")
	access := func() string {
		c, _, err := s.service.(*awsKMS).login.get(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		return c.AccessKeyID
	}
	if access() != "AKIAOLD" {
		t.Error("credentials are not cached")
	}
	k.Fail(sealtest.Fault{Status: 400, Code: "ExpiredTokenException", Message: "The security token included in the request is expired"})
	_, _, err := s.Wrap(soon(t), secret, aad)
	hasClass(t, err, CredentialsExpired)
	k.Heal()
	if got := access(); got != "AKIANEW" {
		t.Errorf("still %s", got)
	}
	roundTrip(t, s)
}

// A machine's own roles: container credentials and the instance metadata service, with its region.
func TestAWSLoginMachine(t *testing.T) {
	clean(t)
	expires := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	var stall atomic.Bool
	machine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stall.Load() {
			<-r.Context().Done()
			return
		}
		creds := func(id string) string {
			return fmt.Sprintf(`{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":%q,"SecretAccessKey":"s","Token":"t","Expiration":%q}`, id, expires)
		}
		switch r.URL.Path {
		case "/latest/api/token":
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
			io.WriteString(w, "imds-token")
		case "/latest/meta-data/iam/security-credentials/":
			io.WriteString(w, "keep")
		case "/latest/meta-data/iam/security-credentials/keep":
			if r.Header.Get("X-Aws-Ec2-Metadata-Token") != "imds-token" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			io.WriteString(w, creds("AKIAINSTANCE"))
		case "/latest/dynamic/instance-identity/document":
			io.WriteString(w, `{"region":"eu-south-2"}`)
		case "/container":
			if r.Header.Get("Authorization") != "pod-token" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			io.WriteString(w, creds("AKIAPOD"))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer machine.Close()
	login := func() *awsLogin {
		return make1(t, block("awskms", "aws", "kms_key_id", "alias/main")).service.(*awsKMS).login
	}

	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.URL)
	creds, region, err := login().get(soon(t))
	if err != nil || creds.AccessKeyID != "AKIAINSTANCE" || region != "eu-south-2" {
		t.Errorf("instance: %s, %s, %v", creds.AccessKeyID, region, err)
	}

	stall.Store(true)
	t.Setenv("AWS_REGION", "eu-west-1")
	ctx, cancel := contextFor(t, 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, _, err = login().get(ctx)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if classify(err) != CredentialsMissing {
		t.Errorf("a metadata service that does not answer: %v", err)
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	if _, _, err = login().get(soon(t)); classify(err) != CredentialsMissing {
		t.Errorf("disabled: %v", err)
	}
	stall.Store(false)

	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("pod-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", machine.URL+"/container")
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token)
	if creds, region, err = login().get(soon(t)); err != nil || creds.AccessKeyID != "AKIAPOD" || region != "eu-west-1" {
		t.Errorf("pod: %s, %s, %v", creds.AccessKeyID, region, err)
	}
	if err := os.WriteFile(token, []byte("another's-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err = login().get(soon(t)); classify(err) != AuthDenied || strings.Contains(err.Error(), "another's-token") {
		t.Errorf("a token that is refused: %v", err)
	}
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	if _, _, err = login().get(soon(t)); classify(err) != CredentialsMissing || !strings.Contains(err.Error(), token) {
		t.Errorf("no token: %v", err)
	}
	os.Unsetenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token")
	if creds, _, err = login().get(soon(t)); err != nil || creds.AccessKeyID != "AKIAPOD" {
		t.Errorf("a token in the environment: %s, %v", creds.AccessKeyID, err)
	}
}

// An instance that only has version 1 of the metadata service is asked for nothing but a token.
func TestAWSLoginMetadataV1(t *testing.T) {
	clean(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	for _, status := range []int{http.StatusForbidden, http.StatusNotFound, http.StatusInternalServerError} {
		var asked atomic.Pointer[string]
		machine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				w.WriteHeader(status)
				return
			}
			asked.Store(&r.URL.Path)
			fmt.Fprint(w, `{"region":"eu-south-2","Code":"Success","AccessKeyId":"AKIAV1","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}`)
		}))
		t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.URL)
		for _, region := range []string{"eu-west-1", ""} { // credentials; the region first
			if _, _, err := make1(t, block("awskms", "aws", "kms_key_id", "alias/main", "region", region)).service.(*awsKMS).login.get(soon(t)); classify(err) != CredentialsMissing {
				t.Errorf("region %q: %v", region, err)
			}
		}
		machine.Close()
		if path := asked.Load(); path != nil {
			t.Errorf("status %d: asked for %s without a token", status, *path)
		}
	}
}

// The SDK writes nothing past the log, whatever it has to say: here about a date that is none.
func TestAWSLoginQuiet(t *testing.T) {
	clean(t)
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", "never")
		w.WriteHeader(http.StatusForbidden)
	}))
	defer sts.Close()
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	terminal, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	defer func(old *os.File) { os.Stderr = old }(os.Stderr)
	os.Stderr = terminal
	_, _, err = make1(t, block("awskms", "aws", "kms_key_id", keyA, "access_key", accessKey, "secret_key", secretKey,
		"role_arn", "arn:aws:iam::111122223333:role/keep")).Wrap(soon(t), secret, aad)
	hasClass(t, err, AuthDenied)
	if text, err := os.ReadFile(terminal.Name()); err != nil || len(text) > 0 {
		t.Errorf("on standard error: %s, %v", text, err)
	}
}

// What goes wrong before KMS is asked has a class too.
func TestAWSLoginFails(t *testing.T) {
	clean(t)
	type answer struct {
		code string
		skew time.Duration
	}
	var says atomic.Pointer[answer]
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(says.Load().skew).UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>no, %s</Message></Error></ErrorResponse>", says.Load().code, secretKey)
	}))
	defer sts.Close()
	role := func() *Seal {
		return make1(t, block("awskms", "aws", "kms_key_id", keyA, "access_key", accessKey, "secret_key", secretKey, "role_arn", "arn:aws:iam::111122223333:role/keep"))
	}
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	for _, c := range []struct {
		code string
		skew time.Duration
		want Class
	}{
		{"ExpiredToken", 0, CredentialsExpired},
		{"AccessDenied", 0, AuthDenied},
		{"InvalidClientTokenId", 0, AuthDenied},
		{"SignatureDoesNotMatch", 0, AuthDenied},
		{"SignatureDoesNotMatch", time.Hour, ClockSkew},
		{"SomethingNew", 0, AuthDenied}, // by its status
	} {
		says.Store(&answer{c.code, c.skew})
		_, _, err := role().Wrap(soon(t), secret, aad)
		hasClass(t, err, c.want, `seal "aws": wrapping: `, c.code)
		if strings.Contains(err.Error(), secretKey) || signature(c.code) && strings.Contains(err.Error(), "no, ") {
			t.Errorf("the error shows the key, or what was signed: %v", err)
		}
	}
	// A web identity token that has ended.
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("a.web.token"), 0o600); err != nil {
		t.Fatal(err)
	}
	says.Store(&answer{"ExpiredTokenException", 0})
	_, _, err := make1(t, block("awskms", "aws", "kms_key_id", keyA, "role_arn", "arn:aws:iam::111122223333:role/keep",
		"web_identity_token_file", file)).Wrap(soon(t), secret, aad)
	hasClass(t, err, CredentialsExpired, "ExpiredTokenException")
	sts.Close()
	_, _, err = role().Wrap(soon(t), secret, aad)
	hasClass(t, err, Unreachable)

	dir := t.TempDir()
	_, _, err = make1(t, block("awskms", "aws", "kms_key_id", keyA, "role_arn", "arn:aws:iam::111122223333:role/keep",
		"web_identity_token_file", filepath.Join(dir, "nothing"))).Wrap(soon(t), secret, aad)
	hasClass(t, err, CredentialsMissing, "nothing")

	profiles := filepath.Join(dir, "config")
	if err := os.WriteFile(profiles, []byte("[profile sso]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n"+
		"[sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://example.com\n[profile process]\ncredential_process = false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", profiles)
	_, _, err = make1(t, block("awskms", "aws", "kms_key_id", keyA, "shared_creds_profile", "sso")).Wrap(soon(t), secret, aad)
	hasClass(t, err, CredentialsExpired, "aws sso login")
	process := make1(t, block("awskms", "aws", "kms_key_id", keyA, "shared_creds_profile", "process"))
	_, _, err = process.Wrap(soon(t), secret, aad)
	hasClass(t, err, CredentialsMissing)

	// The profile is read again for the next attempt.
	if err := os.WriteFile(profiles, []byte("[profile process]\ncredential_process = printf '{\"Version\":1,\"AccessKeyId\":\"AKIAFIXED\",\"SecretAccessKey\":\"p\"}'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if creds, _, err := process.service.(*awsKMS).login.get(soon(t)); err != nil || creds.AccessKeyID != "AKIAFIXED" {
		t.Errorf("after the profile was corrected: %q, %v", creds.AccessKeyID, err)
	}
}
