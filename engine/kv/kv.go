// Package kv is the versioned secrets engine: Vault's KV version 2 as pure
// logic over [storage.Tx], without HTTP and without a clock of its own.
//
// Every operation takes the transaction and, where it matters, the present
// time. One operation is meant to be one function inside Store.View or
// Store.Update, which makes it all-or-nothing: an error leaves nothing behind.
// An operation does no I/O but the transaction's. JSON that comes from outside
// goes through [Parse] first, before the transaction begins, so that a large
// secret is checked in the caller's goroutine and not in the committer's. For the
// same reason a large one is patched in two steps (see [Engine.Patch]), and very
// many versions are removed in several transactions: what removes them for good
// may then be half done for a moment, or after a crash.
//
// # Cost
//
// A secret is one record that holds its metadata and the data of its newest
// version; older versions have a record each. So:
//
//   - reading the newest version is one Get, and the engine allocates nothing but its path;
//   - an older version is two;
//   - writing a new secret is two Gets (settings, secret) and one Put;
//   - a further version adds one Put, which moves the former newest aside, and
//     one Delete for each version that max_versions pushes out;
//   - delete, undelete and settings rewrite the one record; destroying an older
//     version and deleting all metadata add one Delete per version.
//
// A record grows by 17 bytes per version kept and by 8 when its metadata is first
// written; like every value of the store it ends at [storage.MaxValue]. Deleting,
// undeleting and destroying never make a record longer, so they work on a secret
// of any size.
//
// # Format
//
// Under a mount's prefix:
//
//	<prefix>/config           settings of the mount
//	<prefix>/s/<path>         the secret: metadata, versions, newest data
//	<prefix>/v/<path>/<n>     the data of version n (decimal), n < newest
//	<prefix>/1/<path>         a secret of KV version 1
//
// All integers are big endian; times are nanoseconds since 1970 UTC, 0 for
// none; durations are nanoseconds.
//
//	secret   format(1)=1 | flags(1) | max_versions(4) | delete_version_after(8)
//	         | created(8) | updated(8) | current(8) | oldest(8)
//	         | customLen(4) | metadata version(8 or 0) | custom(customLen)
//	         | version(17) ... | data
//	version  created(8) | deletion(8) | flags(1)
//	older    format(1)=1 | data
//	config   format(1)=1 | flags(1) | max_versions(4) | delete_version_after(8)
//	v1       format(1)=1 | written(8) | lease(8) | data
//
// In secret and config, bit 0 of flags is cas_required and bit 1
// metadata_cas_required; in secret, bit 2 says that there is a metadata version,
// which is not 0; in version, bit 0 is destroyed; the other bits are 0. custom is
// a JSON object of strings, or empty when there is none. There is one version
// entry for each number from oldest (1 while oldest is 0) to current, none when
// current is 0. data is the JSON object or null as it was received, compacted; it
// takes the rest of the record and is absent when the newest version is destroyed
// or there is none; in v1 it is a JSON object. lease is what the data of a v1 asks
// for as "ttl" or "lease", 0 for nothing. A record that does not fit these
// sentences is [storage.ErrCorrupt].
//
// # Upgrade
//
// A mount of KV version 1 (package kvv1, [V1] here) becomes one of version 2 at
// once and in place: nothing but the mount's version is written. From then on an
// Engine that is Upgrading finds the records of version 1 as well. A secret has a
// record of one version or the other, never of both: each write of a secret, and
// [Engine.Upgrade], which goes through them all, replaces the one by the other in
// one transaction. So a crash at any moment loses nothing, and the upgrade goes on
// where it was. While it lasts a secret that is not found costs a second Get, and
// a list a second List; a mount that was never upgraded pays nothing.
package kv

import (
	"encoding/json"
	"errors"
	"time"
)

// Errors of this package, each with the HTTP status that it stands for. Two of
// package storage pass through: [storage.ErrTooLarge] (413) when a secret with
// its metadata does not fit a record, [storage.ErrCorrupt] (500).
var (
	// ErrNotFound: no secret at the path, no such version of it, or an empty
	// folder. 404 without data.
	ErrNotFound = errors.New("no secret found at this path")

	// ErrGone: the newest version, which was to be patched, is deleted or
	// destroyed. 404 with the returned Meta as data.
	ErrGone = errors.New("the newest version of this secret is deleted or destroyed")

	// ErrUnprepared: the secret is too large to be merged while other writers
	// wait. Never answered: see [Engine.Patch].
	ErrUnprepared = errors.New("the secret is large: prepare the merge before")

	// ErrTrim: the write pushes out too many versions. Never answered: call
	// [Engine.Trim] until there are no more, and then again.
	ErrTrim = errors.New("too many versions to remove at once")

	// ErrInvalid: the request is wrong (path, data, settings); the text says
	// what to change and is meant for the user. 400.
	ErrInvalid = errors.New("invalid request")

	// ErrCASMismatch: another version is the newest. 400.
	ErrCASMismatch = errors.New("check-and-set parameter did not match the current version")

	// ErrCASRequired: the mount or the secret has cas_required. 400.
	ErrCASRequired = errors.New("check-and-set parameter required for this call")

	// ErrMetadataCASMismatch: the metadata has another version. 400.
	ErrMetadataCASMismatch = errors.New("metadata check-and-set parameter does not match the current version")

	// ErrMetadataCASRequired: the mount or the secret has
	// metadata_cas_required. 400.
	ErrMetadataCASRequired = errors.New("metadata check-and-set parameter required for this call")
)

// invalid is an ErrInvalid whose whole text is its own, so that users read
// Vault's sentences without a prefix.
type invalid string

func (e invalid) Error() string        { return string(e) }
func (e invalid) Is(target error) bool { return target == ErrInvalid }

// DefaultMaxVersions is the number of versions kept when neither the secret
// nor the mount says otherwise.
const DefaultMaxVersions = 10

// MaxDeleteVersionAfter is the longest delete_version_after: 100 years.
const MaxDeleteVersionAfter = 100 * 365 * 24 * time.Hour

// Engine is one mount. It is a plain value without state.
type Engine struct {
	// Prefix is the mount's folder in the store: a storage path without a
	// slash at either end, not empty.
	Prefix string

	// Upgrading says that there may be records of version 1: each is read as
	// version 1 of its secret, and replaced when the secret is written.
	Upgrading bool
}

// Meta is what is known of one version of a secret.
type Meta struct {
	Version   uint64          // from 1
	Created   time.Time       // UTC
	Deletion  time.Time       // UTC; zero for never; may lie in the future
	Destroyed bool            // the data is gone for good
	Custom    json.RawMessage // the secret's custom_metadata, nil when there is none
}

// Secret is a version as read.
type Secret struct {
	// Data is a JSON object or null. It is nil when the version is deleted,
	// expired or destroyed; the answer is then 404 with Meta in it.
	Data json.RawMessage
	Meta Meta
}

// Metadata is what is known of a secret as a whole.
type Metadata struct {
	Config                           // the secret's own settings, zero where the mount's count
	Current, Oldest  uint64          // Oldest is 0 until there are as many as are kept, as in Vault
	MetadataVersion  uint64          // counts the writes of settings and custom metadata
	Created, Updated time.Time       // UTC; of the first and the last write of data or metadata
	Custom           json.RawMessage // JSON object of strings, nil when there is none
	Versions         []Meta          // ascending, without Custom
}

// Config is the settings of a mount or of a secret.
type Config struct {
	MaxVersions         uint32        // versions to keep; 0 for unset
	CASRequired         bool          // writes of data must carry cas
	MetadataCASRequired bool          // writes of metadata must carry metadata_cas
	DeleteVersionAfter  time.Duration // age at which versions expire; 0 for unset, negative for "never" (mount only)
}

// Settings is a change to a Config: nil leaves a setting as it is, a zero value
// unsets it.
type Settings struct {
	MaxVersions         *int // 0 to 4,294,967,295
	CASRequired         *bool
	MetadataCASRequired *bool
	DeleteVersionAfter  *time.Duration // at most MaxDeleteVersionAfter; negative only for a mount
}
