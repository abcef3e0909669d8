package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/config"
)

// What a program reads of `config explain` and `config env`: every setting with an origin, every warning, no secret.
func TestExplainJSON(t *testing.T) {
	const key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	env := map[string]string{"STATE_DIRECTORY": "/state", "KMS_BACKEND": "local", "KMS_KEY": key, "KMS_VAULT_KEY_PATH": "kv/data/x"}
	t.Setenv("VAULT_CLIENT_TIMEOUT", "") // the command sets these two in the process: afterwards they are as before
	t.Setenv("VAULT_MAX_RETRIES", "")
	show := func(what string) []byte {
		var stdout, stderr bytes.Buffer
		lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
		if code := run(t.Context(), []string{"config", what, "-format=json"}, lookup, strings.NewReader(""), &stdout, &stderr); code != 0 || stderr.Len() > 0 {
			t.Fatalf("config %s: exit code %d, %s", what, code, &stderr)
		}
		if strings.Contains(stdout.String(), key) || strings.Contains(stdout.String(), "44") {
			t.Errorf("config %s tells of the key:\n%s", what, &stdout)
		}
		return stdout.Bytes()
	}
	var explained struct {
		Settings []config.Setting
		Warnings []string
	}
	if err := json.Unmarshal(show("explain"), &explained); err != nil {
		t.Fatal(err)
	}
	hidden := 0
	for _, s := range explained.Settings {
		if s.Scope == "" || s.Key == "" || s.Value == "" || s.Origin == "" {
			t.Errorf("%+v", s)
		}
		if s.Secret {
			hidden++
		}
	}
	if len(explained.Settings) < 10 || hidden != 1 || len(explained.Warnings) != 1 || !strings.Contains(explained.Warnings[0], "KMS_VAULT_KEY_PATH") {
		t.Errorf("%d hidden, warnings %q, settings %+v", hidden, explained.Warnings, explained.Settings)
	}
	var vars []config.Variable
	if err := json.Unmarshal(show("env"), &vars); err != nil {
		t.Fatal(err)
	}
	set := 0
	for _, v := range vars {
		if v.Set {
			set++
		}
	}
	if set != 3 {
		t.Errorf("%d variables are set in %+v", set, vars)
	}
}
