package peer

import (
	"slices"
	"strconv"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
)

// nobody stands for every user that the keep's user namespace does not know; noID
// says that there is none.
const (
	nobody = 65534
	noID   = 1<<32 - 1
)

// A Role says which processes log in, and what their tokens are like.
type Role struct {
	Name string   `json:"name"`
	UIDs []uint32 `json:"bound_uids"` // empty: any, if the group fits
	GIDs []uint32 `json:"bound_gids"` // empty: any, if the user fits
	access.TokenParams
}

// Check says what is wrong with the role.
func (r *Role) Check() error {
	if len(r.UIDs)+len(r.GIDs) == 0 {
		return api.Invalid.Errorf("must have at least one of 'bound_uids' and 'bound_gids'")
	}
	for _, id := range slices.Concat(r.UIDs, r.GIDs) {
		if id == nobody || id == noID {
			return api.Invalid.Errorf("%d cannot be bound: it stands for every user or group that is not known here, as those of other containers", id)
		}
	}
	if len(r.BoundCIDRs) > 0 {
		return api.Invalid.Errorf("'token_bound_cidrs' is of no use here: who comes through a unix socket has no address")
	}
	return r.TokenParams.Check()
}

// Match reports whether the role is for the peer.
func (r *Role) Match(p access.Peer) bool {
	return (len(r.UIDs) == 0 || slices.Contains(r.UIDs, p.UID)) && (len(r.GIDs) == 0 || slices.Contains(r.GIDs, p.GID))
}

// logIn is the login of a peer by the role, if the role is for it.
func (r *Role) logIn(p access.Peer) (*access.Login, error) {
	uid, gid := number(p.UID), number(p.GID)
	if !r.Match(p) {
		return nil, api.Denied.Errorf("permission denied: the role %q is not for uid %s, gid %s", r.Name, uid, gid)
	}
	return &access.Login{
		DisplayName: "uid-" + uid, Name: r.Name, Params: r.TokenParams,
		Meta: map[string]string{"role": r.Name, "uid": uid, "gid": gid},
	}, nil
}

// roleInput is what a request says of a role. What is nil is not changed.
type roleInput struct {
	login.TokenFields
	UIDs *[]string `json:"bound_uids"`
	GIDs *[]string `json:"bound_gids"`
}

var roles = login.Roles[Role, roleInput]{
	Path: "role", Creates: true, Help: "A role: which users and groups of this machine log in by it, and what their tokens are like.",
	New:   func(name string) *Role { return &Role{Name: name} },
	Check: (*Role).Check,
	View: func(r *Role) map[string]any {
		return login.ViewParams(&r.TokenParams, map[string]any{
			"bound_uids": append([]uint32{}, r.UIDs...),
			"bound_gids": append([]uint32{}, r.GIDs...),
		})
	},
	Edit: func(_ *api.Request, in *roleInput, role *Role) ([]string, error) {
		if err := setNumbers(&role.UIDs, in.UIDs); err != nil {
			return nil, err
		}
		if err := setNumbers(&role.GIDs, in.GIDs); err != nil {
			return nil, err
		}
		return in.Apply(&role.TokenParams)
	},
}

// setNumbers reads the numbers of users or groups, if they are given.
func setNumbers(to *[]uint32, texts *[]string) error {
	if texts == nil {
		return nil
	}
	var ids []uint32
	for _, text := range *texts {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return api.Invalid.Errorf("%q is not the number of a user or group: `id` tells it", text)
		}
		ids = append(ids, uint32(id))
	}
	*to = ids
	return nil
}
