package seal

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/seal/sealtest"
)

// What is known of a token's life, and what is told of it.
func TestTokenWarning(t *testing.T) {
	const day = 24 * 3600
	for name, c := range map[string]struct {
		lookup map[string]any
		fault  string // an operation that is refused
		warns  string
		ttl    time.Duration
	}{
		"periodic":                      {map[string]any{"ttl": 3600, "period": 3600}, "", "", time.Hour},
		"root":                          {map[string]any{"ttl": 0, "period": 0, "renewable": false}, "", "", 0},
		"not renewable, ends soon":      {map[string]any{"ttl": 10*day + 3600, "renewable": false}, "", "in 10 days", 10*24*time.Hour + time.Hour},
		"not renewable, ends in hours":  {map[string]any{"ttl": 5*3600 + 60, "renewable": false}, "", "in 5 hours", 5*time.Hour + time.Minute},
		"not renewable, ends later":     {map[string]any{"ttl": 90 * day, "renewable": false}, "", "", 90 * 24 * time.Hour},
		"maximum TTL":                   {map[string]any{"ttl": 3600, "explicit_max_ttl": 3 * day, "creation_time": time.Now().Unix() + 60}, "", "in 3 days", time.Hour},
		"maximum TTL, later":            {map[string]any{"ttl": 3600, "explicit_max_ttl": 90 * day, "creation_time": time.Now().Unix()}, "", "", time.Hour},
		"not periodic, at its maximum":  {map[string]any{"ttl": 7*day + 60, "creation_ttl": 32 * day, "period": 0}, "", "in 7 days", 7*24*time.Hour + time.Minute},
		"not periodic":                  {map[string]any{"ttl": 3600, "creation_ttl": 3600, "period": 0}, "", "", time.Hour},
		"may not be looked up":          {nil, "lookup-self", "", 0},
		"nonsense instead of an answer": {map[string]any{"ttl": "long"}, "", "", 0},
	} {
		for _, typ := range []string{"transit", "vaultkv"} {
			t.Run(name+"/"+typ, func(t *testing.T) {
				s := newKVServer(t)
				s.AddKey("autounseal")
				s.SetLookup(c.lookup)
				if c.fault != "" {
					s.Fail(sealtest.Fault{Op: c.fault, Status: http.StatusForbidden})
				}
				seal := kvBlock(t, s)
				if typ == "transit" {
					seal = transitBlock(t, s)
				}
				if _, ok := seal.TokenTTL(); ok || seal.Warning() != "" {
					t.Errorf("known before anybody was asked: %s", seal.Warning())
				}
				if _, err := seal.KeyID(soon(t)); err != nil {
					t.Fatal(err)
				}
				w := seal.Warning()
				if (w != "") != (c.warns != "") || !strings.Contains(w, c.warns) || w != "" && (!strings.Contains(w, s.URL) || strings.Contains(w, s.Token)) {
					t.Errorf("warning: %q", w)
				}
				ttl, ok := seal.TokenTTL()
				if ok != (c.ttl != 0) || ok && (ttl > c.ttl || ttl < c.ttl-time.Minute) {
					t.Errorf("TTL %v, %t", ttl, ok)
				}
			})
		}
	}
	// When somebody else renews it, what is left of the TTL says nothing.
	s := newTransitServer(t)
	s.SetLookup(map[string]any{"ttl": 60, "creation_ttl": 3600, "period": 0})
	seal := transitBlock(t, s, "disable_renewal", "true")
	if _, err := seal.KeyID(soon(t)); err != nil || seal.Warning() != "" {
		t.Errorf("warning: %q, %v", seal.Warning(), err)
	}
	if _, ok := make1(t, block("static", "s", "current_key", strings.Repeat("0", 64), "current_key_id", "1")).TokenTTL(); ok {
		t.Error("a static seal has a token")
	}
}

// The KV engine deletes the newest version by itself.
func TestVaultKVWarning(t *testing.T) {
	s := newKVServer(t)
	seal := kvBlock(t, s)
	s.Delete("keep", 1, time.Now().Add(60*24*time.Hour))
	blob, _ := roundTrip(t, seal)
	if w := seal.Warning(); w != "" {
		t.Errorf("two months before: %q", w)
	}
	s.Delete("keep", 1, time.Now().Add(5*24*time.Hour+time.Hour))
	opens(t, seal, blob)
	if w := seal.Warning(); !strings.Contains(w, "in 5 days") || !strings.Contains(w, "kv/data/keep") {
		t.Errorf("five days before: %q", w)
	}
	s.Delete("keep", 1, time.Time{})
	opens(t, seal, blob)
	if w := seal.Warning(); w != "" {
		t.Errorf("afterwards: %q", w)
	}
}

func TestAWSWarning(t *testing.T) {
	k := newKMS(t)
	warns := func(s *Seal, words ...string) {
		t.Helper()
		if w := s.Warning(); w != "" {
			t.Errorf("before the first attempt: %q", w)
		}
		if _, err := s.KeyID(soon(t)); err != nil {
			t.Fatal(err)
		}
		w := s.Warning()
		if (w != "") != (len(words) > 0) {
			t.Errorf("warning: %q", w)
		}
		for _, word := range words {
			if !strings.Contains(w, word) {
				t.Errorf("the warning does not say %q: %q", word, w)
			}
		}
		if strings.Contains(w, sessionToken) || strings.Contains(w, secretKey) {
			t.Errorf("a secret is in %q", w)
		}
	}
	lasting := func(more ...string) *Seal {
		return make1(t, block("awskms", "aws", append([]string{"kms_key_id", keyA, "endpoint", k.URL, "access_key", accessKey, "secret_key", secretKey}, more...)...))
	}
	warns(lasting())
	warns(awsBlock(k, keyA), "in the seal block are temporary")

	k.SetValidTo(keyA, time.Now().Add(60*24*time.Hour))
	warns(lasting())
	k.SetValidTo(keyA, time.Now().Add(3*24*time.Hour+time.Hour))
	warns(lasting(), keyA, "in 3 days", "import-key-material")
	warns(awsBlock(k, keyA), "in 3 days", "Also, the AWS credentials")
	k.SetValidTo(keyA, time.Time{})

	chain := func() *Seal { return make1(t, block("awskms", "aws", "kms_key_id", keyA, "endpoint", k.URL)) }
	t.Setenv("AWS_ACCESS_KEY_ID", accessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
	warns(chain())
	t.Setenv("AWS_SESSION_TOKEN", sessionToken)
	warns(chain(), "the environment", "temporary")
	os.Unsetenv("AWS_ACCESS_KEY_ID")
	// A profile is read again when AWS refuses it: somebody may renew it.
	profile := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(profile, []byte("[default]\naws_access_key_id="+accessKey+"\naws_secret_access_key="+secretKey+"\naws_session_token="+sessionToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", profile)
	warns(chain())
}

func TestPendingDeletionDays(t *testing.T) {
	k := newKMS(t)
	at := time.Now().Add(12*24*time.Hour + time.Hour)
	k.SetState(keyA, "PendingDeletion", at)
	_, err := awsBlock(k, keyA).KeyID(soon(t))
	hasClass(t, err, KeyPendingDeletion, at.UTC().Format(time.DateOnly), "in 12 days", "cancel-key-deletion")
	if e, ok := errors.AsType[*Error](err); !ok || e.Op != "naming the key" {
		t.Errorf("%v", err)
	}
}
