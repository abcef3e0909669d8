package server

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/access"
)

// settings is decode for what is kept and decides who gets in: a field that in does
// not have is refused, since a setting which is dropped in silence may be the one
// that keeps others out. A field without a value asks for nothing, but for cas, and
// one that repeats the name in the path is no setting.
func (r *request) settings(in any) error { return r.settingsOf(r.Body, in) }

func (r *request) settingsOf(body []byte, in any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, in); err != nil {
		return invalid("failed to parse JSON input: %v", err)
	}
	return r.checkKnown(body, reflect.TypeOf(in))
}

// pathFields are the names that Vault, and clients that fill in a path from their
// parameters, have for what stands in the path.
var pathFields = []string{"mount_point", "name", "path", "path_prefix", "role", "role_name", "username"}

// repeats reports whether a field says what the request's path says.
func (r *request) repeats(name string, value json.RawMessage) bool {
	given := strings.Trim(access.CanonicalName(scalar(value)), "/")
	return slices.Contains(pathFields, name) && given != "" && strings.Contains("/"+access.CanonicalName(r.Path)+"/", "/"+given+"/")
}

// checkKnown refuses the fields of an object that a struct has no place for, and of
// the structs in it.
func (r *request) checkKnown(object []byte, of reflect.Type) error {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	var given map[string]json.RawMessage
	if json.Unmarshal(object, &given) != nil { // null
		return nil
	}
	known := make(map[string]reflect.Type)
	addFields(known, of)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		var field reflect.Type
		for k, t := range known {
			if strings.EqualFold(k, name) {
				field = t
			}
		}
		switch {
		case field == nil && (name == "cas" || !void(given[name])) && !r.repeats(name, given[name]):
			return invalid("the parameter %.100q is not supported here, and is not ignored in silence: leave it out; there are %s",
				name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		case field != nil && field.Kind() == reflect.Struct && !reflect.PointerTo(field).Implements(unmarshaler):
			if err := r.checkKnown(given[name], field); err != nil {
				return err
			}
		}
	}
	return nil
}

// addFields adds the fields of a struct by their name in JSON, and those of the
// structs embedded in it.
func addFields(to map[string]reflect.Type, of reflect.Type) {
	for f := range of.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			to[name] = f.Type
		} else if f.Anonymous {
			addFields(to, f.Type)
		}
	}
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// void reports whether a value says nothing: it is empty, zero or false, or has
// only such values in it.
func void(value json.RawMessage) bool {
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
