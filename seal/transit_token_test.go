package seal

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/seal/sealtest"
)

// A periodic token lives for ever while a seal renews it.
func TestTransitTokenPeriodic(t *testing.T) {
	onHubs(t, func(t *testing.T, h hub) {
		t.Parallel()
		seal := hubBlock(t, h, h.token(life{ttl: 3 * time.Second}))
		blob, _ := roundTrip(t, seal)
		born := time.Now()
		h.Requests()
		renewed := 0
		waitFor(t, "renewals for longer than the token's TTL", func() bool {
			for _, op := range h.Requests() {
				if op == "renew-self" {
					renewed++
				}
			}
			return renewed >= 2 && time.Since(born) > 3*time.Second
		})
		if w := seal.Warning(); w != "" {
			t.Errorf("warning: %s", w)
		}
		opens(t, seal, blob)
	})
}

// What becomes of tokens that end. What is in memory by then stays; the next attempt says what happened.
func TestTransitTokenEnds(t *testing.T) {
	denied := []string{"not allowed: encrypting", "the token has expired or was revoked", "transit/encrypt/autounseal", "make a new token"}
	for name, c := range map[string]struct {
		life   life
		revoke bool // after the first attempt
		params []string
		warns  bool // that it ends
		ends   bool
	}{
		"expired":                {life: life{ttl: time.Second}, params: []string{"disable_renewal", "true"}, ends: true},
		"revoked":                {life: life{ttl: 2 * time.Second}, revoke: true, warns: true, ends: true},
		"non-renewable":          {life: life{ttl: time.Hour, unrenewable: true}, warns: true},
		"non-renewable, expired": {life: life{ttl: time.Second, unrenewable: true}, warns: true, ends: true},
		"maximum TTL":            {life: life{ttl: time.Hour, max: 3 * time.Second}, warns: true, ends: true},
		"may not renew itself":   {life: life{denied: []string{"renew-self"}}, warns: true},
	} {
		t.Run(name, func(t *testing.T) {
			onHubs(t, func(t *testing.T, h hub) {
				t.Parallel()
				token := h.token(c.life)
				seal := hubBlock(t, h, token, c.params...)
				if w := seal.Warning(); w != "" {
					t.Errorf("before the first attempt: %s", w)
				}
				blob, _, err := seal.Wrap(soon(t), secret, aad)
				if err != nil {
					t.Fatal(err)
				}
				if c.revoke {
					h.revoke(token)
				}
				if c.warns {
					waitFor(t, "a warning", func() bool { return seal.Warning() != "" })
				}
				if !c.ends {
					opens(t, seal, blob)
					if (seal.Warning() != "") != c.warns {
						t.Errorf("warning: %q", seal.Warning())
					}
					return
				}
				waitFor(t, "the token's end", func() bool { _, err = seal.Unwrap(soon(t), blob, aad); return err != nil })
				_, err = seal.Unwrap(soon(t), blob, aad) // it may have ended between the two requests of that one
				hasClass(t, err, AuthDenied, denied...)
				_, err = hubBlock(t, h, token, c.params...).Unwrap(soon(t), blob, aad) // as after a restart
				hasClass(t, err, AuthDenied, denied...)
			})
		})
	}
}

// A renewal that failed is started again by the next attempt.
func TestTransitRenewalFailsOnce(t *testing.T) {
	s := newTransitServer(t)
	s.Fail(sealtest.Fault{Op: "renew-self", Status: http.StatusBadGateway})
	seal := transitBlock(t, s)
	blob, _, err := seal.Wrap(soon(t), secret, aad)
	if err != nil {
		t.Fatal(err)
	}
	s.Heal()
	opens(t, seal, blob)
	if w := seal.Warning(); w != "" {
		t.Errorf("warning: %q", w)
	}
}

// A new token in the file counts for the next seal that is made, as a reload does; the old one's end changes nothing.
func TestTransitTokenFile(t *testing.T) { onHubs(t, testTransitTokenFile) }

func testTransitTokenFile(t *testing.T, h hub) {
	file := filepath.Join(t.TempDir(), "token")
	hcl := `seal "transit" {
		address    = "` + h.address() + `"
		token      = "file://` + file + `"
		mount_path = "transit"
		key_name   = "autounseal"
	}`
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	token := h.token(life{})
	write(token)
	old := load(t, hcl)
	blob, _ := roundTrip(t, old)
	h.revoke(token)
	_, err := load(t, hcl).Unwrap(soon(t), blob, aad)
	hasClass(t, err, AuthDenied)

	write(h.token(life{}))
	_, err = old.Unwrap(soon(t), blob, aad)
	hasClass(t, err, AuthDenied)
	opens(t, load(t, hcl), blob)
}

func TestTransitNamespace(t *testing.T) {
	s := newTransitServer(t)
	for _, want := range []string{"team/a/", ""} {
		var asked, bad atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if r.Header.Get("X-Vault-Namespace") != want {
				bad.Add(1)
			}
			s.ServeHTTP(w, r)
		}))
		defer server.Close()
		roundTrip(t, transitBlock(t, s, "address", server.URL, "namespace", want))
		if asked.Load() == 0 || bad.Load() != 0 {
			t.Errorf("of %d requests %d did not have the namespace %q", asked.Load(), bad.Load(), want)
		}
	}
}
