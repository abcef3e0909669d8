package keep

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/sealkeep/sealkeep/storage"
)

// BackupPath is where a backup of the store can be made that is not to stay there:
// the next start removes what a killed process has left.
func (k *Keep) BackupPath() string {
	return filepath.Join(filepath.Dir(k.config.Path), "."+filepath.Base(k.config.Path)+".backup-"+storage.NewUUID())
}

// sweepBackups removes what a killed process has left of backups and, beside it,
// of restores. The store is open: no other process makes any.
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
