package approle

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/login"
	"github.com/sealkeep/sealkeep/storage"
)

type newSecretIDInput struct {
	SecretID   string          `json:"secret_id"`
	Metadata   json.RawMessage `json:"metadata"`
	CIDRs      []string        `json:"cidr_list"`
	TokenCIDRs []string        `json:"token_bound_cidrs"`
	NumUses    *int            `json:"num_uses"`
	TTL        *time.Duration  `json:"ttl"`
}

func makeSecretID(r *api.Request, tx *storage.Tx, in *newSecretIDInput) (api.Answer, error) {
	return addSecretID(r, tx, in, storage.NewUUID())
}

func takeSecretID(r *api.Request, tx *storage.Tx, in *newSecretIDInput) (api.Answer, error) {
	return addSecretID(r, tx, in, in.SecretID)
}

func addSecretID(r *api.Request, tx *storage.Tx, in *newSecretIDInput, secret string) (a api.Answer, err error) {
	var id secretID
	if id.Meta, err = login.Pairs(in.Metadata); err != nil {
		return a, api.Invalid.Errorf("failed to parse metadata: %v", err)
	}
	if id.BoundCIDRs, err = access.ParseCIDRs(in.CIDRs); err != nil {
		return a, err
	}
	if id.TokenCIDRs, err = access.ParseCIDRs(in.TokenCIDRs); err != nil {
		return a, err
	}
	role, err := named(r, tx)
	if err != nil {
		return a, err
	}
	id.NumUses, id.TTL = role.SecretIDNumUses, role.SecretIDTTL
	api.Set(&id.NumUses, in.NumUses)
	api.Set(&id.TTL, in.TTL)
	if err := of(r).add(tx, role, secret, &id, r.Mount.Longest(), r.Now); err != nil {
		return a, err
	}
	a.Data = told(secret, &id)
	return a, nil
}

// told is what a new secret ID is told with.
func told(secret string, id *secretID) map[string]any {
	return map[string]any{
		"secret_id": secret, "secret_id_accessor": id.Accessor, "secret_id_ttl": login.Seconds(id.TTL), "secret_id_num_uses": id.NumUses,
	}
}

func listAccessors(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	role, err := named(r, tx)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Keys(of(r).accessors(tx, role))
}

type secretIDInput struct {
	SecretID string `json:"secret_id"`
	Accessor string `json:"secret_id_accessor"`
}

// A finder reads the secret ID that a request names, and its role.
type finder func(*api.Request, *storage.Tx, *secretIDInput) (*role, *secretID, error)

// bySecretID finds a secret ID by itself, nil when there is none.
func bySecretID(r *api.Request, tx *storage.Tx, in *secretIDInput) (*role, *secretID, error) {
	if in.SecretID == "" {
		return nil, nil, api.Invalid.Errorf("missing secret_id")
	}
	role, err := named(r, tx)
	if err != nil {
		return nil, nil, err
	}
	id, err := of(r).secretID(tx, role, strings.TrimSpace(in.SecretID))
	return role, id, err
}

// byAccessor finds a secret ID by its accessor. That there is none is an error here,
// as with Vault.
func byAccessor(r *api.Request, tx *storage.Tx, in *secretIDInput) (*role, *secretID, error) {
	if in.Accessor == "" {
		return nil, nil, api.Invalid.Errorf("missing secret_id_accessor")
	}
	role, err := named(r, tx)
	if err != nil {
		return nil, nil, err
	}
	id, err := of(r).byAccessor(tx, role, in.Accessor)
	if err == nil && id == nil {
		err = api.NotFound.Errorf("failed to find accessor entry for secret_id_accessor: %q", in.Accessor)
	}
	return role, id, err
}

func lookup(find finder) api.Handler {
	return api.View(func(r *api.Request, tx *storage.Tx, in *secretIDInput) (api.Answer, error) {
		_, id, err := find(r, tx, in)
		if err != nil || id == nil {
			return api.Answer{}, err
		}
		return api.Answer{Data: known(id)}, nil
	}).Answers(known(new(secretID)))
}

// known is what is known of a secret ID.
func known(id *secretID) map[string]any {
	meta := id.Meta
	if meta == nil {
		meta = map[string]string{}
	}
	return map[string]any{
		"secret_id_accessor": id.Accessor,
		"secret_id_num_uses": id.NumUses,
		"secret_id_ttl":      login.Seconds(id.TTL),
		"creation_time":      id.Created,
		"expiration_time":    id.Expires,
		"last_updated_time":  id.Updated,
		"metadata":           meta,
		"cidr_list":          append([]string{}, showPrefixes(id.BoundCIDRs)...),
		"token_bound_cidrs":  append([]string{}, showPrefixes(id.TokenCIDRs)...),
	}
}

func destroy(find finder) api.Handler {
	return api.Update(func(r *api.Request, tx *storage.Tx, in *secretIDInput) (api.Answer, error) {
		role, id, err := find(r, tx, in)
		if err != nil || id == nil {
			return api.Answer{}, err
		}
		return api.Answer{}, of(r).destroy(tx, role.Folder, id)
	})
}
