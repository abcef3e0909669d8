package main

import (
	"errors"
	"flag"
	"fmt"

	"github.com/sealkeep/sealkeep/storage"
)

const compactHelp = `Rewrites the store file of a keep that is stopped: the live records go to a new file, which then takes the place of the old one.
That gives back space, and leaves nothing of what was deleted or replaced: after rotate-root and re-encryption, no value that an
old slot opens (names stay under the same key, which whoever once had the root key has). It needs no key. Backups, and blocks of the disk that are not overwritten yet, are as they were.
A crash leaves the old or the new file. It needs room for the new one beside the old.
Exit code: 0 done, 2 the store is damaged, 1 it could not be done.`

func storageCompact(f *flag.FlagSet) action {
	var configs paths
	f.Var(&configs, "config", "configuration `file or folder`; can be repeated")
	path := f.String("path", "", "the store `file`, instead of -config")
	return func(c *cli, _ []string) error {
		if (*path == "") == (configs == nil) {
			return hint(errors.New("give -config or -path, one of them"), "sealkeep operator storage compact -config=/etc/sealkeep")
		}
		at := *path
		if at == "" {
			conf, seals, err := loadConfig(configs, c.lookup)
			if err != nil {
				return coded{err, 1}
			}
			closeAll(seals)
			at = conf.Storage.Path
		}
		before, after, err := storage.Compact(c, at, storage.Options{LockTimeout: checkLockWait})
		if errors.Is(err, storage.ErrCorrupt) {
			return coded{hint(err, "sealkeep operator storage check tells more; restore a backup"), 2}
		}
		if err != nil {
			return explainLock(err, "stop the keep first: the file is replaced")
		}
		fmt.Fprintf(c.stdout, "Success! The store is rewritten: %d bytes, and was %d\n", after, before)
		return nil
	}
}
