package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestOpenTofuKeep runs examples/opentofu-state/keep_external and keep_openbao with a real OpenTofu and a keep, as their
// comments say: a state from before, its migration, the end of the fallback, a rotated key, and the way out when the keep is
// gone.
func TestOpenTofuKeep(t *testing.T) {
	t.Parallel()
	nameSources(t)
	tofu := require(t, "tofu", "build it in tools/tofu, as its go.mod says")
	program := build(t)
	socket := filepath.Join(t.TempDir(), "api.sock")
	address := startKeep(t, program, fmt.Sprintf("}\nlistener \"unix\" {\n  address = %q\n", socket))
	root := ""
	keep := func(input string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Env, cmd.Stdin = []string{"VAULT_ADDR=" + address, "VAULT_TOKEN=" + root, "HOME=" + t.TempDir()}, strings.NewReader(input)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", strings.Join(args, " "), err)
		}
		return string(out)
	}
	root = regexp.MustCompile(`"root_token": "([^"]+)"`).FindStringSubmatch(keep("", "operator", "init", "-format=json"))[1]
	keep("", "secrets", "enable", "transit")
	keep("", "write", "-f", "transit/keys/tofu")
	keep(keep("", "transit", "policy", "-for=tofu", "tofu"), "policy", "write", "tofu", "-")
	keep("", "auth", "enable", "peer")
	keep("", "write", "auth/peer/role/tofu", fmt.Sprint("bound_uids=", os.Geteuid()), "token_policies=tofu", "token_ttl=1m")
	token := keep("", "token", "create", "-policy=tofu", "-ttl=1h", "-field=token")

	path := "PATH=" + filepath.Dir(program) + string(filepath.ListSeparator) + os.Getenv("PATH")
	for example, env := range map[string][]string{
		"keep_external": {path},
		"keep_openbao":  {path, "BAO_ADDR=" + address, "BAO_TOKEN=" + token},
	} {
		t.Run(example, func(t *testing.T) {
			w := newWorkspace(t, tofu, "", "../examples/opentofu-state/"+example, append(env, "TF_VAR_secret="+marker+"-of-the-project")...)
			read := func(name string) string {
				t.Helper()
				b, err := os.ReadFile(filepath.Join(w.dir, name))
				if err != nil {
					t.Fatal(err)
				}
				return string(b)
			}
			text := strings.ReplaceAll(read("main.tf"), "/run/sealkeep/api.sock", socket)
			_, project, ok := strings.Cut(text, "# What the project makes")
			if !ok {
				t.Fatal("the example has no project")
			}
			hidden := func(name string) {
				t.Helper()
				if strings.Contains(read(name), marker) {
					t.Errorf("%s shows the secret", name)
				}
			}
			w.write("main.tf", "#%s", project)
			w.run(0, "init")
			w.apply()
			if !strings.Contains(read("terraform.tfstate"), marker) {
				t.Fatal("the state from before does not have the secret")
			}
			w.write("main.tf", "%s", text)
			w.run(0, "init")
			w.apply()
			hidden("terraform.tfstate")
			after := regexp.MustCompile(`(?m)^.*# migration\n`).ReplaceAllString(text, "")
			w.write("main.tf", "%s", strings.ReplaceAll(after, "enforced = false", "enforced = true"))
			keep("", "write", "-f", "transit/keys/tofu/rotate")
			w.run(0, "plan", "-replace=terraform_data.example", "-out=plan")
			hidden("plan")
			w.run(0, "apply", "plan")
			hidden("terraform.tfstate")

			// The keep is gone: a backup of it and its seal open both files.
			dir := t.TempDir()
			backup, config, key := filepath.Join(dir, "copy.db"), filepath.Join(dir, "keep.hcl"), filepath.Join(dir, "key.json")
			keep("", "operator", "backup", backup)
			seal := fmt.Sprintf("storage \"bbolt\" {\n  path = %q\n}\nlistener \"tcp\" {\n  address = \"127.0.0.1:0\"\n}\n"+
				"seal \"static\" {\n  current_key    = \"0123456789abcdef0123456789abcdef\"\n  current_key_id = \"one\"\n}\n", backup)
			if err := os.WriteFile(config, []byte(seal), 0o600); err != nil {
				t.Fatal(err)
			}
			keep("", "transit", "export", "-config="+config, "-out="+key, "tofu")
			if state := keep("", "transit", "convert-state", "-key="+key, "-plaintext", filepath.Join(w.dir, "terraform.tfstate")); !strings.Contains(state, marker) {
				t.Error("the converted state does not have the secret")
			}
			if plan := keep("", "transit", "convert-state", "-key="+key, "-plaintext", filepath.Join(w.dir, "plan")); !strings.HasPrefix(plan, "PK") {
				t.Error("the converted plan is no plan")
			}
		})
	}
	if left := keep("", "list", "auth/token/accessors"); strings.Count(left, "\n") != 4 { // two lines of the table's head, the root token and the other
		t.Errorf("tokens were left:\n%s", left)
	}
}
