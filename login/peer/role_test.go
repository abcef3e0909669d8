package peer

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
)

func TestRole(t *testing.T) {
	for _, c := range []struct {
		role Role
		peer access.Peer
		want bool
	}{
		{Role{UIDs: []uint32{1, 2}}, access.Peer{UID: 2, GID: 9}, true},
		{Role{UIDs: []uint32{1, 2}}, access.Peer{UID: 3, GID: 1}, false},
		{Role{GIDs: []uint32{0}}, access.Peer{UID: 3, GID: 0}, true},
		{Role{GIDs: []uint32{5}}, access.Peer{UID: 5, GID: 0}, false},
		{Role{UIDs: []uint32{0}, GIDs: []uint32{5}}, access.Peer{UID: 0, GID: 5}, true},
		{Role{UIDs: []uint32{0}, GIDs: []uint32{5}}, access.Peer{UID: 0, GID: 6}, false},
		{Role{UIDs: []uint32{0}, GIDs: []uint32{5}}, access.Peer{UID: 1, GID: 5}, false},
	} {
		if err := c.role.Check(); err != nil {
			t.Errorf("%+v: %v", c.role, err)
		}
		l, err := c.role.logIn(c.peer)
		if told, _ := errors.AsType[*api.Error](err); c.role.Match(c.peer) != c.want || (l != nil) != c.want || !c.want && told.Code != api.Denied {
			t.Errorf("%+v for %+v: %v", c.role, c.peer, err)
		}
	}
	for want, r := range map[string]Role{
		"at least one of":   {},
		"65534 cannot be":   {UIDs: []uint32{1, nobody}},
		"4294967295 cannot": {GIDs: []uint32{noID}},
		"has no address":    {UIDs: []uint32{1}, TokenParams: access.TokenParams{BoundCIDRs: []netip.Prefix{netip.MustParsePrefix("::1/128")}}},
	} {
		if err := r.Check(); !errors.Is(err, api.ErrRequest) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", r, err, want)
		}
	}
}
