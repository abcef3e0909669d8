package access

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/url"

	"github.com/sealkeep/sealkeep/storage"
)

const (
	devicesPath = "access/audit-devices"
	saltFolder  = "access/audit-salt"
	headFolder  = "access/audit-head"
)

// Devices returns the audit devices that were made over the API.
func Devices(tx *storage.Tx) ([]Device, error) {
	r, err := readRecord[[]Device](tx, devicesPath, "the audit devices")
	if err != nil || r == nil {
		return nil, err
	}
	return *r, nil
}

// PutDevices replaces the audit devices that were made over the API.
func PutDevices(tx *storage.Tx, devices []Device) error {
	return writeRecord(tx, devicesPath, "the audit devices", &devices)
}

// ForgetDevice deletes what the store has of a device beside its configuration:
// nobody can find a value in its lines thereafter, not even by guessing.
func ForgetDevice(tx *storage.Tx, path string) error {
	for _, folder := range []string{saltFolder, headFolder} {
		if err := tx.Delete(folder + "/" + url.PathEscape(path)); err != nil {
			return fmt.Errorf("deleting what there is of an audit device: %w", err)
		}
	}
	return nil
}

// readState returns a device's salt and the last head that was kept; the salt is
// nil when there is none yet.
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

func makeSalt(tx *storage.Tx, path string) error {
	salt, _, err := readState(tx, path)
	if err != nil || salt != nil {
		return err
	}
	salt = make([]byte, sha256.Size)
	rand.Read(salt)
	return writeRecord(tx, saltFolder+"/"+url.PathEscape(path), "an audit salt", &salt)
}

func putHead(tx *storage.Tx, path string, h Head) error {
	return writeRecord(tx, headFolder+"/"+url.PathEscape(path), "the head of an audit log", &h)
}
