package server

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// hashWait is how long a password waits for its turn to be hashed.
const hashWait = 10 * time.Second

// hashesAtOnce is how many passwords are hashed at once, outside of transactions
// and each with 19 MiB: that leaves half of the processors to others.
func hashesAtOnce() int { return max(1, min(4, runtime.GOMAXPROCS(0)/2)) }

// userPass is the login method of people without anything better: a password.
func userPass() authMethod {
	return authMethod{
		routes: []oldRoute{
			{path: "login/*", named: true, gate: unsealed, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: loginUser}},
			{path: "users", gate: authenticated, on: [ops]handler{opList: listUsers}},
			{path: "users/*/password", named: true, gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: writePassword}},
			{path: "users/*/policies", named: true, gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: writeUserPolicies}},
			{path: "users/*", named: true, gate: authenticated, exists: userExists, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: readUser, opWrite: writeUser, opDelete: deleteUser}},
		},
		renew: func(_ *request, tx *storage.Tx, folder string, t *access.Token) (*access.TokenParams, error) {
			user, err := access.Users(folder).Get(tx, t.Login)
			switch {
			case err != nil:
				return nil, err
			case user == nil:
				return nil, invalid("user %q does not exist during renewal", t.Login)
			case !user.Token.Same(t.Policies):
				return nil, invalid("policies have changed, not renewing")
			}
			return &user.Token, nil
		},
	}
}

// hashing runs fn, which hashes a password, when it is its turn.
func (s *Server) hashing(r *request, fn func()) error {
	wait := time.NewTimer(hashWait)
	defer wait.Stop()
	select {
	case s.hashes <- struct{}{}:
	case <-wait.C:
		return &api.Error{Code: api.Busy, Text: "too many logins with passwords at once: try again", After: time.Second}
	case <-r.Context.Done():
		return r.Context.Err()
	}
	defer func() { <-s.hashes }()
	fn()
	return nil
}

type passwordInput struct {
	Password string `json:"password"`
	Hash     string `json:"password_hash"`
}

// hash is the hash of the password in a request, "" when there is none.
func (s *Server) hash(r *request, in passwordInput) (hash access.PasswordHash, err error) {
	switch {
	case in.Hash != "":
		return "", invalid("password_hash is not supported, for it is of bcrypt: send the password")
	case in.Password == "":
		return "", nil
	case len(in.Password) > access.MaxCredential:
		return "", invalid("a password has at most %d bytes", access.MaxCredential)
	case strings.HasSuffix(in.Password, "\n"): // of a file
		return "", invalid("the password ends in a line break, which nobody can type: leave that out")
	}
	err = s.hashing(r, func() { hash = access.HashPassword(in.Password) })
	return hash, err
}

// userAbsent is the answer where a user must be there.
func userAbsent(r *request) error {
	return &api.Error{Code: api.NotFound, Text: fmt.Sprintf("user %q does not exist", r.rest)}
}

func userExists(r *request, tx *storage.Tx) (bool, error) {
	user, err := access.Users(r.Mount.Prefix()).Get(tx, r.rest)
	return user != nil, err
}

func listUsers(s *Server, r *request) (answer, error) {
	return r.listMethod(func(tx *storage.Tx, folder string) ([]string, error) { return access.Users(folder).List(tx) })
}

func readUser(s *Server, r *request) (answer, error) {
	var user *access.User
	err := r.viewMethod(func(tx *storage.Tx, folder string) (err error) {
		user, err = access.Users(folder).Get(tx, r.rest)
		return err
	})
	if err == nil && user == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return answer{}, err
	}
	return answer{data: viewParams(&user.Token, map[string]any{})}, nil
}

// changeUser lets edit change a user; one that is not there is made if create.
func (r *request) changeUser(create bool, edit func(*access.User) error) error {
	return r.updateMethod(func(tx *storage.Tx, folder string) error {
		user, err := access.Users(folder).Get(tx, r.rest)
		switch {
		case err != nil:
			return err
		case user == nil && !create:
			return userAbsent(r)
		case user == nil:
			user = &access.User{Name: r.rest}
		}
		if err := edit(user); err != nil {
			return err
		}
		return access.Users(folder).Put(tx, user)
	})
}

func writeUser(s *Server, r *request) (answer, error) {
	var in struct {
		tokenFields
		passwordInput
	}
	if err := r.settings(&in); err != nil {
		return answer{}, err
	}
	hash, err := s.hash(r, in.passwordInput)
	if err != nil {
		return answer{}, err
	}
	var warnings []string
	err = r.changeUser(true, func(u *access.User) (err error) {
		if hash != "" {
			u.Password = hash
		}
		warnings, err = in.apply(&u.Token)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return answer{warnings: warnings}, nil
}

func writePassword(s *Server, r *request) (answer, error) {
	var in passwordInput
	if err := r.settings(&in); err != nil {
		return answer{}, err
	}
	hash, err := s.hash(r, in)
	if err == nil && hash == "" {
		err = invalid("missing password")
	}
	if err != nil {
		return answer{}, err
	}
	return answer{}, r.changeUser(false, func(u *access.User) error { u.Password = hash; return nil })
}

func writeUserPolicies(s *Server, r *request) (answer, error) {
	var in struct {
		Policies loose[[]string] `json:"token_policies"`
		Old      loose[[]string] `json:"policies"`
	}
	if err := r.settings(&in); err != nil {
		return answer{}, err
	}
	var warnings []string
	prefer(&warnings, "policies", &in.Policies, &in.Old)
	if !in.Policies.given {
		return answer{}, invalid("missing token_policies")
	}
	err := r.changeUser(false, func(u *access.User) error { u.Token.Policies = in.Policies.value; return nil })
	if err != nil {
		return answer{}, err
	}
	return answer{warnings: warnings}, nil
}

func deleteUser(s *Server, r *request) (answer, error) {
	return answer{}, r.updateMethod(func(tx *storage.Tx, folder string) error { return access.Users(folder).Delete(tx, r.rest) })
}

var errPassword = &api.Error{Code: api.Invalid, Text: "invalid username or password"}

func loginUser(s *Server, r *request) (answer, error) {
	var in passwordInput
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	switch {
	case in.Password == "":
		return answer{}, invalid("missing password")
	case len(in.Password) > access.MaxCredential:
		return answer{}, errPassword
	}
	return s.tryLogin(r, r.rest, func() (answer, error) {
		var hash access.PasswordHash // of nobody
		err := r.viewMethod(func(tx *storage.Tx, folder string) error {
			user, err := access.Users(folder).Get(tx, r.rest)
			if user != nil {
				hash = user.Password
			}
			if errors.Is(err, access.ErrInvalid) { // nobody is called that
				err = nil
			}
			return err
		})
		if err != nil {
			return answer{}, err
		}
		matches := false
		if turn := s.hashing(r, func() { matches, err = hash.Matches(in.Password) }); turn != nil {
			return answer{}, turn
		}
		if err == nil && !matches {
			err = errPassword
		}
		if err != nil {
			return answer{}, err
		}
		return s.login(r, func(tx *storage.Tx, folder string) (*access.Login, error) {
			user, err := access.Users(folder).Get(tx, r.rest)
			if err == nil && (user == nil || user.Password != hash) { // it has changed just now
				err = errPassword
			}
			if err != nil {
				return nil, err
			}
			return &access.Login{Name: user.Name, DisplayName: user.Name, Params: user.Token, Meta: map[string]string{"username": user.Name}}, nil
		})
	})
}
