//go:build rehearse

package storage

// The tests of the committer count how often it runs what.
func init() { rehearse = false }
