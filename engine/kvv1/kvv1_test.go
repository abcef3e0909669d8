package kvv1

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/api"
)

func decoded(body string) (secretInput, error) {
	var in secretInput
	_, err := in.Decode(&api.Request{Op: api.Write, Body: []byte(body)})
	return in, err
}

func TestDecode(t *testing.T) {
	for body, want := range map[string]string{
		"":                                 "null",
		"null":                             "null",
		" {} ":                             "null",
		`{"a":1.50}`:                       `{"a":1.50}`,
		` {"b" : [ 1, "x y" ],"a":null}`:   `{"b":[1,"x y"],"a":null}`,
		`{"n":12345678901234567890}`:       `{"n":12345678901234567890}`,
		`{"a":1,"a":{"b":1,"b":2}}`:        `{"a":{"b":2}}`,
		`{"a":"<&>","options":{"cas":0}}`:  `{"a":"<&>","options":{"cas":0}}`,
		`{"\u0061":1}`:                     `{"\u0061":1}`,
		`{"data":{"a":1},"metadata":null}`: `{"data":{"a":1},"metadata":null}`,
	} {
		if in, err := decoded(body); err != nil || string(in.data.AppendJSON(nil)) != want {
			t.Errorf("%s is %s, %v, want %s", body, in.data.AppendJSON(nil), err, want)
		}
	}
	deep := func(levels int) string {
		return `{"a":` + strings.Repeat("[", levels-1) + strings.Repeat("]", levels-1) + "}"
	}
	if _, err := decoded(deep(api.MaxLevels)); err != nil {
		t.Errorf("%d levels: %v", api.MaxLevels, err)
	}
	for _, body := range []string{"[]", `"x"`, "{", `{"a":}`, `{"a":1}x`, "{\"a\":\"\xff\"}", deep(api.MaxLevels + 1)} {
		if _, err := decoded(body); err == nil || !errors.Is(err, api.ErrRequest) && !strings.Contains(err.Error(), "not valid UTF-8") {
			t.Errorf("%.50s: %v", body, err)
		}
	}
}

func TestLease(t *testing.T) {
	for body, want := range map[string]time.Duration{
		`{"a":1}`:                     0,
		`{"ttl":"1h"}`:                time.Hour,
		`{"ttl": 90 }`:                90 * time.Second,
		`{"ttl":"90"}`:                90 * time.Second,
		`{"ttl":"2d"}`:                48 * time.Hour,
		`{"lease":"5m"}`:              5 * time.Minute,
		`{"lease":"5m","ttl":"1h"}`:   time.Hour,
		`{"lease":"5m","ttl":"x"}`:    0,
		`{"lease":"5m","ttl":null}`:   0,
		`{"ttl":"1h","ttl":"2h"}`:     2 * time.Hour,
		`{"ttl":0}`:                   0,
		`{"ttl":-5}`:                  0,
		`{"ttl":1.5}`:                 0,
		`{"ttl":true}`:                0,
		`{"ttl":["1h"]}`:              0,
		`{"ttl":{"ttl":"1h"}}`:        0,
		`{"inner":{"ttl":"1h"}}`:      0,
		`{"TTL":"1h"}`:                0,
		`{"ttl":"99999999999999999"}`: 0,
	} {
		if in, err := decoded(body); err != nil || in.lease != want {
			t.Errorf("%s: %v, %v, want %v", body, in.lease, err, want)
		}
	}
}

// What is kept is what encoding/json reads of the body, number for number.
func FuzzDecode(f *testing.F) {
	for _, body := range []string{"", "null", "{}", `{"a":1.50,"ttl":"1h"}`, `{ "a" : [1, {"b":"\u00e4"}], "a": 2 }`, `{"lease":3e2}`, "{\"a\":\"\xff\"}", `{"a":{"a":{}}} x`} {
		f.Add(body)
	}
	object := func(b []byte) (v map[string]any, err error) {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err = d.Decode(&v); err == nil && d.More() {
			err = errors.New("there is more")
		}
		return v, err
	}
	f.Fuzz(func(t *testing.T, body string) {
		in, err := decoded(body)
		if err != nil {
			return
		}
		want, bad := object([]byte(body))
		if strings.TrimSpace(body) == "" {
			want, bad = nil, nil
		}
		got, err := object(in.data.AppendJSON(nil))
		if bad != nil || err != nil || len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%q is kept as %s: %v, %v", body, in.data.AppendJSON(nil), bad, err)
		}
		if in.lease < 0 {
			t.Errorf("%q has the lease %v", body, in.lease)
		}
	})
}
