package audit

import (
	"errors"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/storage/storagetest"

	"github.com/sealkeep/sealkeep/storage"
)

// A stored record that cannot be read is an error and never no record: a new salt
// would make the old lines unsearchable.
func TestRecords(t *testing.T) {
	s := storagetest.New(t)
	const salt = saltFolder + "/file%2F"
	for value, want := range map[string]error{
		`{"version":2,"data":{}}`:       storage.ErrFormat,
		`{"version":1,"data":"AAAA"}`:   storage.ErrCorrupt,
		`{"version":1,"data":null}`:     storage.ErrCorrupt,
		`{"version":1,"data":{"a":1}}`:  storage.ErrCorrupt,
		`{"version":1}`:                 storage.ErrCorrupt,
		`{"version":1,"data":"AAAA"}}`:  storage.ErrCorrupt,
		strings.Repeat("[", 10_000):     storage.ErrCorrupt,
		`{"version":1,"data":["AAAA"]}`: storage.ErrCorrupt,
	} {
		err := s.Update(t.Context(), func(tx *storage.Tx) error {
			if err := tx.Put(salt, []byte(value)); err != nil {
				return err
			}
			return makeSalt(tx, "file/")
		})
		if !errors.Is(err, want) {
			t.Errorf("%.50s: %v, want %v", value, err, want)
		}
	}
	long := FileDevice("/x")
	long.Description = strings.Repeat("x", maxRecord)
	err := s.Update(t.Context(), func(tx *storage.Tx) error { return writeDevices(tx, []Device{long}) })
	if !errors.Is(err, ErrInvalid) || !strings.HasSuffix(err.Error(), "bytes: at most 65536 are accepted") || !strings.HasPrefix(err.Error(), "the audit devices has ") {
		t.Errorf("a record that is too long: %v", err)
	}
}
