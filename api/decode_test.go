package api

import (
	"strings"
	"testing"
	"time"
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
