package e2e

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/sealkeep/sealkeep/seal/sealtest"
)

// TestOpenTofuState runs examples/opentofu-state with a real OpenTofu against moto's KMS, STS, S3, IAM and DynamoDB, as its
// page says: the bucket, the roles, the key, and then a project whose credentials may only assume the roles.
func TestOpenTofuState(t *testing.T) {
	t.Parallel()
	nameSources(t)
	tofu := require(t, "tofu", "build it in tools/tofu, as its go.mod says")
	cli := cliConfig(t, tofu)
	m := sealtest.Moto(t)
	admin, adminARN := m.CreateUser("admin")
	env := awsEnv(m.URL, admin)

	const bucket, table, secret = "example-terraform-state", "opentofu-locks", marker + "-of-the-project"
	storage := newWorkspace(t, tofu, cli, modules+"00_s3_backend", env...)
	storage.write("moto.tf", "provider \"aws\" {\n  s3_use_path_style = true\n}\n")
	storage.write("terraform.tfvars", "bucket_name = %q\n", bucket)
	storage.run(0, "init")
	storage.apply()

	roles := newWorkspace(t, tofu, cli, "../examples/opentofu-state/roles", env...)
	roles.backend("roles", bucket)
	roles.write("terraform.tfvars", "bucket_arn = %q\ndynamodb_table = %q\n", storage.output("bucket_arn"), table)
	roles.apply()
	encryption, backend := roles.output("encryption_role_arn"), roles.output("backend_role_arn")
	state := storage.output("bucket_arn") + "/opentofu-states/example/terraform.tfstate"
	p := parsePolicy(t, roles.resource("aws_iam_role_policy.state", "policy"))
	onlyLocksAreDeleted(t, p, "", state)
	for action, resource := range map[string]string{"s3:GetObject": state, "s3:PutObject": state, "s3:DeleteObject": state + ".tflock", "s3:ListBucket": storage.output("bucket_arn")} {
		if !p.has("Allow", "", action, resource) {
			t.Errorf("%s on %s is not allowed: %+v", action, resource, p)
		}
	}
	p = parsePolicy(t, roles.resource("aws_iam_user_policy.assume", "policy"))
	if len(p.Statement) != 1 || strings.Join(list(p.Statement[0].Action), " ") != "sts:AssumeRole" || strings.Join(list(p.Statement[0].Resource), " ") != encryption+" "+backend {
		t.Errorf("the user may do something else: %+v", p)
	}

	key := newWorkspace(t, tofu, cli, modules+"01_kms", env...)
	key.backend("kms", bucket)
	key.write("terraform.tfvars", "admin_users = [%q]\nstandard_users = [%q]\n", adminARN, encryption)
	key.apply()

	user := m.CreateAccessKey(roles.output("user_name"))
	r := record(t, m.URL)
	project := newWorkspace(t, tofu, cli, "../examples/opentofu-state", awsEnv(r.url, user)...)
	for _, locks := range []struct{ name, table string }{{"lockfile", "null"}, {"dynamodb", `"` + table + `"`}} {
		t.Run(locks.name, func(t *testing.T) {
			project := *project
			project.t = t
			variables := func(secret string) {
				project.write("terraform.tfvars", "project = %q\nregion = %q\nbucket = %q\nkms_key_arn = %q\nencryption_role_arn = %q\nbackend_role_arn = %q\ndynamodb_table = %s\nsecret = %q\n",
					locks.name, sealtest.MotoRegion, bucket, key.output("kms_key_arn"), encryption, backend, locks.table, secret)
			}
			variables(secret)
			if err := os.RemoveAll(filepath.Join(project.dir, ".terraform")); err != nil {
				t.Fatal(err)
			}
			project.run(0, "init", "-backend-config=use_path_style=true")
			project.apply()
			path := "opentofu-states/" + locks.name + "/terraform.tfstate"
			sealed(t, "the state", m.Object(bucket, path))

			variables(secret + "-changed")
			project.run(0, "plan", "-out=plan")
			plan, err := os.ReadFile(filepath.Join(project.dir, "plan"))
			if err != nil {
				t.Fatal(err)
			}
			sealed(t, "the plan", plan)
			project.run(0, "apply", "plan")
			sealed(t, "the state", m.Object(bucket, path))
			if out, _ := project.run(0, "state", "pull"); !strings.Contains(out, secret+"-changed") {
				t.Errorf("the state was not changed: %s", out)
			}

			// Somebody else holds the lock.
			const id = "6f6b3e9e-1c9a-4bd0-9b1b-0d9a1f0f7f00"
			info := fmt.Sprintf(`{"ID":%q,"Operation":"OperationTypeApply","Info":"","Who":"somebody@else","Version":"1.12.6","Created":"2026-01-01T00:00:00.123456789Z","Path":%q}`, id, bucket+"/"+path)
			if locks.table == "null" {
				m.PutObject(bucket, path+".tflock", []byte(info))
			} else {
				m.PutItem(table, map[string]any{"LockID": map[string]string{"S": bucket + "/" + path}, "Info": map[string]string{"S": info}})
			}
			if _, out := project.run(1, "plan"); !strings.Contains(out, "somebody@else") {
				t.Errorf("the lock does not hold, or not as it should: %s", out)
			}
			project.run(0, "force-unlock", "-force", id)
			project.run(0, "destroy", "-auto-approve")
		})
	}
	r.check(t, user.AccessKey, map[string]string{"kms": encryption, "s3": backend, "dynamodb": backend})

	for _, w := range []*workspace{key, roles} {
		w.run(0, "destroy", "-auto-approve")
	}
}

// sealed checks that a state or a plan is one that OpenTofu has encrypted.
func sealed(t *testing.T, what string, b []byte) {
	t.Helper()
	var envelope struct {
		Version string `json:"encryption_version"`
		Data    []byte `json:"encrypted_data"`
		Meta    map[string][]byte
	}
	if err := json.Unmarshal(b, &envelope); err != nil || envelope.Version == "" || len(envelope.Data) == 0 || envelope.Meta["key_provider.aws_kms.this"] == nil {
		t.Fatalf("%s is not encrypted (%v): %.300q", what, err, b)
	}
	if bytes.Contains(b, []byte(marker)) || bytes.Contains(envelope.Data, []byte(marker)) {
		t.Errorf("%s shows a secret", what)
	}
}

// A recorder passes requests on to moto and notes who asked which service. moto itself refuses nobody.
type recorder struct {
	url string

	mu      sync.Mutex
	roles   map[string]string         // by access key of a session
	callers map[string]map[string]int // by service and access key
	assumed map[string]map[string]int // by role and access key
}

var credential = regexp.MustCompile(`Credential=([^/]+)/[0-9]+/[^/]+/([^/]+)/`)

func record(t *testing.T, address string) *recorder {
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{roles: make(map[string]string), callers: make(map[string]map[string]int), assumed: make(map[string]map[string]int)}
	proxy := httputil.NewSingleHostReverseProxy(target)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		m := credential.FindStringSubmatch(req.Header.Get("Authorization"))
		if m == nil {
			http.Error(w, "a request without a signature", http.StatusForbidden)
			return
		}
		if m[2] != "sts" {
			r.note(r.callers, m[2], m[1])
			proxy.ServeHTTP(w, req)
			return
		}
		body, _ := io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(body))
		answer := httptest.NewRecorder()
		proxy.ServeHTTP(answer, req)
		form, _ := url.ParseQuery(string(body))
		var out struct {
			Key string `xml:"AssumeRoleResult>Credentials>AccessKeyId"`
		}
		if form.Get("Action") == "AssumeRole" && xml.Unmarshal(answer.Body.Bytes(), &out) == nil {
			r.note(r.assumed, form.Get("RoleArn"), m[1])
			r.mu.Lock()
			r.roles[out.Key] = form.Get("RoleArn")
			r.mu.Unlock()
		}
		w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(s.Close)
	r.url = s.URL
	return r
}

func (r *recorder) note(where map[string]map[string]int, what, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if where[what] == nil {
		where[what] = make(map[string]int)
	}
	where[what][key]++
}

// check checks that each service was asked by sessions of its role alone, and that the user assumed these roles and no
// others.
func (r *recorder) check(t *testing.T, user string, want map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for service, callers := range r.callers {
		for key := range callers {
			if want[service] == "" || r.roles[key] != want[service] {
				t.Errorf("%s was asked by %q, role %q", service, key, r.roles[key])
			}
		}
	}
	roles := make(map[string]bool)
	for service, role := range want {
		roles[role] = true
		if len(r.callers[service]) == 0 {
			t.Errorf("%s was not asked", service)
		}
	}
	for role, callers := range r.assumed {
		if !roles[role] || len(callers) != 1 || callers[user] == 0 {
			t.Errorf("%s was assumed by %v", role, callers)
		}
	}
}
