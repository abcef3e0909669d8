package keep_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// A store that cannot be opened at all keeps the keep sealed, and ends nothing.
func TestDamagedStore(t *testing.T) {
	seal := servertest.NewSeal("a", 1)
	f := fresh(t, seal)
	f.Stop(t)
	whole, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	for name, damage := range map[string]func(b []byte) []byte{
		"cut short": func(b []byte) []byte { return b[:2*page] },
		"zeroed":    func(b []byte) []byte { clear(b[2*page:]); return b },
		"noise":     func(b []byte) []byte { return bytes.Repeat([]byte{0xa5}, len(b)) },
		"empty":     func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keep.db")
			if err := os.WriteFile(path, damage(bytes.Clone(whole)), 0o600); err != nil {
				t.Fatal(err)
			}
			f := start(t, path, seal)
			r := f.Must(t, 200, "GET", "sys/seal-status", "")
			if says := r.Text; r.Get("initialized") != true || r.Get("sealed") != true || !strings.Contains(says, "store is damaged") ||
				!strings.Contains(says, "operator restore") || strings.Contains(says, "runtime error") {
				t.Error(says)
			}
			f.Must(t, 503, "GET", "sys/health", "")
			if r := f.Must(t, 503, "GET", "secret/data/x", ""); !strings.Contains(r.Errors(), "the store is damaged") {
				t.Error(r.Text)
			}
			if r := f.Must(t, 503, "PUT", "sys/unseal", "{}"); !strings.Contains(r.Errors(), "the store is damaged") {
				t.Error(r.Text)
			}
			if r := f.Must(t, 400, "PUT", "sys/init", "{}"); !strings.Contains(r.Errors(), "already initialized") {
				t.Error(r.Text)
			}
			if got := servertest.Scrape(t, f.Must(t, 200, "GET", "sys/metrics", ""))["sealkeep_storage_damage"]; got != "1" {
				t.Errorf("sealkeep_storage_damage is %q", got)
			}
			if strings.Count(f.Log.String(), "the store cannot be opened") != 1 {
				t.Error(f.Log.String())
			}

			// Nobody has the file, so it can be replaced.
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := storage.Open(path, storage.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			f.Server.Close(context.Background())
			f = start(t, path, seal)
			f.OpenWithin(t, 20*time.Second)
		})
	}
}
