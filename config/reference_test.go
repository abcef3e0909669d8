package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite doc.go and the golden files")

// reference renders the table as a doc comment.
func reference() string {
	var b strings.Builder
	var last scope
	for _, s := range table {
		if s.ignored != "" || s.refused != "" {
			continue
		}
		if s.in != last {
			title := string(s.in)
			switch s.in {
			case scopeTop:
				title = "At the top level"
			case scopeSeal:
				title = "Every seal"
			case scopeTelemetry:
				title = "telemetry, inside a listener"
			}
			fmt.Fprintf(&b, "//\n// %s:\n//\n", title)
			last = s.in
		}
		need := s.def
		if s.required {
			need = "required"
		}
		marks := ""
		if s.secret {
			marks += "; secret"
		}
		if s.indirect {
			marks += "; follows"
		}
		line := fmt.Sprintf("//\t%-31s %s%s", s.key, s.doc, marks)
		if need != "" {
			line += " [" + need + "]"
		}
		b.WriteString(line + "\n")
		if len(s.steer) > 0 {
			fmt.Fprintf(&b, "//\t%-31s   wins: %s\n", "", strings.Join(s.steer, ", "))
		}
		if len(s.env) > 0 {
			word := "else"
			if s.chain {
				word = "SDK"
			}
			fmt.Fprintf(&b, "//\t%-31s   %s: %s\n", "", word, strings.Join(s.env, ", "))
		}
	}
	b.WriteString("//\n// Keys of Vault's that have no effect, or are refused:\n//\n")
	for _, s := range table {
		if s.ignored != "" {
			fmt.Fprintf(&b, "//\t%-31s in %s: %s\n", s.key, s.in, s.ignored)
		} else if s.refused != "" {
			fmt.Fprintf(&b, "//\t%-31s in %s, refused: %s\n", s.key, s.in, s.refused)
		}
	}
	return b.String()
}

func TestReference(t *testing.T) {
	src, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(src), "\"required\".\n")
	_, tail, ok2 := strings.Cut(rest, "package config\n")
	if !ok || !ok2 {
		t.Fatal("doc.go has no place for the reference")
	}
	want := head + "\"required\".\n" + reference() + "package config\n" + tail
	if *update {
		if err := os.WriteFile("doc.go", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(src) != want {
		t.Error("the reference in doc.go is not that of the table: run go test ./config -run TestReference -update")
	}
}

// The table is data: what every row must have is checked here, not at run time.
func TestTable(t *testing.T) {
	seen := make(map[string]bool)
	steer := make(map[string]string)
	for _, s := range table {
		id := string(s.in) + " " + s.key
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
		active := s.ignored == "" && s.refused == ""
		if active != (s.doc != "") {
			t.Errorf("%s: a key that has an effect needs a doc, another has none", id)
		}
		if s.required && s.def != "" {
			t.Errorf("%s is required and has a default", id)
		}
		if s.def != "" && s.check != nil && s.check(s.def) != "" {
			t.Errorf("%s: wrong default: %s", id, s.check(s.def))
		}
		for _, name := range s.steer {
			if old, ok := steer[name]; ok {
				t.Errorf("%s steers %s and %s", name, old, id)
			}
			steer[name] = id
		}
	}
	for _, typ := range sealTypes() {
		if len(rows(sealScope(typ))) == 0 {
			t.Errorf("no parameters for %s", typ)
		}
	}
}
