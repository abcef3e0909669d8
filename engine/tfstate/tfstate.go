// Package tfstate is the engine that keeps the state of Terraform and OpenTofu: it
// speaks the protocol of their backend "http", and what terraform-backend, GitLab and
// Gitea have of it (routes.go).
//
// A state is written whole or not at all, every version of it is kept, by number and
// age, and locks outlive a restart. A lock belongs to who took it: the one who may write
// is who says the lock's ID and is its holder, see identity. A lock carries the session
// of a login by Basic authentication whose proof ends during a long apply: see
// [api.Route].Session, and SECURITY.md for what that means.
//
// # Cost
//
// A state is compressed in pieces of 1 MiB, each for itself, as it arrives, and its
// hashes are computed beside that, so that an upload takes some megabytes of memory,
// however large it is. One whose compressed pieces have up to 1 MiB together costs one
// commit, a larger one another for each MiB. Nothing refers to what arrives before all
// of it is there and its length and Content-MD5 are right.
//
// # In the store
//
// Below the folder of the mount, JSON but for the last:
//
//	<folder>/config                the settings of the mount
//	<folder>/state/<path>          the head: the newest version, the state's settings
//	<folder>/lock/<path>           the lock, with what its holder said of it, verbatim
//	<folder>/version/<id>/<number> what is known of a version; <id> is in the head
//	<folder>/data/<id>/<number>    its content, a blob whose chunks are zstd frames
//	<folder>/purge/<id>            versions that are to be deleted, since their state was
package tfstate
