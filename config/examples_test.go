package config

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every example must load without a warning, and say what its name promises.
func TestExamples(t *testing.T) {
	dir := t.TempDir()
	raw := bytes.Repeat([]byte{0xff, '\n'}, 16)
	write(t, filepath.Join(dir, "sealkeep-key"), string(raw))
	write(t, filepath.Join(dir, "transit-token"), "hvs.example\n")
	write(t, filepath.Join(dir, "vault-token"), "hvs.example\n")
	files, err := filepath.Glob("../examples/*.hcl")
	if err != nil || len(files) < 4 {
		t.Fatalf("found %v (%v)", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := Load([]string{file}, envOf("CREDENTIALS_DIRECTORY="+dir))
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Warnings) > 0 {
				t.Error(c.Warnings)
			}
			want := strings.TrimSuffix(filepath.Base(file), ".hcl")
			if want == "network" {
				network(t, c)
				return
			}
			if want == "audit" {
				if len(c.Audit) != 2 || c.Audit[0].Options["mode"] != "0640" || c.Audit[1].Name != "collector" {
					t.Errorf("%+v", c.Audit)
				}
				return
			}
			if c.Seals[0].Type != want {
				t.Errorf("seal %s, want %s", c.Seals[0].Type, want)
			}
			if c.Storage.Path != "/var/lib/sealkeep/sealkeep.db" {
				t.Errorf("store at %s", c.Storage.Path)
			}
			switch s := c.Seals[0]; s.Type {
			case "awskms":
				if len(c.Seals) != 2 || len(c.Listeners) != 2 || c.Listeners[1].SocketMode != 0o660 {
					t.Errorf("%+v", c)
				}
			case "transit", "vaultkv":
				if s.Get("token") != "hvs.example" {
					t.Error("the token is not that of the credential")
				}
				if s.Type == "vaultkv" && s.Get("key_path") != "kv/data/sealkeep" {
					t.Errorf("the key is at %s", s.Get("key_path"))
				}
			case "static":
				if key, err := DecodeKey(s.Get("current_key")); err != nil || !bytes.Equal(key, raw) {
					t.Errorf("the raw key did not survive: %x, %v", key, err)
				}
			}
		})
	}
}

func network(t *testing.T, c *Config) {
	if len(c.Listeners) != 3 {
		t.Fatalf("%+v", c)
	}
	all, own, proxied := c.Listeners[0], c.Listeners[1], c.Listeners[2]
	if all.TLSDisable || all.TLSClientAuth != tls.RequestClientCert {
		t.Errorf("%+v", all)
	}
	if own.TLSClientAuth != tls.RequireAndVerifyClientCert || own.TLSClientCAFile == "" || own.TLSMinVersion != tls.VersionTLS13 {
		t.Errorf("%+v", own)
	}
	if f := proxied.Forwarded; len(f.Authorized) != 2 || f.HopSkips != 1 || !f.RejectNotPresent || !f.RejectNotAuthorized {
		t.Errorf("%+v", f)
	}
}

func TestExampleEnvironment(t *testing.T) {
	src, err := os.ReadFile("../examples/env-only.env")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"STATE_DIRECTORY=/var/lib/sealkeep"}
	for line := range strings.Lines(string(src)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			env = append(env, line)
		}
	}
	c, err := Load(nil, envOf(env...))
	if err != nil {
		t.Fatal(err)
	}
	if s := c.Seals[0]; s.Type != "awskms" || s.At != "environment" || s.Get("kms_key_id") != "alias/sealkeep" || s.Get("access_key") != "" {
		t.Errorf("%+v", s)
	}
	if c.Storage.Path != "/var/lib/sealkeep/sealkeep.db" || c.Listeners[0].Address != "127.0.0.1:8200" || !c.Listeners[0].TLSDisable {
		t.Errorf("%+v", c)
	}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// envOf makes an environment of NAME=value lines.
func envOf(lines ...string) func(string) (string, bool) {
	m := make(map[string]string)
	for _, line := range lines {
		name, v, _ := strings.Cut(line, "=")
		m[name] = v
	}
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}
