package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/config"
)

// A fresh key is shown to a person, and only when it is a key that lacks; nothing else changes.
func TestOfferKey(t *testing.T) {
	terminal, log := func(io.Writer) bool { return true }, func(io.Writer) bool { return false }
	lookup := func(env map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	}
	load := func(env map[string]string) error {
		env["STATE_DIRECTORY"] = "/nowhere"
		_, err := config.Load(nil, lookup(env))
		return coded{err, wrongConfig}
	}
	noKey := load(map[string]string{"KMS_BACKEND": "local"})
	for _, c := range []struct {
		name     string
		err      error
		terminal func(io.Writer) bool
		shows    bool
	}{
		{"terminal", noKey, terminal, true},
		{"log", noKey, log, false},
		{"another mistake", load(map[string]string{"KMS_BACKEND": "local", "KMS_KEY": "short"}), terminal, false},
		{"static without a key", load(map[string]string{"VAULT_SEAL_TYPE": "static"}), terminal, false},
		{"another error", errors.New("other"), terminal, false},
	} {
		var out bytes.Buffer
		if err := offerKey(c.err, &out, c.terminal); err != c.err {
			t.Errorf("%s: %v", c.name, err)
		}
		_, key, ok := strings.Cut(out.String(), "export KMS_KEY=")
		if ok != c.shows || !ok && out.Len() > 0 {
			t.Errorf("%s: %q", c.name, &out)
		}
		if ok {
			key, _, _ = strings.Cut(key, "\n")
			if b, err := config.DecodeKey(key); err != nil || len(b) != 32 {
				t.Errorf("%s: the key is %q", c.name, key)
			}
			if err := load(map[string]string{"KMS_BACKEND": "local", "KMS_KEY": key}); errors.Unwrap(err) != nil {
				t.Errorf("with the key: %v", err)
			}
		}
	}
	if isTerminal(&bytes.Buffer{}) {
		t.Error("a buffer is a terminal")
	}

	// The whole program, without a terminal: 78, and keygen is named.
	t.Setenv("VAULT_CLIENT_TIMEOUT", "")
	t.Setenv("VAULT_MAX_RETRIES", "")
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"server"}, lookup(map[string]string{"STATE_DIRECTORY": t.TempDir(), "KMS_BACKEND": "local"}), strings.NewReader(""), &stdout, &stderr)
	if code != wrongConfig || !strings.Contains(stderr.String(), "sealkeep keygen") || strings.Contains(stderr.String(), "export") || stdout.Len() > 0 {
		t.Errorf("exit code %d, %s", code, &stderr)
	}
}
