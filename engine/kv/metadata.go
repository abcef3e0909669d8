package kv

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/sealkeep/sealkeep/storage"
)

// The limits of custom_metadata, Vault's.
const (
	maxCustomKeys  = 64
	maxCustomKey   = 128 // bytes
	maxCustomValue = 512 // bytes

	// maxCustom is what custom_metadata may have in all as JSON: it is read while
	// other writers wait. No valid one is longer, unless it escapes what need not be.
	maxCustom = 128 << 10 // bytes
)

// Metadata reads what is known of a secret. Errors: ErrNotFound, ErrInvalid.
func (e Engine) Metadata(tx *storage.Tx, path string) (Metadata, error) {
	r, found, err := e.load(tx, path)
	if err != nil {
		return Metadata{}, err
	}
	if !found {
		return Metadata{}, ErrNotFound
	}
	m := Metadata{
		Config:  r.Config,
		Current: r.current, Oldest: r.oldest, MetadataVersion: r.metadataVersion,
		Created: toTime(r.created), Updated: toTime(r.updated),
		Versions: make([]Meta, 0, len(r.versions)/versionLen),
	}
	if len(r.custom) > 0 {
		m.Custom = r.custom
	}
	for n := r.first(); n <= r.current; n++ {
		v := r.meta(n)
		v.Custom = nil
		m.Versions = append(m.Versions, v)
	}
	return m, nil
}

// PutMetadata changes the settings of a secret and replaces its custom
// metadata (the zero Data leaves it, null or an empty object removes it). The
// secret is made, without a version, when it is not there. A cas that is not nil
// must be the version of the metadata, which is 0 until it is written. A change
// of nothing does nothing. Errors: ErrMetadataCASMismatch,
// ErrMetadataCASRequired, ErrInvalid, storage.ErrTooLarge.
func (e Engine) PutMetadata(tx *storage.Tx, path string, s Settings, custom Data, cas *int, now time.Time) error {
	return e.changeMetadata(tx, path, s, custom, cas, false, now)
}

// PatchMetadata is PutMetadata for a secret that is there, with custom being a
// JSON merge patch (RFC 7396) of its custom metadata. A change of nothing does
// nothing, also where there is no secret. Errors: those of PutMetadata,
// ErrNotFound.
func (e Engine) PatchMetadata(tx *storage.Tx, path string, s Settings, custom Data, cas *int, now time.Time) error {
	return e.changeMetadata(tx, path, s, custom, cas, true, now)
}

func (e Engine) changeMetadata(tx *storage.Tx, path string, s Settings, custom Data, cas *int, patch bool, now time.Time) error {
	c, err := e.Config(tx)
	if err != nil {
		return err
	}
	r, found, err := e.load(tx, path)
	switch {
	case err != nil:
		return err
	case s == Settings{} && custom.raw == nil:
		return nil
	case !found && patch:
		return ErrNotFound
	case cas == nil && (c.MetadataCASRequired || r.MetadataCASRequired):
		return ErrMetadataCASRequired
	case cas != nil && !found && *cas != 0:
		return invalid("metadata_cas must be 0 when creating new metadata")
	case cas != nil && (*cas < 0 || uint64(*cas) != r.metadataVersion):
		return ErrMetadataCASMismatch
	case len(custom.raw) > maxCustom:
		return invalid(fmt.Sprintf("custom_metadata validation failed: it has %d bytes as JSON, at most %d are accepted", len(custom.raw), maxCustom))
	case s.DeleteVersionAfter != nil && *s.DeleteVersionAfter < 0:
		return invalid("delete_version_after of a secret must not be negative")
	}
	if err := s.apply(&r.Config); err != nil {
		return err
	}
	if custom.raw != nil {
		object, err := custom.object()
		if err != nil {
			return err
		}
		if patch && object != nil {
			old, err := Data{r.custom}.object()
			if err != nil {
				return fmt.Errorf("reading secret %q: %w", path, corrupt("custom metadata is not a JSON object"))
			}
			object = merge(old, object)
		}
		if r.custom, err = encodeCustom(object); err != nil {
			return err
		}
	}
	if !found {
		r.created = now.UnixNano()
	}
	r.updated = now.UnixNano()
	r.metadataVersion++
	return e.save(tx, path, &r)
}

// DeleteMetadata removes a secret with all its versions for good. One that is
// not there is no error. Of a secret with very many versions a call removes only
// some, the oldest: more then says to call again, in another transaction.
func (e Engine) DeleteMetadata(tx *storage.Tx, path string) (more bool, err error) {
	r, found, err := e.load(tx, path)
	if err != nil || !found {
		return false, err
	}
	if more, err = e.shorten(tx, path, &r, r.current); err != nil {
		return false, err
	}
	if more {
		return true, e.save(tx, path, &r)
	}
	if err := tx.Delete(e.secretKey(path)); err != nil {
		return false, fmt.Errorf("deleting secret %q: %w", path, err)
	}
	return false, e.dropV1(tx, path)
}

// Exists reports whether there is a secret, with versions or without. Errors:
// ErrInvalid.
func (e Engine) Exists(tx *storage.Tx, path string) (bool, error) {
	_, found, err := e.load(tx, path)
	return found, err
}

// List returns the names in a folder, sorted; folders end in a slash. The
// folder is given with or without a slash at its end, "" for the whole mount.
// Errors: ErrNotFound when it is empty or not there, ErrInvalid.
func (e Engine) List(tx *storage.Tx, folder string) ([]string, error) {
	names, err := e.list(tx, folder)
	if err == nil && len(names) == 0 {
		err = ErrNotFound
	}
	return names, err
}

// list is List that finds nothing in a folder that is not there.
func (e Engine) list(tx *storage.Tx, folder string) ([]string, error) {
	names, err := e.names(tx, secretFolder, folder)
	if err != nil || !e.Upgrading {
		return names, err
	}
	old, err := e.names(tx, v1Folder, folder)
	names = append(names, old...)
	slices.Sort(names)
	return slices.Compact(names), err
}

// names lists a folder of one kind of records.
func (e Engine) names(tx *storage.Tx, kind, folder string) ([]string, error) {
	key := e.Prefix + kind
	if folder = strings.TrimSuffix(folder, "/"); folder != "" {
		if err := e.check(folder); err != nil {
			return nil, err
		}
		key += "/" + folder
	}
	names, err := tx.List(key)
	if err != nil {
		return nil, fmt.Errorf("listing %q: %w", folder, err)
	}
	return names, nil
}

// Scan returns the secrets in a folder and in all folders in it, by their paths
// in that folder, sorted; the first most of them where there are more. The
// folder is given as for List. It costs a list of each folder that it enters.
// Errors: ErrInvalid.
func (e Engine) Scan(tx *storage.Tx, folder string, most int) (paths []string, err error) {
	return scanAll(folder, most, func(folder string) ([]string, error) { return e.list(tx, folder) })
}

func scanAll(folder string, most int, list func(folder string) ([]string, error)) (paths []string, err error) {
	if folder = strings.TrimSuffix(folder, "/"); folder != "" {
		folder += "/"
	}
	var walk func(below string) error
	walk = func(below string) error {
		names, err := list(folder + below)
		if err != nil {
			return err
		}
		for _, name := range names {
			if len(paths) == most {
				break
			}
			if !strings.HasSuffix(name, "/") {
				paths = append(paths, below+name)
			} else if err := walk(below + name); err != nil {
				return err
			}
		}
		return nil
	}
	err = walk("")
	return paths, err
}

// Config reads the settings of the mount, zero where nothing was set.
func (e Engine) Config(tx *storage.Tx) (Config, error) {
	b, err := tx.Get(e.Prefix + "/config")
	if err != nil {
		return Config{}, fmt.Errorf("reading mount settings: %w", err)
	}
	if b == nil {
		return Config{}, nil
	}
	c, err := decodeConfig(b)
	if err != nil {
		return Config{}, fmt.Errorf("reading mount settings: %w", err)
	}
	return c, nil
}

// PutConfig changes the settings of the mount; versions that are there already
// are touched by the next write to their secret. A negative DeleteVersionAfter
// switches expiry off for every secret. Errors: ErrInvalid.
func (e Engine) PutConfig(tx *storage.Tx, s Settings) error {
	c, err := e.Config(tx)
	if err != nil {
		return err
	}
	if s == (Settings{}) {
		return nil
	}
	if err := s.apply(&c); err != nil {
		return err
	}
	if err := tx.Put(e.Prefix+"/config", appendConfig(nil, c)); err != nil {
		return fmt.Errorf("writing mount settings: %w", err)
	}
	return nil
}

func (s Settings) apply(c *Config) error {
	if n := s.MaxVersions; n != nil {
		if *n < 0 || int64(*n) > math.MaxUint32 {
			return invalid(fmt.Sprintf("max_versions is %d: it must be 0 (unset) to %d", *n, uint32(math.MaxUint32)))
		}
		c.MaxVersions = uint32(*n)
	}
	if s.CASRequired != nil {
		c.CASRequired = *s.CASRequired
	}
	if s.MetadataCASRequired != nil {
		c.MetadataCASRequired = *s.MetadataCASRequired
	}
	if d := s.DeleteVersionAfter; d != nil {
		if *d > MaxDeleteVersionAfter {
			return invalid(fmt.Sprintf("delete_version_after is %v: it must be at most %v", *d, MaxDeleteVersionAfter))
		}
		c.DeleteVersionAfter = max(*d, -time.Second) // Vault shows "off" as -1s
	}
	return nil
}

// encodeCustom checks custom metadata and encodes it, nil when there is none.
// Like Vault it takes numbers by their digits and booleans as "1" and "0".
func encodeCustom(object map[string]any) ([]byte, error) {
	const failed = "custom_metadata validation failed: "
	if n := len(object); n == 0 {
		return nil, nil
	} else if n > maxCustomKeys {
		return nil, invalid(fmt.Sprintf(failed+"payload must contain at most %d keys, provided %d", maxCustomKeys, n))
	}
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	for _, k := range slices.Sorted(maps.Keys(object)) {
		var value string
		switch v := object[k].(type) {
		case nil:
		case string:
			value = v
		case json.Number:
			value = v.String()
		case bool:
			value = "0"
			if v {
				value = "1"
			}
		default:
			return nil, invalid(fmt.Sprintf(failed+"value for key %q must be a string", k))
		}
		object[k] = value
		switch {
		case len(k) == 0 || len(k) > maxCustomKey:
			return nil, invalid(fmt.Sprintf(failed+"length of key %q is %d but must be 0 < len(key) <= %d", k, len(k), maxCustomKey))
		case len(value) == 0 || len(value) > maxCustomValue:
			return nil, invalid(fmt.Sprintf(failed+"length of value for key %q is %d but must be 0 < len(value) <= %d", k, len(value), maxCustomValue))
		case strings.ContainsFunc(k, unprintable):
			return nil, invalid(fmt.Sprintf(failed+"key %q contains unprintable characters", k))
		case strings.ContainsFunc(value, unprintable):
			return nil, invalid(fmt.Sprintf(failed+"value for key %q contains unprintable characters", k))
		}
	}
	return marshal(object)
}
