package access

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func mustParse(t testing.TB, name, text string) *Policy {
	t.Helper()
	p, err := ParsePolicy(name, text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}

func TestParsePolicy(t *testing.T) {
	for _, text := range []string{
		`
			name = "ignored"
			# a comment
			path "secret/*" {
			  capabilities = ["create", "read", "scan"] // another
			  comment = "for the web servers"
			  allowed_parameters = {
			    "TTL"  = ["1h", 2, true, ["a", "b"]]
			    other = []
			    "*"    = []
			  }
			  denied_parameters   = { "x" = [-1] }
			  required_parameters = ["TTL"]
			}
			path "/sys/+/x" { policy = "write" }`,
		`{"name": "ignored", "path": {
			"secret/*": {"capabilities": ["scan", "create", "read"], "comment": "${not} a template",
				"allowed_parameters": {"TTL": ["1h", 2, true, ["a", "b"]], "other": [], "*": []},
				"denied_parameters": {"x": [-1]}, "required_parameters": ["TTL"]},
			"/sys/+/x": {"policy": "write"}}}`,
	} {
		p := mustParse(t, "p", text)
		if p.Name != "p" || p.Text != text || len(p.rules) != 2 {
			t.Fatalf("%+v", p)
		}
		a := NewACL([]*Policy{p})
		for path, want := range map[string]string{
			"secret/a": "create read scan", "secret/": "create read scan", "secret": "scan",
			"sys/a/x": "create delete list read update", "/sys/a/x": "deny", "sys/a/b/x": "deny",
		} {
			if got := strings.Join(a.Capabilities(path).Names(), " "); got != want {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
		}
	}
	for _, text := range []string{"", "  \n# nothing\n", "{}", "path \"a\" {}"} {
		a := NewACL([]*Policy{mustParse(t, "empty", text)})
		if got := a.Capabilities("a").Names(); !slices.Equal(got, []string{"deny"}) {
			t.Errorf("%q allows %v", text, got)
		}
	}
}

// A mistake is told with its line and what to do.
func TestParsePolicyMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"\npath \"a\" {":                                                       "line 2: Unclosed configuration block",
		`path "a" { capabilities = ["reed"] }`:                                 `line 1: path "a": capabilities: there is no capability "reed": there are create, read, update, patch, delete, list, scan, sudo and deny`,
		`path "a" { capabilities = "read" }`:                                   `write a list of strings`,
		`path "a" { capabilities = [["read"]] }`:                               `write a list of strings`,
		`path "a" { capabilities = null }`:                                     "write a list of strings",
		`path "a" { capabilities = [null] }`:                                   `there is no capability ""`,
		`path "a" { policy = "all" }`:                                          `"all" is not one of read, write, sudo and deny`,
		"path \"a\" {\n min_wrapping_ttl = \"soon\"\n}":                        "line 2: path \"a\": min_wrapping_ttl: write a duration",
		`path "a" { max_wrapping_ttl = -1 }`:                                   "max_wrapping_ttl: write a duration",
		`path "a" { max_wrapping_ttl = [1] }`:                                  "max_wrapping_ttl: write a duration",
		"path \"a\" {\n min_wrapping_ttl = 60\n max_wrapping_ttl = \"59s\"\n}": "line 1: path \"a\": max_wrapping_ttl is less than min_wrapping_ttl",
		`path "a" { expiration = "2030-01-01T00:00:00Z" }`:                     "expiration: not supported",
		`path "" { }`:                                                  "it is empty",
		`path "/" { }`:                                                 "it is empty",
		`path "a/+*" { }`:                                              `"+*" at the end is not supported`,
		`path "a/{{identity.entity.id}}/*" { }`:                        "templates in paths are not supported",
		`{"path": {"a/{{identity.entity.id}}": {}}}`:                   "templates in paths are not supported",
		`path "a/${b}" { }`:                                            "no expressions",
		`path "a" { capabilities = [for x in y : x] }`:                 "no expressions",
		`path "a" { capabilities = concat([], []) }`:                   "no expressions",
		`path "a" { denied_parameters = { "x" = [1 + 1] } }`:           "no expressions",
		`path "a" { denied_parameters = { "x" = [1e100000000] } }`:     "without an exponent",
		`path "a" { denied_parameters = { "x" = [--1] } }`:             "minus",
		`path "a" { denied_parameters = { x = [-` + "\n" + `y] } }`:    "minus",
		`{"path": {"a": {"denied_parameters": {"x": [1e100000000]}}}}`: "without an exponent",
		`path "a" { allowed_parameters = ["x"] }`:                      "write names with lists of values",
		`path "a" { allowed_parameters = { "x" = "y" } }`:              "write names with lists of values",
		`path "a" { allowed_parameters = { "*" = ["y"] } }`:            `"*" takes the empty list only`,
		`path "a" { capabilities = [read] }`:                           "write a list of strings",
		`path { }`:                                                     "Missing path for path",
		`path "a" "b" { }`:                                             "Extraneous label for path",
		`pathe "a" { }`:                                                "Unsupported block type",
		`rule = 1`:                                                     "Unsupported argument",
		`path "a" { allowed_parameters { x = [] } }`:                   "use an equals sign",
		`{"path": [1]}`:                                                "line 1",
		`{"path": {"a": {"capabilities": ["x"]}`:                       "Unclosed object",
		`{"path": {"a": {"policy": "read", "policy": "deny"}}}`:        "Duplicate",
		`{"path": {}}`:                                                 "line 1: Missing block label",
		`{"a" "b"}`:                                                    "is not JSON",
		"path \"a\" {}\n/* \"*/\n/* b":                                 "line 3: the comment does not end",
		"path \"a":                                                     "line 1",
		"path \"a\nb\" {}":                                             "line 1: the string does not end",
		"path \"a\" {\n comment = <<E\nx\nE\n}":                        "heredocs are not supported",
		"path \"a\" {\n allowed_parameters {\n x = []\n }\n}":          "Blocks are not allowed here",
		`{} {}`:    "",
		"\xff\xfe": "line 1",
		"path \"a\" { x = " + strings.Repeat("[", 33):              "nested deeper than 32 levels",
		`{"a":` + strings.Repeat("[", 33):                          "nested deeper than 32 levels",
		strings.Repeat("#", MaxPolicy+1):                           "at most 131072 are accepted",
		"path \"a\" {\n x = 1\n y = 2\n}\npath \"b\" {\n z = 3\n}": "line 3",
	} {
		_, err := ParsePolicy("p", text)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s\n  %v\n  want %s", text, err, want)
		}
	}
}

// What would take a parser without bounds long, or its whole stack, is refused.
func TestParsePolicyIsQuick(t *testing.T) {
	fill := func(s string) string { return strings.Repeat(s, (MaxPolicy-100)/len(s)) }
	begin := time.Now()
	for _, text := range []string{fill("["), fill("{"), fill("("), fill("!"), fill("-"), fill("a ? b : "), fill("a."), fill("a["), fill(`"${`), fill("%{"), fill("<<A\n"),
		`{"a":` + fill("["), `{"a":` + fill(`{"a":`), `{"a":"` + fill("${") + `"}`, fill("path \"a\" {\n"), "x = " + fill("- "), "x = [" + fill("-1,") + "]",
		"x = " + fill("a == "), fill("/* "), fill("\""), fill("path \"a\" {}\n"), "path \"a\" { required_parameters = [" + fill(`"x",`) + "] }"} {
		_, err := ParsePolicy("p", text)
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	if took := time.Since(begin); took > time.Minute { // 2 s, and ten times that with the race detector
		t.Errorf("it took %v", took)
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(defaultText)
	f.Add(`{"path": {"secret/+/x*": {"capabilities": ["read"], "allowed_parameters": {"a": ["*b", 1]}}}}`)
	f.Add("path \"a/*\" {\n  capabilities = [\"deny\", \"sudo\"]\n  denied_parameters = { x = [[1], {y = null}] }\n /* x */ required_parameters = [ // y\n\"x\"]\n}")
	f.Add("path \"+/b\" { policy = \"sudo\" }")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePolicy("p", text)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || err.Error() == "" {
				t.Errorf("%v", err)
			}
			return
		}
		a := NewACL([]*Policy{p, p})
		for _, r := range p.rules {
			if r.prefix && r.matches([]string{""}) && r.text != "" {
				t.Errorf("%q matches nothing at all", r.path)
			}
			if !r.matches(strings.Split(strings.ReplaceAll(r.text, "+", "x"), "/")) && !strings.Contains(strings.ReplaceAll("/"+r.text+"/", "/+/", "//"), "+") {
				t.Errorf("%q does not match its own path", r.path)
			}
			g := a.Find(r.text)
			if g.Has(CanRead) && r.exact() && r.caps&Denied != 0 {
				t.Errorf("%q is denied, and allowed", r.path)
			}
			g.Check(map[string]any{"x": "1", "y": []any{"a"}}, nil, false)
		}
	})
}
