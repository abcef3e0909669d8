package access

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"

	"github.com/sealkeep/sealkeep/storage"
)

// The policies that every keep has.
const (
	RootPolicy    = "root"    // allows everything; cannot be changed
	DefaultPolicy = "default" // given to every token unless it opts out; can be changed
)

// defaultText is the default policy until it is replaced.
const defaultText = `# What every token may do: look at itself, renew and revoke itself.

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# Ask what it may do.

path "sys/capabilities-self" {
  capabilities = ["update"]
}

path "sys/internal/ui/resultant-acl" {
  capabilities = ["read"]
}

# Keep something for itself: what is in a cubbyhole ends with its token.

path "cubbyhole/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# Wrap data for somebody else, and unwrap what it was given.

path "sys/wrapping/wrap" {
  capabilities = ["update"]
}

path "sys/wrapping/lookup" {
  capabilities = ["update"]
}

path "sys/wrapping/unwrap" {
  capabilities = ["update"]
}
`

const (
	policyFolder  = "access/policy"
	policyVersion = 1 // of the record
)

type policyRecord struct {
	Version int    `json:"version"`
	Text    string `json:"text"`
}

// PolicyName returns the name as policies are stored and compared.
func PolicyName(name string) string { return CanonicalName(name) }

// policyPath returns the path of a policy's record, or "" if the name is impossible. A
// name may contain slashes: it is stored as one segment.
func policyPath(name string) string {
	segment := url.PathEscape(name)
	if segment == "" || len(segment) > storage.MaxSegment {
		return ""
	}
	return policyFolder + "/" + segment
}

// GetPolicy returns a policy, or nil if there is none of this name.
func GetPolicy(tx *storage.Tx, name string) (*Policy, error) {
	name = PolicyName(name)
	switch name {
	case RootPolicy:
		return &Policy{Name: name}, nil
	case WrappingPolicy:
		return ParsePolicy(name, wrappingText)
	}
	path := policyPath(name)
	if path == "" {
		return nil, nil
	}
	value, err := tx.Get(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading policy %q: %w", name, err)
	case value == nil && name == DefaultPolicy:
		return ParsePolicy(name, defaultText)
	case value == nil:
		return nil, nil
	}
	var r policyRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("decoding policy %q: %w: %w", name, storage.ErrCorrupt, err)
	}
	if r.Version != policyVersion {
		return nil, fmt.Errorf("decoding policy %q: %w: record version %d, this program reads %d", name, storage.ErrFormat, r.Version, policyVersion)
	}
	p, err := ParsePolicy(name, r.Text)
	if err != nil { // it was valid when it was written
		return nil, fmt.Errorf("parsing policy %q: %w: %v", name, storage.ErrFormat, err)
	}
	return p, nil
}

// HasPolicy reports whether there is a policy of this name, without parsing it.
func HasPolicy(tx *storage.Tx, name string) (bool, error) {
	name = PolicyName(name)
	switch name {
	case RootPolicy, WrappingPolicy, DefaultPolicy:
		return true, nil
	}
	path := policyPath(name)
	if path == "" {
		return false, nil
	}
	value, err := tx.Get(path)
	if err != nil {
		return false, fmt.Errorf("reading policy %q: %w", name, err)
	}
	return value != nil, nil
}

// PutPolicy writes a policy that [ParsePolicy] read. The error is [ErrInvalid] for a
// policy that cannot be changed.
func PutPolicy(tx *storage.Tx, p *Policy) error {
	name := PolicyName(p.Name)
	path := policyPath(name)
	switch {
	case path == "":
		return mistake("the name of a policy is empty, or longer than %d bytes as a URL has it", storage.MaxSegment)
	case name == RootPolicy || name == WrappingPolicy || name == "control-group":
		return mistake("cannot update %q policy", name)
	}
	if err := CheckName("policy", name); err != nil {
		return err
	}
	value, err := json.Marshal(policyRecord{policyVersion, p.Text})
	if err != nil {
		return fmt.Errorf("encoding policy %q: %w", name, err)
	}
	if err := tx.Put(path, value); err != nil {
		return fmt.Errorf("writing policy %q: %w", name, err)
	}
	return nil
}

// DeletePolicy removes a policy. It is not an error if there is none.
func DeletePolicy(tx *storage.Tx, name string) error {
	name = PolicyName(name)
	path := policyPath(name)
	switch {
	case name == RootPolicy || name == DefaultPolicy || name == WrappingPolicy:
		return mistake("cannot delete %q policy", name)
	case path == "":
		return nil
	}
	if err := tx.Delete(path); err != nil {
		return fmt.Errorf("deleting policy %q: %w", name, err)
	}
	return nil
}

// ListPolicies lists the names, sorted, with root at the end.
func ListPolicies(tx *storage.Tx) ([]string, error) {
	keys, err := tx.List(policyFolder)
	if err != nil {
		return nil, fmt.Errorf("listing policies: %w", err)
	}
	names := []string{DefaultPolicy}
	for _, key := range keys {
		name, err := url.PathUnescape(key)
		if err != nil {
			return nil, fmt.Errorf("listing policies: %w: %w", storage.ErrCorrupt, err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return append(slices.Compact(names), RootPolicy), nil
}
