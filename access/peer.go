package access

import "slices"

// nobody stands for every user that the keep's user namespace does not know, and
// noID for none at all.
const (
	nobody = 65534
	noID   = 1<<32 - 1
)

// A Peer is the process on the other end of a unix socket, as the kernel knows
// it from when it connected.
type Peer struct {
	UID, GID uint32 // effective; of the groups it is the primary one
}

// A PeerRole says which processes log in through a unix socket, and what their
// tokens are like.
type PeerRole struct {
	Name string   `json:"name"`
	UIDs []uint32 `json:"bound_uids"` // empty: any, if the group fits
	GIDs []uint32 `json:"bound_gids"` // empty: any, if the user fits
	TokenParams
}

// Check says what is wrong with the role.
func (r *PeerRole) Check() error {
	if len(r.UIDs)+len(r.GIDs) == 0 {
		return mistake("must have at least one of 'bound_uids' and 'bound_gids'")
	}
	for _, id := range slices.Concat(r.UIDs, r.GIDs) {
		if id == nobody || id == noID {
			return mistake("%d cannot be bound: it stands for every user or group that is not known here, as those of other containers", id)
		}
	}
	if len(r.BoundCIDRs) > 0 {
		return mistake("'token_bound_cidrs' is of no use here: who comes through a unix socket has no address")
	}
	return r.TokenParams.Check()
}

// Match tells whether the role is for the peer.
func (r *PeerRole) Match(p Peer) bool {
	return (len(r.UIDs) == 0 || slices.Contains(r.UIDs, p.UID)) && (len(r.GIDs) == 0 || slices.Contains(r.GIDs, p.GID))
}
