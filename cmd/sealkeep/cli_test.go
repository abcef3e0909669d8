package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/api"
)

// runLine runs a command line without a process of its own.
func runLine(t *testing.T, env map[string]string, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	lookup := func(k string) (string, bool) { v, ok := env[k]; return v, ok }
	code = run(t.Context(), args, lookup, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func TestEveryCommandHasHelp(t *testing.T) {
	seen := map[string]bool{}
	for _, cmd := range commands() {
		if seen[cmd.name] {
			t.Errorf("%s is there twice", cmd.name)
		}
		seen[cmd.name] = true
		code, out, errs := runLine(t, nil, "", append(strings.Fields(cmd.name), "-h")...)
		if code != 0 || errs != "" || !strings.HasPrefix(out, "Usage: sealkeep "+cmd.name+" [flags]") || len(cmd.long) < 20 {
			t.Errorf("%s -h: code %d, %q, %q", cmd.name, code, out, errs)
		}
		if len(strings.Fields(cmd.name)) > 3 {
			t.Errorf("%s has more words than dispatch looks at", cmd.name)
		}
		f, _ := new(cli).flags(cmd)
		f.VisitAll(func(fl *flag.Flag) {
			if fl.Usage == "" {
				t.Errorf("%s -%s has no help text", cmd.name, fl.Name)
			}
		})
		if cmd.short == "" || strings.HasSuffix(cmd.short, ".") {
			t.Errorf("%s: %q is not a line for a list", cmd.name, cmd.short)
		}
		if _, all, _ := runLine(t, nil, "", "help"); !strings.Contains(all, "    "+cmd.name) {
			t.Errorf("%s is not listed", cmd.name)
		}
	}
}

// TestTypeHelp asserts that the commands which enable types list them all.
func TestTypeHelp(t *testing.T) {
	for _, typ := range types() {
		kind := map[api.Kind]string{api.Secrets: "secrets", api.Login: "auth"}[typ.Kind]
		if kind == "" { // nobody enables it
			continue
		}
		if _, out, _ := runLine(t, nil, "", kind, "enable", "-h"); !strings.Contains(out, "\n    "+typ.Name) || !strings.Contains(out, "  "+typ.Help+"\n") {
			t.Errorf("%s enable -h does not list %s, %s", kind, typ.Name, typ.Help)
		}
	}
}

func TestPositional(t *testing.T) {
	cmd := command{name: "kv put"}
	for _, tt := range []struct {
		args []string
		want []string // nil: an error
	}{
		{[]string{"a", "k=v"}, []string{"a", "k=v"}},
		{[]string{"-x=1", "a", "-"}, []string{"a", "-"}},
		{[]string{"--x", "1", "a"}, []string{"a"}},
		{[]string{"a", "-x=1"}, nil},
		{[]string{"a", "k=v", "--x"}, nil},
		{[]string{"-x=1", "--", "a", "-b"}, []string{"a", "-b"}},
		{[]string{"a", "--", "-b"}, []string{"a", "-b"}},
	} {
		f := flag.NewFlagSet("", flag.ContinueOnError)
		f.SetOutput(io.Discard)
		f.String("x", "", "")
		if err := f.Parse(tt.args); err != nil {
			t.Fatal(err)
		}
		got, err := positional(cmd, tt.args, f)
		if (err != nil) != (tt.want == nil) || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %q, %v", tt.args, got, err)
		}
	}
}

func TestData(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f.json")
	if err := os.WriteFile(file, []byte(`{"n": 12345678901234567890, "s": "x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args        []string
		stdin, want string // want "": an error
	}{
		{args: []string{"a=b=c", "d="}, want: `{"a":"b=c","d":""}`},
		{args: []string{"a=1", "a=2", "a=3"}, want: `{"a":["1","2","3"]}`},
		{args: []string{"@" + file}, want: `{"n":12345678901234567890,"s":"x"}`},
		{args: []string{"f=@" + file}, want: `{"f":"{\"n\": 12345678901234567890, \"s\": \"x\"}"}`},
		{args: []string{`a=\@b`}, want: `{"a":"@b"}`},
		{args: []string{"-", "b=1"}, stdin: `{"a": [1]}`, want: `{"a":[1],"b":"1"}`},
		{args: []string{"a=-"}, stdin: "two\nlines\n", want: `{"a":"two\nlines\n"}`},
		{args: []string{"a=-", "b=-"}, stdin: "x"},
		{args: []string{"-"}, stdin: `{"a": 1} {"b": 2}`},
		{args: []string{"-"}, stdin: `null`},
		{args: []string{"-"}, stdin: `[1]`},
		{args: []string{"=b"}},
		{args: []string{"a"}},
		{args: []string{"a=@" + filepath.Join(dir, "absent")}},
	} {
		c := &cli{Context: t.Context(), stdin: strings.NewReader(tt.stdin)}
		got, err := c.data(tt.args)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%q: %s, and no error", tt.args, text(got))
			}
			continue
		}
		if err != nil || text(got) != tt.want {
			t.Errorf("%q: %s, %v; want %s", tt.args, text(got), err, tt.want)
		}
	}
}

// The widths are those of Vault's documentation.
func TestTables(t *testing.T) {
	for _, tt := range []struct {
		text  string
		width int
		want  string
	}{
		{"Secret Path", len("secret/data/creds"), "== Secret Path =="},
		{"Secret Path", len("shared/data/dev/square-api"), "======= Secret Path ======="},
		{"Metadata", len("custom_metadata    Value"), "======= Metadata ======="},
		{"Metadata", len("delete_version_after    Value"), "========== Metadata =========="},
		{"Data", len("passcode    Value"), "====== Data ======"},
	} {
		if got := headline(tt.text, tt.width); got != tt.want {
			t.Errorf("%s, %d: %q, want %q", tt.text, tt.width, got, tt.want)
		}
	}
	var b bytes.Buffer
	table(&b, [][]string{{"Key", "Value"}, {"naïve", "1"}, {"", "2"}})
	if want := "Key      Value\n---      -----\nnaïve    1\n         2\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestClientSettings(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".vault-token"), []byte("stored\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		env                  map[string]string
		address, token, fail string
	}{
		{env: map[string]string{}, address: defaultAddress, token: "stored"},
		{env: map[string]string{"VAULT_ADDR": "https://v:1", "VAULT_TOKEN": "v"}, address: "https://v:1", token: "v"},
		{env: map[string]string{"VAULT_ADDR": "https://v:1", "BAO_ADDR": "https://b:1", "BAO_TOKEN": "b", "VAULT_TOKEN": "v"}, address: "https://b:1", token: "b"},
		{env: map[string]string{"VAULT_ADDR": "https://v:1", "BAO_ADDR": ""}, address: "https://v:1", token: "stored"},
		{env: map[string]string{"VAULT_ADDR": "unix:///run/x.sock"}, address: "unix:///run/x.sock", token: "stored"},
		{env: map[string]string{"VAULT_ADDR": "ftp://x"}, fail: "the address"},
		{env: map[string]string{"VAULT_TOKEN": "with\nnewline"}, fail: "the token has characters"},
		{env: map[string]string{"VAULT_CLIENT_TIMEOUT": "soon"}, fail: "client timeout"},
		{env: map[string]string{"VAULT_SKIP_VERIFY": "perhaps"}, fail: "VAULT_SKIP_VERIFY"},
		{env: map[string]string{"VAULT_CLIENT_CERT": "x.pem"}, fail: "together"},
		{env: map[string]string{"VAULT_CACERT": filepath.Join(home, ".vault-token")}, fail: "no certificate"},
		{env: map[string]string{"VAULT_CAPATH": t.TempDir()}, fail: "is empty"},
	} {
		tt.env["HOME"] = home
		c := &cli{lookup: func(k string) (string, bool) { v, ok := tt.env[k]; return v, ok }}
		a, err := c.api()
		if tt.fail != "" {
			if err == nil || !strings.Contains(err.Error(), tt.fail) {
				t.Errorf("%v: %v", tt.env, err)
			}
			continue
		}
		if err != nil || a.address != tt.address || a.token != tt.token {
			t.Errorf("%v: %+v, %v", tt.env, a, err)
		}
	}
}

func TestDuration(t *testing.T) {
	for s, want := range map[string]string{"30": "30s", "90s": "1m30s", "2m": "2m0s", "0": "0s"} {
		if d, err := duration(s); err != nil || d.String() != want {
			t.Errorf("%s: %v, %v", s, d, err)
		}
	}
	for _, s := range []string{"", "-1", "-1s", "x", "99999999999"} {
		if d, err := duration(s); err == nil {
			t.Errorf("%s: %v, and no error", s, d)
		}
	}
}

func TestBuildIsASemanticVersion(t *testing.T) {
	v, _ := build()
	if !regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`).MatchString(v) {
		t.Errorf("%q", v)
	}
}

func TestWriteFileReplacesOrLeaves(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	for _, content := range []string{"one", "two"} {
		if err := writeFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != content {
			t.Errorf("%q, %v", b, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	folder := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(folder, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(folder, "x", 0o600); err == nil {
		t.Error("a folder was replaced")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".sealkeep-*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestClearEnv(t *testing.T) {
	for _, name := range []string{"VAULT_TOKEN", "BAO_TOKEN", "VAULT_SEAL_TYPE", "VAULT_CLIENT_TIMEOUT", "VAULT_MAX_RETRIES", "AWS_REGION"} {
		t.Setenv(name, "x")
	}
	lookup := snapshot(os.Environ())
	clearEnv()
	for name, want := range map[string]string{"VAULT_TOKEN": "", "BAO_TOKEN": "", "VAULT_SEAL_TYPE": "",
		"VAULT_CLIENT_TIMEOUT": "3", "VAULT_MAX_RETRIES": "0", "AWS_REGION": "x"} {
		if got := os.Getenv(name); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
		if got, _ := lookup(name); got != "x" {
			t.Errorf("%s is %q in the snapshot", name, got)
		}
	}
}
