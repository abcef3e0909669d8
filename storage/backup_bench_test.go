package storage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkBackup compares a backup, which is durable and checked, with cp(1) of
// the same file, alone and with the sync that makes it durable. SEALKEEP_BENCH_MB
// says how large the store is; half of it is small values.
func BenchmarkBackup(b *testing.B) {
	size := 128
	if v := os.Getenv("SEALKEEP_BENCH_MB"); v != "" {
		if _, err := fmt.Sscan(v, &size); err != nil {
			b.Fatal(err)
		}
	}
	s, _ := newStore(b)
	for n := range size / 2 {
		err := s.Update(b.Context(), func(tx *Tx) error {
			errs := []error{tx.Put(fmt.Sprintf("large/%d", n), make([]byte, MaxValue-100))}
			for i := range 750 {
				errs = append(errs, tx.Put(fmt.Sprintf("small/%d/%d", n, i), []byte(strings.Repeat("v", 1000))))
			}
			return errors.Join(errs...)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	to := filepath.Join(b.TempDir(), "copy.db")
	file := s.Stats().FileBytes
	run := func(name string, fn func() error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(file)
			for b.Loop() {
				if err := fn(); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				os.Remove(to)
				b.StartTimer()
			}
		})
	}
	run("backup", func() error { _, err := s.Backup(b.Context(), to); return err })
	run("cp", func() error { return exec.Command("cp", s.Path(), to).Run() })
	run("cp and sync", func() error {
		return errors.Join(exec.Command("cp", s.Path(), to).Run(), exec.Command("sync", to).Run())
	})
}
