package login

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// An envelope surrounds the records of login methods.
type envelope struct {
	Version int             `json:"version"`
	Data    json.RawMessage `json:"data"`
}

const envelopeVersion = 1

// MaxRecord is how many bytes a role, a user or a configuration has at most.
const MaxRecord = 64 << 10

// ReadRecord reads what WriteRecord wrote into data, a pointer, and reports whether
// there is anything; what names it in errors. Numbers that have no type become
// [json.Number]. The errors are storage.ErrCorrupt and storage.ErrFormat.
func ReadRecord(tx *storage.Tx, path, what string, data any) (found bool, err error) {
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

// EncodeRecord makes a record of at most so many bytes, as WriteRecord writes it. A
// longer one is api.Invalid.
func EncodeRecord(what string, data any, most int) ([]byte, error) {
	value, err := json.Marshal(data)
	if err == nil {
		value, err = json.Marshal(envelope{envelopeVersion, value})
	}
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", what, err)
	}
	if !json.Valid(value) { // so ReadRecord could not read it
		return nil, api.Invalid.Errorf("%s is nested too deeply", what)
	}
	if len(value) > most {
		return nil, api.Invalid.Errorf("%s has %d bytes: at most %d are accepted", what, len(value), most)
	}
	return value, nil
}

// WriteRecord writes a record of at most MaxRecord bytes.
func WriteRecord(tx *storage.Tx, path, what string, data any) error {
	value, err := EncodeRecord(what, data, MaxRecord)
	if err != nil {
		return err
	}
	if err := tx.Put(path, value); err != nil {
		return fmt.Errorf("writing %s: %w", what, err)
	}
	return nil
}
