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

// Info is what can be read of a store's file without a key. It is not
// authenticated: anybody who can write the file can forge it.
type Info struct {
	Format      int       // version that wrote the file
	Reader      int       // oldest version that can read it
	UUID        string    // of the store
	Created     time.Time // the store, not the file
	Slots       []Slot    // by name
	Values      uint64    // records in data
	Chunks      uint64    // records in blobs
	Size        int64     // of the file, in bytes; Free of them are in free pages
	Free        int64
	Transaction uint64    // bbolt's number of the last commit
	Modified    time.Time // modification time of the file
	SHA256      [32]byte  // of the file; zero in what Backup returns
}

// Inspect checks the pages of the store's file at path, which no process may
// have open, and returns what is not encrypted. It writes nothing and needs no
// key. ErrCorrupt: not a store, or damaged; ErrFormat; ErrLocked.
//
// It reads the file twice, to check the pages and to compute the hash.
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

// openUnused opens a file for reading and makes sure that no process is writing
// it, since it would look damaged. On a file system without locks, no store can
// be open.
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
	// From here on nothing points into the mapping: decoding JSON copies.
	var bad []string
	if info.Slots, bad, err = readSlots(slots); err != nil {
		return info, err
	}
	if len(bad) > 0 {
		return info, corrupt("slot "+quote(bad[0]), "does not decode")
	}
	return info, nil
}
