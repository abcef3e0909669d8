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
	MaxScanned   = 100_000  // secrets that a scan names
	maxDescribed = 16 << 20 // bytes of what is known of the names
)

// A Page has a list begin behind a name, and end after a number of them, as
// OpenBao has it.
type Page struct {
	After string `json:"after"`
	Limit int    `json:"limit"` // 0 or less: all
}

// Of returns the names on the page.
func (p Page) Of(names []string) []string {
	if p.After != "" {
		i, found := slices.BinarySearch(names, p.After)
		if found {
			i++
		}
		names = names[i:]
	}
	if p.Limit > 0 {
		names = names[:min(p.Limit, len(names))]
	}
	return names
}

func list(r *api.Request, tx *storage.Tx, in *Page) (api.Answer, error) {
	return listFolder(r, tx, in, false)
}

// listDetailed is OpenBao's list of the names with what is known of each.
func listDetailed(r *api.Request, tx *storage.Tx, in *Page) (api.Answer, error) {
	return listFolder(r, tx, in, true)
}

func listFolder(r *api.Request, tx *storage.Tx, in *Page, detailed bool) (api.Answer, error) {
	e, folder := of(r)
	keys, err := e.List(tx, folder)
	if err != nil {
		return api.Answer{}, err
	}
	if keys = in.Of(keys); len(keys) == 0 {
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
	return scanFolder(r, tx, false, MaxScanned)
}

func scanDetailed(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	return scanFolder(r, tx, true, MaxScanned)
}

const insteadOfScan = "list the folder, and scan the folders in it"

// scanFolder answers with the secrets in a folder and in all folders in it.
func scanFolder(r *api.Request, tx *storage.Tx, detailed bool, most int) (api.Answer, error) {
	e, folder := of(r)
	keys, err := e.Scan(tx, folder, most+1)
	a, err := Scanned(keys, most, err)
	if data, _ := a.Data.(map[string]any); detailed && len(data) > 0 {
		if data["key_info"], err = describe(tx, e, folder, keys, insteadOfScan); err != nil {
			return api.Answer{}, err
		}
	}
	return a, err
}

// Scanned is the answer to a scan, which has at most so many names. It has no
// pages and, where there are none, an empty answer, as in OpenBao.
func Scanned(names []string, most int, err error) (api.Answer, error) {
	data := make(map[string]any)
	switch {
	case err != nil:
		return api.Answer{}, err
	case len(names) > most:
		return api.Answer{}, api.Invalid.Errorf("there are more than the %d secrets that a scan names: %s", most, insteadOfScan)
	case len(names) > 0:
		data["keys"] = names
	}
	return api.Answer{Data: data}, nil
}
