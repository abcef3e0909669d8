package kv

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strconv"

	"github.com/sealkeep/sealkeep/api"
)

// dataInput is the body of a write or a patch of data. It is read before the
// transaction begins: a large secret must not be checked while other writers wait.
type dataInput struct {
	data Data
	cas  *int
}

// Names are the fields of the body.
func (*dataInput) Names() []string { return []string{"options", "data"} }

// Fields says what they are.
func (*dataInput) Fields() []api.Field {
	cas := []api.Field{{Name: "cas", Kind: api.NumberField}}
	return []api.Field{{Name: "data", Kind: api.ObjectField}, {Name: "options", Kind: api.ObjectField, Fields: cas}}
}

// Decode reads the body in one pass.
func (in *dataInput) Decode(r *api.Request) (given map[string]json.RawMessage, err error) {
	var options map[string]json.RawMessage
	var text api.Shape
	if body := bytes.TrimSpace(r.Body); len(body) > 0 && body[0] == '{' && json.Valid(body) {
		text = api.ShapeOf(body)
		given = text.Members
	} else if len(body) > 0 {
		if given, err = api.Members(body); err != nil {
			return nil, err
		}
	}
	if raw := given["options"]; raw != nil {
		if err := json.Unmarshal(raw, &options); err != nil {
			return given, api.Invalid.Errorf("options must be a JSON object")
		}
	}
	if raw, is := options["cas"]; is { // null counts as 0, as in Vault: it checks
		n, err := strconv.Atoi(cmp.Or(api.Scalar(raw), "0"))
		if err != nil {
			return given, api.Invalid.Errorf("error parsing check-and-set parameter")
		}
		in.cas = &n
	}
	data := given["data"]
	if text.Levels > api.MaxLevels+1 {
		return given, api.ErrLevels
	}
	if text.Twice && data != nil {
		if data, err = api.Last(data); err != nil {
			return given, err
		}
	}
	if text.Twice || text.Spaced {
		in.data, err = Parse("data", data)
	} else {
		in.data, err = Compact("data", data)
	}
	return given, err
}
