// Package access decides who may do what: tokens now, policies and login
// methods later. It holds every such decision, so that the server only asks.
//
// A token is never stored. Its record sits under the HMAC-SHA256 of the token
// with a random key that the store itself keeps, so that neither a stolen
// record nor the order of its names says anything about the token, and a
// look-up compares no secret bytes: it is one keyed hash and one read.
//
// In the store:
//
//	access/token-key       32 random bytes, made with the first token
//	access/token/<hash>    JSON {"version":1, ...Token}; <hash> is 64 hex digits
//
// A look-up costs two reads and two HMACs of a short string; callers that
// serve many requests keep the result while the store stays unsealed.
package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

var (
	// ErrDenied means that the token is unknown or may not do this. It never
	// says which of the two.
	ErrDenied = errors.New("permission denied")
	// ErrToken means that a chosen token cannot be one: see [CreateRoot].
	ErrToken = errors.New("not usable as a token")
)

// MaxToken is the longest token, in bytes.
const MaxToken = 512

// RandomToken is the length of a token that was not chosen, in bytes.
const RandomToken = len("hvs.") + randomText

const randomText = 26 // of base32: 130 bits

const (
	recordVersion = 1
	keyPath       = "access/token-key"
	tokenFolder   = "access/token/"
	rootPolicy    = "root"
)

// A Token is what the keep knows about the bearer of a token.
type Token struct {
	Accessor    string        `json:"accessor"` // names the token without giving it away
	DisplayName string        `json:"display_name"`
	Path        string        `json:"path"` // the API path that made it
	Type        string        `json:"type"` // "service"
	Policies    []string      `json:"policies"`
	Created     time.Time     `json:"created"`
	TTL         time.Duration `json:"ttl"` // 0: never ends
	Orphan      bool          `json:"orphan"`
}

// A Capability is one thing that a policy can allow on a path, in Vault's words.
type Capability string

const (
	Create Capability = "create"
	Read   Capability = "read"
	Update Capability = "update"
	Patch  Capability = "patch"
	Delete Capability = "delete"
	List   Capability = "list"
	Sudo   Capability = "sudo"
)

// Authorize returns nil when the token may do c on the API path (below /v1/,
// without a leading slash), else [ErrDenied]. It is the only door: a nil token
// is always denied.
func Authorize(t *Token, path string, c Capability) error {
	if t != nil && slices.Contains(t.Policies, rootPolicy) {
		return nil
	}
	return ErrDenied
}

// Capabilities lists what the token may do on the path, as sys/capabilities
// shows it: ["root"], or ["deny"].
func Capabilities(t *Token, path string) []string {
	if Authorize(t, path, Sudo) == nil {
		return []string{rootPolicy}
	}
	return []string{"deny"}
}

// CreateRoot writes a root token, which may do everything and never ends, and
// returns it. An empty id makes a random one of 130 bits; a chosen id has 1 to
// [MaxToken] printable ASCII bytes without space, else the error is [ErrToken].
func CreateRoot(tx *storage.Tx, id string, now time.Time) (token string, err error) {
	if id == "" {
		id = "hvs." + rand.Text()[:randomText]
	}
	if !valid(id) {
		return "", fmt.Errorf("%w: it needs 1 to %d printable ASCII characters without space", ErrToken, MaxToken)
	}
	key, err := tx.Get(keyPath)
	if err != nil {
		return "", fmt.Errorf("reading the token key: %w", err)
	}
	if key == nil {
		key = make([]byte, sha256.Size)
		rand.Read(key)
		if err := tx.Put(keyPath, key); err != nil {
			return "", fmt.Errorf("writing the token key: %w", err)
		}
	}
	value, err := json.Marshal(record{recordVersion, Token{
		Accessor:    rand.Text(),
		DisplayName: "root",
		Path:        "auth/token/root",
		Type:        "service",
		Policies:    []string{rootPolicy},
		Created:     now.UTC(),
		Orphan:      true,
	}})
	if err != nil {
		return "", fmt.Errorf("encoding the root token: %w", err)
	}
	if err := tx.Put(path(key, id), value); err != nil {
		return "", fmt.Errorf("writing the root token: %w", err)
	}
	return id, nil
}

// Lookup returns what is known of a token, or [ErrDenied] when it is unknown.
func Lookup(tx *storage.Tx, token string) (*Token, error) {
	if !valid(token) {
		return nil, ErrDenied
	}
	key, err := tx.Get(keyPath)
	if err != nil {
		return nil, fmt.Errorf("reading the token key: %w", err)
	}
	if key == nil {
		return nil, ErrDenied
	}
	value, err := tx.Get(path(key, token))
	if err != nil {
		return nil, fmt.Errorf("reading a token: %w", err)
	}
	if value == nil {
		return nil, ErrDenied
	}
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("decoding a token: %w: %w", storage.ErrCorrupt, err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("decoding a token: %w: record version %d, this program reads %d", storage.ErrFormat, r.Version, recordVersion)
	}
	return &r.Token, nil
}

type record struct {
	Version int `json:"version"`
	Token
}

func path(key []byte, token string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(token))
	return tokenFolder + hex.EncodeToString(h.Sum(nil))
}

func valid(token string) bool {
	if token == "" || len(token) > MaxToken {
		return false
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return true
}
