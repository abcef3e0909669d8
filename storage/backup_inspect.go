package storage

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Info is what anybody can know of a store's file. It needs no key, and nobody
// vouches for it: whoever can write the file can write this too.
type Info struct {
	Format      int       // what wrote it
	Reader      int       // the oldest version that reads it
	UUID        string    // of the store
	Created     time.Time // the store, not the file
	Slots       []Slot    // by name
	Values      uint64    // records in data
	Chunks      uint64    // records in blobs
	Size        int64     // of the file in bytes, and Free of them in free pages
	Free        int64
	Transaction uint64    // bbolt's number of the last commit
	Modified    time.Time // the file, as the file system has it
	SHA256      [32]byte  // of the file; zero in what Backup returns
}

// Inspect checks the pages of the store's file at path, which no process may
// have open, and tells what is in clear. It writes nothing and needs no key.
// ErrCorrupt: no store, or damaged; ErrFormat; ErrLocked.
//
// It costs one reading of the file, twice that of its hash.
func Inspect(path string) (Info, error) {
	f, err := openUnused(path, 0)
	if err != nil {
		return Info{}, fmt.Errorf("inspecting %s: %w", path, err)
	}
	defer f.Close()
	info, err := inspect(f)
	if err != nil {
		return Info{}, fmt.Errorf("inspecting %s: %w", path, err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, info.Size)); err != nil {
		return Info{}, fmt.Errorf("inspecting: %w", err)
	}
	sum.Sum(info.SHA256[:0])
	return info, nil
}

// openUnused opens a file to read it, which no process may be writing: it would
// look damaged. Where the file system knows no locks, nobody can have it open.
func openUnused(path string, wait time.Duration) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := lock(f, unix.LOCK_SH, wait); errors.Is(err, ErrLocked) {
		f.Close()
		return nil, err
	}
	return f, nil
}

// inspect does all but the hash.
func inspect(f *os.File) (info Info, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer catch(&err, "file")
	im, err := openImage(f)
	if err != nil {
		return info, err
	}
	defer im.close()
	counts, err := im.walk(func(string, []byte, []byte) {})
	if err == nil {
		err = counts.list
	}
	if err != nil {
		return info, err
	}
	head, err := readHeader(&im.trees)
	if err != nil {
		return info, err
	}
	fi, err := f.Stat()
	if err != nil {
		return info, err
	}
	info = Info{
		Format: head.Format, Reader: head.Reader, UUID: head.UUID, Created: head.Created,
		Values: counts.records[string(bucketData)], Chunks: counts.records[string(bucketBlobs)],
		Size: fi.Size(), Free: int64(counts.free) * int64(im.pageSize), Transaction: im.meta.txid, Modified: fi.ModTime(),
	}
	slots, err := im.trees.of(bucketSlots)
	if err != nil {
		return info, err
	}
	// From here on nothing may point into the mapping: JSON has copied it.
	var bad []string
	if info.Slots, bad, err = readSlots(slots); err != nil {
		return info, err
	}
	if len(bad) > 0 {
		return info, corrupt("slot "+quote(bad[0]), "does not decode")
	}
	return info, nil
}
