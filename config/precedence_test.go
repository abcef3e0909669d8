package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	keyA = "0123456789abcdef0123456789abcdef"
	keyB = "abcdef0123456789abcdef0123456789"
)

// complete has, for each type, parameters that make a seal complete.
var complete = map[string]map[string]string{
	"awskms":  {"kms_key_id": "alias/x"},
	"transit": {"address": "https://vault", "token": "t", "key_name": "k", "mount_path": "m"},
	"static":  {"current_key": keyA, "current_key_id": "1"},
}

// What design and seed documents promise for each parameter and each of its variables: who wins when the file and the
// variable are both there. SDK means that the variable is never copied.
var precedence = []struct {
	typ, key, variable string
	file, env          string // two different values
	wins               string // variable, file, or SDK
}{
	{"awskms", "kms_key_id", "VAULT_AWSKMS_SEAL_KEY_ID", "alias/f", "alias/e", "variable"},
	{"awskms", "kms_key_id", "AWSKMS_WRAPPER_KEY_ID", "alias/f", "alias/e", "variable"},
	{"awskms", "endpoint", "AWS_KMS_ENDPOINT", "https://f", "http://e:1", "variable"},
	{"awskms", "region", "AWS_REGION", "eu-west-1", "us-gov-east-1", "file"},
	{"awskms", "region", "AWS_DEFAULT_REGION", "eu-west-1", "us-east-1", "file"},
	{"awskms", "access_key", "AWS_ACCESS_KEY_ID", "f", "e", "SDK"},
	{"awskms", "secret_key", "AWS_SECRET_ACCESS_KEY", "f", "e", "SDK"},
	{"awskms", "session_token", "AWS_SESSION_TOKEN", "f", "e", "SDK"},
	{"awskms", "shared_creds_filename", "AWS_SHARED_CREDENTIALS_FILE", "/f", "/e", "SDK"},
	{"awskms", "shared_creds_profile", "AWS_PROFILE", "f", "e", "SDK"},
	{"awskms", "role_arn", "AWS_ROLE_ARN", "arn:aws:iam::1:role/f", "arn:aws:iam::1:role/e", "SDK"},
	{"awskms", "role_session_name", "AWS_ROLE_SESSION_NAME", "f", "e", "SDK"},
	{"awskms", "web_identity_token_file", "AWS_WEB_IDENTITY_TOKEN_FILE", "/f", "/e", "SDK"},

	{"transit", "address", "VAULT_TRANSIT_SEAL_ADDR", "https://f", "https://e", "variable"},
	{"transit", "address", "TRANSIT_WRAPPER_ADDR", "https://f", "https://e", "variable"},
	{"transit", "address", "VAULT_ADDR", "https://f", "https://e", "file"},
	{"transit", "address", "BAO_ADDR", "https://f", "unix:///e", "file"},
	{"transit", "token", "VAULT_TRANSIT_SEAL_TOKEN", "f", "e", "variable"},
	{"transit", "token", "TRANSIT_WRAPPER_TOKEN", "f", "e", "variable"},
	{"transit", "token", "VAULT_TOKEN", "f", "e", "file"},
	{"transit", "token", "BAO_TOKEN", "f", "e", "file"},
	{"transit", "token", "VAULT_TOKEN_FILE", "f", "e", "file"},
	{"transit", "token", "BAO_TOKEN_FILE", "f", "e", "file"},
	{"transit", "key_name", "VAULT_TRANSIT_SEAL_KEY_NAME", "f", "e", "variable"},
	{"transit", "key_name", "TRANSIT_WRAPPER_KEY_NAME", "f", "e", "variable"},
	{"transit", "key_name", "KMS_TRANSIT_KEY", "f", "e", "variable"},
	{"transit", "mount_path", "VAULT_TRANSIT_SEAL_MOUNT_PATH", "f", "e/", "variable"},
	{"transit", "mount_path", "TRANSIT_WRAPPER_MOUNT_PATH", "f", "e/", "variable"},
	{"transit", "mount_path", "KMS_TRANSIT_ENGINE", "f", "e/", "variable"},
	{"transit", "disable_renewal", "VAULT_TRANSIT_SEAL_DISABLE_RENEWAL", "false", "true", "variable"},
	{"transit", "disable_renewal", "TRANSIT_WRAPPER_DISABLE_RENEWAL", "true", "false", "variable"},
	{"transit", "namespace", "VAULT_NAMESPACE", "f", "e", "file"},
	{"transit", "namespace", "BAO_NAMESPACE", "f", "e", "file"},
	{"transit", "key_id_prefix", "", "f", "", "file"},
	{"transit", "tls_ca_cert", "VAULT_CACERT", "/f", "/e", "file"},
	{"transit", "tls_ca_cert", "BAO_CACERT", "/f", "/e", "file"},
	{"transit", "tls_ca_path", "VAULT_CAPATH", "/f", "/e", "file"},
	{"transit", "tls_ca_path", "BAO_CAPATH", "/f", "/e", "file"},
	{"transit", "tls_client_cert", "VAULT_CLIENT_CERT", "/f", "/e", "file"},
	{"transit", "tls_client_cert", "BAO_CLIENT_CERT", "/f", "/e", "file"},
	{"transit", "tls_client_key", "VAULT_CLIENT_KEY", "/f", "/e", "file"},
	{"transit", "tls_client_key", "BAO_CLIENT_KEY", "/f", "/e", "file"},
	{"transit", "tls_server_name", "VAULT_TLS_SERVER_NAME", "f", "e", "file"},
	{"transit", "tls_server_name", "BAO_TLS_SERVER_NAME", "f", "e", "file"},
	{"transit", "tls_skip_verify", "VAULT_SKIP_VERIFY", "false", "true", "file"},
	{"transit", "tls_skip_verify", "BAO_SKIP_VERIFY", "true", "false", "file"},

	{"static", "current_key", "BAO_STATIC_SEAL_CURRENT_KEY", keyA, keyB, "variable"},
	{"static", "current_key", "KMS_KEY", keyA, keyB, "variable"},
	{"static", "current_key", "KMS_KEY_FILE", keyA, keyB, "variable"},
	{"static", "current_key_id", "BAO_STATIC_SEAL_CURRENT_KEY_ID", "f", "e", "variable"},
	{"static", "previous_key", "BAO_STATIC_SEAL_PREVIOUS_KEY", keyB, "ABCDEF0123456789abcdef0123456789", "variable"},
	{"static", "previous_key_id", "BAO_STATIC_SEAL_PREVIOUS_KEY_ID", "f", "e", "variable"},
}

// partners must be there for a parameter to be right.
var partners = map[string]string{
	"access_key": "secret_key", "secret_key": "access_key", "tls_client_cert": "tls_client_key",
	"tls_client_key": "tls_client_cert", "previous_key": "previous_key_id", "previous_key_id": "previous_key",
}

func TestPrecedence(t *testing.T) {
	var got, want []string
	for _, s := range table {
		for _, name := range append(slices.Clone(s.steer), s.env...) {
			want = append(want, s.key+" "+name)
		}
	}
	for _, r := range precedence {
		if r.variable != "" {
			got = append(got, r.key+" "+r.variable)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("the test has\n%s\nthe table has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, r := range precedence {
		t.Run(r.typ+"/"+r.key+"/"+r.variable, func(t *testing.T) {
			for _, where := range []string{"file", "variable", "both"} {
				if r.variable == "" && where != "file" {
					continue
				}
				dir := t.TempDir()
				values := maps.Clone(complete[r.typ])
				delete(values, r.key)
				env := []string{"STATE_DIRECTORY=" + dir}
				if where != "variable" {
					values[r.key] = r.file
				}
				if where != "file" {
					v := r.env
					if strings.HasSuffix(r.variable, "_FILE") && r.wins != "SDK" {
						v = filepath.Join(dir, "value")
						write(t, v, r.env)
					}
					env = append(env, r.variable+"="+v)
				}
				for _, p := range []string{partners[r.key], map[string]string{"session_token": "access_key"}[r.key], map[string]string{"session_token": "secret_key"}[r.key]} {
					switch {
					case p == "", r.wins == "SDK" && where == "variable":
					case where == "variable" && p == "tls_client_key":
						env = append(env, "VAULT_CLIENT_KEY=/p") // a tls_ key in the file would silence the variable
					case where == "variable" && p == "tls_client_cert":
						env = append(env, "VAULT_CLIENT_CERT=/p")
					case p == "previous_key":
						values[p] = keyB
					default:
						values[p] = "p"
					}
				}
				c, err := Load([]string{sealFile(t, dir, r.typ, values)}, envOf(env...))
				if err != nil {
					t.Fatalf("%s: %v", where, err)
				}
				value, origin := r.file, filepath.Join(dir, "keep.hcl:")
				if where == "variable" || where == "both" && r.wins == "variable" {
					value, origin = r.env, r.variable
				}
				p := c.Seals[0].Params[r.key]
				if r.wins == "SDK" && where == "variable" {
					if p != (Param{}) {
						t.Errorf("%s: the SDK's variable was copied", where)
					}
					continue
				}
				if p.Value != value || !strings.HasPrefix(p.Origin, origin) {
					t.Errorf("%s: got %q from %s, want %q from %s", where, p.Value, p.Origin, value, origin)
				}
				if warned := len(c.Warnings) == 1 && strings.Contains(c.Warnings[0], r.variable); warned != (where == "both") {
					t.Errorf("%s: warnings %q", where, c.Warnings)
				}
				for _, w := range c.Warnings {
					if s, _ := find(r.key, sealScope(r.typ)); s.secret && (strings.Contains(w, "\""+r.env) || strings.Contains(w, keyA) || strings.Contains(w, keyB)) {
						t.Errorf("a secret is in %q", w)
					}
				}
			}
		})
	}
}

// sealFile writes a configuration with one seal.
func sealFile(t *testing.T, dir, typ string, values map[string]string) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "seal %q {\n", typ)
	for key, v := range values {
		fmt.Fprintf(&b, "  %s = %q\n", key, v)
	}
	b.WriteString("}\n")
	name := filepath.Join(dir, "keep.hcl")
	write(t, name, b.String())
	return name
}

// The suffix of a name speaks to one of several seals, and the type can be changed that way too.
func TestNamedVariables(t *testing.T) {
	name := filepath.Join(t.TempDir(), "keep.hcl")
	write(t, name, `
seal "awskms" {
  name       = "near-by"
  kms_key_id = "alias/a"
}
seal "awskms" {
  name       = "far"
  kms_key_id = "alias/b"
  priority   = 1
}
seal "static" {
  disabled       = true
  current_key    = "`+keyA+`"
  current_key_id = "1"
}
`)
	_, err := Load([]string{name}, envOf("STATE_DIRECTORY=/x"))
	if err == nil || !strings.Contains(err.Error(), "priority 1") {
		t.Fatalf("near-by has place 1 and far priority 1: %v", err)
	}
	src, _ := os.ReadFile(name)
	write(t, name, strings.Replace(string(src), "priority   = 1", "priority = 0x", 1))
	if _, err := Load([]string{name}, envOf("STATE_DIRECTORY=/x")); err == nil {
		t.Fatal("0x is a priority")
	}
	write(t, name, strings.Replace(string(src), "priority   = 1", "priority = 9", 1))
	c, err := Load([]string{name}, envOf("STATE_DIRECTORY=/x",
		"VAULT_AWSKMS_SEAL_KEY_ID_near_by=alias/other",
		"VAULT_SEAL_TYPE_far=transit", "VAULT_ADDR=https://v", "VAULT_TOKEN=t", "TRANSIT_WRAPPER_KEY_NAME_far=k", "VAULT_TRANSIT_SEAL_MOUNT_PATH_far=m",
		"BAO_STATIC_SEAL_CURRENT_KEY_ID_static=2", "BAO_STATIC_SEAL_CURRENT_KEY_ID=3"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range c.Seals {
		got = append(got, fmt.Sprintf("%s %s %d %t %s%s%s", s.Type, s.Name, s.Priority, s.Disabled, s.Get("kms_key_id"), s.Get("key_name"), s.Get("current_key_id")))
	}
	want := []string{"awskms near-by 1 false alias/other", "static static 3 true 2", "transit far 9 false k"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if c.Seals[2].At != "environment" {
		t.Errorf("a seal whose type comes from a variable is at %s", c.Seals[2].At)
	}
}
