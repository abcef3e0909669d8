package server

import (
	"cmp"
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/storage"
)

func kvList(s *Server, r *request) (answer, error) { return r.list(false) }

// kvListDetailed is OpenBao's list of the names with what is known of each.
func kvListDetailed(s *Server, r *request) (answer, error) { return r.list(true) }

// Bounds of one answer, which is made in memory.
const (
	maxScanned   = 100_000  // secrets that a scan names
	maxDescribed = 16 << 20 // bytes of what is known of the names
)

// list answers with the names in a folder, beginning behind the parameter after
// and at most limit of them, as OpenBao has it.
func (r *request) list(detailed bool) (answer, error) {
	limit, err := strconv.Atoi(cmp.Or(r.query.Get("limit"), "0"))
	if err != nil {
		return answer{}, invalid("bad value for limit parameter: %q is not a whole number", r.query.Get("limit"))
	}
	data := make(map[string]any)
	err = r.view(func(tx *storage.Tx, e kv.Engine) error {
		keys, err := e.List(tx, r.rest)
		if err != nil {
			return err
		}
		if after := r.query.Get("after"); after != "" {
			i, found := slices.BinarySearch(keys, after)
			if found {
				i++
			}
			keys = keys[i:]
		}
		if limit > 0 {
			keys = keys[:min(limit, len(keys))]
		}
		if len(keys) == 0 {
			return kv.ErrNotFound
		}
		data["keys"] = keys
		if !detailed {
			return nil
		}
		data["key_info"], err = r.describe(tx, e, keys, "ask for them in pages with limit and after")
		return err
	})
	return answer{data: data, warnings: ignored(r.query, metadataFields)}, err
}

// describe returns what is known of each name in a folder.
func (r *request) describe(tx *storage.Tx, e kv.Engine, keys []string, instead string) (map[string]json.RawMessage, error) {
	info, size := make(map[string]json.RawMessage, len(keys)), 0
	for _, key := range keys {
		if strings.HasSuffix(key, "/") {
			info[key] = json.RawMessage("{}")
			continue
		}
		m, err := e.Metadata(tx, path.Join(r.rest, key))
		if err != nil {
			return nil, err
		}
		info[key] = m.AppendJSON(nil)
		if size += len(info[key]); size > maxDescribed {
			return nil, invalid("what is known of these %d names is more than the %d MiB of one answer: %s", len(keys), maxDescribed>>20, instead)
		}
	}
	return info, nil
}

func kvScan(s *Server, r *request) (answer, error) { return r.scan(false, maxScanned) }

func kvScanDetailed(s *Server, r *request) (answer, error) { return r.scan(true, maxScanned) }

// scan answers with the secrets in a folder and in all folders in it. It has no
// pages and, where there are none, an empty answer, as in OpenBao.
func (r *request) scan(detailed bool, most int) (answer, error) {
	const instead = "list the folder, and scan the folders in it"
	data := make(map[string]any)
	err := r.view(func(tx *storage.Tx, e kv.Engine) error {
		keys, err := e.Scan(tx, r.rest, most+1)
		switch {
		case err != nil || len(keys) == 0:
			return err
		case len(keys) > most:
			return invalid("there are more than the %d secrets that a scan names: %s", most, instead)
		}
		data["keys"] = keys
		if detailed {
			data["key_info"], err = r.describe(tx, e, keys, instead)
		}
		return err
	})
	return answer{data: data, warnings: ignored(r.query, metadataFields)}, err
}
