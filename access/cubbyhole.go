package access

import (
	"encoding/hex"
	"fmt"

	"github.com/sealkeep/sealkeep/storage"
)

// A cubbyhole is one record beside the token, so that it is deleted together with the
// token. For a wrapping token it holds the wrapped answer, for any other token the data
// of package cubbyhole.
const (
	cubbyholeFolder  = "access/cubbyhole"
	cubbyholeVersion = 1 // of every cubbyhole record
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

// Cubbyhole returns the token's record, or nil if there is none. The token comes from
// [Lookup] or [Use]; after its last use it still has the record.
func (t *Token) Cubbyhole(tx *storage.Tx) ([]byte, error) {
	if t.left != nil {
		return t.left, nil
	}
	return readCubbyhole(tx, t.id)
}

// PutCubbyhole writes the token's record. The error is [ErrDenied] if the token no
// longer exists, since nothing would delete the record.
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
