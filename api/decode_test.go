package api

import (
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/access"
)

type everything struct {
	Text     string            `json:"text"`
	Flag     bool              `json:"flag"`
	Number   int               `json:"number"`
	Size     *uint32           `json:"size"`
	Time     time.Duration     `json:"time"`
	Seconds  *Seconds          `json:"seconds"`
	List     []string          `json:"list"`
	Versions []uint64          `json:"versions"`
	Texts    map[string]string `json:"texts"`
	Any      any               `json:"any"`
	Objects  map[string]any    `json:"objects"`
	Nested   struct {
		Number int `json:"number"`
	} `json:"nested"`
}

// What a client sends along with a deletion sets nothing.
func TestUnknownSettingsAreRefusedUnlessDeleting(t *testing.T) {
	h := Do(func(*Request, *everything) (Answer, error) { return Answer{}, nil })
	for op, refused := range map[Op]bool{Write: true, Delete: false} {
		_, given, err := h.Decode(&Request{Op: op, Body: []byte(`{"unknown":1}`)}, true)
		if (err != nil) != refused || given["unknown"] == nil {
			t.Errorf("%v: %v, %s", op, err, given)
		}
	}
}

// A field of the wrong type may be a secret in the wrong place: errors are logged,
// and pasted.
func TestErrorsOfDecodeRepeatNoValue(t *testing.T) {
	h := Do(func(*Request, *everything) (Answer, error) { return Answer{}, nil })
	for body, want := range map[string]string{
		`{"text":{"k":"hunter2"}}`:        "the parameter text must be a text, not an object",
		`{"text":["hunter2"]}`:            "the parameter text must be a text, not a list",
		`{"flag":"hunter2"}`:              "the parameter flag must be true or false, not this text",
		`{"number":"hunter2"}`:            "the parameter number must be a whole number, not this text",
		`{"number":4711.4711}`:            "the parameter number must be a whole number, not this number",
		`{"number":true}`:                 "the parameter number must be a whole number, not a boolean",
		`{"size":-4711}`:                  "the parameter size must be a whole number that is not negative, not this number",
		`{"time":"hunter2"}`:              "the parameter time is not a duration",
		`{"time":{"hunter2":1}}`:          "the parameter time is not a duration",
		`{"seconds":"hunter2"}`:           "the parameter seconds: it is not a duration",
		`{"seconds":-4711}`:               "the parameter seconds: the duration is negative",
		`{"versions":["hunter2"]}`:        "the parameter versions must be a list of whole numbers, not a list",
		`{"texts":"hunter2"}`:             "the parameter texts must be an object of texts, not this text",
		`{"any":4711e4711}`:               "the parameter any must be of a size",
		`{"objects":"hunter2"}`:           "the parameter objects must be an object, not this text",
		`{"nested":"hunter2"}`:            "the parameter nested must be an object, not this text",
		`{"nested":{"number":"hunter2"}}`: "the parameter number must be a whole number, not this text",
		`{"text":hunter2}`:                "failed to parse JSON input: invalid character looking for beginning of value at byte 9",
		`{"text":"hunter2`:                "failed to parse JSON input: unexpected end of JSON input at byte 16",
		`"hunter2"`:                       "failed to parse JSON input: it must be one JSON object",
		`4711`:                            "failed to parse JSON input: it must be one JSON object",
		`{"text":"x"} hunter2`:            "failed to parse JSON input: invalid character after top-level value at byte 14",
	} {
		for _, settings := range []bool{false, true} {
			if settings && strings.Contains(body, "hunter\":") {
				continue // names are told
			}
			_, _, err := h.Decode(&Request{Op: Write, Body: []byte(body)}, settings)
			switch {
			case err == nil:
				t.Errorf("%s was taken", body)
			case !strings.HasPrefix(err.Error(), want):
				t.Errorf("%s: %v, want %s", body, err, want)
			case strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), "4711"):
				t.Errorf("%s: a value is in the error: %v", body, err)
			}
		}
	}
}

// The weak forms that Vault takes are understood everywhere, and null is the zero
// value, which is not the same as nothing.
func TestDecode(t *testing.T) {
	type in struct {
		Text    string            `json:"text"`
		TextP   *string           `json:"text_p"`
		Flag    bool              `json:"flag"`
		FlagP   *bool             `json:"flag_p"`
		Number  int               `json:"number"`
		NumberP *int              `json:"number_p"`
		Time    *time.Duration    `json:"time"`
		List    *[]string         `json:"list"`
		Numbers []uint64          `json:"numbers"`
		Texts   map[string]string `json:"texts"`
		Raw     json.RawMessage   `json:"raw"`
	}
	h := Do(func(*Request, *in) (Answer, error) { return Answer{}, nil })
	show := func(v any) string {
		b, _ := json.Marshal(v)
		return string(b)
	}
	zero := show(in{})
	for body, want := range map[string]string{
		``: zero, ` `: zero, `{}`: zero, `{"TEXT":"x","Flag":true,"other":1}`: zero, `null`: zero,
		`{"text":"a"}`: show(in{Text: "a"}), `{"text":5}`: show(in{Text: "5"}), `{"text":true}`: show(in{Text: "true"}), `{"text":null}`: zero, `{"text":"a","text":"b"}`: show(in{Text: "b"}),
		`{"text_p":null}`: show(in{TextP: new("")}), `{"text_p":"a"}`: show(in{TextP: new("a")}),
		`{"flag":"true"}`: show(in{Flag: true}), `{"flag":1}`: show(in{Flag: true}), `{"flag":"T"}`: show(in{Flag: true}), `{"flag":""}`: zero, `{"flag_p":"0"}`: show(in{FlagP: new(false)}), `{"flag_p":null}`: show(in{FlagP: new(false)}),
		`{"number":"7"}`: show(in{Number: 7}), `{"number":-7}`: show(in{Number: -7}), `{"number":""}`: zero, `{"number_p":null}`: show(in{NumberP: new(0)}),
		`{"time":90}`: show(in{Time: new(90 * time.Second)}), `{"time":"1h"}`: show(in{Time: new(time.Hour)}), `{"time":""}`: show(in{Time: new(time.Duration(0))}),
		`{"list":"a, b"}`: show(in{List: &[]string{"a", "b"}}), `{"list":["a",1]}`: show(in{List: &[]string{"a", "1"}}), `{"list":5}`: show(in{List: &[]string{"5"}}), `{"list":[]}`: show(in{List: new([]string)}), `{"list":null}`: show(in{List: new([]string)}),
		`{"numbers":"1,2"}`: show(in{Numbers: []uint64{1, 2}}), `{"numbers":[1,"2"]}`: show(in{Numbers: []uint64{1, 2}}), `{"numbers":3}`: show(in{Numbers: []uint64{3}}),
		`{"texts":{"a":1,"b":"c"}}`: show(in{Texts: map[string]string{"a": "1", "b": "c"}}), `{"texts":"{\"a\":true}"}`: show(in{Texts: map[string]string{"a": "true"}}), `{"texts":""}`: zero,
		`{"raw":{"a":[1]}}`: show(in{Raw: json.RawMessage(`{"a":[1]}`)}),
		`{"text":{}}`:       "text must be a text", `{"text":[]}`: "text must be a text", `{"flag":"maybe"}`: "flag must be true or false", `{"number":1.5}`: "number must be a whole number",
		`{"time":"soon"}`: "time is not a duration", `{"list":{"a":1}}`: "list must be a list of texts", `{"list":[["a"]]}`: "list must be a list of texts", `{"numbers":[-1]}`: "numbers must be a list of whole numbers",
		`{"texts":5}`: "texts must be an object of texts", `[]`: "one JSON object", `5`: "one JSON object", `{`: "failed to parse JSON", `{} {}`: "failed to parse JSON",
	} {
		got, _, err := h.Decode(&Request{Op: Write, Body: []byte(body)}, false)
		if err != nil {
			if !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", body, err)
			}
		} else if show(got) != want {
			t.Errorf("%s: %s, want %s", body, show(got), want)
		}
	}
	got, _, err := h.Decode(&Request{Op: Read, Query: url.Values{"text": {"a", "b"}, "flag": {"1"}, "list": {"a,b"}, "numbers": {"4"}, "time": {"2m"}, "x": {"y"}}}, false)
	if want := show(in{Text: "a", Flag: true, List: &[]string{"a", "b"}, Numbers: []uint64{4}, Time: new(2 * time.Minute)}); err != nil || show(got) != want {
		t.Errorf("the query: %s, %v, want %s", show(got), err, want)
	}
}

// Whatever comes in, the answer is a struct or an error for the client.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{}`, `{"text":"a","list":["b"],"nested":{"number":1}}`, `{"texts":"{\"a\":1}"}`, `{"any":1e999}`, `{"objects":[]}`, `{"time":-1,"seconds":"1h"}`} {
		f.Add([]byte(seed))
	}
	h := Do(func(*Request, *everything) (Answer, error) { return Answer{}, nil })
	f.Fuzz(func(t *testing.T, body []byte) {
		r := &Request{Op: Write, Body: body, Path: "a/b"}
		for _, settings := range []bool{false, true} {
			in, given, err := h.Decode(r, settings)
			if err != nil && !errors.Is(err, ErrRequest) && !errors.Is(err, access.ErrInvalid) {
				t.Errorf("%q: %v", body, err)
			}
			if err == nil && in.(*everything) == nil {
				t.Errorf("%q: nothing", body)
			}
			if _, err := h.Params(r, given, false); err != nil && !errors.Is(err, ErrRequest) {
				t.Errorf("%q: %v", body, err)
			}
		}
	})
}
