// Package userpass is the login method of people without anything better: a name and
// a password.
//
// # In the store
//
// Below the folder of the mount:
//
//	user/<name>  JSON {"version":1,"data":{"password":...,"token":{...}}}: a user
//
// The password is an argon2id hash in its usual text, see passwordHash.
//
// # Cost
//
// Setting a password and logging in each hash one: about 25 ms of a processor and
// 19 MiB of memory, outside of transactions. At most half of the processors hash at
// once; other requests wait for their turn. A login of a user that does not exist
// costs the same as that of one that does.
package userpass

import (
	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/storage"
)

// Type is the method as a keep enables it.
func Type() api.Type {
	hashes := make(turns, hashesAtOnce())
	return api.Type{
		Name: "userpass", Kind: api.Login,
		Help:  "People log in with a name and a password.",
		Renew: renew,
		Routes: []api.Route{
			{Path: "login/{name...}", Help: "Logs a user in.", Gate: api.Unsealed, Folded: true,
				Ops: map[api.Op]api.Handler{api.Write: api.LogIn(who, hashes.check)}},
			{Path: userFolder, Help: "The names of the users.",
				Ops: map[api.Op]api.Handler{api.List: login.List(userRecords)}},
			{Path: userFolder + "/{name...}", Help: "A user, and what its tokens are like.", Exists: exists, Settings: true, Folded: true,
				Ops: map[api.Op]api.Handler{api.Read: api.View(read).Answers(view(new(user))), api.Write: api.Do(hashes.write), api.Delete: api.Update(remove)}},
			{Path: userFolder + "/{name...}/password", Help: "Sets the password of a user.", Settings: true, Folded: true,
				Ops: map[api.Op]api.Handler{api.Write: api.Do(hashes.writePassword)}},
			{Path: userFolder + "/{name...}/policies", Help: "Sets the policies of a user's tokens.", Settings: true, Folded: true,
				Ops: map[api.Op]api.Handler{api.Write: api.Update(writePolicies)}},
		},
	}
}

// renew returns what the tokens of the user are like now. Vault does not renew a
// token whose user has other policies since.
func renew(_ *api.Request, tx *storage.Tx, m *api.Mount, t *access.Token) (*access.TokenParams, error) {
	user, err := readUser(tx, m.Prefix(), t.Login)
	switch {
	case err != nil:
		return nil, err
	case user == nil:
		return nil, api.Invalid.Errorf("user %q does not exist during renewal", t.Login)
	case !user.Token.Same(t.Policies):
		return nil, api.Invalid.Errorf("policies have changed, not renewing")
	}
	return &user.Token, nil
}

type loginInput struct {
	Password string `json:"password"`
}

// errPassword is Vault's answer, whichever of the two is wrong.
var errPassword = api.Invalid.Errorf("invalid username or password")

// who is the user whose failed logins count. A request that can be nobody's is
// refused here and does not count.
func who(r *api.Request, in *loginInput) (name, group string, err error) {
	switch {
	case in.Password == "":
		err = api.Invalid.Errorf("missing password")
	case len(in.Password) > maxPassword:
		err = errPassword
	}
	return r.Param("name"), "", err
}

// check compares the password with the user's hash. The proof holds while the user
// has that hash.
func (t turns) check(r *api.Request, in *loginInput) (api.Proof, error) {
	name := r.Param("name")
	var hash passwordHash // stays empty for an unknown user
	if _, err := login.Name("user", name); err == nil {
		err := r.View(func(tx *storage.Tx) error {
			user, err := readUser(tx, r.Prefix(), name)
			if user != nil {
				hash = user.Password
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	matches := false
	var damaged error
	if err := t.take(r, func() { matches, damaged = hash.matches(in.Password) }); err != nil {
		return nil, err
	}
	if damaged != nil {
		return nil, damaged
	}
	if !matches {
		return nil, errPassword
	}
	return func(tx *storage.Tx) (*access.Login, error) {
		user, err := readUser(tx, r.Prefix(), name)
		if err == nil && (user == nil || user.Password != hash) { // it has changed just now
			err = errPassword
		}
		if err != nil {
			return nil, err
		}
		return &access.Login{Name: user.Name, DisplayName: user.Name, Params: user.Token, Meta: map[string]string{"username": user.Name}}, nil
	}, nil
}
