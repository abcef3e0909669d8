package server

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sealkeep/sealkeep/access"
)

// peerOf asks the kernel who connected to a socket.
func peerOf(fd int) (access.Peer, error) {
	c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return access.Peer{}, fmt.Errorf("asking for the peer of a socket: %w", err)
	}
	return access.Peer{UID: c.Uid, GID: c.Gid}, nil
}
