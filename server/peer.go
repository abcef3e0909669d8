package server

import (
	"net"

	"github.com/sealkeep/sealkeep/access"
)

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
