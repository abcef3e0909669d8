package transit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Keys that OpenBao and Vault have made, backed up, decrypt here what they have encrypted there,
// and the way back is what came.
func TestRestoreForeign(t *testing.T) {
	for from, many := range map[string]int{"openbao": 15, "vault": 13} {
		t.Run(from, func(t *testing.T) { restoreForeign(t, from, many) })
	}
}

func restoreForeign(t *testing.T, from string, many int) {
	raw, err := os.ReadFile("testdata/" + from + ".json")
	var cases []struct {
		Type, Name, Backup, Context string
		Ciphertexts                 []string
	}
	if err == nil {
		err = json.Unmarshal(raw, &cases)
	}
	if err != nil || len(cases) != many {
		t.Fatalf("%d keys, %v", len(cases), err)
	}
	k := newKeep(t)
	for _, c := range cases {
		k.must(api.Write, "restore", fmt.Sprintf(`{"backup":%q}`, c.Backup))
		data := k.key(c.Name)
		if data["type"] != c.Type || data["latest_version"] != 3.0 || data["restore_info"] == nil || data["backup_info"] == nil {
			t.Errorf("%s: %v", c.Name, data)
		}
		for i, sealed := range c.Ciphertexts {
			body := fmt.Sprintf(`{"ciphertext":%q,"context":%q}`, sealed, c.Context)
			if float64(i+1) < data["min_decryption_version"].(float64) {
				k.refuse(errTooOld.Text, api.Write, "decrypt/"+c.Name, body)
				continue
			}
			k.wantPlain(c.Name, body, "plaintext")
			if data["convergent_encryption"] == true {
				if again := k.encrypt(c.Name, fmt.Sprintf(`{"plaintext":%q,"context":%q,"key_version":%d}`, b64("plaintext"), c.Context, i+1)); again != sealed {
					t.Errorf("%s encrypts to %s, in OpenBao to %s", c.Name, again, sealed)
				}
			}
		}
		var came, goes map[string]any
		back := k.shown(k.must(api.Read, "backup/"+c.Name, ""))["backup"].(string)
		for text, to := range map[string]*map[string]any{c.Backup: &came, back: &goes} {
			b, err := base64.StdEncoding.DecodeString(text)
			d := json.NewDecoder(bytes.NewReader(b))
			if d.UseNumber(); err == nil {
				err = d.Decode(to)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		compare(t, c.Name, came, goes)
	}
	// The archive has what is below min_decryption_version.
	k.must(api.Write, "keys/aes256/config", `{"min_decryption_version":1}`)
	for _, c := range cases {
		if c.Name == "aes256" {
			k.wantPlain("aes256", fmt.Sprintf(`{"ciphertext":%q}`, c.Ciphertexts[0]), "plaintext")
		}
	}
}

// compare checks that what goes back has all that came.
func compare(t *testing.T, at string, came, goes any) {
	t.Helper()
	switch came := came.(type) {
	case map[string]any:
		goes, _ := goes.(map[string]any)
		for name, v := range came {
			switch name {
			case "backup_info", "restore_info", "time":
			case "rsa_public_key": // which Vault has twice
			default:
				compare(t, at+"."+name, v, goes[name])
			}
		}
	case []any:
		goes, _ := goes.([]any)
		if len(came) != len(goes) {
			t.Errorf("%s: %d came, %d go", at, len(came), len(goes))
			return
		}
		for i := range came {
			compare(t, fmt.Sprintf("%s[%d]", at, i), came[i], goes[i])
		}
	default:
		zero := came == nil || came == "" || came == false || came == json.Number("0")
		if came != goes && !(zero && goes == nil) && at != "hmac.policy.type" && !(strings.HasSuffix(at, ".creation_time") && strings.Contains(at, "archived_keys.keys[0]")) {
			t.Errorf("%s: %.60v came, %.60v goes", at, came, goes)
		}
	}
}

func TestBackup(t *testing.T) {
	k := newKeep(t)
	k.refuse(`key "k" not found`, api.Read, "backup/k", "")
	k.must(api.Write, "keys/k", "")
	k.refuse("exporting is disallowed on the policy", api.Read, "backup/k", "")
	k.must(api.Write, "keys/k/config", `{"exportable":true}`)
	k.refuse("plaintext backup is disallowed on the policy", api.Read, "backup/k", "")
	for _, kind := range kinds {
		name := kind.name
		k.newKey(name, kind, `,"exportable":true,"allow_plaintext_backup":true`)
		k.must(api.Write, "keys/"+name+"/rotate", "")
		backup := k.shown(k.must(api.Read, "backup/"+name, ""))["backup"].(string)
		k.must(api.Write, "restore/copy-"+name, fmt.Sprintf(`{"backup":%q}`, backup))
		sum := k.shown(k.must(api.Write, "hmac/"+name, `{"input":"eA==","key_version":1}`))["hmac"]
		if k.shown(k.must(api.Write, "verify/copy-"+name, fmt.Sprintf(`{"input":"eA==","hmac":%q}`, sum)))["valid"] != true {
			t.Errorf("the copy of %s has other HMAC keys", name)
		}
		if kind.encrypts() {
			k.wantPlain("copy-"+name, fmt.Sprintf(`{"ciphertext":%q}`, k.encrypt(name, `{"plaintext":"eA=="}`)), "x")
		}
		for n := 1; n <= 2; n++ {
			if string(k.version(name, n).secret) != string(k.version("copy-"+name, n).secret) {
				t.Errorf("version %d of the copy of %s is another", n, name)
			}
		}
		again := fmt.Sprintf(`{"backup":%q}`, backup)
		k.refuse(fmt.Sprintf("key %q already exists", name), api.Write, "restore", again)
		k.must(api.Write, "keys/"+name+"/rotate", "")
		k.must(api.Write, "restore", strings.Replace(again, "{", `{"force":true,`, 1))
		if data := k.key(name); data["latest_version"] != 2.0 {
			t.Errorf("restored over the other: %v", data)
		}
		if records := k.records(name); fmt.Sprint(records) != "[1 2]" {
			t.Errorf("restored, there are %v", records)
		}
	}
	k.tidy(0) // nothing is left of those that were replaced
	k.refuse("'backup' must be supplied", api.Write, "restore", "")
	k.refuse("key names cannot be paths", api.Write, "restore", `{"backup":"e30=","name":"a/b"}`)
	k.refuse("the backup cannot be restored: illegal base64 data at input byte 0", api.Write, "restore", `{"backup":"a"}`)
	k.refuse("the backup cannot be restored: it is not what backup/ answers", api.Write, "restore", `{"backup":"e30="}`)
}

// What is wrong with a backup is told, and nothing of it is written.
func TestRestoreRefuses(t *testing.T) {
	k := newKeep(t)
	made := make(map[string]map[string]any)
	for _, name := range []string{"aes256-gcm96", "ed25519", "ecdsa-p256", "rsa-2048", "hmac"} {
		k.newKey(name, kindOf(name), `,"exportable":true,"allow_plaintext_backup":true`)
		b, err := base64.StdEncoding.DecodeString(k.shown(k.must(api.Read, "backup/"+name, ""))["backup"].(string))
		if err != nil {
			t.Fatal(err)
		}
		made[name] = map[string]any{"raw": b}
	}
	for _, c := range []struct {
		of   string
		edit func(policy, version map[string]any)
		text string
	}{
		{"aes256-gcm96", func(p, _ map[string]any) { p["type"] = 99 }, "there are no keys of its type 99 here"},
		{"aes256-gcm96", func(p, _ map[string]any) { p["type"] = 8 }, "version 1: store is damaged: a key of 32 bytes, not 16"},
		{"aes256-gcm96", func(p, _ map[string]any) { p["latest_version"] = 2 }, "version 2 is missing"},
		{"aes256-gcm96", func(p, _ map[string]any) { p["version_template"] = "x{{version}}" }, "it has a version_template, which keys here have not"},
		{"aes256-gcm96", func(p, _ map[string]any) { p["min_decryption_version"] = 9 }, "store is damaged: its versions contradict one another"},
		{"rsa-2048", func(p, _ map[string]any) { p["derived"] = true }, "store is damaged: its type cannot be derived from"},
		{"rsa-2048", func(_, v map[string]any) { v["rsa_key"].(map[string]any)["D"] = 3 }, "version 1: " + errPair.Error()},
		{"rsa-2048", func(_, v map[string]any) { v["rsa_key"].(map[string]any)["Primes"] = []int{1, 1} }, "version 1: " + errPair.Error()},
		{"rsa-2048", func(p, _ map[string]any) { p["type"] = 9 }, "version 1: key of another type: it is no rsa-3072 key"},
		{"ecdsa-p256", func(_, v map[string]any) { v["ec_d"] = 7 }, "version 1: " + errPair.Error()},
		{"ed25519", func(_, v map[string]any) { v["key"] = base64.StdEncoding.EncodeToString(make([]byte, 64)) }, "version 1: " + errPair.Error()},
		{"hmac", func(_, v map[string]any) { v["key"] = "eA==" }, "version 1: an hmac key of 1 bytes"},
	} {
		var b map[string]any
		d := json.NewDecoder(strings.NewReader(string(made[c.of]["raw"].([]byte))))
		d.UseNumber()
		if err := d.Decode(&b); err != nil {
			t.Fatal(err)
		}
		p := b["policy"].(map[string]any)
		c.edit(p, p["keys"].(map[string]any)["1"].(map[string]any))
		raw, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		k.refuse("the backup cannot be restored: "+c.text, api.Write, "restore/new", fmt.Sprintf(`{"backup":%q}`, base64.StdEncoding.EncodeToString(raw)))
	}
}

func FuzzBackup(f *testing.F) {
	raw, err := os.ReadFile("testdata/openbao.json")
	var cases []struct{ Backup string }
	if err == nil {
		err = json.Unmarshal(raw, &cases)
	}
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range cases {
		b, err := base64.StdEncoding.DecodeString(c.Backup)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 4<<10 { // RSA keys take too long
			f.Add(b)
		}
	}
	f.Add([]byte(`{"policy":{"type":0,"key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, p, versions, err := parseBackup(base64.StdEncoding.EncodeToString(b))
		if err != nil {
			return
		}
		if err := p.check(); err != nil {
			t.Errorf("restored, its policy is %v", err)
		}
		for n := p.MinDecryption; n <= p.Latest; n++ {
			if versions[n] == nil {
				t.Errorf("version %d is missing", n)
			}
		}
	})
}

func TestExport(t *testing.T) {
	k := newKeep(t)
	if _, err := k.call(api.Read, "export/hmac-key/k", ""); err != api.ErrAbsent {
		t.Errorf("%v", err)
	}
	query := func(path, format string) (string, error) {
		k.query = map[string][]string{"format": {format}}
		defer func() { k.query = nil }()
		a, err := k.call(api.Read, path, "")
		if err != nil {
			return "", err
		}
		return k.shown(a)["keys"].(map[string]any)["1"].(string), nil
	}
	for _, kind := range kinds {
		name := kind.name
		k.newKey(name, kind, "")
		k.refuse("private key material is not exportable", api.Read, "export/hmac-key/"+name, "")
		k.must(api.Write, "keys/"+name+"/config", `{"exportable":true}`)
		k.must(api.Write, "keys/"+name+"/rotate", "")
		v := k.version(name, 1)
		for what, can := range map[string]bool{"encryption-key": kind.encrypts(), "signing-key": kind.asymmetric(), "hmac-key": true, "public-key": kind.asymmetric()} {
			for _, format := range []string{"", "raw", "der", "pem"} {
				text, err := query("export/"+what+"/"+name, format)
				plain := what == "hmac-key" || !kind.asymmetric() || kind.ed25519 && (format == "" || format == "raw")
				if want := can && (plain == (format == "raw") || format == "" || !plain && format != "raw"); (err == nil) != want {
					t.Errorf("%s of %s in %q: %v, want %v", what, name, format, err, want)
					continue
				} else if !want {
					continue
				}
				der := []byte(text)
				if block, _ := pem.Decode(der); block != nil {
					der = block.Bytes
				} else if der, err = base64.StdEncoding.DecodeString(text); err != nil {
					t.Errorf("%s of %s in %q is %q", what, name, format, text)
				}
				ok := false
				switch {
				case what == "hmac-key":
					ok = string(der) == string(v.hmac)
				case what == "public-key" && plain:
					ok = v.public.(ed25519.PublicKey).Equal(ed25519.PublicKey(der))
				case what == "public-key":
					ok = string(der) == string(v.der)
				case plain:
					ok = string(der) == string(v.secret)
				case format == "" && kind.bits > 0:
					key, _ := x509.ParsePKCS1PrivateKey(der)
					ok = v.private.(*rsa.PrivateKey).Equal(key)
				case format == "":
					key, _ := x509.ParseECPrivateKey(der)
					ok = v.private.(*ecdsa.PrivateKey).Equal(key)
				default:
					key, _ := x509.ParsePKCS8PrivateKey(der)
					signer, _ := key.(crypto.Signer)
					ok = signer != nil && fmt.Sprint(signer.Public()) == fmt.Sprint(v.public)
				}
				if !ok {
					t.Errorf("%s of %s in %q is another: %s", what, name, format, text)
				}
			}
		}
	}
	latest := k.shown(k.must(api.Read, "export/encryption-key/aes256-gcm96/latest", ""))
	if keys := latest["keys"].(map[string]any); len(keys) != 1 || keys["2"] == nil || latest["name"] != "aes256-gcm96" || latest["type"] != "aes256-gcm96" {
		t.Errorf("%v", latest)
	}
	k.must(api.Write, "keys/aes256-gcm96/config", `{"min_decryption_version":2}`)
	for path, text := range map[string]string{
		"export/x/aes256-gcm96":                 "invalid export type: x",
		"export/hmac-key/aes256-gcm96/x":        "invalid key version",
		"export/hmac-key/aes256-gcm96/v1":       "version for export is below minimum decryption version",
		"export/hmac-key/aes256-gcm96/3":        "version does not exist or cannot be found",
		"export/signing-key/aes256-gcm96":       "signing not supported for the key",
		"export/encryption-key/ed25519":         "encryption not supported for the key",
		"export/public-key/hmac":                "unknown key type hmac for export type public-key",
		"export/certificate-chain/ecdsa-p256":   "selected key version does not have a certificate chain imported",
		"export/certificate-chain/aes256-gcm96": "certificate chain not supported for keys that do not support signing",
	} {
		k.refuse(text, api.Read, path, "")
	}
}

// Parsed keys are bounded, and gone when the store is sealed.
func TestMemory(t *testing.T) {
	k := newKeep(t)
	var m *memory
	look := func() {
		err := k.store.View(context.Background(), func(tx *storage.Tx) error {
			m = tx.Kept(memoryKey{}, newMemory).(*memory)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	look()
	first := m
	m.most = 20 << 10
	for i := range 40 {
		name := fmt.Sprintf("k%d", i)
		k.encrypt(name, `{"plaintext":""}`)
		k.encrypt("k0", `{"plaintext":""}`)
		if m.bytes > m.most || m.bytes <= 0 {
			t.Fatalf("%d bytes of parsed keys, at most %d", m.bytes, m.most)
		}
	}
	sum := 0
	for _, k := range m.keys {
		sum += k.bytes
	}
	if sum != m.bytes || len(m.keys) < 2 || len(m.keys) > 20 {
		t.Errorf("%d keys of %d bytes, counted %d", len(m.keys), sum, m.bytes)
	}
	root, _, err := k.store.RootKey()
	if err != nil {
		t.Fatal(err)
	}
	k.store.Seal()
	if err := k.store.Unseal(root); err != nil {
		t.Fatal(err)
	}
	if look(); m == first || len(m.keys) != 0 {
		t.Errorf("sealed and unsealed, there are still %d parsed keys", len(m.keys))
	}
	k.encrypt("k0", `{"plaintext":""}`)
}
