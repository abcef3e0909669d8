package keep

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/sealkeep/sealkeep/storage"
)

// BackupPath returns a path for a temporary backup of the store. The next start
// removes what a killed process left there.
func (k *Keep) BackupPath() string {
	return filepath.Join(filepath.Dir(k.config.Path), "."+filepath.Base(k.config.Path)+".backup-"+storage.NewUUID())
}

// sweepBackups removes unfinished backups and restores that a killed process left
// beside the store. The store is open, so no other process is making any.
func (k *Keep) sweepBackups() {
	dir, base := filepath.Split(k.config.Path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		k.log.Warn("looking for unfinished backups failed", "error", err)
	}
	for _, e := range entries {
		for _, kind := range []string{".backup-", ".restore-"} {
			if !strings.HasPrefix(e.Name(), "."+base+kind) || !e.Type().IsRegular() {
				continue
			}
			path := filepath.Join(dir, e.Name())
			err := os.Remove(path)
			k.log.Warn("removed an unfinished backup", "path", path, "error", err)
		}
	}
}
