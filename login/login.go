// Package login is what the login methods share: how their records are stored, the
// roles that somebody logs in by, and what those say of the tokens.
//
// A login method is a package below this one: a value of [api.Type] with its routes,
// its records and its logic. It turns a proof into an [access.Login]; the pipeline
// makes the token of that.
//
// # In the store
//
// Below the folder of the mount, each as JSON {"version":1,"data":...}:
//
//	<folder>/config       the configuration, where the method has one
//	<folder>/role/<name>  a role; the method says which folder it is
//
// and what the method's own package says.
package login

import (
	"strings"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
)

const maxName = 256 // bytes

// Name is the name of a role or user as login methods have it: canonical, without a
// slash. what says in errors which of the two it is. The errors are api.Invalid.
func Name(what, name string) (string, error) {
	name = access.CanonicalName(name)
	if name == "" || len(name) > maxName || strings.Contains(name, "/") {
		return "", api.Invalid.Errorf("the name of a %s has 1 to %d bytes and no slash", what, maxName)
	}
	return name, access.CheckName(what, name)
}

// Path is where a record that has a name lies.
func Path(folder, what, name string) (string, error) {
	name, err := Name(what, name)
	return folder + "/" + name, err
}
