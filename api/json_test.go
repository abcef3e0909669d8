package api

import (
	"bytes"
	"encoding/json"
	"maps"
	"testing"
)

// FuzzShape: what a pass finds in valid JSON is what the standard library finds.
func FuzzShape(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"data":{"a":1}}`, `{"data": {"a":[1, {}]} , "options":{"cas":0}}`, `{"a":1,"\u0061":2}`, `{"a\"}":"{\\","b":[{"x":{}},"]"],"":null}`,
		"{\"a\":\t1}", `{"data":{"z":"\\\"","z":1}}`, `{"a":[[[[]]]]}`, `{"a":{"b":{"a":1}},"b":{}}`, `{ }`, `{"a":" ","b":"\n"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = bytes.TrimSpace(raw)
		var want map[string]json.RawMessage
		if !bytes.HasPrefix(raw, []byte("{")) || json.Unmarshal(raw, &want) != nil {
			return
		}
		got := ShapeOf(raw)
		compact := func(raw json.RawMessage) string {
			var b bytes.Buffer
			if err := json.Compact(&b, raw); err != nil {
				t.Fatalf("a part is not valid: %v", err)
			}
			return b.String()
		}
		if !maps.EqualFunc(got.Members, want, func(a, b json.RawMessage) bool { return compact(a) == compact(b) }) {
			t.Errorf("members %q, want %q", got.Members, want)
		}
		if got.Spaced != (compact(raw) != string(raw)) {
			t.Errorf("spaced: %v", got.Spaced)
		}
		once, err := Last(raw)
		if err != nil {
			t.Fatal(err)
		}
		if again := ShapeOf(once); again.Twice || again.Levels > got.Levels {
			t.Errorf("%s became %s", raw, once)
		}
		if !got.Twice { // then nothing is lost
			var a, b any
			if json.Unmarshal(raw, &a) != nil || json.Unmarshal(once, &b) != nil {
				return // a number that no float64 holds
			}
			x, _ := json.Marshal(a)
			y, _ := json.Marshal(b)
			if !bytes.Equal(x, y) {
				t.Errorf("%s became %s", raw, once)
			}
		}
	})
}

func TestLevels(t *testing.T) {
	for raw, want := range map[string]int{`{}`: 1, `{"a":[]}`: 2, `{"a":[{"b":"[[["}],"c":{}}`: 3} {
		if got := ShapeOf([]byte(raw)).Levels; got != want {
			t.Errorf("%s has %d levels, want %d", raw, got, want)
		}
	}
}
