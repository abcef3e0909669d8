package api

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// What a handler says of its fields is what its decoder reads.
func TestFields(t *testing.T) {
	type inner struct {
		N uint32 `json:"n"`
	}
	type embedded struct {
		Texts *[]string `json:"texts"`
	}
	type input struct {
		embedded
		Text     string            `json:"text"`
		Flag     *bool             `json:"flag"`
		Wait     time.Duration     `json:"wait"`
		Lease    *Seconds          `json:"lease"`
		Versions []uint64          `json:"versions"`
		Meta     map[string]string `json:"meta"`
		Inner    *inner            `json:"inner"`
		Raw      json.RawMessage   `json:"raw"`
		Some     any               `json:"some"`
		Hidden   string            `json:"-"`
	}
	got := Do(func(*Request, *input) (Answer, error) { return Answer{}, nil }).Fields()
	want := []Field{
		{Name: "flag", Kind: FlagField}, {Name: "inner", Kind: ObjectField, Fields: []Field{{Name: "n", Kind: NumberField}}},
		{Name: "lease", Kind: DurationField}, {Name: "meta", Kind: ObjectField}, {Name: "raw", Kind: AnyField}, {Name: "some", Kind: AnyField},
		{Name: "text", Kind: TextField}, {Name: "texts", Kind: TextsField}, {Name: "versions", Kind: NumbersField}, {Name: "wait", Kind: DurationField},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := Do(func(*Request, *None) (Answer, error) { return Answer{}, nil }).Fields(); got != nil {
		t.Errorf("a handler that takes nothing has the fields %v", got)
	}
	if got, want := Do(func(*Request, *ownReader) (Answer, error) { return Answer{}, nil }).Fields(), []Field{{Name: "a", Kind: AnyField}, {Name: "b", Kind: AnyField}}; !reflect.DeepEqual(got, want) {
		t.Errorf("a handler that decodes by itself has the fields %v", got)
	}
	if got := Do(func(*Request, *Object) (Answer, error) { return Answer{}, nil }).Fields(); got != nil {
		t.Errorf("a handler that takes any object has the fields %v", got)
	}
}

// counted writes its own JSON.
type counted struct{}

func (counted) MarshalJSON() ([]byte, error) { return []byte(`{"n":1,"free":{}}`), nil }

// What a handler answers is described by an example of it.
func TestOut(t *testing.T) {
	type embedded struct {
		Wait Seconds `json:"wait,omitempty"`
	}
	type one struct {
		embedded
		Share  float64          `json:"share"`
		Since  time.Time        `json:"since,omitzero"`
		Until  *time.Time       `json:"until,omitempty"`
		Some   any              `json:"some"`
		Raw    json.RawMessage  `json:"raw"`
		Own    counted          `json:"own"`
		Others map[string][]one `json:"-"`
	}
	members := []Field{
		{Name: "own", Kind: ObjectField, Fields: []Field{{Name: "free", Kind: ObjectField, Fields: []Field{}}, {Name: "n", Kind: NumberField}}},
		{Name: "raw", Kind: AnyField}, {Name: "share", Kind: FractionField}, {Name: "since", Kind: TextField, Optional: true},
		{Name: "some", Kind: AnyField}, {Name: "until", Kind: TextField, Optional: true}, {Name: "wait", Kind: NumberField, Optional: true},
	}
	handler := Do(func(*Request, *None) (Answer, error) { return Answer{}, nil })
	r := Route{Ops: map[Op]Handler{List: handler, Write: handler, Delete: handler.Answers(None{}), Read: handler.Answers(map[string]any{
		"text": "", "flag": false, "number": 1, "texts": []string(nil), "numbers": []uint32{}, "free": map[string]string{},
		"null": nil, "inner": map[string]any{"empty": []any{}, "mixed": []any{1, ""}}, "ones": []one{}, "one": &one{}, "by": map[string]one{},
	})}}
	for op, want := range map[Op][]Field{
		List: {{Name: "keys", Kind: TextsField}}, Write: nil, Delete: {}, Patch: nil, Scan: {{Name: "keys", Kind: TextsField}},
		Read: {
			{Name: "by", Kind: ObjectField, Fields: []Field{{Name: Each, Kind: ObjectField, Fields: members}}},
			{Name: "flag", Kind: FlagField}, {Name: "free", Kind: ObjectField, Fields: []Field{{Name: Each, Kind: TextField}}},
			{Name: "inner", Kind: ObjectField, Fields: []Field{{Name: "empty", Kind: TextsField}, {Name: "mixed", Kind: AnyField}}},
			{Name: "null", Kind: AnyField}, {Name: "number", Kind: NumberField}, {Name: "numbers", Kind: NumbersField},
			{Name: "one", Kind: ObjectField, Fields: members}, {Name: "ones", Kind: ObjectsField, Fields: members},
			{Name: "text", Kind: TextField}, {Name: "texts", Kind: TextsField},
		},
	} {
		if got := r.Out(op); !reflect.DeepEqual(got, want) {
			t.Errorf("%v: %+v, want %+v", op, got, want)
		}
	}
}

// ownReader is a Decoder.
type ownReader struct{}

func (*ownReader) Decode(*Request) (map[string]json.RawMessage, error) { return nil, nil }
func (*ownReader) Names() []string                                     { return []string{"b", "a"} }

// Whoever describes a handler may change the list that it is given.
func TestFieldsAreTheCallersOwn(t *testing.T) {
	h := Do(func(*Request, *shared) (Answer, error) { return Answer{}, nil })
	clear(h.Fields())
	if fields := h.Fields(); len(fields) != 1 || fields[0].Name != "a" {
		t.Errorf("%v", fields)
	}
}

// shared is an input whose fields are one list for all requests.
type shared struct{}

var sharedFields = []Field{{Name: "a", Kind: TextField}}

func (*shared) Decode(*Request) (map[string]json.RawMessage, error) { return nil, nil }
func (*shared) Names() []string                                     { return []string{"a"} }
func (*shared) Fields() []Field                                     { return sharedFields }
