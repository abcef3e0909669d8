package approle

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/storage"
)

// A secretID is what is known of one.
type secretID struct {
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

const (
	maxMeta     = 16 << 10 // bytes
	maxAccessor = 64       // bytes

	secretIDKind = "a secret ID"
)

// ended reports whether the time of the secret ID has passed.
func (s *secretID) ended(now time.Time) bool { return !s.Expires.IsZero() && !now.Before(s.Expires) }

// checkSecretID reports what the role does not allow of a new secret ID.
func (r *role) checkSecretID(secret string, s *secretID) error {
	size := 0
	for k, v := range s.Meta {
		size += len(k) + len(v)
	}
	switch {
	case secret == "":
		return api.Invalid.Errorf("missing secret_id")
	case len(secret) > maxID || strings.TrimSpace(secret) != secret:
		return api.Invalid.Errorf("a secret_id has at most %d bytes, and no space at its ends", maxID)
	case !r.BindSecretID:
		return api.Invalid.Errorf("bind_secret_id is not set on the role")
	case !subset(s.BoundCIDRs, r.BoundCIDRs):
		return api.Invalid.Errorf("the cidr_list must be within the role's secret_id_bound_cidrs %q", r.BoundCIDRs)
	case !subset(s.TokenCIDRs, r.Token.BoundCIDRs):
		return api.Invalid.Errorf("the token_bound_cidrs must be within those of the role %q", r.Token.BoundCIDRs)
	case s.NumUses < 0:
		return api.Invalid.Errorf("num_uses cannot be negative")
	case r.SecretIDNumUses > 0 && (s.NumUses == 0 || s.NumUses > r.SecretIDNumUses):
		return api.Invalid.Errorf("num_uses cannot be higher than the role's secret_id_num_uses")
	case s.TTL < 0:
		return api.Invalid.Errorf("ttl cannot be negative")
	case r.SecretIDTTL > 0 && (s.TTL == 0 || s.TTL > r.SecretIDTTL):
		return api.Invalid.Errorf("ttl cannot be longer than the role's secret_id_ttl")
	case size > maxMeta:
		return api.Invalid.Errorf("the metadata of a secret ID has at most %d bytes", maxMeta)
	}
	return nil
}

// add writes a new secret ID of the role and gives it its accessor. It lives no
// longer than longest.
func (m records) add(tx *storage.Tx, r *role, secret string, s *secretID, longest time.Duration, now time.Time) error {
	if err := r.checkSecretID(secret, s); err != nil {
		return err
	}
	old, err := m.secretID(tx, r, secret)
	if err != nil {
		return err
	}
	if old != nil {
		return api.Invalid.Errorf("SecretID is already registered")
	}
	if s.hash, err = m.hash(tx, r.Folder, secret); err != nil {
		return err
	}
	s.Accessor = storage.NewUUID()
	s.TTL = min(s.TTL, longest)
	s.Created = now.UTC()
	if s.TTL > 0 {
		s.Expires = s.Created.Add(s.TTL)
	}
	if err := tx.Put(m.path("accessor", r.Folder, s.Accessor), []byte(s.hash)); err != nil {
		return fmt.Errorf("writing the accessor of a secret ID: %w", err)
	}
	return m.writeSecretID(tx, r, s, now)
}

func (m records) writeSecretID(tx *storage.Tx, r *role, s *secretID, now time.Time) error {
	s.Updated = now.UTC()
	return login.WriteRecord(tx, m.path("secret", r.Folder, s.hash), secretIDKind, s)
}

// secretID reads what is known of a secret ID of the role, nil when there is none.
func (m records) secretID(tx *storage.Tx, r *role, secret string) (*secretID, error) {
	hash, err := m.hash(tx, r.Folder, secret)
	if err != nil || hash == "" {
		return nil, err
	}
	return m.byHash(tx, r.Folder, hash)
}

func (m records) byHash(tx *storage.Tx, folder, hash string) (*secretID, error) {
	s := &secretID{hash: hash}
	found, err := login.ReadRecord(tx, m.path("secret", folder, hash), secretIDKind, s)
	if err != nil || !found {
		return nil, err
	}
	return s, nil
}

// byAccessor reads the secret ID of the role that has an accessor, nil when there is
// none.
func (m records) byAccessor(tx *storage.Tx, r *role, accessor string) (*secretID, error) {
	if accessor == "" || len(accessor) > maxAccessor || strings.Contains(accessor, "/") {
		return nil, nil
	}
	hash, err := tx.Get(m.path("accessor", r.Folder, accessor))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the accessor of a secret ID: %w", err)
	case hash == nil:
		return nil, nil
	case len(hash) != 2*sha256.Size || strings.Contains(string(hash), "/"):
		return nil, fmt.Errorf("decoding the accessor of a secret ID: %w", storage.ErrCorrupt)
	}
	return m.byHash(tx, r.Folder, string(hash))
}

// accessors lists those of the role's secret IDs.
func (m records) accessors(tx *storage.Tx, r *role) ([]string, error) {
	return tx.List(m.path("accessor", r.Folder))
}

// destroy deletes a secret ID in a role's folder.
func (m records) destroy(tx *storage.Tx, folder string, s *secretID) error {
	for _, path := range []string{m.path("accessor", folder, s.Accessor), m.path("secret", folder, s.hash)} {
		if err := tx.Delete(path); err != nil {
			return fmt.Errorf("deleting a secret ID: %w", err)
		}
	}
	return nil
}

// errLogin is Vault's answer, whichever of the two IDs is wrong.
var errLogin = api.Invalid.Errorf("invalid role or secret ID")

// login recognises the bearer of a role ID and a secret ID, and takes one of the
// uses of the latter. The texts of its errors are Vault's.
func (m records) login(tx *storage.Tx, roleID, secret string, from netip.Addr, now time.Time) (*access.Login, error) {
	roleID, secret = strings.TrimSpace(roleID), strings.TrimSpace(secret)
	if roleID == "" {
		return nil, api.Invalid.Errorf("missing role_id")
	}
	r, err := m.byRoleID(tx, roleID)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, errLogin
	}
	l := &access.Login{Name: r.Name, Params: r.Token, Meta: map[string]string{}}
	if r.BindSecretID {
		if err := m.use(tx, r, secret, l, from, now); err != nil {
			return nil, err
		}
	}
	if !access.Within(r.BoundCIDRs, from) {
		return nil, api.Invalid.Errorf("source address %q unauthorized by CIDR restrictions on the role", from)
	}
	l.Meta["role_name"] = r.Name
	return l, nil
}

// use takes one of the uses of a secret ID and adds to the login what it says.
func (m records) use(tx *storage.Tx, r *role, secret string, l *access.Login, from netip.Addr, now time.Time) error {
	if secret == "" {
		return api.Invalid.Errorf("missing secret_id")
	}
	s, err := m.secretID(tx, r, secret)
	if err != nil {
		return err
	}
	switch {
	case s == nil || s.ended(now):
		return errLogin
	case !access.Within(s.BoundCIDRs, from):
		return api.Invalid.Errorf("source address %q unauthorized through CIDR restrictions on the secret ID", from)
	case !subset(s.TokenCIDRs, r.Token.BoundCIDRs): // the role may have changed since
		return api.Invalid.Errorf("the token_bound_cidrs of the secret ID are not within those of the role any more")
	}
	for k, v := range s.Meta {
		l.Meta[k] = v
	}
	if len(s.TokenCIDRs) > 0 {
		l.Params.BoundCIDRs = s.TokenCIDRs
	}
	switch s.NumUses {
	case 0:
		return nil
	case 1:
		return m.destroy(tx, r.Folder, s)
	}
	s.NumUses--
	return m.writeSecretID(tx, r, s, now)
}

// subset reports whether each of the ranges lies in one of within, which stands for
// all addresses when it is empty. Without ranges there is nothing that could lie
// outside.
func subset(ranges, within []netip.Prefix) bool {
	if len(within) == 0 {
		return true
	}
	return !slices.ContainsFunc(ranges, func(p netip.Prefix) bool {
		return !slices.ContainsFunc(within, func(w netip.Prefix) bool { return w.Bits() <= p.Bits() && w.Contains(p.Addr()) })
	})
}
