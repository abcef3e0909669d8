package sys

import (
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/mount"
)

// A mount is upgraded by its options: the new version of its type serves it from
// the next request on, and reads what the old one has written (api.Type.From). The
// sweep has the type convert that, and then takes the mark from the mount.

// changeVersion gives a mount the version that the options say, if that is an upgrade.
func changeVersion(t *mount.Types, m *api.Mount, options map[string]string) error {
	if err := checkVersion(t, m.Type, options); err != nil {
		return err
	}
	version, old := options["version"], m.Options["version"]
	switch {
	case version == "" || version == old:
		return nil
	case t.Get(api.Secrets, m.Type, version).From != old:
		return invalid("cannot downgrade mount from version %s", old)
	case m.From != "":
		return invalid("the mount is still being upgraded from version %s: try again", m.From)
	}
	m.Options["version"], m.From = version, old
	return nil
}
