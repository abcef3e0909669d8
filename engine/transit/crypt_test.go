package transit

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/api"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// newKey makes a key of a kind.
func (k *keep) newKey(name string, kind *kind, more string) {
	k.Helper()
	if kind.hmac {
		more += `,"key_size":32`
	}
	k.must(api.Write, "keys/"+name, `{"type":"`+kind.name+`"`+more+`}`)
}

func (k *keep) encrypt(name, body string) string {
	k.Helper()
	return k.shown(k.must(api.Write, "encrypt/"+name, body))["ciphertext"].(string)
}

func (k *keep) wantPlain(name, body, want string) {
	k.Helper()
	if got := k.shown(k.must(api.Write, "decrypt/"+name, body))["plaintext"]; got != b64(want) {
		k.Errorf("decrypt/%s %s: %v, want %s", name, body, got, b64(want))
	}
}

func TestEncrypt(t *testing.T) {
	k := newKeep(t)
	for _, kind := range kinds {
		k.newKey(kind.name, kind, "")
		if !kind.encrypts() {
			k.refuse("message encryption not supported for key type "+kind.name, api.Write, "encrypt/"+kind.name, `{"plaintext":""}`)
			k.refuse("message decryption not supported for key type "+kind.name, api.Write, "decrypt/"+kind.name, `{"ciphertext":"vault:v1:"}`)
			continue
		}
		for _, plain := range []string{"", "x", strings.Repeat("long", 40)} {
			body := fmt.Sprintf(`{"plaintext":%q,"name":"k","context":"","unknown":{}}`, b64(plain))
			one, two := k.encrypt(kind.name, body), k.encrypt(kind.name, body)
			if one == two || strings.Count(one, ":") != 2 || !strings.HasPrefix(one, "vault:v1:") {
				t.Errorf("%s: %s, %s", kind.name, one, two)
			}
			k.wantPlain(kind.name, fmt.Sprintf(`{"ciphertext":%q}`, one), plain)
		}
		if !kind.symmetric() {
			continue
		}
		c := k.encrypt(kind.name, fmt.Sprintf(`{"plaintext":%q,"associated_data":%q}`, b64("x"), b64("where")))
		k.wantPlain(kind.name, fmt.Sprintf(`{"ciphertext":%q,"associated_data":%q}`, c, b64("where")), "x")
		for _, other := range []string{"", b64("elsewhere")} {
			if _, err := k.call(api.Write, "decrypt/"+kind.name, fmt.Sprintf(`{"ciphertext":%q,"associated_data":%q}`, c, other)); err == nil ||
				!strings.HasSuffix(err.Error(), "message authentication failed") {
				t.Errorf("%s with the associated data %q: %v", kind.name, other, err)
			}
		}
	}
	k.refuse("'[0].associated_data' provided for non-AEAD cipher suite rsa-2048", api.Write, "encrypt/rsa-2048", `{"plaintext":"","associated_data":"eA=="}`)
	k.refuse("failed to RSA encrypt the plaintext: crypto/rsa: message too long for RSA key size", api.Write, "encrypt/rsa-2048",
		fmt.Sprintf(`{"plaintext":%q}`, b64(strings.Repeat("x", 191))))
	k.refuse("failed to RSA decrypt the ciphertext: crypto/rsa: decryption error", api.Write, "decrypt/rsa-2048", `{"ciphertext":"vault:v1:eA=="}`)
}

func TestEncryptRefuses(t *testing.T) {
	k := newKeep(t)
	k.newKey("k", kindOf("aes256-gcm96"), "")
	k.newKey("x", kindOf("xchacha20-poly1305"), "")
	k.newKey("derived", kindOf("aes256-gcm96"), `,"derived":true`)
	for range 3 {
		k.must(api.Write, "keys/k/rotate", "")
	}
	k.must(api.Write, "keys/k/config", `{"min_decryption_version":2,"min_encryption_version":3}`)
	for _, c := range []struct{ path, body, text string }{
		{"encrypt/k", ``, "missing plaintext to encrypt"},
		{"encrypt/k", `{"plaintext":null}`, "missing plaintext to encrypt"},
		{"encrypt/k", `{"plaintext":"a"}`, "illegal base64 data at input byte 0"},
		{"encrypt/k", `{"plaintext":{}}`, "the parameter plaintext must be a text, not an object or a list"},
		{"encrypt/k", `{"plaintext":"","context":"a"}`, "illegal base64 data at input byte 0"},
		{"encrypt/k", `{"plaintext":"","associated_data":"a"}`, "unable to get associated_data/additional_data from factory[0]: illegal base64 data at input byte 0"},
		{"encrypt/k", `{"plaintext":"","nonce":"eA=="}`, "nonce provided when not allowed"},
		{"encrypt/k", `{"plaintext":"","key_version":-1}`, "requested version for encryption is negative"},
		{"encrypt/k", `{"plaintext":"","key_version":5}`, "requested version for encryption is higher than the latest key version"},
		{"encrypt/k", `{"plaintext":"","key_version":"2"}`, "requested version for encryption is less than the minimum encryption key version"},
		{"encrypt/k", `{"plaintext":"","key_version":"x"}`, "the parameter key_version must be a whole number"},
		{"encrypt/k", `{"batch_input":[]}`, "missing batch input to process"},
		{"encrypt/k", `{"batch_input":{}}`, "failed to parse batch input: it must be a list of objects"},
		{"encrypt/k", `{"batch_input":[1]}`, "failed to parse batch input: '[0]' must be an object"},
		{"encrypt/k", `{"batch_input":[{"plaintext":""},{}]}`, "failed to parse batch input: '[1].plaintext' missing plaintext to encrypt"},
		{"encrypt/k", `{"batch_input":[{"plaintext":[]}]}`, "failed to parse batch input: '[0]': the parameter plaintext must be a text, not an object or a list"},
		{"encrypt/k", `{"batch_input":[` + strings.Repeat(`{"plaintext":""},`, maxItems) + `{}]}`, "batch_input has more than the 10000 items that one request may have"},
		{"encrypt/derived", `{"plaintext":""}`, errNoContext.Text},
		{"encrypt/derived", `{"batch_input":[{"plaintext":"","context":"eA=="},{"plaintext":""}]}`, "context should be set either in all the request blocks or in none"},
		{"decrypt/nothing", `{"ciphertext":"vault:v1:"}`, "encryption key not found"},
		{"rewrap/nothing", `{"ciphertext":"vault:v1:"}`, "encryption key not found"},
		{"datakey/wrapped/nothing", ``, "encryption key not found"},
		{"decrypt/k", ``, "missing ciphertext to decrypt"},
		{"decrypt/k", `{"ciphertext":""}`, "missing ciphertext to decrypt"},
		{"decrypt/k", `{"ciphertext":"x"}`, "invalid ciphertext: no prefix"},
		{"decrypt/k", `{"ciphertext":"vault:v"}`, "invalid ciphertext: wrong number of fields"},
		{"decrypt/k", `{"ciphertext":"vault:v1"}`, "invalid ciphertext: wrong number of fields"},
		{"decrypt/k", `{"ciphertext":"vault:vx:"}`, "invalid ciphertext: version number could not be decoded"},
		{"decrypt/k", `{"ciphertext":"vault:v5:"}`, "invalid ciphertext: version is too new"},
		{"decrypt/k", `{"ciphertext":"vault:v0:"}`, errTooOld.Text},
		{"decrypt/k", `{"ciphertext":"vault:v-1:"}`, errTooOld.Text},
		{"decrypt/k", `{"ciphertext":"vault:v2:a"}`, "invalid ciphertext: could not decode base64"},
		{"decrypt/k", `{"ciphertext":"vault:v2:eA=="}`, "invalid ciphertext length"},
		{"decrypt/x", `{"ciphertext":"vault:v1:` + b64(strings.Repeat("x", 23)) + `"}`, "invalid ciphertext length"},
		{"decrypt/k", `{"ciphertext":"vault:v2:` + b64(strings.Repeat("x", 12)) + `"}`, "cipher: message authentication failed"},
		{"decrypt/derived", `{"ciphertext":"vault:v1:` + b64(strings.Repeat("x", 28)) + `"}`, errNoContext.Text},
		{"rewrap/k", `{"ciphertext":"x"}`, "invalid ciphertext: no prefix"},
		{"datakey/other/k", ``, "Invalid path, must be 'plaintext' or 'wrapped'"},
		{"datakey/wrapped/k", `{"bits":64}`, "invalid bit length"},
		{"datakey/wrapped/k", `{"context":"a"}`, "failed to base64-decode context"},
		{"datakey/wrapped/k", `{"key_version":1}`, "requested version for encryption is less than the minimum encryption key version"},
	} {
		k.refuse(c.text, api.Write, c.path, c.body)
	}
	k.must(api.Delete, "keys/x/soft-delete", "")
	for _, path := range []string{"encrypt/x", "decrypt/x", "rewrap/x", "datakey/plaintext/x"} {
		k.refuse("refusing to use soft-deleted key", api.Write, path, `{"plaintext":"","ciphertext":"vault:v1:"}`)
	}
	for _, body := range []string{"{", "[]", "{} {}", `{"plaintext":"` + "\n" + `"}`, `{"plaintext":"\x"}`, `{"plaintext":01}`, `{"plaintext":""`} {
		if _, err := k.call(api.Write, "encrypt/k", body); err == nil || !strings.HasPrefix(err.Error(), "failed to parse JSON input: ") {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// Each version decrypts what it has encrypted, and a rewrap moves it to another.
func TestRotateAndRewrap(t *testing.T) {
	k := newKeep(t)
	for _, kind := range kinds {
		if !kind.encrypts() {
			continue
		}
		k.newKey(kind.name, kind, "")
		one := k.encrypt(kind.name, `{"plaintext":"eA=="}`)
		k.must(api.Write, "keys/"+kind.name+"/rotate", "")
		k.must(api.Write, "keys/"+kind.name+"/rotate", "")
		three := k.shown(k.must(api.Write, "rewrap/"+kind.name, fmt.Sprintf(`{"ciphertext":%q}`, one)))
		two := k.shown(k.must(api.Write, "rewrap/"+kind.name, fmt.Sprintf(`{"ciphertext":%q,"key_version":"2"}`, three["ciphertext"])))
		if three["key_version"] != 3.0 || two["key_version"] != 2.0 || !strings.HasPrefix(two["ciphertext"].(string), "vault:v2:") {
			t.Errorf("%s: %v, %v", kind.name, three, two)
		}
		for _, c := range []any{one, two["ciphertext"], three["ciphertext"]} {
			k.wantPlain(kind.name, fmt.Sprintf(`{"ciphertext":%q}`, c), "x")
		}
		// What one version has made is not another's.
		if _, err := k.call(api.Write, "decrypt/"+kind.name, fmt.Sprintf(`{"ciphertext":%q}`, strings.Replace(one, "v1", "v2", 1))); err == nil {
			t.Errorf("version 2 of %s decrypts what version 1 has encrypted", kind.name)
		}
		k.must(api.Write, "keys/"+kind.name+"/config", `{"min_decryption_version":2}`)
		k.refuse(errTooOld.Text, api.Write, "decrypt/"+kind.name, fmt.Sprintf(`{"ciphertext":%q}`, one))
		k.must(api.Write, "keys/"+kind.name+"/config", `{"min_decryption_version":1}`)
		k.wantPlain(kind.name, fmt.Sprintf(`{"ciphertext":%q}`, one), "x")
	}
}

func TestDataKey(t *testing.T) {
	k := newKeep(t)
	k.newKey("k", kindOf("chacha20-poly1305"), `,"derived":true`)
	for bits, size := range map[string]int{"": 32, `,"bits":128`: 16, `,"bits":"256"`: 32, `,"bits":512`: 64} {
		data := k.shown(k.must(api.Write, "datakey/plaintext/k", fmt.Sprintf(`{"context":%q,"associated_data":%q%s}`, b64("c"), b64("a"), bits)))
		plain, err := base64.StdEncoding.DecodeString(data["plaintext"].(string))
		if err != nil || len(plain) != size || data["key_version"] != 1.0 {
			t.Errorf("%s: %v", bits, data)
		}
		k.wantPlain("k", fmt.Sprintf(`{"context":%q,"associated_data":%q,"ciphertext":%q}`, b64("c"), b64("a"), data["ciphertext"]), string(plain))
	}
	if data := k.shown(k.must(api.Write, "datakey/wrapped/k", `{"context":"eA=="}`)); data["plaintext"] != nil || data["ciphertext"] == nil {
		t.Errorf("%v", data)
	}
	k.newKey("rsa", kindOf("rsa-2048"), "")
	k.must(api.Write, "datakey/wrapped/rsa", "")
	k.refuse("'associated_data' provided for non-AEAD cipher suite rsa-2048", api.Write, "datakey/wrapped/rsa", `{"associated_data":"eA=="}`)
}

func TestBatch(t *testing.T) {
	k := newKeep(t)
	k.newKey("k", kindOf("aes256-gcm96"), "")
	k.must(api.Write, "keys/k/rotate", "")
	a := k.must(api.Write, "encrypt/k", `{"plaintext":"aWdub3JlZA==","batch_input":[{"plaintext":"MQ==","reference":"a\"\u00e9\ufffd<"},{"plaintext":"Mg==","key_version":1},{"plaintext":"Mw==","key_version":"2","reference":3}]}`)
	results := k.shown(a)["batch_results"].([]any)
	if len(results) != 3 || a.Status != 0 {
		t.Fatalf("%v", a)
	}
	var again []string
	for i, want := range []struct {
		version   float64
		reference string
	}{{2, "a\"é\ufffd<"}, {1, ""}, {2, "3"}} {
		r := results[i].(map[string]any)
		if r["key_version"] != want.version || r["reference"] != want.reference || r["error"] != nil {
			t.Errorf("%v", r)
		}
		again = append(again, fmt.Sprintf(`{"ciphertext":%q,"reference":"%d"}`, r["ciphertext"], i))
		k.wantPlain("k", fmt.Sprintf(`{"ciphertext":%q}`, r["ciphertext"]), fmt.Sprint(i+1))
	}
	batch := func(path, items string, more ...string) api.Answer {
		t.Helper()
		return k.must(api.Write, path, `{"batch_input":[`+items+`]`+strings.Join(more, "")+`}`)
	}
	for _, path := range []string{"decrypt/k", "rewrap/k"} {
		results = k.shown(batch(path, strings.Join(again, ",")))["batch_results"].([]any)
		for i, r := range results {
			r := r.(map[string]any)
			if r["reference"] != fmt.Sprint(i) || path == "decrypt/k" && r["plaintext"] != b64(fmt.Sprint(i+1)) || path == "rewrap/k" && r["key_version"] != 2.0 {
				t.Errorf("%s: %v", path, r)
			}
		}
	}

	// Some fail, the others do not; their places stay.
	mixed := again[0] + `,{"ciphertext":"vault:v9:","reference":"r"},{},` + again[1]
	for _, c := range []struct {
		items, more string
		status      int
		warnings    int
	}{
		{mixed, "", 400, 0}, {mixed, `,"partial_failure_response_code":200`, 200, 0}, {mixed, `,"partial_failure_response_code":"207"`, 207, 0},
		{mixed, `,"partial_failure_response_code":0`, 400, 0}, {mixed, `,"partial_failure_response_code":600`, 400, 1}, {mixed, `,"partial_failure_response_code":100`, 400, 1},
		{`{},{}`, `,"partial_failure_response_code":200`, 400, 0}, {again[0], `,"partial_failure_response_code":207`, 0, 0},
	} {
		if a := batch("decrypt/k", c.items, c.more); a.Status != c.status || len(a.Warnings) != c.warnings {
			t.Errorf("%s: %d, %v", c.more, a.Status, a.Warnings)
		}
	}
	results = k.shown(batch("decrypt/k", mixed))["batch_results"].([]any)
	want := `[map[plaintext:MQ== reference:0] map[error:invalid ciphertext: version is too new reference:r] map[error:missing ciphertext to decrypt reference:] map[plaintext:Mg== reference:1]]`
	if fmt.Sprint(results) != want {
		t.Errorf("%v", results)
	}
	results = k.shown(batch("encrypt/k", `{"plaintext":"a"},{"plaintext":"","key_version":7},{"plaintext":"","associated_data":"a"},{"plaintext":""}`))["batch_results"].([]any)
	if len(results) != 4 || results[0].(map[string]any)["error"] != "illegal base64 data at input byte 0" || results[3].(map[string]any)["error"] != nil {
		t.Errorf("%v", results)
	}
}

// A key that is not there is made by encrypting, unless that is forbidden.
func TestUpsert(t *testing.T) {
	k := newKeep(t)
	k.encrypt("plain", `{"plaintext":""}`)
	k.encrypt("derived", `{"plaintext":"","context":"eA==","type":"chacha20-poly1305"}`)
	k.encrypt("convergent", `{"batch_input":null,"plaintext":"","context":"eA==","convergent_encryption":"true"}`)
	for name, want := range map[string]string{"plain": "aes256-gcm96 false", "derived": "chacha20-poly1305 true", "convergent": "aes256-gcm96 true"} {
		if data := k.key(name); fmt.Sprint(data["type"], " ", data["derived"]) != want {
			t.Errorf("%s is %v", name, data)
		}
	}
	k.refuse("convergent encryption requires derivation to be enabled, so context is required", api.Write, "encrypt/n", `{"plaintext":"","convergent_encryption":true}`)
	k.refuse("key type ecdsa-p256 not supported for this operation", api.Write, "encrypt/n", `{"plaintext":"","type":"ecdsa-p256"}`)
	k.refuse("key type rsa-2048 not supported for this operation", api.Write, "encrypt/n", `{"plaintext":"","type":"rsa-2048"}`)
	k.refuse("unknown key type x", api.Write, "encrypt/n", `{"plaintext":"","type":"x"}`)
	k.must(api.Write, "config/keys", `{"disable_upsert":true}`)
	k.refuse("encryption key not found", api.Write, "encrypt/n", `{"plaintext":""}`)
	if data := k.shown(k.must(api.Read, "config/keys", "")); data["disable_upsert"] != true {
		t.Errorf("%v", data)
	}
}

func TestDerived(t *testing.T) {
	k := newKeep(t)
	for _, kind := range kinds {
		if !kind.symmetric() {
			continue
		}
		for _, more := range []string{"", `,"convergent_encryption":true`} {
			name := kind.name + fmt.Sprint(len(more))
			k.newKey(name, kind, `,"derived":true`+more)
			body := func(plain, context string) string {
				return fmt.Sprintf(`{"plaintext":%q,"context":%q}`, b64(plain), b64(context))
			}
			one, two := k.encrypt(name, body("x", "a")), k.encrypt(name, body("x", "a"))
			if (one == two) != (more != "") {
				t.Errorf("%s encrypts to %s and to %s", name, one, two)
			}
			if k.encrypt(name, body("x", "b")) == one || k.encrypt(name, body("y", "a")) == one {
				t.Errorf("%s encrypts different things to the same", name)
			}
			k.wantPlain(name, fmt.Sprintf(`{"ciphertext":%q,"context":%q}`, one, b64("a")), "x")
			if _, err := k.call(api.Write, "decrypt/"+name, fmt.Sprintf(`{"ciphertext":%q,"context":%q}`, one, b64("b"))); err == nil {
				t.Errorf("%s decrypts with another context", name)
			}
		}
	}
}
