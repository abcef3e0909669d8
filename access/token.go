package access

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// MaxToken is the longest token, in bytes.
const MaxToken = 512

// RandomToken is the length of a random token, in bytes.
const RandomToken = len("hvs.") + randomText

const randomText = 26 // of base32: 130 bits

// MaxDepth is how many ancestors a token may have. It bounds the cost of a look-up.
const MaxDepth = 100

const (
	recordVersion   = 2 // written; version 1, of root tokens only, can be read
	keyPath         = "access/token-key"
	tokenFolder     = "access/token"
	accessorFolder  = "access/accessor"
	serviceType     = "service"
	tokenMountPath  = "auth/token/"
	rootTokenPath   = tokenMountPath + "root"
	maxAccessorName = 64 // bytes
)

// A Token is what the keep knows about a token. A Token returned by [Lookup] is
// shared and must not be changed.
type Token struct {
	Accessor       string            `json:"accessor"` // names the token without revealing it
	DisplayName    string            `json:"display_name"`
	Path           string            `json:"path"` // the API path that made it
	Type           string            `json:"type"` // "service"
	Policies       []string          `json:"policies"`
	Created        time.Time         `json:"created"`
	TTL            time.Duration     `json:"ttl"` // as created; 0: never ends
	Orphan         bool              `json:"orphan"`
	Expires        time.Time         `json:"expires,omitzero"` // zero: never
	Renewed        time.Time         `json:"renewed,omitzero"` // last renewal
	Renewable      bool              `json:"renewable,omitempty"`
	MaxTTL         time.Duration     `json:"max_ttl,omitempty"`          // since Created; 0: the keep's
	ExplicitMaxTTL time.Duration     `json:"explicit_max_ttl,omitempty"` // since Created; 0: none
	Period         time.Duration     `json:"period,omitempty"`           // 0: not periodic
	NumUses        int               `json:"num_uses,omitempty"`         // uses left; 0: no limit
	Parent         ID                `json:"parent,omitzero"`            // zero: an orphan
	Role           string            `json:"role,omitempty"`
	Meta           map[string]string `json:"meta,omitempty"`
	EntityID       string            `json:"entity_id,omitempty"`
	Method         string            `json:"method,omitempty"`      // UUID of the login method that made it
	Login          string            `json:"login,omitempty"`       // the role or user of that method
	Certificate    string            `json:"certificate,omitempty"` // see [Login]
	BoundCIDRs     []netip.Prefix    `json:"bound_cidrs,omitempty"` // source addresses allowed to use it; empty: all

	id      ID
	until   time.Time // when it or its first ancestor expires; zero: never
	depth   int       // number of ancestors
	limited bool      // it has or had a number of uses, though none may be left
	left    []byte    // its cubbyhole, if this was its last use
}

// ID names the token's record.
func (t *Token) ID() ID { return t.id }

// Alive reports whether neither the token nor an ancestor has expired. It does not see
// revocations: that takes a [Lookup].
func (t *Token) Alive(now time.Time) bool { return t.until.IsZero() || now.Before(t.until) }

// Limited reports whether the token may be used only a number of times.
func (t *Token) Limited() bool { return t.limited }

// Root reports whether the token may do everything.
func (t *Token) Root() bool { return slices.Contains(t.Policies, RootPolicy) }

// An ID is the name of a token's record: a keyed hash of the token.
type ID [sha256.Size]byte

// MarshalText writes the ID as hex digits.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != len(id) {
		return errors.New("not the name of a token's record")
	}
	*id = ID(raw)
	return nil
}

// path returns the path of the record, in one of 256 folders, so that work on all
// records can be done folder by folder.
func (id ID) path() string {
	name := hex.EncodeToString(id[:])
	return tokenFolder + "/" + name[:2] + "/" + name[2:]
}

// oldPath returns the path of a record of version 1.
func (id ID) oldPath() string { return tokenFolder + "/" + hex.EncodeToString(id[:]) }

// A Key turns tokens into the names of their records.
type Key []byte

// ReadKey returns the store's key, which never changes, or nil if there has been no
// token yet.
func ReadKey(tx *storage.Tx) (Key, error) {
	key, err := tx.Get(keyPath)
	if err != nil {
		return nil, fmt.Errorf("reading the token key: %w", err)
	}
	return key, nil
}

// ID returns the name of the token's record. The error is [ErrDenied] if the text
// cannot be a token, or if there is no key.
func (k Key) ID(token string) (ID, error) {
	if k == nil || !valid(token) {
		return ID{}, ErrDenied
	}
	h := hmac.New(sha256.New, k)
	h.Write([]byte(token))
	return ID(h.Sum(nil)), nil
}

// A record is the stored form of a token.
type record struct {
	Version  int  `json:"version"`
	Children bool `json:"children,omitempty"` // it has made tokens that are not orphans
	// Revoked marks a token that was revoked without its children. The token no
	// longer works; its record stays until the children's own records say that
	// they are orphans.
	Revoked bool `json:"revoked,omitempty"`
	Token

	path string
}

// read returns a record, or nil if there is none.
func read(tx *storage.Tx, id ID) (*record, error) {
	path := id.path()
	value, err := tx.Get(path)
	if err == nil && value == nil {
		path = id.oldPath()
		value, err = tx.Get(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a token: %w", err)
	}
	if value == nil {
		return nil, nil
	}
	r := &record{path: path}
	if err := json.Unmarshal(value, r); err != nil {
		return nil, fmt.Errorf("decoding a token: %w: %w", storage.ErrCorrupt, err)
	}
	if r.Version < 1 || r.Version > recordVersion {
		return nil, fmt.Errorf("decoding a token: %w: record version %d, this program reads up to %d", storage.ErrFormat, r.Version, recordVersion)
	}
	r.id, r.until, r.limited = id, r.Expires, r.NumUses > 0
	return r, nil
}

func (r *record) write(tx *storage.Tx) error {
	r.Version = max(r.Version, recordVersion)
	value, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding a token: %w", err)
	}
	if err := tx.Put(r.path, value); err != nil {
		return fmt.Errorf("writing a token: %w", err)
	}
	return nil
}

// works reports whether the record exists, has not expired, and does not belong to a
// disabled login method.
func (r *record) works(tx *storage.Tx, now time.Time) (bool, error) {
	if r == nil || !r.Alive(now) {
		return false, nil
	}
	if r.Method == "" {
		return true, nil
	}
	return MethodEnabled(tx, r.Method)
}

// find returns the record of a working token: it and all its ancestors exist and have
// not expired. It costs one read, one for each ancestor, and one for the login method
// from which they come.
func find(tx *storage.Tx, id ID, now time.Time) (*record, error) {
	r, err := read(tx, id)
	if err != nil {
		return nil, err
	}
	if ok, err := r.works(tx, now); err != nil || !ok || r.Revoked {
		return nil, cmp.Or(err, ErrDenied)
	}
	for above := r.Parent; above != (ID{}); r.depth++ {
		p, err := read(tx, above)
		if err != nil {
			return nil, err
		}
		ok, err := p.works(tx, now)
		switch {
		case err != nil:
			return nil, err
		case !ok || r.depth > MaxDepth:
			return nil, ErrDenied
		case p.Revoked && r.depth == 0: // its child is an orphan
			r.Parent, r.Orphan = ID{}, true
			return r, nil
		case p.Revoked:
			return r, nil
		}
		if r.until.IsZero() || !p.until.IsZero() && p.until.Before(r.until) {
			r.until = p.until
		}
		above = p.Parent
	}
	return r, nil
}

// Lookup returns a working token. The error is [ErrDenied] if the token is unknown, or
// if it or an ancestor has expired or was revoked.
func Lookup(tx *storage.Tx, id ID, now time.Time) (*Token, error) {
	r, err := find(tx, id, now)
	if err != nil {
		return nil, err
	}
	return &r.Token, nil
}

// LookupAccessor is [Lookup] by the token's accessor.
func LookupAccessor(tx *storage.Tx, accessor string, now time.Time) (*Token, error) {
	if accessor == "" || len(accessor) > maxAccessorName || strings.Contains(accessor, "/") {
		return nil, ErrDenied
	}
	value, err := tx.Get(accessorFolder + "/" + accessor)
	if err != nil {
		return nil, fmt.Errorf("reading an accessor: %w", err)
	}
	if value == nil {
		return nil, ErrDenied
	}
	var id ID
	if err := id.UnmarshalText(value); err != nil {
		return nil, fmt.Errorf("decoding an accessor: %w: %w", storage.ErrCorrupt, err)
	}
	return Lookup(tx, id, now)
}

// Accessors lists the accessors of all tokens, sorted; some may have ended.
func Accessors(tx *storage.Tx) ([]string, error) {
	names, err := tx.List(accessorFolder)
	if err != nil {
		return nil, fmt.Errorf("listing the accessors: %w", err)
	}
	return names, nil
}

// Use is [Lookup] for a request: it takes one of the token's remaining uses. After the
// last one the token is revoked; the returned Token still serves this request, and has
// the contents of the cubbyhole.
func Use(tx *storage.Tx, id ID, now time.Time) (*Token, error) {
	r, err := find(tx, id, now)
	if err != nil || r.NumUses == 0 {
		if err != nil {
			return nil, err
		}
		return &r.Token, nil
	}
	if r.NumUses == 1 {
		r.NumUses = 0
		if r.left, err = readCubbyhole(tx, id); err != nil {
			return nil, err
		}
		return &r.Token, r.remove(tx)
	}
	r.NumUses--
	return &r.Token, r.write(tx)
}

// CreateRoot writes a root token, which may do everything and never expires, and
// returns it. An empty id makes a random token of 130 bits; a chosen one must have 1
// to [MaxToken] printable ASCII bytes without space, else the error is [ErrToken].
func CreateRoot(tx *storage.Tx, id string, now time.Time) (token string, err error) {
	return Create(tx, id, &Token{
		DisplayName: RootPolicy,
		Path:        rootTokenPath,
		Type:        serviceType,
		Policies:    []string{RootPolicy},
		Created:     now.UTC(),
		Orphan:      true,
	})
}

// NewSecret returns a random token that does not exist yet, for callers that must
// record the token before they create it.
func NewSecret() string { return "hvs." + rand.Text()[:randomText] }

// Create writes a token, gives it its accessor and returns the secret. An empty id
// makes a random token; if a chosen one cannot be a token, or already exists, the
// error is [ErrToken]. The caller must make sure, in the same transaction, that the
// parent works.
func Create(tx *storage.Tx, id string, t *Token) (token string, err error) {
	if id == "" {
		id = NewSecret()
	}
	if !valid(id) {
		return "", fmt.Errorf("%w: it needs 1 to %d printable ASCII characters without space", ErrToken, MaxToken)
	}
	key, err := ReadKey(tx)
	if err != nil {
		return "", err
	}
	if key == nil {
		key = make([]byte, sha256.Size)
		rand.Read(key)
		if err := tx.Put(keyPath, key); err != nil {
			return "", fmt.Errorf("writing the token key: %w", err)
		}
	}
	if t.id, err = key.ID(id); err != nil {
		return "", err
	}
	if old, err := read(tx, t.id); err != nil || old != nil {
		if err != nil {
			return "", err
		}
		return "", fmt.Errorf("%w: there is one of that name", ErrToken)
	}
	if t.Parent != (ID{}) {
		p, err := read(tx, t.Parent)
		if err != nil {
			return "", err
		}
		if p == nil {
			return "", ErrDenied
		}
		if !p.Children {
			p.Children = true
			if err := p.write(tx); err != nil {
				return "", err
			}
		}
	}
	t.Accessor = rand.Text()
	r := &record{Token: *t, path: t.id.path()}
	if err := r.write(tx); err != nil {
		return "", err
	}
	return id, r.index(tx)
}

// index writes the record that leads from the accessor to the token.
func (r *record) index(tx *storage.Tx) error {
	text, _ := r.id.MarshalText() // never fails
	if err := tx.Put(accessorFolder+"/"+r.Accessor, text); err != nil {
		return fmt.Errorf("writing an accessor: %w", err)
	}
	return nil
}

// remove deletes all records of a token.
func (r *record) remove(tx *storage.Tx) error {
	if err := tx.Delete(r.path); err != nil {
		return fmt.Errorf("deleting a token: %w", err)
	}
	if err := tx.Delete(r.id.cubbyholePath()); err != nil {
		return fmt.Errorf("deleting a cubbyhole: %w", err)
	}
	if r.Accessor == "" {
		return nil
	}
	if err := tx.Delete(accessorFolder + "/" + r.Accessor); err != nil {
		return fmt.Errorf("deleting an accessor: %w", err)
	}
	return nil
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
