package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/sealkeep/sealkeep/storage"
)

const (
	devicesPath = "access/audit-devices"
	saltFolder  = "access/audit-salt"
	headFolder  = "access/audit-head"
)

// An envelope surrounds each record in the store.
type envelope struct {
	Version int             `json:"version"`
	Data    json.RawMessage `json:"data"`
}

const (
	envelopeVersion = 1
	maxRecord       = 64 << 10 // bytes
)

// readRecord reads a record of writeRecord, or returns nil if there is none. what
// names the record in errors.
func readRecord[T any](tx *storage.Tx, path, what string) (*T, error) {
	value, err := tx.Get(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	if value == nil {
		return nil, nil
	}
	var e envelope
	if err := json.Unmarshal(value, &e); err != nil {
		return nil, fmt.Errorf("decoding %s: %w: %w", what, storage.ErrCorrupt, err)
	}
	if e.Version != envelopeVersion {
		return nil, fmt.Errorf("decoding %s: %w: record version %d, this program reads %d", what, storage.ErrFormat, e.Version, envelopeVersion)
	}
	data := new(T)
	if err := json.Unmarshal(e.Data, data); err != nil {
		return nil, fmt.Errorf("decoding %s: %w: %w", what, storage.ErrCorrupt, err)
	}
	return data, nil
}

// A tooLarge error is [ErrInvalid] with a text of its own.
type tooLarge string

func (t tooLarge) Error() string        { return string(t) }
func (t tooLarge) Is(target error) bool { return target == ErrInvalid }

// writeRecord writes a record of at most maxRecord bytes. The error is [ErrInvalid] if
// it is longer.
func writeRecord(tx *storage.Tx, path, what string, data any) error {
	value, err := json.Marshal(data)
	if err == nil {
		value, err = json.Marshal(envelope{envelopeVersion, value})
	}
	if err != nil {
		return fmt.Errorf("encoding %s: %w", what, err)
	}
	if len(value) > maxRecord {
		return tooLarge(fmt.Sprintf("%s has %d bytes: at most %d are accepted", what, len(value), maxRecord))
	}
	if err := tx.Put(path, value); err != nil {
		return fmt.Errorf("writing %s: %w", what, err)
	}
	return nil
}

// readDevices returns the devices that were made over the API.
func readDevices(tx *storage.Tx) ([]Device, error) {
	r, err := readRecord[[]Device](tx, devicesPath, "the audit devices")
	if err != nil || r == nil {
		return nil, err
	}
	return *r, nil
}

// writeDevices replaces the devices that were made over the API.
func writeDevices(tx *storage.Tx, devices []Device) error {
	return writeRecord(tx, devicesPath, "the audit devices", &devices)
}

// forgetDevice deletes a device's salt and head. Without the salt nobody can search
// for a value in the device's lines any more, not even by guessing.
func forgetDevice(tx *storage.Tx, path string) error {
	for _, folder := range []string{saltFolder, headFolder} {
		if err := tx.Delete(folder + "/" + url.PathEscape(path)); err != nil {
			return fmt.Errorf("deleting what there is of an audit device: %w", err)
		}
	}
	return nil
}

// readState returns a device's salt and the last stored head. The salt is nil if there
// is none yet.
func readState(tx *storage.Tx, path string) (salt []byte, h Head, err error) {
	s, err := readRecord[[]byte](tx, saltFolder+"/"+url.PathEscape(path), "an audit salt")
	if err != nil || s == nil {
		return nil, h, err
	}
	r, err := readRecord[Head](tx, headFolder+"/"+url.PathEscape(path), "the head of an audit log")
	if err != nil {
		return nil, h, err
	}
	if r != nil {
		h = *r
	}
	if len(*s) != sha256.Size || h.Hash != "" && len(h.Hash) != hashDigits {
		return nil, h, fmt.Errorf("decoding the state of an audit device: %w: wrong length", storage.ErrCorrupt)
	}
	return *s, h, nil
}

// makeSalt gives a device a salt unless it has one.
func makeSalt(tx *storage.Tx, path string) error {
	salt, _, err := readState(tx, path)
	if err != nil || salt != nil {
		return err
	}
	salt = make([]byte, sha256.Size)
	rand.Read(salt)
	return writeRecord(tx, saltFolder+"/"+url.PathEscape(path), "an audit salt", &salt)
}

// writeHead stores the last line of a device's log.
func writeHead(tx *storage.Tx, path string, h Head) error {
	return writeRecord(tx, headFolder+"/"+url.PathEscape(path), "the head of an audit log", &h)
}
