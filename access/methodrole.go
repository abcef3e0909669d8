package access

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/sealkeep/sealkeep/storage"
)

const methodVersion = 1 // of the records of login methods

// A methodRecord is what the login methods jwt, cert and peer store, each below
// the folder of its mount.
type methodRecord struct {
	Version int             `json:"version"`
	Value   json.RawMessage `json:"value"`
}

// readMethod reads a record into value, and tells whether there is one. Numbers
// in it that have no type are [json.Number].
func readMethod(tx *storage.Tx, path string, value any) (found bool, err error) {
	b, err := tx.Get(path)
	if err != nil || b == nil {
		return false, err
	}
	var r methodRecord
	if err := json.Unmarshal(b, &r); err != nil {
		return false, fmt.Errorf("decoding a record of a login method: %w: %w", storage.ErrCorrupt, err)
	}
	if r.Version != methodVersion {
		return false, fmt.Errorf("decoding a record of a login method: %w: record version %d, this program reads %d", storage.ErrFormat, r.Version, methodVersion)
	}
	d := json.NewDecoder(bytes.NewReader(r.Value))
	d.UseNumber()
	if err := d.Decode(value); err != nil {
		return false, fmt.Errorf("decoding a record of a login method: %w: %w", storage.ErrCorrupt, err)
	}
	return true, nil
}

// writeMethod writes a record of at most most bytes.
func writeMethod(tx *storage.Tx, path string, value any, most int) error {
	b, err := json.Marshal(value)
	if err == nil {
		b, err = json.Marshal(methodRecord{methodVersion, b})
	}
	if err != nil {
		return fmt.Errorf("encoding a record of a login method: %w", err)
	}
	if len(b) > most {
		return mistake("it has at most %d bytes in all", most)
	}
	return tx.Put(path, b)
}

// methodPath is where a role of a login method lies, or something else that has a
// name; upper and lower case are the same.
func methodPath(folder, name string) (string, error) {
	if name == "" || len(name) > maxRoleName || strings.Contains(name, "/") {
		return "", mistake("the name of a role has 1 to %d bytes and no slash", maxRoleName)
	}
	return folder + "/" + strings.ToLower(name), nil
}

// ReadMethodRole reads a role of a login method into role, which is a pointer,
// and tells whether there is one.
func ReadMethodRole(tx *storage.Tx, folder, name string, role any) (found bool, err error) {
	path, err := methodPath(folder, name)
	if err != nil {
		return false, err
	}
	return readMethod(tx, path, role)
}

// WriteMethodRole checks a role of a login method and writes it.
func WriteMethodRole(tx *storage.Tx, folder, name string, role interface{ Check() error }) error {
	path, err := methodPath(folder, name)
	if err != nil {
		return err
	}
	if err := role.Check(); err != nil {
		return err
	}
	return writeMethod(tx, path, role, maxRoleLists)
}

// DeleteMethodRole deletes a role of a login method. Its tokens stay, but are
// renewed no more.
func DeleteMethodRole(tx *storage.Tx, folder, name string) error {
	path, err := methodPath(folder, name)
	if err != nil {
		return err
	}
	return tx.Delete(path)
}
