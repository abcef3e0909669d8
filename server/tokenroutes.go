package server

import "github.com/sealkeep/sealkeep/api"

// tokenRoutes is the API of tokens.
var tokenRoutes = []oldRoute{
	{path: "auth/token/create", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: createToken}},
	{path: "auth/token/create-orphan", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: createOrphan}},
	{path: "auth/token/create/*", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: createByRole}},
	{path: "auth/token/lookup", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readSelf, opWrite: writeLookup}},
	{path: "auth/token/lookup-self", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readSelf, opWrite: readSelf}},
	{path: "auth/token/lookup-accessor", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: writeLookupAccessor}},
	{path: "auth/token/accessors", gate: authenticated, sudo: []api.Op{opList}, on: [ops]handler{opList: listAccessors}},
	{path: "auth/token/renew", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: renewToken}},
	{path: "auth/token/renew-self", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: renewSelf}},
	{path: "auth/token/renew-accessor", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: renewAccessor}},
	{path: "auth/token/revoke", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: revokeToken}},
	{path: "auth/token/revoke-self", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: revokeSelf}},
	{path: "auth/token/revoke-accessor", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: revokeAccessor}},
	{path: "auth/token/revoke-orphan", gate: authenticated, sudo: []api.Op{opWrite}, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: revokeOrphan}},
	{path: "auth/token/tidy", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: tidyTokens}},
	{path: "auth/token/roles", gate: authenticated, on: [ops]handler{opRead: listRoles, opList: listRoles}},
	{path: "auth/token/roles/*", gate: authenticated, exists: roleExists, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readRole, opWrite: writeRole, opDelete: deleteRole}},
}
