package access

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// WrappingPolicy is the policy of a wrapping token, which nobody can give to
// another: it lets the bearer have the answer, once.
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

// NewWrapped makes one of an HTTP status and a body in JSON, which Open then
// returns. The error is [storage.ErrTooLarge] for a body that has nearly
// [storage.MaxValue] bytes or more, and [ErrInvalid] for one that Open could not
// read, since it is nested as deep as JSON may be.
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

// Wrapping reports whether the token is there for a wrapped answer only.
func (t *Token) Wrapping() bool { return slices.Equal(t.Policies, []string{WrappingPolicy}) }

// Wrapped is the answer of a wrapping token that [Use] has just used up.
func (t *Token) Wrapped() Wrapped { return t.left }

// Wrap writes a token that is good for one request, and with it the answer that
// it is for. path is that of the request which had this answer, name that of its
// bearer. ttl is at least a second.
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
// [ErrDenied] when it does not work or is not one; it is then left as it is.
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
