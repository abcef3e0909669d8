package access

import (
	"encoding/json"
	"fmt"

	"github.com/sealkeep/sealkeep/storage"
)

// envelope is how login methods store what they know.
type envelope[T any] struct {
	Version int `json:"version"`
	Data    T   `json:"data"`
}

const envelopeVersion = 1

// readRecord reads what writeRecord wrote, nil when there is nothing. what names
// it in errors.
func readRecord[T any](tx *storage.Tx, path, what string) (*T, error) {
	value, err := tx.Get(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	if value == nil {
		return nil, nil
	}
	var e envelope[T]
	if err := json.Unmarshal(value, &e); err != nil {
		return nil, fmt.Errorf("decoding %s: %w: %w", what, storage.ErrCorrupt, err)
	}
	if e.Version != envelopeVersion {
		return nil, fmt.Errorf("decoding %s: %w: record version %d, this program reads %d", what, storage.ErrFormat, e.Version, envelopeVersion)
	}
	return &e.Data, nil
}

func writeRecord[T any](tx *storage.Tx, path, what string, data *T) error {
	value, err := json.Marshal(envelope[*T]{envelopeVersion, data})
	if err != nil {
		return fmt.Errorf("encoding %s: %w", what, err)
	}
	if len(value) > maxRecord {
		return mistake("%s has %d bytes: at most %d are accepted", what, len(value), maxRecord)
	}
	if err := tx.Put(path, value); err != nil {
		return fmt.Errorf("writing %s: %w", what, err)
	}
	return nil
}

// maxRecord is how large what a login method knows of one role or user may be.
const maxRecord = 64 << 10
