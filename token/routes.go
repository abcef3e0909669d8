// Package token is the login by token, below auth/token/: tokens are made, looked up,
// renewed and revoked, and roles say how.
//
// What a token may become is decided in package access; here it is asked for, in one
// transaction for each request. A renewal may ask the login method that made the token
// whether its bearer still may have it, before the transaction where that takes time
// (renew.go). What is looked up costs no read of the store, see package mount; what
// changes costs one commit.
//
// What it stores, package access stores.
package token

import (
	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
)

// Type is the login by token.
func Type() api.Type {
	return api.Type{Name: "token", Help: "token based credentials", Kind: api.System, At: "auth/token/", Routes: routes()}
}

func routes() []api.Route {
	writes := func(h api.Handler) map[api.Op]api.Handler { return map[api.Op]api.Handler{api.Write: h} }
	example := exampleToken()
	self := api.Do(readSelf).Answers(example)
	names := api.View(listRoles).Answers(api.Names{})
	return []api.Route{
		{Path: "create", Help: "Makes a token whose parent is the caller's.", Settings: true, Ops: writes(api.Do(createToken))},
		{Path: "create-orphan", Help: "Makes a token without a parent.", Settings: true, Ops: writes(api.Do(createOrphan))},
		{Path: "create/{name...}", Help: "Makes a token as a role says.", Settings: true, Ops: writes(api.Do(createByRole))},
		{Path: "lookup", Help: "What is known of a token, or of the caller's.",
			Ops: map[api.Op]api.Handler{api.Read: self, api.Write: api.Do(lookupToken).Answers(example)}},
		{Path: "lookup-self", Help: "What is known of the caller's token.",
			Ops: map[api.Op]api.Handler{api.Read: self, api.Write: self}},
		{Path: "lookup-accessor", Help: "What is known of the token that has an accessor.", Ops: writes(api.Do(lookupAccessor).Answers(example))},
		{Path: "accessors", Help: "The accessors of all tokens.", Sudo: []api.Op{api.List}, Ops: map[api.Op]api.Handler{api.List: api.View(listAccessors)}},
		{Path: "renew", Help: "Lets a token live longer.", Ops: writes(api.Do(renewToken))},
		{Path: "renew-self", Help: "Lets the caller's token live longer.", Ops: writes(api.Do(renewSelf))},
		{Path: "renew-accessor", Help: "Lets the token that has an accessor live longer.", Ops: writes(api.Do(renewAccessor))},
		{Path: "revoke", Help: "Ends a token and those below it.", Ops: writes(api.Do(revokeToken))},
		{Path: "revoke-self", Help: "Ends the caller's token and those below it.", Ops: writes(api.Do(revokeSelf))},
		{Path: "revoke-accessor", Help: "Ends the token that has an accessor, and those below it.", Ops: writes(api.Do(revokeAccessor))},
		{Path: "revoke-orphan", Help: "Ends a token, and makes orphans of its children.", Sudo: []api.Op{api.Write}, Ops: writes(api.Do(revokeOrphan))},
		{Path: "tidy", Help: "Has the tokens that have ended deleted soon.", Ops: writes(api.Do(tidyTokens))},
		{Path: "roles", Help: "The names of the roles by which tokens are made.",
			Ops: map[api.Op]api.Handler{api.Read: names, api.List: names}},
		{Path: "roles/{name...}", Help: "A role by which tokens are made.", Exists: roleExists, Settings: true,
			Ops: map[api.Op]api.Handler{api.Read: api.View(readRole).Answers(viewRole(new(access.Role))), api.Write: api.Update(writeRole), api.Delete: api.Update(deleteRole)}},
	}
}
