package kv

import (
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// Bounds of one answer, which is made in memory.
const (
	maxScanned   = 100_000  // secrets that a scan names
	maxDescribed = 16 << 20 // bytes of what is known of the names
)

// listInput has a list begin behind a name, and end after a number of them, as
// OpenBao has it.
type listInput struct {
	After string `json:"after"`
	Limit int    `json:"limit"` // 0 or less: all
}

func list(r *api.Request, tx *storage.Tx, in *listInput) (api.Answer, error) {
	return listFolder(r, tx, in, false)
}

// listDetailed is OpenBao's list of the names with what is known of each.
func listDetailed(r *api.Request, tx *storage.Tx, in *listInput) (api.Answer, error) {
	return listFolder(r, tx, in, true)
}

func listFolder(r *api.Request, tx *storage.Tx, in *listInput, detailed bool) (api.Answer, error) {
	e, folder := of(r)
	keys, err := e.List(tx, folder)
	if err != nil {
		return api.Answer{}, err
	}
	if in.After != "" {
		i, found := slices.BinarySearch(keys, in.After)
		if found {
			i++
		}
		keys = keys[i:]
	}
	if in.Limit > 0 {
		keys = keys[:min(in.Limit, len(keys))]
	}
	if len(keys) == 0 {
		return api.Answer{}, ErrNotFound
	}
	data := map[string]any{"keys": keys}
	if detailed {
		if data["key_info"], err = describe(tx, e, folder, keys, "ask for them in pages with limit and after"); err != nil {
			return api.Answer{}, err
		}
	}
	return api.Answer{Data: data}, nil
}

// describe returns what is known of each name in a folder.
func describe(tx *storage.Tx, e Engine, folder string, keys []string, instead string) (map[string]json.RawMessage, error) {
	info, size := make(map[string]json.RawMessage, len(keys)), 0
	for _, key := range keys {
		if strings.HasSuffix(key, "/") {
			info[key] = json.RawMessage("{}")
			continue
		}
		m, err := e.Metadata(tx, path.Join(folder, key))
		if err != nil {
			return nil, err
		}
		info[key] = m.AppendJSON(nil)
		if size += len(info[key]); size > maxDescribed {
			return nil, api.Invalid.Errorf("what is known of these %d names is more than the %d MiB of one answer: %s", len(keys), maxDescribed>>20, instead)
		}
	}
	return info, nil
}

func scan(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	return scanFolder(r, tx, false, maxScanned)
}

func scanDetailed(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	return scanFolder(r, tx, true, maxScanned)
}

// scanFolder answers with the secrets in a folder and in all folders in it. It has
// no pages and, where there are none, an empty answer, as in OpenBao.
func scanFolder(r *api.Request, tx *storage.Tx, detailed bool, most int) (api.Answer, error) {
	const instead = "list the folder, and scan the folders in it"
	e, folder := of(r)
	data := make(map[string]any)
	keys, err := e.Scan(tx, folder, most+1)
	switch {
	case err != nil:
		return api.Answer{}, err
	case len(keys) == 0:
		return api.Answer{Data: data}, nil
	case len(keys) > most:
		return api.Answer{}, api.Invalid.Errorf("there are more than the %d secrets that a scan names: %s", most, instead)
	}
	data["keys"] = keys
	if detailed {
		if data["key_info"], err = describe(tx, e, folder, keys, instead); err != nil {
			return api.Answer{}, err
		}
	}
	return api.Answer{Data: data}, nil
}
