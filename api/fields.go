package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"
)

// A FieldKind is what kind of value a field takes, in the words of JSON Schema
// where it has them.
type FieldKind string

const (
	TextField     FieldKind = "string"
	FlagField     FieldKind = "boolean"
	NumberField   FieldKind = "integer"
	DurationField FieldKind = "duration" // a number of seconds, or a text like "1h30m"
	TextsField    FieldKind = "array of strings"
	NumbersField  FieldKind = "array of integers"
	ObjectField   FieldKind = "object"
	AnyField      FieldKind = "any" // the handler reads it by itself
)

// A Field is one that a handler takes, or answers with, for those who describe the API.
type Field struct {
	Name   string
	Kind   FieldKind
	Fields []Field // of an object of which they are known
}

// Fields are the parameters that the handler knows, by name. Of a [Decoder] that does
// not say more, only the names are known. The list is the caller's own.
func (h Handler) Fields() []Field {
	in := h.fresh()
	if d, ok := in.(interface{ Fields() []Field }); ok {
		return slices.Clone(d.Fields())
	}
	d, ok := in.(Decoder)
	if !ok {
		return h.plan.describe()
	}
	var fields []Field
	for _, name := range slices.Sorted(slices.Values(d.Names())) {
		fields = append(fields, Field{Name: name, Kind: AnyField})
	}
	return fields
}

// Answers says what the handler's [Answer.Data] is like, by an example that has every
// field: see [FieldsOf].
func (h Handler) Answers(example any) Handler {
	h.data = example
	return h
}

// Out are the fields of Answer.Data, by name; nil where they are not fixed. A list
// answers as [Keys] does unless its handler says more.
func (r *Route) Out(op Op) []Field {
	switch example := r.Ops[op].data; {
	case example != nil:
		return FieldsOf(example)
	case op.Folder():
		return []Field{{Name: "keys", Kind: TextsField}}
	}
	return nil
}

// FieldsOf describes a value by what it is as JSON, where an empty list is one of
// texts, an empty object has any names and null may be anything; the lists in a map are
// described by their types. A value that is no object is a mistake in the program.
func FieldsOf(v any) []Field {
	b, err := json.Marshal(v)
	var members map[string]any
	if err == nil {
		err = json.Unmarshal(b, &members)
	}
	if err != nil {
		panic(fmt.Sprintf("api: the example %T: %v", v, err))
	}
	fields := fieldsOf(members)
	values, _ := v.(map[string]any)
	for i, f := range fields {
		if of := reflect.TypeOf(values[f.Name]); of != nil && of.Kind() == reflect.Slice {
			switch of.Elem().Kind() {
			case reflect.String:
				fields[i].Kind = TextsField
			case reflect.Int, reflect.Uint32, reflect.Uint64:
				fields[i].Kind = NumbersField
			}
		}
	}
	return fields
}

func fieldsOf(members map[string]any) []Field {
	fields := make([]Field, 0, len(members))
	for _, name := range slices.Sorted(maps.Keys(members)) {
		f := Field{Name: name, Kind: AnyField}
		switch v := members[name].(type) {
		case string:
			f.Kind = TextField
		case bool:
			f.Kind = FlagField
		case float64:
			f.Kind = NumberField
		case map[string]any:
			f.Kind, f.Fields = ObjectField, fieldsOf(v)
		case []any:
			f.Kind = TextsField
			if len(v) > 0 {
				f.Kind = AnyField
			}
		}
		fields = append(fields, f)
	}
	return fields
}

func (p *plan) describe() []Field {
	var fields []Field
	for _, f := range p.fields {
		d := Field{Name: f.name, Kind: kindOf(f.of)}
		if f.nested != nil {
			d.Kind, d.Fields = ObjectField, f.nested.describe()
		}
		fields = append(fields, d)
	}
	return fields
}

// kindOf is what field.set reads into a type.
func kindOf(of reflect.Type) FieldKind {
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch of {
	case reflect.TypeFor[time.Duration](), reflect.TypeFor[Seconds]():
		return DurationField
	case reflect.TypeFor[[]string]():
		return TextsField
	case reflect.TypeFor[[]uint64]():
		return NumbersField
	case reflect.TypeFor[json.RawMessage]():
		return AnyField
	}
	if reflect.PointerTo(of).Implements(unmarshaler) {
		return AnyField
	}
	switch of.Kind() {
	case reflect.String:
		return TextField
	case reflect.Bool:
		return FlagField
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		return NumberField
	case reflect.Map:
		return ObjectField
	}
	return AnyField
}
