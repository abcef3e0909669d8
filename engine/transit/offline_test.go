package transit

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// exportOf exports a key from the store.
func (k *keep) exportOf(name string) (x *Exported, err error) {
	err = k.store.View(context.Background(), func(tx *storage.Tx) error {
		x, err = Export(tx, k.mount, name)
		return err
	})
	return x, err
}

// A key that was exported opens what each of its versions has encrypted, and the latest alone what was made of it.
func TestExported(t *testing.T) {
	k := newKeep(t)
	for _, kind := range kinds {
		if !kind.symmetric() {
			continue
		}
		name := kind.name
		k.must(api.Write, "keys/"+name, fmt.Sprintf(`{"type":%q,"exportable":true}`, name))
		var ciphertexts []string
		for range 3 {
			ciphertexts = append(ciphertexts, k.encrypt(name, `{"plaintext":"c3RhdGU="}`))
			k.must(api.Write, "keys/"+name+"/rotate", "")
		}
		k.must(api.Write, "keys/"+name+"/config", `{"min_decryption_version":2}`)
		x, err := k.exportOf(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(x)
		if err == nil {
			x, err = ParseExported(text)
		}
		if err != nil || x.Latest() != 4 || len(x.Keys) != 4 {
			t.Fatal(x.Latest(), err)
		}
		last := &Exported{Type: x.Type, Keys: map[int][]byte{4: x.Keys[4]}}
		for _, c := range append(ciphertexts, k.encrypt(name, `{"plaintext":"c3RhdGU="}`)) {
			plain, err := x.Open([]byte(c))
			if err != nil || string(plain) != "state" {
				t.Errorf("%s: %s: %q, %v", name, c, plain, err)
			}
			raw, err := x.Local([]byte(c))
			if err != nil {
				t.Errorf("%s: %s: %v", name, c, err)
			}
			if plain, err = last.Open([]byte("vault:v4:" + base64.StdEncoding.EncodeToString(raw))); err != nil || string(plain) != "state" {
				t.Errorf("%s: %s: converted: %q, %v", name, c, plain, err)
			}
			if name == "aes256-gcm96" { // as another program would
				block, err := aes.NewCipher(x.Keys[4])
				if err != nil {
					t.Fatal(err)
				}
				gcm, err := cipher.NewGCM(block)
				if err != nil {
					t.Fatal(err)
				}
				if plain, err = gcm.Open(nil, raw[:12], raw[12:], nil); err != nil || string(plain) != "state" {
					t.Errorf("opened by AES-GCM: %q, %v", plain, err)
				}
			}
			if _, err := last.Open([]byte(c)); (err == nil) != strings.HasPrefix(c, "vault:v4:") {
				t.Errorf("%s with version 4 alone: %v", c, err)
			}
		}
		// What the API exports is the same, without the versions that are forbidden.
		answer, err := json.Marshal(k.must(api.Read, "export/encryption-key/"+name, "").Data)
		if err != nil {
			t.Fatal(err)
		}
		over, err := ParseExported(answer)
		if err != nil || over.Name != name || len(over.Keys) != 3 || !bytes.Equal(over.Keys[4], x.Keys[4]) {
			t.Errorf("by the API: %d versions, %v", len(over.Keys), err)
		}
	}
}

func TestExportRefuses(t *testing.T) {
	k := newKeep(t)
	k.must(api.Write, "keys/rsa", `{"type":"rsa-2048"}`)
	k.must(api.Write, "keys/derived", `{"derived":true}`)
	for name, want := range map[string]error{"none": ErrNoKey, "rsa": ErrNotSymmetric, "derived": ErrNotSymmetric} {
		if _, err := k.exportOf(name); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := k.exportOf("../x"); err == nil {
		t.Error("a name that no key has is read")
	}
	for text, want := range map[string]error{
		``: ErrExported, `[]`: ErrExported, `null`: ErrExported, `{}`: ErrExported, `{"type":"aes256-gcm96"}`: ErrExported,
		`{"type":"rsa-2048","keys":{"1":"YQ=="}}`: ErrNotSymmetric, `{"type":"aes256-gcm96","keys":{"1":"YQ=="}}`: ErrExported,
		`{"type":"aes128-gcm96","keys":{"0":"YWFhYWFhYWFhYWFhYWFhYQ=="}}`: ErrExported,
		`{"type":"aes128-gcm96","keys":{"1":"YWFhYWFhYWFhYWFhYWFhYQ=="}}`: nil,
	} {
		x, err := ParseExported([]byte(text))
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", text, err)
		}
		if err != nil {
			continue
		}
		for _, c := range []string{"", "vault:v1", "vault:v1:", "vault:v1:AAAA", "vault:v2:AAAA", "vault:v-1:AAAA", "vault:v1:=", "bao:v1:AAAA"} {
			if _, err := x.Open([]byte(c)); !errors.Is(err, ErrCiphertext) {
				t.Errorf("%q: %v", c, err)
			}
		}
	}
}

func FuzzExported(f *testing.F) {
	f.Add([]byte(`{"type":"aes128-gcm96","keys":{"1":"YWFhYWFhYWFhYWFhYWFhYQ=="}}`), []byte("vault:v1:AAAA"))
	f.Add([]byte(`{"type":"xchacha20-poly1305","keys":{"2":"YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE="}}`), []byte("vault:v2:"))
	f.Fuzz(func(t *testing.T, key, ciphertext []byte) {
		x, err := ParseExported(key)
		if err != nil {
			return
		}
		plain, err := x.Open(ciphertext)
		if _, again := x.Local(ciphertext); (again == nil) != (err == nil) {
			t.Errorf("opening: %v, converting: %v", err, again)
		}
		if err != nil && plain != nil {
			t.Error("a plaintext with an error")
		}
	})
}
