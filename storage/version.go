package storage

import (
	"bytes"
	"crypto/sha256"
)

// A Version stands for the bytes of a record, or of all records of a folder, as
// they lie in the store: what was made of them holds as long as the version stays
// the same. Every Put changes it, also one of the same value, and so does the
// re-encryption under a new term. The zero Version is that of what is not there.
type Version [sha256.Size]byte

// Version is the version of the record at path. It costs a look-up without
// decrypting: a record is known by its nonce, which is random.
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

// FolderVersion is the version of all that lies beneath a folder. It costs a
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
	// What bbolt passes was checked above.
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
