package kv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Bounds of a transaction that converts secrets, for which other writers wait.
const (
	convertMost  = 64
	convertBytes = 256 << 10 // what is converted after these waits for the next
)

// tidy converts what an upgraded mount has of version 1.
func tidy(ctx context.Context, store *storage.Store, m *api.Mount, _ func() time.Time) (converted int, err error) {
	if m.From == "" {
		return 0, nil
	}
	e := Engine{Prefix: m.Prefix(), Upgrading: true}
	return e.Upgrade(func(fn func(*storage.Tx) error) error { return store.View(ctx, fn) },
		func(fn func(*storage.Tx) error) error { return store.Update(ctx, fn) })
}

// Upgrade converts the secrets of version 1, which no one writes any more, in
// transactions that view and update run, and returns how many these were. It lists
// each folder once and holds the names of one folder for each level. A damaged
// record is left where it is; the others are converted, and the error tells of one.
func (e Engine) Upgrade(view, update func(func(*storage.Tx) error) error) (converted int, err error) {
	var damaged error
	var walk func(folder string) error
	walk = func(folder string) error {
		var names []string
		err := view(func(tx *storage.Tx) (err error) {
			names, err = e.names(tx, v1Folder, folder)
			return err
		})
		if err != nil {
			return err
		}
		var paths []string
		for _, name := range names {
			if !strings.HasSuffix(name, "/") {
				paths = append(paths, folder+name)
			} else if err := walk(folder + name); err != nil {
				return err
			}
		}
		for len(paths) > 0 {
			var b batch
			if err := update(func(tx *storage.Tx) (err error) {
				b, err = e.convert(tx, paths)
				return err
			}); err != nil {
				return err
			}
			converted += b.converted
			if damaged == nil {
				damaged = b.damaged
			}
			paths = paths[b.seen:]
		}
		return nil
	}
	if err := walk(""); err != nil {
		return converted, fmt.Errorf("converting secrets of version 1: %w", err)
	}
	return converted, damaged
}

// A batch is what one transaction has done.
type batch struct {
	seen, converted int
	damaged         error // of one that was left
}

// convert converts the first of some secrets, as many as one transaction is to.
func (e Engine) convert(tx *storage.Tx, paths []string) (b batch, err error) {
	for size := 0; b.seen < min(len(paths), convertMost) && size < convertBytes; b.seen++ {
		path := paths[b.seen]
		r, found, err := e.load(tx, path)
		switch {
		case errors.Is(err, storage.ErrCorrupt):
			b.damaged = err
			continue
		case err != nil:
			return b, err
		case !found: // deleted meanwhile
			continue
		}
		if err := e.save(tx, path, &r); err != nil {
			return b, err
		}
		b.converted++
		size += len(r.data)
	}
	return b, nil
}
