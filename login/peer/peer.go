// Package peer is the login of processes on the same machine through a unix socket.
// The kernel says who they are, so there is no secret to keep.
//
// A login costs one read of the role before the transaction that makes the token,
// and one in it.
//
// # In the store
//
// Below the folder of the mount, as package login describes records:
//
//	<folder>/role/<name>  a role: whom it is for, and what its tokens are like
package peer

import (
	"strconv"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Type is the login method as a keep enables it.
func Type() api.Type {
	return api.Type{
		Name: "peer", Kind: api.Login,
		Help: "Logs processes in that connect through a unix socket.",
		Routes: append(roles.Routes(), api.Route{
			Path: "login", Gate: api.Unsealed, Help: "Gives a token to a process that a role is for.",
			Ops: map[api.Op]api.Handler{api.Write: api.LogIn(name, check)},
		}),
		Renew: func(_ *api.Request, tx *storage.Tx, m *api.Mount, t *access.Token) (*access.TokenParams, error) {
			role, err := roles.Renew(tx, m, t)
			if err != nil {
				return nil, err
			}
			return &role.TokenParams, nil
		},
	}
}

type loginInput struct {
	Role string `json:"role"`
}

// name has the failures of one user count against that user alone.
func name(r *api.Request, in *loginInput) (name, group string, err error) {
	peer, err := r.Frame.Peer()
	switch {
	case err != nil:
		return "", "", err
	case in.Role == "":
		return "", "", api.Invalid.Errorf("missing role")
	}
	return "uid " + number(peer.UID), "", nil
}

func check(r *api.Request, in *loginInput) (api.Proof, error) {
	peer, err := r.Frame.Peer()
	if err != nil {
		return nil, err
	}
	proof := func(tx *storage.Tx) (*access.Login, error) {
		role, err := roles.Get(tx, r.Prefix(), in.Role)
		if err == nil && role == nil {
			err = api.Invalid.Errorf("role %q could not be found", in.Role)
		}
		if err != nil {
			return nil, err
		}
		return role.logIn(peer)
	}
	return proof, r.View(func(tx *storage.Tx) error {
		_, err := proof(tx)
		return err
	})
}

func number(id uint32) string { return strconv.FormatUint(uint64(id), 10) }
