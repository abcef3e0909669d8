package transit_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	vault "github.com/hashicorp/vault/api"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// transitPublic reads the public key of a version, as a client does.
func transitPublic(t testing.TB, c *vault.Client, key, version string) (name string, public crypto.PublicKey) {
	t.Helper()
	s, err := c.Logical().Read("transit/keys/" + key)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Data["latest_version"].(json.Number); !ok {
		t.Errorf("the latest version is %T", s.Data["latest_version"])
	}
	one := s.Data["keys"].(map[string]any)[version].(map[string]any)
	name = one["name"].(string)
	text := one["public_key"].(string)
	if name == "ed25519" {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) != ed25519.PublicKeySize {
			t.Fatalf("%q: %v", text, err)
		}
		return name, ed25519.PublicKey(raw)
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM: %q", text)
	}
	if public, err = x509.ParsePKIXPublicKey(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return name, public
}

func verifies(public crypto.PublicKey, message, sum, signature []byte) bool {
	switch public := public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(public, message, signature)
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, sum, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum, signature) == nil
	}
	return false
}

// TestTransitSignLikeCosign has the calls of sigstore's signer: one set of fields for
// every type of key, of which a type ignores what is not its own (shapes 1, 2, 4, 7).
func TestTransitSignLikeCosign(t *testing.T) {
	f := fresh(t)
	f.mountTransit(t)
	c := f.Client(t)
	message := []byte("a message")
	sum := sha256.Sum256(message)
	for typ, want := range map[string]string{"ecdsa-p256": "P-256", "ecdsa-p384": "P-384", "ecdsa-p521": "P-521", "ed25519": "ed25519", "rsa-2048": "rsa-2048"} {
		if _, err := c.Logical().Write("transit/keys/"+typ, map[string]any{"type": typ}); err != nil {
			t.Fatal(err)
		}
		name, public := transitPublic(t, c, typ, "1")
		if name != want {
			t.Errorf("%s has the name %s", typ, name)
		}
		input := sum[:]
		if typ == "ed25519" {
			input = message
		}
		in := map[string]any{"input": base64.StdEncoding.EncodeToString(input), "prehashed": true, "key_version": "0", "signature_algorithm": "pkcs1v15"}
		s, err := c.Logical().Write("transit/sign/"+typ+"/sha2-256", in)
		if err != nil {
			t.Errorf("%s: %v", typ, err)
			continue
		}
		text, _ := s.Data["signature"].(string)
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "vault:v1:"))
		if err != nil || !strings.HasPrefix(text, "vault:v1:") || s.Data["key_version"] != json.Number("1") || !verifies(public, message, sum[:], raw) {
			t.Errorf("%s: %v, %v", typ, s.Data, err)
		}
		in["signature"] = text
		s, err = c.Logical().Write("transit/verify/"+typ+"/sha2-256", in)
		if err != nil || s.Data["valid"] != true {
			t.Errorf("%s: %+v, %v", typ, s, err)
		}
		in["input"] = base64.StdEncoding.EncodeToString(make([]byte, 32))
		s, err = c.Logical().Write("transit/verify/"+typ+"/sha2-256", in)
		if err != nil || s.Data["valid"] != false {
			t.Errorf("%s, another message: %+v, %v", typ, s, err)
		}
	}
}

// TestTransitSignLikeSPIRE has flags that are texts, and a misspelt field.
func TestTransitSignLikeSPIRE(t *testing.T) {
	f := fresh(t)
	f.mountTransit(t)
	f.Must(t, 404, "LIST", "transit/keys", "")
	sum := sha256.Sum256([]byte("a message"))
	input := base64.StdEncoding.EncodeToString(sum[:])
	for _, c := range []struct{ typ, algorithm, more string }{
		{"ecdsa-p256", "sha2-256", `"marshalling_algorithm":"asn1"`},
		{"rsa-2048", "sha2-256", `"signature_algorithm":"pss","salt_length":"hash"`},
		{"rsa-2048", "none", `"signature_algorithm":"pkcs1v15"`},
	} {
		f.Must(t, 200, "PUT", "transit/keys/"+c.typ, fmt.Sprintf(`{"type":%q,"exportable":"false"}`, c.typ))
		body := fmt.Sprintf(`{"input":%q,"prehashed":"true",%s`, input, c.more)
		r := f.Must(t, 200, "PUT", "transit/sign/"+c.typ+"/"+c.algorithm, body+`}`)
		signature, _ := r.Get("data", "signature").(string)
		if !strings.HasPrefix(signature, "vault:v1:") {
			t.Errorf("%s: %s", c.typ, r.Text)
		}
		for _, method := range []string{"PUT", "POST"} {
			if r := f.Must(t, 200, method, "transit/verify/"+c.typ+"/"+c.algorithm, fmt.Sprintf(`%s,"signature":%q}`, body, signature)); r.Get("data", "valid") != true {
				t.Errorf("%s %s: %s", c.typ, c.algorithm, r.Text)
			}
		}
	}
}

// TestTransitSignPolicies is the trap in which most fall: the path with an algorithm is
// another.
func TestTransitSignPolicies(t *testing.T) {
	f := fresh(t)
	f.mountTransit(t)
	f.Must(t, 200, "POST", "transit/keys/k", `{"type":"ed25519"}`)
	f.Policy(t, "signer", map[string]string{"transit/sign/k": `"update"`, "transit/verify/k/*": `"update"`})
	token := "X-Vault-Token: " + f.Token(t, `{"policies":["signer"]}`)
	signature := f.Must(t, 200, "POST", "transit/sign/k", `{"input":"eA=="}`, token).Get("data", "signature")
	f.Must(t, 403, "POST", "transit/sign/k/sha2-256", `{"input":"eA=="}`, token)
	f.Must(t, 403, "POST", "transit/verify/k", fmt.Sprintf(`{"input":"eA==","signature":%q}`, signature), token)
	f.Must(t, 200, "POST", "transit/verify/k/sha2-256", fmt.Sprintf(`{"input":"eA==","signature":%q}`, signature), token)
	f.Must(t, 403, "GET", "transit/keys/k", "", token)
}

// TestTransitSignBatch is shape 5: what has failed is told in its place.
func TestTransitSignBatch(t *testing.T) {
	f := fresh(t)
	f.mountTransit(t)
	f.Must(t, 200, "POST", "transit/keys/k", `{"type":"ed25519"}`)
	f.Must(t, 200, "POST", "transit/keys/k/rotate", "")
	r := f.Must(t, 200, "POST", "transit/sign/k", `{"batch_input":[{"input":"eA==","key_version":"1","reference":"first"},{"input":"?"},{"input":"eA=="}]}`)
	list, _ := r.Get("data", "batch_results").([]any)
	if len(list) != 3 {
		t.Fatal(r.Text)
	}
	var one [3]map[string]any
	for i := range one {
		one[i] = list[i].(map[string]any)
	}
	if one[0]["reference"] != "first" || one[0]["key_version"] != json.Number("1") || one[2]["key_version"] != json.Number("2") || one[1]["error"] != "unable to decode input as base64: illegal base64 data at input byte 0" {
		t.Error(r.Text)
	}
	r = f.Must(t, 200, "POST", "transit/verify/k", fmt.Sprintf(`{"batch_input":[{"input":"eA==","signature":%q},{"input":"eQ==","signature":%q,"reference":"r"},{"input":"eA==","signature":"x"}]}`,
		one[0]["signature"], one[2]["signature"]))
	const want = `"batch_results":[{"valid":true,"reference":""},{"valid":false,"reference":"r"},{"valid":false,"error":"invalid signature: no prefix","reference":""}]`
	if !strings.Contains(r.Text, want) {
		t.Error(r.Text)
	}
	if r := f.Must(t, 400, "POST", "transit/sign/k", `{"input":"?"}`); r.Errors() != "unable to decode input as base64: illegal base64 data at input byte 0" {
		t.Error(r.Text)
	}
	f.Must(t, 405, "GET", "transit/sign/k", "")
}

// TestTransitImport is a key that was made elsewhere, wrapped as Vault's documentation
// has it.
func TestTransitImport(t *testing.T) {
	f := fresh(t)
	f.mountTransit(t)
	c := f.Client(t)
	s, err := c.Logical().Read("transit/wrapping_key")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(fmt.Sprint(s.Data["public_key"])))
	if block == nil || len(s.Data) != 1 {
		t.Fatalf("%v", s.Data)
	}
	wrapping, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	blob, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, wrapping.(*rsa.PublicKey), secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	kwp, err := subtle.NewKWP(secret)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := kwp.Wrap(der)
	if err != nil {
		t.Fatal(err)
	}
	ciphertext := base64.StdEncoding.EncodeToString(append(blob, inner...))
	f.Must(t, 204, "POST", "transit/keys/k/import", fmt.Sprintf(`{"type":"ed25519","ciphertext":%q,"hash_function":"SHA256","allow_rotation":"true"}`, ciphertext))
	if _, got := transitPublic(t, c, "k", "1"); !public.Equal(got) {
		t.Errorf("%x", got)
	}
	signature := f.Must(t, 200, "POST", "transit/sign/k", `{"input":"eA=="}`).Get("data", "signature").(string)
	if want := "vault:v1:" + base64.StdEncoding.EncodeToString(ed25519.Sign(private, []byte("x"))); signature != want {
		t.Errorf("%s, not %s", signature, want)
	}
	if r := f.Must(t, 400, "POST", "transit/keys/k/import", fmt.Sprintf(`{"type":"ed25519","ciphertext":%q}`, ciphertext)); !strings.HasPrefix(r.Errors(), "the import path cannot be used with an existing key") {
		t.Error(r.Text)
	}
	f.Must(t, 204, "POST", "transit/keys/k/import_version", fmt.Sprintf(`{"ciphertext":%q}`, ciphertext))
	if list := f.Must(t, 200, "LIST", "transit/keys", "").Get("data", "keys"); fmt.Sprint(list) != "[k]" {
		t.Errorf("the keys are %v", list)
	}
	if again, err := c.Logical().Read("transit/wrapping_key"); err != nil || again.Data["public_key"] != s.Data["public_key"] {
		t.Errorf("%v, %v", again, err)
	}
}
