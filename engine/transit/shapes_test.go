package transit_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/servertest"
)

// TestShapes is what requests and answers look like where that has broken clients of
// Vault, with a number each.
func TestShapes(t *testing.T) {
	f := fresh(t)
	f.mountTransit(t)
	if r := f.Must(t, 404, "LIST", "transit/keys", ""); r.Text != `{"errors":[]}` {
		t.Errorf("6 an empty list: %s", r.Text)
	}
	post := func(path, body string) servertest.Reply {
		t.Helper()
		return f.Must(t, 200, "POST", "transit/"+path, body)
	}
	for name, typ := range map[string]string{"aes": "aes256-gcm96", "ec": "ecdsa-p256", "ed": "ed25519", "rsa": "rsa-2048"} {
		post("keys/"+name, fmt.Sprintf(`{"type":%q,"exportable":true,"allow_plaintext_backup":true}`, typ))
		post("keys/"+name+"/rotate", "")
	}
	batch := func(r servertest.Reply) (all []map[string]any) {
		t.Helper()
		list, _ := r.Get("data", "batch_results").([]any)
		for _, one := range list {
			all = append(all, one.(map[string]any))
		}
		if len(all) == 0 {
			t.Fatalf("no results: %s", r.Text)
		}
		return all
	}

	t.Run("1 key_version in every answer", func(t *testing.T) {
		old := post("encrypt/aes", `{"plaintext":"eA==","key_version":1}`).Get("data", "ciphertext")
		for path, item := range map[string]string{
			"encrypt/aes": `"plaintext":"eA=="`, "rewrap/aes": fmt.Sprintf(`"ciphertext":%q`, old), "hmac/aes": `"input":"eA=="`, "sign/ec": `"input":"eA=="`,
		} {
			for asked, want := range map[string]json.Number{"": "2", `,"key_version":1`: "1", `,"key_version":"2"`: "2"} {
				if r := post(path, "{"+item+asked+"}"); r.Get("data", "key_version") != want {
					t.Errorf("%s%s: %s", path, asked, r.Text)
				}
				if all := batch(post(path, `{"batch_input":[{`+item+asked+`}]}`)); all[0]["key_version"] != want {
					t.Errorf("%s%s in a batch: %v", path, asked, all)
				}
			}
		}
		for _, kind := range []string{"plaintext", "wrapped"} {
			if r := post("datakey/"+kind+"/aes", ""); r.Get("data", "key_version") != json.Number("2") {
				t.Errorf("%s", r.Text)
			}
		}
	})

	t.Run("2 keys and latest_version", func(t *testing.T) {
		for name, shown := range map[string]string{"aes": "", "ec": "P-256", "ed": "ed25519", "rsa": "rsa-2048"} {
			r := f.Must(t, 200, "GET", "transit/keys/"+name, "")
			one := r.Get("data", "keys", "1")
			_, isNumber := one.(json.Number)
			fields, _ := one.(map[string]any)
			names := slices.Sorted(maps.Keys(fields))
			if r.Get("data", "latest_version") != json.Number("2") || isNumber != (shown == "") ||
				shown != "" && (fields["name"] != shown || !slices.Equal(names, []string{"certificate_chain", "creation_time", "name", "public_key"})) {
				t.Errorf("%s: %s", name, r.Text)
			}
		}
	})

	t.Run("3 what is read of a key", func(t *testing.T) {
		all := []string{"allow_plaintext_backup", "auto_rotate_period", "deletion_allowed", "derived", "exportable", "imported_key", "keys", "latest_version", "min_available_version",
			"min_decryption_version", "min_encryption_version", "name", "soft_deleted", "supports_decryption", "supports_derivation", "supports_encryption", "supports_signing", "type"}
		post("keys/convergent", `{"derived":true,"convergent_encryption":true}`)
		post("keys/hmac", `{"type":"hmac","key_size":48}`)
		post("keys/rotated", `{"auto_rotate_period":"24h","exportable":true,"allow_plaintext_backup":true}`)
		backup := f.Must(t, 200, "GET", "transit/backup/rotated", "").Get("data", "backup")
		f.Must(t, 204, "POST", "transit/restore/restored", fmt.Sprintf(`{"backup":%q}`, backup))
		for name, more := range map[string][]string{"aes": nil, "ec": nil, "convergent": {"convergent_encryption", "convergent_encryption_version", "kdf"}, "hmac": {"key_size"}, "rotated": {"backup_info"}, "restored": {"backup_info", "restore_info"}} {
			r := f.Must(t, 200, "GET", "transit/keys/"+name, "")
			data, _ := r.Get("data").(map[string]any)
			want := slices.Concat(all, more)
			slices.Sort(want)
			if got := slices.Sorted(maps.Keys(data)); !slices.Equal(got, want) {
				t.Errorf("%s has %v,\nwant %v", name, got, want)
			}
			if period := data["auto_rotate_period"]; (period == json.Number("86400")) != slices.Contains(more, "backup_info") {
				t.Errorf("%s: auto_rotate_period is %v", name, period)
			}
		}
	})

	t.Run("4 weak input", func(t *testing.T) {
		for _, method := range []string{"PUT", "POST"} {
			f.Must(t, 200, method, "transit/keys/weak", `{"name":"weak","exportable":"true","derived":"0","unknown":{"a":[1]}}`)
			r := f.Must(t, 200, method, "transit/encrypt/weak", `{"name":"weak","plaintext":"eA==","key_version":"0","unknown":1,"context":""}`)
			r = f.Must(t, 200, method, "transit/decrypt/weak", fmt.Sprintf(`{"name":"weak","ciphertext":%q,"context":"eA=="}`, r.Get("data", "ciphertext")))
			if r.Get("data", "plaintext") != "eA==" {
				t.Errorf("%s: %s", method, r.Text)
			}
			for _, path := range []string{"/rsa", "/rsa/sha2-512"} {
				r := f.Must(t, 200, method, "transit/sign"+path, `{"input":"eA==","key_version":"1","prehashed":"false","marshalling_algorithm":"x"}`)
				if r := f.Must(t, 200, method, "transit/verify"+path, fmt.Sprintf(`{"input":"eA==","signature":%q,"prehashed":0}`, r.Get("data", "signature"))); r.Get("data", "valid") != true {
					t.Errorf("%s: %s", path, r.Text)
				}
				path = strings.Replace(path, "/rsa", "/aes", 1)
				r = f.Must(t, 200, method, "transit/hmac"+path, `{"input":"eA=="}`)
				if r := f.Must(t, 200, method, "transit/verify"+path, fmt.Sprintf(`{"input":"eA==","hmac":%q}`, r.Get("data", "hmac"))); r.Get("data", "valid") != true {
					t.Errorf("%s: %s", path, r.Text)
				}
			}
			for _, path := range []string{"hash", "hash/sha2-256", "random", "random/platform", "random/16", "random/seal/16", "random/all/16"} {
				f.Must(t, 200, method, "transit/"+path, `{"input":"eA==","format":"hex"}`)
			}
		}
		if keys, _ := f.Must(t, 200, "GET", "transit/export/encryption-key/aes/latest", "").Get("data", "keys").(map[string]any); len(keys) != 1 || keys["2"] == nil {
			t.Errorf("the latest is %v", keys)
		}
	})

	t.Run("5 batches", func(t *testing.T) {
		const body = `"batch_input":[{"plaintext":"eA==","reference":"first","key_version":1},{"plaintext":"?","reference":"second"},{"plaintext":"eQ=="}]}`
		for code, want := range map[string]int{"": 400, `"partial_failure_response_code":207,`: 207} {
			r := f.Must(t, want, "POST", "transit/encrypt/aes", "{"+code+body)
			all := batch(r)
			if len(all) != 3 || all[0]["reference"] != "first" || all[0]["key_version"] != json.Number("1") || all[1]["reference"] != "second" || all[1]["ciphertext"] != nil ||
				!strings.Contains(fmt.Sprint(all[1]["error"]), "illegal base64") || all[2]["reference"] != "" || all[2]["error"] != nil {
				t.Errorf("%s", r.Text)
			}
			ciphertext := all[0]["ciphertext"]
			r = f.Must(t, want, "POST", "transit/decrypt/aes", fmt.Sprintf(`{%s"batch_input":[{"ciphertext":%q},{"ciphertext":"x"}]}`, code, ciphertext))
			if all := batch(r); all[0]["plaintext"] != "eA==" || all[1]["error"] == nil {
				t.Errorf("%s", r.Text)
			}
		}
		f.Must(t, 400, "POST", "transit/encrypt/aes", `{"partial_failure_response_code":207,"batch_input":[{"plaintext":"?"}]}`)
	})

	t.Run("7 ed25519 signs what it is given", func(t *testing.T) {
		signature := post("sign/ed", `{"input":"eA=="}`).Get("data", "signature")
		for _, more := range []string{`,"prehashed":true`, `,"prehashed":true,"hash_algorithm":"sha2-512"`, `,"signature_algorithm":"pkcs1v15"`} {
			if r := post("sign/ed", `{"input":"eA=="`+more+`}`); r.Get("data", "signature") != signature {
				t.Errorf("%s: %s, not %s", more, r.Text, signature)
			}
		}
	})

	t.Run("8 no hash, and JWS", func(t *testing.T) {
		for more, status := range map[string]int{``: 400, `,"prehashed":true`: 400, `,"signature_algorithm":"pkcs1v15"`: 400, `,"prehashed":true,"signature_algorithm":"pss"`: 400,
			`,"prehashed":true,"signature_algorithm":"pkcs1v15"`: 200} {
			f.Must(t, status, "POST", "transit/sign/rsa/none", `{"input":"eA=="`+more+`}`)
		}
		jws, _ := post("sign/ec", `{"input":"eA==","marshaling_algorithm":"jws"}`).Get("data", "signature").(string)
		if raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(jws, "vault:v2:")); err != nil || len(raw) != 64 {
			t.Errorf("%s: %v", jws, err)
		}
		if r := post("verify/ec", fmt.Sprintf(`{"input":"eA==","signature":%q,"marshaling_algorithm":"jws"}`, jws)); r.Get("data", "valid") != true {
			t.Errorf("%s", r.Text)
		}
		f.Must(t, 400, "POST", "transit/sign/ec", `{"input":"eA==","marshaling_algorithm":"x"}`)
	})

	t.Run("9 exports", func(t *testing.T) {
		get := func(path string) string {
			t.Helper()
			text, _ := f.Must(t, 200, "GET", "transit/export/"+path, "").Get("data", "keys", "2").(string)
			return text
		}
		isPEM := func(text string) string {
			block, _ := pem.Decode([]byte(text))
			if block == nil {
				return ""
			}
			return block.Type
		}
		for path, want := range map[string]string{
			"signing-key/ec": "EC PRIVATE KEY", "signing-key/ec?format=pem": "PRIVATE KEY", "signing-key/rsa": "RSA PRIVATE KEY", "encryption-key/rsa?format=pem": "PRIVATE KEY",
			"signing-key/ed?format=pem": "PRIVATE KEY", "public-key/ec": "PUBLIC KEY", "public-key/rsa?format=pem": "PUBLIC KEY", "public-key/ed?format=pem": "PUBLIC KEY",
		} {
			if text := get(path); isPEM(text) != want {
				t.Errorf("%s is %q", path, isPEM(text))
			}
		}
		for path, length := range map[string]int{"encryption-key/aes": 32, "encryption-key/aes?format=raw": 32, "hmac-key/aes": 32, "hmac-key/ec": 32, "signing-key/ed": 64, "public-key/ed?format=raw": 32} {
			if raw, err := base64.StdEncoding.DecodeString(get(path)); err != nil || len(raw) != length {
				t.Errorf("%s has %d bytes: %v", path, len(raw), err)
			}
		}
		for _, path := range []string{"signing-key/ec?format=der", "encryption-key/rsa?format=der", "signing-key/ed?format=der"} {
			raw, err := base64.StdEncoding.DecodeString(get(path))
			if err == nil {
				_, err = x509.ParsePKCS8PrivateKey(raw)
			}
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		for _, path := range []string{"certificate-chain/ec", "signing-key/aes", "encryption-key/ec", "public-key/aes", "nonsense/aes", "encryption-key/aes?format=pem", "encryption-key/aes?format=x"} {
			f.Must(t, 400, "GET", "transit/export/"+path, "")
		}
	})
}
