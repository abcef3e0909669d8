package storage

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// What a compaction puts in the place of the store is on the disk before: a power
// cut leaves the old or the new file. And a disk that fails at any of its writes
// leaves the old one, and nothing beside it.
func TestCompactFaults(t *testing.T) {
	path, root, want := wornStore(t)
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	calls := supervise(t, compactFile(path), func(call) syscall.Errno { return 0 })
	if len(calls) < 8 || !calls[len(calls)-1].sync() {
		t.Fatalf("%d calls, the last one no sync", len(calls))
	}
	if after, err := Inspect(path); err != nil || after.Size > int64(len(image))*2/3 {
		t.Fatalf("not compacted: %+v %v", after, err)
	}
	step := 1
	if os.Getenv("SEALKEEP_LONG") == "" {
		step = max(1, len(calls)/12)
	}
	for nth := 0; nth < len(calls); nth += step {
		errno := []syscall.Errno{syscall.EIO, syscall.ENOSPC}[nth%2]
		t.Run(fmt.Sprintf("%v at %d of %d", errno, nth, len(calls)), func(t *testing.T) {
			if err := os.WriteFile(path, image, 0o600); err != nil {
				t.Fatal(err)
			}
			n := -1
			supervise(t, compactFile(path), func(call) syscall.Errno {
				if n++; n == nth {
					return errno
				}
				return 0
			})
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, image) {
				t.Errorf("the file was changed (%v)", err)
			}
			if names := leftIn(t, filepath.Dir(path)); len(names) != 1 {
				t.Errorf("left behind: %v", names)
			}
		})
	}
	if damage, err := CheckPages(path, time.Second); err != nil || damage != nil {
		t.Errorf("%v %v", damage, err)
	}
	wantAll(t, reopen(t, path, root), want)
}
