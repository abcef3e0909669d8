package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// TestTransitByVaultAPI makes every call of transit that the OpenAPI document has with Vault's client for Go.
func TestTransitByVaultAPI(t *testing.T) {
	t.Parallel()
	program := build(t)
	ca, key := issue(t, t.TempDir(), "keep")
	k := &keeper{T: t, ca: ca}
	k.address = startKeep(t, program, fmt.Sprintf("  tls_cert_file = %q\n  tls_key_file = %q\n", ca, key))
	k.root = k.client("")
	first, err := k.root.Sys().Init(&api.InitRequest{RecoveryShares: 1, RecoveryThreshold: 1})
	k.ok("init", err)
	k.root.SetToken(first.RootToken)
	k.ok("mounting", k.root.Sys().Mount("transit", &api.MountInput{Type: "transit"}))

	var called []string
	call := func(method, path string, data map[string]any) map[string]any {
		t.Helper()
		called = append(called, method+" /transit/"+path)
		var s *api.Secret
		var err error
		switch logical := k.root.Logical(); method {
		case "get":
			s, err = logical.Read("transit/" + path)
		case "post":
			s, err = logical.Write("transit/"+path, data)
		case "delete":
			s, err = logical.Delete("transit/" + path)
		}
		k.ok(method+" "+path, err)
		if s == nil {
			return nil
		}
		return s.Data
	}
	write := func(path string, data map[string]any) map[string]any {
		t.Helper()
		return call("post", path, data)
	}
	number := func(n int) any { return json.Number(fmt.Sprint(n)) }
	text := base64.StdEncoding.EncodeToString([]byte(marker))
	type m = map[string]any

	// Keys. A list of none is 404, which the client takes for nothing (shape 6).
	none, err := k.root.Logical().List("transit/keys")
	if none != nil || err != nil {
		t.Errorf("an empty list: %+v, %v", none, err)
	}
	_, err = k.root.Logical().Write("transit/decrypt/app", m{"ciphertext": "vault:v1:AAAA"})
	k.refused("a key that is not there", http.StatusBadRequest, err)
	k.equal("config", call("get", "config/keys", nil)["disable_upsert"], false)
	k.equal("config written", write("config/keys", m{"disable_upsert": true})["disable_upsert"], true)
	_, err = k.root.Logical().Write("transit/encrypt/app", m{"plaintext": text})
	k.refused("upsert is disabled", http.StatusBadRequest, err)
	write("keys/app", m{"exportable": "true", "allow_plaintext_backup": true})
	write("keys/signer", m{"type": "ed25519", "exportable": "false"})
	names, err := k.root.Logical().List("transit/keys")
	called = append(called, "get /transit/keys")
	k.ok("listing", err)
	k.equal("keys", names.Data["keys"], []any{"app", "signer"})
	k.equal("latest_version", call("get", "keys/app", nil)["latest_version"], number(1))
	write("keys/app/rotate", nil)

	// Encryption.
	sealed := write("encrypt/app", m{"plaintext": text, "key_version": "1", "name": "app"})
	k.equal("key_version", sealed["key_version"], number(1))
	k.equal("decrypted", write("decrypt/app", m{"ciphertext": sealed["ciphertext"]})["plaintext"], text)
	k.equal("rewrapped", write("rewrap/app", m{"ciphertext": sealed["ciphertext"]})["key_version"], number(2))
	plain := write("datakey/plaintext/app", m{"bits": 512})
	k.equal("a data key", write("decrypt/app", m{"ciphertext": plain["ciphertext"]})["plaintext"], plain["plaintext"])
	k.equal("a wrapped data key", write("datakey/wrapped/app", nil)["plaintext"], nil)
	results := write("encrypt/app", m{"batch_input": []m{{"plaintext": text, "reference": "a"}, {"plaintext": text, "key_version": 1}}})["batch_results"].([]any)
	k.equal("a batch", []any{results[0].(m)["reference"], results[0].(m)["key_version"], results[1].(m)["key_version"]}, []any{"a", number(2), number(1)})
	_, err = k.root.Logical().Write("transit/encrypt/app", m{"batch_input": []m{{"plaintext": text}, {"plaintext": "?"}}})
	k.refused("a batch that fails in part", http.StatusBadRequest, err)

	// Hashes, HMACs, signatures, random bytes.
	for _, algorithm := range []string{"", "/sha2-256"} {
		k.equal("hash"+algorithm, write("hash"+algorithm, m{"input": text})["sum"], fmt.Sprintf("%x", sha256.Sum256([]byte(marker))))
		sum := write("hmac/app"+algorithm, m{"input": text})
		k.equal("its verification", write("verify/app"+algorithm, m{"input": text, "hmac": sum["hmac"]})["valid"], true)
		signed := write("sign/signer"+algorithm, m{"input": text, "key_version": "0"})
		k.equal("key_version of a signature", signed["key_version"], number(1))
		k.equal("verified", write("verify/signer"+algorithm, m{"input": text, "signature": signed["signature"]})["valid"], true)
	}
	for path, length := range map[string]int{"random": 44, "random/platform": 44, "random/all/24": 32} {
		k.equal(path, len(write(path, nil)["random_bytes"].(string)), length)
	}

	// Who hangs on a key.
	uses, _ := call("get", "keys/app/uses", nil)["uses"].([]any)
	k.equal("tokens that have used the key", len(uses), 1)

	// Leaving, coming back.
	exported := call("get", "export/encryption-key/app", nil)["keys"].(m)
	k.equal("exported", len(exported), 2)
	k.equal("the latest", call("get", "export/encryption-key/app/latest", nil)["keys"], m{"2": exported["2"]})
	backup := call("get", "backup/app", nil)
	write("restore/copy", backup)
	k.equal("from the copy", write("decrypt/copy", m{"ciphertext": sealed["ciphertext"]})["plaintext"], text)
	write("restore", m{"backup": backup["backup"], "force": true})

	// An import, of one version after another.
	block, _ := pem.Decode([]byte(call("get", "wrapping_key", nil)["public_key"].(string)))
	wrapping, err := x509.ParsePKIXPublicKey(block.Bytes)
	k.ok("the wrapping key", err)
	wrap := func(secret []byte) string {
		ephemeral := make([]byte, 32)
		rand.Read(ephemeral)
		blob, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, wrapping.(*rsa.PublicKey), ephemeral, nil)
		k.ok("wrapping", err)
		kwp, err := subtle.NewKWP(ephemeral)
		k.ok("wrapping", err)
		inner, err := kwp.Wrap(secret)
		k.ok("wrapping", err)
		return base64.StdEncoding.EncodeToString(append(blob, inner...))
	}
	for version, path := range []string{"keys/imported/import", "keys/imported/import_version"} {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		k.ok("a key", err)
		der, err := x509.MarshalPKCS8PrivateKey(private)
		k.ok("a key", err)
		write(path, m{"type": "ed25519", "ciphertext": wrap(der), "hash_function": "SHA256"})
		signature, _ := strings.CutPrefix(write("sign/imported", m{"input": text})["signature"].(string), fmt.Sprintf("vault:v%d:", version+1))
		raw, err := base64.StdEncoding.DecodeString(signature)
		if err != nil || !ed25519.Verify(public, []byte(marker), raw) {
			t.Errorf("%s: the signature is not of the imported key (%v)", path, err)
		}
	}

	// The end of a key.
	call("delete", "keys/signer/soft-delete", nil)
	_, err = k.root.Logical().Write("transit/sign/signer", m{"input": text})
	k.refused("a soft-deleted key", http.StatusBadRequest, err)
	write("keys/signer/soft-delete-restore", nil)
	write("sign/signer", m{"input": text})
	write("keys/app/config", m{"min_decryption_version": 2, "min_encryption_version": 2})
	_, err = k.root.Logical().Write("transit/decrypt/app", m{"ciphertext": sealed["ciphertext"]})
	k.refused("a version that is too old", http.StatusBadRequest, err)
	k.equal("trimmed", write("keys/app/trim", m{"min_available_version": 2})["min_available_version"], number(2))
	_, err = k.root.Logical().Delete("transit/keys/app")
	k.refused("deleting what may not be deleted", http.StatusBadRequest, err)
	write("keys/app/config", m{"deletion_allowed": "true"})
	call("delete", "keys/app", nil)
	gone, err := k.root.Logical().Read("transit/keys/app")
	if gone != nil || err != nil {
		t.Errorf("a deleted key: %+v, %v", gone, err)
	}

	// That was every call.
	r, err := k.root.Logical().ReadRaw("sys/internal/specs/openapi")
	k.ok("the document", err)
	defer r.Body.Close()
	var document struct{ Paths map[string]map[string]any }
	k.ok("the document", json.NewDecoder(r.Body).Decode(&document))
	calls := 0
	for path, item := range document.Paths {
		if !strings.HasPrefix(path, "/transit/") {
			continue
		}
		pattern := regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(path), `[^/]+`)
		for _, method := range []string{"get", "post", "delete"} {
			if item[method] == nil {
				continue
			}
			calls++
			if !slices.ContainsFunc(called, regexp.MustCompile("^"+method+" "+pattern+"$").MatchString) {
				t.Errorf("%s %s was not called", method, path)
			}
		}
	}
	if calls < 33 {
		t.Errorf("the document has %d calls of transit only", calls)
	}
}

// TestClientModules runs the tests of tools/clients: clients in Go whose modules are not the program's.
func TestClientModules(t *testing.T) {
	if os.Getenv("SEALKEEP_REQUIRE_CLIENTS") != "1" {
		t.Skip("tools/clients is a module of its own, which takes minutes to build: SEALKEEP_REQUIRE_CLIENTS=1 runs it")
	}
	address := startKeep(t, build(t), "")
	k := &keeper{T: t, address: address}
	k.root = k.client("")
	first, err := k.root.Sys().Init(&api.InitRequest{RecoveryShares: 1, RecoveryThreshold: 1})
	k.ok("init", err)
	k.root.SetToken(first.RootToken)
	k.ok("mounting", k.root.Sys().Mount("transit", &api.MountInput{Type: "transit"}))
	cmd := exec.CommandContext(t.Context(), "go", "-C", "../tools/clients", "test", "-count=1", "-v", "./...")
	cmd.Env = append(os.Environ(), "VAULT_ADDR="+address, "VAULT_TOKEN="+first.RootToken)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if passed := strings.Count(string(out), "--- PASS: "); err != nil || passed < 15 {
		t.Errorf("%d tests passed: %v", passed, err)
	}
}
