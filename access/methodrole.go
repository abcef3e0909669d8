package access

import (
	"strings"

	"github.com/sealkeep/sealkeep/storage"
)

const methodKind = "a record of a login method"

// methodName is the name of a role or user as login methods have it: canonical,
// without a slash.
func methodName(what, name string) (string, error) {
	name = CanonicalName(name)
	if name == "" || len(name) > maxRoleName || strings.Contains(name, "/") {
		return "", mistake("the name of a %s has 1 to %d bytes and no slash", what, maxRoleName)
	}
	return name, CheckName(what, name)
}

// methodPath is where a role of a login method lies, or something else that has a
// name.
func methodPath(folder, name string) (string, error) {
	name, err := methodName("role", name)
	return folder + "/" + name, err
}

// ReadMethodRole reads a role of a login method into role, which is a pointer,
// and tells whether there is one.
func ReadMethodRole(tx *storage.Tx, folder, name string, role any) (found bool, err error) {
	path, err := methodPath(folder, name)
	if err != nil {
		return false, err
	}
	return getRecord(tx, path, methodKind, role)
}

// WriteMethodRole checks a role of a login method and writes it.
func WriteMethodRole(tx *storage.Tx, folder, name string, role interface{ Check() error }) error {
	path, err := methodPath(folder, name)
	if err != nil {
		return err
	}
	if err := role.Check(); err != nil {
		return err
	}
	return putRecord(tx, path, methodKind, role, maxRoleLists)
}

// DeleteMethodRole deletes a role of a login method. Its tokens stay, but are
// renewed no more.
func DeleteMethodRole(tx *storage.Tx, folder, name string) error {
	path, err := methodPath(folder, name)
	if err != nil {
		return err
	}
	return tx.Delete(path)
}
