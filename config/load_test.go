package config

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// secretMark stands in every secret of testdata. It must not be in any message.
const secretMark = "HUSH"

// Every file in testdata is loaded on its own, in the environment of its "# env NAME=value" lines. Its mistakes are
// the golden file .err, its warnings .warn; one of them is missing when there are none. A file named good_* has no
// mistakes; one named vault_* is as Vault's or OpenBao's users have it, and its golden files say how far it comes.
func TestGolden(t *testing.T) {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range corpus(t, "testdata") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			env := []string{"TESTDATA=" + dir}
			for line := range strings.Lines(string(src)) {
				if v, ok := strings.CutPrefix(strings.TrimSpace(line), "# env "); ok {
					env = append(env, strings.ReplaceAll(v, "$TESTDATA", dir))
				}
			}
			var mistakes, warnings string
			c, err := Load([]string{file}, envOf(env...))
			if err != nil {
				mistakes = err.Error() + "\n"
				if e, ok := errors.AsType[*Error](err); !ok || len(e.Mistakes) == 0 || c != nil {
					t.Errorf("%T with %d mistakes and configuration %v", err, len(e.Mistakes), c)
				}
			} else if len(c.Warnings) > 0 {
				warnings = strings.Join(c.Warnings, "\n") + "\n"
			}
			name := filepath.Base(file)
			if good := strings.HasPrefix(name, "good_"); good != (err == nil) && !strings.HasPrefix(name, "vault_") {
				t.Errorf("good is %t, got %v", good, err)
			}
			golden(t, file+".err", strings.ReplaceAll(mistakes, dir, "$TESTDATA"))
			golden(t, file+".warn", strings.ReplaceAll(warnings, dir, "$TESTDATA"))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if strings.Contains(got, secretMark) {
		t.Errorf("a secret is in the message:\n%s", got)
	}
	if *update {
		if got == "" {
			os.Remove(name)
		} else if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// corpus lists the configurations of a folder, and fails when there are none.
func corpus(t testing.TB, dir string) []string {
	t.Helper()
	hcl, _ := filepath.Glob(dir + "/*.hcl")
	json, _ := filepath.Glob(dir + "/*.json")
	if files := append(hcl, json...); len(files) >= 3 {
		return files
	}
	t.Fatalf("no corpus in %s", dir)
	return nil
}

func TestPaths(t *testing.T) {
	dir := t.TempDir()
	empty := t.TempDir()
	write(t, filepath.Join(dir, "b.hcl"), "seal \"awskms\" {\n  name = \"b\"\n  kms_key_id = \"alias/b\"\n}\n")
	write(t, filepath.Join(dir, "a.json"), `{"seal": {"awskms": {"name": "a", "kms_key_id": "alias/a"}}, "storage": {"bbolt": {"path": "/a.db"}}}`)
	write(t, filepath.Join(dir, ".swap.hcl"), "not HCL")
	write(t, filepath.Join(dir, "keep.hcl.bak"), "not HCL")
	more := filepath.Join(t.TempDir(), "keep.conf")
	write(t, more, "log_level = \"debug\"\n")

	c, err := Load([]string{dir, more, filepath.Join(dir, "b.hcl")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Seals) != 2 || c.Seals[0].Name != "a" || c.Seals[1].Name != "b" || c.LogLevel != "debug" || c.Storage.Path != "/a.db" {
		t.Errorf("%+v", c)
	}
	enough := envOf("VAULT_SEAL_TYPE=awskms", "AWSKMS_WRAPPER_KEY_ID=alias/x", "STATE_DIRECTORY=/state:/other")
	if c, err := Load([]string{empty}, enough); err != nil || c.Storage.Path != "/state/sealkeep.db" {
		t.Errorf("an empty folder with enough environment: %+v, %v", c, err)
	}
	for _, test := range []struct {
		paths []string
		env   func(string) (string, bool)
		want  []string
	}{
		{[]string{empty}, nil, []string{empty + ": no seal (there is no *.hcl and no *.json file here)", empty + ": no storage"}},
		{nil, nil, []string{"environment: no seal: ", "environment: no storage"}},
		{[]string{filepath.Join(dir, "missing.hcl")}, enough, []string{"missing.hcl: reading the configuration: no such file or directory"}},
		{[]string{more, dir, filepath.Join(empty, "x")}, nil, []string{"x: reading the configuration: no such file"}},
	} {
		_, err := Load(test.paths, test.env)
		e, ok := errors.AsType[*Error](err)
		if !ok || len(e.Mistakes) != len(test.want) {
			t.Errorf("%q: got %v, want %q", test.paths, err, test.want)
			continue
		}
		for i, want := range test.want {
			if !strings.Contains(e.Mistakes[i], want) {
				t.Errorf("%q: got %q, want %q", test.paths, e.Mistakes[i], want)
			}
		}
	}
	write(t, filepath.Join(dir, "c.hcl"), "storage \"bbolt\" {\n  path = \"/c.db\"\n}\nlog_level = \"warn\"\n")
	if _, err := Load([]string{dir, more}, nil); err == nil || !strings.Contains(err.Error(), "c.hcl:1: storage is already set at "+filepath.Join(dir, "a.json")+":1") ||
		!strings.Contains(err.Error(), "keep.conf:1: log_level is already set at "+filepath.Join(dir, "c.hcl")+":4") {
		t.Errorf("set twice: %v", err)
	}
}

// Where a value came from, and what it lost on the way.
func TestIndirection(t *testing.T) {
	dir := t.TempDir()
	raw := "\xff\x00" + strings.Repeat("r", 29) + "\n" // 32 bytes, the newline is one of them
	write(t, filepath.Join(dir, "raw"), raw)
	write(t, filepath.Join(dir, "hex"), hex.EncodeToString([]byte(keyA))+"\n")
	write(t, filepath.Join(dir, "token"), "0123456789012345678901234567890\n") // 32 bytes, the newline is none of them
	write(t, filepath.Join(dir, "bytes"), "\xff\xfe")
	write(t, filepath.Join(dir, "crlf"), "token\r\n")
	write(t, filepath.Join(dir, "two"), "token\n\n")
	keep := filepath.Join(dir, "keep.hcl")
	env := envOf("STATE_DIRECTORY=/x", "CREDENTIALS_DIRECTORY="+dir, "TOKEN=secret", "DIR="+dir)
	for _, test := range []struct {
		typ, key, expr string
		value, via     string // value "" is an error
	}{
		{"static", "current_key", `"file://` + dir + `/raw"`, raw, "file://" + dir + "/raw"},
		{"static", "current_key", `file("` + dir + `/raw")`, base64.StdEncoding.EncodeToString([]byte(raw)), `file("` + dir + `/raw")`},
		{"static", "current_key", `credential("raw")`, base64.StdEncoding.EncodeToString([]byte(raw)), `credential("raw")`},
		{"static", "current_key", `credential("hex")`, hex.EncodeToString([]byte(keyA)), `credential("hex")`},
		{"transit", "token", `credential("token")`, "0123456789012345678901234567890", `credential("token")`},
		{"transit", "token", `"file://${env("DIR")}/crlf"`, "token", "file://" + dir + "/crlf"},
		{"transit", "token", `"file://` + dir + `/two"`, "", ""},
		{"transit", "token", `env("TOKEN")`, "secret", `env("TOKEN")`},
		{"transit", "token", `"env://TOKEN"`, "secret", "env://TOKEN"},
		{"transit", "token", `credential("../token")`, "", ""},
		{"transit", "token", `credential("raw")`, "YWJj", ""},
		{"transit", "key_name", `"env://TOKEN"`, "env://TOKEN", ""},
		{"transit", "key_name", `17`, "17", ""},
		{"transit", "key_name", `1e30`, "1000000000000000000000000000000", ""},
		{"transit", "key_name", `-0.5`, "-0.5", ""},
		{"transit", "key_name", `1e40`, "", ""},
		{"transit", "key_name", `"k${1e40}"`, "", ""},
		{"transit", "key_name", `1 + 1`, "", ""},
		{"transit", "key_name", `[for x in ["a"]: x][0]`, "", ""},
		{"transit", "key_name", `"%{for x in ["a"]}${x}%{endfor}"`, "", ""},
		{"transit", "key_name", `true ? "a" : "b"`, "a", ""},
		{"transit", "key_name", `credential("bytes")`, "", ""},
		{"transit", "namespace", `null`, "null", ""},
		{"transit", "disable_renewal", `1`, "true", ""},
		{"transit", "disable_renewal", `"true"`, "true", ""},
		{"transit", "disable_renewal", `false`, "false", ""},
	} {
		values := maps.Clone(complete[test.typ])
		delete(values, test.key)
		sealFile(t, dir, test.typ, values)
		src, err := os.ReadFile(keep)
		if err != nil {
			t.Fatal(err)
		}
		write(t, keep, strings.Replace(string(src), "{\n", "{\n  "+test.key+" = "+test.expr+"\n", 1))
		c, err := Load([]string{keep}, env)
		switch {
		case test.value == "" && err == nil:
			t.Errorf("%s = %s is accepted", test.key, test.expr)
		case test.value == "":
		case err != nil:
			t.Errorf("%s = %s: %v", test.key, test.expr, err)
		default:
			want := Param{test.value, keep + ":2"}
			if test.via != "" {
				want.Origin += " (" + test.via + ")"
			}
			if test.value == "null" {
				want = Param{}
			}
			if test.value == "YWJj" { // 32 bytes that are no text are taken for a key
				want = Param{base64.StdEncoding.EncodeToString([]byte(raw)), keep + ":2 (" + `credential("raw")` + ")"}
			}
			if got := c.Seals[0].Params[test.key]; got != want {
				t.Errorf("%s = %s: got %q, want %q", test.key, test.expr, got, want)
			}
		}
	}
}

// The variables of terraform-backend are enough.
func TestTerraformBackend(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	write(t, file, base64.StdEncoding.EncodeToString([]byte(keyA))+"\n")
	c, err := Load(nil, envOf("STATE_DIRECTORY=/x", "KMS_BACKEND=local", "KMS_KEY_FILE="+file))
	if err != nil {
		t.Fatal(err)
	}
	if id := c.Seals[0].Params["current_key_id"]; id != (Param{"ceaf98e264ddb141", "default"}) || c.Seals[0].Type != "static" {
		t.Errorf("%s seal, key ID %v", c.Seals[0].Type, id)
	}
	if key, err := DecodeKey(c.Seals[0].Get("current_key")); err != nil || string(key) != keyA {
		t.Errorf("%x, %v", key, err)
	}
	if want := "KMS_KEY_FILE (file://" + file + ")"; c.Seals[0].Params["current_key"].Origin != want {
		t.Errorf("from %s, want %s", c.Seals[0].Params["current_key"].Origin, want)
	}
	for _, test := range []struct {
		env  []string
		want string // the one seal, or a part of the mistakes
	}{
		{[]string{"KMS_BACKEND=local", "KMS_KEY=" + keyA, "BAO_STATIC_SEAL_CURRENT_KEY_ID=7"}, "static 7 "},
		{[]string{"KMS_BACKEND=local", "KMS_KEY=" + keyA, "VAULT_SEAL_TYPE=static"}, "static ceaf98e264ddb141 "},
		{[]string{"KMS_BACKEND=transit", "KMS_TRANSIT_ENGINE=transit", "KMS_TRANSIT_KEY=k", "VAULT_ADDR=https://v", "VAULT_TOKEN=t"}, "transit  k t"},
		{[]string{"KMS_BACKEND=local"}, `seal "static" needs current_key`},
		{[]string{"KMS_BACKEND=local", "BAO_STATIC_SEAL_CURRENT_KEY=" + keyA}, `seal "static" needs current_key_id`},
		{[]string{"KMS_BACKEND=local", "KMS_KEY_FILE=/nowhere/key"}, "KMS_KEY_FILE: reading the secret"},
		{[]string{"KMS_BACKEND=local", "VAULT_SEAL_TYPE=transit"}, "VAULT_SEAL_TYPE and KMS_BACKEND mean the same and differ"},
		{[]string{"KMS_BACKEND=local"}, "sealkeep keygen makes one"},
		{[]string{"KMS_BACKEND=vault", "KMS_VAULT_KEY_PATH=kv/data/x", "VAULT_ADDR=https://v", "VAULT_TOKEN=t"}, "vaultkv   t kv/data/x"},
		{[]string{"KMS_BACKEND=vault", "KMS_VAULT_KEY_PATH=kv/data/x", "VAULT_ADDR=https://v", "VAULT_TOKEN=t", "VAULT_KUBE_AUTH_ROLE=r"}, "vaultkv   t kv/data/x r"},
		{[]string{"KMS_BACKEND=vault", "KMS_VAULT_KEY_PATH=kv/data/x", "VAULT_ADDR=https://v", "VAULT_KUBE_AUTH_ROLE=r", "VAULT_KUBE_AUTH_NAME=k8s"}, "vaultkv    kv/data/x r k8s"},
		{[]string{"KMS_BACKEND=transit", "KMS_TRANSIT_ENGINE=transit", "KMS_TRANSIT_KEY=k", "VAULT_ADDR=https://v", "VAULT_KUBE_AUTH_ROLE=r"}, "transit  k   r"},
		{[]string{"KMS_BACKEND=vault", "KMS_VAULT_KEY_PATH=kv/data/x", "VAULT_ADDR=https://v"}, `seal "vaultkv" needs token: set VAULT_TOKEN (orphan, periodic, with read on key_path; else kube_auth_role)`},
		{[]string{"KMS_BACKEND=vault", "VAULT_ADDR=https://v", "VAULT_TOKEN=t"}, `seal "vaultkv" needs key_path: set KMS_VAULT_KEY_PATH`},
		{[]string{"KMS_BACKEND=vault", "KMS_VAULT_KEY_PATH=kv/x", "VAULT_ADDR=https://v", "VAULT_TOKEN=t"}, "write kv/data/NAME for what Vault's command line calls kv/NAME"},
		{[]string{"KMS_BACKEND=gcp"}, "KMS_BACKEND=gcp does not exist here: write local (a key in KMS_KEY or KMS_KEY_FILE), vault (one in KMS_VAULT_KEY_PATH) or transit"},
		{[]string{"KMS_KEY=" + keyA}, "no seal (KMS_KEY set, but not VAULT_SEAL_TYPE)"},
	} {
		c, err := Load(nil, envOf(append(test.env, "STATE_DIRECTORY=/x")...))
		if err == nil {
			s := c.Seals[0]
			said := []string{s.Type}
			for _, key := range []string{"current_key_id", "key_name", "token", "key_path", "kube_auth_role", "kube_auth_name"} {
				said = append(said, s.Get(key))
			}
			err = errors.New(strings.Join(said, " "))
			if len(c.Warnings) > 0 {
				t.Errorf("%q: warnings %q", test.env, c.Warnings)
			}
		}
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v, want %s", test.env, err, test.want)
		}
	}
	c, err = Load(nil, envOf("STATE_DIRECTORY=/x", "VAULT_SEAL_TYPE=awskms", "VAULT_AWSKMS_SEAL_KEY_ID=alias/x", "KMS_VAULT_KEY_PATH=kv/data/x"))
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "KMS_VAULT_KEY_PATH has no effect") {
		t.Errorf("%v, %v", c, err)
	}
}

// A file wins over its twin, and a key that is missing is told apart from other mistakes.
func TestTerraformBackendKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	write(t, file, keyA)
	c, err := Load(nil, envOf("STATE_DIRECTORY=/x", "KMS_BACKEND=local", "KMS_KEY="+keyB, "KMS_KEY_FILE="+file))
	if err != nil || c.Seals[0].Get("current_key") != keyA || len(c.Warnings) != 1 || !strings.HasSuffix(c.Warnings[0], "KMS_KEY has no effect: KMS_KEY_FILE is set to something else and wins") {
		t.Errorf("%v, %v", c, err)
	}
	for _, test := range []struct {
		env  []string
		want bool
	}{
		{[]string{"KMS_BACKEND=local"}, true},
		{[]string{"KMS_BACKEND=local", "KMS_KEY=short"}, false},
		{[]string{"VAULT_SEAL_TYPE=static"}, false},
		{[]string{"KMS_BACKEND=vault"}, false},
		{nil, false},
	} {
		_, err := Load(nil, envOf(append(test.env, "STATE_DIRECTORY=/x")...))
		if e, ok := errors.AsType[*Error](err); !ok || e.NoKey != test.want {
			t.Errorf("%q: %v", test.env, err)
		}
	}
}

// In a block that asks for a login, somebody's token in the environment does not count; the block's own does.
func TestKubeAuth(t *testing.T) {
	for _, typ := range []string{"transit", "vaultkv"} {
		values := maps.Clone(complete[typ])
		values["kube_auth_role"] = "keep"
		delete(values, "token")
		file := sealFile(t, t.TempDir(), typ, values)
		c, err := Load([]string{file}, envOf("STATE_DIRECTORY=/x", "VAULT_TOKEN=t", "VAULT_KUBE_AUTH_NAME=k8s"))
		if err != nil || len(c.Warnings) > 0 || c.Seals[0].Get("token") != "" || c.Seals[0].Get("kube_auth_name") != "k8s" {
			t.Errorf("%s: %v, %v", typ, c, err)
		}
		values["token"] = "own"
		c, err = Load([]string{sealFile(t, t.TempDir(), typ, values)}, envOf("STATE_DIRECTORY=/x"))
		if err != nil || c.Seals[0].Get("token") != "own" {
			t.Errorf("%s: %v, %v", typ, c, err)
		}
	}
}

// With a recovery block no seal is needed; its recipients come in order.
func TestRecovery(t *testing.T) {
	for _, test := range []struct {
		text      string
		want      []string
		seals     int
		rootToken bool
	}{
		{`recovery "age" { recipients = ["age1one", "age1two"] }`, []string{"age1one", "age1two"}, 0, false},
		{"recovery \"age\" {\n  recipients = \"age1one\"\n}\nenable_generate_root = true\n", []string{"age1one"}, 0, true},
		{`recovery "age" { recipients = [env("ONE")] }`, []string{"age1env"}, 0, false},
		{`recovery "shares" {}`, nil, 0, false},
		{"recovery \"shares\" {}\nseal \"awskms\" { kms_key_id = \"alias/x\" }\nenable_generate_root = 1", nil, 1, true},
		{"recovery \"shares\" {}\nseal \"awskms\" {\n  kms_key_id = \"alias/x\"\n  disabled = true\n}", nil, 1, false},
	} {
		file := filepath.Join(t.TempDir(), "keep.hcl")
		write(t, file, test.text)
		c, err := Load([]string{file}, envOf("STATE_DIRECTORY=/x", "ONE=age1env"))
		if err != nil || len(c.Warnings) > 0 {
			t.Errorf("%s: %v, %v", test.text, c, err)
			continue
		}
		if !slices.Equal(c.Recovery, test.want) || len(c.Seals) != test.seals || c.EnableGenerateRoot != test.rootToken {
			t.Errorf("%s: %q, %d seals, %t", test.text, c.Recovery, len(c.Seals), c.EnableGenerateRoot)
		}
	}
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	values := maps.Clone(complete["transit"])
	values["token"] = "file://" + token
	keep := sealFile(t, dir, "transit", values)
	for _, want := range []string{"one", "two"} {
		write(t, token, want+"\n")
		c, err := Load([]string{keep}, envOf("STATE_DIRECTORY="+dir))
		if err != nil || c.Seals[0].Get("token") != want {
			t.Errorf("got %v, want token %s", err, want)
		}
	}
}

func TestListeners(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "keep.hcl")
	write(t, keep, `
seal "awskms" { kms_key_id = "alias/x" }
storage "bbolt" {
  path              = "/x.db"
  initial_mmap_size = 4096
}
listener "tcp" { address = "localhost:8200" }
listener "tcp" {
  address         = ":8201"
  tls_cert_file   = "/c.pem"
  tls_key_file    = "/k.pem"
  tls_min_version = "tls13"
  telemetry { unauthenticated_metrics_access = "1" }
}
listener "tcp" {
  address     = "0.0.0.0:8202"
  tls_disable = 1
}
listener "tcp" { address = "[::1]:8202" }
listener "tcp" {
  address         = "[::]:8203"
  tls_cert_file   = "/c.pem"
  tls_key_file    = "/k.pem"
  tls_min_version = "tls12"
}
listener "tcp" { address = "[::ffff:127.0.0.1]:8204" }
listener "unix" {
  address     = "/run/keep.sock"
  socket_user = 1000
}
pid_file = "/run/keep.pid"
`)
	c, err := Load([]string{keep}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Listener{
		{Type: "tcp", Address: "localhost:8200", TLSDisable: true, TLSMinVersion: tls.VersionTLS12, At: keep + ":7"},
		{Type: "tcp", Address: ":8201", TLSCertFile: "/c.pem", TLSKeyFile: "/k.pem", TLSMinVersion: tls.VersionTLS13, TLSClientAuth: tls.RequestClientCert, UnauthenticatedMetricsAccess: true, At: keep + ":8"},
		{Type: "tcp", Address: "0.0.0.0:8202", TLSDisable: true, TLSMinVersion: tls.VersionTLS12, At: keep + ":15"},
		{Type: "tcp", Address: "[::1]:8202", TLSDisable: true, TLSMinVersion: tls.VersionTLS12, At: keep + ":19"},
		{Type: "tcp", Address: "[::]:8203", TLSCertFile: "/c.pem", TLSKeyFile: "/k.pem", TLSMinVersion: tls.VersionTLS12, TLSClientAuth: tls.RequestClientCert, At: keep + ":20"},
		{Type: "tcp", Address: "[::ffff:127.0.0.1]:8204", TLSDisable: true, TLSMinVersion: tls.VersionTLS12, At: keep + ":26"},
		{Type: "unix", Address: "/run/keep.sock", TLSDisable: true, SocketMode: 0o600, SocketUser: "1000", At: keep + ":27"},
	}
	if !reflect.DeepEqual(c.Listeners, want) {
		t.Errorf("got\n%+v\nwant\n%+v", c.Listeners, want)
	}
	if c.Storage != (Storage{"/x.db", 4096}) || c.PIDFile != "/run/keep.pid" || c.LogLevel != "info" || c.LogFormat != "text" {
		t.Errorf("%+v", c)
	}
}

func TestEndpoints(t *testing.T) {
	for _, test := range []struct {
		listen, dial string
		same         bool
	}{
		{"127.0.0.1:8200", "https://localhost:8200", true},
		{"[::1]:8200", "http://127.0.0.1:8200/", true},
		{":8200", "http://[::1]:8200", true},
		{"0.0.0.0:443", "https://localhost.", true},
		{"127.0.0.1:8200", "http://0.0.0.0:8200", true},
		{"keep.example.com:8200", "https://Keep.Example.com:8200", true},
		{"10.0.0.1:8200", "https://[::ffff:10.0.0.1]:8200", true},
		{"/run/s.sock", "unix:///run/s.sock", true},
		{"127.0.0.1:8200", "https://localhost:8201", false},
		{"10.0.0.1:8200", "https://localhost:8200", false},
		{"0.0.0.0:8200", "https://vault.example.com:8200", false},
		{"/run/s.sock", "unix:///run/t.sock", false},
	} {
		if got := endpointOf(test.listen).same(endpointOf(test.dial)); got != test.same {
			t.Errorf("%s listens, %s is dialed: same is %t", test.listen, test.dial, got)
		}
	}
	for _, test := range []struct {
		a, b  string
		clash bool
	}{
		{"127.0.0.1:1", "localhost:1", true},
		{":1", "[::]:1", true},
		{"0.0.0.0:1", "10.0.0.1:1", true},
		{"[::]:1", "0.0.0.0:1", true},
		{"/s", "/s", true},
		{"0.0.0.0:1", "[::1]:1", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{"127.0.0.1:1", "127.0.0.1:2", false},
		{"/s", "/t", false},
	} {
		if a, b := endpointOf(test.a), endpointOf(test.b); a.clash(b) != test.clash || b.clash(a) != test.clash {
			t.Errorf("%s and %s clash: want %t", test.a, test.b, test.clash)
		}
	}
}

func TestDecodeKey(t *testing.T) {
	key := bytes.Repeat([]byte{0xfb, 0xff}, 16)
	for _, good := range []string{
		string(key), hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)), base64.StdEncoding.EncodeToString(key),
		base64.URLEncoding.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key),
	} {
		if got, err := DecodeKey(good); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%q: %x, %v", good, got, err)
		}
	}
	b64 := base64.StdEncoding.EncodeToString(key)
	for _, bad := range []string{
		"", "HUSH", strings.Repeat("HUSH", 16), strings.Repeat("HUSH", 11), b64[:43] + "x", b64[:42] + "=", b64[:42] + "\n=", b64 + "\n", string(key) + "\n",
	} {
		if _, err := DecodeKey(bad); err == nil || strings.Contains(err.Error(), secretMark) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The parser recurses. The largest file, all nesting, must end in a mistake and not in a stack overflow.
func TestDeepNesting(t *testing.T) {
	for _, open := range []string{"(", "\"${", "!"} {
		for _, name := range []string{"keep.hcl", "keep.json"} {
			name := filepath.Join(t.TempDir(), name)
			head := "log_level = "
			if filepath.Ext(name) == ".json" {
				head = `{"log_level": `
			}
			write(t, name, head+strings.Repeat(open, (maxFile-len(head))/len(open)))
			if _, err := Load([]string{name}, nil); err == nil {
				t.Errorf("%s of many %s is right", name, open)
			}
			write(t, name, head+strings.Repeat(open, maxFile/len(open)))
			if _, err := Load([]string{name}, nil); err == nil || !strings.Contains(err.Error(), "larger than 32 KiB") {
				t.Errorf("too large: %v", err)
			}
		}
	}
}

// FuzzLoad: no text makes the parser or the checks panic, every answer is complete, and no mistake is without a place.
func FuzzLoad(f *testing.F) {
	for _, dir := range []string{"testdata", "../examples"} {
		for _, file := range corpus(f, dir) {
			src, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src, filepath.Ext(file) == ".json")
		}
	}
	env := envOf("STATE_DIRECTORY=/x", "VAULT_TOKEN=HUSHHUSH", "VAULT_ADDR=https://vault.example.com", "HUSHED=HUSHvalue")
	f.Fuzz(func(t *testing.T, src []byte, json bool) {
		if len(src) > maxFile {
			return
		}
		name := "keep.hcl"
		if json {
			name = "keep.json"
		}
		l := &loader{env: env, paths: []string{name}, files: []string{name}, top: make(map[string]value)}
		l.parse(name, src)
		c, err := l.finish()
		if err != nil {
			for _, m := range err.(*Error).Mistakes {
				if !strings.HasPrefix(m, name+":") && !strings.HasPrefix(m, "environment: ") {
					t.Errorf("no place in %q", m)
				}
				if strings.Contains(m, "HUSHHUSH") && !bytes.Contains(src, []byte("HUSHHUSH")) {
					t.Errorf("a secret is in %q", m)
				}
			}
			return
		}
		if len(c.Seals) == 0 && len(l.recovery) == 0 || len(c.Listeners) == 0 || c.Storage.Path == "" {
			t.Errorf("%+v", c)
		}
		for _, s := range c.Seals {
			for _, row := range rows(sealScope(s.Type)) {
				if row.required && s.Get(row.key) == "" && (row.key != "token" || s.Get("kube_auth_role") == "") {
					t.Errorf("seal %s has no %s", s.Name, row.key)
				}
			}
		}
	})
}

// Only a socket that its owner and root alone can use may be the operator's.
func TestOperatorNeedsMode0600(t *testing.T) {
	c, err := Load([]string{"testdata/good_operator.hcl"}, envOf())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range c.Listeners {
		if !l.Operator || l.SocketMode != 0o600 {
			t.Errorf("%+v", l)
		}
	}
	if !slices.ContainsFunc(c.Settings, func(s Setting) bool { return s.Key == "operator" && s.Value == "true" }) {
		t.Errorf("config explain does not show it: %+v", c.Settings)
	}
}
