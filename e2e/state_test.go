package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// TestState has a real Terraform and a real OpenTofu keep their state in a keep, as examples/terraform/keep says.
func TestState(t *testing.T) {
	t.Parallel()
	nameSources(t)
	keepProgram := build(t)
	for _, name := range []string{"terraform", "tofu"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program := require(t, name, "Terraform from its packages, OpenTofu by tools/tofu")
			m := newMember(t, keepProgram, "keep", "seal \"static\" {\n  current_key_id = \"one\"\n  current_key = \"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"\n}\n")
			m.start()
			m.initialize()
			token := func(rules string) string {
				t.Helper()
				m.ok("a policy", m.root.Sys().PutPolicy("p", rules))
				s, err := m.root.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"p"}})
				m.ok("a token", err)
				return s.Auth.ClientToken
			}
			root := m.root.Token()
			env := []string{"TF_HTTP_USERNAME=me", "TF_HTTP_PASSWORD=" + root, "TF_HTTP_RETRY_WAIT_MIN=1", "TF_HTTP_CLIENT_CA_CERTIFICATE_PEM=" + readFile(t, m.ca), "SSL_CERT_FILE=" + m.ca}
			text, err := os.ReadFile("../examples/terraform/keep/main.tf")
			m.ok("the example", err)
			here := func(w *workspace, path string) {
				t.Helper()
				w.write("main.tf", "%s", strings.ReplaceAll(strings.ReplaceAll(string(text), "https://keep.example.com:8200", m.keeper.address), "net/prod", path))
			}
			w := newWorkspace(t, program, "", "../examples/terraform/keep", env...)
			here(w, "net/prod")
			w.run(0, "init")
			w.apply()
			w.run(0, "apply", "-auto-approve", "-var", "size=2")
			if got := w.output("size"); got != "2" {
				t.Errorf("the output is %q", got)
			}
			state, _ := w.run(0, "state", "pull")
			w.write("pulled.json", "%s", state)
			w.run(0, "state", "push", "pulled.json")

			// Outputs alone, with a token that may read no more.
			o := newWorkspace(t, program, "", "../examples/terraform/keep_outputs", append(env, "TF_VAR_address="+m.keeper.address,
				"TF_VAR_token="+token(`path "state/outputs/net/prod" { capabilities = ["read"] }`))...)
			o.run(0, "init")
			o.run(0, "apply", "-auto-approve")
			if got := o.output("size"); got != "2" {
				t.Errorf("the output of the other project is %q", got)
			}

			// Somebody has the lock, and is forced off it.
			lock := func() {
				t.Helper()
				if status := send(t, m, "LOCK", "/state/net/prod", `{"ID":"11111111-2222-3333-4444-555555555555","Operation":"freeze","Who":"ops@example","Info":"no changes on Fridays","Created":"2026-01-02T03:04:05.123456Z"}`); status != 200 {
					t.Fatalf("locking: %d", status)
				}
			}
			lock()
			_, all := w.run(1, "apply", "-auto-approve", "-var", "size=3")
			if name == "tofu" && (!strings.Contains(all, "ops@example") || !strings.Contains(all, "no changes on Fridays")) || !strings.Contains(all, "11111111-2222-3333-4444-555555555555") {
				t.Errorf("the holder is not shown: %s", all)
			}
			w.run(0, "force-unlock", "-force", "11111111-2222-3333-4444-555555555555")

			// Four writers, each of which waits for the others.
			var wait sync.WaitGroup
			for n := range 4 {
				one := newWorkspace(t, program, "", "../examples/terraform/keep", env...)
				here(one, "net/prod")
				one.run(0, "init")
				wait.Go(func() {
					cmd := exec.CommandContext(t.Context(), program, "apply", "-auto-approve", "-lock-timeout=90s", "-var", fmt.Sprintf("size=%d", 10+n))
					cmd.Dir, cmd.Env = one.dir, one.env
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Errorf("writer %d: %v: %s", n, err, out)
					}
				})
			}
			wait.Wait()

			// The client is killed in its apply: the lock stays, and its state.
			slow := `resource "terraform_data" "slow" {
  triggers_replace = timestamp()
  provisioner "local-exec" { command = "touch begun && while [ ! -e go ]; do sleep 0.1; done" }
}`
			apply := func() *exec.Cmd {
				t.Helper()
				w.write("slow.tf", "%s", slow)
				for _, file := range []string{"begun", "go", "errored.tfstate"} {
					os.Remove(filepath.Join(w.dir, file))
				}
				cmd := exec.CommandContext(t.Context(), program, "apply", "-auto-approve")
				cmd.Dir, cmd.Env = w.dir, w.env
				cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				m.ok("apply", cmd.Start())
				until(t, "the apply is in the middle", func() bool { return exists(filepath.Join(w.dir, "begun")) })
				return cmd
			}
			cmd := apply()
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			cmd.Wait()
			if status := send(t, m, "LOCK", "/state/net/prod", `{"ID":"x"}`); status != 423 {
				t.Errorf("the lock of a client that was killed: %d", status)
			}
			if status := send(t, m, "UNLOCK", "/state/net/prod", ""); status != 200 {
				t.Errorf("forcing it off: %d", status)
			}

			// The keep is stopped in an apply, and comes back.
			opens := func() { m.until("the keep is back", func(sealed bool, _ slotState) bool { return !sealed }) }
			cmd = apply()
			m.stop()
			m.start()
			opens()
			w.write("go", "")
			if err := cmd.Wait(); err != nil {
				t.Errorf("an apply during which the keep was away: %v", err)
			}
			// It does not come back: the state is in a file, and is pushed later.
			cmd = apply()
			m.stop()
			w.write("go", "")
			if err := cmd.Wait(); err == nil || !exists(filepath.Join(w.dir, "errored.tfstate")) {
				t.Errorf("an apply without its keep: %v, errored.tfstate: %v", err, exists(filepath.Join(w.dir, "errored.tfstate")))
			}
			m.start()
			opens()
			send(t, m, "UNLOCK", "/state/net/prod", "")
			w.run(0, "state", "push", "errored.tfstate")
			os.Remove(filepath.Join(w.dir, "slow.tf"))
			w.apply()

			// Out of the keep, and in again.
			_, project, _ := strings.Cut(string(text), "variable \"size\"")
			w.write("main.tf", "terraform {\n  backend \"local\" {}\n}\nvariable \"size\"%s", project)
			w.run(0, "init", "-migrate-state", "-force-copy")
			if !exists(filepath.Join(w.dir, "terraform.tfstate")) {
				t.Error("the state did not move out")
			}
			here(w, "net/moved")
			w.run(0, "init", "-migrate-state", "-force-copy")
			w.run(0, "plan", "-detailed-exitcode")
		})
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// until polls.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after a minute it is not so that %s", what)
		}
	}
}

// send sends a request with the root token by Basic authentication and returns its status.
func send(t *testing.T, m *member, method, path, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, m.keeper.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("me", m.root.Token())
	r, err := m.root.CloneConfig().HttpClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	io.Copy(io.Discard, r.Body)
	return r.StatusCode
}
