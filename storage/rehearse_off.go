//go:build !rehearse

package storage

// rehearse has every function of an Update run twice; see the build tag.
const rehearse = false
