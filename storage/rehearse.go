//go:build rehearse

package storage

// rehearse makes every function of an Update run twice, each time in a transaction
// of its own; the first one is rolled back. Use it with go test -tags rehearse. The
// tests of the committer itself turn it off.
var rehearse = true
