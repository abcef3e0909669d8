package cubbyhole

import (
	"bytes"
	"encoding/json"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// bodyMost is how many bytes a write may have, which may be indented: of what is
// larger than Max without its white space the client is told that limit.
const bodyMost = 2 * storage.MaxValue

// Type is the engine as every keep has it.
func Type() api.Type {
	return api.Type{
		Name: "cubbyhole", Kind: api.System, At: "cubbyhole/", Help: "per-token private secret storage",
		Routes: []api.Route{
			{Path: "", Help: "The names at the top of the caller's cubbyhole.",
				Ops: map[api.Op]api.Handler{api.Read: nameless, api.List: api.View(list), api.Write: nameless, api.Delete: nameless}},
			{Path: "{path...}", Help: "What the caller's token keeps at a path, and the names in a folder.", Exists: exists, Free: true, Body: bodyMost,
				Ops: map[api.Op]api.Handler{
					api.Read: api.View(get), api.List: api.View(list), api.Write: api.Do(put), api.Delete: api.Update(remove)}},
		},
	}
}

// nameless is what the top does without the name of a secret.
var nameless = api.Do(func(*api.Request, *api.None) (api.Answer, error) {
	return api.Answer{}, api.Invalid.Errorf("missing path")
})

func exists(r *api.Request, tx *storage.Tx) (bool, error) {
	object, err := Get(tx, r.Caller.Token, r.Param("path"))
	return object != nil, err
}

func get(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	object, err := Get(tx, r.Caller.Token, r.Param("path"))
	if err == nil && object == nil {
		err = api.ErrAbsent
	}
	return api.Answer{Data: object}, err
}

func list(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	return api.Keys(List(tx, r.Caller.Token, r.Param("path")))
}

func put(r *api.Request, in *api.Object) (api.Answer, error) {
	if in.JSON == nil {
		return api.Answer{}, api.Invalid.Errorf("missing data fields")
	}
	var object bytes.Buffer // compacted, and checked, where no other write waits for it
	if err := json.Compact(&object, in.JSON); err != nil {
		return api.Answer{}, err
	}
	if err := checkSize(object.Len()); err != nil {
		return api.Answer{}, err
	}
	return api.Answer{}, r.Update(func(tx *storage.Tx) error {
		return Put(tx, r.Caller.Token, r.Param("path"), object.Bytes())
	})
}

func remove(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	return api.Answer{}, Delete(tx, r.Caller.Token, r.Param("path"))
}
