package api

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/sealkeep/sealkeep/access"
)

// A Mount is a type at a path: an engine's below /v1/, a login method's below
// /v1/auth/. It is never changed, but replaced.
type Mount struct {
	Path        string            `json:"path"` // ends in a slash
	UUID        string            `json:"uuid"`
	Folder      string            `json:"folder,omitempty"` // in the store; mount/UUID if empty, as it was at first
	Accessor    string            `json:"accessor"`
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Options     map[string]string `json:"options"`
	From        string            `json:"from,omitempty"` // the version of which there may still be records, see [Type.From]; "": none
	Config      MountConfig       `json:"config"`
}

// MountConfig is kept and shown; of it the engines need nothing, the login methods
// the lease TTLs.
type MountConfig struct {
	DefaultLeaseTTL           Seconds  `json:"default_lease_ttl"`
	MaxLeaseTTL               Seconds  `json:"max_lease_ttl"`
	ForceNoCache              bool     `json:"force_no_cache"`
	ListingVisibility         string   `json:"listing_visibility,omitempty"`
	AuditNonHMACRequestKeys   []string `json:"audit_non_hmac_request_keys,omitempty"`
	AuditNonHMACResponseKeys  []string `json:"audit_non_hmac_response_keys,omitempty"`
	PassthroughRequestHeaders []string `json:"passthrough_request_headers,omitempty"`
	AllowedResponseHeaders    []string `json:"allowed_response_headers,omitempty"`
	TokenType                 string   `json:"token_type,omitempty"` // of a login method
}

// Prefix is the mount's folder in the store, a path without a slash at its end.
func (m *Mount) Prefix() string { return cmp.Or(m.Folder, "mount/"+m.UUID) }

// Longest is how long anything that a login method makes may live.
func (m *Mount) Longest() time.Duration {
	if most := time.Duration(m.Config.MaxLeaseTTL) * time.Second; most > 0 {
		return min(most, access.SystemMax)
	}
	return access.SystemMax
}

// Limit gives a login what the method says.
func (m *Mount) Limit(l *access.Login) {
	l.Method = m.UUID
	l.DefaultTTL = time.Duration(m.Config.DefaultLeaseTTL) * time.Second
	l.MaxTTL = time.Duration(m.Config.MaxLeaseTTL) * time.Second
}

// Seconds is a duration as Vault's API takes it (a number or a string of seconds,
// or "1h30m") and shows it (a number of seconds).
type Seconds int64

// Unchanged is an empty string where seconds are expected.
const Unchanged Seconds = -1

func (s *Seconds) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) != nil {
		text = string(b) // a bare number
	}
	if text == "" {
		*s = Unchanged
		return nil
	}
	d, err := access.ParseDuration(text)
	if err != nil {
		return Invalid.Errorf("it %s", noDuration) // without the value, see Handler.Decode
	}
	if d < 0 {
		return Invalid.Errorf("the duration is negative")
	}
	*s = Seconds(d / time.Second)
	return nil
}
