package server

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/sealkeep/sealkeep/api"
)

// fixedMounts are the mounts of the types that are there without being mounted, by
// where they are. They are shown as if they had been mounted; their UUIDs are made
// from the store's, so that they stay the same.
func fixedMounts(types []*api.Type, store string) map[string]*api.Mount {
	mounts := make(map[string]*api.Mount, len(types))
	for _, t := range types {
		id := store
		if t.Name != "system" {
			h := sha256.Sum256([]byte(t.At + store))
			id = fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
		}
		m := &api.Mount{Path: t.At, UUID: id, Accessor: t.Name + "_" + id[:min(8, len(id))], Type: t.Name, Description: t.Help}
		if path, ok := strings.CutPrefix(t.At, "auth/"); ok {
			m.Path, m.Accessor, m.Config.TokenType = path, "auth_"+m.Accessor, "default-service"
		}
		mounts[t.At] = m
	}
	return mounts
}

func (k *keep) cubbyhole() *api.Mount { return k.fixed["cubbyhole/"] }
func (k *keep) tokenAuth() *api.Mount { return k.fixed["auth/token/"] }

// builtin lists what is there without having been mounted, but for the login by token.
func (k *keep) builtin() (mounts []*api.Mount) {
	for at, m := range k.fixed {
		if at == m.Path {
			mounts = append(mounts, m)
		}
	}
	return mounts
}

// mountAt is the mount at a path without the slash at its end, nil when there is
// none.
func (k *keep) mountAt(path string) *api.Mount {
	if m := k.fixed[path+"/"]; m != nil {
		return m
	}
	return k.Engines.Load().At(path)
}
