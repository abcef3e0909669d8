package server

import (
	"github.com/sealkeep/sealkeep/api"
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
