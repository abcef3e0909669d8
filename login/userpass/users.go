package userpass

import (
	"fmt"
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/storage"
)

// A user logs in with a password.
type user struct {
	Name     string             `json:"-"`
	Password passwordHash       `json:"password"`
	Token    access.TokenParams `json:"token"`
}

const (
	userFolder  = "users" // in the API
	userRecords = "user"  // in the store
	userKind    = "a user"
)

// readUser reads a user, nil when there is none.
func readUser(tx *storage.Tx, folder, name string) (*user, error) {
	name, err := login.Name("user", name)
	if err != nil {
		return nil, err
	}
	u := &user{Name: name}
	found, err := login.ReadRecord(tx, folder+"/"+userRecords+"/"+name, userKind, u)
	if err != nil || !found {
		return nil, err
	}
	return u, nil
}

func writeUser(tx *storage.Tx, folder string, u *user) error {
	path, err := login.Path(folder+"/"+userRecords, "user", u.Name)
	if err != nil {
		return err
	}
	if u.Password == "" {
		return api.Invalid.Errorf("missing password")
	}
	if err := u.Token.Check(); err != nil {
		return err
	}
	return login.WriteRecord(tx, path, userKind, u)
}

func exists(r *api.Request, tx *storage.Tx) (bool, error) {
	u, err := readUser(tx, r.Prefix(), r.Param("name"))
	return u != nil, err
}

func read(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	u, err := readUser(tx, r.Prefix(), r.Param("name"))
	if err == nil && u == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: view(u)}, nil
}

// view is what is shown of a user.
func view(u *user) map[string]any { return login.ViewParams(&u.Token, map[string]any{}) }

type passwordInput struct {
	Password string `json:"password"`
	Hash     string `json:"password_hash"`
}

// hash hashes the password in a request; "" means that there is none.
func (t turns) hash(r *api.Request, in *passwordInput) (hash passwordHash, err error) {
	switch {
	case in.Hash != "":
		return "", api.Invalid.Errorf("password_hash is not supported, for it is of bcrypt: send the password")
	case in.Password == "":
		return "", nil
	case len(in.Password) > maxPassword:
		return "", api.Invalid.Errorf("a password has at most %d bytes", maxPassword)
	case strings.HasSuffix(in.Password, "\n"): // as a file has it
		return "", api.Invalid.Errorf("the password ends in a line break, which nobody can type: leave that out")
	}
	err = t.take(r, func() { hash = hashPassword(in.Password) })
	return hash, err
}

type userInput struct {
	login.TokenFields
	passwordInput
}

// write changes what the request names of a user, or makes the user.
func (t turns) write(r *api.Request, in *userInput) (api.Answer, error) {
	hash, err := t.hash(r, &in.passwordInput)
	if err != nil {
		return api.Answer{}, err
	}
	var warnings []string
	err = r.Update(func(tx *storage.Tx) error {
		u, err := readUser(tx, r.Prefix(), r.Param("name"))
		if err != nil {
			return err
		}
		if u == nil {
			u = &user{Name: r.Param("name")}
		}
		if hash != "" {
			u.Password = hash
		}
		if warnings, err = in.Apply(&u.Token); err != nil {
			return err
		}
		return writeUser(tx, r.Prefix(), u)
	})
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Warnings: warnings}, nil
}

// change changes a user that must exist.
func change(r *api.Request, tx *storage.Tx, edit func(*user)) error {
	u, err := readUser(tx, r.Prefix(), r.Param("name"))
	if err == nil && u == nil {
		err = api.NotFound.Errorf("user %q does not exist", r.Param("name"))
	}
	if err != nil {
		return err
	}
	edit(u)
	return writeUser(tx, r.Prefix(), u)
}

func (t turns) writePassword(r *api.Request, in *passwordInput) (api.Answer, error) {
	hash, err := t.hash(r, in)
	if err == nil && hash == "" {
		err = api.Invalid.Errorf("missing password")
	}
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{}, r.Update(func(tx *storage.Tx) error {
		return change(r, tx, func(u *user) { u.Password = hash })
	})
}

type policiesInput struct {
	Policies    *[]string `json:"token_policies"`
	OldPolicies *[]string `json:"policies"`
}

func writePolicies(r *api.Request, tx *storage.Tx, in *policiesInput) (a api.Answer, err error) {
	policies := login.Prefer(&a.Warnings, "policies", in.Policies, in.OldPolicies)
	if policies == nil {
		return a, api.Invalid.Errorf("missing token_policies")
	}
	return a, change(r, tx, func(u *user) { u.Token.Policies = *policies })
}

// remove deletes a user, whose tokens are renewed no more.
func remove(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	path, err := login.Path(r.Prefix()+"/"+userRecords, "user", r.Param("name"))
	if err != nil {
		return api.Answer{}, err
	}
	if err := tx.Delete(path); err != nil {
		return api.Answer{}, fmt.Errorf("deleting %s: %w", userKind, err)
	}
	return api.Answer{}, nil
}
