package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/recovery"
	"github.com/sealkeep/sealkeep/seal"
	"github.com/sealkeep/sealkeep/storage"
)

const restoreHelp = `Puts a backup in the place of the store that the configuration names; the keep is stopped. The backup is copied, opened with any
slot that has a seal in the configuration, or by recovery (-identity, -share), and checked whole before anything is replaced.
It never goes over a store that is newer, or another one, or has gone another way since one of the two was restored, or cannot
be opened to tell, unless with -force. Even then nothing is lost: the store that was there is kept beside it, as
NAME.before-restore-TIME.

-reseal is for a backup that was made under other seals: the restored store gets a slot for each enabled seal of the
configuration, opened again before it counts. Its old slots stay until operator slot remove.
Exit code: 0 done, 2 the backup is damaged, 1 refused, or not possible.`

// restore holds the flags of the command.
type restore struct {
	configs       paths
	identity      *string
	shares        words
	reseal, force bool
}

func operatorRestore(f *flag.FlagSet) action {
	var o restore
	f.Var(&o.configs, "config", "configuration `file or folder`; can be repeated; none: the environment alone")
	o.identity = identityFlag(f)
	f.Var(&o.shares, "share", "recovery `share`; can be repeated; - reads them from standard input, one a line")
	f.BoolVar(&o.reseal, "reseal", false, "give the restored store a slot for each enabled seal of the configuration")
	f.BoolVar(&o.force, "force", false, "put the present store aside, whatever it is")
	return func(c *cli, args []string) error {
		conf, seals, err := loadConfig(o.configs, c.lookup)
		if err != nil {
			return coded{err, 1}
		}
		defer closeAll(seals)
		k, err := c.openers(o, seals)
		if err != nil {
			return err
		}
		path := conf.Storage.Path
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real // the file is replaced, not a link to it
		}
		return damaged(c.restore(o, k, args[0], path))
	}
}

// restore replaces the store at path with a copy of the backup.
func (c *cli) restore(o restore, k *openers, from, path string) error {
	info, err := storage.Inspect(from)
	if err != nil {
		return explainLock(err, "that is a store in use: take a backup of it")
	}
	present, err := c.openPresent(path, o.force)
	if err != nil {
		return err
	}
	if present != nil {
		defer present.Close() // nobody else can open it until then
	}
	tmp, err := c.copyBackup(from, path, info)
	if tmp != "" {
		defer os.Remove(tmp)
	}
	if err != nil {
		return fmt.Errorf("copying the backup: %w", err)
	}
	age, err := c.prepare(o, k, tmp, present)
	if err != nil {
		return err
	}
	aside := path + ".before-restore-" + time.Now().UTC().Format("20060102T150405.000Z")
	_, gone := os.Lstat(path)
	if err := storage.Replace(path, tmp, aside); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "Success! Restored the store %s to %s\n%s", info.UUID, path, age)
	for _, slot := range info.Slots {
		if set := shareSet(slot); set != "" {
			fmt.Fprintf(c.stdout, "Slot %s opens with recovery shares of set %s\n", slot.Name, set)
		}
	}
	fmt.Fprintf(c.stdout, "The backup's file was written %s, %s ago\n", info.Modified.UTC().Format(time.RFC3339), time.Since(info.Modified).Round(time.Second))
	if gone == nil {
		fmt.Fprintf(c.stdout, "The store that was there is kept: %s\n", aside)
	}
	return nil
}

// openPresent opens the store that will be replaced, to lock it and to compare it. It returns nil if there is none, or if
// it cannot be opened and need not be.
func (c *cli) openPresent(path string, force bool) (*storage.Store, error) {
	s, err := storage.Open(path, storage.Options{LockTimeout: checkLockWait})
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, storage.ErrLocked):
		return nil, hint(err, "stop the keep first: its store is replaced")
	case !force:
		return nil, hint(fmt.Errorf("the present store cannot be compared with the backup: %v", err), "-force puts it aside and restores the backup")
	}
	c.warnf("the present store cannot be opened: %v", err)
	return nil, nil
}

// copyBackup copies the backup into the folder of the store, and returns the copy's path, even with an error if the copy
// exists.
func (c *cli) copyBackup(from, path string, info storage.Info) (tmp string, err error) {
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer in.Close()
	tmp = filepath.Join(dir, "."+filepath.Base(path)+".restore-"+storage.NewUUID())
	out, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer out.Close()
	sum := sha256.New()
	for left := info.Size; left > 0 && err == nil; left -= 8 << 20 {
		if err = c.Err(); err == nil {
			_, err = io.CopyN(io.MultiWriter(out, sum), in, min(left, 8<<20))
		}
	}
	if err == nil && [32]byte(sum.Sum(nil)) != info.SHA256 {
		err = errors.New("the file has changed meanwhile")
	}
	if err == nil {
		err = out.Sync()
	}
	return tmp, err
}

// prepare opens the copy, makes it ready, and begins its new lineage. It returns a description of its age.
func (c *cli) prepare(o restore, k *openers, tmp string, present *storage.Store) (age string, err error) {
	store, err := storage.Open(tmp, storage.Options{})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if age, err = c.ready(o, k, store, present); err != nil {
		return "", err
	}
	return age, store.Fork(c)
}

// ready checks the copy, compares it with the present store and gives it its slots.
func (c *cli) ready(o restore, k *openers, store, present *storage.Store) (age string, err error) {
	if present != nil && present.UUID() != store.UUID() {
		if !o.force {
			return "", hint(fmt.Errorf("the backup is of another store, %s; the present one is %s", store.UUID(), present.UUID()), "-force puts the present store aside and restores the backup")
		}
		present = nil
	}
	by, err := k.open(c, store)
	if err != nil {
		if !o.force || o.reseal {
			return "", hint(fmt.Errorf("nothing given here opens the backup, so it was not restored: %w", err),
				"sealkeep operator backup inspect shows its slots: give the configuration one of their seals, or -identity or -share, with -reseal if the keep is to open with other seals")
		}
		c.warnf("nothing given here opens the backup, so it is not known to be whole, nor how old it is: %v", err)
		return "", nil
	}
	report, err := store.Check(c)
	if err != nil {
		return "", err
	}
	if !report.OK() {
		return "", fmt.Errorf("the backup has %d findings, the first: %w", len(report.Damage)+report.More, report.Damage[0])
	}
	age = fmt.Sprintf("Fingerprint %s, generation %d, %d values; opened by slot %s\n", store.Fingerprint(), report.Generation, report.Values, by.Name)
	if present != nil {
		than, err := c.compare(o, k, present, store, report.Generation)
		if err != nil {
			return "", err
		}
		age += than
	}
	if o.reseal {
		return age, c.reseal(store, k.seals)
	}
	if !slices.ContainsFunc(k.seals, func(s *seal.Seal) bool { return c.opens(store, s) == nil }) {
		c.warnf("no seal of the configuration has a slot in the restored store that opens it: the keep will not open by itself; -reseal makes slots")
	}
	return age, nil
}

// compare refuses to go back to an older state, and returns a description of the distance. A store that was restored and
// not changed since counts as its backup.
func (c *cli) compare(o restore, k *openers, present, store *storage.Store, generation uint64) (string, error) {
	_, err := k.open(c, present)
	var now uint64
	if err == nil {
		now, err = present.Generation(c)
	}
	lineage := present.Lineage()
	if lineage.Forked == now && lineage.ID != store.Lineage().ID {
		lineage.ID, now = lineage.Parent, now-1
	}
	switch forked := lineage.ID != store.Lineage().ID; {
	case err != nil && !o.force:
		return "", hint(fmt.Errorf("the present store does not open, so it is not known to be older than the backup: %v", err), "-force puts it aside and restores the backup")
	case err != nil:
		c.warnf("the present store does not open: %v", err)
		return "", nil
	case forked && !o.force:
		return "", hint(errors.New("the backup and the present store have gone different ways since one of them was restored, so neither is the newer"),
			"-force puts the present store aside and goes back to the backup")
	case forked:
		return "It has gone another way than the store that was there\n", nil
	case now > generation && !o.force:
		return "", hint(fmt.Errorf("the present store is newer than the backup, by %d commits", now-generation), "-force puts the present store aside and goes back to the backup")
	case now == generation:
		return "It is as new as the store that was there\n", nil
	case now > generation:
		return fmt.Sprintf("It is older than the store that was there, by %d commits\n", now-generation), nil
	}
	return fmt.Sprintf("It is newer than the store that was there, by %d commits\n", generation-now), nil
}

// reseal gives an unsealed store a slot for each enabled seal, and opens each again as stored.
func (c *cli) reseal(store *storage.Store, seals []*seal.Seal) error {
	root, generation, err := store.RootKey()
	if err != nil {
		return err
	}
	defer clear(root)
	done := 0
	for _, s := range seals {
		if s.Disabled() {
			continue
		}
		done++
		if c.opens(store, s) == nil {
			fmt.Fprintf(c.stdout, "Slot %s: there is one, and it opens\n", s.Name())
			continue
		}
		slot := storage.Slot{Name: s.Name(), Type: s.Type(), RootGeneration: generation, Created: time.Now().UTC()}
		ctx, cancel := context.WithTimeout(c, checkUnwrap)
		slot.Blob, slot.KeyID, err = s.Wrap(ctx, root, slot.Context(store.UUID()))
		cancel()
		if err == nil {
			err = store.PutSlot(c, slot)
		}
		if errors.Is(err, storage.ErrRevoked) {
			return hint(err, "take its seal block out, or restore without -reseal; when nobody else has its key any more, the running keep takes it back: sealkeep operator slot add %s", slot.Name)
		}
		if err == nil {
			err = c.opens(store, s)
		}
		if err != nil {
			return fmt.Errorf("making slot %s: %w", s.Name(), err)
		}
		fmt.Fprintf(c.stdout, "Slot %s: made, and it opens\n", s.Name())
	}
	if done == 0 {
		return errors.New("-reseal: the configuration has no enabled seal")
	}
	return nil
}

// opens returns an error unless the store's own slot of a seal opens it.
func (c *cli) opens(store *storage.Store, s *seal.Seal) error {
	slots, _, err := store.TrustedSlots()
	if err != nil {
		return err
	}
	for _, slot := range slots {
		if slot.Name != s.Name() || slot.Type != s.Type() {
			continue
		}
		ctx, cancel := context.WithTimeout(c, checkUnwrap)
		defer cancel()
		root, err := s.Unwrap(ctx, slot.Blob, slot.Context(store.UUID()))
		if err != nil {
			return err
		}
		defer clear(root)
		return store.Unseal(root) // if the store is unsealed, this only checks the key
	}
	return storage.ErrNoSlot
}

// openers holds everything given to open a store.
type openers struct {
	seals    []*seal.Seal
	identity string // text of an age identity file
	shares   [][]byte
}

func (c *cli) openers(o restore, seals []*seal.Seal) (*openers, error) {
	k := &openers{seals: seals}
	given := o.shares
	switch {
	case *o.identity == "-":
		b, err := io.ReadAll(io.LimitReader(c.input(), maxIdentity))
		if err != nil {
			return nil, fmt.Errorf("reading the identity: %w", err)
		}
		k.identity = string(b)
	case *o.identity != "":
		b, err := readShort(*o.identity, maxIdentity)
		if err != nil {
			return nil, fmt.Errorf("reading the identity: %w", err)
		}
		k.identity = string(b)
	case len(given) == 1 && given[0] == "-":
		b, err := io.ReadAll(io.LimitReader(c.input(), maxIdentity))
		if err != nil {
			return nil, fmt.Errorf("reading the shares: %w", err)
		}
		given = strings.Fields(string(b))
	}
	for i, text := range given {
		share, err := recovery.ParseShare(text)
		if err != nil {
			return nil, fmt.Errorf("share %d: %w", i+1, err)
		}
		k.shares = append(k.shares, share)
	}
	return k, nil
}

// open unseals a store with the first slot that any of the openers opens.
func (k *openers) open(c *cli, store *storage.Store) (by storage.Slot, err error) {
	slots, err := store.Slots()
	if err != nil {
		return by, err
	}
	// Try what people gave first: they want it used, and it is faster than key services that are gone.
	if k.identity != "" || k.shares != nil {
		var first, then []storage.Slot
		for _, slot := range slots {
			if forPeople(slot) {
				first = append(first, slot)
			} else {
				then = append(then, slot)
			}
		}
		slots = append(first, then...)
	}
	var why []error
	for _, slot := range slots {
		ctx, cancel := context.WithTimeout(c, checkUnwrap)
		root, err := k.unwrap(ctx, store.UUID(), slot)
		cancel()
		if err == nil {
			err = store.Unseal(root)
			clear(root)
		}
		if err == nil {
			return slot, nil
		}
		why = append(why, fmt.Errorf("slot %s: %w", slot.Name, err))
	}
	if why == nil {
		return by, errors.New("it has no slots")
	}
	return by, errors.Join(why...)
}

func forPeople(slot storage.Slot) bool {
	return slot.Type == recovery.Age || slot.Type == recovery.Shares
}

func (k *openers) unwrap(ctx context.Context, uuid string, slot storage.Slot) ([]byte, error) {
	identity := k.identity
	switch {
	case forPeople(slot) && identity != "":
	case slot.Type == recovery.Shares && k.shares != nil:
		all, err := recovery.NewCollection(slot.Lock)
		if err != nil {
			return nil, err
		}
		for i, share := range k.shares {
			if _, err := all.Add(share); errors.Is(err, recovery.ErrOtherSet) {
				of, _ := recovery.ShareSetID(share) // it was parsed before
				return nil, fmt.Errorf("share %d: %w: it is of set %s, the slot opens with set %s", i+1, err, of, shareSet(slot))
			} else if err != nil {
				return nil, fmt.Errorf("share %d: %w", i+1, err)
			}
		}
		if identity, err = all.Identity(); err != nil {
			return nil, err
		}
	case forPeople(slot):
		return nil, errors.New("needs -identity, or -share for shares")
	default:
		err := fmt.Errorf("no seal of type %s in the configuration", slot.Type)
		for _, s := range k.sealsOf(slot) {
			var root []byte
			if root, err = s.Unwrap(ctx, slot.Blob, slot.Context(uuid)); err == nil {
				return root, nil
			}
		}
		return nil, err
	}
	return recovery.Unwrap(identity, slot.Blob, slot.Context(uuid))
}

// sealsOf returns the seals that may open a slot: the one of its name and type, then others of its type, which may be the
// same seal under a new name.
func (k *openers) sealsOf(slot storage.Slot) (found []*seal.Seal) {
	for _, s := range k.seals {
		switch {
		case s.Type() == slot.Type && s.Name() == slot.Name:
			found = slices.Insert(found, 0, s)
		case s.Type() == slot.Type:
			found = append(found, s)
		}
	}
	return found
}
