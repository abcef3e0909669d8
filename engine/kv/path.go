package kv

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sealkeep/sealkeep/storage"
)

// maxDigits is the length of the longest version number.
const maxDigits = 20

// check tells whether a user's path names a secret. It leaves room for the
// records of older versions, so that a path that can be written once can be
// written again.
func (e Engine) check(path string) error {
	switch {
	case path == "":
		return invalid("missing path")
	case !utf8.ValidString(path):
		return invalid("the path is not valid UTF-8")
	case strings.IndexByte(path, 0) >= 0:
		return invalid("the path contains a NUL character")
	}
	depth := strings.Count(e.Prefix, "/") + 3 // prefix, "v", version
	for segment := range strings.SplitSeq(path, "/") {
		depth++
		switch {
		case segment == "":
			return invalid("the path has an empty segment: remove slashes at its ends and double slashes")
		case segment == "." || segment == "..":
			return invalid(`the path has a segment "." or "..": write the path out`)
		case len(segment) > storage.MaxSegment:
			return invalid(fmt.Sprintf("a segment of the path has %d bytes: at most %d are allowed", len(segment), storage.MaxSegment))
		}
	}
	if depth > storage.MaxDepth {
		most := storage.MaxDepth - strings.Count(e.Prefix, "/") - 3
		return invalid(fmt.Sprintf("the path has more than the %d segments that this mount allows", most))
	}
	if most := storage.MaxPath - len(e.Prefix) - len("/v//") - maxDigits; len(path) > most {
		return invalid(fmt.Sprintf("the path has %d bytes: this mount allows at most %d", len(path), most))
	}
	return nil
}

func (e Engine) secretKey(path string) string { return e.Prefix + secretFolder + "/" + path }

func (e Engine) versionKey(path string, n uint64) string {
	return e.Prefix + "/v/" + path + "/" + strconv.FormatUint(n, 10)
}

// load reads the secret record at path; found is false when there is none.
func (e Engine) load(tx *storage.Tx, path string) (r record, found bool, err error) {
	if err := e.check(path); err != nil {
		return r, false, err
	}
	b, err := tx.Get(e.secretKey(path))
	if err != nil {
		return r, false, fmt.Errorf("reading secret %q: %w", path, err)
	}
	if b == nil && e.Upgrading {
		old, found, err := loadV1(tx, e.Prefix, path)
		if err != nil || !found {
			return r, false, err
		}
		return old.record(), true, nil
	}
	if b == nil {
		return r, false, nil
	}
	if r, err = decodeRecord(b); err != nil {
		return r, false, fmt.Errorf("reading secret %q: %w", path, err)
	}
	return r, true, nil
}

func (e Engine) save(tx *storage.Tx, path string, r *record) error {
	b := r.encode()
	if len(b) > storage.MaxValue {
		return fmt.Errorf("writing secret %q: its data, custom metadata and list of %d versions have %d bytes, at most %d are allowed: store less, or lower max_versions: %w",
			path, len(r.versions)/versionLen, len(b), storage.MaxValue, storage.ErrTooLarge)
	}
	if err := tx.Put(e.secretKey(path), b); err != nil {
		return fmt.Errorf("writing secret %q: %w", path, err)
	}
	return e.dropV1(tx, path)
}

// dropV1 removes the record of version 1 of a secret that has one of version 2, or
// is to have none.
func (e Engine) dropV1(tx *storage.Tx, path string) error {
	if !e.Upgrading {
		return nil
	}
	return deleteV1(tx, e.Prefix, path)
}
