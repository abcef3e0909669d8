package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"time"
)

// Blob names a large value: chunks of 1 to MaxValue bytes, each a record of its own
// under a random ID. PutBlob makes it the value of a path.
//
// Its pointer is stored as
//
//	version(1)=1 | id(16) | chunks(4) | length(8) | SHA-256(32)
//
// and its ID begins with the second in which it was created, so that blobs to
// which nothing refers can be swept by age.
type Blob struct {
	ID     [16]byte
	Chunks uint32
	Length int64
	SHA256 [32]byte
}

const blobPointerSize = 1 + 16 + 4 + 8 + 32

// inUse is the chunk number of the record that marks a blob as referred to.
const inUse = 1<<32 - 1

func (b Blob) encode() []byte {
	p := append([]byte{1}, b.ID[:]...)
	p = binary.BigEndian.AppendUint32(p, b.Chunks)
	p = binary.BigEndian.AppendUint64(p, uint64(b.Length))
	return append(p, b.SHA256[:]...)
}

func decodeBlob(p []byte) (b Blob, ok bool) {
	if len(p) != blobPointerSize || p[0] != 1 {
		return b, false
	}
	copy(b.ID[:], p[1:])
	b.Chunks = binary.BigEndian.Uint32(p[17:])
	b.Length = int64(binary.BigEndian.Uint64(p[21:]))
	copy(b.SHA256[:], p[29:])
	return b, b.Length >= int64(b.Chunks) && b.Length <= int64(b.Chunks)*MaxValue
}

func chunkKey(id [16]byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(id[:], n)
}

// chunkName is the path of a chunk, in its associated data and in errors.
func chunkName(key []byte) string {
	return hex.EncodeToString(key[:16]) + "/" + hex.EncodeToString(key[16:])
}

// WriteBlob stores the bytes of r, chunk by chunk, each in an update of its own.
// Nothing refers to the blob until PutBlob does; if that never happens, the blob
// is swept.
func (s *Store) WriteBlob(ctx context.Context, r io.Reader) (Blob, error) {
	w := s.NewBlob()
	for {
		buf := make([]byte, MaxValue)
		n, rerr := io.ReadFull(r, buf)
		if n > 0 {
			if err := w.Append(ctx, buf[:n]); err != nil {
				return Blob{}, err
			}
		}
		switch {
		case rerr == io.EOF || rerr == io.ErrUnexpectedEOF:
			if err := w.flush(ctx); err != nil {
				return Blob{}, err
			}
			return w.blob(), nil
		case rerr != nil:
			return Blob{}, fmt.Errorf("reading blob: %w", rerr)
		}
	}
}

// A BlobWriter writes a blob in chunks of the caller's choice. It keeps up to keptBytes
// of them in memory, so that a small blob costs no commit of its own, and a larger one
// one commit for each keptBytes.
type BlobWriter struct {
	s     *Store
	b     Blob
	sum   hash.Hash
	kept  [][]byte // the last chunks, which are not written yet
	bytes int      // of them
}

const keptBytes = MaxValue

// NewBlob begins a blob. It writes nothing yet.
func (s *Store) NewBlob() *BlobWriter {
	w := &BlobWriter{s: s, sum: sha256.New()}
	binary.BigEndian.PutUint64(w.b.ID[:], uint64(s.o.Now().Unix()))
	copy(w.b.ID[8:], randomBytes(8))
	return w
}

// Append adds a chunk of 1 to MaxValue bytes, which the writer owns from now on.
// ErrTooLarge: it has more.
func (w *BlobWriter) Append(ctx context.Context, chunk []byte) error {
	if len(chunk) > MaxValue {
		return fmt.Errorf("%w: a chunk has at most %d bytes", ErrTooLarge, MaxValue)
	}
	if w.bytes+len(chunk) > keptBytes {
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	w.kept = append(w.kept, chunk)
	w.bytes += len(chunk)
	w.b.Chunks++
	w.b.Length += int64(len(chunk))
	w.sum.Write(chunk)
	return nil
}

// flush writes the chunks that are kept.
func (w *BlobWriter) flush(ctx context.Context) error {
	if len(w.kept) == 0 {
		return nil
	}
	if err := w.s.Update(ctx, w.putKept); err != nil {
		return fmt.Errorf("writing blob: %w", err)
	}
	w.kept, w.bytes = nil, 0
	return nil
}

func (w *BlobWriter) putKept(t *Tx) error {
	first := w.b.Chunks - uint32(len(w.kept))
	for i, chunk := range w.kept {
		if err := t.putChunk(chunkKey(w.b.ID, first+uint32(i)), chunk); err != nil {
			return err
		}
	}
	return nil
}

func (w *BlobWriter) blob() Blob {
	b := w.b
	w.sum.Sum(b.SHA256[:0])
	return b
}

// Put makes the blob the value of path, see [Tx.PutBlob]. It writes the chunks that are
// kept, too. Nothing may be appended afterwards.
func (w *BlobWriter) Put(t *Tx, path string) error {
	if t.write == nil {
		return ErrReadOnly
	}
	if err := w.putKept(t); err != nil {
		return err
	}
	return t.PutBlob(path, w.blob())
}

// Abandon deletes what was written of a blob that will not be put. What it fails to
// delete is swept.
func (w *BlobWriter) Abandon(ctx context.Context) error {
	written := w.b.Chunks - uint32(len(w.kept))
	for from := uint32(0); from < written; from += releasedChunks {
		var keys [][]byte
		for n := from; n < min(written, from+releasedChunks); n++ {
			keys = append(keys, chunkKey(w.b.ID, n))
		}
		if err := w.s.Update(ctx, func(t *Tx) error { return t.deleteChunks(keys) }); err != nil {
			return fmt.Errorf("deleting a blob: %w", err)
		}
	}
	return nil
}

func (t *Tx) putChunk(key, chunk []byte) error {
	rec, err := t.keys.seal(kindValue, purposeBlob, chunkName(key), chunk)
	if err != nil {
		return err
	}
	return t.set(inBlobs, key, rec, chunkName(key))
}

// PutBlob stores a written blob as the value of path. A blob has one path. ErrPath:
// the blob was swept, or already has a path.
func (t *Tx) PutBlob(path string, b Blob) error {
	if t.write == nil {
		return ErrReadOnly
	}
	used, whole, err := t.blobState(b)
	if err != nil {
		return err
	}
	if used || !whole {
		return fmt.Errorf("%w: blob %x is gone or in use", ErrPath, b.ID)
	}
	if err := t.put(path, kindPointer, purposePointer, b.encode()); err != nil {
		return err
	}
	return t.putChunk(chunkKey(b.ID, inUse), nil)
}

// blobState reports whether a pointer refers to the blob, and whether its last
// chunk exists.
func (t *Tx) blobState(b Blob) (used, whole bool, err error) {
	defer catch(&err, "a blob")
	mark, err := t.record(inBlobs, chunkKey(b.ID, inUse))
	if err != nil || b.Chunks == 0 {
		return mark != nil, true, err
	}
	last, err := t.record(inBlobs, chunkKey(b.ID, b.Chunks-1))
	return mark != nil, last != nil, err
}

// releasedChunks is how many chunks of a blob one transaction deletes with its pointer.
const releasedChunks = 256

// release deletes the blob of a pointer that is about to be deleted: its mark, and its
// chunks. Those beyond releasedChunks are swept later.
func (t *Tx) release(rec []byte, path string) error {
	_, p, err := t.keys.open(rec, purposeValue, path)
	if err != nil {
		return err
	}
	b, ok := decodeBlob(p)
	if !ok {
		return corrupt("pointer "+quote(path), "malformed")
	}
	key := chunkKey(b.ID, inUse)
	if err := t.set(inBlobs, key, nil, chunkName(key)); err != nil {
		return err
	}
	for n := range min(b.Chunks, releasedChunks) {
		key := chunkKey(b.ID, n)
		if err := t.set(inBlobs, key, nil, chunkName(key)); err != nil {
			return err
		}
	}
	return nil
}

// Blob returns the blob at path, or nil if there is no value. ErrPath: the value
// is small and not a blob.
func (t *Tx) Blob(path string) (*Blob, error) {
	kind, p, err := t.get(path)
	if err != nil || kind == 0 {
		return nil, err
	}
	b, ok := decodeBlob(p)
	switch {
	case kind != kindPointer:
		return nil, fmt.Errorf("%w: %s is no blob", ErrPath, quote(path))
	case !ok:
		return nil, corrupt("pointer "+quote(path), "malformed")
	}
	return &b, nil
}

// BlobReader reads a blob inside the transaction, a chunk at a time. The read
// that reaches the end fails with ErrCorrupt unless length and hash are right.
func (t *Tx) BlobReader(b Blob) io.Reader {
	return &blobReader{t: t, b: b, sum: sha256.New()}
}

type blobReader struct {
	t    *Tx
	b    Blob
	next uint32
	rest []byte
	read int64
	sum  hash.Hash
}

func (r *blobReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.next == r.b.Chunks {
			if r.read != r.b.Length || !bytes.Equal(r.sum.Sum(nil), r.b.SHA256[:]) {
				return 0, corrupt(fmt.Sprintf("blob %x", r.b.ID), "wrong length or hash")
			}
			return 0, io.EOF
		}
		chunk, err := r.t.chunk(chunkKey(r.b.ID, r.next))
		if err != nil {
			return 0, err
		}
		r.next++
		r.rest = chunk
		r.read += int64(len(chunk))
		r.sum.Write(chunk)
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Chunk returns chunk n of a blob, from 0. Whoever reads a blob in several transactions
// may find it gone: ErrCorrupt.
func (t *Tx) Chunk(b Blob, n uint32) ([]byte, error) { return t.chunk(chunkKey(b.ID, n)) }

func (t *Tx) chunk(key []byte) (chunk []byte, err error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	defer catch(&err, "a blob")
	rec, err := t.record(inBlobs, key)
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return nil, corrupt("blob "+chunkName(key), "chunk is missing")
	}
	_, chunk, err = t.keys.open(rec, purposeBlob, chunkName(key))
	return chunk, err
}

// SweepBlobs deletes the chunks of blobs to which nothing refers and which were
// begun more than age ago; age must exceed the longest upload. It deletes 64
// chunks per update, and returns how many it deleted.
func (s *Store) SweepBlobs(ctx context.Context, age time.Duration) (deleted int, err error) {
	before := uint64(s.o.Now().Add(-age).Unix())
	from := []byte{}
	for {
		var orphans [][]byte
		err := s.View(ctx, func(t *Tx) (err error) {
			orphans, from, err = t.orphans(from, before, 64)
			return err
		})
		if err != nil {
			return deleted, fmt.Errorf("sweeping blobs: %w", err)
		}
		if len(orphans) > 0 {
			if err := s.Update(ctx, func(t *Tx) error { return t.deleteChunks(orphans) }); err != nil {
				return deleted, fmt.Errorf("sweeping blobs: %w", err)
			}
			deleted += len(orphans)
		}
		if from == nil {
			return deleted, nil
		}
	}
}

// orphans collects up to limit chunks, starting at the key from, and returns the
// key at which to continue.
func (t *Tx) orphans(from []byte, before uint64, limit int) (keys [][]byte, next []byte, err error) {
	defer catch(&err, "blobs")
	blobs, err := t.trees.of(bucketBlobs)
	if err != nil {
		return nil, nil, err
	}
	c := cursor{tree: blobs}
	for k, _ := c.Seek(from); k != nil; {
		if err := t.check(); err != nil {
			return nil, nil, err
		}
		if len(k) != 20 {
			return nil, nil, corrupt("blobs", "malformed key %x", k)
		}
		id := [16]byte(k)
		if binary.BigEndian.Uint64(id[:]) >= before {
			return keys, nil, nil // IDs are sorted by age
		}
		mark, err := blobs.get(chunkKey(id, inUse))
		if err != nil {
			return nil, nil, err
		}
		if mark != nil {
			k, _ = c.Seek(append(chunkKey(id, inUse), 0))
			continue
		}
		if len(keys) == limit {
			return keys, bytes.Clone(k), nil
		}
		keys = append(keys, bytes.Clone(k))
		k, _ = c.Next()
	}
	return keys, nil, c.err
}

// deleteChunks deletes the chunks of blobs that are still not referred to.
func (t *Tx) deleteChunks(keys [][]byte) error {
	for _, k := range keys {
		used, _, err := t.blobState(Blob{ID: [16]byte(k)})
		if err != nil {
			return err
		}
		if used {
			continue
		}
		if err := t.set(inBlobs, k, nil, chunkName(k)); err != nil {
			return err
		}
	}
	return nil
}
