// Package cert is the login with a TLS client certificate.
//
// TLS sees to it that the client has the key of its certificate. A role names
// authorities, or the one certificate that logs in, and rules for the names in the
// certificate. Lists of revoked certificates are written by whoever has them; none is
// fetched. Tokens are renewed with the same certificate only, as long as that could
// still log in, unless the configuration says otherwise.
//
// # Cost
//
// All roles and lists of a mount are read and parsed once after each change of one of
// them, and kept in memory. A login costs a pass over the mount's records, without
// decrypting, to see whether they have changed; then the signatures of the chain. Both
// happen before the transaction that makes the token, where the pass is repeated.
//
// # In the store
//
// Below the folder of the mount, as package login describes records:
//
//	<folder>/config        the configuration
//	<folder>/certs/<name>  a role: which certificates log in, and what their tokens are like
//	<folder>/crls/<name>   the serial numbers of certificates that were revoked
package cert

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/storage"
)

// Type is the login method as a keep enables it.
func Type() api.Type {
	m := new(method)
	return api.Type{
		Name: "cert", Kind: api.Login,
		Help: "Logs in with TLS client certificates.",
		Routes: append(roles.Routes(),
			api.Route{Path: "config", Help: "Whether tokens are renewed only with the certificate of the login.", Settings: true,
				Ops: map[api.Op]api.Handler{api.Read: api.View(getConfig).Answers(Config{}), api.Write: api.Update(putConfig)}},
			api.Route{Path: "crls", Help: "The names of the lists of revoked certificates.",
				Ops: map[api.Op]api.Handler{api.List: login.List(crlFolder)}},
			api.Route{Path: "crls/{name...}", Help: "A list of revoked certificates.", Folded: true, Settings: true, Body: crlBody,
				Ops: map[api.Op]api.Handler{api.Read: api.View(getCRL).Answers(shown(nil)), api.Write: api.Do(putCRL), api.Delete: api.Update(removeCRL)}},
			api.Route{Path: "login", Help: "Gives a token to whoever shows a certificate that a role is for.", Gate: api.Unsealed,
				Ops: map[api.Op]api.Handler{api.Write: api.LogIn(name, m.check)}},
		),
		Renew: renew,
		Prove: m.prove,
	}
}

// A Config is the configuration of a mount.
type Config struct {
	// DisableBinding lets the tokens of logins be renewed without the certificate.
	DisableBinding bool `json:"disable_binding"`
}

const (
	configFile = "/config"
	recordKind = "a record of a login method" // in errors
)

func readConfig(tx *storage.Tx, folder string) (c Config, err error) {
	_, err = login.ReadRecord(tx, folder+configFile, recordKind, &c)
	return c, err
}

func getConfig(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	c, err := readConfig(tx, r.Prefix())
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: c}, nil
}

type configInput struct {
	DisableBinding *bool `json:"disable_binding"`
}

func putConfig(r *api.Request, tx *storage.Tx, in *configInput) (api.Answer, error) {
	c, err := readConfig(tx, r.Prefix())
	if err != nil {
		return api.Answer{}, err
	}
	api.Set(&c.DisableBinding, in.DisableBinding)
	return api.Answer{}, login.WriteRecord(tx, r.Prefix()+configFile, recordKind, c)
}

// A method is what the mounts of a keep share.
type method struct {
	roles login.Cache[storage.Version, *Roles]
}

// all returns the roles and lists of a mount as they are now, and still, which refuses
// with ErrChanged any others.
func (m *method) all(r *api.Request, mount *api.Mount) (all *Roles, still func(*storage.Tx) error, err error) {
	var version storage.Version
	err = r.View(func(tx *storage.Tx) (err error) {
		if version, err = tx.FolderVersion(mount.Prefix()); err != nil {
			return err
		}
		all, err = m.roles.Get(mount.UUID, version, func(*Roles) (*Roles, error) { return readRoles(tx, mount.Prefix()) })
		return err
	})
	return all, func(tx *storage.Tx) error {
		now, err := tx.FolderVersion(mount.Prefix())
		if err == nil && now != version {
			err = api.ErrChanged
		}
		return err
	}, err
}

type loginInput struct {
	Name string `json:"name"` // of a role; "": any
}

// name has the failures of one certificate count against that certificate alone.
func name(r *api.Request, _ *loginInput) (name, group string, err error) {
	shown, err := r.Frame.Certificates()
	if err != nil {
		return "", "", err
	}
	return hash(shown[0]), "", nil
}

func (m *method) check(r *api.Request, in *loginInput) (api.Proof, error) {
	shown, err := r.Frame.Certificates()
	if err != nil {
		return nil, err
	}
	all, still, err := m.all(r, r.Mount)
	if err != nil {
		return nil, err
	}
	role, err := all.Match(shown, access.CanonicalName(in.Name), r.Frame.Time())
	if err != nil {
		return nil, err
	}
	leaf := shown[0]
	return func(tx *storage.Tx) (*access.Login, error) {
		if err := still(tx); err != nil {
			return nil, err
		}
		c, err := readConfig(tx, r.Prefix())
		if err != nil {
			return nil, err
		}
		l := &access.Login{DisplayName: role.DisplayName, Name: role.Name, Params: role.TokenParams}
		if _, l.Meta = role.Identity(leaf); !c.DisableBinding {
			l.Certificate = hash(leaf)
		}
		return l, nil
	}, nil
}

// hash names a certificate.
func hash(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// renew takes the role as it is now, if it has the token's policies.
func renew(_ *api.Request, tx *storage.Tx, m *api.Mount, t *access.Token) (*access.TokenParams, error) {
	role, err := roles.Renew(tx, m, t)
	if err != nil {
		return nil, err
	}
	if !role.Same(t.Policies) {
		return nil, api.Invalid.Errorf("policies have changed, not renewing")
	}
	return &role.TokenParams, nil
}

// prove demands that the client shows the certificate of the login again, and that
// this could still log in.
func (m *method) prove(r *api.Request, mount *api.Mount, t *access.Token) (still func(*storage.Tx) error, err error) {
	if t.Certificate == "" {
		return func(*storage.Tx) error { return nil }, nil
	}
	shown, err := r.Frame.Certificates()
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(hash(shown[0])), []byte(t.Certificate)) != 1 {
		return nil, api.Invalid.Errorf("client identity during renewal not matching client identity used during login")
	}
	all, still, err := m.all(r, mount)
	if err != nil {
		return nil, err
	}
	_, err = all.Match(shown, t.Login, r.Frame.Time())
	return still, err
}
