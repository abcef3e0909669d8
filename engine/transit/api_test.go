package transit_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	vault "github.com/hashicorp/vault/api"
)

// mountTransit mounts the engine at transit/.
func (f *fixture) mountTransit(t testing.TB) {
	t.Helper()
	f.Must(t, 204, "POST", "sys/mounts/transit", `{"type":"transit"}`)
}

// The official client's calls, with the shapes that clients depend on.
func TestTransitByClient(t *testing.T) {
	f := fresh(t)
	c := f.Client(t)
	if err := c.Sys().Mount("transit", &vault.MountInput{Type: "transit"}); err != nil {
		t.Fatal(err)
	}
	write := func(path string, data map[string]any) *vault.Secret {
		t.Helper()
		s, err := c.Logical().Write("transit/"+path, data)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return s
	}
	if s, err := c.Logical().List("transit/keys"); s != nil || err != nil {
		t.Errorf("an empty list: %+v, %v", s, err)
	}
	write("keys/app", map[string]any{"name": "app", "exportable": "true", "allow_plaintext_backup": true})
	write("keys/p256", map[string]any{"type": "ecdsa-p256", "exportable": "false"})
	s, err := c.Logical().Read("transit/keys/app")
	if err != nil {
		t.Fatal(err)
	}
	versions, _ := s.Data["keys"].(map[string]any)
	if _, ok := versions["1"].(json.Number); !ok || s.Data["latest_version"] != json.Number("1") {
		t.Errorf("a symmetric key is %v", s.Data)
	}
	if s, err = c.Logical().Read("transit/keys/p256"); err != nil {
		t.Fatal(err)
	}
	versions, _ = s.Data["keys"].(map[string]any)
	if one, _ := versions["1"].(map[string]any); one["name"] != "P-256" || !strings.HasPrefix(fmt.Sprint(one["public_key"]), "-----BEGIN PUBLIC KEY-----") {
		t.Errorf("an asymmetric key is %v", s.Data)
	}
	text := base64.StdEncoding.EncodeToString([]byte("the text"))
	sealed := write("encrypt/app", map[string]any{"plaintext": text, "name": "app"})
	if parts := strings.Split(fmt.Sprint(sealed.Data["ciphertext"]), ":"); len(parts) != 3 || parts[0] != "vault" || parts[1] != "v1" || sealed.Data["key_version"] != json.Number("1") {
		t.Errorf("%v", sealed.Data)
	}
	if s := write("decrypt/app", sealed.Data); s.Data["plaintext"] != text {
		t.Errorf("%v", s.Data)
	}
	write("keys/app/rotate", nil)
	if s := write("rewrap/app", map[string]any{"ciphertext": sealed.Data["ciphertext"]}); s.Data["key_version"] != json.Number("2") {
		t.Errorf("%v", s.Data)
	}
	fresh := write("datakey/plaintext/app", map[string]any{"bits": 128, "associated_data": text})
	if s := write("decrypt/app", map[string]any{"ciphertext": fresh.Data["ciphertext"], "associated_data": text}); s.Data["plaintext"] != fresh.Data["plaintext"] {
		t.Errorf("%v", s.Data)
	}
	sum := write("hmac/app/sha2-512", map[string]any{"input": text})
	if s := write("verify/app/sha2-512", map[string]any{"input": text, "hmac": sum.Data["hmac"]}); s.Data["valid"] != true {
		t.Errorf("%v", s.Data)
	}
	if s := write("random/platform/16", nil); len(fmt.Sprint(s.Data["random_bytes"])) != 24 {
		t.Errorf("%v", s.Data)
	}
	if s := write("hash/sha2-256", map[string]any{"input": ""}); s.Data["sum"] != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("%v", s.Data)
	}
	if s, err = c.Logical().Read("transit/backup/app"); err != nil {
		t.Fatal(err)
	}
	if s := write("restore/copy", s.Data); s != nil {
		t.Errorf("restoring answers %+v", s)
	}
	if s := write("decrypt/copy", sealed.Data); s.Data["plaintext"] != text {
		t.Errorf("%v", s.Data)
	}
	if s, err := c.Logical().ReadWithData("transit/export/encryption-key/app/latest", map[string][]string{"format": {"raw"}}); err != nil || len(s.Data["keys"].(map[string]any)) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	write("keys/app/config", map[string]any{"deletion_allowed": true, "min_decryption_version": 2, "min_encryption_version": 2})
	write("keys/app/trim", map[string]any{"min_available_version": 2})
	if _, err := c.Logical().Delete("transit/keys/app"); err != nil {
		t.Error(err)
	}
	if s, err := c.Logical().Read("transit/keys/app"); s != nil || err != nil {
		t.Errorf("a deleted key: %+v, %v", s, err)
	}
}

// What the answers are as HTTP has them.
func TestTransitAnswers(t *testing.T) {
	f := fresh(t)
	f.mountTransit(t)
	if r := f.Must(t, 404, "LIST", "transit/keys", ""); r.Text != `{"errors":[]}` {
		t.Errorf("%s", r.Text)
	}
	f.Must(t, 200, "PUT", "transit/keys/k", `{"marshalling_algorithm":"x"}`)
	r := f.Must(t, 200, "POST", "transit/keys/k", `{"type":"ed25519"}`)
	if warnings := fmt.Sprint(r.Get("warnings")); warnings != "[key k already existed]" || r.Get("data", "type") != "aes256-gcm96" {
		t.Errorf("%s", r.Text)
	}
	f.Must(t, 200, "POST", "transit/keys/k/config", "{}")
	r = f.Must(t, 400, "PUT", "transit/encrypt/k", `{"batch_input":[{"plaintext":"MQ==","reference":"a"},{"plaintext":"?","reference":"b"}]}`)
	results, _ := r.Get("data", "batch_results").([]any)
	if len(results) != 2 || results[1].(map[string]any)["error"] != "illegal base64 data at input byte 0" || results[0].(map[string]any)["reference"] != "a" {
		t.Fatalf("%s", r.Text)
	}
	f.Must(t, 202, "POST", "transit/encrypt/k", `{"partial_failure_response_code":202,"batch_input":[{"plaintext":"MQ=="},{"plaintext":"?"}]}`)
	if r := f.Must(t, 400, "POST", "transit/decrypt/k", `{"ciphertext":"vault:v2:"}`); r.Errors() != "invalid ciphertext: version is too new" {
		t.Errorf("%s", r.Text)
	}
	if r := f.Must(t, 200, "POST", "transit/encrypt/k", `{"plaintext":"","unknown":1}`); fmt.Sprint(r.Get("warnings")) != "[Endpoint ignored these unrecognized parameters: [unknown]]" {
		t.Errorf("%s", r.Text)
	}
	f.Must(t, 405, "GET", "transit/encrypt/k", "")
	f.Must(t, 400, "POST", "transit/encrypt/k", "{")
	f.Must(t, 200, "PUT", "transit/datakey/wrapped/k", " null") // no parameters, as Vault's client has them
	f.Must(t, 400, "PUT", "transit/datakey/wrapped/k", "nul")
	f.Must(t, 413, "POST", "transit/datakey/wrapped/k", `{"context":"`+strings.Repeat("A", 70<<10)+`"}`)
	large := f.Must(t, 200, "POST", "transit/encrypt/k", `{"plaintext":"`+strings.Repeat("A", 4<<20)+`"}`)
	if r := f.Must(t, 200, "POST", "transit/decrypt/k", fmt.Sprintf(`{"ciphertext":%q}`, large.Get("data", "ciphertext"))); r.Get("data", "plaintext") != strings.Repeat("A", 4<<20) {
		t.Error("a large text is another")
	}
}

// Who may only update does not make a key by encrypting, and who may only create does
// not use one.
func TestTransitUpsertTakesCreate(t *testing.T) {
	f := fresh(t)
	f.mountTransit(t)
	f.Policy(t, "use", map[string]string{"transit/encrypt/*": `"update"`})
	f.Policy(t, "make", map[string]string{"transit/encrypt/*": `"create"`})
	use, makes := "X-Vault-Token: "+f.Bearer(t, "use"), "X-Vault-Token: "+f.Bearer(t, "make")
	f.Must(t, 403, "POST", "transit/encrypt/k", `{"plaintext":""}`, use)
	f.Must(t, 200, "POST", "transit/encrypt/k", `{"plaintext":""}`, makes)
	f.Must(t, 403, "POST", "transit/encrypt/k", `{"plaintext":""}`, makes)
	f.Must(t, 200, "POST", "transit/encrypt/k", `{"plaintext":""}`, use)
	f.Must(t, 200, "POST", "transit/config/keys", `{"disable_upsert":true}`)
	if r := f.Must(t, 400, "POST", "transit/encrypt/other", `{"plaintext":""}`, makes); r.Errors() != "encryption key not found" {
		t.Errorf("%s", r.Text)
	}
	f.Policy(t, "context", map[string]string{"transit/encrypt/k": "\"update\"]\n allowed_parameters = {\n  \"plaintext\" = []\n }\n#"})
	only := "X-Vault-Token: " + f.Bearer(t, "context")
	f.Must(t, 200, "POST", "transit/encrypt/k", `{"plaintext":""}`, only)
	f.Must(t, 403, "POST", "transit/encrypt/k", `{"plaintext":"","key_version":1}`, only)
	f.Must(t, 403, "POST", "transit/encrypt/k", `{"batch_input":[]}`, only)
	f.Must(t, 400, "POST", "transit/encrypt/k", `{"plaintext":"","plaintext":"eA=="}`, only)
}

// Rotations, trims and uses at once: what was encrypted decrypts, unless it was trimmed.
func TestTransitConcurrently(t *testing.T) {
	f := fresh(t)
	f.mountTransit(t)
	f.Must(t, 200, "POST", "transit/keys/k", "")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 30 {
				sealed := f.Call(t, "POST", "transit/encrypt/k", `{"plaintext":"eA=="}`)
				if sealed.Status != 200 {
					t.Errorf("encrypting: %s", sealed.Text)
					return
				}
				r := f.Call(t, "POST", "transit/decrypt/k", fmt.Sprintf(`{"ciphertext":%q}`, sealed.Get("data", "ciphertext")))
				if r.Get("data", "plaintext") != "eA==" && r.Errors() != "ciphertext or signature version is disallowed by policy (too old)" {
					t.Errorf("decrypting: %s", r.Text)
				}
			}
		})
	}
	for n := 2; n < 12; n++ {
		f.Must(t, 200, "POST", "transit/keys/k/rotate", "")
		f.Must(t, 200, "POST", "transit/keys/k/config", fmt.Sprintf(`{"min_decryption_version":%d,"min_encryption_version":%[1]d}`, n))
		f.Must(t, 200, "POST", "transit/keys/k/trim", fmt.Sprintf(`{"min_available_version":%d}`, n))
	}
	wg.Wait()
}
