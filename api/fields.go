package api

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A FieldKind is what kind of value a field takes, in the words of JSON Schema
// where it has them.
type FieldKind string

const (
	TextField     FieldKind = "string"
	FlagField     FieldKind = "boolean"
	NumberField   FieldKind = "integer"
	FractionField FieldKind = "number"
	DurationField FieldKind = "duration" // a number of seconds, or a text like "1h30m"
	TextsField    FieldKind = "array of strings"
	NumbersField  FieldKind = "array of integers"
	ObjectField   FieldKind = "object"
	ObjectsField  FieldKind = "array of objects"
	AnyField      FieldKind = "any" // the handler reads it by itself
)

// A Field is one that a handler takes, or answers with, for those who describe the API.
type Field struct {
	Name     string
	Kind     FieldKind
	Fields   []Field // of an object, or of those in a list, of which they are known
	Optional bool    // an answer leaves it out when it is empty
}

// Each is the name of a field that stands for all others of an object, which are alike.
const Each = "*"

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

// AnswersRaw is Answers for the JSON of a handler that answers without the envelope.
func (h Handler) AnswersRaw(example any) Handler {
	h.data, h.raw = example, true
	return h
}

// Raw reports whether the handler answers without the envelope.
func (h Handler) Raw() bool { return h.raw }

// Out are the fields of Answer.Data, by name; nil where they are not fixed. A list
// answers as [Keys] does unless its handler says more.
func (r *Route) Out(op Op) []Field {
	switch example := r.Ops[op].data; {
	case example != nil:
		return FieldsOf(example)
	case op.Folder():
		return FieldsOf(Names{})
	}
	return nil
}

// FieldsOf describes an object by what it is as JSON: a struct by its type, with the
// fields that it leaves out when they are empty; a map[string]any by what is in it, as
// is a value that writes its own JSON; another map by the type of its elements, see
// [Each]. An empty list is one of texts unless its type says more, and null may be
// anything. A value that is no object is a mistake in the program.
func FieldsOf(v any) []Field {
	f := fieldOf("", reflect.ValueOf(v))
	if f.Kind != ObjectField {
		panic(fmt.Sprintf("api: the example %T is no object", v))
	}
	return f.Fields
}

func fieldOf(name string, v reflect.Value) Field {
	f := Field{Name: name, Kind: AnyField}
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if !v.IsValid() {
		return f
	}
	switch t := v.Type(); {
	case t.Kind() == reflect.Pointer:
		return fieldOf(name, reflect.New(t.Elem()))
	case t.Implements(marshaler) || t.Implements(textMarshaler):
		b, err := json.Marshal(v.Interface())
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		var decoded any
		if err = cmp.Or(err, d.Decode(&decoded)); err != nil {
			panic(fmt.Sprintf("api: the example %v: %v", t, err))
		}
		return fieldOf(name, reflect.ValueOf(decoded))
	case t == reflect.TypeFor[json.Number]():
		f.Kind = NumberField
		return f
	}
	switch v.Kind() {
	case reflect.String:
		f.Kind = TextField
	case reflect.Bool:
		f.Kind = FlagField
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		f.Kind = NumberField
	case reflect.Float64:
		f.Kind = FractionField
	case reflect.Slice:
		switch elem := fieldOf("", reflect.Zero(v.Type().Elem())); elem.Kind {
		case TextField:
			f.Kind = TextsField
		case NumberField:
			f.Kind = NumbersField
		case ObjectField:
			f.Kind, f.Fields = ObjectsField, elem.Fields
		case AnyField:
			if v.Len() == 0 {
				f.Kind = TextsField
			}
		}
	case reflect.Map:
		f.Kind, f.Fields = ObjectField, []Field{}
		if elem := v.Type().Elem(); elem.Kind() != reflect.Interface {
			f.Fields = append(f.Fields, fieldOf(Each, reflect.Zero(elem)))
			break
		}
		for _, key := range v.MapKeys() {
			f.Fields = append(f.Fields, fieldOf(key.String(), v.MapIndex(key)))
		}
	case reflect.Struct:
		f.Kind, f.Fields = ObjectField, []Field{}
		for _, is := range reflect.VisibleFields(v.Type()) {
			if tag, options, _ := strings.Cut(is.Tag.Get("json"), ","); tag != "" && tag != "-" {
				one := fieldOf(tag, v.FieldByIndex(is.Index))
				one.Optional = strings.HasPrefix(options, "omit")
				f.Fields = append(f.Fields, one)
			}
		}
	}
	slices.SortFunc(f.Fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	return f
}

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

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
