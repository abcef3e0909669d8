package main

import (
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/engine/cubbyhole"
	"github.com/sealkeep/sealkeep/engine/kv"
)

// types are the engines and login methods that a keep has.
func types() []api.Type {
	return []api.Type{
		cubbyhole.Type(),
		kv.Type(),
	}
}
