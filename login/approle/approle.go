// Package approle is the login method of machines: a role ID, which names the role,
// and a secret ID, which proves that the machine may use it.
//
// A role says what its tokens are like and what its secret IDs may be. A secret ID
// ends with its time, with its uses, with its role, or when it is destroyed by itself
// or by its accessor.
//
// # In the store
//
// Below the folder of the mount:
//
//	key                  32 random bytes, made with the first role
//	role/<name>          JSON {"version":1,"data":{...}}: a role
//	role-id/<hash>       the name of the role with that role ID
//	secret/<f>/<hash>    JSON {"version":1,"data":{...}}: a secret ID; <f> is a folder of the role's own
//	accessor/<f>/<name>  the hash of the secret ID with that accessor
//
// A hash is the HMAC-SHA256 with the key, in hex digits. So no secret ID is stored,
// and a look-up compares none of its bytes.
//
// # Cost
//
// A login reads four records and writes the secret ID if its uses are counted, all in
// the transaction that makes the token. Deleting a role costs the same however many
// secret IDs it has: Tidy deletes those afterwards, and those whose time has passed.
package approle

import (
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/storage"
)

const oneRole = "role/{name...}"

// Type is the method as a keep enables it.
func Type() api.Type {
	return api.Type{
		Name: "approle", Kind: api.Login,
		Help:  "Machines log in with a role ID and a secret ID.",
		Renew: renew,
		Tidy:  tidy,
		Routes: slices.Concat([]api.Route{
			{Path: "login", Help: "Logs a machine in.", Gate: api.Unsealed,
				Ops: map[api.Op]api.Handler{api.Write: api.LogIn(who, check)}},
			{Path: "tidy/secret-id", Help: "Deletes the secret IDs that have ended, soon.",
				Ops: map[api.Op]api.Handler{api.Write: api.Do(tidySoon)}},
			{Path: "role", Help: "The names of the roles.",
				Ops: map[api.Op]api.Handler{api.List: login.List("role")}},
			{Path: oneRole, Help: "A role: what its secret IDs may be, and what its tokens are like.", Exists: exists, Settings: true, Folded: true,
				Ops: map[api.Op]api.Handler{api.Read: api.View(read).Answers(whole(view(new(role)))), api.Write: api.Update(write), api.Delete: api.Do(remove)}},
			{Path: oneRole + "/secret-id", Help: "Makes a secret ID, and lists the accessors of those that there are.", Settings: true, Folded: true,
				Ops: map[api.Op]api.Handler{api.Write: api.Update(makeSecretID).Answers(told("", new(secretID))), api.List: api.View(listAccessors)}},
			{Path: oneRole + "/custom-secret-id", Help: "Takes a secret ID of the caller's choice.", Settings: true, Folded: true,
				Ops: map[api.Op]api.Handler{api.Write: api.Update(takeSecretID).Answers(told("", new(secretID)))}},
			{Path: oneRole + "/secret-id/lookup", Help: "What is known of a secret ID.", Folded: true,
				Ops: map[api.Op]api.Handler{api.Write: lookup(bySecretID)}},
			{Path: oneRole + "/secret-id/destroy", Help: "Destroys a secret ID.", Folded: true,
				Ops: map[api.Op]api.Handler{api.Write: destroy(bySecretID), api.Delete: destroy(bySecretID)}},
			{Path: oneRole + "/secret-id-accessor/lookup", Help: "What is known of the secret ID with an accessor.", Folded: true,
				Ops: map[api.Op]api.Handler{api.Write: lookup(byAccessor)}},
			{Path: oneRole + "/secret-id-accessor/destroy", Help: "Destroys the secret ID with an accessor.", Folded: true,
				Ops: map[api.Op]api.Handler{api.Write: destroy(byAccessor), api.Delete: destroy(byAccessor)}},
		}, fieldRoutes()),
	}
}

// of is the folder of the method's records that a request is for.
func of(r *api.Request) records { return records(r.Prefix()) }

// renew returns what the tokens of the role are like now.
func renew(_ *api.Request, tx *storage.Tx, m *api.Mount, t *access.Token) (*access.TokenParams, error) {
	role, err := records(m.Prefix()).role(tx, t.Login)
	if err == nil && role == nil {
		err = api.Invalid.Errorf("role %q does not exist during renewal", t.Login)
	}
	if err != nil {
		return nil, err
	}
	return &role.Token, nil
}

type loginInput struct {
	RoleID   string `json:"role_id"`
	SecretID string `json:"secret_id"`
}

// who is the role ID whose failed logins count.
func who(_ *api.Request, in *loginInput) (name, group string, err error) {
	return strings.TrimSpace(in.RoleID), "", nil
}

// check leaves all to the proof: whether a secret ID has a use left is known only in
// the transaction that takes it.
func check(r *api.Request, in *loginInput) (api.Proof, error) {
	return func(tx *storage.Tx) (*access.Login, error) {
		return of(r).login(tx, in.RoleID, in.SecretID, r.Caller.Source, r.Now)
	}, nil
}
