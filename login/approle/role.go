package approle

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/storage"
)

// records is the folder of the records of a mount.
type records string

// A role says who may log in with what, and what the tokens are like.
type role struct {
	Name            string             `json:"-"`
	RoleID          string             `json:"role_id"`
	Folder          string             `json:"folder"`         // of its secret IDs
	BindSecretID    bool               `json:"bind_secret_id"` // logging in takes a secret ID
	BoundCIDRs      []netip.Prefix     `json:"secret_id_bound_cidrs,omitempty"`
	SecretIDNumUses int                `json:"secret_id_num_uses,omitempty"` // 0: any number
	SecretIDTTL     time.Duration      `json:"secret_id_ttl,omitempty"`      // 0: for ever
	LocalSecretIDs  bool               `json:"local_secret_ids,omitempty"`   // is noted and means nothing here
	Token           access.TokenParams `json:"token"`
}

// maxID is the length of the longest role ID and secret ID, in bytes.
const maxID = 4096

const roleKind = "an AppRole"

func (m records) path(parts ...string) string { return string(m) + "/" + strings.Join(parts, "/") }

func (m records) key(tx *storage.Tx) ([]byte, error) {
	key, err := tx.Get(m.path("key"))
	if err != nil {
		return nil, fmt.Errorf("reading the key of AppRole: %w", err)
	}
	return key, nil
}

// ensureKey makes the key if there is none.
func (m records) ensureKey(tx *storage.Tx) error {
	if key, err := m.key(tx); err != nil || key != nil {
		return err
	}
	key := make([]byte, sha256.Size)
	rand.Read(key)
	if err := tx.Put(m.path("key"), key); err != nil {
		return fmt.Errorf("writing the key of AppRole: %w", err)
	}
	return nil
}

// hash is the name under which the record of a secret lies; kind keeps uses of the
// key apart. It is "" when there is no key, and so nothing to find.
func (m records) hash(tx *storage.Tx, kind, secret string) (string, error) {
	key, err := m.key(tx)
	if err != nil || key == nil {
		return "", err
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(kind + "\x00" + secret))
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (m records) hashRoleID(tx *storage.Tx, id string) (string, error) {
	return m.hash(tx, "role-id", id)
}

// role reads a role, nil when there is none.
func (m records) role(tx *storage.Tx, name string) (*role, error) {
	name, err := login.Name("role", name)
	if err != nil {
		return nil, err
	}
	r := &role{Name: name}
	found, err := login.ReadRecord(tx, m.path("role", name), roleKind, r)
	if err != nil || !found {
		return nil, err
	}
	return r, nil
}

func (m records) roles(tx *storage.Tx) ([]string, error) { return tx.List(m.path("role")) }

// byRoleID reads the role that has a role ID, nil when there is none.
func (m records) byRoleID(tx *storage.Tx, id string) (*role, error) {
	hash, err := m.hashRoleID(tx, id)
	if err != nil || hash == "" {
		return nil, err
	}
	name, err := tx.Get(m.path("role-id", hash))
	if err != nil {
		return nil, fmt.Errorf("reading a role ID: %w", err)
	}
	if name == nil {
		return nil, nil
	}
	r, err := m.role(tx, string(name))
	if err == nil && r == nil {
		err = fmt.Errorf("reading the role of a role ID: %w", storage.ErrCorrupt)
	}
	return r, err
}

func (r *role) check() error {
	switch {
	case r.RoleID == "" || len(r.RoleID) > maxID || strings.TrimSpace(r.RoleID) != r.RoleID:
		return api.Invalid.Errorf("invalid role_id: it has 1 to %d bytes, and no space at its ends", maxID)
	case !r.BindSecretID && len(r.BoundCIDRs) == 0 && len(r.Token.BoundCIDRs) == 0:
		return api.Invalid.Errorf("at least one constraint should be enabled on the role")
	case r.SecretIDNumUses < 0:
		return api.Invalid.Errorf("secret_id_num_uses cannot be negative")
	case r.SecretIDTTL < 0:
		return api.Invalid.Errorf("secret_id_ttl cannot be negative")
	}
	return r.Token.Check()
}

// write writes a role, and what leads from its role ID to it.
func (m records) write(tx *storage.Tx, r *role) error {
	if r.Folder == "" {
		r.Folder = rand.Text()
	}
	if err := r.check(); err != nil {
		return err
	}
	old, err := m.role(tx, r.Name)
	if err != nil {
		return err
	}
	if err := m.ensureKey(tx); err != nil {
		return err
	}
	if old == nil || old.RoleID != r.RoleID {
		if err := m.claim(tx, r); err != nil {
			return err
		}
		if old != nil {
			if err := m.release(tx, old); err != nil {
				return err
			}
		}
	}
	return login.WriteRecord(tx, m.path("role", r.Name), roleKind, r)
}

// claim writes what leads from the role ID to the role. It refuses the role ID of
// another role.
func (m records) claim(tx *storage.Tx, r *role) error {
	hash, err := m.hashRoleID(tx, r.RoleID)
	if err != nil {
		return err
	}
	other, err := tx.Get(m.path("role-id", hash))
	if err != nil {
		return fmt.Errorf("reading a role ID: %w", err)
	}
	if other != nil {
		return api.Invalid.Errorf("role_id already in use")
	}
	if err := tx.Put(m.path("role-id", hash), []byte(r.Name)); err != nil {
		return fmt.Errorf("writing a role ID: %w", err)
	}
	return nil
}

// release deletes what claim wrote.
func (m records) release(tx *storage.Tx, r *role) error {
	hash, err := m.hashRoleID(tx, r.RoleID)
	if err != nil {
		return err
	}
	if err := tx.Delete(m.path("role-id", hash)); err != nil {
		return fmt.Errorf("deleting a role ID: %w", err)
	}
	return nil
}

// remove deletes a role. Its secret IDs are of no use thereafter; lost finds them.
func (m records) remove(tx *storage.Tx, name string) error {
	r, err := m.role(tx, name)
	if err != nil || r == nil {
		return err
	}
	if err := m.release(tx, r); err != nil {
		return err
	}
	if err := tx.Delete(m.path("role", r.Name)); err != nil {
		return fmt.Errorf("deleting %s: %w", roleKind, err)
	}
	return nil
}
