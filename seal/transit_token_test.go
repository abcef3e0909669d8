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
	s := newTransitServer(t)
	s.SetTTL(3*time.Second, 0)
	seal := transitBlock(t, s)
	blob, _ := roundTrip(t, seal)
	born := time.Now()
	s.Requests()
	renewed := 0
	waitFor(t, "renewals for longer than the token's TTL", func() bool {
		for _, op := range s.Requests() {
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
}

// What becomes of tokens that end. What is in memory by then stays; the next attempt says what happened.
func TestTransitTokenEnds(t *testing.T) {
	denied := []string{"not allowed: encrypting", "the token has expired or was revoked", "transit/encrypt/autounseal", "make a new token"}
	for name, c := range map[string]struct {
		before func(*sealtest.Transit) // the first attempt
		after  func(*sealtest.Transit)
		params []string
		warns  bool // that it ends
		ends   bool
	}{
		"expired": {
			before: func(s *sealtest.Transit) { s.SetTTL(time.Second, 0) },
			params: []string{"disable_renewal", "true"}, ends: true},
		"revoked": {
			before: func(s *sealtest.Transit) { s.SetTTL(2*time.Second, 0) },
			after:  func(s *sealtest.Transit) { s.SetTTL(-1, 0) }, warns: true, ends: true},
		"non-renewable": {
			before: func(s *sealtest.Transit) { s.SetTTL(time.Hour, 0); s.SetRenewable(false) }, warns: true},
		"non-renewable, expired": {
			before: func(s *sealtest.Transit) { s.SetTTL(time.Second, 0); s.SetRenewable(false) }, warns: true, ends: true},
		"maximum TTL": {
			before: func(s *sealtest.Transit) { s.SetTTL(time.Hour, 3*time.Second) }, warns: true, ends: true},
		"may not renew itself": {
			before: func(s *sealtest.Transit) {
				s.Fail(sealtest.Fault{Op: "renew-self", Status: http.StatusForbidden, Message: "permission denied"})
			}, warns: true},
		"renewal failed once": { // an attempt starts it again
			before: func(s *sealtest.Transit) { s.Fail(sealtest.Fault{Op: "renew-self", Status: http.StatusBadGateway}) },
			after:  (*sealtest.Transit).Heal},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTransitServer(t)
			c.before(s)
			seal := transitBlock(t, s, c.params...)
			if w := seal.Warning(); w != "" {
				t.Errorf("before the first attempt: %s", w)
			}
			blob, _, err := seal.Wrap(soon(t), secret, aad)
			if err != nil {
				t.Fatal(err)
			}
			if c.after != nil {
				c.after(s)
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
			_, err = transitBlock(t, s, c.params...).Unwrap(soon(t), blob, aad) // as after a restart
			hasClass(t, err, AuthDenied, denied...)
		})
	}
}

// A new token in the file counts for the next seal that is made, as a reload does; the old one's end changes nothing.
func TestTransitTokenFile(t *testing.T) {
	s := newTransitServer(t)
	file := filepath.Join(t.TempDir(), "token")
	hcl := `seal "transit" {
		address    = "` + s.URL + `"
		token      = "file://` + file + `"
		mount_path = "transit"
		key_name   = "autounseal"
	}`
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(s.Token)
	old := load(t, hcl)
	blob, _ := roundTrip(t, old)
	s.SetTTL(-1, 0)
	_, err := load(t, hcl).Unwrap(soon(t), blob, aad)
	hasClass(t, err, AuthDenied)

	s.SetToken("a-new-token")
	write("a-new-token")
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
