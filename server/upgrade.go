package server

import (
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// A mount is upgraded by its options: the new version of its type serves it from
// the next request on, and reads what the old one has written (api.Type.From). The
// sweep has the type convert that, and then takes the mark from the mount.

// changeVersion gives a mount the version that the options say, if that is an upgrade.
func (t *tables) changeVersion(m *api.Mount, options map[string]string) error {
	if err := t.checkVersion(m.Type, options); err != nil {
		return err
	}
	version, old := options["version"], m.Options["version"]
	switch {
	case version == "" || version == old:
		return nil
	case t.types[typeKey{api.Secrets, m.Type, version}].From != old:
		return invalid("cannot downgrade mount from version %s", old)
	case m.From != "":
		return invalid("the mount is still being upgraded from version %s: try again", m.From)
	}
	m.Options["version"], m.From = version, old
	return nil
}

// tidyMount has a type tidy a mount, and takes the mark of an upgrade from it when
// everything is converted.
func (k *keep) tidyMount(typ *typeTable, m *api.Mount) (records int, err error) {
	if m.From == "" {
		return typ.Tidy(k.ctx, k.store, m, k.now)
	}
	k.converting.Lock()
	defer k.converting.Unlock()
	if records, err = typ.Tidy(k.ctx, k.store, m, k.now); err != nil {
		return records, err
	}
	return records, k.change(k.ctx, &k.mounts, func(_ *storage.Tx, t *mountTable) (*mountTable, error) {
		for path, now := range t.byPath { // it may have been moved, or removed
			if now.UUID == m.UUID {
				done := *now
				done.From = ""
				return t.with(path, &done), nil
			}
		}
		return t, nil
	})
}
