package api

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/access"
)

// checkKnown refuses the fields of an object that a struct has no place for, and of
// the structs in it: a setting which is dropped in silence may be the one that keeps
// others out. A field without a value asks for nothing, but for cas, and one that
// repeats the name in the path is no setting.
func (p *plan) checkKnown(r *Request, given map[string]json.RawMessage) error {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		f := p.find(name)
		switch {
		case f == nil && (name == "cas" || !Void(given[name])) && !repeats(r, name, given[name]):
			var known []string
			for _, f := range p.fields {
				known = append(known, f.name)
			}
			return Invalid.Errorf("the parameter %.100q is not supported here, and is not ignored in silence: leave it out; there are %s",
				name, strings.Join(known, ", "))
		case f != nil && f.nested != nil:
			var members map[string]json.RawMessage
			if json.Unmarshal(given[name], &members) == nil {
				if err := f.nested.checkKnown(r, members); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// pathFields are the names that Vault, and clients that fill in a path from their
// parameters, have for what stands in the path.
var pathFields = []string{"mount_point", "name", "path", "path_prefix", "role", "role_name", "username"}

// repeats reports whether a field says what the request's path says.
func repeats(r *Request, name string, value json.RawMessage) bool {
	given := strings.Trim(access.CanonicalName(Scalar(value)), "/")
	return slices.Contains(pathFields, name) && given != "" && strings.Contains("/"+access.CanonicalName(r.Path)+"/", "/"+given+"/")
}

// Void reports whether a value says nothing: it is empty, zero or false, or has
// only such values in it.
func Void(value json.RawMessage) bool {
	var v any
	return json.Unmarshal(value, &v) == nil && voidValue(v)
}

func voidValue(v any) bool {
	switch v := v.(type) {
	case string:
		return v == "" || v == "0" || v == "0s" || v == "false"
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !voidValue(e) })
	case map[string]any:
		for _, e := range v {
			if !voidValue(e) {
				return false
			}
		}
		return true
	}
	return v == nil || v == false || v == 0.0
}

// Set changes what is given.
func Set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
