package kv

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// The sizes and flags of the format drawn in the package comment.
const (
	format     = 1
	headerLen  = 50
	versionLen = 17
	configLen  = 14

	flagCASRequired         = 1
	flagMetadataCASRequired = 2
	flagMetadataVersion     = 4 // of a secret alone
	flagDestroyed           = 1
)

// record is a secret record. Its slices point into the bytes it was decoded
// from, so decoding costs the header alone.
type record struct {
	Config
	created, updated int64
	current, oldest  uint64
	metadataVersion  uint64
	custom           []byte // JSON object, empty for none
	versions         []byte // versionLen bytes for each of first() to current
	data             []byte // of the newest version; empty when it is destroyed or there is none
}

func corrupt(what string) error {
	return fmt.Errorf("%w: %s", storage.ErrCorrupt, what)
}

func decodeRecord(b []byte) (record, error) {
	if len(b) < headerLen {
		return record{}, corrupt("secret record is too short")
	}
	c, err := decodeFlags(b[:configLen], flagMetadataVersion)
	if err != nil {
		return record{}, err
	}
	counted := b[1]&flagMetadataVersion != 0
	r := record{
		Config:  c,
		created: getInt64(b[14:]),
		updated: getInt64(b[22:]),
		current: binary.BigEndian.Uint64(b[30:]),
		oldest:  binary.BigEndian.Uint64(b[38:]),
	}
	customLen := uint64(binary.BigEndian.Uint32(b[46:]))
	b = b[headerLen:]
	if counted {
		if len(b) < 8 || binary.BigEndian.Uint64(b) == 0 {
			return record{}, corrupt("metadata version of a secret record is cut off or 0")
		}
		r.metadataVersion, b = binary.BigEndian.Uint64(b), b[8:]
	}
	if customLen > uint64(len(b)) {
		return record{}, corrupt("custom metadata of a secret record is cut off")
	}
	r.custom, b = b[:customLen:customLen], b[customLen:]
	if r.oldest > r.current || r.current > math.MaxInt64 {
		return record{}, corrupt("version numbers of a secret record are impossible")
	}
	count := r.current - r.first() + 1 // current 0 gives 0
	if count > uint64(len(b)/versionLen) {
		return record{}, corrupt("version list of a secret record is cut off")
	}
	n := int(count) * versionLen
	r.versions, r.data = b[:n:n], b[n:]
	live := count > 0
	for i := versionLen - 1; i < n; i += versionLen {
		if r.versions[i]&^flagDestroyed != 0 {
			return record{}, corrupt("version list of a secret record has unknown flags")
		}
		live = r.versions[i] == 0
	}
	if live != (len(r.data) > 0) {
		return record{}, corrupt("data and version list of a secret record disagree")
	}
	return r, nil
}

func (r *record) encode() []byte {
	b := make([]byte, 0, headerLen+8+len(r.custom)+len(r.versions)+len(r.data))
	b = appendConfig(b, r.Config)
	b = binary.BigEndian.AppendUint64(b, uint64(r.created))
	b = binary.BigEndian.AppendUint64(b, uint64(r.updated))
	b = binary.BigEndian.AppendUint64(b, r.current)
	b = binary.BigEndian.AppendUint64(b, r.oldest)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.custom)))
	if r.metadataVersion > 0 {
		b[1] |= flagMetadataVersion
		b = binary.BigEndian.AppendUint64(b, r.metadataVersion)
	}
	b = append(b, r.custom...)
	b = append(b, r.versions...)
	return append(b, r.data...)
}

// first is the number of the first version in the list.
func (r *record) first() uint64 { return max(r.oldest, 1) }

// version returns the entry of version n, nil when there is none.
func (r *record) version(n uint64) version {
	if n < r.first() || n > r.current {
		return nil
	}
	i := (n - r.first()) * versionLen
	return r.versions[i : i+versionLen]
}

// meta describes version n, which must be in the list.
func (r *record) meta(n uint64) Meta {
	v := r.version(n)
	m := Meta{Version: n, Created: toTime(v.created()), Deletion: toTime(v.deletion()), Destroyed: v.destroyed()}
	if len(r.custom) > 0 {
		m.Custom = r.custom
	}
	return m
}

// version is one entry of a record's list; setting a field changes the record.
type version []byte

func newVersion(created, deletion int64) version {
	v := binary.BigEndian.AppendUint64(make(version, 0, versionLen), uint64(created))
	return append(binary.BigEndian.AppendUint64(v, uint64(deletion)), 0)
}

func (v version) created() int64      { return getInt64(v) }
func (v version) deletion() int64     { return getInt64(v[8:]) }
func (v version) destroyed() bool     { return v[16] != 0 }
func (v version) setDeletion(t int64) { binary.BigEndian.PutUint64(v[8:], uint64(t)) }
func (v version) destroy()            { v[16] = flagDestroyed }

// gone says that the version cannot be read at the given time.
func (v version) gone(now time.Time) bool {
	return v.destroyed() || v.deletion() != 0 && v.deletion() <= now.UnixNano()
}

func decodeConfig(b []byte) (Config, error) { return decodeFlags(b, 0) }

// decodeFlags is decodeConfig where a further flag may be set.
func decodeFlags(b []byte, further byte) (Config, error) {
	switch {
	case len(b) != configLen:
		return Config{}, corrupt("settings have a wrong length")
	case b[0] != format:
		return Config{}, corrupt(fmt.Sprintf("unknown record format %d", b[0]))
	case b[1]&^(flagCASRequired|flagMetadataCASRequired|further) != 0:
		return Config{}, corrupt("settings have unknown flags")
	}
	return Config{
		MaxVersions:         binary.BigEndian.Uint32(b[2:]),
		CASRequired:         b[1]&flagCASRequired != 0,
		MetadataCASRequired: b[1]&flagMetadataCASRequired != 0,
		DeleteVersionAfter:  time.Duration(getInt64(b[6:])),
	}, nil
}

func appendConfig(b []byte, c Config) []byte {
	var flags byte
	if c.CASRequired {
		flags |= flagCASRequired
	}
	if c.MetadataCASRequired {
		flags |= flagMetadataCASRequired
	}
	b = append(b, format, flags)
	b = binary.BigEndian.AppendUint32(b, c.MaxVersions)
	return binary.BigEndian.AppendUint64(b, uint64(c.DeleteVersionAfter))
}

// decodeOlder returns the data of an older version's record.
func decodeOlder(b []byte) ([]byte, error) {
	switch {
	case len(b) < 2:
		return nil, corrupt("version record is missing or too short")
	case b[0] != format:
		return nil, corrupt(fmt.Sprintf("unknown record format %d", b[0]))
	}
	return b[1:], nil
}

func encodeOlder(data []byte) []byte {
	return append(append(make([]byte, 0, 1+len(data)), format), data...)
}

func getInt64(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }

func toTime(t int64) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(0, t).UTC()
}
