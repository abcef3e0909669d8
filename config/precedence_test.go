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
	"vaultkv": {"address": "https://vault", "token": "t", "key_path": "kv/data/k"},
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
	{"awskms", "endpoint", "AWS_ENDPOINT_URL_KMS", "https://f", "http://e:1", "file"},
	{"awskms", "endpoint", "AWS_ENDPOINT_URL", "https://f", "http://e:1", "file"},
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
	{"transit", "kube_auth_role", "VAULT_KUBE_AUTH_ROLE", "f", "e", "file"},
	{"transit", "kube_auth_name", "VAULT_KUBE_AUTH_NAME", "f", "e", "file"},
	{"transit", "kube_token_file", "", "/f", "", "file"},
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

	{"vaultkv", "address", "VAULT_ADDR", "https://f", "https://e", "file"},
	{"vaultkv", "address", "BAO_ADDR", "https://f", "unix:///e", "file"},
	{"vaultkv", "key_path", "KMS_VAULT_KEY_PATH", "kv/data/f", "kv/data/e", "variable"},
	{"vaultkv", "kube_auth_role", "VAULT_KUBE_AUTH_ROLE", "f", "e", "file"},
	{"vaultkv", "kube_auth_name", "VAULT_KUBE_AUTH_NAME", "f", "e", "file"},
	{"vaultkv", "kube_token_file", "", "/f", "", "file"},
	{"vaultkv", "token", "VAULT_TOKEN", "f", "e", "file"},
	{"vaultkv", "token", "BAO_TOKEN", "f", "e", "file"},
	{"vaultkv", "token", "VAULT_TOKEN_FILE", "f", "e", "file"},
	{"vaultkv", "token", "BAO_TOKEN_FILE", "f", "e", "file"},
	{"vaultkv", "namespace", "VAULT_NAMESPACE", "f", "e", "file"},
	{"vaultkv", "namespace", "BAO_NAMESPACE", "f", "e", "file"},
	{"vaultkv", "tls_ca_cert", "VAULT_CACERT", "/f", "/e", "file"},
	{"vaultkv", "tls_ca_cert", "BAO_CACERT", "/f", "/e", "file"},
	{"vaultkv", "tls_ca_path", "VAULT_CAPATH", "/f", "/e", "file"},
	{"vaultkv", "tls_ca_path", "BAO_CAPATH", "/f", "/e", "file"},
	{"vaultkv", "tls_client_cert", "VAULT_CLIENT_CERT", "/f", "/e", "file"},
	{"vaultkv", "tls_client_cert", "BAO_CLIENT_CERT", "/f", "/e", "file"},
	{"vaultkv", "tls_client_key", "VAULT_CLIENT_KEY", "/f", "/e", "file"},
	{"vaultkv", "tls_client_key", "BAO_CLIENT_KEY", "/f", "/e", "file"},
	{"vaultkv", "tls_server_name", "VAULT_TLS_SERVER_NAME", "f", "e", "file"},
	{"vaultkv", "tls_server_name", "BAO_TLS_SERVER_NAME", "f", "e", "file"},
	{"vaultkv", "tls_skip_verify", "VAULT_SKIP_VERIFY", "false", "true", "file"},
	{"vaultkv", "tls_skip_verify", "BAO_SKIP_VERIFY", "true", "false", "file"},

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

// Variables that mean the same must agree, with the name of a seal at their end as without; the region's, and a file's
// and its twin's, differ with a warning only. Every pair of every row of the table is tried, general variables and steering ones.
func TestTwins(t *testing.T) {
	pairs := 0
	for _, typ := range sealTypes() {
		for _, s := range rows(sealScope(typ)) {
			i := slices.IndexFunc(precedence, func(r struct{ typ, key, variable, file, env, wins string }) bool {
				return r.typ == typ && r.key == s.key
			})
			one, two := precedence[i].file, precedence[i].env
			for _, names := range [][]string{s.steer, s.env} {
				for i, first := range names {
					for _, second := range names[i+1:] {
						pairs++
						for _, suffix := range []string{"", "_the_seal"} {
							if suffix != "" && !slices.Equal(names, s.steer) {
								continue // only what steers speaks to a seal by its name
							}
							for _, agree := range []bool{true, false} {
								dir := t.TempDir()
								values := maps.Clone(complete[typ])
								delete(values, s.key)
								values["name"] = "the-seal"
								if p := partners[s.key]; p != "" && !strings.HasPrefix(s.key, "tls_") {
									values[p] = keyB
								}
								other := one
								if !agree {
									other = two
								}
								env := []string{"STATE_DIRECTORY=/x"}
								for name, v := range map[string]string{first: one, second: other} {
									if strings.HasSuffix(name, "_FILE") {
										file := filepath.Join(dir, name)
										write(t, file, v)
										v = file
									}
									env = append(env, name+suffix+"="+v)
								}
								if p := partners[s.key]; strings.HasPrefix(p, "tls_") {
									env = append(env, map[string]string{"tls_client_key": "VAULT_CLIENT_KEY=/p", "tls_client_cert": "VAULT_CLIENT_CERT=/p"}[p])
								}
								c, err := Load([]string{sealFile(t, dir, typ, values)}, envOf(env...))
								what := fmt.Sprintf("%s and %s", first+suffix, second+suffix)
								switch {
								case agree && (err != nil || len(c.Warnings) > 0 || c.Seals[0].Get(s.key) != one):
									t.Errorf("%s agree: %v, %v", what, c, err)
								case !agree && second == "AWS_ENDPOINT_URL": // for every service of AWS, the first for KMS alone
									if err != nil || len(c.Warnings) > 0 || c.Seals[0].Get(s.key) != one {
										t.Errorf("%s differ: %v, %v", what, c, err)
									}
								case !agree && s.firstWins:
									if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], what+" differ") || c.Seals[0].Get(s.key) != one {
										t.Errorf("%s differ: %v, %v", what, c, err)
									}
								case !agree && first+"_FILE" == second: // terraform-backend's rule
									won := first + suffix + " has no effect: " + second + suffix + " is set to something else and wins"
									if err != nil || len(c.Warnings) != 1 || !strings.HasSuffix(c.Warnings[0], won) || c.Seals[0].Get(s.key) != two {
										t.Errorf("%s differ: %v, %v", what, c, err)
									}
								case !agree && (err == nil || err.Error() != "environment: "+what+" mean the same and differ: unset one of them"):
									t.Errorf("%s differ: %v", what, err)
								}
							}
						}
					}
				}
			}
		}
	}
	if pairs < 20 {
		t.Errorf("only %d pairs", pairs)
	}
}

// The endpoints that every AWS SDK heeds can be turned off, as in those; sealkeep's own cannot.
func TestIgnoredEndpoints(t *testing.T) {
	for _, c := range []struct{ ignore, file, own, want string }{
		{"true", "", "", ""},
		{"TRUE", "", "", ""},
		{"false", "", "", "https://kms.example.com"},
		{"", "", "", "https://kms.example.com"},
		{"true", "https://file.example.com", "", "https://file.example.com"},
		{"true", "", "https://own.example.com", "https://own.example.com"},
	} {
		dir := t.TempDir()
		file := sealFile(t, dir, "awskms", map[string]string{"kms_key_id": "alias/x", "endpoint": c.file})
		got, err := Load([]string{file}, envOf("STATE_DIRECTORY="+dir, "AWS_ENDPOINT_URL_KMS=https://kms.example.com", "AWS_ENDPOINT_URL=https://all.example.com",
			"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="+c.ignore, "AWS_KMS_ENDPOINT="+c.own))
		if err != nil || len(got.Warnings) > 0 || got.Seals[0].Get("endpoint") != c.want {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
}

// With two seals, a steering variable with a name at its end wins over the file of that seal, is silent for the other,
// and without a name is refused.
func TestSuffixes(t *testing.T) {
	tried := 0
	for _, r := range precedence {
		if r.wins != "variable" {
			continue
		}
		tried++
		t.Run(r.variable, func(t *testing.T) {
			dir := t.TempDir()
			name := filepath.Join(dir, "keep.hcl")
			var b strings.Builder
			for _, seal := range []string{"near-by", "far"} {
				values := maps.Clone(complete[r.typ])
				values["name"], values[r.key] = seal, r.file
				if p := partners[r.key]; p != "" {
					values[p] = keyB
				}
				fmt.Fprintf(&b, "seal %q {\n", r.typ)
				for k, v := range values {
					fmt.Fprintf(&b, "  %s = %q\n", k, v)
				}
				b.WriteString("}\n")
			}
			write(t, name, b.String())
			v := r.env
			if strings.HasSuffix(r.variable, "_FILE") {
				v = filepath.Join(dir, "value")
				write(t, v, r.env)
			}
			c, err := Load([]string{name}, envOf("STATE_DIRECTORY=/x", r.variable+"_near_by="+v))
			if err != nil {
				t.Fatal(err)
			}
			near, far := c.Seals[0].Params[r.key], c.Seals[1].Params[r.key]
			if near.Value != r.env || !strings.HasPrefix(near.Origin, r.variable+"_near_by") || far.Value != r.file || !strings.HasPrefix(far.Origin, name) {
				t.Errorf("near-by has %v, far has %v", near, far)
			}
			if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], r.variable+"_near_by is set to something else and wins") {
				t.Errorf("warnings %q", c.Warnings)
			}
			_, err = Load([]string{name}, envOf("STATE_DIRECTORY=/x", r.variable+"="+v))
			want := fmt.Sprintf("environment: %[1]s does not say which seal it means, near-by and far are enabled: unset it, or set %[1]s_near_by or %[1]s_far", r.variable)
			if err == nil || err.Error() != want {
				t.Errorf("without a name: %v", err)
			}
		})
	}
	if tried < 15 {
		t.Errorf("only %d variables", tried)
	}
}

// The variables that choose the type: alone, over a block, for one of several, and as twins.
func TestSealType(t *testing.T) {
	static := []string{"BAO_STATIC_SEAL_CURRENT_KEY=" + keyA, "BAO_STATIC_SEAL_CURRENT_KEY_ID=1", "STATE_DIRECTORY=/x"}
	block := sealFile(t, t.TempDir(), "awskms", complete["awskms"])
	two := filepath.Join(t.TempDir(), "two.hcl")
	write(t, two, "seal \"awskms\" {\n  name = \"a-b\"\n  kms_key_id = \"alias/x\"\n}\nseal \"awskms\" {\n  kms_key_id = \"alias/y\"\n}\n")
	for _, r := range []struct{ variable, value string }{{"VAULT_SEAL_TYPE", "static"}, {"BAO_SEAL_TYPE", "static"}, {"KMS_BACKEND", "local"}} {
		set := r.variable + "=" + r.value
		c, err := Load(nil, envOf(append(static, set)...))
		if err != nil || len(c.Warnings) > 0 || c.Seals[0].Type != "static" || c.Seals[0].At != "environment" {
			t.Errorf("%s alone: %v, %v", set, c, err)
		}
		c, err = Load([]string{block}, envOf(append(static, set)...))
		want := block + ":1: " + r.variable + "=static replaces this block and drops kms_key_id: to use the block, unset " + r.variable
		if err != nil || len(c.Warnings) != 1 || c.Warnings[0] != want || c.Seals[0].Type != "static" || c.Seals[0].Name != "static" {
			t.Errorf("%s over a block: %v, %v", set, c, err)
		}
		named := []string{"STATE_DIRECTORY=/x", r.variable + "_a_b=" + r.value, "BAO_STATIC_SEAL_CURRENT_KEY_a_b=" + keyA, "BAO_STATIC_SEAL_CURRENT_KEY_ID_a_b=1"}
		c, err = Load([]string{two}, envOf(named...))
		if err != nil || c.Seals[0].Type != "static" || c.Seals[0].Name != "a-b" || c.Seals[1].Type != "awskms" || len(c.Warnings) != 1 {
			t.Errorf("%s for one of two: %v, %v", set, c, err)
		}
		if _, err = Load([]string{two}, envOf(append(static, set)...)); err == nil || !strings.Contains(err.Error(), r.variable+" does not say which seal it means, a-b and awskms are enabled") {
			t.Errorf("%s for neither of two: %v", set, err)
		}
		for _, other := range []string{"VAULT_SEAL_TYPE", "BAO_SEAL_TYPE", "KMS_BACKEND"} {
			if other == r.variable {
				continue
			}
			if _, err := Load(nil, envOf(append(static, set, other+"=transit")...)); err == nil || !strings.Contains(err.Error(), "mean the same and differ") || !strings.Contains(err.Error(), other) {
				t.Errorf("%s and %s=transit: %v", set, other, err)
			}
		}
		if c, err := Load([]string{block}, envOf("STATE_DIRECTORY=/x", r.variable+"=")); err != nil || c.Seals[0].Type != "awskms" {
			t.Errorf("%s set and empty: %v", r.variable, err)
		}
	}
}
