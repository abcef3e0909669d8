package sealtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Credentials are a caller's credentials. moto accepts any; those of an assumed role act in the role's account.
type Credentials struct{ AccessKey, SecretKey, SessionToken string }

// Own holds credentials of moto's own account, 123456789012.
var Own = Credentials{AccessKey: "AKIAIOSFODNN7EXAMPLE", SecretKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}

// MotoRegion is where [MotoServer.Call] makes its keys.
const MotoRegion = "eu-central-1"

// A MotoServer is a running moto_server with one symmetric key.
type MotoServer struct {
	URL    string
	KeyID  string // the key's ID
	KeyARN string

	t testing.TB
}

// Moto starts moto_server. If it is not installed the test is skipped, or fails if the environment says
// SEALKEEP_REQUIRE_MOTO=1.
func Moto(t testing.TB) *MotoServer {
	t.Helper()
	path, err := exec.LookPath("moto_server")
	if err != nil {
		if os.Getenv("SEALKEEP_REQUIRE_MOTO") == "1" {
			t.Fatal("SEALKEEP_REQUIRE_MOTO=1, but moto_server is not on PATH: pip install 'moto[server,kms,sts,iam,s3,dynamodb]'")
		}
		t.Skip("moto_server is not on PATH: pip install 'moto[server,kms,sts,iam,s3,dynamodb]' to run this test")
	}
	cmd := exec.Command(path, "-H", "127.0.0.1", "-p", "0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the program on PATH may be a script around the server
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting moto_server: %v", err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		w.Close()
	})
	m := &MotoServer{t: t}
	running := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			if _, addr, ok := strings.Cut(lines.Text(), "Running on "); ok {
				select {
				case running <- strings.TrimSpace(addr):
				default:
				}
			}
		}
	}()
	select {
	case m.URL = <-running:
	case <-time.After(60 * time.Second):
		t.Fatal("moto_server did not say where it runs within 60 seconds")
	}
	m.KeyID, m.KeyARN = m.CreateKey(Own)
	return m
}

// CreateKey makes a symmetric key in the account of the credentials.
func (m *MotoServer) CreateKey(c Credentials) (id, arn string) {
	m.t.Helper()
	var out struct {
		KeyMetadata struct{ KeyId, Arn string }
	}
	m.Call(c, "CreateKey", map[string]any{}, &out)
	return out.KeyMetadata.KeyId, out.KeyMetadata.Arn
}

// Call does one operation of KMS, for instance "CreateAlias". A nil out drops the answer.
func (m *MotoServer) Call(c Credentials, op string, in, out any) {
	m.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		m.t.Fatalf("kms %s: %v", op, err)
	}
	answer := m.post(c, "kms", "application/x-amz-json-1.1", "TrentService."+op, body)
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			m.t.Fatalf("kms %s: %v in %s", op, err, answer)
		}
	}
}

// AssumeRole returns credentials of the account in the role's ARN. moto does not check that the role exists.
func (m *MotoServer) AssumeRole(arn string) Credentials {
	m.t.Helper()
	form := url.Values{"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "RoleArn": {arn}, "RoleSessionName": {"test"}}
	var out struct {
		C struct {
			AccessKeyId, SecretAccessKey, SessionToken string
		} `xml:"AssumeRoleResult>Credentials"`
	}
	answer := m.post(Own, "sts", "application/x-www-form-urlencoded", "", []byte(form.Encode()))
	if err := xml.Unmarshal(answer, &out); err != nil || out.C.AccessKeyId == "" {
		m.t.Fatalf("sts AssumeRole: %v in %s", err, answer)
	}
	return Credentials{out.C.AccessKeyId, out.C.SecretAccessKey, out.C.SessionToken}
}

// CreateUser makes an IAM user with an access key.
func (m *MotoServer) CreateUser(name string) (c Credentials, arn string) {
	m.t.Helper()
	var user struct {
		ARN string `xml:"CreateUserResult>User>Arn"`
	}
	m.iam(Own, url.Values{"Action": {"CreateUser"}, "UserName": {name}}, &user)
	return m.CreateAccessKey(name), user.ARN
}

// CreateAccessKey makes an access key of an IAM user.
func (m *MotoServer) CreateAccessKey(user string) Credentials {
	m.t.Helper()
	var out struct {
		K struct{ AccessKeyId, SecretAccessKey string } `xml:"CreateAccessKeyResult>AccessKey"`
	}
	m.iam(Own, url.Values{"Action": {"CreateAccessKey"}, "UserName": {user}}, &out)
	return Credentials{AccessKey: out.K.AccessKeyId, SecretKey: out.K.SecretAccessKey}
}

func (m *MotoServer) iam(c Credentials, form url.Values, out any) {
	m.t.Helper()
	form.Set("Version", "2010-05-08")
	answer := m.post(c, "iam", "application/x-www-form-urlencoded", "", []byte(form.Encode()))
	if err := xml.Unmarshal(answer, out); err != nil {
		m.t.Fatalf("iam %s: %v in %s", form.Get("Action"), err, answer)
	}
}

// Object returns an object of a bucket.
func (m *MotoServer) Object(bucket, key string) []byte {
	m.t.Helper()
	return m.do(Own, http.MethodGet, "/"+bucket+"/"+key, "s3", "", "", nil)
}

// PutObject writes an object of a bucket.
func (m *MotoServer) PutObject(bucket, key string, body []byte) {
	m.t.Helper()
	m.do(Own, http.MethodPut, "/"+bucket+"/"+key, "s3", "application/json", "", body)
}

// PutItem writes an item, in DynamoDB's own JSON, into a table.
func (m *MotoServer) PutItem(table string, item map[string]any) {
	m.t.Helper()
	body, err := json.Marshal(map[string]any{"TableName": table, "Item": item})
	if err != nil {
		m.t.Fatal(err)
	}
	m.post(Own, "dynamodb", "application/x-amz-json-1.0", "DynamoDB_20120810.PutItem", body)
}

// post sends a request to the service's root.
func (m *MotoServer) post(c Credentials, service, contentType, target string, body []byte) []byte {
	m.t.Helper()
	return m.do(c, http.MethodPost, "/", service, contentType, target, body)
}

// do sends a request whose signature is wrong: moto reads no more of it than key, region and service.
func (m *MotoServer) do(c Credentials, method, path, service, contentType, target string, body []byte) []byte {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), method, m.URL+path, bytes.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if target != "" {
		req.Header.Set("X-Amz-Target", target)
	}
	if c.SessionToken != "" {
		req.Header.Set("X-Amz-Security-Token", c.SessionToken)
	}
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s/%s/%s/aws4_request, SignedHeaders=host, Signature=0",
		c.AccessKey, time.Now().UTC().Format("20060102"), MotoRegion, service))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatalf("asking moto: %v", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		m.t.Fatalf("asking moto: %s %s: %s %v %s", method, path, resp.Status, err, answer)
	}
	return answer
}
