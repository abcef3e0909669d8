package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImports holds the direction of imports: config <- seal, and storage <- access <- api
// <- engine/*, login, server <- cmd, login <- login/*, and storage <- audit <- server. server
// imports no engine and no login method.
func TestImports(t *testing.T) {
	const module = "github.com/sealkeep/sealkeep/"
	allowed := map[string]string{
		"config":              "",
		"seal":                "config",
		"seal/sealtest":       "",
		"storage":             "",
		"storage/storagetest": "storage",
		"access":              "storage",
		"audit":               "storage",
		"recovery":            "",
		"api":                 "storage access",
		"engine/cubbyhole":    "storage access api",
		"engine/kv":           "storage api",
		"engine/kvv1":         "storage access api engine/kv",
		"login":               "storage access api",
		"login/approle":       "storage access api login",
		"login/cert":          "storage access api login",
		"login/jwt":           "storage access api login",
		"login/peer":          "storage access api login",
		"login/userpass":      "storage access api login",
		"mount":               "storage access api",
		"server":              "storage access audit api mount recovery",
		"cmd/sealkeep":        "config seal storage access audit api engine/cubbyhole engine/kv engine/kvv1 login/approle login/cert login/jwt login/peer login/userpass server recovery",
		"e2e":                 "seal/sealtest",
		"bench":               "config seal storage engine/kv",
	}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}:{{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(allowed) {
		t.Errorf("%d packages, the table has %d", len(lines), len(allowed))
	}
	for _, line := range lines {
		path, imports, _ := strings.Cut(line, ":")
		name := strings.TrimPrefix(path, module)
		may, ok := allowed[name]
		if !ok {
			t.Errorf("package %s has no row in the table", name)
			continue
		}
		for _, imported := range strings.Fields(imports) {
			if ours, ok := strings.CutPrefix(imported, module); ok && !strings.Contains(" "+may+" ", " "+ours+" ") {
				t.Errorf("%s imports %s", name, ours)
			}
		}
	}
}
