package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestImports holds the direction of imports: config <- seal, and storage <- access <- api
// <- engine/*, login, mount <- keep <- sys, token, server <- cmd, and login <- login/*. server
// imports no engine and no login method, and no room imports server.
func TestImports(t *testing.T) {
	const module = "github.com/sealkeep/sealkeep/"
	// Of several rows the one of the package itself counts, then that of its folder.
	allowed := map[string]string{
		"config":               "",
		"seal":                 "config",
		"seal/sealtest":        "",
		"storage":              "",
		"storage/storagetest":  "storage",
		"access":               "storage",
		"audit":                "storage",
		"recovery":             "",
		"api":                  "storage access",
		"engine/*":             "storage access api",
		"engine/kvv1":          "storage access api engine/kv",
		"engine/tfstate":       "storage access api engine/tfstate/state",
		"engine/tfstate/state": "",
		"login":                "storage access api",
		"login/*":              "storage access api login",
		"mount":                "storage access api",
		"keep":                 "storage access audit recovery api mount",
		"sys":                  "storage access audit api mount keep",
		"token":                "storage access api keep",
		"server":               "storage access audit api mount keep",
		"servertest":           "storage access audit api login mount keep sys token server", // for tests alone
		"cmd/sealkeep":         "config seal storage access audit api engine/* login/* mount keep sys token server recovery",
		"e2e":                  "seal/sealtest",
		"bench":                "config seal storage engine/kv",
	}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}:{{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		path, imports, _ := strings.Cut(strings.TrimSpace(line), ":")
		name := strings.TrimPrefix(path, module)
		folder, _, _ := strings.Cut(name, "/")
		may, ok := allowed[name]
		if !ok {
			may, ok = allowed[folder+"/*"]
		}
		if !ok {
			t.Errorf("package %s has no row in the table of this test: add one that says what it may import", name)
			continue
		}
		for _, imported := range strings.Fields(imports) {
			ours, ok := strings.CutPrefix(imported, module)
			of, _, _ := strings.Cut(ours, "/")
			if ok && !strings.Contains(" "+may+" ", " "+ours+" ") && !strings.Contains(" "+may+" ", " "+of+"/* ") {
				t.Errorf("%s imports %s, which its row in the table of this test does not allow: %s", name, ours, may)
			}
		}
	}
}

// TestRoomsStaySmall holds what made one room of this program too large once: no type
// with methods has more than 15 fields or 25 exported methods, and the pipeline has
// fewer than 4,000 lines.
func TestRoomsStaySmall(t *testing.T) {
	for _, room := range []string{"server", "keep", "mount", "sys", "token"} {
		files, err := filepath.Glob("../../" + room + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		fields, methods, exported, lines := map[string]int{}, map[string]int{}, map[string]int{}, 0
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			lines += set.File(f.Pos()).LineCount()
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.TypeSpec:
					if s, ok := n.Type.(*ast.StructType); ok {
						fields[n.Name.Name] = s.Fields.NumFields()
					}
				case *ast.FuncDecl:
					if n.Recv != nil {
						of := receiver(n.Recv.List[0].Type)
						if methods[of]++; n.Name.IsExported() {
							exported[of]++
						}
					}
				}
				return true
			})
		}
		for of := range methods {
			if fields[of] > 15 || exported[of] > 25 {
				t.Errorf("%s.%s has %d fields and %d exported methods", room, of, fields[of], exported[of])
			}
		}
		if room == "server" && lines >= 4000 {
			t.Errorf("server has %d lines", lines)
		}
	}
}

// receiver is the name of a method's type.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
