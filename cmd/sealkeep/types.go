package main

import (
	"fmt"
	"strings"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/engine/cubbyhole"
	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/engine/kvv1"
	"github.com/sealkeep/sealkeep/engine/tfstate"
	"github.com/sealkeep/sealkeep/engine/transit"
	"github.com/sealkeep/sealkeep/login/approle"
	"github.com/sealkeep/sealkeep/login/cert"
	"github.com/sealkeep/sealkeep/login/jwt"
	"github.com/sealkeep/sealkeep/login/peer"
	"github.com/sealkeep/sealkeep/login/userpass"
)

// types returns the engines and login methods that a keep has.
func types() []api.Type {
	return []api.Type{
		cubbyhole.Type(),
		kv.Type(),
		kvv1.Type(),
		tfstate.Type(),
		transit.Type(),
		approle.Type(),
		userpass.Type(),
		cert.Type(),
		jwt.Type(),
		peer.Type(),
	}
}

// typeHelp lists the types of a kind for the help of enable.
func typeHelp(kind api.Kind) string {
	var b strings.Builder
	b.WriteString("The types:\n\n")
	for _, t := range types() {
		if t.Kind != kind {
			continue
		}
		name := t.Name
		if t.Version != "" {
			name += " -version=" + t.Version
		}
		fmt.Fprintf(&b, "    %-16s%s\n", name, t.Help)
	}
	return b.String()
}
