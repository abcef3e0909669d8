package server

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sealkeep/sealkeep/api"
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

// readBackup makes a backup and sends it.
func (s *Server) readBackup(r *api.Request, _ *api.None) (api.Answer, error) {
	if !s.backingUp.TryLock() {
		return api.Answer{}, errBackingUp
	}
	// However long the copy takes; a client that goes away ends the context.
	r.Frame.TakeTime()
	store, began := unsealedOf(r).Store, time.Now()
	f, size, sum, err := s.backup(r.Context, store)
	if err != nil {
		s.backingUp.Unlock()
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		s.log.Error("a backup failed", "request", r.ID, "error", err)
		return api.Answer{}, &api.Error{Code: api.Full, Text: err.Error()}
	case err != nil:
		return api.Answer{}, err
	}
	s.log.Info("made a backup", "request", r.ID, "bytes", size, "took", time.Since(began).Round(time.Millisecond))
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
func (s *Server) backup(ctx context.Context, store *storage.Store) (f *os.File, size int64, sum uint32, err error) {
	path := backupPrefix(s.config.Path) + storage.NewUUID()
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

// backupPrefix begins the names of backups that are being made of the store at
// path.
func backupPrefix(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".backup-")
}

// sweepBackups removes what a killed process has left of backups and, beside it,
// of restores. The store is open: no other process makes any.
func (s *Server) sweepBackups() {
	dir, base := filepath.Split(s.config.Path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		s.log.Warn("looking for unfinished backups failed", "error", err)
	}
	for _, e := range entries {
		for _, kind := range []string{".backup-", ".restore-"} {
			if !strings.HasPrefix(e.Name(), "."+base+kind) || !e.Type().IsRegular() {
				continue
			}
			path := filepath.Join(dir, e.Name())
			err := os.Remove(path)
			s.log.Warn("removed an unfinished backup", "path", path, "error", err)
		}
	}
}
