package storage

import (
	"bytes"
	"crypto/sha256"
)

// A Version identifies the stored bytes of a record, or of all records of a folder:
// a value derived from them is valid as long as the version stays the same. Every
// Put changes it, even one of the same value, and so does re-encryption under a new
// term. The zero Version means that there is no record.
type Version [sha256.Size]byte

// Version returns the version of the record at path. It costs a look-up without
// decrypting: the random nonce of a record identifies it.
func (t *Tx) Version(path string) (v Version, err error) {
	if err := t.check(); err != nil {
		return v, err
	}
	if err := checkPath(path); err != nil {
		return v, err
	}
	defer catch(&err, path)
	key, err := t.key(path)
	if err != nil {
		return v, err
	}
	rec, err := t.record(inData, key)
	if t.write != nil && err == nil {
		t.seen.path = path
	}
	if rec == nil || err != nil {
		return v, err
	}
	nonce, err := nonceOf(rec, path)
	copy(v[:], nonce)
	return v, err
}

// FolderVersion returns the version of everything beneath a folder. It costs a
// pass over the folder's records, without decrypting.
func (t *Tx) FolderVersion(folder string) (v Version, err error) {
	if err := t.check(); err != nil {
		return v, err
	}
	if err := checkPath(folder); err != nil {
		return v, err
	}
	defer catch(&err, folder)
	prefix, err := t.keys.encodePath(folder)
	if err != nil {
		return v, err
	}
	if t.trees != nil {
		data, err := t.trees.of(bucketData)
		if err != nil {
			return v, err
		}
		c := cursor{tree: data}
		v, err = t.folderVersion(&c, folder, prefix)
		if err == nil {
			err = c.err
		}
		if err != nil || t.write == nil {
			return v, err
		}
	}
	// The pages that bbolt reads were checked above.
	return t.folderVersion(t.btx.Bucket(bucketData).Cursor(), folder, prefix)
}

func (t *Tx) folderVersion(c interface {
	Seek([]byte) (k, v []byte)
	Next() (k, v []byte)
}, folder string, prefix []byte) (v Version, err error) {
	h := sha256.New()
	n := 0
	for k, rec := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, rec = c.Next() {
		if bytes.Equal(k, prefix) { // the folder's own value
			continue
		}
		if n++; n%1024 == 0 {
			if err := t.check(); err != nil {
				return v, err
			}
		}
		nonce, err := nonceOf(rec, folder)
		if err != nil {
			return v, err
		}
		h.Write(k[len(prefix):]) // begins with its length, segment by segment
		h.Write(nonce)
	}
	if n > 0 {
		h.Sum(v[:0])
	}
	return v, nil
}

func nonceOf(rec []byte, where string) ([]byte, error) {
	_, _, ct, ok := splitRecord(rec)
	if !ok {
		return nil, corrupt(quote(where), "too short")
	}
	return ct[:nonceSize], nil
}
