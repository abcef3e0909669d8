//go:build !rehearse

package storage

// rehearse makes every function of an Update run twice; see the build tag.
const rehearse = false
