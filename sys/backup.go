package sys

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/storage"
)

// A backup is first made beside the store, at disk speed, so that a slow client
// holds up no writer: the transaction ends with the copy. The file loses its name
// before it is sent, and so is gone whatever becomes of client and process.
const sumPiece = 8 << 20

// The headers of a backup: the CRC-32C of the body in hex, which finds what a
// connection does to it and costs nothing beside a copy, and the store's UUID.
// What somebody else does to it is found when it is restored: every record in it
// authenticates.
const (
	headerCRC   = "X-Sealkeep-Crc32c"
	headerStore = "X-Sealkeep-Store"
)

var errBackingUp = &api.Error{Code: api.Busy, Text: "another backup is being made or sent: try again when it is done"}

func (s *System) backupRoutes() []api.Route {
	return []api.Route{
		{Path: "storage/backup", Help: "Makes a backup of the store.", Sudo: []api.Op{api.Read}, Ops: map[api.Op]api.Handler{api.Read: api.Do(s.readBackup)}},
	}
}

// readBackup makes a backup and sends it.
func (s *System) readBackup(r *api.Request, _ *api.None) (api.Answer, error) {
	if !s.backingUp.TryLock() {
		return api.Answer{}, errBackingUp
	}
	// However long the copy takes; a client that goes away ends the context.
	r.Frame.TakeTime()
	store, began := keep.Of(r).Store, time.Now()
	f, size, sum, err := s.backup(r.Context, store)
	if err != nil {
		s.backingUp.Unlock()
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		r.Frame.Log().Error("a backup failed", "request", r.ID, "error", err)
		return api.Answer{}, &api.Error{Code: api.Full, Text: err.Error()}
	case err != nil:
		return api.Answer{}, err
	}
	r.Frame.Log().Info("made a backup", "request", r.ID, "bytes", size, "took", time.Since(began).Round(time.Millisecond))
	return api.Answer{Raw: &api.Raw{
		Type: "application/octet-stream", Length: size, Stream: &oneBackup{f, &s.backingUp},
		Header: map[string]string{headerCRC: fmt.Sprintf("%08x", sum), headerStore: store.UUID()},
	}}, nil
}

// oneBackup is the one that is being sent.
type oneBackup struct {
	*os.File
	busy *sync.Mutex
}

func (b *oneBackup) Close() error {
	defer b.busy.Unlock()
	return b.File.Close()
}

// backup makes a file without a name.
func (s *System) backup(ctx context.Context, store *storage.Store) (f *os.File, size int64, sum uint32, err error) {
	path := s.keep.BackupPath()
	info, err := store.Backup(ctx, path)
	if err != nil {
		return nil, 0, 0, err
	}
	f, err = os.Open(path)
	err = errors.Join(err, os.Remove(path))
	if err == nil {
		if sum, err = sumOf(ctx, f, info.Size); err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
	}
	if err != nil {
		f.Close() // of nil it is an error, and no more
		return nil, 0, 0, fmt.Errorf("reading the backup: %w", err)
	}
	return f, info.Size, sum, nil
}

func sumOf(ctx context.Context, f *os.File, size int64) (uint32, error) {
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	for left := size; left > 0; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := io.CopyN(h, f, min(left, sumPiece))
		if err != nil {
			return 0, err
		}
		left -= n
	}
	return h.Sum32(), nil
}
