package main

import (
	"cmp"
	"runtime/debug"
	"strings"
)

// version is set by the release build: -ldflags "-X main.version=1.2.3".
var version string

// build returns the version, without a leading v, and the time of the commit (RFC 3339, or "").
// Clients parse the version, so it is always a semantic one.
func build() (v, date string) {
	const next = "0.1.0-dev" // version of an untagged tree
	v = version
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return cmp.Or(v, next), ""
	}
	revision := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case "vcs.time":
			date = s.Value
		}
	}
	if module := strings.TrimPrefix(info.Main.Version, "v"); v == "" && module != "" && module != "(devel)" && !strings.HasPrefix(module, "0.0.0-") {
		v = module // go install of a tag
	}
	if v == "" {
		v = next
		if revision != "" {
			v += "+" + revision
		}
	}
	return v, date
}
