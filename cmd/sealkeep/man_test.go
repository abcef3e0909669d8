package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var updateMan = flag.Bool("man.update", false, "rewrite the manual pages")

// The manual pages are made of what is there already: the table of commands and the reference of the configuration.
func TestManual(t *testing.T) {
	for name, want := range map[string]string{"sealkeep.1": manOfCommands(), "sealkeep.hcl.5": manOfConfig(t)} {
		path := filepath.Join("../../man", name)
		if *updateMan {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("%s is not what the code says (%v): run go test ./cmd/sealkeep -run TestManual -man.update", path, err)
		}
		if _, err := exec.LookPath("groff"); err != nil {
			t.Log("groff is not there: the page was not rendered")
			continue
		}
		cmd := exec.Command("groff", "-man", "-Tutf8", "-ww", "-z", path)
		if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("groff on %s: %v\n%s", name, err, out)
		}
	}
}

func manHead(name, section, what string) string {
	return fmt.Sprintf(".\\\" Made from the code: go test ./cmd/sealkeep -run TestManual -man.update\n.TH %s %s \"\" sealkeep\n.SH NAME\n%s \\- %s\n",
		strings.ToUpper(name), section, name, what)
}

func manOfCommands() string {
	var b strings.Builder
	b.WriteString(manHead("sealkeep", "1", "keeps secrets encrypted behind a key that only your key service can open"))
	b.WriteString(".SH SYNOPSIS\n.B sealkeep\n.I COMMAND\n[flags] [arguments]\n")
	b.WriteString(".SH DESCRIPTION\n" + roff("`sealkeep server` runs a keep. It opens itself with its key services and speaks the Vault HTTP API; the other commands are its client, or work on files. Flags come before arguments. A keep that is sealed says why: sealkeep status, sealkeep doctor.") + "\n")
	b.WriteString(".SH COMMANDS\n")
	for _, cmd := range commands() {
		c := &cli{}
		f, _ := c.flags(cmd)
		fmt.Fprintf(&b, ".SS %s\n", roff(strings.TrimSpace("sealkeep "+cmd.name+" "+cmd.args)))
		for i, paragraph := range strings.Split(cmd.long, "\n\n") {
			if i > 0 {
				b.WriteString(".PP\n")
			}
			if strings.HasPrefix(paragraph, "    ") { // laid out already
				paragraph = ".nf\n" + roff(strings.TrimRight(paragraph, "\n")) + "\n.fi"
			} else {
				paragraph = roff(paragraph)
			}
			b.WriteString(paragraph + "\n")
		}
		f.VisitAll(func(fl *flag.Flag) {
			if cmd.kind != client || !slices.Contains(remoteFlags, fl.Name) {
				manFlag(&b, fl)
			}
		})
	}
	b.WriteString(".SH CLIENT FLAGS\nCommands that talk to a keep have these as well.\n")
	common := flag.NewFlagSet("", flag.ContinueOnError)
	new(remote).register(common)
	common.VisitAll(func(fl *flag.Flag) { manFlag(&b, fl) })
	b.WriteString(".SH EXIT STATUS\n" + roff("0 fine; 1 a local mistake; 2 an error of the keep, something that was not found, or a keep that is sealed; 78 a wrong configuration.") + "\n")
	b.WriteString(".SH SEE ALSO\n.BR sealkeep.hcl (5)\n")
	return b.String()
}

func manFlag(b *strings.Builder, fl *flag.Flag) {
	kind, usage := flag.UnquoteUsage(fl)
	name := "\\-" + roff(fl.Name)
	if kind != "" {
		name += "=\\fI" + roff(strings.ToUpper(kind)) + "\\fR"
	}
	fmt.Fprintf(b, ".TP\n\\fB%s\n%s\n", name, roff(usage))
}

// manOfConfig is the package comment of config.
func manOfConfig(t *testing.T) string {
	t.Helper()
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, "../../config/doc.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	p, err := doc.NewFromFiles(files, []*ast.File{f}, "github.com/sealkeep/sealkeep/config")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(manHead("sealkeep.hcl", "5", "configuration of a keep") + ".SH DESCRIPTION\n")
	for _, block := range new(comment.Parser).Parse(p.Doc).Content {
		switch block := block.(type) {
		case *comment.Heading:
			b.WriteString(".SH " + strings.ToUpper(roff(plainText(block.Text))) + "\n")
		case *comment.Paragraph:
			b.WriteString(".PP\n" + roff(plainText(block.Text)) + "\n")
		case *comment.Code:
			b.WriteString(".PP\n.nf\n" + roff(strings.TrimSuffix(block.Text, "\n")) + "\n.fi\n")
		case *comment.List:
			for _, item := range block.Items {
				fmt.Fprintf(&b, ".IP %s. 4\n", item.Number)
				for _, inner := range item.Content {
					b.WriteString(roff(plainText(inner.(*comment.Paragraph).Text)) + "\n")
				}
			}
		}
	}
	b.WriteString(".SH SEE ALSO\n.BR sealkeep (1)\n")
	return b.String()
}

func plainText(text []comment.Text) string {
	var b strings.Builder
	for _, part := range text {
		switch part := part.(type) {
		case comment.Plain:
			b.WriteString(string(part))
		case comment.Italic:
			b.WriteString(string(part))
		case *comment.Link:
			b.WriteString(part.URL)
		case *comment.DocLink:
			b.WriteString(plainText(part.Text))
		}
	}
	return b.String()
}

// roff escapes text for a page.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", "").Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
