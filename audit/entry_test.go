package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func FuzzData(f *testing.F) {
	for _, seed := range []string{`{"a":"b","c":[1,true,null,{"d":"e"}]}`, `{"keys":["a","b"]}`, `[]`, `"x"`, `{"a":1}{`, `{"a":"\ud800"}`, strings.Repeat("[", 100), `{"a":1,}`, "{1:2}", `{"plain":["x"],"a\u0062":"\\\"}"}`, ` { "keys" : [ ] , "key_info" : {"a":{"b":[1,2]},"c":"d"}}`} {
		f.Add([]byte(seed), false, true)
		f.Add([]byte(seed), true, false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, clear, elide bool) {
		v := veil{salt: []byte("salt"), raw: clear, elide: elide}
		if out := v.data(raw, []string{"plain"}, []string{"a", "keys", "c"}, true); len(out) > 0 && !json.Valid(out) {
			t.Errorf("of %q, whole: %q", raw, out)
		}
		out := v.data(raw, []string{"plain"}, nil, true)
		if len(bytes.TrimSpace(raw)) == 0 {
			if out != nil {
				t.Errorf("of nothing: %s", out)
			}
			return
		}
		if !json.Valid(out) || len(out) > 2*maxData+1000 || bytes.ContainsAny(out, "\n") {
			t.Errorf("of %q: %q", raw, out)
		}
		if !elide && json.Valid(raw) && !bytes.Contains(out, []byte(`{"omitted_bytes":`)) {
			var want, got any
			for text, into := range map[*[]byte]*any{&raw: &want, &out: &got} {
				d := json.NewDecoder(bytes.NewReader(*text))
				d.UseNumber() // some are in no float64
				if err := d.Decode(into); err != nil {
					t.Fatalf("%q became %q: %v", raw, out, err)
				}
			}
			want = hide(&v, want, clear)
			if !reflect.DeepEqual(want, got) {
				t.Errorf("%q became %q", raw, out)
			}
		}
	})
}

// hide does what veil.data does, the slow way.
func hide(v *veil, value any, clear bool) any {
	switch value := value.(type) {
	case string:
		if !clear {
			return string(v.append(nil, []byte(value)))
		}
	case []any:
		for i := range value {
			value[i] = hide(v, value[i], clear)
		}
	case map[string]any:
		for name := range value {
			value[name] = hide(v, value[name], v.raw || name == "plain")
		}
	}
	return value
}

// Vault exempts the values whose nearest key is named, at any depth, and no others.
func TestNonHMACKeysExemptTheValuesWhoseNearestKeyIsNamed(t *testing.T) {
	v := veil{salt: []byte("salt")}
	h := func(text string) string { return string(v.append(nil, []byte(text))) }
	for in, want := range map[string]string{
		`{"data":{"password":"p"},"options":{"x":"y"}}`: `{"data":{"password":"` + h("p") + `"},"options":{"x":"` + h("y") + `"}}`,
		`{"data":"d","other":"o"}`:                      `{"data":"d","other":"` + h("o") + `"}`,
		`{"other":{"data":"d","z":["o"]}}`:              `{"other":{"data":"d","z":["` + h("o") + `"]}}`,
		`{"data":["a",["b"],{"x":"c","data":["d"]}]}`:   `{"data":["a",["b"],{"x":"` + h("c") + `","data":["d"]}]}`,
		`{"d\u0061ta":"d","dat":"o"}`:                   `{"d\u0061ta":"d","dat":"` + h("o") + `"}`,
		`["a"]`:                                         `["` + h("a") + `"]`,
	} {
		if got := string(v.data([]byte(in), []string{"data"}, nil, false)); got != want {
			t.Errorf("%s becomes\n%s, want\n%s", in, got, want)
		}
	}
}

// A field that is recorded whole has the HMAC of its bytes, if it is a list or an
// object, at the top, and not exempt.
func TestWholeFields(t *testing.T) {
	v := veil{salt: []byte("salt")}
	h := func(text string) string { return string(v.append(nil, []byte(text))) }
	const list = `[ {"plaintext":"p\u0061]"}, ["x"],1 ]`
	for in, want := range map[string]string{
		`{"batch": ` + list + ` ,"other":"o"}`:                 `{"batch":"` + h(list) + `","other":"` + h("o") + `"}`,
		`{"batch":{"a":{}},"batch":[]}`:                        `{"batch":"` + h(`{"a":{}}`) + `","batch":"` + h("[]") + `"}`,
		`{"batch":"text"}`:                                     `{"batch":"` + h("text") + `"}`,
		`{"batch":null}`:                                       `{"batch":null}`,
		`{"other":{"batch":["x"]}}`:                            `{"other":{"batch":["` + h("x") + `"]}}`,
		`{"b\u0061tch":["x"]}`:                                 `{"b\u0061tch":"` + h(`["x"]`) + `"}`,
		`{"plain":["x"],"batch":["x"]}`:                        `{"plain":["x"],"batch":"` + h(`["x"]`) + `"}`,
		`{"batch":["` + strings.Repeat("x", 2*maxData) + `"]}`: `{"batch":"` + h(`["`+strings.Repeat("x", 2*maxData)+`"]`) + `"}`,
	} {
		if got := string(v.data([]byte(in), []string{"plain"}, []string{"plain", "batch"}, false)); got != want {
			t.Errorf("%.100s becomes\n%.200s, want\n%.200s", in, got, want)
		}
	}
	clear := veil{raw: true}
	if got := string(clear.data([]byte(`{"batch":["x"]}`), nil, []string{"batch"}, false)); got != `{"batch":["x"]}` {
		t.Errorf("in the clear: %s", got)
	}
}
