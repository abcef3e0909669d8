// Package state is what a keep knows of the bytes of a Terraform or OpenTofu state:
// pure functions over them, which import nothing else of the project.
//
// A [Scanner] finds serial and lineage as the bytes stream by, and a state that OpenTofu
// has encrypted; [SetSerial] makes it another serial; [Outputs] leaves the root outputs
// alone. [Compress] makes the pieces in which states are stored.
//
// # Cost
//
// States as the programs write them have what a Scanner looks for at their beginning,
// so that it looks at a few hundred bytes; of a state whose members are in another order
// it looks at all bytes until it has found them. None of the functions keeps a state in
// memory; Outputs keeps the outputs, and the largest text. It reads every token, some
// 30 MB a second.
package state

import "errors"

var (
	// ErrNotState: the bytes are no JSON object, or not what a state has there.
	ErrNotState = errors.New("not a Terraform state")
	// ErrEncrypted: OpenTofu has encrypted the state, so that nobody sees inside.
	ErrEncrypted = errors.New("the state is encrypted by OpenTofu, and only its own configuration can read it")
	// ErrTooLarge: the outputs, or a piece, are larger than is taken.
	ErrTooLarge = errors.New("too large")
	// ErrDamaged: a stored piece does not decompress.
	ErrDamaged = errors.New("a stored piece of a state is damaged")
)
