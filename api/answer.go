package api

import (
	"io"
	"time"

	"github.com/sealkeep/sealkeep/access"
)

// An Answer is what goes to the client: Vault's envelope around Data, or Raw alone,
// or a wrapping token in its place, or, with none of them, 204.
type Answer struct {
	Status   int // 0: 200, or 204 when there is nothing to send; set only where it is part of the API
	Data     any // JSON; a json.RawMessage is sent as it is, an [Appender] writes itself
	Auth     *Auth
	Wrap     *Wrap
	Lease    time.Duration // how long the client may use Data before it asks again; advice, no lease is kept
	Inject   bool          // Vault repeats the fields of Data beside the envelope
	Raw      *Raw
	Warnings []string
}

// An Appender is data that writes its own JSON: the answers of the hot path. A
// method Size() int, if there is one, says about how many bytes that will be.
type Appender interface{ AppendJSON(b []byte) []byte }

// Raw is an answer without an envelope: one of JSON, Bytes and Stream.
type Raw struct {
	Type   string // Content-Type; "": application/json
	JSON   any
	Bytes  []byte            // sent as they are
	Header map[string]string // further ones
	// Stream is sent to its end, however long that takes, and closed. Length is how
	// long it is; 0: not known. Live says that what a Read returns goes out at once.
	Stream io.ReadCloser
	Length int64
	Live   bool
	// Record is what the audit log has of the answer in place of its bytes.
	Record any
}

// Auth is a token as an answer hands it out.
type Auth struct {
	ClientToken    string            `json:"client_token"`
	Accessor       string            `json:"accessor"`
	Policies       []string          `json:"policies"`
	TokenPolicies  []string          `json:"token_policies"`
	Metadata       map[string]string `json:"metadata"`
	LeaseDuration  int64             `json:"lease_duration"` // seconds
	Renewable      bool              `json:"renewable"`
	EntityID       string            `json:"entity_id"`
	TokenType      string            `json:"token_type"`
	Orphan         bool              `json:"orphan"`
	MFARequirement any               `json:"mfa_requirement"`
	NumUses        int               `json:"num_uses"`

	DisplayName string `json:"-"` // for the audit log
}

// NewAuth shows a token with its secret.
func NewAuth(t *access.Token, secret string, now time.Time) *Auth {
	return &Auth{
		ClientToken: secret, Accessor: t.Accessor, Policies: t.Policies, TokenPolicies: t.Policies, Metadata: t.Meta,
		LeaseDuration: Left(t, now), Renewable: t.Renewable, EntityID: t.EntityID, TokenType: t.Type, Orphan: t.Orphan, NumUses: t.NumUses,
		DisplayName: t.DisplayName,
	}
}

// Left is how many seconds a token has still to live, 0 when it has no end.
func Left(t *access.Token, now time.Time) int64 {
	if t.Expires.IsZero() {
		return 0
	}
	return int64(t.Expires.Sub(now).Round(time.Second) / time.Second)
}

// Wrap is a wrapping token as an answer hands it out.
type Wrap struct {
	Token           string `json:"token"`
	Accessor        string `json:"accessor"`
	TTL             int64  `json:"ttl"` // seconds
	CreationTime    string `json:"creation_time"`
	CreationPath    string `json:"creation_path"`
	WrappedAccessor string `json:"wrapped_accessor,omitempty"` // of the token or the secret ID in the answer
}

// NewWrap shows a wrapping token with its secret.
func NewWrap(t *access.Token, secret string) *Wrap {
	return &Wrap{
		Token: secret, Accessor: t.Accessor, TTL: int64(t.TTL / time.Second), CreationTime: t.Created.Format(time.RFC3339Nano), CreationPath: t.Path,
	}
}

// Names are the data of an answer that lists names.
type Names struct {
	Keys []string `json:"keys"`
}

// Keys is the answer with a list of names; that there are none is [ErrAbsent], as
// with Vault.
func Keys(names []string, err error) (Answer, error) {
	if err == nil && len(names) == 0 {
		err = ErrAbsent
	}
	if err != nil {
		return Answer{}, err
	}
	return Answer{Data: Names{names}}, nil
}
