package access

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// WrappingPolicy is the policy of wrapping tokens, which no other token can have: it
// lets the bearer read the answer, once.
const WrappingPolicy = "response-wrapping"

const wrappingText = `# What the bearer of a wrapped answer may do: have it.

path "sys/wrapping/unwrap" {
  capabilities = ["update"]
}
`

// A Wrapped is the record of an answer in the cubbyhole of its wrapping token.
type Wrapped []byte

type wrapped struct {
	Version  int             `json:"version"`
	Status   int             `json:"status,omitempty"`
	Response json.RawMessage `json:"response,omitempty"`
}

// NewWrapped makes a Wrapped of an HTTP status and a body in JSON, which Open then
// returns. The error is [storage.ErrTooLarge] for a body of nearly [storage.MaxValue]
// bytes or more, and [ErrInvalid] for one that is nested so deeply that Open could not
// read it.
func NewWrapped(status int, body []byte) (Wrapped, error) {
	value, err := json.Marshal(wrapped{Version: cubbyholeVersion, Status: status, Response: body})
	if err != nil {
		return nil, fmt.Errorf("encoding a wrapped answer: %w", err)
	}
	if len(value) > storage.MaxValue {
		return nil, fmt.Errorf("%w: the answer has %d bytes, which is too much to wrap", storage.ErrTooLarge, len(body))
	}
	if !json.Valid(value) {
		return nil, mistake("the answer is nested too deeply to be wrapped: ask for it without X-Vault-Wrap-TTL")
	}
	return value, nil
}

// Open returns what NewWrapped was given.
func (w Wrapped) Open() (status int, body []byte, err error) {
	r := wrapped{Version: cubbyholeVersion}
	if w != nil {
		err = json.Unmarshal(w, &r)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("decoding a wrapped answer: %w: %w", storage.ErrCorrupt, err)
	}
	if r.Version != cubbyholeVersion {
		return 0, nil, fmt.Errorf("decoding a wrapped answer: %w: record version %d, this program reads %d", storage.ErrFormat, r.Version, cubbyholeVersion)
	}
	return r.Status, r.Response, nil
}

// Wrapping reports whether the token is a wrapping token.
func (t *Token) Wrapping() bool { return slices.Equal(t.Policies, []string{WrappingPolicy}) }

// Wrapped returns the answer of a wrapping token that [Use] has just used up.
func (t *Token) Wrapped() Wrapped { return t.left }

// Wrap writes a token for a single use, with the answer that it unlocks. path is the
// path of the request that had this answer, name the display name of its bearer. ttl
// is at least a second.
func Wrap(tx *storage.Tx, path, name string, ttl time.Duration, w Wrapped, now time.Time) (t *Token, secret string, err error) {
	now = now.UTC()
	t = &Token{
		DisplayName: name, Path: path, Type: serviceType, Policies: []string{WrappingPolicy}, Created: now, Expires: now.Add(ttl),
		TTL: ttl, ExplicitMaxTTL: ttl, NumUses: 1, Orphan: true,
	}
	if secret, err = Create(tx, "", t); err != nil {
		return nil, "", err
	}
	if err := tx.Put(t.id.cubbyholePath(), w); err != nil {
		return nil, "", fmt.Errorf("writing a wrapped answer: %w", err)
	}
	return t, secret, nil
}

// Unwrap uses up a wrapping token and returns it with its answer. The error is
// [ErrDenied] if the token does not work or is not a wrapping token; it then stays as
// it is.
func Unwrap(tx *storage.Tx, id ID, now time.Time) (*Token, error) {
	t, err := Lookup(tx, id, now)
	if err == nil && !t.Wrapping() {
		err = ErrDenied
	}
	if err != nil {
		return nil, err
	}
	return Use(tx, id, now)
}
