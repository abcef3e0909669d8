// Package clients runs what others have written for Vault's transit against a keep: Tink, Go CDK's secrets (and with it
// Pulumi's), sigstore's signer (cosign, Fulcio, Rekor, Tekton Chains), and the calls of a Kubernetes KMS version 2 plugin.
// It is a module of its own, so that none of this is among the program's dependencies. The test of e2e starts the keep:
//
//	VAULT_ADDR=http://127.0.0.1:8200 VAULT_TOKEN=... go -C tools/clients test
//
// The keep has a transit engine at transit/ without keys. sigstore's signer stays at 1.10 as long as Go is 1.26.
package clients

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/sigstore/sigstore/pkg/signature/kms/hashivault"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"github.com/tink-crypto/tink-go-hcvault/v2/integration/hcvault"
	"github.com/tink-crypto/tink-go/v2/aead"
	"gocloud.dev/secrets"
	cdk "gocloud.dev/secrets/hashivault"
)

// client is Vault's, as each of the others makes one of the same variables.
func client(t *testing.T) *api.Client {
	t.Helper()
	if os.Getenv("VAULT_ADDR") == "" || os.Getenv("VAULT_TOKEN") == "" {
		if os.Getenv("SEALKEEP_REQUIRE_CLIENTS") == "1" {
			t.Fatal("VAULT_ADDR or VAULT_TOKEN is not set")
		}
		t.Skip("VAULT_ADDR or VAULT_TOKEN is not set: they say which keep to use")
	}
	c, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newKey makes a key.
func newKey(t *testing.T, c *api.Client, name string, settings map[string]any) {
	t.Helper()
	if _, err := c.Logical().Write("transit/keys/"+name, settings); err != nil {
		t.Fatal(err)
	}
}

var message = []byte("s3cret message")

func TestTink(t *testing.T) {
	c := client(t)
	newKey(t, c, "tink", nil)
	newKey(t, c, "tink-derived", map[string]any{"derived": true})
	address, _ := strings.CutPrefix(c.Address(), "http://")
	uri := "hcvault://" + address + "/transit/keys/"
	current, err := hcvault.NewClientWithAEADOptions(uri, c.Logical())
	if err != nil {
		t.Fatal(err)
	}
	legacy, err := hcvault.NewClientWithAEADOptions(uri, c.Logical(), hcvault.WithLegacyContextParamater())
	if err != nil {
		t.Fatal(err)
	}
	for _, with := range []struct {
		name, key string
		legacy    bool
		data      string
	}{
		{"associated_data", "tink", false, "some"},
		{"none", "tink", false, ""},
		{"legacy: the empty context of a key that is not derived", "tink", true, ""},
		{"legacy: the context of a derived key", "tink-derived", true, "some"},
	} {
		t.Run(with.name, func(t *testing.T) {
			kms := current
			if with.legacy {
				kms = legacy
			}
			remote, err := kms.GetAEAD(uri + with.key)
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := remote.Encrypt(message, []byte(with.data))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := remote.Decrypt(sealed, []byte(with.data)); err != nil || !bytes.Equal(got, message) {
				t.Errorf("%q, %v", got, err)
			}
			if with.data != "" {
				if got, err := remote.Decrypt(sealed, []byte("other")); err == nil {
					t.Errorf("other data gives %q", got)
				}
			}
			if sealed, err = remote.Encrypt(nil, []byte(with.data)); err != nil {
				t.Fatal(err)
			}
			if got, err := remote.Decrypt(sealed, []byte(with.data)); err != nil || len(got) != 0 {
				t.Errorf("no text is %q, %v", got, err)
			}
			if with.key != "tink" {
				return // Tink's envelopes send no data of their own
			}
			envelope := aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), remote)
			if sealed, err = envelope.Encrypt(message, []byte("file")); err != nil {
				t.Fatal(err)
			}
			if got, err := envelope.Decrypt(sealed, []byte("file")); err != nil || !bytes.Equal(got, message) {
				t.Errorf("an envelope: %q, %v", got, err)
			}
		})
	}
}

func TestGoCDK(t *testing.T) {
	c := client(t)
	newKey(t, c, "cdk", nil)
	t.Setenv("VAULT_SERVER_URL", c.Address())
	t.Setenv("VAULT_SERVER_TOKEN", c.Token())
	opened, err := secrets.OpenKeeper(t.Context(), "hashivault://cdk?engine=transit")
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	other := cdk.OpenKeeper(c, "cdk", &cdk.KeeperOptions{Engine: "transit"})
	defer other.Close()
	sealed, err := opened.Encrypt(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := other.Decrypt(t.Context(), sealed); err != nil || !bytes.Equal(got, message) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := c.Logical().Write("transit/keys/cdk/rotate", nil); err != nil {
		t.Fatal(err)
	}
	if got, err := opened.Decrypt(t.Context(), sealed); err != nil || !bytes.Equal(got, message) {
		t.Errorf("after rotating: %q, %v", got, err)
	}
	if got, err := opened.Decrypt(t.Context(), sealed[:len(sealed)-4]); err == nil {
		t.Errorf("what is cut off gives %q", got)
	}
}

// TestSigstore has every type of key that the signer knows, under every hash that a key of it goes with.
func TestSigstore(t *testing.T) {
	c := client(t)
	hashes := map[string][]crypto.Hash{"ed25519": {0, crypto.SHA256, crypto.SHA512}}
	var one hashivault.SignerVerifier
	types := one.SupportedAlgorithms()
	if len(types) != 7 {
		t.Fatalf("the signer knows %v", types)
	}
	for _, typ := range types {
		t.Run(typ, func(t *testing.T) {
			used := hashes[typ]
			if used == nil {
				used = []crypto.Hash{crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512}
			}
			var created crypto.PublicKey
			for i, hash := range used {
				signer, err := hashivault.LoadSignerVerifier("hashivault://sigstore-"+typ, hash)
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					if created, err = signer.CreateKey(t.Context(), typ); err != nil {
						t.Fatal(err)
					}
				}
				public, err := signer.PublicKey()
				if err != nil {
					t.Fatal(err)
				}
				if !public.(interface{ Equal(crypto.PublicKey) bool }).Equal(created) {
					t.Error("the public key is another")
				}
				var version string
				signature, err := signer.SignMessage(bytes.NewReader(message), options.ReturnKeyVersionUsed(&version))
				if err != nil {
					t.Fatalf("%v: %v", hash, err)
				}
				if version != "vault:v1:" {
					t.Errorf("%v: the version is %q", hash, version)
				}
				// ed25519 signs what it gets: the digest, unless there is no hash.
				digest := message
				if hash != 0 {
					h := hash.New()
					h.Write(message)
					digest = h.Sum(nil)
				}
				if err := verify(public, hash, digest, signature); err != nil {
					t.Errorf("%v: %v", hash, err)
				}
				// Where it verifies it says nothing of pkcs1v15, with which it has signed: its RSA signatures verify by the public
				// key alone. Transit takes them for PSS, here as in Vault.
				err = signer.VerifySignature(bytes.NewReader(signature), bytes.NewReader(message))
				if _, isRSA := public.(*rsa.PublicKey); (err != nil) != isRSA {
					t.Errorf("%v: verifying: %v", hash, err)
				}
				if err := signer.VerifySignature(bytes.NewReader(signature), strings.NewReader("another")); err == nil {
					t.Errorf("%v: the signature is of another message, too", hash)
				}
			}
			// A rotated key signs with the version that is asked for.
			if _, err := c.Logical().Write("transit/keys/sigstore-"+typ+"/rotate", nil); err != nil {
				t.Fatal(err)
			}
			signer, err := hashivault.LoadSignerVerifier("hashivault://sigstore-"+typ, cmp.Or(used[0], crypto.SHA256))
			if err != nil {
				t.Fatal(err)
			}
			for want, asked := range map[string]string{"vault:v1:": "1", "vault:v2:": "0"} {
				var got string
				if _, err := signer.SignMessage(bytes.NewReader(message), options.WithKeyVersion(asked), options.ReturnKeyVersionUsed(&got)); err != nil || got != want {
					t.Errorf("version %s: %v, %v", asked, got, err)
				}
			}
		})
	}
}

// verify verifies without the keep.
func verify(public crypto.PublicKey, hash crypto.Hash, digest, signature []byte) error {
	valid := false
	switch public := public.(type) {
	case ed25519.PublicKey:
		valid = ed25519.Verify(public, digest, signature)
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(public, digest, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, hash, digest, signature)
	}
	if !valid {
		return errors.New("the signature does not verify with the public key")
	}
	return nil
}

// TestKubernetes makes the calls of vault-kubernetes-kms: what it reads of the answers is read here as it does, by
// assertions that it does not check.
func TestKubernetes(t *testing.T) {
	c := client(t)
	newKey(t, c, "kms", nil)
	ctx := t.Context()

	// Status: the mount is a transit engine, and the ID of the key is when its latest version was made.
	mounts, err := c.Sys().ListMountsWithContext(ctx)
	if err != nil || mounts["transit/"] == nil || mounts["transit/"].Type != "transit" {
		t.Fatalf("%v, %v", mounts, err)
	}
	keyID := func(ctx context.Context) string {
		t.Helper()
		s, err := c.Logical().ReadWithContext(ctx, "transit/keys/kms")
		if err != nil {
			t.Fatal(err)
		}
		latest := s.Data["latest_version"].(json.Number)
		return s.Data["keys"].(map[string]any)[latest.String()].(json.Number).String()
	}
	first := keyID(ctx)
	encrypt := func(want json.Number) (ciphertext string) {
		t.Helper()
		s, err := c.Logical().WriteWithContext(ctx, "transit/encrypt/kms", map[string]any{"plaintext": base64.StdEncoding.EncodeToString(message)})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Data["key_version"].(json.Number); got != want {
			t.Errorf("the version is %s, not %s", got, want)
		}
		return s.Data["ciphertext"].(string)
	}
	old := encrypt("1")
	if _, err := c.Logical().Write("transit/keys/kms/rotate", nil); err != nil {
		t.Fatal(err)
	}
	encrypt("2")
	if second := keyID(ctx); second < first {
		t.Errorf("the key ID went from %s to %s", first, second)
	}
	s, err := c.Logical().WriteWithContext(ctx, "transit/decrypt/kms", map[string]any{"ciphertext": old})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := base64.StdEncoding.DecodeString(s.Data["plaintext"].(string)); err != nil || !bytes.Equal(got, message) {
		t.Errorf("%q, %v", got, err)
	}
}
