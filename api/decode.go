package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
)

// A Decoder reads the request by itself, in place of [Handler.Decode]. With a method
// Fields() []Field it says of what kind its parameters are.
type Decoder interface {
	// Decode returns the fields that were given, too.
	Decode(*Request) (given map[string]json.RawMessage, err error)
	Names() []string
}

// Decode returns what the handler takes, filled in from the request: of what has a
// body from its fields, else, and where a deletion has none, from the query. The
// error is an [Error]. What an [Upload] takes is in the query.
//
// A field has one spelling. Where the same name stands twice, the last counts. null
// is the zero value; a field that is a pointer tells it from none. A text, a number
// or a boolean is what it spells, "" is the zero value; a list is also a text with
// commas, and an object of texts has numbers and booleans, too. Fields that are not
// known are left out, unless the route is one of settings: there a write with them is
// refused, if they say anything, see Route.Settings.
//
// given are the fields of the body. No error repeats a value of the body, which may
// be a secret; nor must what a field says that is a [json.Unmarshaler].
func (h Handler) Decode(r *Request, settings bool) (in any, given map[string]json.RawMessage, err error) {
	in = h.fresh()
	if r.Op == Patch && len(h.Names()) > 0 {
		if err := checkPatch(r); err != nil {
			return in, nil, err
		}
	}
	if d, ok := in.(Decoder); ok {
		given, err = d.Decode(r)
		return in, given, err
	}
	if body := bytes.TrimSpace(r.Body); len(body) > 0 {
		given, err = decodeBody(r, h.plan, in, body, settings && r.Op != Delete)
	} else if !r.Op.HasBody() || r.Op == Delete || h.up {
		err = h.plan.query(r.Query, reflect.ValueOf(in).Elem())
	}
	return in, given, err
}

// checkPatch checks that a PATCH says which kind of patch it is.
func checkPatch(r *Request) error {
	const want = "application/merge-patch+json"
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != want {
		return MediaType.Errorf("PATCH requires Content-Type of %s, provided %s", want, kind)
	}
	return nil
}

// DecodeBody reads an object into a struct as [Handler.Decode] does, for what has
// the request's body in a further form.
func DecodeBody[In any](r *Request, body []byte, settings bool) (*In, error) {
	in := new(In)
	if body = bytes.TrimSpace(body); len(body) == 0 {
		return in, nil
	}
	_, err := decodeBody(r, planOf[In](), in, body, settings)
	return in, err
}

// Members are the fields of a body that is one object. The error, an [Error], says
// where it stops being JSON, and has no character of it.
func Members(body []byte) (members map[string]json.RawMessage, err error) {
	err = json.Unmarshal(body, &members)
	if at, ok := errors.AsType[*json.SyntaxError](err); ok {
		text := at.Error()
		if i := strings.LastIndex(text, "' "); i >= 0 { // it shows which
			text = "invalid character" + text[i+1:]
		}
		return nil, Invalid.Errorf("failed to parse JSON input: %s at byte %d", text, at.Offset)
	}
	if err != nil {
		return nil, Invalid.Errorf("failed to parse JSON input: it must be one JSON object")
	}
	return members, nil
}

func decodeBody(r *Request, p *plan, in any, body []byte, settings bool) (given map[string]json.RawMessage, err error) {
	if given, err = Members(body); err != nil {
		return nil, err
	}
	if settings {
		if err := p.checkKnown(r, given); err != nil {
			return given, err
		}
	}
	return given, p.object(given, reflect.ValueOf(in).Elem())
}

// Names are the parameters that the handler knows.
func (h Handler) Names() []string {
	if d, ok := h.fresh().(Decoder); ok {
		return d.Names()
	}
	var names []string
	for _, f := range h.plan.fields {
		names = append(names, f.name)
	}
	return names
}

// A plan is how a struct is filled.
type plan struct{ fields []field } // by name

type field struct {
	name   string
	index  []int
	of     reflect.Type
	nested *plan // of a struct without a decoder of its own
}

func planOf[In any]() *plan { return newPlan(reflect.TypeFor[In]()) }

func newPlan(of reflect.Type) *plan {
	p := new(plan)
	p.add(of, nil)
	slices.SortFunc(p.fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	for i := range p.fields[min(1, len(p.fields)):] {
		if p.fields[i].name == p.fields[i+1].name {
			panic("api: " + of.String() + " has the field " + p.fields[i].name + " twice")
		}
	}
	return p
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// add adds the fields of a struct, and those of the structs embedded in it.
func (p *plan) add(of reflect.Type, index []int) {
	for f := range of.Fields() {
		at := append(slices.Clone(index), f.Index...)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || name == "" && !f.Anonymous:
		case name == "":
			p.add(f.Type, at)
		default:
			field := field{name: name, index: at, of: f.Type}
			elem := f.Type
			if elem.Kind() == reflect.Pointer {
				elem = elem.Elem()
			}
			if elem.Kind() == reflect.Struct && !reflect.PointerTo(elem).Implements(unmarshaler) {
				field.nested = newPlan(elem)
			}
			p.fields = append(p.fields, field)
		}
	}
}

func (p *plan) find(name string) *field {
	i, ok := slices.BinarySearchFunc(p.fields, name, func(f field, name string) int { return strings.Compare(f.name, name) })
	if !ok {
		return nil
	}
	return &p.fields[i]
}

func (p *plan) object(members map[string]json.RawMessage, v reflect.Value) error {
	for i := range p.fields {
		f := &p.fields[i]
		if raw, given := members[f.name]; given {
			if err := f.set(v.FieldByIndex(f.index), raw); err != nil {
				return err
			}
		}
	}
	return nil
}

// query fills the struct from the query; of a parameter that stands there twice,
// the first counts.
func (p *plan) query(q url.Values, v reflect.Value) error {
	if len(q) == 0 {
		return nil
	}
	for i := range p.fields {
		f := &p.fields[i]
		if values := q[f.name]; len(values) > 0 {
			raw, err := json.Marshal(values[0])
			if err != nil {
				return err
			}
			if err := f.set(v.FieldByIndex(f.index), raw); err != nil {
				return err
			}
		}
	}
	return nil
}

// set fills in a field.
func (f *field) set(v reflect.Value, raw json.RawMessage) error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if f.nested != nil {
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) != nil {
			return f.expected("an object", raw)
		}
		return f.nested.object(members, v)
	}
	switch to := v.Addr().Interface().(type) {
	case *json.RawMessage:
		*to = raw
	case json.Unmarshaler:
		if err := to.UnmarshalJSON(raw); err != nil {
			return Invalid.Errorf("the parameter %s: %v", f.name, err)
		}
	case *time.Duration:
		d, err := access.ParseDuration(Scalar(raw))
		if err != nil {
			return Invalid.Errorf("the parameter %s %s", f.name, noDuration)
		}
		*to = d
	case *[]string:
		if !flat(raw) {
			return f.expected("a list of texts", raw)
		}
		*to = parseList(raw)
	case *[]uint64:
		for _, text := range parseList(raw) {
			n, err := strconv.ParseUint(text, 10, 63)
			if err != nil {
				return f.expected("a list of whole numbers", raw)
			}
			*to = append(*to, n)
		}
	case *map[string]string:
		var members map[string]json.RawMessage
		if text := Scalar(raw); text != "" && json.Unmarshal([]byte(text), &members) != nil {
			return f.expected("an object of texts", raw)
		}
		if members != nil {
			*to = make(map[string]string, len(members))
		}
		for name, value := range members {
			(*to)[name] = Scalar(value)
		}
	default:
		return f.scalar(v, raw)
	}
	return nil
}

func (f *field) scalar(v reflect.Value, raw json.RawMessage) error {
	text := Scalar(raw)
	if c := raw[0]; c == '{' || c == '[' {
		text = "" // of no use
		switch v.Kind() {
		case reflect.Map, reflect.Slice, reflect.Interface:
			if json.Unmarshal(raw, v.Addr().Interface()) == nil {
				return nil
			}
		}
		return f.expected(shape(v.Kind()), raw)
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
		return nil
	case reflect.Interface:
		if json.Unmarshal(raw, v.Addr().Interface()) != nil {
			return f.expected("of a size that numbers have", raw)
		}
		return nil
	}
	if text == "" {
		return nil
	}
	switch v.Kind() {
	case reflect.Bool:
		if b, err := strconv.ParseBool(text); err == nil {
			v.SetBool(b)
			return nil
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		if n, err := strconv.ParseInt(text, 10, v.Type().Bits()); err == nil {
			v.SetInt(n)
			return nil
		}
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		if n, err := strconv.ParseUint(text, 10, v.Type().Bits()); err == nil {
			v.SetUint(n)
			return nil
		}
	case reflect.Map, reflect.Slice:
		if json.Unmarshal([]byte(text), v.Addr().Interface()) == nil {
			return nil
		}
	}
	return f.expected(shape(v.Kind()), raw)
}

// shape is what a field takes, in words.
func shape(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		return "a whole number that is not negative"
	case reflect.String:
		return "a text"
	case reflect.Slice:
		return "a list"
	}
	return "an object"
}

const noDuration = `is not a duration like 90, "90s" or "1h30m", of at most 100 years`

// expected names what a field takes, and of what it was given the kind alone.
func (f *field) expected(what string, raw json.RawMessage) error {
	kind := "this number"
	switch raw[0] {
	case '{':
		kind = "an object"
	case '[':
		kind = "a list"
	case '"':
		kind = "this text"
	case 't', 'f':
		kind = "a boolean"
	case 'n':
		kind = "null"
	}
	return Invalid.Errorf("the parameter %s must be %s, not %s", f.name, what, kind)
}

// Scalar is the text of a JSON string, or of any other value as it stands; empty
// for null and for nothing.
func Scalar(raw []byte) string {
	var text string
	if len(raw) > 0 && json.Unmarshal(raw, &text) != nil {
		return string(raw)
	}
	return text
}

// flat reports whether a value is a list of scalars, or a scalar.
func flat(raw []byte) bool {
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		return raw[0] != '{'
	}
	return !slices.ContainsFunc(items, func(item json.RawMessage) bool { return item[0] == '{' || item[0] == '[' })
}

// parseList reads ["a","b"], "a, b" or "a"; null and "" are the empty list.
func parseList(raw []byte) []string {
	var texts []string
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) == nil {
		for _, item := range items {
			texts = append(texts, Scalar(item))
		}
	} else if list := Scalar(raw); list != "" {
		for text := range strings.SplitSeq(list, ",") {
			texts = append(texts, strings.TrimSpace(text))
		}
	}
	return texts
}
