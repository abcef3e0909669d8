package config

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLimits(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "keep.hcl")
	const rest = "\nstorage \"bbolt\" { path = \"/x.db\" }\nseal \"awskms\" { kms_key_id = \"alias/keep\" }\n"
	for text, want := range map[string]Limits{
		"":                           {},
		"rate_limit_per_token = 0":   {},
		"rate_limit_per_token = 100": {PerToken: Rate{100, 0}},
		"rate_limit_per_source = \"7\"\nrate_limit_per_source_burst = 1000000": {PerSource: Rate{7, 1_000_000}},
	} {
		write(t, keep, text+rest)
		if c, err := Load([]string{keep}, nil); err != nil || c.Limits != want || len(c.Warnings) > 0 {
			t.Errorf("%s: %+v %v", text, c, err)
		}
	}
	for text, want := range map[string]string{
		"rate_limit_per_token = -1":             "is no whole number of 0 or more",
		"rate_limit_per_token = 1.5":            "is no whole number of 0 or more",
		"rate_limit_per_source = \"many\"":      "is no whole number of 0 or more",
		"rate_limit_per_source_burst = 1000001": "write a number up to 1000000",
	} {
		write(t, keep, text+rest)
		if _, err := Load([]string{keep}, nil); err == nil || !strings.Contains(err.Error(), "keep.hcl:1: rate_limit_per_") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	write(t, keep, "rate_limit_per_token_burst = 5"+rest)
	c, err := Load([]string{keep}, nil)
	if err != nil || c.Limits != (Limits{}) || len(c.Warnings) != 1 || !strings.HasSuffix(c.Warnings[0], ":1: rate_limit_per_token_burst has no effect without rate_limit_per_token") {
		t.Errorf("%+v %v", c, err)
	}
	if slices.ContainsFunc(c.Settings, func(s Setting) bool { return s.Key == "rate_limit_per_token_burst" }) {
		t.Error("shown as in force")
	}
}
