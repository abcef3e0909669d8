package access

// A Peer is the process at the other end of a unix socket, as the kernel recorded it
// when it connected.
type Peer struct {
	UID, GID uint32 // effective; GID is the primary group
}
