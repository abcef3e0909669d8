package kv

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// V1 is a mount of KV version 1: a secret is its data and nothing else. Its
// records lie beside those of version 2, which reads them and converts them when
// the mount is upgraded, see [Engine.Upgrade]. The API is package kvv1.
type V1 struct {
	Prefix string // as Engine's
}

// A V1Secret is a secret of version 1.
type V1Secret struct {
	Data    Data          // a JSON object, never null
	Written time.Time     // UTC
	Lease   time.Duration // how long readers may use it before they ask again; 0: unset
}

// MaxV1 is the most bytes that the data of a secret of version 1 may have: it fits
// the record that version 2 makes of it.
const MaxV1 = storage.MaxValue - headerLen - 8 - versionLen

// v1HeaderLen is the length of what is before the data in a record of version 1.
const v1HeaderLen = 1 + 8 + 8

func (s V1Secret) encode() []byte {
	b := make([]byte, 0, v1HeaderLen+len(s.Data.raw))
	b = append(b, format)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Written.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(s.Lease))
	return append(b, s.Data.raw...)
}

func decodeV1(b []byte) (V1Secret, error) {
	switch {
	case len(b) <= v1HeaderLen:
		return V1Secret{}, corrupt("version 1 record is too short")
	case b[0] != format:
		return V1Secret{}, corrupt(fmt.Sprintf("unknown record format %d", b[0]))
	case b[v1HeaderLen] != '{':
		return V1Secret{}, corrupt("data of a version 1 record is not a JSON object")
	}
	s := V1Secret{Data: Data{b[v1HeaderLen:]}, Written: time.Unix(0, getInt64(b[1:])).UTC(), Lease: time.Duration(getInt64(b[9:]))}
	if s.Lease < 0 {
		return V1Secret{}, corrupt("lease of a version 1 record is negative")
	}
	return s, nil
}

// record is the secret as version 2 has it: version 1 of itself.
func (s V1Secret) record() record {
	written := s.Written.UnixNano()
	return record{created: written, updated: written, current: 1, versions: newVersion(written, 0), data: s.Data.raw}
}

// The folders of a mount.
const (
	v1Folder     = "/1"
	secretFolder = "/s"
)

func v1Key(prefix, path string) string { return prefix + v1Folder + "/" + path }

// loadV1 reads the record at a path that was checked.
func loadV1(tx *storage.Tx, prefix, path string) (s V1Secret, found bool, err error) {
	b, err := tx.Get(v1Key(prefix, path))
	if err == nil && b != nil {
		s, err = decodeV1(b)
	}
	if err != nil {
		return V1Secret{}, false, fmt.Errorf("reading secret %q: %w", path, err)
	}
	return s, b != nil, nil
}

func (v V1) check(path string) error { return Engine{Prefix: v.Prefix}.check(path) }

// Get reads a secret. Errors: ErrNotFound, ErrInvalid.
func (v V1) Get(tx *storage.Tx, path string) (V1Secret, error) {
	if err := v.check(path); err != nil {
		return V1Secret{}, err
	}
	s, found, err := loadV1(tx, v.Prefix, path)
	if err == nil && !found {
		err = ErrNotFound
	}
	return s, err
}

// Exists reports whether there is a secret. Errors: ErrInvalid.
func (v V1) Exists(tx *storage.Tx, path string) (bool, error) {
	if err := v.check(path); err != nil {
		return false, err
	}
	_, found, err := loadV1(tx, v.Prefix, path)
	return found, err
}

// Put writes a secret in place of the one that is there. Errors: ErrInvalid,
// storage.ErrTooLarge.
func (v V1) Put(tx *storage.Tx, path string, s V1Secret) error {
	if err := v.check(path); err != nil {
		return err
	}
	if len(s.Data.raw) == 0 || s.Data.raw[0] != '{' {
		return invalid("missing data fields")
	}
	if n := len(s.Data.raw); n > MaxV1 {
		return fmt.Errorf("writing secret %q: its data has %d bytes, at most %d are allowed: %w", path, n, MaxV1, storage.ErrTooLarge)
	}
	if err := tx.Put(v1Key(v.Prefix, path), s.encode()); err != nil {
		return fmt.Errorf("writing secret %q: %w", path, err)
	}
	return nil
}

// Delete removes a secret for good. One that is not there is no error. Errors:
// ErrInvalid.
func (v V1) Delete(tx *storage.Tx, path string) error {
	if err := v.check(path); err != nil {
		return err
	}
	return deleteV1(tx, v.Prefix, path)
}

func deleteV1(tx *storage.Tx, prefix, path string) error {
	if err := tx.Delete(v1Key(prefix, path)); err != nil {
		return fmt.Errorf("deleting secret %q: %w", path, err)
	}
	return nil
}

// List returns the names in a folder, as [Engine.List] does.
func (v V1) List(tx *storage.Tx, folder string) ([]string, error) {
	names, err := v.list(tx, folder)
	if err == nil && len(names) == 0 {
		err = ErrNotFound
	}
	return names, err
}

func (v V1) list(tx *storage.Tx, folder string) ([]string, error) {
	return Engine{Prefix: v.Prefix}.names(tx, v1Folder, folder)
}

// Scan returns the secrets in a folder and in all folders in it, as [Engine.Scan]
// does.
func (v V1) Scan(tx *storage.Tx, folder string, most int) ([]string, error) {
	return scanAll(folder, most, func(folder string) ([]string, error) { return v.list(tx, folder) })
}
