package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// AppRoles are the roles of a login method of type approle: the folder of its
// records.
//
//	<folder>/key                  32 random bytes
//	<folder>/role/<name>          JSON {"version":1,"data":{...}}: an [AppRole]
//	<folder>/role-id/<hash>       the name of the role with that role ID
//	<folder>/secret/<f>/<hash>    JSON {"version":1,"data":{...}}: a [SecretID]; <f> is the role's own
//	<folder>/accessor/<f>/<name>  the hash of the secret ID with that accessor
//
// A hash is the HMAC-SHA256 with the key, in hex digits, so that no secret ID is
// stored, and looking one up compares none of its bytes.
type AppRoles string

// An AppRole says who may log in with what, and what the tokens are like.
type AppRole struct {
	Name            string         `json:"-"`
	RoleID          string         `json:"role_id"`
	Folder          string         `json:"folder"`         // of its secret IDs
	BindSecretID    bool           `json:"bind_secret_id"` // logging in takes a secret ID
	BoundCIDRs      []netip.Prefix `json:"secret_id_bound_cidrs,omitempty"`
	SecretIDNumUses int            `json:"secret_id_num_uses,omitempty"` // 0: any number
	SecretIDTTL     time.Duration  `json:"secret_id_ttl,omitempty"`      // 0: for ever
	LocalSecretIDs  bool           `json:"local_secret_ids,omitempty"`   // is noted and means nothing here
	Token           TokenParams    `json:"token"`
}

// A SecretID is what is known of one.
type SecretID struct {
	Accessor   string            `json:"accessor"`
	NumUses    int               `json:"num_uses,omitempty"` // that are left; 0: any number
	TTL        time.Duration     `json:"ttl,omitempty"`
	Created    time.Time         `json:"created"`
	Updated    time.Time         `json:"updated"`
	Expires    time.Time         `json:"expires,omitzero"` // zero: never
	Meta       map[string]string `json:"meta,omitempty"`
	BoundCIDRs []netip.Prefix    `json:"cidr_list,omitempty"`
	TokenCIDRs []netip.Prefix    `json:"token_bound_cidrs,omitempty"` // instead of the role's

	hash string
}

// MaxCredential is the longest role ID, secret ID or password, in bytes.
const MaxCredential = 4096

const appRoleKind = "an AppRole"

// methodName is the name of a role or user as login methods have it: canonical,
// without a slash.
func methodName(what, name string) (string, error) {
	name = CanonicalName(name)
	if name == "" || len(name) > maxRoleName || strings.Contains(name, "/") {
		return "", mistake("the name of a %s has 1 to %d bytes and no slash", what, maxRoleName)
	}
	return name, CheckName(what, name)
}

func (a AppRoles) path(parts ...string) string { return string(a) + "/" + strings.Join(parts, "/") }

// hash is where something secret is found; kind keeps uses of the key apart. It
// is "" when there is no key, and so nothing to find.
func (a AppRoles) hash(tx *storage.Tx, kind, secret string) (string, error) {
	key, err := tx.Get(a.path("key"))
	if err != nil {
		return "", fmt.Errorf("reading the key of AppRole: %w", err)
	}
	if key == nil {
		return "", nil
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(kind + "\x00" + secret))
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Get returns a role, nil when there is none.
func (a AppRoles) Get(tx *storage.Tx, name string) (*AppRole, error) {
	name, err := methodName("role", name)
	if err != nil {
		return nil, err
	}
	r, err := readRecord[AppRole](tx, a.path("role", name), appRoleKind)
	if r != nil {
		r.Name = name
	}
	return r, err
}

// List lists the roles by name.
func (a AppRoles) List(tx *storage.Tx) ([]string, error) { return tx.List(a.path("role")) }

// Put writes a role. The errors are [ErrInvalid].
func (a AppRoles) Put(tx *storage.Tx, r *AppRole) error {
	if r.Folder == "" {
		r.Folder = rand.Text()
	}
	switch {
	case r.RoleID == "" || len(r.RoleID) > MaxCredential || strings.TrimSpace(r.RoleID) != r.RoleID:
		return mistake("invalid role_id: it has 1 to %d bytes, and no space at its ends", MaxCredential)
	case !r.BindSecretID && len(r.BoundCIDRs) == 0 && len(r.Token.BoundCIDRs) == 0:
		return mistake("at least one constraint should be enabled on the role")
	case r.SecretIDNumUses < 0:
		return mistake("secret_id_num_uses cannot be negative")
	case r.SecretIDTTL < 0:
		return mistake("secret_id_ttl cannot be negative")
	}
	if err := r.Token.Check(); err != nil {
		return err
	}
	old, err := a.Get(tx, r.Name)
	if err != nil {
		return err
	}
	if key, err := tx.Get(a.path("key")); err != nil {
		return fmt.Errorf("reading the key of AppRole: %w", err)
	} else if key == nil {
		key = make([]byte, sha256.Size)
		rand.Read(key)
		if err := tx.Put(a.path("key"), key); err != nil {
			return fmt.Errorf("writing the key of AppRole: %w", err)
		}
	}
	if old == nil || old.RoleID != r.RoleID {
		hash, err := a.hash(tx, "role-id", r.RoleID)
		if err != nil {
			return err
		}
		other, err := tx.Get(a.path("role-id", hash))
		if err != nil {
			return fmt.Errorf("reading a role ID: %w", err)
		}
		if other != nil {
			return mistake("role_id already in use")
		}
		if err := tx.Put(a.path("role-id", hash), []byte(r.Name)); err != nil {
			return fmt.Errorf("writing a role ID: %w", err)
		}
		if old != nil {
			if err := a.forget(tx, old); err != nil {
				return err
			}
		}
	}
	return writeRecord(tx, a.path("role", r.Name), appRoleKind, r)
}

// forget deletes what leads from the role ID to the role.
func (a AppRoles) forget(tx *storage.Tx, r *AppRole) error {
	hash, err := a.hash(tx, "role-id", r.RoleID)
	if err != nil {
		return err
	}
	if err := tx.Delete(a.path("role-id", hash)); err != nil {
		return fmt.Errorf("deleting a role ID: %w", err)
	}
	return nil
}

// Delete deletes a role. Its secret IDs are of no use thereafter; [AppRoles.Lost]
// finds them.
func (a AppRoles) Delete(tx *storage.Tx, name string) error {
	r, err := a.Get(tx, name)
	if err != nil || r == nil {
		return err
	}
	if err := a.forget(tx, r); err != nil {
		return err
	}
	if err := tx.Delete(a.path("role", r.Name)); err != nil {
		return fmt.Errorf("deleting %s: %w", appRoleKind, err)
	}
	return nil
}

// AddSecretID writes a secret ID of the role, within what that allows, and gives
// it its accessor; most is the longest that it may live. The errors are
// [ErrInvalid].
func (a AppRoles) AddSecretID(tx *storage.Tx, r *AppRole, secret string, s *SecretID, most time.Duration, now time.Time) error {
	switch {
	case secret == "":
		return mistake("missing secret_id")
	case len(secret) > MaxCredential || strings.TrimSpace(secret) != secret:
		return mistake("a secret_id has at most %d bytes, and no space at its ends", MaxCredential)
	case !r.BindSecretID:
		return mistake("bind_secret_id is not set on the role")
	case !subset(s.BoundCIDRs, r.BoundCIDRs):
		return mistake("the cidr_list must be within the role's secret_id_bound_cidrs %q", r.BoundCIDRs)
	case !subset(s.TokenCIDRs, r.Token.BoundCIDRs):
		return mistake("the token_bound_cidrs must be within those of the role %q", r.Token.BoundCIDRs)
	case s.NumUses < 0:
		return mistake("num_uses cannot be negative")
	case r.SecretIDNumUses > 0 && (s.NumUses == 0 || s.NumUses > r.SecretIDNumUses):
		return mistake("num_uses cannot be higher than the role's secret_id_num_uses")
	case s.TTL < 0:
		return mistake("ttl cannot be negative")
	case r.SecretIDTTL > 0 && (s.TTL == 0 || s.TTL > r.SecretIDTTL):
		return mistake("ttl cannot be longer than the role's secret_id_ttl")
	}
	size := 0
	for k, v := range s.Meta {
		size += len(k) + len(v)
	}
	if size > maxMeta {
		return mistake("the metadata of a secret ID has at most %d bytes", maxMeta)
	}
	old, err := a.SecretID(tx, r, secret)
	if err != nil {
		return err
	}
	if old != nil {
		return mistake("SecretID is already registered")
	}
	if s.hash, err = a.hash(tx, r.Folder, secret); err != nil {
		return err
	}
	s.Accessor = storage.NewUUID()
	s.TTL = min(s.TTL, most)
	s.Created = now.UTC()
	if s.TTL > 0 {
		s.Expires = s.Created.Add(s.TTL)
	}
	if err := tx.Put(a.path("accessor", r.Folder, s.Accessor), []byte(s.hash)); err != nil {
		return fmt.Errorf("writing the accessor of a secret ID: %w", err)
	}
	return a.write(tx, r, s, now)
}

func (a AppRoles) write(tx *storage.Tx, r *AppRole, s *SecretID, now time.Time) error {
	s.Updated = now.UTC()
	return writeRecord(tx, a.path("secret", r.Folder, s.hash), "a secret ID", s)
}

// SecretID returns what is known of a secret ID of the role, nil when there is none.
func (a AppRoles) SecretID(tx *storage.Tx, r *AppRole, secret string) (*SecretID, error) {
	hash, err := a.hash(tx, r.Folder, secret)
	if err != nil || hash == "" {
		return nil, err
	}
	return a.byHash(tx, r.Folder, hash)
}

func (a AppRoles) byHash(tx *storage.Tx, folder, hash string) (*SecretID, error) {
	s, err := readRecord[SecretID](tx, a.path("secret", folder, hash), "a secret ID")
	if s != nil {
		s.hash = hash
	}
	return s, err
}

// ByAccessor is SecretID by its accessor.
func (a AppRoles) ByAccessor(tx *storage.Tx, r *AppRole, accessor string) (*SecretID, error) {
	if accessor == "" || len(accessor) > maxAccessorName || strings.Contains(accessor, "/") {
		return nil, nil
	}
	hash, err := tx.Get(a.path("accessor", r.Folder, accessor))
	if err != nil {
		return nil, fmt.Errorf("reading the accessor of a secret ID: %w", err)
	}
	if len(hash) != 2*sha256.Size || strings.Contains(string(hash), "/") {
		if hash == nil {
			return nil, nil
		}
		return nil, fmt.Errorf("decoding the accessor of a secret ID: %w", storage.ErrCorrupt)
	}
	return a.byHash(tx, r.Folder, string(hash))
}

// Accessors lists those of the role's secret IDs.
func (a AppRoles) Accessors(tx *storage.Tx, r *AppRole) ([]string, error) {
	return tx.List(a.path("accessor", r.Folder))
}

// Destroy deletes a secret ID.
func (a AppRoles) Destroy(tx *storage.Tx, r *AppRole, s *SecretID) error {
	return a.destroy(tx, r.Folder, s)
}

func (a AppRoles) destroy(tx *storage.Tx, folder string, s *SecretID) error {
	for _, path := range []string{a.path("accessor", folder, s.Accessor), a.path("secret", folder, s.hash)} {
		if err := tx.Delete(path); err != nil {
			return fmt.Errorf("deleting a secret ID: %w", err)
		}
	}
	return nil
}

// errAppRole is Vault's answer, whichever of the two is wrong.
var errAppRole = mistake("invalid role or secret ID")

// Login recognises the bearer of a role ID and a secret ID, and takes one of the
// uses of the latter. The errors are [ErrInvalid], with Vault's texts.
func (a AppRoles) Login(tx *storage.Tx, roleID, secretID string, from netip.Addr, now time.Time) (*Login, error) {
	roleID, secretID = strings.TrimSpace(roleID), strings.TrimSpace(secretID)
	if roleID == "" {
		return nil, mistake("missing role_id")
	}
	hash, err := a.hash(tx, "role-id", roleID)
	if err != nil {
		return nil, err
	}
	if hash == "" {
		return nil, errAppRole
	}
	name, err := tx.Get(a.path("role-id", hash))
	if err != nil {
		return nil, fmt.Errorf("reading a role ID: %w", err)
	}
	if name == nil {
		return nil, errAppRole
	}
	r, err := a.Get(tx, string(name))
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, fmt.Errorf("reading the role of a role ID: %w", storage.ErrCorrupt)
	}
	l := &Login{Name: r.Name, Params: r.Token, Meta: map[string]string{}}
	if r.BindSecretID {
		if secretID == "" {
			return nil, mistake("missing secret_id")
		}
		s, err := a.SecretID(tx, r, secretID)
		if err != nil {
			return nil, err
		}
		if s == nil || !s.Expires.IsZero() && !now.Before(s.Expires) {
			return nil, errAppRole
		}
		if !Within(s.BoundCIDRs, from) {
			return nil, mistake("source address %q unauthorized through CIDR restrictions on the secret ID", from)
		}
		if !subset(s.TokenCIDRs, r.Token.BoundCIDRs) { // the role may have changed since
			return nil, mistake("the token_bound_cidrs of the secret ID are not within those of the role any more")
		}
		for k, v := range s.Meta {
			l.Meta[k] = v
		}
		if len(s.TokenCIDRs) > 0 {
			l.Params.BoundCIDRs = s.TokenCIDRs
		}
		switch s.NumUses {
		case 0:
		case 1:
			err = a.Destroy(tx, r, s)
		default:
			s.NumUses--
			err = a.write(tx, r, s, now)
		}
		if err != nil {
			return nil, err
		}
	}
	if !Within(r.BoundCIDRs, from) {
		return nil, mistake("source address %q unauthorized by CIDR restrictions on the role", from)
	}
	l.Meta["role_name"] = r.Name
	return l, nil
}

// Folders lists the folders that secret IDs lie in, for [AppRoles.Lost] and
// [AppRoles.Expired].
func (a AppRoles) Folders(tx *storage.Tx) ([]string, error) {
	folders, err := tx.List(a.path("accessor"))
	for i := range folders {
		folders[i] = strings.TrimSuffix(folders[i], "/")
	}
	return folders, err
}

// Lost returns the paths below which the secret IDs of roles lie that are not
// there any more. The folders must have been listed in a transaction before.
func (a AppRoles) Lost(tx *storage.Tx, folders []string) (paths []string, err error) {
	names, err := a.List(tx)
	if err != nil {
		return nil, err
	}
	inUse := make(map[string]bool, len(names))
	for _, name := range names {
		r, err := a.Get(tx, name)
		if err != nil {
			return nil, err
		}
		if r != nil {
			inUse[r.Folder] = true
		}
	}
	for _, folder := range folders {
		if !inUse[folder] {
			paths = append(paths, a.path("secret", folder), a.path("accessor", folder)) // the latter is what Folders sees
		}
	}
	return paths, nil
}

// SecretIDs lists the secret IDs of a folder, for [AppRoles.Expired] and
// [AppRoles.Expire].
func (a AppRoles) SecretIDs(tx *storage.Tx, folder string) ([]string, error) {
	return tx.List(a.path("secret", folder))
}

// Expired returns those of the secret IDs whose time has passed.
func (a AppRoles) Expired(tx *storage.Tx, folder string, hashes []string, now time.Time) ([]string, error) {
	var expired []string
	for _, hash := range hashes {
		s, err := a.byHash(tx, folder, hash)
		if err != nil {
			return nil, err
		}
		if s != nil && !s.Expires.IsZero() && !now.Before(s.Expires) {
			expired = append(expired, hash)
		}
	}
	return expired, nil
}

// Expire deletes those of the secret IDs whose time has passed.
func (a AppRoles) Expire(tx *storage.Tx, folder string, hashes []string, now time.Time) error {
	hashes, err := a.Expired(tx, folder, hashes, now)
	if err != nil {
		return err
	}
	for _, hash := range hashes {
		s, err := a.byHash(tx, folder, hash)
		if err == nil {
			err = a.destroy(tx, folder, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// subset tells whether all of the ranges are in those of within, which are all
// addresses when there are none. No ranges of their own means those of within.
func subset(ranges, within []netip.Prefix) bool {
	if len(within) == 0 {
		return true
	}
	return !slices.ContainsFunc(ranges, func(p netip.Prefix) bool {
		return !slices.ContainsFunc(within, func(w netip.Prefix) bool { return w.Bits() <= p.Bits() && w.Contains(p.Addr()) })
	})
}
