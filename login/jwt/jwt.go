// Package jwt is the login with JWTs that somebody else has signed, as CI systems hand
// them to their jobs.
//
// A login verifies the signature with the keys of the mount's configuration, and
// compares the claims with a role. Both happen before the transaction that makes the
// token; that reads the role again, and begins anew if the configuration has changed.
//
// # Cost
//
// A verifier is made once for each configuration that is written, and remembers the
// keys that it has fetched: see keys.go for when it fetches them again. It outlives the
// re-encryption of the configuration under a new term. A login costs
// reading the version of the configuration, reading the role, and the signature.
//
// # In the store
//
// Below the folder of the mount, as package login describes records:
//
//	<folder>/config       the configuration: whose JWTs, and where the keys are
//	<folder>/role/<name>  a role: which JWTs log in, and what their tokens are like
package jwt

import (
	"errors"
	"reflect"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/storage"
)

// ErrKeys means that the keys which verify a JWT could not be fetched.
var ErrKeys = errors.New("the keys of the issuer cannot be fetched: try again; the server's log says why")

// Type is the login method as a keep enables it.
func Type() api.Type {
	m := new(method)
	return api.Type{
		Name: "jwt", Kind: api.Login,
		Help:   "Logs in with JWTs that somebody else has signed.",
		Errors: map[error]api.Code{ErrKeys: api.Unavailable},
		Routes: append(roles.Routes(),
			api.Route{Path: "config", Help: "Whose JWTs log in, and where the keys are that verify them.", Settings: true,
				Ops: map[api.Op]api.Handler{api.Read: api.View(getConfig).Answers(Config{PublicKeys: []string{}, Algorithms: []string{}}), api.Write: api.Do(m.putConfig)}},
			api.Route{Path: "login", Help: "Gives a token to whoever shows a JWT that a role is for.", Gate: api.Unsealed,
				Ops: map[api.Op]api.Handler{api.Write: api.LogIn(m.name, m.check)}},
		),
		Basic: m.basic,
		Renew: func(_ *api.Request, tx *storage.Tx, m *api.Mount, t *access.Token) (*access.TokenParams, error) {
			role, err := roles.Renew(tx, m, t)
			if err != nil {
				return nil, err
			}
			return &role.TokenParams, nil
		},
	}
}

// A method is what the mounts of a keep share.
type method struct {
	issuers login.Cache[storage.Version, *issuer]
}

// An issuer is what logins need of a configuration.
type issuer struct {
	version  storage.Version // of the configuration
	config   *Config
	verifier *Verifier
}

// issuer returns that of the configuration as it is now.
func (m *method) issuer(r *api.Request) (i *issuer, err error) {
	err = r.View(func(tx *storage.Tx) error {
		version, err := tx.Version(r.Prefix() + configFile)
		if err != nil {
			return err
		}
		i, err = m.issuers.Get(r.Mount.UUID, version, func(old *issuer) (*issuer, error) {
			c, err := readConfig(tx, r.Prefix())
			if err == nil && c == nil {
				err = api.Invalid.Errorf("could not load configuration")
			}
			if err != nil {
				return nil, err
			}
			if old != nil && reflect.DeepEqual(c, old.config) { // it was re-encrypted
				return &issuer{version, c, old.verifier}, nil
			}
			v, err := NewVerifier(*c, r.Frame.Log())
			return &issuer{version, c, v}, err
		})
		return err
	})
	return i, err
}

type loginInput struct {
	Role string `json:"role"`
	JWT  string `json:"jwt"`
}

// name has the failures of one JWT count against that JWT alone. Nobody guesses one:
// whoever shows bad ones must not slow down the jobs of a role, which come from
// anywhere.
func (m *method) name(r *api.Request, in *loginInput) (name, group string, err error) {
	i, err := m.issuer(r)
	if err != nil {
		return "", "", err
	}
	if in.Role == "" {
		in.Role = i.config.DefaultRole
	}
	switch {
	case in.Role == "":
		return "", "", api.Invalid.Errorf("missing role")
	case in.JWT == "":
		return "", "", api.Invalid.Errorf("missing token")
	}
	in.Role = access.CanonicalName(in.Role)
	return in.JWT, in.Role, nil
}

func (m *method) check(r *api.Request, in *loginInput) (api.Proof, error) {
	i, err := m.issuer(r)
	if err != nil {
		return nil, err
	}
	var role *Role
	read := func(tx *storage.Tx) (err error) {
		role, err = roles.Get(tx, r.Prefix(), in.Role)
		if err == nil && role == nil {
			err = api.Invalid.Errorf("role %q could not be found", in.Role)
		}
		return err
	}
	if err := r.View(read); err != nil {
		return nil, err
	}
	claims, err := i.verifier.Verify(r.Context, in.JWT)
	if err != nil {
		return nil, err
	}
	if _, err := role.logIn(claims, r.Frame.Time()); err != nil {
		return nil, err
	}
	return func(tx *storage.Tx) (*access.Login, error) {
		version, err := tx.Version(r.Prefix() + configFile)
		if err == nil && version != i.version {
			err = api.ErrChanged
		}
		if err == nil {
			err = read(tx)
		}
		if err != nil {
			return nil, err
		}
		return role.logIn(claims, r.Frame.Time())
	}, nil
}
