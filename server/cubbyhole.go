package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// cubbyholeRoutes is where each token keeps what no other sees. Its paths are in
// the token's own cubbyhole.
var cubbyholeRoutes = []oldRoute{
	{path: "cubbyhole", gate: authenticated, body: bodySmall, timeout: timeoutShort, on: [ops]handler{opRead: cubbyholeRoot, opList: cubbyholeList, opWrite: cubbyholeRoot, opDelete: cubbyholeRoot}},
	{path: "cubbyhole/*", free: true, gate: authenticated, exists: cubbyholeExists, body: bodyKV, timeout: timeoutShort, on: [ops]handler{opRead: cubbyholeRead, opList: cubbyholeList, opWrite: cubbyholeWrite, opDelete: cubbyholeDelete}},
}

// builtin lists what is there without having been mounted, and shown as if it
// had been. Their UUIDs are made from the store's, so that they stay the same.
func (k *keep) builtin() []*api.Mount { return []*api.Mount{k.system(), k.cubbyhole()} }

func (k *keep) cubbyhole() *api.Mount {
	h := sha256.Sum256([]byte("cubbyhole/" + k.store.UUID()))
	id := fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
	return &api.Mount{
		Path: "cubbyhole/", UUID: id, Accessor: "cubbyhole_" + id[:8], Type: "cubbyhole", Description: "per-token private secret storage",
	}
}

// mountAt is the mount at a path without the slash at its end, nil when there is
// none.
func (k *keep) mountAt(path string) *api.Mount {
	for _, m := range k.builtin() {
		if m.Path == path+"/" {
			return m
		}
	}
	return k.mounts.Load().byPath[path]
}

func cubbyholeExists(r *request, tx *storage.Tx) (bool, error) {
	object, err := r.Caller.Token.Secret(tx, r.rest)
	return object != nil, err
}

func cubbyholeRoot(s *Server, r *request) (answer, error) { return answer{}, invalid("missing path") }

func cubbyholeRead(s *Server, r *request) (a answer, err error) {
	err = r.keep.store.View(r.Context, func(tx *storage.Tx) error {
		object, err := r.Caller.Token.Secret(tx, r.rest)
		if err == nil && object == nil {
			err = api.ErrAbsent
		}
		a.data = object
		return err
	})
	return a, err
}

func cubbyholeList(s *Server, r *request) (a answer, err error) {
	err = r.keep.store.View(r.Context, func(tx *storage.Tx) error {
		names, err := r.Caller.Token.Secrets(tx, r.rest)
		if err == nil && len(names) == 0 {
			err = api.ErrAbsent
		}
		a.data = map[string]any{"keys": names}
		return err
	})
	return a, err
}

func cubbyholeWrite(s *Server, r *request) (answer, error) {
	object, err := r.object()
	if err != nil {
		return answer{}, err
	}
	if object == nil {
		return answer{}, invalid("missing data fields")
	}
	var compact bytes.Buffer // as it is kept
	if err := json.Compact(&compact, object); err != nil {
		return answer{}, err
	}
	if compact.Len() > access.MaxCubbyhole { // no need for other writers to wait for that
		return answer{}, fmt.Errorf("%w: a cubbyhole has at most %d bytes in all", storage.ErrTooLarge, access.MaxCubbyhole)
	}
	return answer{}, r.setSecret(compact.Bytes())
}

func cubbyholeDelete(s *Server, r *request) (answer, error) { return answer{}, r.setSecret(nil) }

func (r *request) setSecret(object json.RawMessage) error {
	return r.keep.store.Update(r.Context, func(tx *storage.Tx) error {
		if err := r.mayWrite(tx); err != nil { // again: another may have been quicker
			return err
		}
		return r.Caller.Token.SetSecret(tx, r.rest, object)
	})
}

// object is the whole body, a JSON object; nil when there is nothing in it.
func (r *request) object() (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if !utf8.Valid(r.Body) {
		return nil, invalid("failed to parse JSON input: it is not valid UTF-8")
	}
	if err := r.decode(&fields); err != nil || len(fields) == 0 {
		return nil, err
	}
	switch text := api.ShapeOf(r.Body); {
	case text.Levels > api.MaxLevels:
		return nil, api.ErrLevels
	case text.Twice:
		return api.Last(r.Body)
	}
	return r.Body, nil
}
