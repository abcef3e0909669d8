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

// RandomToken is the length of a token that was not chosen, in bytes.
const RandomToken = len("hvs.") + randomText

const randomText = 26 // of base32: 130 bits

// MaxDepth is how long a line of tokens may be, each made by the one before. It
// bounds what a look-up costs.
const MaxDepth = 100

const (
	recordVersion   = 2 // written; 1, of root tokens alone, is read
	keyPath         = "access/token-key"
	tokenFolder     = "access/token"
	accessorFolder  = "access/accessor"
	serviceType     = "service"
	tokenMountPath  = "auth/token/"
	rootTokenPath   = tokenMountPath + "root"
	maxAccessorName = 64 // bytes
)

// A Token is what the keep knows about the bearer of a token. One that
// [Lookup] returned is shared: it is not to be changed.
type Token struct {
	Accessor       string            `json:"accessor"` // names the token without giving it away
	DisplayName    string            `json:"display_name"`
	Path           string            `json:"path"` // the API path that made it
	Type           string            `json:"type"` // "service"
	Policies       []string          `json:"policies"`
	Created        time.Time         `json:"created"`
	TTL            time.Duration     `json:"ttl"` // that it was made with; 0: never ends
	Orphan         bool              `json:"orphan"`
	Expires        time.Time         `json:"expires,omitzero"` // zero: never
	Renewed        time.Time         `json:"renewed,omitzero"` // the last time
	Renewable      bool              `json:"renewable,omitempty"`
	MaxTTL         time.Duration     `json:"max_ttl,omitempty"`          // since Created; 0: the keep's
	ExplicitMaxTTL time.Duration     `json:"explicit_max_ttl,omitempty"` // since Created; 0: none
	Period         time.Duration     `json:"period,omitempty"`           // 0: not periodic
	NumUses        int               `json:"num_uses,omitempty"`         // that are left; 0: no limit
	Parent         ID                `json:"parent,omitzero"`            // zero: an orphan
	Role           string            `json:"role,omitempty"`
	Meta           map[string]string `json:"meta,omitempty"`
	EntityID       string            `json:"entity_id,omitempty"`
	Method         string            `json:"method,omitempty"`      // UUID of the login method that made it
	Login          string            `json:"login,omitempty"`       // by which role or user of it
	Certificate    string            `json:"certificate,omitempty"` // see [Login]
	BoundCIDRs     []netip.Prefix    `json:"bound_cidrs,omitempty"` // whence it may be used; empty: from anywhere

	id      ID
	until   time.Time // when it or the first of those above it ends; zero: never
	depth   int       // how many are above it
	limited bool      // it had a number of uses, though none may be left now
	left    []byte    // its cubbyhole, if this was its last use
}

// ID names the token's record.
func (t *Token) ID() ID { return t.id }

// Alive tells whether neither the token nor one above it has ended by itself.
// Revocation it does not see: that takes a [Lookup].
func (t *Token) Alive(now time.Time) bool { return t.until.IsZero() || now.Before(t.until) }

// Limited tells whether the token may be used a number of times only.
func (t *Token) Limited() bool { return t.limited }

// Root tells whether the token may do everything.
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

// path is where the record lies, in one of 256 folders, so that work on all
// records has a folder to stop at.
func (id ID) path() string {
	name := hex.EncodeToString(id[:])
	return tokenFolder + "/" + name[:2] + "/" + name[2:]
}

// oldPath is where records of version 1 lie.
func (id ID) oldPath() string { return tokenFolder + "/" + hex.EncodeToString(id[:]) }

// A Key turns tokens into the names of their records.
type Key []byte

// ReadKey returns the store's key, which never changes; nil when there has been
// no token yet.
func ReadKey(tx *storage.Tx) (Key, error) {
	key, err := tx.Get(keyPath)
	if err != nil {
		return nil, fmt.Errorf("reading the token key: %w", err)
	}
	return key, nil
}

// ID returns the name of the token's record. The error is [ErrDenied] when the
// text cannot be a token, or there is no key.
func (k Key) ID(token string) (ID, error) {
	if k == nil || !valid(token) {
		return ID{}, ErrDenied
	}
	h := hmac.New(sha256.New, k)
	h.Write([]byte(token))
	return ID(h.Sum(nil)), nil
}

// A record is what the store has of a token.
type record struct {
	Version  int  `json:"version"`
	Children bool `json:"children,omitempty"` // it has made tokens that are no orphans
	// Revoked is what is left of a token that was revoked without its children,
	// until these are orphans in their own records, too. The token is gone.
	Revoked bool `json:"revoked,omitempty"`
	Token

	path string
}

// read returns a record, nil when there is none.
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

// works tells whether the record is there, has not ended, and is not of a login
// method that was disabled.
func (r *record) works(tx *storage.Tx, now time.Time) (bool, error) {
	if r == nil || !r.Alive(now) {
		return false, nil
	}
	if r.Method == "" {
		return true, nil
	}
	return MethodEnabled(tx, r.Method)
}

// find returns the record of a token that works: it and all those above it are
// there and have not ended. It costs one read, one for each token above, and one
// for the login that they all come from.
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

// Lookup returns what is known of a token that works, else [ErrDenied]: it is
// unknown, has ended or was revoked, or one above it was.
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

// Use is [Lookup] for a request: it takes one of the uses that the token has
// left. With the last one the token is revoked; the one returned still serves
// for this request, and has what was in the cubbyhole.
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

// CreateRoot writes a root token, which may do everything and never ends, and
// returns it. An empty id makes a random one of 130 bits; a chosen id has 1 to
// [MaxToken] printable ASCII bytes without space, else the error is [ErrToken].
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

// NewSecret returns what a random token is, before there is one: for who has to
// tell of the token before it is written.
func NewSecret() string { return "hvs." + rand.Text()[:randomText] }

// Create writes a token, gives it its accessor and returns the secret. An empty
// id makes a random one; the error of a chosen one that cannot be a token, or is
// one already, is [ErrToken]. A parent must work: that is the caller's to see,
// in the same transaction.
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

// remove deletes all that the store has of a token.
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
