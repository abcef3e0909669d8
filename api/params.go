package api

import (
	"bytes"
	"encoding/json"
	"reflect"
	"time"

	"github.com/sealkeep/sealkeep/access"
)

// Params are what the rules of a policy about parameters see of a request: what the
// handler reads, as encoding/json decodes it with json.Number. The error is an
// [Error]: a name stands twice, or is spelled as the handler does not read it.
func (h Handler) Params(r *Request, given map[string]json.RawMessage, free bool) (map[string]any, error) {
	params := make(map[string]any)
	if !r.Op.HasBody() || h.up {
		for name, values := range r.Query {
			switch {
			case len(values) > 1:
				return nil, Invalid.Errorf("the parameter %.100s stands twice in the query, which is refused where a policy restricts parameters", name)
			case name == "list" || name == "scan": // these say which operation it is
				continue
			}
			params[name] = values[0]
		}
		return params, h.checkSpelling(params)
	}
	body := bytes.TrimSpace(r.Body)
	if len(body) == 0 {
		return params, nil
	}
	if given == nil { // whoever decodes by itself need not say
		var err error
		if given, err = Members(body); err != nil {
			return nil, err
		}
	}
	switch text := ShapeOf(r.Body); {
	case text.Levels > MaxLevels:
		return nil, ErrLevels
	case text.Twice: // which of them counts must not depend on who reads it
		return nil, Invalid.Errorf("a name stands twice in the same JSON object, which is refused where a policy restricts parameters")
	}
	for name, raw := range given {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		var value any
		if err := d.Decode(&value); err != nil {
			return nil, Invalid.Errorf("failed to parse JSON input: %v", err)
		}
		params[name] = value
	}
	if free {
		return params, nil
	}
	return params, h.checkSpelling(params)
}

// checkSpelling refuses a name that only folds to one that the handler reads: it may
// be meant for that, and a policy must not be told otherwise.
func (h Handler) checkSpelling(params map[string]any) error {
	known := h.Names()
	for name := range params {
		for _, is := range known {
			if name != is && access.FoldParameter(name) == is {
				return Invalid.Errorf("the parameter %.100q is spelled %s here: another spelling is refused where a policy restricts parameters", name, is)
			}
		}
	}
	return nil
}

// ParamKind says how the handler reads a parameter.
func (h Handler) ParamKind(name string) access.ParameterKind {
	if _, ok := h.fresh().(Decoder); ok {
		return access.JSONParameter
	}
	f := h.plan.find(name)
	if f == nil {
		return access.TextParameter // which nobody reads
	}
	of := f.of
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch {
	case of == reflect.TypeFor[time.Duration](), of == reflect.TypeFor[Seconds]():
		return access.DurationParameter
	case of == reflect.TypeFor[[]string](), of == reflect.TypeFor[[]uint64]():
		return access.ListParameter
	}
	switch of.Kind() {
	case reflect.Bool:
		return access.FlagParameter
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		return access.NumberParameter
	case reflect.String:
		return access.TextParameter
	}
	return access.JSONParameter
}
