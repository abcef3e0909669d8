package config

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const explained = `
log_level = "Warning"
api_addr  = env("ADDR")
storage "bbolt" { path = "/x.db" }
listener "tcp" {
  address       = "[::1]:8200"
  tls_cert_file = "/no/effect.pem"
  tls_disable   = 1
}
listener "tcp" {
  address       = ":8201"
  tls_cert_file = "/c.pem"
  tls_key_file  = "/k.pem"
}
listener "unix" { address = "/run/x.sock" }
seal "transit" {
  name        = "far-away"
  priority    = 7
  address     = "https://file"
  token       = "HUSH"
  key_name    = "k"
  tls_ca_cert = "/ca.pem"
}
seal "awskms" {
  priority   = 2
  kms_key_id = "arn:aws:kms:eu-west-1:111122223333:key/1234"
}
seal "awskms" {
  name       = "old"
  disabled   = true
  kms_key_id = "alias/x"
  region     = "eu-west-1"
  access_key = "HUSH"
  secret_key = "env://SECRET"
}
`

var explainedEnv = envOf("ADDR=https://keep", "SECRET=HUSHsecret", "VAULT_TRANSIT_SEAL_ADDR_far_away=https://variable", "VAULT_TOKEN=HUSHtoken",
	"KMS_TRANSIT_ENGINE_far_away=transit", "AWS_ACCESS_KEY_ID=HUSHid", "AWS_SECRET_ACCESS_KEY=HUSHkey", "AWS_PROFILE=ops", "AWS_ENDPOINT_URL_KMS=https://vpce", "STATE_DIRECTORY=/unused")

func TestSettings(t *testing.T) {
	name := filepath.Join(t.TempDir(), "keep.hcl")
	write(t, name, explained)
	c, err := Load([]string{name}, explainedEnv)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range c.Settings {
		got = append(got, strings.ReplaceAll(fmt.Sprintf("%s | %s = %s | %s", s.Scope, s.Key, s.Value, s.Origin), name, "F"))
		if s.Secret != (s.Value == Hidden) {
			t.Errorf("%+v", s)
		}
	}
	want := []string{
		`top level | api_addr = https://keep | F:3 (env("ADDR"))`,
		`top level | log_level = warn | F:2`,
		`top level | log_format = text | default`,
		`top level | enable_generate_root = false | default`,
		`top level | rate_limit_per_token = 0 | default`,
		`top level | rate_limit_per_source = 0 | default`,
		`top level | unsafe_allow_api_audit_creation = false | default`,
		`storage "bbolt" | path = /x.db | F:4`,
		`listener "tcp" on [::1]:8200 | address = [::1]:8200 | F:6`,
		`listener "tcp" on [::1]:8200 | tls_disable = true | F:8`,
		`listener "tcp" on [::1]:8200 | unauthenticated_metrics_access = false | default`,
		`listener "tcp" on :8201 | address = :8201 | F:11`,
		`listener "tcp" on :8201 | tls_cert_file = /c.pem | F:12`,
		`listener "tcp" on :8201 | tls_key_file = /k.pem | F:13`,
		`listener "tcp" on :8201 | tls_disable = false | default`,
		`listener "tcp" on :8201 | tls_min_version = tls12 | default`,
		`listener "tcp" on :8201 | tls_require_and_verify_client_cert = false | default`,
		`listener "tcp" on :8201 | tls_disable_client_certs = false | default`,
		`listener "tcp" on :8201 | unauthenticated_metrics_access = false | default`,
		`listener "unix" on /run/x.sock | address = /run/x.sock | F:15`,
		`listener "unix" on /run/x.sock | socket_mode = 0600 | default`,
		`listener "unix" on /run/x.sock | operator = false | default`,
		`listener "unix" on /run/x.sock | unauthenticated_metrics_access = false | default`,
		`seal "awskms" | type = awskms | F:24`,
		`seal "awskms" | name = awskms | default`,
		`seal "awskms" | priority = 2 | F:25`,
		`seal "awskms" | disabled = false | default`,
		`seal "awskms" | kms_key_id = arn:aws:kms:eu-west-1:111122223333:key/1234 | F:26`,
		`seal "awskms" | region = eu-west-1 | F:26 (the key's ARN)`,
		`seal "awskms" | endpoint = https://vpce | AWS_ENDPOINT_URL_KMS`,
		`seal "awskms" | access_key = (hidden) | AWS_ACCESS_KEY_ID (read by the AWS SDK)`,
		`seal "awskms" | secret_key = (hidden) | AWS_SECRET_ACCESS_KEY (read by the AWS SDK)`,
		`seal "awskms" | shared_creds_profile = ops | AWS_PROFILE (read by the AWS SDK)`,
		`seal "awskms" named old | type = awskms | F:28`,
		`seal "awskms" named old | name = old | F:29`,
		`seal "awskms" named old | priority = 3 | default`,
		`seal "awskms" named old | disabled = true | F:30`,
		`seal "awskms" named old | kms_key_id = alias/x | F:31`,
		`seal "awskms" named old | region = eu-west-1 | F:32`,
		`seal "awskms" named old | endpoint = https://vpce | AWS_ENDPOINT_URL_KMS`,
		`seal "awskms" named old | access_key = (hidden) | F:33`,
		`seal "awskms" named old | secret_key = (hidden) | F:34 (env://SECRET)`,
		`seal "transit" named far-away | type = transit | F:16`,
		`seal "transit" named far-away | name = far-away | F:17`,
		`seal "transit" named far-away | priority = 7 | F:18`,
		`seal "transit" named far-away | disabled = false | default`,
		`seal "transit" named far-away | address = https://variable | VAULT_TRANSIT_SEAL_ADDR_far_away`,
		`seal "transit" named far-away | token = (hidden) | F:20`,
		`seal "transit" named far-away | key_name = k | F:21`,
		`seal "transit" named far-away | mount_path = transit | KMS_TRANSIT_ENGINE_far_away`,
		`seal "transit" named far-away | disable_renewal = false | default`,
		`seal "transit" named far-away | tls_ca_cert = /ca.pem | F:22`,
		`seal "transit" named far-away | tls_skip_verify = false | default`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// With the environment alone, everything comes from variables and defaults.
func TestSettingsOfEnvironment(t *testing.T) {
	c, err := Load(nil, envOf("STATE_DIRECTORY=/state:/other", "KMS_BACKEND=local", "KMS_KEY="+keyA))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, s := range c.Settings {
		got[s.Scope+" "+s.Key] = s.Value + " " + s.Origin
		if strings.Contains(s.Value, keyA) {
			t.Errorf("a secret is in %+v", s)
		}
	}
	for key, want := range map[string]string{
		`storage "bbolt" path`:                         "/state/sealkeep.db STATE_DIRECTORY",
		`listener "tcp" on 127.0.0.1:8200 address`:     "127.0.0.1:8200 default",
		`listener "tcp" on 127.0.0.1:8200 tls_disable`: "true default",
		`seal "static" type`:                           "static KMS_BACKEND",
		`seal "static" name`:                           "static default",
		`seal "static" priority`:                       "1 default",
		`seal "static" disabled`:                       "false default",
		`seal "static" current_key`:                    Hidden + " KMS_KEY",
		`seal "static" current_key_id`:                 "ceaf98e264ddb141 default",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
}

func TestVariables(t *testing.T) {
	name := filepath.Join(t.TempDir(), "keep.hcl")
	write(t, name, explained)
	c, err := Load([]string{name}, explainedEnv)
	if err != nil {
		t.Fatal(err)
	}
	vars := c.Variables(explainedEnv)
	b, err := json.Marshal(vars)
	if err != nil || strings.Contains(string(b), secretMark) {
		t.Errorf("%s, %v", b, err)
	}
	for _, want := range []Variable{
		{Name: "STATE_DIRECTORY", Scope: `storage "bbolt"`, Key: "path", Set: true, Value: "/unused"},
		{Name: "VAULT_SEAL_TYPE_far_away", Scope: `seal "transit" named far-away`, Key: "type", Wins: true},
		{Name: "VAULT_TRANSIT_SEAL_ADDR_far_away", Scope: `seal "transit" named far-away`, Key: "address", Wins: true, Set: true, Value: "https://variable"},
		{Name: "VAULT_TOKEN", Scope: `seal "transit" named far-away`, Key: "token", Set: true, Value: Hidden, Secret: true},
		{Name: "BAO_TOKEN", Scope: `seal "transit" named far-away`, Key: "token", Secret: true},
		{Name: "VAULT_TOKEN_FILE", Scope: `seal "transit" named far-away`, Key: "token"},
		{Name: "VAULT_AWSKMS_SEAL_KEY_ID_awskms", Scope: `seal "awskms"`, Key: "kms_key_id", Wins: true},
		{Name: "VAULT_AWSKMS_SEAL_KEY_ID_old", Scope: `seal "awskms" named old`, Key: "kms_key_id", Wins: true},
		{Name: "AWS_PROFILE", Scope: `seal "awskms"`, Key: "shared_creds_profile", SDK: true, Set: true, Value: "ops"},
		{Name: "AWS_ACCESS_KEY_ID", Scope: `seal "awskms" named old`, Key: "access_key", SDK: true, Set: true, Value: Hidden, Secret: true},
	} {
		if n := count(vars, want); n != 1 {
			t.Errorf("%+v is there %d times", want, n)
		}
	}
	for _, v := range vars {
		if strings.HasPrefix(v.Name, "VAULT_") && v.Wins && !strings.Contains(v.Name, "_far_away") && !strings.HasSuffix(v.Name, "_awskms") && !strings.HasSuffix(v.Name, "_old") {
			t.Errorf("%s does not say which seal it means", v.Name)
		}
	}

	// One seal alone is addressed without its name, and with it only where such a variable is set.
	key := filepath.Join(filepath.Dir(name), "key")
	write(t, key, keyA)
	env := envOf("STATE_DIRECTORY=/x", "KMS_BACKEND=local", "KMS_KEY_FILE_static="+key)
	if c, err = Load(nil, env); err != nil {
		t.Fatal(err)
	}
	vars = c.Variables(env)
	for want, n := range map[Variable]int{
		{Name: "KMS_BACKEND", Scope: `seal "static"`, Key: "type", Wins: true, Set: true, Value: "local"}:                1,
		{Name: "KMS_KEY", Scope: `seal "static"`, Key: "current_key", Wins: true, Secret: true}:                          1,
		{Name: "KMS_KEY_FILE_static", Scope: `seal "static"`, Key: "current_key", Wins: true, Set: true, Value: key}:     1,
		{Name: "KMS_KEY_static", Scope: `seal "static"`, Key: "current_key", Wins: true, Secret: true}:                   0,
		{Name: "VAULT_AWSKMS_SEAL_KEY_ID", Scope: `seal "awskms"`, Key: "kms_key_id", Wins: true, Set: false, Value: ""}: 0,
	} {
		if got := count(vars, want); got != n {
			t.Errorf("%+v is there %d times, want %d", want, got, n)
		}
	}
}

func count(vars []Variable, v Variable) int {
	n := 0
	for _, w := range vars {
		if v == w {
			n++
		}
	}
	return n
}
