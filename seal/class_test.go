package seal

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/sealkeep/sealkeep/seal/sealtest"
)

// noName resolves nowhere, and no resolver is asked about it.
var noName = "http://" + strings.Repeat("x", 64) + ".example"

// TestClasses lets the fakes fail in every way that has a class.
func TestClasses(t *testing.T) {
	kms := newKMS(t)
	vault := newTransitServer(t)
	vault.Write("keep", "key", base64.StdEncoding.EncodeToString(kvKey))
	vault.Write("other", "key", base64.StdEncoding.EncodeToString(kvNew))
	kv := kvBlock(t, vault)
	kvBlob, _ := roundTrip(t, kv)
	aws := awsBlock(kms, keyA)
	awsBlob, _ := roundTrip(t, aws)
	transit := transitBlock(t, vault)
	transitBlob, _ := roundTrip(t, transit)
	day := time.Date(2031, 2, 3, 0, 0, 0, 0, time.UTC)

	awsFault := func(f sealtest.Fault) func() error {
		return func() error {
			kms.Fail(f)
			_, err := aws.Unwrap(soon(t), awsBlob, aad)
			return err
		}
	}
	awsCode := func(code string) func() error {
		return awsFault(sealtest.Fault{Status: 400, Code: code, Message: "Canonical " + secretKey + " " + sessionToken + "\nline"})
	}
	state := func(state string) func() error {
		return func() error {
			kms.SetState(keyA, state, day)
			_, err := aws.Unwrap(soon(t), awsBlob, aad)
			return err
		}
	}
	transitFault := func(f sealtest.Fault) func() error {
		return func() error {
			f.Message += " " + vault.Token
			vault.Fail(f)
			_, err := transit.Unwrap(soon(t), transitBlob, aad)
			return err
		}
	}
	transitWith := func(params ...string) func() error {
		return func() error {
			_, err := transitBlock(t, vault, params...).Unwrap(soon(t), transitBlob, aad)
			return err
		}
	}

	kvFault := func(f sealtest.Fault) func() error {
		return func() error {
			f.Message += " " + vault.Token
			vault.Fail(f)
			_, err := kv.Unwrap(soon(t), kvBlob, aad)
			return err
		}
	}
	kvWith := func(params ...string) func() error {
		return func() error {
			_, err := kvBlock(t, vault, params...).Unwrap(soon(t), kvBlob, aad)
			return err
		}
	}

	seen := map[Class]bool{}
	for _, c := range []struct {
		name string
		fail func() error
		want Class
		word string
	}{
		{"aws: stopped", func() error {
			kms.Stop()
			defer kms.Start()
			_, err := aws.Unwrap(soon(t), awsBlob, aad)
			return err
		}, Unreachable, kms.URL},
		{"aws: no such host", func() error {
			_, err := awsBlock(kms, keyA, "endpoint", noName).Unwrap(soon(t), awsBlob, aad)
			return err
		}, DNS, "resolve"},
		{"aws: TLS to a plain server", func() error {
			_, err := awsBlock(kms, keyA, "endpoint", strings.Replace(kms.URL, "http:", "https:", 1)).Unwrap(soon(t), awsBlob, aad)
			return err
		}, TLS, "certificate"},
		{"aws: stall", func() error {
			kms.Fail(sealtest.Fault{Stall: true})
			ctx, cancel := contextFor(t, 200*time.Millisecond)
			defer cancel()
			_, err := aws.Unwrap(ctx, awsBlob, aad)
			return err
		}, Unreachable, "kms:DescribeKey"},
		{"aws: no credentials", func() error {
			_, err := make1(t, block("awskms", "aws", "kms_key_id", keyA, "endpoint", kms.URL)).Unwrap(soon(t), awsBlob, aad)
			return err
		}, CredentialsMissing, "environment"},
		{"aws: expired", awsCode("ExpiredTokenException"), CredentialsExpired, "renew"},
		{"aws: unknown access key", awsCode("UnrecognizedClientException"), AuthDenied, "access key"},
		{"aws: unknown access key, by STS's name", awsCode("InvalidClientTokenId"), AuthDenied, "access key"},
		{"aws: wrong secret key", awsCode("InvalidSignatureException"), AuthDenied, "secret key"},
		{"aws: wrong clock", awsFault(sealtest.Fault{Status: 400, Code: "InvalidSignatureException", Message: "Signature expired", Skew: 20 * time.Minute}), ClockSkew, "20m0s off"},
		{"aws: wrong clock, behind", awsFault(sealtest.Fault{Status: 403, Code: "SignatureDoesNotMatch", Skew: -20 * time.Minute}), ClockSkew, "set it"},
		{"aws: request expired", awsCode("RequestExpired"), ClockSkew, "clock"},
		{"aws: denied", awsCode("AccessDeniedException"), AuthDenied, "kms:DescribeKey"},
		{"aws: no such key", awsCode("NotFoundException"), KeyNotFound, keyA},
		{"aws: bad key ID", awsCode("ValidationException"), KeyNotFound, keyA},
		{"aws: another kind of key", func() error {
			kms.SetSpec(keyA, "RSA_2048")
			defer kms.SetSpec(keyA, "SYMMETRIC_DEFAULT")
			_, err := aws.Unwrap(soon(t), awsBlob, aad)
			return err
		}, KeyNotFound, "RSA_2048"},
		{"aws: disabled", state("Disabled"), KeyDisabled, "aws kms enable-key"},
		{"aws: no key material", state("PendingImport"), KeyDisabled, "import"},
		{"aws: disabled since", awsFault(sealtest.Fault{Op: "Decrypt", Status: 400, Code: "DisabledException"}), KeyDisabled, "enable"},
		{"aws: invalid state", awsFault(sealtest.Fault{Op: "Decrypt", Status: 400, Code: "KMSInvalidStateException"}), KeyDisabled, "state"},
		{"aws: pending deletion", state("PendingDeletion"), KeyPendingDeletion, "2031-02-03"},
		{"aws: replica pending deletion", state("PendingReplicaDeletion"), KeyPendingDeletion, "2031-02-03"},
		{"aws: key store away", state("Unavailable"), Unreachable, "key store"},
		{"aws: being made", state("Creating"), Unreachable, "wait"},
		{"aws: throttled", awsCode("ThrottlingException"), Throttled, "too many"},
		{"aws: throttled by status", awsFault(sealtest.Fault{Status: 429, Code: "Whatever"}), Throttled, "too many"},
		{"aws: broken", awsFault(sealtest.Fault{Status: 500, Code: "KMSInternalException"}), Unreachable, kms.URL},
		{"aws: away behind a proxy", awsFault(sealtest.Fault{Status: 503, Code: ""}), Unreachable, kms.URL},
		{"aws: forbidden by a proxy", awsFault(sealtest.Fault{Status: 403, Code: "Whatever"}), AuthDenied, "AWS refuses"},
		{"aws: wrong plaintext", awsFault(sealtest.Fault{Op: "Decrypt", WrongPlaintext: true}), BlobMismatch, "altered"},
		{"aws: wrong key ID", awsFault(sealtest.Fault{Op: "Decrypt", KeyID: keyB}), BlobMismatch, keyB},
		{"aws: another key's blob", func() error { _, err := awsBlock(kms, keyB).Unwrap(soon(t), awsBlob, aad); return err }, BlobMismatch, keyB},
		{"aws: no ciphertext", awsFault(sealtest.Fault{Op: "Decrypt", Status: 400, Code: "InvalidCiphertextException"}), BlobMismatch, keyA},

		{"transit: no such host", transitWith("address", noName), DNS, "resolve"},
		{"transit: sealed", transitFault(sealtest.Fault{Status: 503, Message: "Vault is sealed"}), Unreachable, "sealed"},
		{"transit: standby", transitFault(sealtest.Fault{Status: 473}), Unreachable, vault.URL},
		{"transit: no CA file", transitWith("tls_ca_cert", "/nowhere/ca.pem"), TLS, "tls_ca_cert"},
		{"transit: throttled", transitFault(sealtest.Fault{Status: 429}), Throttled, "quota"},
		{"transit: wrong plaintext", transitFault(sealtest.Fault{Op: "decrypt", WrongPlaintext: true}), BlobMismatch, "altered"},

		{"vaultkv: stopped", func() error {
			vault.Stop()
			defer vault.Start()
			_, err := kv.Unwrap(soon(t), kvBlob, aad)
			return err
		}, Unreachable, vault.URL},
		{"vaultkv: no such host", kvWith("address", noName), DNS, "resolve"},
		{"vaultkv: TLS to a plain server", kvWith("address", strings.Replace(vault.URL, "http:", "https:", 1)), TLS, "tls_ca_cert"},
		{"vaultkv: no CA file", kvWith("tls_ca_cert", "/nowhere/ca.pem"), TLS, "tls_ca_cert"},
		{"vaultkv: sealed", kvFault(sealtest.Fault{Status: 503, Message: "Vault is sealed"}), Unreachable, "sealed"},
		{"vaultkv: wrong token", kvWith("token", "another"), AuthDenied, "lacks read"},
		{"vaultkv: may not read", kvFault(sealtest.Fault{Op: "read", Status: 403, Message: "permission denied"}), AuthDenied, "kv/data/keep"},
		{"vaultkv: expired or revoked token", func() error {
			vault.SetTTL(-1, 0)
			defer vault.SetTTL(0, 0)
			_, err := kv.Unwrap(soon(t), kvBlob, aad)
			return err
		}, AuthDenied, "has expired or was revoked"},
		{"vaultkv: no account", kvWith("token", "", "kube_auth_role", "keep", "kube_token_file", "/nowhere/token"), CredentialsMissing, "service account"},
		{"vaultkv: throttled", kvFault(sealtest.Fault{Status: 429}), Throttled, "quota"},
		{"vaultkv: no such secret", kvWith("key_path", "kv/data/nothing"), KeyNotFound, "kv/data/nothing"},
		{"vaultkv: no such mount", kvWith("key_path", "nowhere/data/keep"), KeyNotFound, "nowhere/data/keep"},
		{"vaultkv: deleted", func() error {
			vault.Delete("keep", 1, time.Now().Add(-time.Minute))
			defer vault.Delete("keep", 1, time.Time{})
			_, err := kv.Unwrap(soon(t), kvBlob, aad)
			return err
		}, KeyDisabled, "vault kv undelete -versions=1"},
		{"vaultkv: destroyed", func() error {
			vault.Write("gone", "key", "x")
			vault.Destroy("gone", 1)
			return kvWith("key_path", "kv/data/gone")()
		}, KeyNotFound, "was destroyed"},
		{"vaultkv: another key's blob", kvWith("key_path", "kv/data/other"), BlobMismatch, "kv/data/other"},
	} {
		err := c.fail()
		kms.Heal()
		vault.Heal()
		kms.SetState(keyA, "Enabled", time.Time{})
		t.Run(c.name, func(t *testing.T) {
			hasClass(t, err, c.want, c.word)
			for _, s := range []string{secretKey, sessionToken, vault.Token, string(secret), "\n", base64.StdEncoding.EncodeToString(kvKey)} {
				if strings.Contains(err.Error(), s) {
					t.Errorf("the error shows %q: %v", s, err)
				}
			}
		})
		seen[c.want] = true
	}
	for _, c := range []Class{Unreachable, DNS, TLS, CredentialsMissing, CredentialsExpired, AuthDenied, ClockSkew, KeyNotFound, KeyDisabled, KeyPendingDeletion, Throttled, BlobMismatch} {
		if !seen[c] {
			t.Errorf("no case is of class %s", c)
		}
	}
	opens(t, aws, awsBlob) // nothing of all that stays
	opens(t, transit, transitBlob)
	opens(t, kv, kvBlob)
}

// What goes wrong of itself has the same class whoever answers.
func TestTransitClasses(t *testing.T) {
	onHubs(t, func(t *testing.T, h hub) {
		token := h.token(life{})
		seal := hubBlock(t, h, token)
		blob, _ := roundTrip(t, seal)
		fails := func(name string, seal *Seal, want Class, words ...string) {
			t.Helper()
			_, err := seal.Unwrap(soon(t), blob, aad)
			t.Run(name, func(t *testing.T) {
				hasClass(t, err, want, words...)
				for _, s := range []string{token, string(secret), "\n"} {
					if strings.Contains(err.Error(), s) {
						t.Errorf("the error shows %q: %v", s, err)
					}
				}
			})
		}
		h.Stop()
		fails("stopped", seal, Unreachable, h.address())
		h.Start()
		fails("TLS to a plain server", hubBlock(t, h, token, "address", strings.Replace(h.address(), "http:", "https:", 1)), TLS, "tls_ca_cert")
		h.SetSealed(true)
		fails("sealed", seal, Unreachable, h.address(), "Vault is sealed")
		h.SetSealed(false)
		fails("wrong token", hubBlock(t, h, "another"), AuthDenied, "transit/encrypt/autounseal")
		fails("no such key", hubBlock(t, h, token, "key_name", "nothing"), KeyNotFound, "nothing")
		fails("no such mount", hubBlock(t, h, token, "mount_path", "nowhere"), KeyNotFound, "nowhere")
		fails("another key's blob", hubBlock(t, h, token, "key_name", "other"), BlobMismatch, "other")
		h.AddKey("autounseal")
		h.SetMinVersion("autounseal", 2)
		fails("too old", seal, BlobMismatch, "min_decryption_version")
		h.SetMinVersion("autounseal", 1)
		opens(t, seal, blob) // nothing of all that stays
		h.revoke(token)
		fails("revoked token", seal, AuthDenied, "has expired or was revoked")
		token = h.token(life{denied: []string{"decrypt"}})
		fails("may not decrypt", hubBlock(t, h, token), AuthDenied, "transit/decrypt/autounseal")
	})
}

// By the least policy there is no difference between a key that is missing and one that is forbidden, for encrypting makes
// keys: the error says so.
func TestTransitLeastPolicy(t *testing.T) {
	clean(t)
	h := newKeepHub(t).(*keepHub)
	h.AddKey("autounseal")
	h.keep.Policy(t, "least", map[string]string{"transit/encrypt/*": `"update"`, "transit/decrypt/*": `"update"`})
	token := h.keep.Bearer(t, "default", "least")
	roundTrip(t, hubBlock(t, h, token))
	_, _, err := hubBlock(t, h, token, "key_name", "nothing").Wrap(soon(t), secret, aad)
	hasClass(t, err, AuthDenied, "or there is no key nothing")
}

func TestErrorChain(t *testing.T) {
	vault := newTransitServer(t)
	vault.Fail(sealtest.Fault{Status: 403, Message: strings.Repeat("long ", 1000)})
	_, _, err := transitBlock(t, vault).Wrap(soon(t), secret, aad)
	if e, ok := errors.AsType[*api.ResponseError](err); !ok || e.StatusCode != 403 {
		t.Errorf("the cause is lost: %v", err)
	}
	if n := len(err.Error()); n > 1500 {
		t.Errorf("the error has %d characters", n)
	}
	if got := classify(fmt.Errorf("new: %w", errors.New("nobody knows"))); got != Unreachable {
		t.Errorf("an unknown error is of class %s", got)
	}
}
