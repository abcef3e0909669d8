package sys

// What the tests, which sit outside, see of the inside.

const (
	HeaderCRC     = headerCRC
	HeaderStore   = headerStore
	TailFollowers = tailFollowers
	SystemTTL     = systemTTL
	MaxMoves      = maxMoves
)

var ErrFollowers = errFollowers

// Followers is how many follow the log.
func (t *Tail) Followers() int { return len(*t.all.Load()) }
