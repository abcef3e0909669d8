package main

import (
	"compress/gzip"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var writeGolden = flag.Bool("golden.write", false, "write the golden keep, if there is none")

// The store of a whole keep (slot of a static key, root token, mounts, secrets) and its root token, as the first
// release of the format wrote them.
const (
	goldenStore = "testdata/golden/keep1.db.gz"
	goldenToken = "testdata/golden/keep1.token"
)

// TestGolden opens that keep. It must pass for ever, with the files as they are.
func TestGolden(t *testing.T) {
	k := newKeep(t)
	if *writeGolden {
		makeGolden(t, k)
		k = newKeep(t)
	}
	token, err := os.ReadFile(goldenToken)
	if err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(string(token))
	f, err := os.Open(goldenStore)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(k.store(), content, 0o600); err != nil {
		t.Fatal(err)
	}
	k.start()
	if got := k.read(root, "folder/secret"); got != "third" {
		t.Errorf("newest version: %q", got)
	}
	if got := k.read(root, "folder/secret?version=1"); got != "first" {
		t.Errorf("version 1: %q", got)
	}
	var out struct {
		Data map[string]any `json:"data"`
	}
	for path, want := range map[string]int{
		"secret/data/folder/secret?version=2": http.StatusNotFound, // deleted
		"secret/metadata/folder/secret":       http.StatusOK,
		"team/data/other":                     http.StatusOK,
		"team/config":                         http.StatusOK,
		"auth/token/lookup-self":              http.StatusOK,
		"sys/key-status":                      http.StatusOK,
	} {
		if status, err := k.call(root, "GET", path, "", &out); status != want || err != nil {
			t.Errorf("%s: %d %v", path, status, err)
		}
	}
	if term := out.Data["term"]; term != nil && term != 2.0 {
		t.Errorf("term %v", term)
	}
	if status, err := k.call(root, "POST", "secret/data/new", `{"data":{"v":"written now"}}`, nil); status != http.StatusOK || err != nil {
		t.Errorf("writing: %d %v", status, err)
	}
	k.kill()
	k.check()
}

func makeGolden(t *testing.T, k *process) {
	k.start()
	root := k.init()
	for _, c := range []struct{ method, path, body string }{
		{"POST", "secret/data/folder/secret", `{"data":{"v":"first"}}`},
		{"POST", "secret/data/folder/secret", `{"data":{"v":"second","n":12345678901234567890}}`},
		{"POST", "sys/rotate", ""},
		{"POST", "secret/data/folder/secret", `{"data":{"v":"third"}}`},
		{"POST", "secret/delete/folder/secret", `{"versions":[2]}`},
		{"POST", "secret/metadata/folder/secret", `{"max_versions":5,"custom_metadata":{"owner":"ops"}}`},
		{"POST", "sys/mounts/team", `{"type":"kv","description":"a team's","options":{"version":"2"}}`},
		{"POST", "team/config", `{"cas_required":false,"delete_version_after":"870000h"}`},
		{"POST", "team/data/other", `{"data":{"v":"of the team"}}`},
	} {
		if status, err := k.call(root, c.method, c.path, c.body, nil); err != nil || status >= 400 {
			t.Fatalf("%s %s: %d %v", c.method, c.path, status, err)
		}
	}
	k.kill()
	content, err := os.ReadFile(k.store())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(goldenStore), 0o755); err != nil {
		t.Fatal(err)
	}
	// O_EXCL: golden files are never replaced.
	f, err := os.OpenFile(goldenStore, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	z, _ := gzip.NewWriterLevel(f, gzip.BestCompression)
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenToken, []byte(root+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}
