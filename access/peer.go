package access

// A Peer is the process at the other end of a unix socket, as the kernel knew it
// when it connected.
type Peer struct {
	UID, GID uint32 // effective; of the groups it is the primary one
}
