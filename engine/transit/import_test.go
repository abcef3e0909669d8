package transit

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// wrapped are keys as another program has wrapped them.
type wrapped struct {
	Wrapping []byte
	Keys     []struct {
		Type, Public         string
		Secret, SHA256, SHA1 []byte
	}
}

func readWrapped(t testing.TB) (w wrapped) {
	t.Helper()
	text, err := os.ReadFile("testdata/wrapped.json")
	if err == nil {
		err = json.Unmarshal(text, &w)
	}
	if err != nil || len(w.Keys) == 0 {
		t.Fatal(err)
	}
	return w
}

// newImporter is newKeep with a wrapping key that needs not be made.
func newImporter(t testing.TB) (*keep, *rsa.PrivateKey) {
	t.Helper()
	k := newKeep(t)
	secret := readWrapped(t).Wrapping
	private, err := wrapper.parsePrivate(secret)
	if err != nil {
		t.Fatal(err)
	}
	v := new(record)
	if err := v.set(new(policy), private); err != nil {
		t.Fatal(err)
	}
	if err := k.store.Update(t.Context(), func(tx *storage.Tx) error { return put(tx, k.e.wrappingPath(), v) }); err != nil {
		t.Fatal(err)
	}
	return k, private.(*rsa.PrivateKey)
}

// wrapFor wraps a key as a client does that has read the wrapping key.
func wrapFor(t testing.TB, public *rsa.PublicKey, material []byte) string {
	t.Helper()
	secret := random(32)
	first, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	kwp, err := subtle.NewKWP(secret)
	if err != nil {
		t.Fatal(err)
	}
	second, err := kwp.Wrap(material)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(append(first, second...))
}

func (k *keep) secret(name string, n int) *record {
	k.Helper()
	var v *record
	err := k.store.View(k.Context(), func(tx *storage.Tx) error {
		p, err := k.e.policy(tx, name)
		if err == nil {
			v, err = k.e.record(tx, p.ID, n)
		}
		return err
	})
	if err != nil || v == nil {
		k.Fatalf("version %d of %s: %v, %v", n, name, v, err)
	}
	return v
}

func TestWrappingKey(t *testing.T) {
	k := newKeep(t)
	var shown [3]string
	var all sync.WaitGroup
	for i := range shown {
		all.Go(func() {
			a, err := k.call(api.Read, "wrapping_key", "")
			if err != nil {
				t.Error(err)
				return
			}
			shown[i] = a.Data.(map[string]string)["public_key"]
		})
	}
	all.Wait()
	block, rest := pem.Decode([]byte(shown[0]))
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 || shown[1] != shown[0] || shown[2] != shown[0] {
		t.Fatalf("%q", shown)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if key, ok := public.(*rsa.PublicKey); err != nil || !ok || key.N.BitLen() != 4096 {
		t.Fatalf("%T, %v", public, err)
	} else {
		k.must(api.Write, "keys/k/import", fmt.Sprintf(`{"ciphertext":%q}`, wrapFor(t, key, []byte(strings.Repeat("k", 32)))))
	}
	if got := k.secret("k", 1).Secret; string(got) != strings.Repeat("k", 32) {
		t.Errorf("%q", got)
	}
}

// TestImportOpenSSL imports what another program has wrapped.
func TestImportOpenSSL(t *testing.T) {
	k, _ := newImporter(t)
	for _, c := range readWrapped(t).Keys {
		for hash, blob := range map[string][]byte{"": c.SHA256, "SHA256": c.SHA256, "sha1": c.SHA1} {
			name := c.Type + "_" + hash
			body := fmt.Sprintf(`{"type":%q,"ciphertext":%q,"hash_function":%q}`, strings.ToUpper(c.Type), base64.StdEncoding.EncodeToString(blob), hash)
			if a := k.must(api.Write, "keys/"+name+"/import", body); a.Data != nil {
				t.Errorf("%s: %v", name, a.Data)
			}
			data := k.key(name)
			if data["imported_key"] != true || data["imported_key_allow_rotation"] != false || data["latest_version"] != 1.0 || data["type"] != c.Type {
				t.Errorf("%s: %v", name, data)
			}
			if c.Public == "" {
				k.wantPlain(name, fmt.Sprintf(`{"ciphertext":%q}`, k.encrypt(name, `{"plaintext":"eA=="}`)), "x")
				if got := k.secret(name, 1); string(got.Secret) != string(c.Secret) || len(got.HMAC) != hmacSize {
					t.Errorf("%s: %q", name, got.Secret)
				}
				continue
			}
			signature := k.sign(name, `{"input":"eA=="}`)
			k.wantValid(true, name, fmt.Sprintf(`{"input":"eA==","signature":%q}`, signature))
			if c.Type == "rsa-2048" { // its public key says PSS, too, which no version shows
				continue
			}
			block, _ := pem.Decode([]byte(c.Public))
			want, err := x509.ParsePKIXPublicKey(block.Bytes)
			if got := k.public(name, 1); err != nil || !want.(interface{ Equal(crypto.PublicKey) bool }).Equal(got) {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
	}
}

func TestImportEveryType(t *testing.T) {
	k, wrapping := newImporter(t)
	for _, kind := range kinds {
		var material []byte
		var want *record
		switch {
		case kind.hmac:
			material = random(hmacMost)
			want = &record{Secret: material}
		case kind.symmetric():
			material = random(kind.size)
			want = &record{Secret: material}
		default:
			want = mustGenerated(t)[kind]
			if material = want.Secret; kind.ed25519 {
				var err error
				if material, err = x509.MarshalPKCS8PrivateKey(ed25519.PrivateKey(want.Secret)); err != nil {
					t.Fatal(err)
				}
			}
		}
		k.must(api.Write, "keys/"+kind.name+"/import", fmt.Sprintf(`{"type":%q,"ciphertext":%q,"exportable":true}`, kind.name, wrapFor(t, &wrapping.PublicKey, material)))
		got := k.secret(kind.name, 1)
		if string(got.Secret) != string(want.Secret) || string(got.Public) != string(want.Public) || (len(got.HMAC) == 0) != kind.hmac {
			t.Errorf("%s was imported as another", kind.name)
		}
		if data := k.key(kind.name); data["exportable"] != true || kind.hmac && data["key_size"] != float64(hmacMost) {
			t.Errorf("%s: %v", kind.name, data)
		}
		k.refuse("imported key "+kind.name+" does not allow rotation within Vault", api.Write, "keys/"+kind.name+"/rotate", "")
	}
}

func publicPEM(t testing.TB, public crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func TestImportPublic(t *testing.T) {
	k, wrapping := newImporter(t)
	var private [3]ed25519.PrivateKey
	var text [3]string
	for i := range private {
		private[i] = ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+i)), ed25519.SeedSize)))
		text[i] = publicPEM(t, private[i].Public())
	}
	secret := func(i int) string {
		der, err := x509.MarshalPKCS8PrivateKey(private[i])
		if err != nil {
			t.Fatal(err)
		}
		return wrapFor(t, &wrapping.PublicKey, der)
	}
	signed := func(i, n int) string {
		return fmt.Sprintf("vault:v%d:%s", n, base64.StdEncoding.EncodeToString(ed25519.Sign(private[i], []byte("x"))))
	}
	k.must(api.Write, "keys/k/import", fmt.Sprintf(`{"type":"ed25519","public_key":%q,"allow_rotation":true}`, text[0]))
	k.wantValid(true, "k", fmt.Sprintf(`{"input":"eA==","signature":%q}`, signed(0, 1)))
	k.wantValid(false, "k", fmt.Sprintf(`{"input":"eA==","signature":%q}`, signed(1, 1)))
	const noPrivate = "requested version for signing does not contain a private part"
	k.refuse(noPrivate, api.Write, "sign/k", `{"input":"eA=="}`)

	// Another public key is another version; a private key that fits makes one whole.
	k.must(api.Write, "keys/k/import_version", fmt.Sprintf(`{"public_key":%q}`, text[1]))
	k.wantValid(true, "k", fmt.Sprintf(`{"input":"eA==","signature":%q}`, signed(1, 2)))
	k.refuse("cannot import key, key pair does not match", api.Write, "keys/k/import_version", fmt.Sprintf(`{"ciphertext":%q,"version":"1"}`, secret(1)))
	k.refuse("cannot add a public key to a key version that already has a public key set", api.Write, "keys/k/import_version", fmt.Sprintf(`{"public_key":%q,"version":1}`, text[0]))
	k.must(api.Write, "keys/k/import_version", fmt.Sprintf(`{"ciphertext":%q,"version":1}`, secret(0)))
	if got := k.sign("k", `{"input":"eA==","key_version":1}`); got != signed(0, 1) {
		t.Error(got)
	}
	k.refuse(noPrivate, api.Write, "sign/k", `{"input":"eA=="}`)
	k.refuse("private key imported, key version cannot be updated", api.Write, "keys/k/import_version", fmt.Sprintf(`{"ciphertext":%q,"version":1}`, secret(0)))
	k.must(api.Write, "keys/k/import_version", fmt.Sprintf(`{"ciphertext":%q}`, secret(1)))
	if got := k.sign("k", `{"input":"eA=="}`); got != signed(1, 2) {
		t.Error(got)
	}
	k.must(api.Write, "keys/k/import_version", fmt.Sprintf(`{"ciphertext":%q}`, secret(2)))
	if got := k.sign("k", `{"input":"eA=="}`); got != signed(2, 3) {
		t.Error(got)
	}
	k.must(api.Write, "keys/k/rotate", "")
	if data := k.key("k"); data["latest_version"] != 4.0 || data["imported_key"] != false {
		t.Errorf("%v", data)
	}
	k.refuse("the import_version endpoint can only be used with an imported key", api.Write, "keys/k/import_version", fmt.Sprintf(`{"public_key":%q}`, text[0]))
}

func TestImportDerived(t *testing.T) {
	k, wrapping := newImporter(t)
	k.must(api.Write, "keys/k/import", fmt.Sprintf(`{"derived":true,"ciphertext":%q}`, wrapFor(t, &wrapping.PublicKey, random(32))))
	sealed := k.encrypt("k", `{"plaintext":"eA==","context":"eA=="}`)
	k.wantPlain("k", fmt.Sprintf(`{"ciphertext":%q,"context":"eA=="}`, sealed), "x")
	k.must(api.Write, "keys/k/import_version", fmt.Sprintf(`{"ciphertext":%q}`, wrapFor(t, &wrapping.PublicKey, random(32))))
	k.wantPlain("k", fmt.Sprintf(`{"ciphertext":%q,"context":"eA=="}`, sealed), "x")
	if data := k.key("k"); data["latest_version"] != 2.0 || data["derived"] != true || data["kdf"] != "hkdf_sha256" {
		t.Errorf("%v", data)
	}
	ed, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	k.must(api.Write, "keys/ed/import", fmt.Sprintf(`{"type":"ed25519","derived":"true","ciphertext":%q}`, wrapFor(t, &wrapping.PublicKey, ed)))
	signature := k.sign("ed", `{"input":"eA==","context":"eA=="}`)
	k.wantValid(true, "ed", fmt.Sprintf(`{"input":"eA==","context":"eA==","signature":%q}`, signature))
}

func TestImportRefuses(t *testing.T) {
	k, wrapping := newImporter(t)
	wrap := func(material string) string { return wrapFor(t, &wrapping.PublicKey, []byte(material)) }
	good := wrap(strings.Repeat("k", 32))
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKCS8PrivateKey(p256)
	if err != nil {
		t.Fatal(err)
	}
	agreement, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := x509.MarshalPKCS8PrivateKey(agreement)
	if err != nil {
		t.Fatal(err)
	}
	ec, ecPublic := wrap(string(ecDER)), publicPEM(t, p256.Public())
	rsaPublic := publicPEM(t, &wrapping.PublicKey)
	blob, _ := base64.StdEncoding.DecodeString(good)
	changed := func(i int) string {
		b := append([]byte(nil), blob...)
		b[i] ^= 1
		return base64.StdEncoding.EncodeToString(b)
	}
	short, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &wrapping.PublicKey, random(16), nil)
	if err != nil {
		t.Fatal(err)
	}
	k.must(api.Write, "keys/aes/import", fmt.Sprintf(`{"ciphertext":%q}`, good))
	k.must(api.Write, "keys/made", "")
	k.must(api.Write, "keys/gone/import", fmt.Sprintf(`{"ciphertext":%q}`, good))
	k.must(api.Delete, "keys/gone/soft-delete", "")
	for _, c := range []struct{ path, body, text string }{
		{"aes/import", `{"ciphertext":` + quoted(good), "the import path cannot be used with an existing key; use import-version to rotate an existing imported key"},
		{"n/import", `{"convergent_encryption":false,"ciphertext":` + quoted(good), "import cannot be used on keys with convergent encryption enabled"},
		{"n/import", `{"auto_rotate_period":"1h","ciphertext":` + quoted(good), "allow_rotation must be set to true if auto-rotation is enabled"},
		{"n/import", `{"auto_rotate_period":"1s","allow_rotation":true,"ciphertext":` + quoted(good), "auto rotate period must be 0 to disable or at least an hour"},
		{"n/import", `{"type":"des","ciphertext":` + quoted(good), "unknown key type: des"},
		{"n/import", `{"type":"rsa-2048","derived":true,"ciphertext":` + quoted(good), "key derivation and convergent encryption not supported for keys of type rsa-2048"},
		{"n/import", `{"type":"aes128-gcm96","ciphertext":` + quoted(good), "invalid key size 32 bytes for key type aes128-gcm96"},
		{"n/import", `{"type":"hmac","ciphertext":` + quoted(wrap("too short for it")), "invalid key size 16 bytes for key type hmac"},
		{"n/import", `{"hash_function":"MD5","ciphertext":` + quoted(good), "unknown hash function: MD5"},
		{"n/import", `{"hash_function":"SHA512","ciphertext":` + quoted(good), "crypto/rsa: decryption error"},
		{"n/import", `{"ciphertext":"?"`, "illegal base64 data at input byte 0"},
		{"n/import", `{"ciphertext":""`, "provided ciphertext is too short"},
		{"n/import", `{"ciphertext":` + quoted(base64.StdEncoding.EncodeToString(blob[:512])), "provided ciphertext is too short"},
		{"n/import", `{"ciphertext":` + quoted(changed(0)), "crypto/rsa: decryption error"},
		{"n/import", `{"ciphertext":` + quoted(changed(600-60)), "kwp: unwrap failed integrity check"},
		{"n/import", `{"ciphertext":` + quoted(base64.StdEncoding.EncodeToString(append(short, blob[512:]...))), "expected ephemeral AES key to be 256-bit"},
		{"n/import", `{"public_key":` + quoted(rsaPublic), "provided type does not support public_key import"},
		{"n/import", `{`, "provided type does not support public_key import"},
		{"n/import", `{"type":"ed25519"`, "error parsing public key: not in PEM format"},
		{"n/import", `{"type":"ed25519","derived":true,"public_key":` + quoted(rsaPublic),
			"unable to import only public key for derived Ed25519 key: imported key should not be an Ed25519 key pair but is instead an HKDF key"},
		{"n/import", `{"type":"rsa-2048","public_key":` + quoted(rsaPublic), "invalid key size: expected 256 bytes, got 512 bytes"},
		{"n/import", `{"type":"ed25519","public_key":` + quoted(rsaPublic), "invalid key type: expected ed25519, got *rsa.PublicKey"},
		{"n/import", `{"type":"ecdsa-p384","public_key":` + quoted(ecPublic), "invalid curve: expected P-384, got P-256"},
		{"n/import", `{"type":"ecdsa-p384","ciphertext":` + quoted(ec), "invalid curve: expected P-384, got P-256"},
		{"n/import", `{"type":"rsa-4096","ciphertext":` + quoted(ec), "invalid key type: expected rsa-4096, got *ecdsa.PrivateKey"},
		{"n/import", `{"type":"ed25519","ciphertext":` + quoted(wrap(string(x25519))), "invalid key type: expected ed25519, got *ecdh.PrivateKey"},
		{"-n/import", `{"ciphertext":` + quoted(good), `the name of a key has letters, digits and _, and between them - and .: not "-n"`},
		{"n/import_version", `{"ciphertext":` + quoted(good), "no key found with name n; to import a new key, use the import/ endpoint"},
		{"made/import_version", `{"ciphertext":` + quoted(good), "the import_version endpoint can only be used with an imported key"},
		{"gone/import_version", `{"ciphertext":` + quoted(good), "refusing to use soft-deleted key"},
		{"aes/import_version", `{"version":1,"ciphertext":` + quoted(good), "provided type does not support importing key versions"},
		{"aes/import_version", `{"version":2,"ciphertext":` + quoted(good), "no such key version"},
		{"aes/import_version", `{"public_key":` + quoted(ecPublic), "provided type does not support public_key import"},
	} {
		k.refuse(c.text, api.Write, "keys/"+c.path, c.body+"}")
	}
	if _, err := k.call(api.Write, "keys/n/import", `{"type":"ed25519","ciphertext":`+quoted(good)+`}`); err == nil || !strings.HasPrefix(err.Error(), "error parsing asymmetric key: ") {
		t.Error(err)
	}
	if _, err := k.call(api.Read, "keys/n", ""); err == nil {
		t.Error("a refused import has made a key")
	}
}

func quoted(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
}

// FuzzImport has anything unwrapped and read as a key of every kind. What is taken is
// what the record's own reader takes.
func FuzzImport(f *testing.F) {
	w := readWrapped(f)
	private, err := wrapper.parsePrivate(w.Wrapping)
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range w.Keys {
		f.Add(c.SHA256)
		f.Add(c.Secret)
		f.Add([]byte(c.Public))
	}
	for _, size := range []int{0, 16, 511, 512, 513, 512 + 24} {
		f.Add(make([]byte, size))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 512 { // an RSA decryption takes milliseconds
			_, _ = unwrap(private.(*rsa.PrivateKey), crypto.SHA256, b)
		}
		for _, kind := range kinds {
			for _, secret := range []bool{false, true} {
				p := &policy{Type: kind.name}
				v, err := p.imports(b, secret)
				if err != nil {
					continue
				}
				k := &key{policy: *p, kind: kind}
				if _, err := k.parse(1, v); err != nil {
					t.Errorf("%s was imported, but cannot be read: %v", kind.name, err)
				}
			}
		}
	})
}

// TestImportLeaves has the rest of the engine use versions without a private key.
func TestImportLeaves(t *testing.T) {
	k, wrapping := newImporter(t)
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	for typ, public := range map[string]crypto.PublicKey{"ed25519": private.Public(), "rsa-4096": &wrapping.PublicKey} {
		k.must(api.Write, "keys/"+typ+"/import", fmt.Sprintf(`{"type":%q,"public_key":%q,"exportable":true,"allow_plaintext_backup":true,"allow_rotation":true}`, typ, publicPEM(t, public)))
		for _, path := range []string{"export/public-key/" + typ, "export/signing-key/" + typ, "export/hmac-key/" + typ, "export/encryption-key/" + typ, "export/certificate-chain/" + typ} {
			a, err := k.call(api.Read, path, "")
			if told, ok := errors.AsType[*api.Error](err); err != nil && !ok {
				t.Errorf("%s: %v", path, err)
			} else if told == nil && strings.Contains(path, "public-key") && k.shown(a)["keys"] == nil {
				t.Errorf("%s: %v", path, a.Data)
			}
		}
		if typ == "rsa-4096" {
			sealed := k.encrypt(typ, `{"plaintext":"eA=="}`)
			k.refuse("cannot decrypt ciphertext, key version does not have a private counterpart", api.Write, "decrypt/"+typ, fmt.Sprintf(`{"ciphertext":%q}`, sealed))
		}
		backup := k.shown(k.must(api.Read, "backup/"+typ, ""))["backup"]
		k.must(api.Write, "restore/again-"+typ, fmt.Sprintf(`{"backup":%q}`, backup))
		data := k.key("again-" + typ)
		if want := k.key(typ); fmt.Sprint(data["keys"]) != fmt.Sprint(want["keys"]) || data["imported_key"] != true || data["imported_key_allow_rotation"] != true {
			t.Errorf("%s restored: %v, not %v", typ, data, want)
		}
		k.refuse("requested version for signing does not contain a private part", api.Write, "sign/again-"+typ, `{"input":"eA=="}`)
	}
	k.newKey("ec", kindOf("ecdsa-p256"), "")
	k.wantValid(true, "ec", fmt.Sprintf(`{"prehashed":true,"signature":%q}`, k.sign("ec", `{"prehashed":true}`))) // an empty hash
}
