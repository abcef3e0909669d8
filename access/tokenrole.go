package access

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// A Role describes the tokens made with auth/token/create/<name>.
type Role struct {
	Name                   string         `json:"-"`
	AllowedPolicies        []string       `json:"allowed_policies"`
	AllowedPoliciesGlob    []string       `json:"allowed_policies_glob"`
	DisallowedPolicies     []string       `json:"disallowed_policies"`
	DisallowedPoliciesGlob []string       `json:"disallowed_policies_glob"`
	Orphan                 bool           `json:"orphan"`
	Renewable              bool           `json:"renewable"`
	PathSuffix             string         `json:"path_suffix"`
	ExplicitMaxTTL         time.Duration  `json:"explicit_max_ttl"`
	Period                 time.Duration  `json:"period"`
	NumUses                int            `json:"num_uses"`
	NoDefaultPolicy        bool           `json:"no_default_policy"`
	Type                   string         `json:"type"` // "default-service" or "service"
	BoundCIDRs             []netip.Prefix `json:"bound_cidrs,omitempty"`
}

const (
	roleFolder   = "access/token-role"
	roleVersion  = 1
	maxRoleName  = 256 // bytes
	maxRoleLists = 64 << 10
)

type roleRecord struct {
	Version int `json:"version"`
	*Role
}

func rolePath(name string) (string, error) {
	if name == "" || len(name) > maxRoleName || strings.Contains(name, "/") {
		return "", mistake("the name of a role has 1 to %d bytes and no slash", maxRoleName)
	}
	return roleFolder + "/" + name, nil
}

// GetRole returns a role, or nil if there is none.
func GetRole(tx *storage.Tx, name string) (*Role, error) {
	path, err := rolePath(name)
	if err != nil {
		return nil, err
	}
	value, err := tx.Get(path)
	if err != nil || value == nil {
		return nil, err
	}
	r := roleRecord{Role: &Role{Name: name}}
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("decoding the token role %q: %w: %w", name, storage.ErrCorrupt, err)
	}
	if r.Version != roleVersion {
		return nil, fmt.Errorf("decoding the token role %q: %w: record version %d, this program reads %d", name, storage.ErrFormat, r.Version, roleVersion)
	}
	r.canonical() // older records are not canonical
	return r.Role, nil
}

// lists returns the lists of names and patterns of policies in the role.
func (r *Role) lists() []*[]string {
	return []*[]string{&r.AllowedPolicies, &r.AllowedPoliciesGlob, &r.DisallowedPolicies, &r.DisallowedPoliciesGlob}
}

// canonical makes the lists canonical, as they are compared with a token's policies.
func (r *Role) canonical() {
	for _, list := range r.lists() {
		*list = CanonicalNames(*list)
	}
}

// PutRole writes a role.
func PutRole(tx *storage.Tx, r *Role) error {
	path, err := rolePath(r.Name)
	if err != nil {
		return err
	}
	r.canonical()
	for _, list := range r.lists() {
		if err := checkNames("policy", *list); err != nil {
			return err
		}
	}
	if err := cmp.Or(CheckName("role", r.Name), CheckName("path", r.PathSuffix)); err != nil {
		return err
	}
	switch {
	case r.ExplicitMaxTTL < 0 || r.Period < 0:
		return mistake("the durations of a role cannot be negative")
	case r.NumUses < 0:
		return mistake("'token_num_uses' cannot be negative")
	case max(len(r.AllowedPolicies), len(r.AllowedPoliciesGlob), len(r.DisallowedPolicies), len(r.DisallowedPoliciesGlob)) > maxPolicies:
		return mistake("each list of policies of a role has at most %d entries", maxPolicies) // each is compared with each of a token's
	case len(r.PathSuffix) > maxRoleName || strings.Contains(r.PathSuffix, ".."):
		return mistake("path_suffix has at most %d bytes and no parent references", maxRoleName)
	}
	value, err := json.Marshal(roleRecord{roleVersion, r})
	if err != nil {
		return fmt.Errorf("encoding the token role %q: %w", r.Name, err)
	}
	if len(value) > maxRoleLists {
		return mistake("a role has at most %d bytes in all", maxRoleLists)
	}
	return tx.Put(path, value)
}

// DeleteRole deletes a role. Its tokens stay, but can no longer be renewed.
func DeleteRole(tx *storage.Tx, name string) error {
	path, err := rolePath(name)
	if err != nil {
		return err
	}
	return tx.Delete(path)
}

// ListRoles lists the roles by name.
func ListRoles(tx *storage.Tx) ([]string, error) { return tx.List(roleFolder) }
