package server_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// rows says of every operation of every route what it takes of a token's
// policies. A route without a row fails TestEveryRouteAndIdentity.
const rows = `
open     GET sys/init, PUT sys/init, GET sys/health, HEAD sys/health, GET sys/seal-status, GET sys/seal-backend-status,
open     PUT sys/unseal, GET sys/leader

unsealed GET sys/wrapping/lookup, PUT sys/wrapping/lookup
unsealed GET sys/internal/ui/mounts, GET sys/internal/ui/mounts/*, GET sys/internal/specs/openapi, PUT sys/internal/specs/openapi
unsealed GET sys/generate-root/attempt, PUT sys/generate-root/attempt, DELETE sys/generate-root/attempt, PUT sys/generate-root/update
unsealed GET sys/generate-root-token/attempt, PUT sys/generate-root-token/attempt, DELETE sys/generate-root-token/attempt
unsealed PUT sys/generate-root-token/update, PUT sys/decode-token

read     GET sys/metrics, GET sys/in-flight-req, GET sys/internal/ui/resultant-acl
read     GET sys/recovery/verify, GET sys/rotate/recovery/init, GET sys/rekey-recovery-key/init, GET sys/key-status
read     GET sys/rotate/recovery/verify, GET sys/rekey-recovery-key/verify
read     GET sys/rotate/config, GET sys/rotate/keyring/config, GET sys/slots, GET sys/slots/*
read     GET sys/remount/status/*, GET sys/mounts, GET sys/mounts/*, GET sys/mounts/*/tune, GET sys/auth, GET sys/mounts/auth/*/tune
read     GET sys/policies/acl, GET sys/policies/acl/*, GET sys/policy, GET sys/policy/*
read     GET auth/token/lookup, GET auth/token/lookup-self, GET auth/token/roles, GET auth/token/roles/*
read     GET cubbyhole, GET cubbyhole/*
read     GET {mount}/data, GET {mount}/data/*, GET {mount}/metadata, GET {mount}/metadata/*, GET {mount}/delete, GET {mount}/undelete
read     GET {mount}/destroy, GET {mount}/subkeys/*, GET {mount}/config, GET {mount}/*
read,sudo GET sys/pprof, GET sys/pprof/allocs, GET sys/pprof/block, GET sys/pprof/goroutine, GET sys/pprof/heap, GET sys/pprof/mutex
read,sudo GET sys/pprof/threadcreate, GET sys/pprof/profile, GET sys/pprof/trace, GET sys/pprof/symbol, GET sys/pprof/cmdline
read,sudo GET sys/monitor, GET sys/storage/backup, GET sys/audit, GET sys/auth/*, GET sys/auth/*/tune

list     LIST sys/slots, LIST sys/policies/acl, LIST sys/policy, LIST auth/token/roles
list     LIST {mount}/metadata, LIST {mount}/metadata/*, LIST {mount}/detailed-metadata, LIST {mount}/detailed-metadata/*, LIST {mount}/*
list     LIST cubbyhole, LIST cubbyhole/*
list,sudo LIST auth/token/accessors

scan     SCAN {mount}/metadata, SCAN {mount}/metadata/*, SCAN {mount}/detailed-metadata, SCAN {mount}/detailed-metadata/*, SCAN {mount}/*

update   PUT sys/recovery/verify, PUT sys/rotate/config, PUT sys/rotate/keyring/config, PUT sys/slots/*/verify
update   PUT sys/mounts/*, PUT sys/mounts/*/tune, PUT sys/mounts/auth/*/tune, PUT sys/policies/acl/*, PUT sys/policy/*
update   PUT sys/capabilities, PUT sys/capabilities-self, PUT sys/capabilities-accessor
update   PUT auth/token/create, PUT auth/token/create-orphan, PUT auth/token/create/*, PUT auth/token/lookup, PUT auth/token/lookup-self
update   PUT auth/token/lookup-accessor, PUT auth/token/renew, PUT auth/token/renew-self, PUT auth/token/renew-accessor
update   PUT auth/token/revoke, PUT auth/token/revoke-self, PUT auth/token/revoke-accessor, PUT auth/token/tidy
update   PUT {mount}/data, PUT {mount}/metadata, PUT {mount}/delete, PUT {mount}/undelete, PUT {mount}/destroy
update   PUT {mount}/delete/*, PUT {mount}/undelete/*, PUT {mount}/destroy/*, PUT {mount}/config, PUT {mount}/*
update   PUT sys/wrapping/wrap, PUT sys/wrapping/unwrap, PUT sys/wrapping/rewrap, PUT cubbyhole
update,sudo PUT sys/remount, PUT sys/seal, PUT sys/rotate, PUT sys/rotate/keyring, PUT sys/rotate/root, PUT sys/slots/*
update,sudo PUT sys/rotate/recovery/init, PUT sys/rotate/recovery/update, PUT sys/rekey-recovery-key/init, PUT sys/rekey-recovery-key/update
update,sudo PUT sys/rotate/recovery/verify, PUT sys/rekey-recovery-key/verify
update,sudo PUT auth/token/revoke-orphan, PUT sys/audit/*, PUT sys/auth/*, PUT sys/auth/*/tune
update   PUT sys/audit-hash/*

create   PUT cubbyhole/*, PUT {mount}/data/*, PUT {mount}/metadata/*, PUT auth/token/roles/*

patch    PATCH {mount}/data/*, PATCH {mount}/metadata/*, PATCH {mount}/data, PATCH {mount}/metadata, PATCH {mount}/delete
patch    PATCH {mount}/undelete, PATCH {mount}/destroy, PATCH {mount}/*

delete   DELETE cubbyhole, DELETE cubbyhole/*, DELETE sys/mounts/*, DELETE sys/policies/acl/*, DELETE sys/policy/*, DELETE auth/token/roles/*
delete   DELETE {mount}/data/*, DELETE {mount}/metadata/*, DELETE {mount}/data, DELETE {mount}/metadata, DELETE {mount}/delete
delete   DELETE {mount}/undelete, DELETE {mount}/destroy, DELETE {mount}/*
delete,sudo DELETE sys/auth/*, DELETE sys/audit/*, DELETE sys/slots/*, DELETE sys/rotate/recovery/init, DELETE sys/rekey-recovery-key/init, DELETE sys/rekey/init
delete,sudo DELETE sys/rotate/recovery/verify, DELETE sys/rekey-recovery-key/verify

read     GET {kv-v1}/*
list     LIST {kv-v1}/*
scan     SCAN {kv-v1}/*
create   PUT {kv-v1}/*
delete   DELETE {kv-v1}/*

read     GET {transit}/keys/*, GET {transit}/keys/*/uses, GET {transit}/config/keys, GET {transit}/wrapping_key
list     LIST {transit}/keys
update   PUT {transit}/keys/*, PUT {transit}/keys/*/config, PUT {transit}/keys/*/rotate, PUT {transit}/keys/*/trim
update   PUT {transit}/keys/*/soft-delete-restore, PUT {transit}/config/keys
update   PUT {transit}/decrypt/*, PUT {transit}/rewrap/*, PUT {transit}/datakey/*/*
update   PUT {transit}/hmac/*, PUT {transit}/hmac/*/*, PUT {transit}/verify/*, PUT {transit}/verify/*/*, PUT {transit}/hash, PUT {transit}/hash/*
update   PUT {transit}/random, PUT {transit}/random/*, PUT {transit}/random/*/*
update   PUT {transit}/restore, PUT {transit}/restore/*
read     GET {transit}/backup/*, GET {transit}/export/*/*, GET {transit}/export/*/*/*
update   PUT {transit}/sign/*, PUT {transit}/sign/*/*
update   PUT {transit}/keys/*/import, PUT {transit}/keys/*/import_version
create   PUT {transit}/encrypt/*
delete   DELETE {transit}/keys/*, DELETE {transit}/keys/*/soft-delete

read     GET {tfstate}/config, GET {tfstate}/data/*, GET {tfstate}/lock/*, GET {tfstate}/outputs/*, GET {tfstate}/history/*
read     GET {tfstate}/metadata/*, GET {tfstate}/states, GET {tfstate}/states/*
list     LIST {tfstate}/data, LIST {tfstate}/data/*, LIST {tfstate}/states, LIST {tfstate}/states/*
update   PUT {tfstate}/config, PUT {tfstate}/lock/*, LOCK {tfstate}/lock/*, UNLOCK {tfstate}/lock/*, PUT {tfstate}/force-unlock/*
update   PUT {tfstate}/rollback/*, PUT {tfstate}/undelete/*, PUT {tfstate}/metadata/*
create   PUT {tfstate}/data/*
delete   DELETE {tfstate}/data/*, DELETE {tfstate}/version/*, DELETE {tfstate}/metadata/*

unsealed PUT auth/{approle}/login, PUT auth/{userpass}/login/*
read     GET auth/{userpass}/users/*
list     LIST auth/{userpass}/users
update   PUT auth/{userpass}/users/*/password, PUT auth/{userpass}/users/*/policies
create   PUT auth/{userpass}/users/*
delete   DELETE auth/{userpass}/users/*
read     GET auth/{approle}/role/*, GET auth/{approle}/role/*/policies, GET auth/{approle}/role/*/bound-cidr-list, GET auth/{approle}/role/*/secret-id-bound-cidrs
read     GET auth/{approle}/role/*/token-bound-cidrs, GET auth/{approle}/role/*/bind-secret-id, GET auth/{approle}/role/*/secret-id-num-uses
read     GET auth/{approle}/role/*/secret-id-ttl, GET auth/{approle}/role/*/period, GET auth/{approle}/role/*/token-num-uses
read     GET auth/{approle}/role/*/token-ttl, GET auth/{approle}/role/*/token-max-ttl, GET auth/{approle}/role/*/role-id
read     GET auth/{approle}/role/*/local-secret-ids
list     LIST auth/{approle}/role, LIST auth/{approle}/role/*/secret-id
update   PUT auth/{approle}/role/*/policies, PUT auth/{approle}/role/*/bound-cidr-list, PUT auth/{approle}/role/*/secret-id-bound-cidrs
update   PUT auth/{approle}/role/*/token-bound-cidrs, PUT auth/{approle}/role/*/bind-secret-id, PUT auth/{approle}/role/*/secret-id-num-uses
update   PUT auth/{approle}/role/*/secret-id-ttl, PUT auth/{approle}/role/*/period, PUT auth/{approle}/role/*/token-num-uses
update   PUT auth/{approle}/role/*/token-ttl, PUT auth/{approle}/role/*/token-max-ttl, PUT auth/{approle}/role/*/role-id
update   PUT auth/{approle}/role/*/secret-id, PUT auth/{approle}/role/*/custom-secret-id, PUT auth/{approle}/role/*/secret-id/lookup
update   PUT auth/{approle}/role/*/secret-id/destroy, PUT auth/{approle}/role/*/secret-id-accessor/lookup, PUT auth/{approle}/role/*/secret-id-accessor/destroy
update   PUT auth/{approle}/tidy/secret-id
create   PUT auth/{approle}/role/*
delete   DELETE auth/{approle}/role/*, DELETE auth/{approle}/role/*/policies, DELETE auth/{approle}/role/*/bound-cidr-list
delete   DELETE auth/{approle}/role/*/secret-id-bound-cidrs, DELETE auth/{approle}/role/*/token-bound-cidrs, DELETE auth/{approle}/role/*/bind-secret-id
delete   DELETE auth/{approle}/role/*/secret-id-num-uses, DELETE auth/{approle}/role/*/secret-id-ttl, DELETE auth/{approle}/role/*/period
delete   DELETE auth/{approle}/role/*/token-num-uses, DELETE auth/{approle}/role/*/token-ttl, DELETE auth/{approle}/role/*/token-max-ttl
delete   DELETE auth/{approle}/role/*/secret-id/destroy, DELETE auth/{approle}/role/*/secret-id-accessor/destroy
unsealed PUT auth/{jwt}/login, PUT auth/{cert}/login, PUT auth/{peer}/login
read     GET auth/{jwt}/config, GET auth/{jwt}/role/*, GET auth/{cert}/config, GET auth/{cert}/certs/*, GET auth/{cert}/crls/*, GET auth/{peer}/role/*
list     LIST auth/{jwt}/role, LIST auth/{cert}/certs, LIST auth/{cert}/crls, LIST auth/{peer}/role
update   PUT auth/{jwt}/config, PUT auth/{cert}/config, PUT auth/{cert}/certs/*, PUT auth/{cert}/crls/*
create   PUT auth/{jwt}/role/*, PUT auth/{peer}/role/*
delete   DELETE auth/{jwt}/role/*, DELETE auth/{cert}/certs/*, DELETE auth/{cert}/crls/*, DELETE auth/{peer}/role/*
`

// braces is a part of a route's path in braces; the rows have a star for it.
var braces = regexp.MustCompile(`\{[^}]*\}`)

var methods = [api.Ops]string{api.Read: "GET", api.List: "LIST", api.Scan: "SCAN", api.Write: "PUT", api.Patch: "PATCH", api.Delete: "DELETE", api.Head: "HEAD",
	api.Lock: "LOCK", api.Unlock: "UNLOCK"}

// quoted is capabilities as a policy has them, those that keep says.
func quoted(caps []string, keep func(string) bool) string {
	var list []string
	for _, c := range caps {
		if keep(c) {
			list = append(list, fmt.Sprintf("%q", c))
		}
	}
	return strings.Join(list, ", ")
}

// Every operation of every route with every kind of token: only what must pass
// passes. The handlers are replaced, so that the gate alone is seen.
func TestEveryRouteAndIdentity(t *testing.T) {
	f := fresh(t)
	rowOf := map[string]string{} // "GET path" -> what it takes
	for line := range strings.Lines(rows) {
		takes, list, _ := strings.Cut(strings.TrimSpace(line), " ")
		for what := range strings.SplitSeq(list, ",") {
			if what = strings.TrimSpace(what); what != "" {
				if rowOf[what] != "" {
					t.Errorf("%s has two rows", what)
				}
				rowOf[what] = takes
			}
		}
	}
	passes := func(*api.Request) (api.Answer, error) {
		return api.Answer{Status: http.StatusTeapot, Raw: &api.Raw{JSON: map[string]bool{"passed": true}}}, nil
	}
	type try struct{ method, path, takes string }
	var tries []try
	seen := map[string]bool{}
	prefixOf := func(t *api.Type) string { // mounted and enabled where their names say
		name := t.Name
		if t.Version != "" {
			name += "-v" + t.Version
		}
		switch {
		case t.Kind == api.System:
			return ""
		case t.Kind == api.Login:
			return "auth/{" + name + "}/"
		case name == "kv-v2": // is there
			return "{mount}/"
		}
		return "{" + name + "}/"
	}
	for _, typ := range f.Types() {
		name := strings.NewReplacer("auth/", "", "{", "", "}/", "").Replace(prefixOf(typ))
		switch {
		case typ.Kind == api.Login:
			f.Must(t, 204, "POST", "sys/auth/"+name, `{"type":"`+name+`"}`)
		case typ.Kind == api.Secrets && name != "mount":
			f.Must(t, 204, "POST", "sys/mounts/"+name, `{"type":"`+name+`"}`)
		}
	}
	f.EachRoute(func(typ *api.Type, rt *api.Route, replace func(api.Op, func(*api.Request) (api.Answer, error))) {
		prefix := prefixOf(typ)
		for o := range rt.Ops {
			replace(o, passes)
			star := strings.TrimSuffix(prefix+typ.At+braces.ReplaceAllString(rt.Path, "*"), "/")
			what := methods[o] + " " + star
			takes := rowOf[what]
			if seen[what] = true; takes == "" {
				t.Errorf("%s has no row: say in rows what it takes", what)
				continue
			}
			path := strings.NewReplacer("{mount}", "secret", "*", "x", "{", "", "}", "").Replace(star)
			if prefix != "" && star == prefix+"*" {
				path += "/y"
			}
			tries = append(tries, try{methods[o], path, takes})
			if gate := [...]string{api.Open: "open", api.Unsealed: "unsealed", api.Authenticated: ""}[rt.Gate]; gate != "" && takes != gate || gate == "" && (takes == "open" || takes == "unsealed") {
				t.Errorf("%s: its gate is %q, its row says %s", what, gate, takes)
			}
		}
	})
	for what := range maps.Keys(rowOf) {
		if !seen[what] {
			t.Errorf("the row of %s is of no route", what)
		}
	}

	caps := []string{"create", "read", "update", "patch", "delete", "list", "scan", "sudo"}
	f.Policy(t, "elsewhere", map[string]string{"nowhere/*": quoted(caps, func(string) bool { return true }), "sys": `"sudo", "read"`})
	f.Policy(t, "everything", map[string]string{"*": quoted(caps, func(string) bool { return true })})
	full, denied := []string{"everything"}, map[string]string{}
	exact, lacks := map[string]map[string]string{}, map[string]map[string]string{} // by method and what else
	for _, c := range tries {
		if c.takes == "open" || c.takes == "unsealed" {
			continue
		}
		needs := strings.Split(c.takes, ",")
		add := func(to map[string]map[string]string, key, caps string) {
			if to[key] == nil {
				to[key] = map[string]string{}
			}
			to[key][c.path] = caps
		}
		add(exact, c.method, quoted(needs, func(string) bool { return true }))
		for _, need := range needs {
			add(lacks, c.method+"-"+need, quoted(caps, func(c string) bool { return c != need }))
		}
		denied[c.path] = `"deny"`
	}
	token := map[string]string{
		"wrong": "hvs.wrong", "like the root token": f.Root + "x", "without policies": f.Bearer(t), "with a policy that is not there": f.Bearer(t, "missing"),
		"with the default policy": f.Bearer(t, "default"), "elsewhere": f.Bearer(t, "elsewhere"),
		"expired": f.WriteToken(t, &access.Token{Policies: full, Created: time.Now().Add(-time.Hour), TTL: time.Minute, Expires: time.Now().Add(-time.Second)}),
	}
	token["full"] = f.Bearer(t, full...)
	token["full, with a denial"] = f.Bearer(t, "everything", "denial")
	f.Policy(t, "denial", denied)
	token["revoked"] = f.Bearer(t, full...)
	u := f.Unsealed()
	id, err := u.TokenID(t.Context(), token["revoked"])
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Store.Update(t.Context(), func(tx *storage.Tx) error { _, err := access.Revoke(tx, id); return err }); err != nil {
		t.Fatal(err)
	}
	token["used up"] = f.WriteToken(t, &access.Token{Policies: full, NumUses: 1})
	if _, err := u.Use(t.Context(), token["used up"], netip.Addr{}, true); err != nil {
		t.Fatal(err)
	}
	for key, paths := range exact {
		f.Policy(t, "exact-"+key, paths)
		token["exact "+key] = f.Bearer(t, "exact-"+key)
	}
	for key, paths := range lacks {
		f.Policy(t, "lacks-"+key, paths)
		token["lacks "+key] = f.Bearer(t, "lacks-"+key)
	}

	self := []string{"GET auth/token/lookup-self", "PUT auth/token/renew-self", "PUT auth/token/revoke-self", "PUT sys/capabilities-self", "GET sys/internal/ui/resultant-acl", "PUT sys/wrapping/wrap", "PUT sys/wrapping/unwrap",
		"GET cubbyhole/x", "PUT cubbyhole/x", "DELETE cubbyhole/x", "LIST cubbyhole/x", "LIST cubbyhole"}
	gone := []string{"wrong", "like the root token", "expired", "revoked", "used up"} // what these are told at unwrap is of use to who was given a wrapping token
	for _, c := range tries {
		check := func(who, secret string, want int) {
			t.Helper()
			r := f.Call(t, c.method, c.path, "{}", "X-Vault-Token: "+secret)
			text := "permission denied"
			if want == 403 && c.path == "sys/wrapping/unwrap" && slices.Contains(gone, who) {
				want, text = 400, "wrapping token is not valid or does not exist"
			}
			if who == "none" && strings.HasPrefix(c.path, "tfstate/") { // asks for Basic authentication
				want, text = 401, r.Errors()
			}
			if r.Status != want || want >= 400 && want != http.StatusTeapot && r.Errors() != text {
				t.Errorf("%s %s, which takes %s, with a token that is %s: %d, want %d: %s", c.method, c.path, c.takes, who, r.Status, want, r.Text)
			}
		}
		if c.takes == "open" || c.takes == "unsealed" {
			for _, who := range []string{"", "wrong", "expired", "elsewhere"} {
				check(who, token[who], http.StatusTeapot)
			}
			continue
		}
		check("none", "", 403)
		check("root", f.Root, http.StatusTeapot)
		check("full", token["full"], http.StatusTeapot)
		check("exact", token["exact "+c.method], http.StatusTeapot)
		for _, need := range strings.Split(c.takes, ",") {
			check("without "+need, token["lacks "+c.method+"-"+need], 403)
		}
		for _, who := range []string{"wrong", "like the root token", "without policies", "with a policy that is not there", "elsewhere", "expired", "revoked", "used up", "full, with a denial"} {
			check(who, token[who], 403)
		}
		if slices.Contains(self, c.method+" "+c.path) {
			check("default", token["with the default policy"], http.StatusTeapot)
		} else {
			check("default", token["with the default policy"], 403)
		}
	}
	// What is not there is not for strangers either.
	for _, path := range []string{"nowhere", "sys/nowhere", "auth/token/nowhere", "x/y", "x"} {
		f.Must(t, 404, "GET", path, "")
		f.Must(t, 403, "GET", path, "", "X-Vault-Token: "+token["without policies"])
	}
	f.Must(t, 405, "DELETE", "sys/mounts", "", "X-Vault-Token: "+token["full"])
	f.Must(t, 403, "BREW", "sys/mounts", "", "X-Vault-Token: "+token["exact PUT"])
}
