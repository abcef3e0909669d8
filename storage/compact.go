package storage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"

	bolt "go.etcd.io/bbolt"
)

// compactBatch is how many bytes of records one transaction of a compaction
// writes; they stay in memory until it ends.
const compactBatch = 16 << 20

// Compact writes the live records of the store at path, which is not in use, to
// a new file and replaces the old one with it: no page holds deleted or replaced
// records any more. It needs no key and changes no record; the old file's blocks
// go back to the file system, which does not wipe them. ErrLocked, ErrCorrupt,
// syscall.ENOSPC: nothing has changed. Whatever happens, the old or the new file
// is at path, complete; the next run removes a temporary file that a crash left
// beside it.
//
// It reads the old file twice, and writes and reads the new one once.
func Compact(ctx context.Context, path string, o Options) (before, after int64, err error) {
	before, after, err = compact(ctx, path, o)
	if err != nil {
		return 0, 0, fmt.Errorf("compacting: %w", err)
	}
	return before, after, nil
}

func compact(ctx context.Context, path string, o Options) (before, after int64, err error) {
	path, err = filepath.EvalSymlinks(path) // the file is replaced, not a link to it
	if err != nil {
		return 0, 0, err
	}
	s, err := Open(path, o) // for the lock, which is held until the end
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		if cerr := s.Close(); err == nil {
			err = cerr
		}
	}()
	tmp := compactFile(path)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, err
	}
	old, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer old.Close()
	fi, err := old.Stat()
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(tmp)
	after, err = rewriteRecords(ctx, old, tmp, s.o)
	if err == nil {
		err = sameOwner(tmp, fi)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return fi.Size(), after, err
}

// compactFile returns the path of the temporary file of a compaction.
func compactFile(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".compact")
}

// rewriteRecords writes the records of old to a new, durable file at tmp, and
// returns its size.
func rewriteRecords(ctx context.Context, old *os.File, tmp string, o Options) (size int64, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer catch(&err, "file")
	im, err := openImage(old)
	if err != nil {
		return 0, err
	}
	defer im.close()
	want, have, err := im.sum()
	if err != nil {
		return 0, err
	}
	// Pages may be fuller or emptier than before, by some percent.
	if err := checkSpace(tmp, int64(im.pages-have.free)*int64(im.pageSize)*9/8); err != nil {
		return 0, err
	}
	if err := copyRecords(ctx, im, tmp, o); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(tmp, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	written, err := openImage(f)
	if err != nil {
		return 0, err
	}
	defer written.close()
	if got, c, err := written.sum(); err != nil || c.list != nil {
		return 0, fmt.Errorf("reading what was written: %w", errors.Join(err, c.list))
	} else if got != want {
		return 0, errors.New("what was written is not what was read: the disk or the memory of this machine may be failing")
	}
	// bbolt grows a file by more than it needs.
	if err := f.Truncate(int64(len(written.data))); err != nil {
		return 0, err
	}
	return int64(len(written.data)), f.Sync()
}

// sum walks all pages and hashes all records in their order.
func (im *image) sum() (sum [sha256.Size]byte, c counts, err error) {
	h := sha256.New()
	c, err = im.walk(func(bucket string, key, value []byte) {
		var head [24]byte
		for i, n := range []int{len(bucket), len(key), len(value)} {
			binary.BigEndian.PutUint64(head[8*i:], uint64(n))
		}
		h.Write(head[:])
		h.Write([]byte(bucket))
		h.Write(key)
		h.Write(value)
	})
	h.Sum(sum[:0])
	return sum, c, err
}

// copyRecords copies the records of a walked image to a new file, which is not
// durable yet.
func copyRecords(ctx context.Context, im *image, tmp string, o Options) (err error) {
	opts := boltOptions(o)
	opts.PageSize, opts.NoSync, opts.NoGrowSync = im.pageSize, true, true
	db, err := bolt.Open(tmp, 0o600, opts)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := db.Close(); err == nil {
			err = cerr
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(im.trees.found)) {
		c := cursor{tree: im.trees.found[name]}
		k, v := c.Seek(nil)
		for first := true; first || k != nil; first = false {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := db.Update(func(btx *bolt.Tx) error {
				b, err := btx.CreateBucketIfNotExists([]byte(name))
				if err != nil {
					return err
				}
				b.FillPercent = 0.9 // keys come in order
				for size := 0; k != nil && size < compactBatch; k, v = c.Next() {
					if err := b.Put(k, v); err != nil {
						return err
					}
					size += len(k) + len(v)
				}
				return c.err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// sameOwner gives the file at path the owner of another one: root may work on the
// store of a user who must still be able to read it.
func sameOwner(path string, like os.FileInfo) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	now, _ := fi.Sys().(*syscall.Stat_t)
	want, ok := like.Sys().(*syscall.Stat_t)
	if !ok || now.Uid == want.Uid && now.Gid == want.Gid {
		return nil
	}
	return os.Lchown(path, int(want.Uid), int(want.Gid))
}
