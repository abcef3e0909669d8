// Package e2e runs clients that others wrote, unmodified, against the real program. Debian's python3-hvac, the npm package
// node-vault and curl each drive a keep from its first start, with a static seal and no store yet: a script is given the
// keep's address and nothing else, prints what it checked and fails at the first difference. Vault's own client for Go
// drives one behind TLS. A client that openapi-typescript-codegen makes of a keep's OpenAPI document calls every operation.
//
// A keep is opened by the transit engine of another one, and what people use with Vault's transit uses a keep's: Tink, Go
// CDK, sigstore's signer and the calls of a Kubernetes plugin (tools/clients), and SOPS (tools/sops).
//
// Where a client is not installed its test is skipped, or fails when SEALKEEP_REQUIRE_CLIENTS=1. They come by
//
//	apt-get install python3-hvac openssl curl nodejs npm
//	npm ci --prefix e2e
//
// Terraform and OpenTofu apply the modules and the state of the examples against moto, and a keep opens with the key. Where
// terraform, tofu (tools/tofu) or the AWS provider is not there those tests are skipped, or fail when
// SEALKEEP_REQUIRE_TERRAFORM=1.
//
// It also starts each example configuration under the example unit, in a real systemd that it boots in namespaces of its
// own. Where that cannot be done (it takes root) the test is skipped, or fails when SEALKEEP_REQUIRE_SYSTEMD=1.
package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take before it counts as a failure.
const patience = time.Minute

// marker is in every secret that the scripts write. It must not come out anywhere else.
const marker = "s3cret"

func TestClients(t *testing.T) {
	program := build(t)
	for _, client := range []struct {
		name, program, script string
		probe                 []string // arguments with which the program tells that the client is there
		install               string
		checks                int // there are more
	}{
		{"hvac", "/usr/bin/python3", "hvac_test.py", []string{"-c", "import hvac, shutil; assert shutil.which('openssl')"}, "apt-get install python3-hvac openssl", 400},
		{"curl", "/bin/sh", "curl_test.sh", []string{"-c", "command -v curl"}, "apt-get install curl", 20},
		{"node-vault", "node", "node-vault.test.js", []string{"-e", "require('node-vault')"}, "apt-get install nodejs npm; npm ci --prefix e2e", 50},
		{"openapi", "node", "openapi.test.js", []string{"-e", "require('openapi-typescript-codegen'); require('typescript')"}, "apt-get install nodejs npm; npm ci --prefix e2e", 201},
	} {
		t.Run(client.name, func(t *testing.T) {
			if out, err := exec.CommandContext(t.Context(), client.program, client.probe...).CombinedOutput(); err != nil {
				reason := fmt.Sprintf("%s is not installed (%v): %s\n%s", client.name, err, client.install, out)
				if os.Getenv("SEALKEEP_REQUIRE_CLIENTS") == "1" {
					t.Fatal(reason)
				}
				t.Skip(reason)
			}
			address := startKeep(t, program, "")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, client.program, client.script)
			cmd.Env = []string{"VAULT_ADDR=" + address, "PATH=" + os.Getenv("PATH")}
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Errorf("%s: %v", client.script, err)
			}
			if checked := strings.Count(string(out), "\nok: "); checked < client.checks {
				t.Errorf("%s checked %d things only", client.script, checked)
			}
		})
	}
}

// build builds the program.
func build(t *testing.T) string {
	t.Helper()
	nameSources(t)
	program := filepath.Join(t.TempDir(), "sealkeep")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/sealkeep").CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	return program
}

// nameSources makes Go's test cache see what other processes read for this test: it looks at the files that this one reads.
func nameSources(t *testing.T) {
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == "node_modules" || len(d.Name()) > 2 && d.Name()[0] == '.') {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var listening = regexp.MustCompile(`msg=listening address=(https?://\S+)`)

// startKeep starts the daemon in a folder of its own and returns its address; more is for its listener. When the test ends the daemon is told to
// stop, must do so in peace, must not have logged a secret, and leaves a store and an audit log that their checks find
// sound and that do not show a secret either.
func startKeep(t *testing.T, program, more string) string {
	dir := t.TempDir()
	store, config, audit := filepath.Join(dir, "sealkeep.db"), filepath.Join(dir, "keep.hcl"), filepath.Join(dir, "audit.log")
	text := fmt.Sprintf("storage \"bbolt\" {\n  path = %q\n}\nlistener \"tcp\" {\n  address = \"127.0.0.1:0\"\n%s}\n"+
		"seal \"static\" {\n  current_key    = \"0123456789abcdef0123456789abcdef\"\n  current_key_id = \"one\"\n}\n"+
		"audit \"file\" {\n  file_path = %q\n}\nunsafe_allow_api_audit_creation = true\n", store, more, audit)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return serve(t, program, config, store, audit, os.Environ())
}

// serve starts the daemon as startKeep does, with a configuration and an environment that are there already.
func serve(t *testing.T, program, config, store, audit string, env []string) string {
	return launch(t, program, config, store, audit, env).address
}

// A daemon is one that runs.
type daemon struct {
	address string
	process *os.Process
	stop    func() // and check, once; it is called when the test ends, too
}

// launch starts the daemon as serve does.
func launch(t *testing.T, program, config, store, audit string, env []string) *daemon {
	cmd := exec.Command(program, "server", "-config="+config)
	cmd.Env = env
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	address, all := make(chan string, 1), make(chan string, 1)
	go func() {
		var log strings.Builder
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintln(&log, lines.Text())
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
		all <- log.String()
	}()
	stop := sync.OnceFunc(func() {
		kill := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer kill.Stop()
		cmd.Process.Signal(syscall.SIGTERM)
		log := <-all
		if err := cmd.Wait(); err != nil {
			t.Errorf("the daemon: %v", err)
		}
		if strings.Contains(log, marker) {
			t.Error("the log has a secret in it")
		}
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", log)
			return
		}
		check := exec.Command(program, "operator", "storage", "check", "-config="+config)
		check.Env = env
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("the store is not sound: %v\n%s", err, out)
		}
		for _, file := range []string{store, audit} {
			if b, err := os.ReadFile(file); err != nil || len(b) == 0 || strings.Contains(string(b), marker) {
				t.Errorf("%s shows a secret, or nothing (%v)", file, err)
			}
		}
		if out, err := exec.Command(program, "audit", "verify", audit).CombinedOutput(); err != nil {
			t.Errorf("the audit log is not sound: %v\n%s", err, out)
		}
	})
	t.Cleanup(stop)
	select {
	case a := <-address:
		return &daemon{a, cmd.Process, stop}
	case <-time.After(patience):
		t.Fatal("the daemon does not listen")
		return nil
	}
}
