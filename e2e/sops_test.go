package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
)

// TestSOPS encrypts a file with a token that may only use the key, and decrypts it after the key was rotated.
func TestSOPS(t *testing.T) {
	sops, err := exec.LookPath("sops")
	if err != nil {
		const reason = "sops is not installed: build it in tools/sops, as its go.mod says"
		if os.Getenv("SEALKEEP_REQUIRE_CLIENTS") == "1" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	address, dir := startKeep(t, build(t), ""), t.TempDir()
	k := &keeper{T: t, address: address}
	k.root = k.client("")
	first, err := k.root.Sys().Init(&api.InitRequest{RecoveryShares: 1, RecoveryThreshold: 1})
	k.ok("init", err)
	k.root.SetToken(first.RootToken)
	k.ok("mounting", k.root.Sys().Mount("transit", &api.MountInput{Type: "transit"}))
	k.write("transit/keys/sops", nil)
	k.ok("a policy", k.root.Sys().PutPolicy("sops", "path \"transit/encrypt/sops\" { capabilities = [\"update\"] }\npath \"transit/decrypt/sops\" { capabilities = [\"update\"] }\n"))
	s, err := k.root.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"sops"}})
	k.ok("a token", err)
	run := func(token string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), sops, args...)
		cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir, "VAULT_ADDR=" + address, "VAULT_TOKEN=" + token}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(token string, args ...string) string {
		t.Helper()
		out, err := run(token, args...)
		if err != nil {
			t.Fatalf("sops %v: %v\n%s", args, err, out)
		}
		return out
	}
	file := filepath.Join(dir, "app.yaml")
	k.ok("writing the file", os.WriteFile(file, []byte("user: web\npassword: "+marker+"\n"), 0o600))
	must(s.Auth.ClientToken, "encrypt", "--in-place", "--hc-vault-transit", address+"/v1/transit/keys/sops", file)
	sealed := func() (ciphertext string) {
		t.Helper()
		b, err := os.ReadFile(file)
		k.ok("reading the file", err)
		if strings.Contains(string(b), marker) || !strings.Contains(string(b), "hc_vault") {
			t.Fatalf("it is not encrypted, or not by this key: %s", b)
		}
		return regexp.MustCompile(`vault:v\d+:`).FindString(string(b))
	}
	k.equal("the version", sealed(), "vault:v1:")
	k.write("transit/keys/sops/rotate", nil)
	k.equal("decrypted", must(s.Auth.ClientToken, "decrypt", "--extract", `["password"]`, file), marker)
	must(s.Auth.ClientToken, "rotate", "--in-place", file)
	k.equal("the version", sealed(), "vault:v2:")
	k.equal("decrypted", must(s.Auth.ClientToken, "decrypt", "--extract", `["password"]`, file), marker)
	if out, err := run("hvs.none", "decrypt", file); err == nil || strings.Contains(out, marker) {
		t.Errorf("without a right: %v\n%s", err, out)
	}
}
