package transit

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// shown is what an answer has, as a client reads it.
func (k *keep) shown(a api.Answer) map[string]any {
	k.Helper()
	b, err := json.Marshal(a.Data)
	if d, ok := a.Data.(api.Appender); ok {
		b, err = d.AppendJSON(nil), nil
	}
	var data map[string]any
	if err == nil {
		err = json.Unmarshal(b, &data)
	}
	if err != nil {
		k.Fatalf("the answer %s: %v", b, err)
	}
	return data
}

func (k *keep) key(name string) map[string]any {
	k.Helper()
	return k.shown(k.must(api.Read, "keys/"+name, ""))
}

// Every type is made, read again from the store, and shown as clients expect: a
// number for each version of a symmetric key, an object with a public key of others.
func TestEveryType(t *testing.T) {
	k := newKeep(t)
	for _, kind := range kinds {
		body := `{"type":"` + kind.name + `"}`
		if kind.hmac {
			body = `{"type":"hmac","key_size":"64"}`
		}
		k.must(api.Write, "keys/"+kind.name, body)
		k.must(api.Write, "keys/"+kind.name+"/rotate", "")
		data := k.key(kind.name)
		if data["name"] != kind.name || data["type"] != kind.name || data["latest_version"] != 2.0 || data["min_decryption_version"] != 1.0 ||
			data["supports_encryption"] != kind.encrypts() || data["supports_signing"] != kind.asymmetric() || data["supports_derivation"] != kind.derives() {
			t.Errorf("%v", data)
		}
		versions, _ := data["keys"].(map[string]any)
		if len(versions) != 2 {
			t.Errorf("%s has the versions %v", kind.name, versions)
		}
		for n, v := range versions {
			if !kind.asymmetric() {
				if v != float64(start.Unix()) {
					t.Errorf("version %s of %s is %v", n, kind.name, v)
				}
				continue
			}
			one := v.(map[string]any)
			public, _ := one["public_key"].(string)
			if one["name"] != kind.shown || one["creation_time"] != start.Format(time.RFC3339Nano) || one["certificate_chain"] != "" {
				t.Errorf("version %s of %s is %v", n, kind.name, v)
			}
			if kind.ed25519 {
				if b, err := base64.StdEncoding.DecodeString(public); err != nil || len(b) != ed25519.PublicKeySize {
					t.Errorf("the public key of ed25519 is %q", public)
				}
				continue
			}
			block, rest := pem.Decode([]byte(public))
			if block == nil || len(rest) > 0 {
				t.Fatalf("the public key of %s is %q", kind.name, public)
			}
			parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
			switch p := parsed.(type) {
			case *rsa.PublicKey:
				if p.N.BitLen() != kind.bits {
					t.Errorf("%s has %d bits", kind.name, p.N.BitLen())
				}
			case *ecdsa.PublicKey:
				if p.Curve != kind.curve {
					t.Errorf("%s is on %s", kind.name, p.Curve.Params().Name)
				}
			default:
				t.Errorf("%s has a %T, %v", kind.name, parsed, err)
			}
		}
		// Once parsed and once from memory, the versions are the same and not one another.
		var made [2]*version
		for range 2 {
			for n := 1; n <= 2; n++ {
				v := k.version(kind.name, n)
				if made[n-1] != nil && made[n-1] != v {
					t.Errorf("version %d of %s was parsed twice", n, kind.name)
				}
				made[n-1] = v
			}
		}
		if slices.Equal(made[0].secret, made[1].secret) || slices.Equal(made[0].hmac, made[1].hmac) || made[0].prefix != "vault:v1:" {
			t.Errorf("the versions of %s: %v", kind.name, made)
		}
	}
	names := k.shown(k.must(api.List, "keys", ""))["keys"]
	if fmt.Sprint(names) != "[aes128-gcm96 aes256-gcm96 chacha20-poly1305 ecdsa-p256 ecdsa-p384 ecdsa-p521 ed25519 hmac rsa-2048 rsa-3072 rsa-4096 xchacha20-poly1305]" {
		t.Errorf("the names are %v", names)
	}
}

// version loads one from the store or from memory.
func (k *keep) version(name string, n int) (v *version) {
	k.Helper()
	err := k.store.View(context.Background(), func(tx *storage.Tx) error {
		key, err := k.e.usable(tx, name)
		if err == nil {
			v, err = key.version(tx, n)
		}
		return err
	})
	if err != nil {
		k.Fatal(err)
	}
	return v
}

func TestCreateRefuses(t *testing.T) {
	k := newKeep(t)
	for body, text := range map[string]string{
		`{"type":"nothing"}`:                                             "unknown key type nothing",
		`{"type":"hmac"}`:                                                "invalid key size for HMAC key, must be between 32 and 512 bytes",
		`{"type":"hmac","key_size":513}`:                                 "invalid key size for HMAC key, must be between 32 and 512 bytes",
		`{"key_size":32}`:                                                "key_size is not valid for algorithm aes256-gcm96",
		`{"convergent_encryption":true}`:                                 "convergent encryption requires derivation to be enabled",
		`{"type":"rsa-2048","derived":"true"}`:                           "key derivation and convergent encryption not supported for keys of type rsa-2048",
		`{"type":"ecdsa-p256","derived":1}`:                              "key derivation and convergent encryption not supported for keys of type ecdsa-p256",
		`{"type":"hmac","key_size":32,"derived":1}`:                      "key derivation and convergent encryption not supported for keys of type hmac",
		`{"type":"ed25519","derived":true,"convergent_encryption":true}`: "convergent encryption not supported for keys of type ed25519",
		`{"auto_rotate_period":"59m"}`:                                   "auto rotate period must be 0 to disable or at least an hour",
	} {
		k.refuse(text, api.Write, "keys/k", body)
	}
	for _, name := range []string{"-a", "a.", "a b", "ä", "a:b"} {
		if _, err := k.call(api.Write, "keys/"+name, ""); err == nil {
			t.Errorf("there is a key %q", name)
		}
	}
	if _, err := k.call(api.Read, "keys/k", ""); !errors.Is(err, api.ErrAbsent) {
		t.Errorf("reading what is not there: %v", err)
	}
	if _, err := k.call(api.List, "keys", ""); !errors.Is(err, api.ErrAbsent) {
		t.Errorf("listing what is not there: %v", err)
	}
	k.must(api.Write, "keys/k", `{"exportable":"false","name":"k","unknown":1}`)
	a := k.must(api.Write, "keys/k", `{"type":"rsa-2048"}`)
	if k.shown(a)["type"] != "aes256-gcm96" || fmt.Sprint(a.Warnings) != "[key k already existed]" {
		t.Errorf("made a second time: %+v", a)
	}
}

func TestKeyConfig(t *testing.T) {
	k := newKeep(t)
	k.refuse("no existing key named k could be found", api.Write, "keys/k/config", "{}")
	k.must(api.Write, "keys/k", "")
	for range 4 {
		k.must(api.Write, "keys/k/rotate", "")
	}
	for _, c := range []struct{ body, text string }{
		{`{"min_decryption_version":-1}`, "min decryption version cannot be negative"},
		{`{"min_decryption_version":6}`, "cannot set min decryption version of 6, latest key version is 5"},
		{`{"min_encryption_version":-1}`, "min encryption version cannot be negative"},
		{`{"min_encryption_version":6}`, "cannot set min encryption version of 6, latest key version is 5"},
		{`{"min_decryption_version":3,"min_encryption_version":2}`, "cannot set min encryption/decryption values; min encryption version of 2 must be greater than or equal to min decryption version of 3"},
		{`{"auto_rotate_period":"1m"}`, "auto rotate period must be 0 to disable or at least an hour"},
	} {
		k.refuse(c.text, api.Write, "keys/k/config", c.body)
	}
	if data := k.key("k"); data["min_decryption_version"] != 1.0 || data["min_encryption_version"] != 0.0 {
		t.Errorf("refused, but kept: %v", data)
	}
	a := k.must(api.Write, "keys/k/config", `{"min_decryption_version":0}`)
	if len(a.Warnings) != 1 || k.shown(a)["min_decryption_version"] != 1.0 {
		t.Errorf("%+v", a)
	}
	k.must(api.Write, "keys/k/config", `{"exportable":true,"allow_plaintext_backup":"true","auto_rotate_period":"2h","deletion_allowed":1}`)
	data := k.shown(k.must(api.Write, "keys/k/config", `{"exportable":false,"allow_plaintext_backup":false,"deletion_allowed":false}`))
	if data["exportable"] != true || data["allow_plaintext_backup"] != true || data["deletion_allowed"] != false || data["auto_rotate_period"] != 7200.0 {
		t.Errorf("%v", data)
	}

	// Trimming takes both minimums first.
	k.refuse("missing min_available_version", api.Write, "keys/k/trim", "{}")
	k.refuse("minimum available version cannot be set when minimum encryption version is not set", api.Write, "keys/k/trim", `{"min_available_version":2}`)
	data = k.shown(k.must(api.Write, "keys/k/config", `{"min_decryption_version":3,"min_encryption_version":"4"}`))
	if versions := data["keys"].(map[string]any); len(versions) != 3 || versions["3"] == nil {
		t.Errorf("the versions from 3 on are %v", versions)
	}
	k.refuse("minimum available version cannot be greater than minimum decryption version", api.Write, "keys/k/trim", `{"min_available_version":4}`)
	k.refuse("minimum available version cannot be greater than minmum encryption version", api.Write, "keys/k/trim", `{"min_available_version":5}`)
	k.refuse("minimum available version should be positive", api.Write, "keys/k/trim", `{"min_available_version":0}`)
	k.must(api.Write, "keys/k/trim", `{"min_available_version":3}`)
	k.refuse("minimum available version cannot be decremented", api.Write, "keys/k/trim", `{"min_available_version":2}`)
	k.refuse("min decryption version should not be less then min available version", api.Write, "keys/k/config", `{"min_decryption_version":2}`)
	k.refuse("min encryption version should not be less than min available version", api.Write, "keys/k/config", `{"min_encryption_version":0}`)
	if records := k.records("k"); fmt.Sprint(records) != "[3 4 5]" {
		t.Errorf("trimmed, there are the versions %v", records)
	}
}

// records are the versions that the store has of a key.
func (k *keep) records(name string) (names []string) {
	k.Helper()
	err := k.store.View(context.Background(), func(tx *storage.Tx) error {
		p, err := k.e.policy(tx, name)
		if err == nil {
			names, err = tx.List(k.e.folder(p.ID))
		}
		return err
	})
	if err != nil {
		k.Fatal(err)
	}
	return names
}

func TestDelete(t *testing.T) {
	k := newKeep(t)
	k.refuse("error deleting policy k: could not delete key; not found", api.Delete, "keys/k", "")
	k.must(api.Write, "keys/k", "")
	k.refuse("error deleting policy k: deletion is not allowed for this key", api.Delete, "keys/k", "")
	k.must(api.Delete, "keys/k/soft-delete", "")
	if data := k.key("k"); data["soft_deleted"] != true {
		t.Errorf("%v", data)
	}
	k.refuse("refusing to use soft-deleted key", api.Write, "keys/k/rotate", "")
	if a := k.must(api.Delete, "keys/k/soft-delete", ""); fmt.Sprint(a.Warnings) != "[key was already marked as soft deleted]" {
		t.Errorf("%+v", a)
	}
	k.must(api.Write, "keys/k/soft-delete-restore", "")
	if a := k.must(api.Write, "keys/k/soft-delete-restore", ""); fmt.Sprint(a.Warnings) != "[key was already restored]" {
		t.Errorf("%+v", a)
	}
	k.must(api.Write, "keys/k/rotate", "")
	old := k.version("k", 1)
	k.must(api.Write, "keys/k/config", `{"deletion_allowed":true}`)
	k.must(api.Delete, "keys/k", "")
	k.empty()
	// A new key of the same name has nothing of the old one, also in memory.
	k.must(api.Write, "keys/k", "")
	if slices.Equal(k.version("k", 1).secret, old.secret) {
		t.Error("the new key is the old one")
	}
}

// empty checks that the store has no record of the mount.
func (k *keep) empty() {
	k.Helper()
	err := k.store.View(context.Background(), func(tx *storage.Tx) error {
		names, err := tx.List(k.e.prefix)
		if len(names) > 0 {
			k.Errorf("there are still %v", names)
		}
		return err
	})
	if err != nil {
		k.Error(err)
	}
}

func (k *keep) tidy(want int) {
	k.Helper()
	n, err := tidy(context.Background(), k.store, k.mount, func() time.Time { return k.now })
	if err != nil || n != want {
		k.Errorf("tidying: %d, %v, want %d", n, err, want)
	}
}

func TestTidy(t *testing.T) {
	k := newKeep(t)
	k.tidy(0)
	k.must(api.Write, "keys/daily", `{"auto_rotate_period":"24h"}`)
	k.must(api.Write, "keys/never", "")
	k.must(api.Write, "keys/away", `{"auto_rotate_period":"24h"}`)
	k.must(api.Delete, "keys/away/soft-delete", "")
	k.now = start.Add(24*time.Hour - 1)
	k.tidy(0)
	if n := k.key("daily")["latest_version"]; n != 1.0 {
		t.Errorf("rotated too early, to %v", n)
	}
	k.now = start.Add(24 * time.Hour)
	k.tidy(0)
	k.tidy(0)
	for name, want := range map[string]float64{"daily": 2, "never": 1, "away": 1} {
		if n := k.key(name)["latest_version"]; n != want {
			t.Errorf("%s is at %v", name, n)
		}
	}

	// What a crash has left: versions without a policy, and some that were trimmed.
	err := k.store.Update(context.Background(), func(tx *storage.Tx) error {
		p, err := k.e.policy(tx, "daily")
		if err != nil {
			return err
		}
		p.MinAvailable, p.MinDecryption, p.MinEncryption = 2, 2, 2
		if err := k.e.putPolicy(tx, "daily", p); err != nil {
			return err
		}
		return tx.Delete(k.e.policyPath("never"))
	})
	if err != nil {
		t.Fatal(err)
	}
	k.tidy(2)
	k.tidy(0)
	if records := k.records("daily"); fmt.Sprint(records) != "[2]" {
		t.Errorf("there are the versions %v", records)
	}
}

// Many versions are trimmed in several transactions, and cost a use nothing.
func TestManyVersions(t *testing.T) {
	k := newKeep(t)
	k.must(api.Write, "keys/k", "")
	const many = 2500
	err := k.store.Update(context.Background(), func(tx *storage.Tx) error {
		p, err := k.e.policy(tx, "k")
		for err == nil && p.Latest < many {
			var v *record
			if v, err = generate(p); err == nil {
				err = k.e.add(tx, "k", p, v, start)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if v := k.version("k", 17); v.number != 17 {
		t.Errorf("version 17 is %d", v.number)
	}
	k.must(api.Write, "keys/k/config", fmt.Sprintf(`{"min_decryption_version":%d,"min_encryption_version":%[1]d}`, many))
	k.must(api.Write, "keys/k/trim", fmt.Sprintf(`{"min_available_version":%d}`, many))
	if records := k.records("k"); strings.Join(records, " ") != "2500" {
		t.Errorf("there are %d versions", len(records))
	}
}

// A use of a key costs the same however many keys and versions there are: 5 keys of
// 1,000 versions, or 100 in the long form.
func TestManyVersionsOfManyKeys(t *testing.T) {
	k := newKeep(t)
	keys, versions := 5, 1000
	if os.Getenv("SEALKEEP_LONG") == "1" {
		keys = 100
	}
	k.must(api.Write, "keys/one", "")
	cost := func(key, ciphertext string) (encrypt, decrypt float64) {
		encrypt = testing.AllocsPerRun(100, func() { k.must(api.Write, "encrypt/"+key, `{"plaintext":"eA=="}`) })
		decrypt = testing.AllocsPerRun(100, func() { k.must(api.Write, "decrypt/"+key, fmt.Sprintf(`{"ciphertext":%q}`, ciphertext)) })
		return encrypt, decrypt
	}
	encrypt, decrypt := cost("one", k.encrypt("one", `{"plaintext":"eA=="}`))
	for n := range keys {
		name := fmt.Sprint("many-", n)
		k.must(api.Write, "keys/"+name, "")
		first := k.encrypt(name, `{"plaintext":"eA=="}`)
		err := k.store.Update(context.Background(), func(tx *storage.Tx) error {
			p, err := k.e.policy(tx, name)
			for err == nil && p.Latest < versions {
				var v *record
				if v, err = generate(p); err == nil {
					err = k.e.add(tx, name, p, v, start)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if n == keys-1 {
			if e, d := cost(name, first); e > encrypt+4 || d > decrypt+4 { // the store's tree is deeper
				t.Errorf("with %d keys of %d versions an encryption takes %v allocations and a decryption %v; with one of each %v and %v", keys, versions, e, d, encrypt, decrypt)
			}
		}
	}
}

// A policy or a version that does not fit is an error, whatever it is.
func FuzzRecords(f *testing.F) {
	f.Add([]byte("\x01{}"))
	f.Add([]byte{})
	f.Add([]byte("\x02{}"))
	f.Add([]byte(`{"id":"a","type":"ed25519","latest":1,"min_decryption":1,"first":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p policy
		if err := decode(b, &p); err != nil {
			if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrFormat) {
				t.Errorf("%v", err)
			}
			return
		}
		_ = p.check()
		var r record
		if decode(b, &r) != nil {
			return
		}
		for _, kind := range kinds {
			for _, derived := range []bool{false, kind.derives()} {
				k := &key{policy: policy{Type: kind.name, Derived: derived}, kind: kind}
				if v, err := k.parse(1, &r); err == nil && v.private == nil && v.public == nil && v.aead == nil && len(v.secret) == 0 && len(v.hmac) == 0 {
					t.Errorf("%s has no key and no error", kind.name)
				}
			}
		}
	})
}
