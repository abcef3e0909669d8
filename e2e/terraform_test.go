package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/seal/sealtest"
)

const modules = "../examples/terraform/aws/"

// A workspace is a copy of an example, in which terraform or tofu runs against moto.
type workspace struct {
	t       *testing.T
	program string
	dir     string
	env     []string
}

// require returns the path of terraform or tofu. Where it is not installed the test is skipped, or fails when
// SEALKEEP_REQUIRE_TERRAFORM=1.
func require(t *testing.T, program, install string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		reason := fmt.Sprintf("%s is not on PATH: %s", program, install)
		if os.Getenv("SEALKEEP_REQUIRE_TERRAFORM") == "1" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	return path
}

// cliConfig returns the path of a configuration for terraform and tofu, with which their providers come from the folder
// that SEALKEEP_TERRAFORM_MIRROR names (HOST/hashicorp/aws/VERSION/OS_ARCH), whichever host it is for.
// Where it names none the test is skipped, or they are fetched when SEALKEEP_REQUIRE_TERRAFORM=1.
func cliConfig(t *testing.T, program string) string {
	t.Helper()
	mirror := os.Getenv("SEALKEEP_TERRAFORM_MIRROR")
	if mirror == "" {
		if os.Getenv("SEALKEEP_REQUIRE_TERRAFORM") != "1" {
			t.Skip("SEALKEEP_TERRAFORM_MIRROR names no folder with the AWS provider; SEALKEEP_REQUIRE_TERRAFORM=1 fetches it")
		}
		return os.Getenv("TF_CLI_CONFIG_FILE")
	}
	dir := t.TempDir()
	found, err := filepath.Glob(filepath.Join(mirror, "*/*/*/*/*"))
	if err != nil || len(found) == 0 {
		t.Fatalf("SEALKEEP_TERRAFORM_MIRROR=%s has no provider (%v)", mirror, err)
	}
	host := registry(t, program)
	for _, provider := range found {
		name, err := filepath.Rel(mirror, provider)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ = strings.Cut(name, "/")
		link := filepath.Join(dir, "mirror", host, name) // of which only the last part may be a link: the others are not followed
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(provider, link); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "cli.tfrc")
	text := fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", filepath.Join(dir, "mirror"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// registry is the host where a program looks for providers that name none.
func registry(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte("terraform {\n  required_providers {\n    aws = { source = \"hashicorp/aws\" }\n  }\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "providers")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	host := regexp.MustCompile(`provider\[([^/\]]+)/hashicorp/aws`).FindSubmatch(out)
	if host == nil {
		t.Fatalf("%s providers: %v: %s", program, err, out)
	}
	return string(host[1])
}

// newWorkspace copies a folder of examples. The environment is what env says, and nothing of this process's but PATH.
func newWorkspace(t *testing.T, program, cli, example string, env ...string) *workspace {
	t.Helper()
	w := &workspace{t: t, program: program, dir: filepath.Join(t.TempDir(), filepath.Base(example))}
	if err := os.CopyFS(w.dir, os.DirFS(example)); err != nil {
		t.Fatal(err)
	}
	w.env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "TF_INPUT=0", "TF_CLI_ARGS=-no-color"}, env...)
	if cli != "" {
		w.env = append(w.env, "TF_CLI_CONFIG_FILE="+cli)
	}
	return w
}

// run runs a command, which must end with the code, and returns its standard output and all that it said.
func (w *workspace) run(code int, args ...string) (stdout, all string) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), w.program, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	var out, both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &both
	begun := time.Now()
	err := cmd.Run()
	w.t.Logf("%s: %s %s: %v", filepath.Base(w.dir), filepath.Base(w.program), args[0], time.Since(begun).Round(time.Second))
	all = out.String() + both.String()
	if got := cmd.ProcessState.ExitCode(); got != code {
		w.t.Fatalf("%s %s: exit code %d, not %d (%v)\n%s", filepath.Base(w.program), strings.Join(args, " "), got, code, err, all)
	}
	return out.String(), all
}

// apply initializes the workspace and applies it; a second plan must have nothing to do.
func (w *workspace) apply() {
	w.t.Helper()
	w.run(0, "apply", "-auto-approve")
	w.run(0, "plan", "-detailed-exitcode")
}

func (w *workspace) output(name string) string {
	w.t.Helper()
	out, _ := w.run(0, "output", "-raw", name)
	return out
}

func (w *workspace) write(name, format string, a ...any) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), fmt.Appendf(nil, format, a...), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// backend makes backend.config out of the example's, for an object in a bucket of moto, and initializes the workspace with it.
func (w *workspace) backend(name, bucket string) {
	w.t.Helper()
	example, err := os.ReadFile(filepath.Join(w.dir, "backend.config.example"))
	if err != nil {
		w.t.Fatal(err)
	}
	config := regexp.MustCompile(`(?m)^bucket .*`).ReplaceAllString(string(example), fmt.Sprintf("bucket = %q", bucket))
	w.write("backend.config", "%s\nuse_path_style = true\n", regexp.MustCompile(`(?m)^key .*`).ReplaceAllString(config, fmt.Sprintf("key = %q", name)))
	w.run(0, "init", "-backend-config=backend.config")
}

// resource returns an attribute of a resource in the state.
func (w *workspace) resource(address, attribute string) string {
	w.t.Helper()
	out, _ := w.run(0, "show", "-json")
	var state struct {
		Values struct {
			Root struct {
				Resources []struct {
					Address string
					Values  map[string]any
				}
			} `json:"root_module"`
		}
	}
	if err := json.Unmarshal([]byte(out), &state); err != nil {
		w.t.Fatal(err)
	}
	for _, r := range state.Values.Root.Resources {
		if r.Address == address {
			text, _ := r.Values[attribute].(string)
			return text
		}
	}
	w.t.Fatalf("no %s in the state", address)
	return ""
}

// awsEnv is the environment of a caller of moto.
func awsEnv(url string, c sealtest.Credentials) []string {
	return []string{"AWS_ENDPOINT_URL=" + url, "AWS_REGION=" + sealtest.MotoRegion, "AWS_ACCESS_KEY_ID=" + c.AccessKey,
		"AWS_SECRET_ACCESS_KEY=" + c.SecretKey, "AWS_EC2_METADATA_DISABLED=true"}
}

// A policy is what the tests read of an IAM policy.
type policy struct{ Statement []statement }

type statement struct {
	Effect                        string
	Principal                     any
	Action, Resource, NotResource any
	Condition                     map[string]map[string]any
}

func parsePolicy(t *testing.T, text string) policy {
	t.Helper()
	var p policy
	if err := json.Unmarshal([]byte(text), &p); err != nil || len(p.Statement) == 0 {
		t.Fatalf("no policy (%v): %s", err, text)
	}
	return p
}

// list is an element of a policy that may be one text or several.
func list(v any) []string {
	var all []string
	switch v := v.(type) {
	case string:
		all = []string{v}
	case []any:
		for _, e := range v {
			all = append(all, list(e)...)
		}
	case map[string]any:
		return list(v["AWS"])
	}
	return all
}

// matches reports whether one of the patterns, in which * is any text, is for the value.
func matches(patterns any, value string) bool {
	return slices.ContainsFunc(list(patterns), func(p string) bool {
		return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(p), `\*`, ".*") + "$").MatchString(value)
	})
}

// has reports whether a statement of the effect is for the principal ("" for a policy that has none), the action and the
// resource. It takes no account of conditions.
func (p policy) has(effect, principal, action, resource string) bool {
	return slices.ContainsFunc(p.Statement, func(s statement) bool {
		return s.Effect == effect && (principal == "" || matches(s.Principal, principal)) && matches(s.Action, action) &&
			(s.NotResource != nil && !matches(s.NotResource, resource) || s.Resource != nil && matches(s.Resource, resource))
	})
}

// onlyLocksAreDeleted checks the exception of a policy that denies the deletion of states.
func onlyLocksAreDeleted(t *testing.T, p policy, principal, state string) {
	t.Helper()
	for _, action := range []string{"s3:DeleteObject", "s3:DeleteObjectVersion"} {
		if !p.has("Deny", principal, action, state) {
			t.Errorf("%s on a state is not denied: %+v", action, p)
		}
		if p.has("Deny", principal, action, state+".tflock") {
			t.Errorf("%s on a lock file is denied: %+v", action, p)
		}
	}
	for _, action := range []string{"s3:GetObject", "s3:PutObject", "s3:ListBucket"} {
		if p.has("Deny", principal, action, state) {
			t.Errorf("%s is denied: %+v", action, p)
		}
	}
}

// TestModules runs the tests that the examples bring, with a provider that is mocked.
func TestModules(t *testing.T) {
	t.Parallel()
	nameSources(t)
	terraform := require(t, "terraform", "install Terraform 1.11 or later")
	cli := cliConfig(t, terraform)
	found, err := filepath.Glob(modules + "*/tests")
	if err != nil || len(found) < 3 {
		t.Fatalf("found %v (%v)", found, err)
	}
	passed := regexp.MustCompile(`Success! (\d+) passed, 0 failed`)
	for _, tests := range append(found, "../examples/opentofu-state/roles/tests") {
		t.Run(filepath.Base(filepath.Dir(tests)), func(t *testing.T) {
			w := newWorkspace(t, terraform, cli, filepath.Dir(tests))
			w.run(0, "init", "-backend=false")
			if _, out := w.run(0, "test"); passed.FindStringSubmatch(out) == nil {
				t.Errorf("nothing passed:\n%s", out)
			}
		})
	}
	cmd := exec.CommandContext(t.Context(), terraform, "fmt", "-check", "-recursive", "../examples")
	if out, err := cmd.Output(); err != nil {
		t.Errorf("terraform fmt -check: %v\n%s", err, out)
	}
}

// TestAWSModules applies the modules as their page says, opens a keep with the key, and destroys them.
func TestAWSModules(t *testing.T) {
	t.Parallel()
	terraform := require(t, "terraform", "install Terraform 1.11 or later")
	cli := cliConfig(t, terraform)
	m := sealtest.Moto(t)
	program := build(t)
	admin, adminARN := m.CreateUser("admin")
	_, otherARN := m.CreateUser("other-admin")
	keepUser, keepARN := m.CreateUser("sealkeep")
	env := awsEnv(m.URL, admin)

	const bucket = "example-terraform-state"
	storage := newWorkspace(t, terraform, cli, modules+"00_s3_backend", env...)
	storage.write("moto.tf", "provider \"aws\" {\n  s3_use_path_style = true\n}\n")
	storage.write("terraform.tfvars", "bucket_name = %q\n", bucket)
	storage.run(0, "init")
	storage.apply()
	onlyLocksAreDeleted(t, parsePolicy(t, storage.resource("aws_s3_bucket_policy.state", "policy")), "anybody", storage.output("bucket_arn")+"/a/b.tfstate")

	key := newWorkspace(t, terraform, cli, modules+"01_kms", env...)
	key.backend("kms", bucket)
	const users = "admin_users = [%q]\nstandard_users = [%q]\n"
	key.write("terraform.tfvars", users, otherARN, keepARN)
	key.apply()
	keyPolicy := parsePolicy(t, key.resource("aws_kms_key.this", "policy"))
	if !keyPolicy.has("Allow", adminARN, "kms:PutKeyPolicy", "*") || !keyPolicy.has("Allow", otherARN, "kms:PutKeyPolicy", "*") {
		t.Errorf("whoever applied the policy of the key is locked out: %+v", keyPolicy)
	}
	for action, want := range map[string]bool{"kms:Encrypt": true, "kms:Decrypt": true, "kms:DescribeKey": true, "kms:GenerateDataKey": true,
		"kms:GenerateDataKeyWithoutPlaintext": true, "kms:PutKeyPolicy": false, "kms:ScheduleKeyDeletion": false, "kms:CreateGrant": false} {
		if keyPolicy.has("Allow", keepARN, action, "*") != want || keyPolicy.has("Allow", "arn:aws:iam::123456789012:user/another", action, "*") {
			t.Errorf("%s: %+v", action, keyPolicy)
		}
	}
	if out := m.Object(bucket, "kms"); !bytes.Contains(out, []byte(key.output("kms_key_arn"))) {
		t.Errorf("the state is not in the bucket: %s", out)
	}

	storage.write("terraform.tfvars", "bucket_name = %q\nkms_key_arn = %q\n", bucket, key.output("kms_key_arn"))
	storage.apply()
	if _, out := storage.run(1, "destroy", "-auto-approve"); !strings.Contains(out, "prevent_destroy") {
		t.Errorf("the bucket is not destroyed, but why: %s", out)
	}

	// A key of its own has the replica: moto cannot decrypt with a multi-region key, whose ID is longer there than AWS's.
	multi := newWorkspace(t, terraform, cli, modules+"01_kms", env...)
	multi.backend("multi", bucket)
	multi.write("terraform.tfvars", "kms_alias_name = \"multi\"\nkms_key_multi_region = true\n"+users, otherARN, keepARN)
	multi.apply()
	replica := newWorkspace(t, terraform, cli, modules+"02_replica", env...)
	replica.backend("replica", bucket)
	// moto gives a replica the policy and the description of the primary key, so they are the same here, and takes the
	// primary key's alias for one of the replica's region.
	replica.write("terraform.tfvars", "kms_alias_name = \"replica\"\nprimary_key_arn = %q\nreplica_region = \"eu-west-1\"\n"+users, multi.output("kms_key_arn"), otherARN, keepARN)
	replica.apply()
	if p := parsePolicy(t, replica.resource("aws_kms_replica_key.this", "policy")); !p.has("Allow", adminARN, "kms:PutKeyPolicy", "*") || p.has("Allow", keepARN, "kms:PutKeyPolicy", "*") {
		t.Errorf("the policy of the replica: %+v", p)
	}

	dir := t.TempDir()
	store, config, audit := filepath.Join(dir, "sealkeep.db"), filepath.Join(dir, "keep.hcl"), filepath.Join(dir, "audit.log")
	text := fmt.Sprintf("storage \"bbolt\" {\n  path = %q\n}\nlistener \"tcp\" {\n  address = \"127.0.0.1:0\"\n}\naudit \"file\" {\n  file_path = %q\n}\n", store, audit)
	if err := os.WriteFile(config, []byte(text+key.output("seal_block")), 0o600); err != nil {
		t.Fatal(err)
	}
	keepEnv := append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, awsEnv(m.URL, keepUser)...)
	t.Run("a keep with the key", func(t *testing.T) {
		address := serve(t, program, config, store, audit, keepEnv)
		if out, err := client(t, program, address, "operator", "init"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
	t.Run("opens by itself", func(t *testing.T) {
		status := opened(t, program, serve(t, program, config, store, audit, keepEnv))
		if !strings.Contains(status, key.output("kms_key_arn")) {
			t.Errorf("the slot is of another key: %s", status)
		}
	})
	// The replica's block is one that a configuration takes beside the first.
	if err := os.WriteFile(config, []byte(text+key.output("seal_block")+replica.output("seal_block")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := client(t, program, "", "config", "check", "-config="+config); err != nil {
		t.Errorf("%v\n%s", err, out)
	}

	replica.run(0, "destroy", "-auto-approve")
	key.run(0, "destroy", "-auto-approve")
	for _, w := range []*workspace{replica, key} { // moto no longer knows the primary key as one
		if out, _ := w.run(0, "state", "list"); strings.TrimSpace(out) != "" {
			t.Errorf("there is something left: %s", out)
		}
	}
}

// client runs a command against the keep at the address.
func client(t *testing.T, program, address string, args ...string) (string, error) {
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = []string{"VAULT_ADDR=" + address, "HOME=" + t.TempDir()}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// opened waits until the keep has opened, and returns its status.
func opened(t *testing.T, program, address string) string {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		out, err := client(t, program, address, "status", "-format=json")
		if err == nil {
			return out
		}
		if time.Now().After(deadline) {
			t.Fatalf("the keep does not open: %v\n%s", err, out)
		}
		<-time.After(20 * time.Millisecond)
	}
}
