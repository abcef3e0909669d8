package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/engine/transit"
	"github.com/sealkeep/sealkeep/servertest"
)

// The policies of transit policy allow what each client calls, and no other route of the engine, for no other key.
func TestTransitPolicies(t *testing.T) {
	calls := map[string][]string{
		"unseal":  {"PUT encrypt/K", "PUT decrypt/K"},
		"sops":    {"PUT encrypt/K", "PUT decrypt/K"},
		"tofu":    {"PUT datakey/plaintext/K", "PUT decrypt/K"},
		"cosign":  {"GET keys/K", "PUT keys/K", "PUT sign/K/sha2-256", "PUT verify/K/sha2-256"},
		"k8s":     {"PUT encrypt/K", "PUT decrypt/K", "GET keys/K"},
		"flux":    {"PUT decrypt/K"},
		"spire":   {"LIST keys", "GET keys/K", "PUT keys/K", "PUT sign/K/sha2-256", "PUT sign/K/sha2-384", "PUT sign/K/sha2-512", "PUT sign/K/none"},
		"ceph":    {"PUT datakey/plaintext/K", "PUT decrypt/K"},
		"ceph-s3": {"PUT datakey/plaintext/K", "PUT decrypt/K", "PUT keys/K", "PUT keys/K/config", "DELETE keys/K"},
	}
	f := servertest.Fresh(t, servertest.Config{Types: types()})
	f.Must(t, 204, "POST", "sys/mounts/hub/transit", `{"type":"transit"}`)
	f.Must(t, 200, "PUT", "hub/transit/keys/other", `{"deletion_allowed":true}`)
	all := everyCall(t)
	if len(calls) != len(transitPolicies) || len(transitClients) != len(transitPolicies) {
		t.Fatal("not every policy is tested")
	}
	for _, client := range transitClients {
		for _, key := range []string{"mine", "+"} {
			f.Must(t, 200, "PUT", "hub/transit/keys/mine", `{}`)
			text, err := transitPolicies[client].text("/hub/transit/", key)
			if err != nil {
				t.Fatal(err)
			}
			f.Must(t, 204, "PUT", "sys/policies/acl/tested", servertest.JSONText(map[string]any{"policy": text}))
			as := servertest.As(f.Token(t, `{"policies":["tested"],"no_default_policy":true}`))
			if r := f.Call(t, "GET", "sys/mounts", "", as); (r.Status == 200) != (client == "k8s") {
				t.Errorf("%s: sys/mounts is %d", client, r.Status)
			}
			for _, call := range slices.Concat(calls[client], all) {
				method, path, _ := strings.Cut(call, " ")
				for _, name := range []string{"mine", "other"} {
					allowed := slices.Contains(calls[client], call) || strings.Contains(call, "ify/K/") && slices.Contains(calls[client], "PUT verify/K/sha2-256") ||
						strings.HasPrefix(call, "PUT sign/K/") && slices.Contains(calls[client], "PUT sign/K/sha2-256")
					allowed = allowed && (name == key || key == "+" || !strings.Contains(call, "K"))
					r := f.Call(t, method, "hub/transit/"+strings.ReplaceAll(path, "K", name), `{}`, as)
					if (r.Status != 403) != allowed {
						t.Errorf("%s for %s: %s of the key %s is %d %s, allowed: %t", client, key, call, name, r.Status, r.Errors(), allowed)
					}
				}
			}
		}
	}
}

// everyCall is a call of each operation of each route of the engine; K stands for the key.
func everyCall(t *testing.T) (calls []string) {
	t.Helper()
	methods := map[api.Op]string{api.Read: "GET", api.List: "LIST", api.Write: "PUT", api.Delete: "DELETE"}
	for _, route := range transit.Type().Routes {
		path := strings.NewReplacer("{name}", "K", "{kind}", "plaintext", "{algorithm}", "sha2-256", "{type}", "encryption-key",
			"{version}", "1", "{source}", "platform", "{bytes}", "8").Replace(route.Path)
		for op := range route.Ops {
			if methods[op] == "" {
				t.Fatalf("no method for %v of %s", op, route.Path)
			}
			calls = append(calls, methods[op]+" "+path)
			if strings.Contains(path, "plaintext") {
				calls = append(calls, methods[op]+" "+strings.Replace(path, "plaintext", "wrapped", 1))
			}
		}
	}
	if len(calls) < 25 {
		t.Fatalf("%d calls", len(calls))
	}
	return calls
}

func TestTransitPolicyRefuses(t *testing.T) {
	for _, bad := range [][2]string{{"transit", ""}, {"transit", "a/b"}, {"transit", "a*"}, {"transit", "a+"}, {"transit", `a"b`}, {"transit", "${a}"}, {"", "a"}, {"a*", "a"}, {"+/b", "a"}} {
		if text, err := transitPolicies["unseal"].text(bad[0], bad[1]); err == nil {
			t.Errorf("mount %q, key %q: %s", bad[0], bad[1], text)
		}
	}
}

// What OpenTofu has encrypted is read with the transit key alone, whichever of the two providers it had.
func TestConvertOpenTofu(t *testing.T) {
	x := &transit.Exported{Type: "aes256-gcm96", Keys: map[int][]byte{2: bytes.Repeat([]byte{7}, 32)}}
	box := func(key, plain []byte) []byte {
		block, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			t.Fatal(err)
		}
		return gcm.Seal(nil, nil, plain, nil)
	}
	dataKey := bytes.Repeat([]byte{9}, 16)
	wrapped := "vault:v2:" + base64.StdEncoding.EncodeToString(box(x.Keys[2], dataKey))
	file := func(version string, encrypted []byte, meta map[string]any) []byte {
		raw := map[string][]byte{}
		for name, m := range meta {
			raw[name] = []byte(servertest.JSONText(m))
		}
		return []byte(servertest.JSONText(map[string]any{"serial": 1, "meta": raw, "encrypted_data": encrypted, "encryption_version": version}))
	}
	secret := box(dataKey, []byte("the state"))
	openbao := map[string]any{"key_provider.openbao.k": map[string]any{"ciphertext": []byte(wrapped)}}
	external := map[string]any{"key_provider.external.k": map[string]any{"external_data": map[string]any{"ciphertext": wrapped}}, "key_provider.pbkdf2.a": map[string]any{"salt": "eA=="}}
	for _, c := range []struct {
		file []byte
		want string // an error
	}{
		{file("v0", secret, openbao), ""},
		{file("v0", secret, external), ""},
		{file("v1", secret, openbao), "encryption_version"},
		{file("v0", secret, nil), "none of its key providers"},
		{file("v0", secret, map[string]any{"key_provider.aws_kms.k": map[string]any{"ciphertext_blob": "x"}}), "none of its key providers"},
		{file("v0", secret, map[string]any{"key_provider.openbao.k": map[string]any{"ciphertext": []byte("vault:v1:AAAA")}}), "version 1 is not among"},
		{file("v0", secret[:5], openbao), "was altered"},
		{file("v0", nil, openbao), "was altered"},
		{file("v0", append(secret[:len(secret)-1:len(secret)-1], 0), openbao), "was altered"},
		{[]byte("{"), "decoding it"},
	} {
		plain, err := openTofu(x, c.file)
		if c.want == "" && (err != nil || string(plain) != "the state") {
			t.Errorf("%s: %q, %v", c.file, plain, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.file, err, c.want)
		}
	}
}

func FuzzOpenTofu(f *testing.F) {
	x := &transit.Exported{Type: "aes256-gcm96", Keys: map[int][]byte{1: bytes.Repeat([]byte{7}, 32)}}
	f.Add([]byte(`{"meta":{"key_provider.openbao.k":"eyJjaXBoZXJ0ZXh0IjoiZG1GMWJIUTZkakU2In0="},"encrypted_data":"AAAA","encryption_version":"v0"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if plain, err := openTofu(x, b); err == nil {
			t.Errorf("%q was decrypted to %q", b, plain)
		}
		if meta, err := readTofuMeta(bytes.NewReader(b)); err == nil && meta != nil && meta.External.Ciphertext == "" {
			t.Error("nothing to decrypt was taken for something")
		}
	})
}
