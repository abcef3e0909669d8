package server

import (
	"net"
	"strconv"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// peerMethod is the login of processes on the same machine through a unix socket:
// the kernel says who they are, so that there is no secret.
var peerMethod = authMethod{
	routes: append(peerRoles.routes(),
		oldRoute{path: "login", gate: unsealed, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opWrite: loginPeer}},
	),
	renew: func(_ *request, tx *storage.Tx, folder string, t *access.Token) (*access.TokenParams, error) {
		role, err := peerRoles.renew(tx, folder, t.Login)
		if err != nil {
			return nil, err
		}
		return &role.TokenParams, nil
	},
}

var peerRoles = methodRole[access.PeerRole]{
	path: "role", create: true,
	new:   func(name string) *access.PeerRole { return &access.PeerRole{Name: name} },
	check: func(r *access.PeerRole) interface{ Check() error } { return r },
	view: func(r *access.PeerRole) map[string]any {
		return viewParams(&r.TokenParams, map[string]any{
			"bound_uids": append([]uint32{}, r.UIDs...),
			"bound_gids": append([]uint32{}, r.GIDs...),
		})
	},
	edit: func(r *request) (func(*access.PeerRole) ([]string, error), error) {
		var in struct {
			tokenFields
			UIDs loose[[]string] `json:"bound_uids"`
			GIDs loose[[]string] `json:"bound_gids"`
		}
		if err := r.settings(&in); err != nil {
			return nil, err
		}
		uids, err := idNumbers(in.UIDs.value)
		if err != nil {
			return nil, err
		}
		gids, err := idNumbers(in.GIDs.value)
		if err != nil {
			return nil, err
		}
		return func(role *access.PeerRole) ([]string, error) {
			if in.UIDs.given {
				role.UIDs = uids
			}
			if in.GIDs.given {
				role.GIDs = gids
			}
			return in.apply(&role.TokenParams)
		}, nil
	},
}

// idNumbers reads the numbers of users or groups.
func idNumbers(texts []string) (ids []uint32, err error) {
	for _, text := range texts {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, invalid("%q is not the number of a user or group: `id` tells it", text)
		}
		ids = append(ids, uint32(id))
	}
	return ids, nil
}

// Peer is the process that the request comes from.
func (r *request) Peer() (p access.Peer, err error) {
	var socket *net.UnixConn
	if r.conn != nil {
		socket, _ = r.conn.Conn.(*net.UnixConn)
	}
	if socket == nil {
		return p, invalid("this login takes a connection through the unix socket of a listener")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return p, err
	}
	var asked error
	if err := raw.Control(func(fd uintptr) { p, asked = peerOf(int(fd)) }); err != nil {
		return p, err
	}
	return p, asked
}

func loginPeer(s *Server, r *request) (answer, error) {
	var in struct {
		Role string `json:"role"`
	}
	if err := r.decode(&in); err != nil {
		return answer{}, err
	}
	peer, err := r.Peer()
	if err != nil {
		return answer{}, err
	}
	if in.Role == "" {
		return answer{}, invalid("missing role")
	}
	uid, gid := strconv.FormatUint(uint64(peer.UID), 10), strconv.FormatUint(uint64(peer.GID), 10)
	return s.tryLogin(r, "uid "+uid, func() (answer, error) {
		var role *access.PeerRole
		err := r.viewMethod(func(tx *storage.Tx, folder string) (err error) {
			role, err = peerRoles.get(tx, folder, in.Role)
			return err
		})
		switch {
		case err != nil:
			return answer{}, err
		case role == nil:
			return answer{}, invalid("role %q could not be found", in.Role)
		case !role.Match(peer):
			return answer{}, &api.Error{Code: api.Denied, Text: "permission denied: the role " + strconv.Quote(role.Name) + " is not for uid " + uid + ", gid " + gid}
		}
		return s.login(r, func(*storage.Tx, string) (*access.Login, error) {
			return &access.Login{
				DisplayName: "uid-" + uid, Name: role.Name, Params: role.TokenParams,
				Meta: map[string]string{"role": role.Name, "uid": uid, "gid": gid},
			}, nil
		})
	})
}
