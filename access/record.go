package access

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/sealkeep/sealkeep/storage"
)

// An envelope surrounds the records of login methods.
type envelope struct {
	Version int             `json:"version"`
	Data    json.RawMessage `json:"data"`
}

const (
	envelopeVersion = 1
	maxRecord       = 64 << 10 // bytes of one role or user
)

// getRecord reads what putRecord wrote into data, a pointer, and tells whether
// there is anything; what names it in errors. Numbers that have no type become
// [json.Number].
func getRecord(tx *storage.Tx, path, what string, data any) (found bool, err error) {
	value, err := tx.Get(path)
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", what, err)
	}
	if value == nil {
		return false, nil
	}
	var e envelope
	if err := json.Unmarshal(value, &e); err != nil {
		return false, fmt.Errorf("decoding %s: %w: %w", what, storage.ErrCorrupt, err)
	}
	if e.Version != envelopeVersion {
		return false, fmt.Errorf("decoding %s: %w: record version %d, this program reads %d", what, storage.ErrFormat, e.Version, envelopeVersion)
	}
	d := json.NewDecoder(bytes.NewReader(e.Data))
	d.UseNumber()
	if err := d.Decode(data); err != nil {
		return false, fmt.Errorf("decoding %s: %w: %w", what, storage.ErrCorrupt, err)
	}
	return true, nil
}

// encodeRecord makes a record no longer than most bytes. A longer one is
// [ErrInvalid].
func encodeRecord(what string, data any, most int) ([]byte, error) {
	value, err := json.Marshal(data)
	if err == nil {
		value, err = json.Marshal(envelope{envelopeVersion, value})
	}
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", what, err)
	}
	if !json.Valid(value) { // so getRecord could not read it
		return nil, mistake("%s is nested too deeply", what)
	}
	if len(value) > most {
		return nil, mistake("%s has %d bytes: at most %d are accepted", what, len(value), most)
	}
	return value, nil
}

// putRecord writes a record no longer than most bytes.
func putRecord(tx *storage.Tx, path, what string, data any, most int) error {
	value, err := encodeRecord(what, data, most)
	if err != nil {
		return err
	}
	if err := tx.Put(path, value); err != nil {
		return fmt.Errorf("writing %s: %w", what, err)
	}
	return nil
}

// readRecord is getRecord for a known type; nil when there is nothing.
func readRecord[T any](tx *storage.Tx, path, what string) (*T, error) {
	data := new(T)
	if found, err := getRecord(tx, path, what, data); err != nil || !found {
		return nil, err
	}
	return data, nil
}

func writeRecord(tx *storage.Tx, path, what string, data any) error {
	return putRecord(tx, path, what, data, maxRecord)
}
