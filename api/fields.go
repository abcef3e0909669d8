package api

import (
	"encoding/json"
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

// A Field is a parameter that a handler takes, for those who describe the API.
type Field struct {
	Name   string
	Kind   FieldKind
	Fields []Field // of an object of which they are known
}

// Fields are the parameters that the handler knows, by name. Of a [Decoder] that does
// not say more, only the names are known.
func (h Handler) Fields() []Field {
	in := h.fresh()
	if d, ok := in.(interface{ Fields() []Field }); ok {
		return d.Fields()
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
