//go:build rehearse

package storage

// rehearse has every function of an Update run twice, in a transaction of its own
// each time, of which the first is thrown away: go test -tags rehearse. The tests
// of the committer itself turn it off.
var rehearse = true
