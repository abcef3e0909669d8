package server

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sealkeep/sealkeep/access"
)

// peerOf asks the kernel who connected to a socket.
func peerOf(fd int) (access.Peer, error) {
	c, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err == nil && c.Ngroups < 1 {
		err = unix.EINVAL
	}
	if err != nil {
		return access.Peer{}, fmt.Errorf("asking for the peer of a socket: %w", err)
	}
	return access.Peer{UID: c.Uid, GID: c.Groups[0]}, nil
}
