package transit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// place writes a key of a kind with the version given, and no other.
func (k *keep) place(name string, kind *kind, v *record) {
	k.Helper()
	err := k.store.Update(k.Context(), func(tx *storage.Tx) error {
		fresh := *v
		return k.e.add(tx, name, &policy{ID: storage.NewUUID(), Type: kind.name, MinDecryption: 1, First: 1}, &fresh, k.now)
	})
	if err != nil {
		k.Fatal(err)
	}
}

// sign returns a signature, whose prefix it checks.
func (k *keep) sign(path, body string) string {
	k.Helper()
	data := k.shown(k.must(api.Write, "sign/"+path, body))
	signature, _ := data["signature"].(string)
	n, _ := data["key_version"].(float64)
	if !strings.HasPrefix(signature, fmt.Sprintf("vault:v%d:", int(n))) || strings.Count(signature, ":") != 2 {
		k.Fatalf("sign/%s %s: %v", path, body, data)
	}
	return signature
}

// wantValid has a signature verified.
func (k *keep) wantValid(want bool, path, body string) {
	k.Helper()
	if got := k.shown(k.must(api.Write, "verify/"+path, body)); len(got) != 1 || got["valid"] != want {
		k.Errorf("verify/%s %s: %v, want %t", path, body, got, want)
	}
}

// public reads the public key of a version.
func (k *keep) public(name string, version int) crypto.PublicKey {
	k.Helper()
	data := k.shown(k.must(api.Read, "keys/"+name, ""))
	of := data["keys"].(map[string]any)[fmt.Sprint(version)].(map[string]any)
	text := of["public_key"].(string)
	if of["name"] == "ed25519" {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) != ed25519.PublicKeySize {
			k.Fatalf("%s: %v", text, err)
		}
		return ed25519.PublicKey(raw)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) != 0 {
		k.Fatalf("no PEM: %q", text)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		k.Fatal(err)
	}
	return public
}

// generated is a version of each kind that signs; to make them takes seconds.
var generated = sync.OnceValues(func() (map[*kind]*record, error) {
	all := make(map[*kind]*record)
	for _, kind := range signers() {
		v, err := generate(&policy{Type: kind.name})
		if err != nil {
			return nil, err
		}
		all[kind] = v
	}
	return all, nil
})

// newSigner makes a key of a kind, with its name.
func (k *keep) newSigner(kind *kind) {
	k.Helper()
	k.place(kind.name, kind, mustGenerated(k)[kind])
}

func mustGenerated(t testing.TB) map[*kind]*record {
	t.Helper()
	all, err := generated()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// signers are the kinds that sign.
func signers() (all []*kind) {
	for _, kind := range kinds {
		if kind.asymmetric() {
			all = append(all, kind)
		}
	}
	return all
}

// TestPublicKeys is shape 2 of what clients read: what a signer sees of its key.
func TestPublicKeys(t *testing.T) {
	k := newKeep(t)
	names := map[string]string{"ecdsa-p256": "P-256", "ecdsa-p384": "P-384", "ecdsa-p521": "P-521", "ed25519": "ed25519",
		"rsa-2048": "rsa-2048", "rsa-3072": "rsa-3072", "rsa-4096": "rsa-4096"}
	for _, kind := range signers() {
		k.newSigner(kind)
		data := k.shown(k.must(api.Read, "keys/"+kind.name, ""))
		one, _ := data["keys"].(map[string]any)["1"].(map[string]any)
		if one["name"] != names[kind.name] || one["certificate_chain"] != "" || one["creation_time"] != start.Format("2006-01-02T15:04:05.999999999Z") ||
			data["latest_version"] != 1.0 || data["supports_signing"] != true {
			t.Errorf("%s: %v", kind.name, data)
		}
		switch public := k.public(kind.name, 1).(type) {
		case ed25519.PublicKey:
			if !kind.ed25519 {
				t.Errorf("%s: an ed25519 key", kind.name)
			}
		case *ecdsa.PublicKey:
			if public.Curve != kind.curve {
				t.Errorf("%s: a key of %s", kind.name, public.Curve.Params().Name)
			}
		case *rsa.PublicKey:
			if public.N.BitLen() != kind.bits {
				t.Errorf("%s: a key of %d bits", kind.name, public.N.BitLen())
			}
		}
		if got, want := len(data["keys"].(map[string]any)), 1; got != want || len(names) != len(signers()) {
			t.Errorf("%d versions", got)
		}
	}
}

// schemes are ways to sign with a kind of key, and how the outside verifies it.
func schemes(kind *kind) (bodies []string) {
	switch {
	case kind.ed25519:
		return []string{"", `,"prehashed":true`}
	case kind.curve != nil:
		return []string{"", `,"marshaling_algorithm":"asn1"`, `,"marshaling_algorithm":"jws"`, `,"prehashed":"true"`, `,"hash_algorithm":"sha2-512"`, `,"algorithm":"sha3-384"`,
			`,"signature_algorithm":"pkcs1v15"`, `,"signature_algorithm":"of RSA alone","salt_length":"auto"`}
	}
	return []string{"", `,"signature_algorithm":"pss","salt_length":"hash"`, `,"salt_length":20`, `,"salt_length":"0"`, `,"salt_length":"AUTO","hash_algorithm":"sha3-224"`, `,"signature_algorithm":"pkcs1v15"`,
		`,"signature_algorithm":"pkcs1v15","hash_algorithm":"sha1"`, `,"signature_algorithm":"pkcs1v15","hash_algorithm":"sha2-224"`, `,"signature_algorithm":"pkcs1v15","hash_algorithm":"sha3-512"`,
		`,"signature_algorithm":"pkcs1v15","prehashed":1`, `,"signature_algorithm":"pkcs1v15","prehashed":true,"hash_algorithm":"none"`, `,"marshaling_algorithm":"jws"`}
}

func TestSign(t *testing.T) {
	k := newKeep(t)
	sum := sha256.Sum256([]byte("a message"))
	for _, kind := range signers() {
		k.newSigner(kind)
		for _, more := range schemes(kind) {
			message := "a message"
			if strings.Contains(more, "prehashed") && !kind.ed25519 {
				message = string(sum[:])
			}
			// Unknown fields, a context without need and the name in the body are nothing to it (shape 4).
			body := fmt.Sprintf(`{"input":%q%s,"name":"k","context":"eA==","marshalling_algorithm":"x"`, b64(message), more)
			signature := k.sign(kind.name, body+`}`)
			k.wantValid(true, kind.name, fmt.Sprintf(`%s,"signature":%q}`, body, signature))
			other := strings.Replace(body, b64(message), b64(message[:len(message)-1]+"?"), 1)
			k.wantValid(false, kind.name, fmt.Sprintf(`%s,"signature":%q}`, other, signature))
			if jws := strings.Contains(more, "jws"); jws && strings.ContainsAny(signature, "+/=") {
				t.Errorf("%s %s: %s", kind.name, more, signature)
			} else if _, err := base64.StdEncoding.DecodeString(signature[len("vault:v1:"):]); !jws && err != nil {
				t.Errorf("%s %s: %v", kind.name, more, err)
			}
		}
	}
}

// TestSignOutside verifies with the public key that reading shows.
func TestSignOutside(t *testing.T) {
	k := newKeep(t)
	message := []byte("a message")
	sum := sha256.Sum256(message)
	in := fmt.Sprintf(`{"input":%q`, b64("a message"))
	raw := func(encoding *base64.Encoding, signature string) []byte {
		b, err := encoding.DecodeString(strings.TrimPrefix(signature, "vault:v1:"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, kind := range signers() {
		k.newSigner(kind)
		standard := raw(base64.StdEncoding, k.sign(kind.name, in+`}`))
		switch public := k.public(kind.name, 1).(type) {
		case ed25519.PublicKey:
			if !ed25519.Verify(public, message, standard) {
				t.Error("ed25519")
			}
			// Given as a hash, it is still the message (shape 7).
			prehashed := raw(base64.StdEncoding, k.sign(kind.name+"/sha2-512", fmt.Sprintf(`{"input":%q,"prehashed":true}`, base64.StdEncoding.EncodeToString(sum[:]))))
			if !ed25519.Verify(public, sum[:], prehashed) {
				t.Error("ed25519, prehashed")
			}
		case *ecdsa.PublicKey:
			if !ecdsa.VerifyASN1(public, sum[:], standard) {
				t.Errorf("%s, asn1", kind.name)
			}
			jws := raw(base64.RawURLEncoding, k.sign(kind.name, in+`,"marshaling_algorithm":"jws"}`))
			if want := map[string]int{"P-256": 64, "P-384": 96, "P-521": 132}[kind.shown]; len(jws) != want { // shape 8
				t.Errorf("%s, jws: %d bytes, not %d", kind.name, len(jws), want)
			}
		case *rsa.PublicKey:
			if err := rsa.VerifyPSS(public, crypto.SHA256, sum[:], standard, nil); err != nil {
				t.Errorf("%s, pss: %v", kind.name, err)
			}
			hash := raw(base64.StdEncoding, k.sign(kind.name, in+`,"salt_length":"hash"}`))
			if err := rsa.VerifyPSS(public, crypto.SHA256, sum[:], hash, &rsa.PSSOptions{SaltLength: sha256.Size}); err != nil {
				t.Errorf("%s, pss with a salt like the hash: %v", kind.name, err)
			}
			twenty := raw(base64.StdEncoding, k.sign(kind.name, in+`,"salt_length":20}`))
			if err := rsa.VerifyPSS(public, crypto.SHA256, sum[:], twenty, &rsa.PSSOptions{SaltLength: 20}); err != nil {
				t.Errorf("%s, pss with a salt of 20: %v", kind.name, err)
			}
			pkcs := raw(base64.StdEncoding, k.sign(kind.name, in+`,"signature_algorithm":"pkcs1v15"}`))
			if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], pkcs); err != nil {
				t.Errorf("%s, pkcs1v15: %v", kind.name, err)
			}
			bare := raw(base64.StdEncoding, k.sign(kind.name+"/none", in+`,"signature_algorithm":"pkcs1v15","prehashed":true}`))
			if err := rsa.VerifyPKCS1v15(public, 0, message, bare); err != nil {
				t.Errorf("%s, pkcs1v15 without a hash: %v", kind.name, err)
			}
		}
	}
}

// TestHashNames is what a hash algorithm may be given by: the path comes before
// either parameter.
func TestHashNames(t *testing.T) {
	k := newKeep(t)
	k.newKey("k", kindOf("ecdsa-p256"), "")
	signature := k.sign("k/sha2-512", `{"input":"eA==","hash_algorithm":"sha2-256","algorithm":"sha2-224"}`)
	for path, more := range map[string]string{"k": `"hash_algorithm":"sha2-512","algorithm":"sha2-224"`, "k/": `"algorithm":"sha2-512"`, "k/sha2-512": `"hash_algorithm":"sha1"`} {
		k.wantValid(true, strings.TrimSuffix(path, "/"), fmt.Sprintf(`{"input":"eA==",%s,"signature":%q}`, more, signature))
	}
	k.wantValid(false, "k", fmt.Sprintf(`{"input":"eA==","signature":%q}`, signature))
	for name := range hashes {
		k.wantValid(true, "k/"+name, fmt.Sprintf(`{"input":"eA==","signature":%q}`, k.sign("k/"+name, `{"input":"eA=="}`)))
	}
}

func TestSignDerived(t *testing.T) {
	k := newKeep(t)
	k.newKey("k", kindOf("ed25519"), `,"derived":true`)
	one, two := fmt.Sprintf(`{"input":"eA==","context":%q`, b64("one")), fmt.Sprintf(`{"input":"eA==","context":%q`, b64("two"))
	data := k.shown(k.must(api.Write, "sign/k", one+`}`))
	public, err := base64.StdEncoding.DecodeString(fmt.Sprint(data["public_key"]))
	signature := data["signature"].(string)
	raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(signature, "vault:v1:"))
	if err != nil || len(public) != ed25519.PublicKeySize || !ed25519.Verify(public, []byte("x"), raw) {
		t.Errorf("%v, %v", data, err)
	}
	k.wantValid(true, "k", fmt.Sprintf(`%s,"signature":%q}`, one, signature))
	k.wantValid(false, "k", fmt.Sprintf(`%s,"signature":%q}`, two, signature))
	const missing = "error deriving key: missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request information must be included in order to perform operations with the key"
	k.refuse(missing, api.Write, "sign/k", `{"input":"eA=="}`)
	k.refuse(missing, api.Write, "verify/k", fmt.Sprintf(`{"input":"eA==","signature":%q}`, signature))
	k.refuse("failed to base64-decode context", api.Write, "sign/k", `{"input":"eA==","context":"?"}`)

	batch := k.results("sign/k", fmt.Sprintf(`{"batch_input":[%s},{"input":"eA=="},%s}]}`, one, two))
	if batch[0]["publickey"] != data["public_key"] || batch[0]["signature"] != signature || batch[1]["error"] != missing || batch[2]["publickey"] == data["public_key"] {
		t.Errorf("%v", batch)
	}
}

// results are those of a batch, whose status is 200 whatever they are.
func (k *keep) results(path, body string) (all []map[string]any) {
	k.Helper()
	a := k.must(api.Write, path, body)
	if a.Status != 0 {
		k.Errorf("%s: %d", path, a.Status)
	}
	for _, one := range k.shown(a)["batch_results"].([]any) {
		all = append(all, one.(map[string]any))
	}
	return all
}

// TestSignBatches is shapes 1 and 5.
func TestSignBatches(t *testing.T) {
	k := newKeep(t)
	k.newKey("k", kindOf("ed25519"), "")
	k.must(api.Write, "keys/k/rotate", "")
	k.must(api.Write, "keys/k/rotate", "")
	got := k.results("sign/k", `{"key_version":"2","input":"ignored","batch_input":[{"input":"eA==","reference":"a"},{"input":"eA==","key_version":1},{"reference":"none"},{"input":"?"},{"input":"eQ==","key_version":9},
		{"input":"","key_version":"3","reference":"\u00fc\"","unknown":[{}]}]}`)
	wantErrors := []any{nil, nil, "missing input", "unable to decode input as base64: illegal base64 data at input byte 0", "requested version for signing is higher than the latest key version", nil}
	wantVersions := []any{2.0, 1.0, nil, nil, nil, 3.0}
	wantReferences := []any{"a", "", "none", "", "", "ü\""}
	for i, one := range got {
		if one["error"] != wantErrors[i] || one["key_version"] != wantVersions[i] || one["reference"] != wantReferences[i] || (one["signature"] == nil) != (wantErrors[i] != nil) {
			t.Errorf("%d: %v", i, one)
		}
	}
	if len(got) != len(wantErrors) {
		t.Fatalf("%d results", len(got))
	}
	checked := k.results("verify/k", fmt.Sprintf(`{"batch_input":[{"input":"eA==","signature":%q,"reference":"a"},{"input":"eA==","signature":%[1]q,"context":"?"},{"input":"eQ==","signature":%q},
		{"input":"eA==","signature":"vault:v9:eA=="},{"input":"","signature":%q},{"signature":""}]}`, got[0]["signature"], got[1]["signature"], got[5]["signature"]))
	wantErrors = []any{nil, "failed to base64-decode context", nil, "invalid signature: version is too new", nil, "missing input"}
	wantValid := []any{true, false, false, false, true, false}
	for i, one := range checked {
		if one["error"] != wantErrors[i] || one["valid"] != wantValid[i] {
			t.Errorf("%d: %v", i, one)
		}
	}
	if len(checked) != len(wantErrors) || checked[0]["reference"] != "a" {
		t.Errorf("%v", checked)
	}
}

// TestSignWhileRotating has each signature verified by the version that it names,
// whatever becomes of the key meanwhile.
func TestSignWhileRotating(t *testing.T) {
	k := newKeep(t)
	k.newKey("k", kindOf("ecdsa-p256"), "")
	done := make(chan struct{})
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for {
				a, err := k.call(api.Write, "sign/k", `{"input":"eA=="}`)
				if err != nil {
					t.Error(err)
					return
				}
				signature := k.shown(a)["signature"]
				a, err = k.call(api.Write, "verify/k", fmt.Sprintf(`{"input":"eA==","signature":%q}`, signature))
				if err == nil && k.shown(a)["valid"] != true || err != nil && err.Error() != errTooOld.Error() {
					t.Errorf("%s: %v, %v", signature, a.Data, err)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for n := 2; n <= 20; n++ {
		k.must(api.Write, "keys/k/rotate", "")
		k.must(api.Write, "keys/k/config", fmt.Sprintf(`{"min_decryption_version":%d,"min_encryption_version":%[1]d}`, n-1))
		k.must(api.Write, "keys/k/trim", fmt.Sprintf(`{"min_available_version":%d}`, n-1))
	}
	close(done)
	all.Wait()
}

func TestVerifyMAC(t *testing.T) {
	k := newKeep(t)
	secret := []byte(strings.Repeat("k", 32))
	k.place("k", kindOf("aes256-gcm96"), &record{Secret: random(32), HMAC: secret})
	k.place("mac", kindOf("hmac"), &record{Secret: secret})
	k.place("old", kindOf("aes256-gcm96"), &record{Secret: random(32)})
	macSums := map[string]string{ // openssl dgst -sha256 -hmac kkk... of "x"
		"sha2-256": "5011cc61ff53aa5af4fdf0d44b117900222c1a355f08463571aa947afcb9ac17",
		"sha2-512": "24d17495f01ee07cf896f53c396b8b2c994413d615015d88400f736789a2455255dccbce054765e4cdf744fac70c684709e7c9b134cae2221788e84b3e1d60d0",
		"sha3-256": "f20c916f83249f9861bd8bc09391e21934197063925713f639c21b2fb1e00d3e",
	}
	for _, name := range []string{"k", "mac"} {
		for algorithm, sum := range macSums {
			b, err := hex.DecodeString(sum)
			if err != nil {
				t.Fatal(err)
			}
			text := "vault:v1:" + base64.StdEncoding.EncodeToString(b)
			k.wantValid(true, name+"/"+algorithm, fmt.Sprintf(`{"input":"eA==","hmac":%q}`, text))
			k.wantValid(true, name, fmt.Sprintf(`{"input":"eA==","algorithm":%q,"hmac":%q}`, algorithm, text))
			k.wantValid(false, name+"/"+algorithm, fmt.Sprintf(`{"input":"eQ==","hmac":%q}`, text))
			k.wantValid(false, name+"/sha3-224", fmt.Sprintf(`{"input":"eA==","hmac":%q}`, text))
		}
	}
	k.refuse("no HMAC key exists for that key version", api.Write, "verify/old", `{"input":"eA==","hmac":"vault:v1:eA=="}`)
	k.refuse(`invalid hash algorithm "none"`, api.Write, "verify/k/none", `{"input":"eA==","hmac":"vault:v1:eA=="}`)
	for text, want := range map[string]string{"": "invalid HMAC to verify: no prefix", "vault:v1": "invalid HMAC: wrong number of fields", "vault:vx:eA==": "invalid HMAC: version number could not be decoded",
		"vault:v2:eA==": "invalid HMAC: version is too new", "vault:v-1:eA==": "cannot verify HMAC: version is too old (disallowed by policy)",
		"vault:v1:?": "unable to decode verification HMAC as base64: illegal base64 data at input byte 0"} {
		k.refuse(want, api.Write, "verify/k", fmt.Sprintf(`{"input":"eA==","hmac":%q}`, text))
	}
	batch := k.results("verify/k", `{"batch_input":[{"input":"eA==","hmac":"vault:v1:eA==","reference":"r"},{"input":"eA==","hmac":"x"}]}`)
	if batch[0]["valid"] != false || batch[0]["reference"] != "r" || batch[0]["error"] != nil || batch[1]["valid"] != false || batch[1]["error"] != "invalid HMAC to verify: no prefix" {
		t.Errorf("%v", batch)
	}
}

func TestSignRefuses(t *testing.T) {
	k := newKeep(t)
	k.newKey("aes", kindOf("aes256-gcm96"), "")
	k.newKey("mac", kindOf("hmac"), "")
	k.newKey("ec", kindOf("ecdsa-p256"), "")
	k.newKey("ed", kindOf("ed25519"), "")
	k.newKey("rsa", kindOf("rsa-2048"), "")
	k.newKey("gone", kindOf("ed25519"), "")
	k.must(api.Delete, "keys/gone/soft-delete", "")
	old := k.sign("ed", `{"input":"eA=="}`)
	for range 3 {
		k.must(api.Write, "keys/ed/rotate", "")
	}
	k.must(api.Write, "keys/ed/config", `{"min_decryption_version":2,"min_encryption_version":3}`)
	der, err := x509.MarshalPKIXPublicKey(ed25519.NewKeyFromSeed(make([]byte, 32)).Public())
	if err != nil {
		t.Fatal(err)
	}
	k.place("public", kindOf("ed25519"), &record{Public: der})
	const none = "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15"
	const x = `{"input":"eA=="`
	for _, c := range []struct{ path, body, text string }{
		{"sign/absent", x + `}`, "signing key not found"},
		{"verify/absent", x + `,"signature":""}`, "signature verification key not found"},
		{"verify/absent", x + `,"hmac":""}`, "encryption key not found"},
		{"sign/gone", x + `}`, "refusing to use soft-deleted key"},
		{"verify/gone", x + `,"signature":""}`, "refusing to use soft-deleted key"},
		{"sign/aes", x + `}`, "key type aes256-gcm96 does not support signing"},
		{"sign/mac", x + `}`, "key type hmac does not support signing"},
		{"sign/aes", `{"batch_input":[` + x + `}]}`, "key type aes256-gcm96 does not support signing"},
		{"verify/aes", x + `,"signature":"vault:v1:eA=="}`, "key type aes256-gcm96 does not support verification"},
		{"sign/public", x + `}`, "requested version for signing does not contain a private part"},
		{"sign/ed", x + `,"key_version":-1}`, "requested version for signing is negative"},
		{"sign/ed", x + `,"key_version":"5"}`, "requested version for signing is higher than the latest key version"},
		{"sign/ed", x + `,"key_version":2}`, "requested version for signing is less than the minimum encryption key version"},
		{"sign/ed", x + `,"key_version":"x"}`, "the parameter key_version must be a whole number"},
		{"sign/ed", `{"input":"?"}`, "unable to decode input as base64: illegal base64 data at input byte 0"},
		{"sign/ed", `{"batch_input":[]}`, "missing batch input to process"},
		{"sign/ed", x + `,"prehashed":"maybe"}`, "the parameter prehashed must be true or false"},
		{"sign/ed", x + `,"prehashed":{}}`, "the parameter prehashed must be true or false"},
		{"sign/ed", x + `,"salt_length":[]}`, "the parameter salt_length must be a text, not an object or a list"},
		{"sign/ed/md5", x + `}`, `invalid hash algorithm "md5"`},
		{"sign/ed", x + `,"hash_algorithm":"sha256"}`, `invalid hash algorithm "sha256"`},
		{"sign/ed", x + `,"marshaling_algorithm":"der"}`, `invalid marshaling type "der"`},
		{"sign/ed", x + `,"salt_length":"long"}`, "salt length neither 'auto', 'hash', nor an int: long"},
		{"sign/ed", x + `,"salt_length":-2}`, "salt length is invalid: -2"},
		{"sign/rsa", x + `,"salt_length":223}`, "requested salt length 223 is invalid"},
		{"verify/rsa", x + `,"salt_length":223,"signature":"vault:v1:eA=="}`, "requested salt length 223 is invalid"},
		{"sign/rsa", x + `,"signature_algorithm":"raw"}`, "unsupported rsa signature algorithm raw"},
		{"verify/rsa", x + `,"signature_algorithm":"raw","signature":"vault:v1:eA=="}`, "unsupported rsa signature algorithm raw"},
		{"sign/rsa", x + `,"prehashed":true}`, "crypto/rsa: input must be hashed with given hash"},
		{"sign/rsa/none", x + `}`, none},
		{"sign/rsa/none", x + `,"prehashed":true}`, none},
		{"sign/ec/none", x + `,"signature_algorithm":"pkcs1v15"}`, none},
		{"verify/ed/none", x + `,"signature":""}`, none},
		{"verify/ec", x + `}`, "neither a 'signature' nor an 'hmac' were given to verify"},
		{"verify/ec", x + `,"signature":"","hmac":""}`, "provide one of 'signature' or 'hmac'"},
		{"verify/ec", `{"batch_input":[{"signature":""},{"hmac":""}]}`, "elements of batch_input must all provide 'signature' or all provide 'hmac'"},
		{"verify/ec", `{"batch_input":[{"signature":""},{}]}`, "some elements of batch_input are missing 'signature'"},
		{"verify/ec", `{"batch_input":[{},{"hmac":""}]}`, "some elements of batch_input are missing 'hmac'"},
		{"verify/ec", `{"batch_input":[{},{}]}`, "no batch_input elements have 'signature' or 'hmac'"},
		{"verify/ec", x + `,"signature":"eA=="}`, "invalid signature: no prefix"},
		{"verify/ec", x + `,"signature":"vault:v1"}`, "invalid signature: wrong number of fields"},
		{"verify/ec", x + `,"signature":"vault:vx:eA=="}`, "invalid signature: version number could not be decoded"},
		{"verify/ec", x + `,"signature":"vault:v2:eA=="}`, "invalid signature: version is too new"},
		{"verify/ed", x + `,"signature":"` + old + `"}`, "ciphertext or signature version is disallowed by policy (too old)"},
		{"verify/ec", x + `,"signature":"vault:v1:?"}`, "invalid base64 signature value"},
		{"verify/ec", x + `,"signature":"vault:v1:eA=="}`, "supplied signature is invalid"},
		{"verify/ec", x + `,"signature":"vault:v1:MAYCAQECAQEA"}`, "supplied signature contains extra data"},
	} {
		k.refuse(c.text, api.Write, c.path, c.body)
	}
	for _, signature := range []string{"vault:v1:MAYCAQECAQE=", "vault:v1:MAYCAQACAQA="} {
		k.wantValid(false, "ec", fmt.Sprintf(`%s,"signature":%q}`, x, signature))
	}
	for _, signature := range []string{"vault:v1:", "vault:v1:AA", "vault:v1:" + strings.Repeat("A", 86), "vault:v1:" + strings.Repeat("A", 88), "vault:v1:" + strings.Repeat("_", 85) + "w"} {
		k.wantValid(false, "ec", fmt.Sprintf(`%s,"marshaling_algorithm":"jws","signature":%q}`, x, signature))
	}
	k.wantValid(false, "ed", x+`,"signature":"vault:v4:eA=="}`)
	k.wantValid(false, "rsa", x+`,"signature":"vault:v1:eA=="}`)
	k.wantValid(false, "public", x+`,"signature":"vault:v1:eA=="}`)
	if got := k.sign("ed", x+`,"key_version":"0"}`); !strings.HasPrefix(got, "vault:v4:") {
		t.Error(got)
	}
	k.sign("ed", `{}`) // nothing is a message, too
}

// TestRFC8032 has the answers of section 7.1.
func TestRFC8032(t *testing.T) {
	k := newKeep(t)
	for i, c := range []struct{ seed, public, message, signature string }{
		{"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
			"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
		{"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
		{"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
			"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
		{"833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42", "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
			"ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
			"dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"},
	} {
		b := func(s string) []byte {
			b, err := hex.DecodeString(s)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		v := new(record)
		if err := v.set(new(policy), ed25519.NewKeyFromSeed(b(c.seed))); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint("k", i)
		k.place(name, kindOf("ed25519"), v)
		if public := k.public(name, 1).(ed25519.PublicKey); hex.EncodeToString(public) != c.public {
			t.Errorf("%d: the public key %x", i, public)
		}
		body := fmt.Sprintf(`{"input":%q`, base64.StdEncoding.EncodeToString(b(c.message)))
		if got, want := k.sign(name, body+`}`), "vault:v1:"+base64.StdEncoding.EncodeToString(b(c.signature)); got != want {
			t.Errorf("%d: %s, not %s", i, got, want)
		}
	}
}

// TestWycheproof verifies the signatures of testdata.
func TestWycheproof(t *testing.T) {
	k := newKeep(t)
	text, err := os.ReadFile("testdata/signatures.json")
	if err != nil {
		t.Fatal(err)
	}
	var groups []struct {
		File, Type, Hash, How string
		Public                []byte
		Salt                  *int
		Tests                 []struct {
			Comment          string
			Input, Signature []byte
			Valid            bool
		}
	}
	if err := json.Unmarshal(text, &groups); err != nil {
		t.Fatal(err)
	}
	valid, invalid := make(map[string]int), make(map[string]int)
	for i, g := range groups {
		name := fmt.Sprint("k", i)
		k.place(name, kindOf(g.Type), &record{Public: g.Public})
		encoding, path, more := base64.StdEncoding, "verify/"+name+"/"+g.Hash, ""
		switch g.How {
		case "jws":
			encoding = base64.RawURLEncoding
			fallthrough
		case "asn1":
			more = fmt.Sprintf(`,"marshaling_algorithm":%q`, g.How)
		case "pss":
			more = fmt.Sprintf(`,"signature_algorithm":"pss","salt_length":%d`, *g.Salt)
		case "pkcs1v15":
			more = `,"signature_algorithm":"pkcs1v15"`
		default:
			path = "verify/" + name
		}
		for _, c := range g.Tests {
			a, err := k.call(api.Write, path, fmt.Sprintf(`{"input":%q,"signature":"vault:v1:%s"%s}`, base64.StdEncoding.EncodeToString(c.Input), encoding.EncodeToString(c.Signature), more))
			if got := err == nil && k.shown(a)["valid"] == true; got != c.Valid {
				t.Errorf("%s, %s: %t, %v", g.File, c.Comment, got, err)
			}
			if c.Valid {
				valid[g.File]++
			} else {
				invalid[g.File]++
			}
		}
	}
	for _, g := range groups {
		if valid[g.File] == 0 || invalid[g.File] == 0 {
			t.Errorf("%s: %d valid signatures, %d others", g.File, valid[g.File], invalid[g.File])
		}
	}
}

// FuzzVerify has anything verified as a signature of every kind of key. What is valid
// is the signature that was made.
func FuzzVerify(f *testing.F) {
	k := newKeep(f)
	made := make(map[string]string)
	for _, name := range []string{"ed25519", "ecdsa-p256", "ecdsa-p521", "rsa-2048"} {
		k.newKey(name, kindOf(name), "")
		for _, jws := range []bool{false, true} {
			signature := k.sign(name, signBody(jws, ""))
			made[fmt.Sprint(name, jws)] = signature
			f.Add(signature, jws)
		}
	}
	for _, text := range []string{"", "vault:v", "vault:v1:", "vault:v99999999999999999999:x", "vault:v1:MAYCAQECAQEA", "vault:v0:eA==", "x"} {
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, signature string, jws bool) {
		k := *k
		k.TB = t
		for _, name := range []string{"ed25519", "ecdsa-p256", "ecdsa-p521", "rsa-2048"} {
			a, err := k.call(api.Write, "verify/"+name, signBody(jws, signature))
			if err != nil || k.shown(a)["valid"] != true {
				continue
			}
			encoding := base64.StdEncoding
			if jws {
				encoding = base64.RawURLEncoding
			}
			_, encoded, _ := strings.Cut(strings.TrimPrefix(signature, "vault:v"), ":")
			got, _ := encoding.DecodeString(encoded)
			want, _ := encoding.DecodeString(strings.TrimPrefix(made[fmt.Sprint(name, jws)], "vault:v1:"))
			if string(got) != string(want) {
				t.Errorf("%s: %q is valid", name, signature)
			}
		}
	})
}

func signBody(jws bool, signature string) string {
	marshal := "asn1"
	if jws {
		marshal = "jws"
	}
	text, _ := json.Marshal(map[string]string{"input": "eA==", "marshaling_algorithm": marshal, "signature": signature, "signature_algorithm": "pkcs1v15"})
	return string(text)
}

// BenchmarkSign is a request from its body to its answer, without the pipeline, in
// turns with the primitive alone and the same hash: "of-primitive" is the part of the
// primitive's rate that is left. All are medians.
func BenchmarkSign(b *testing.B) {
	k := newKeep(b)
	message := []byte(strings.Repeat("x", 256))
	for _, kind := range signers() {
		k.newSigner(kind)
		private, err := kind.parsePrivate(mustGenerated(b)[kind].Secret)
		if err != nil {
			b.Fatal(err)
		}
		primitive := func() error {
			digest, options := message, crypto.SignerOpts(crypto.Hash(0))
			if !kind.ed25519 {
				sum := sha256.Sum256(message)
				digest, options = sum[:], crypto.SHA256
			}
			if kind.bits > 0 {
				options = &rsa.PSSOptions{Hash: crypto.SHA256}
			}
			_, err := private.Sign(rand.Reader, digest, options)
			return err
		}
		h := api.Do(sign)
		r := &api.Request{Context: b.Context(), Op: api.Write, Mount: k.mount, Store: k.store, Frame: frame{k: k}, Body: fmt.Appendf(nil, `{"input":%q}`, b64(string(message))),
			Params: api.Params{Names: &[api.MaxParams]string{"name"}, Values: [api.MaxParams]string{kind.name}}}
		request := func() error {
			in, _, err := h.Decode(r, false)
			if err == nil {
				_, err = h.Run(r, in)
			}
			return err
		}
		b.Run(kind.name, func(b *testing.B) {
			var spent [2][]time.Duration
			for range b.N {
				for i, do := range []func() error{primitive, request} {
					start := time.Now()
					if err := do(); err != nil {
						b.Fatal(err)
					}
					spent[i] = append(spent[i], time.Since(start))
				}
			}
			var median [2]float64
			for i, all := range spent {
				slices.Sort(all)
				median[i] = float64(all[len(all)/2])
			}
			b.ReportMetric(median[0], "ns/primitive")
			b.ReportMetric(median[1], "ns/request")
			b.ReportMetric(median[0]/median[1], "of-primitive")
		})
	}
}
