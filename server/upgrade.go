package server

import (
	"context"
	"errors"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// A mount is upgraded by its options: the new version of its type serves it from
// the next request on, and reads what the old one has written (api.Type.From). The
// sweep has the type convert that, and then takes the mark from the mount.

// upgrade gives a mount another version.
func (s *Server) upgrade(m *api.Mount, version string) error {
	old := m.Options["version"]
	switch typ := s.tables.types[typeKey{api.Secrets, m.Type, version}]; {
	case typ.From != old:
		return invalid("cannot downgrade mount from version %s", old)
	case m.From != "":
		return invalid("the mount is still being upgraded from version %s: try again", m.From)
	}
	m.Options["version"], m.From = version, old
	return nil
}

// convertMounts has the types convert what upgraded mounts have of older versions.
func (s *Server) convertMounts(k *keep) {
	for _, m := range k.mounts.Load().all() {
		typ := s.tables.of(api.Secrets, m)
		if m.From == "" || typ == nil || typ.Tidy == nil {
			continue
		}
		k.tidying.Lock()
		n, err := typ.Tidy(k.ctx, k.store, m, k.now)
		k.tidying.Unlock()
		if err == nil {
			err = k.converted(m.UUID)
		}
		switch {
		case errors.Is(err, context.Canceled):
			return
		case err != nil:
			s.log.Error("upgrading a mount failed, will try again; it works meanwhile", "mount", m.UUID, "converted", n, "error", err)
		default:
			s.log.Info("upgraded a mount", "path", m.Path, "mount", m.UUID, "from", m.From, "to", m.Options["version"], "records", n)
		}
	}
}

// converted takes the mark of an upgrade from a mount, wherever that is by now.
func (k *keep) converted(uuid string) error {
	return k.change(k.ctx, &k.mounts, func(_ *storage.Tx, t *mountTable) (*mountTable, error) {
		for path, m := range t.byPath {
			if m.UUID == uuid {
				done := *m
				done.From = ""
				return t.with(path, &done), nil
			}
		}
		return t, nil
	})
}
