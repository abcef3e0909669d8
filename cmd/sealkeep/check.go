package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/seal"
	"github.com/sealkeep/sealkeep/storage"
)

const storageCheckHelp = `Checks the store file of a keep that is stopped: first its pages, then, when one of the seals of the configuration
opens it, every value and the digest over all of them. With -path instead of -config it checks the pages alone, which
needs no key.
Exit code: 0 clean, 2 something was found, 1 the check could not be made.`

const (
	checkLockWait = 2 * time.Second
	checkUnwrap   = 15 * time.Second // limit for one slot
)

func storageCheck(f *flag.FlagSet) action {
	var configs paths
	f.Var(&configs, "config", "configuration `file or folder`; can be repeated")
	path := f.String("path", "", "the store `file`, to check its pages alone")
	return func(c *cli, _ []string) error {
		if (*path == "") == (configs == nil) {
			return hint(errors.New("give -config or -path, one of them"), "sealkeep operator storage check -config=/etc/sealkeep")
		}
		if *path != "" {
			found, err := c.checkPages(*path)
			return c.checked(found, err, "no key was used, so the values were not checked: -config does that")
		}
		conf, seals, err := loadConfig(configs, c.lookup)
		if err != nil {
			return coded{err, 1}
		}
		defer closeAll(seals)
		found, err := c.checkPages(conf.Storage.Path)
		if err != nil || found > 0 {
			return c.checked(found, err, "")
		}
		found, err = c.checkValues(conf.Storage.Path, seals)
		return c.checked(found, err, "")
	}
}

// checked prints the outcome.
func (c *cli) checked(found int, err error, note string) error {
	switch {
	case err != nil:
		return err
	case found > 0:
		return coded{hint(fmt.Errorf("the store is damaged: %d findings", found),
			"keep the file as it is, and restore a backup elsewhere"), 2}
	}
	fmt.Fprintln(c.stdout, "The store is clean")
	if note != "" {
		fmt.Fprintf(c.stderr, "sealkeep: hint: %s\n", note)
	}
	return nil
}

// checkPages checks the pages and prints what is wrong with them.
func (c *cli) checkPages(path string) (found int, err error) {
	damage, err := storage.CheckPages(path, checkLockWait)
	if err != nil {
		return 0, explainLock(err, checkLocked)
	}
	for _, d := range damage {
		fmt.Fprintf(c.stdout, "finding: %s\n", strings.ReplaceAll(d.Error(), "\n", " "))
	}
	if damage == nil {
		fmt.Fprintln(c.stdout, "Pages: clean")
	}
	return len(damage), nil
}

const checkLocked = "stop the keep first: the check needs the file for itself"

// explainLock adds a hint to an error about a store that another process has open.
func explainLock(err error, text string) error {
	if errors.Is(err, storage.ErrLocked) {
		return hint(err, "%s", text)
	}
	return err
}

// checkValues unseals the store with the first slot that opens, and checks every record.
func (c *cli) checkValues(path string, seals []*seal.Seal) (found int, err error) {
	store, err := storage.Open(path, storage.Options{LockTimeout: checkLockWait})
	if err != nil {
		return 0, explainLock(err, checkLocked)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := c.unseal(store, seals); err != nil {
		return 0, err
	}
	report, err := store.Check(c)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(c.stdout, "Store: %s, fingerprint %s, generation %d, %d values, %d chunks\n",
		store.UUID(), store.Fingerprint(), report.Generation, report.Values, report.Chunks)
	for _, d := range report.Damage {
		fmt.Fprintf(c.stdout, "finding: %v\n", d)
	}
	if report.More > 0 {
		fmt.Fprintf(c.stdout, "finding: %d more of this kind\n", report.More)
	}
	return len(report.Damage) + report.More, nil
}

// unseal unseals the store with any slot that has a configured seal.
func (c *cli) unseal(store *storage.Store, seals []*seal.Seal) error {
	slots, err := store.Slots()
	if err != nil {
		return err
	}
	err = errors.New("no slot of the store has a seal in the configuration")
	for _, slot := range slots {
		for _, s := range seals {
			if s.Name() != slot.Name || s.Type() != slot.Type {
				continue
			}
			ctx, cancel := context.WithTimeout(c, checkUnwrap)
			var root []byte
			root, err = s.Unwrap(ctx, slot.Blob, slot.Context(store.UUID()))
			cancel()
			if err == nil {
				err = store.Unseal(root)
				clear(root)
			}
			if err == nil {
				return nil
			}
			c.warnf("slot %s: %v", slot.Name, err)
		}
	}
	return fmt.Errorf("no slot opened the store, so its values were not checked: %w", err)
}
