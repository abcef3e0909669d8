package kv

import (
	"bytes"
	"fmt"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// Get reads a version of a secret, the newest when version is 0. A version
// that is deleted, expired or destroyed gives a Secret without Data and no
// error. Errors: ErrNotFound, ErrInvalid.
func (e Engine) Get(tx *storage.Tx, path string, version uint64, now time.Time) (Secret, error) {
	r, _, err := e.load(tx, path)
	if err != nil {
		return Secret{}, err
	}
	if version == 0 {
		version = r.current
	}
	v := r.version(version)
	if v == nil {
		return Secret{}, ErrNotFound
	}
	s := Secret{Meta: r.meta(version)}
	switch {
	case v.gone(now):
	case version == r.current:
		s.Data = r.data
	default:
		b, err := tx.Get(e.versionKey(path, version))
		if err == nil {
			s.Data, err = decodeOlder(b)
		}
		if err != nil {
			return Secret{}, fmt.Errorf("reading version %d of secret %q: %w", version, path, err)
		}
	}
	return s, nil
}

// Put writes a new version and returns what is known of it. A cas that is not
// nil must be the number of the newest version, deleted or not, and 0 when
// there is none. Versions beyond max_versions are removed for good. Errors:
// ErrCASMismatch, ErrCASRequired, ErrInvalid, ErrTrim, storage.ErrTooLarge.
func (e Engine) Put(tx *storage.Tx, path string, data Data, cas *int, now time.Time) (Meta, error) {
	if data.raw == nil {
		return Meta{}, invalid("no data provided")
	}
	c, err := e.Config(tx)
	if err != nil {
		return Meta{}, err
	}
	r, found, err := e.load(tx, path) // last, since a transaction writes quickest what it has looked up last
	if err != nil {
		return Meta{}, err
	}
	if err := r.checkCAS(c, cas); err != nil {
		return Meta{}, err
	}
	if !found {
		r.created = now.UnixNano()
	}
	return e.add(tx, path, &r, c, data.raw, now)
}

// A Merge is a JSON merge patch (RFC 7396) for [Engine.Patch]. It is used for one
// secret, by one goroutine.
type Merge struct {
	patch      map[string]any
	size       int    // bytes of the patch
	base, data []byte // what Prepare found and made of it
}

// NewMerge reads a patch. Errors: ErrInvalid.
func NewMerge(patch Data) (*Merge, error) {
	object, err := patch.object()
	if err != nil || object == nil {
		return nil, invalid("no data provided: a patch must be a JSON object")
	}
	return &Merge{patch: object, size: len(patch.raw)}, nil
}

// MergeInside is how many bytes a secret and a patch may have together to be
// merged while other writers wait, which takes some milliseconds.
const MergeInside = 32 << 10

// Prepare merges the patch into the newest version, in a read transaction, for
// Patch to write. What keeps the patch from being written is for Patch to say.
func (e Engine) Prepare(tx *storage.Tx, path string, m *Merge) error {
	r, _, err := e.load(tx, path)
	if err != nil {
		return err
	}
	m.base, m.data = bytes.Clone(r.data), nil
	if len(r.data) == 0 {
		return nil
	}
	m.data, err = m.apply(path, r.data)
	return err
}

func (m *Merge) apply(path string, data []byte) ([]byte, error) {
	target, err := Data{data}.object()
	if err != nil {
		return nil, fmt.Errorf("reading secret %q: %w", path, corrupt("data is not a JSON object"))
	}
	if data, err = marshal(merge(target, m.patch)); err != nil {
		return nil, fmt.Errorf("patching secret %q: %w", path, err)
	}
	return data, nil
}

// Patch writes a new version that is the newest with a patch applied. Numbers
// keep the digits they were sent with. cas is as in [Engine.Put]. A large secret
// is merged before, by Prepare: where that is missing, or the secret has changed
// since, the error is ErrUnprepared and both are to be called again. Errors: those
// of Put, ErrNotFound, ErrUnprepared, and ErrGone, which comes with the Meta of
// the newest version.
func (e Engine) Patch(tx *storage.Tx, path string, m *Merge, cas *int, now time.Time) (Meta, error) {
	c, err := e.Config(tx)
	if err != nil {
		return Meta{}, err
	}
	r, found, err := e.load(tx, path)
	if err != nil {
		return Meta{}, err
	}
	if !found {
		return Meta{}, ErrNotFound
	}
	if err := r.checkCAS(c, cas); err != nil {
		return Meta{}, err
	}
	v := r.version(r.current)
	switch {
	case v == nil:
		return Meta{}, ErrNotFound
	case v.gone(now):
		return r.meta(r.current), ErrGone
	}
	data := m.data
	if data == nil || !bytes.Equal(m.base, r.data) {
		if len(r.data)+m.size > MergeInside {
			return Meta{}, ErrUnprepared
		}
		if data, err = m.apply(path, r.data); err != nil {
			return Meta{}, err
		}
	}
	return e.add(tx, path, &r, c, data, now)
}

// Subkeys reads a version as Get does, with every value that is not an object
// replaced by null. So is every object that is empty or lies deeper than depth
// levels; 0 sets no limit.
func (e Engine) Subkeys(tx *storage.Tx, path string, version uint64, depth int, now time.Time) (Secret, error) {
	s, err := e.Get(tx, path, version, now)
	if err != nil || s.Data == nil {
		return s, err
	}
	object, err := Data{s.Data}.object()
	if err != nil {
		return Secret{}, fmt.Errorf("reading secret %q: %w", path, corrupt("data is not a JSON object"))
	}
	strip(object, depth)
	if s.Data, err = marshal(object); err != nil {
		return Secret{}, fmt.Errorf("reading subkeys of secret %q: %w", path, err)
	}
	return s, nil
}

// checkCAS tells whether a write may go on; c is the mount's settings.
func (r *record) checkCAS(c Config, cas *int) error {
	switch {
	case cas == nil && (c.CASRequired || r.CASRequired):
		return ErrCASRequired
	case cas != nil && (*cas < 0 || uint64(*cas) != r.current):
		return ErrCASMismatch
	}
	return nil
}

// add makes data the newest version of r, moves the former newest to a record
// of its own and removes the versions that are pushed out.
func (e Engine) add(tx *storage.Tx, path string, r *record, c Config, data []byte, now time.Time) (Meta, error) {
	oldNewest, oldData := r.current, r.data
	oldest := r.kept(c)
	if oldest > r.first()+maxRemovals {
		return Meta{}, ErrTrim
	}
	if _, err := e.shorten(tx, path, r, oldest); err != nil {
		return Meta{}, err
	}
	r.oldest = oldest
	r.current++
	r.updated = now.UnixNano()
	r.versions = append(r.versions, newVersion(now.UnixNano(), expiry(now, c, r.Config))...)
	r.data = data
	if oldNewest >= r.first() && len(oldData) > 0 {
		if err := tx.Put(e.versionKey(path, oldNewest), encodeOlder(oldData)); err != nil {
			return Meta{}, fmt.Errorf("moving version %d of secret %q: %w", oldNewest, path, err)
		}
	}
	if err := e.save(tx, path, r); err != nil {
		return Meta{}, err
	}
	return r.meta(r.current), nil
}

// maxRemovals is how many versions one transaction removes: some milliseconds'
// worth, for which other writers wait.
const maxRemovals = 1000

// Trim removes what a write pushes out, where that is too much for it. more says
// to call it again, in another transaction.
func (e Engine) Trim(tx *storage.Tx, path string) (more bool, err error) {
	c, err := e.Config(tx)
	if err != nil {
		return false, err
	}
	r, found, err := e.load(tx, path)
	if err != nil || !found {
		return false, err
	}
	if more, err = e.shorten(tx, path, &r, r.kept(c)); err != nil {
		return false, err
	}
	return more, e.save(tx, path, &r)
}

// kept is what oldest is to be when the next version has been written.
func (r *record) kept(mount Config) uint64 {
	next, keep := r.current+1, r.keep(mount)
	if next-r.oldest < keep {
		return r.oldest
	}
	return next - keep + 1
}

// shorten removes the versions before first, maxRemovals of them at most; more
// says that there are others. The newest one's data is in r, and goes with r.
func (e Engine) shorten(tx *storage.Tx, path string, r *record, first uint64) (more bool, err error) {
	old := r.first()
	if first <= old {
		return false, nil
	}
	if first-old > maxRemovals {
		first, more = old+maxRemovals, true
	}
	for n := old; n < first; n++ {
		if err := tx.Delete(e.versionKey(path, n)); err != nil {
			return false, fmt.Errorf("removing version %d of secret %q: %w", n, path, err)
		}
	}
	r.oldest, r.versions = first, r.versions[(first-old)*versionLen:]
	return more, nil
}

// keep is the number of versions to keep: the secret's setting, else the
// mount's, else the default.
func (r *record) keep(mount Config) uint64 {
	switch {
	case r.MaxVersions > 0:
		return uint64(r.MaxVersions)
	case mount.MaxVersions > 0:
		return uint64(mount.MaxVersions)
	}
	return DefaultMaxVersions
}

// expiry is the deletion time of a version written now: the shorter of the
// mount's and the secret's delete_version_after, 0 when neither is set or the
// mount switched it off.
func expiry(now time.Time, mount, secret Config) int64 {
	m, s := mount.DeleteVersionAfter, secret.DeleteVersionAfter
	switch {
	case m < 0 || m == 0 && s == 0:
		return 0
	case m == 0:
		m = s
	case s == 0:
		s = m
	}
	return now.Add(min(m, s)).UnixNano()
}
