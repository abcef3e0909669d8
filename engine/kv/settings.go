package kv

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// configInput is the body of a change of a mount's settings; metadataInput that of
// a secret's. What is nil is not changed.
type configInput struct {
	MaxVersions         *int           `json:"max_versions"`
	CASRequired         *bool          `json:"cas_required"`
	MetadataCASRequired *bool          `json:"metadata_cas_required"`
	DeleteVersionAfter  *time.Duration `json:"delete_version_after"`
}

type metadataInput struct {
	configInput
	Custom      json.RawMessage `json:"custom_metadata"`
	MetadataCAS *int            `json:"metadata_cas"`
}

func (in *configInput) settings() Settings {
	return Settings{
		MaxVersions: in.MaxVersions, CASRequired: in.CASRequired,
		MetadataCASRequired: in.MetadataCASRequired, DeleteVersionAfter: in.DeleteVersionAfter,
	}
}

func readConfig(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	e, _ := of(r)
	c, err := e.Config(tx)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: c}, nil
}

func writeConfig(r *api.Request, tx *storage.Tx, in *configInput) (api.Answer, error) {
	e, _ := of(r)
	return api.Answer{}, e.PutConfig(tx, in.settings())
}

func readMetadata(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	e, path := of(r)
	m, err := e.Metadata(tx, path)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: m}, nil
}

func writeMetadata(r *api.Request, tx *storage.Tx, in *metadataInput) (api.Answer, error) {
	return changeMetadata(r, tx, in, Engine.PutMetadata)
}

func patchMetadata(r *api.Request, tx *storage.Tx, in *metadataInput) (api.Answer, error) {
	return changeMetadata(r, tx, in, Engine.PatchMetadata)
}

// changeMetadata warns of settings that the mount overrules.
func changeMetadata(r *api.Request, tx *storage.Tx, in *metadataInput,
	change func(Engine, *storage.Tx, string, Settings, Data, *int, time.Time) error) (a api.Answer, err error) {
	custom, err := Parse("custom_metadata", in.Custom)
	if err != nil {
		return a, err
	}
	e, path := of(r)
	c, err := e.Config(tx)
	if err != nil {
		return a, err
	}
	overrule := func(name string, set *bool, mandated bool) {
		if mandated && set != nil && !*set {
			a.Warnings = append(a.Warnings, fmt.Sprintf("%q set to false, but is mandated by backend config. This value will be ignored.", name))
		}
	}
	overrule("cas_required", in.CASRequired, c.CASRequired)
	overrule("metadata_cas_required", in.MetadataCASRequired, c.MetadataCASRequired)
	return a, change(e, tx, path, in.settings(), custom, in.MetadataCAS, r.Now)
}

func removeMetadata(r *api.Request, _ *api.None) (api.Answer, error) {
	e, path := of(r)
	return api.Answer{}, updates(r, func(tx *storage.Tx) (bool, error) { return e.DeleteMetadata(tx, path) })
}
