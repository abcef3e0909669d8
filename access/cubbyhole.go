package access

import (
	"encoding/hex"
	"fmt"

	"github.com/sealkeep/sealkeep/storage"
)

// A cubbyhole is one record beside the token, so that it goes with the token in one
// deletion. That of a wrapping token has the wrapped answer, that of any other what
// package cubbyhole keeps there.
const (
	cubbyholeFolder  = "access/cubbyhole"
	cubbyholeVersion = 1 // of every such record
)

func (id ID) cubbyholePath() string {
	name := hex.EncodeToString(id[:])
	return cubbyholeFolder + "/" + name[:2] + "/" + name[2:]
}

func readCubbyhole(tx *storage.Tx, id ID) ([]byte, error) {
	value, err := tx.Get(id.cubbyholePath())
	if err != nil {
		return nil, fmt.Errorf("reading a cubbyhole: %w", err)
	}
	return value, nil
}

// Cubbyhole returns the record that the token keeps, nil when there is none. The
// token is one that [Lookup] or [Use] returned; the last use that a token is good
// for still has it.
func (t *Token) Cubbyhole(tx *storage.Tx) ([]byte, error) {
	if t.left != nil {
		return t.left, nil
	}
	return readCubbyhole(tx, t.id)
}

// PutCubbyhole writes the record that the token keeps. The error is [ErrDenied] when
// the token is no more: nothing would delete the record.
func (t *Token) PutCubbyhole(tx *storage.Tx, record []byte) error {
	r, err := read(tx, t.id)
	if err != nil {
		return err
	}
	if r == nil || r.Revoked {
		return ErrDenied
	}
	if err := tx.Put(t.id.cubbyholePath(), record); err != nil {
		return fmt.Errorf("writing a cubbyhole: %w", err)
	}
	return nil
}
