package login

import (
	"encoding/json"
	"errors"
	"maps"
	"testing"

	"github.com/sealkeep/sealkeep/api"
)

func TestParsePairs(t *testing.T) {
	for raw, want := range map[string]map[string]string{
		``: nil, `null`: nil, `""`: nil, `{}`: {}, `{"a":1,"b":"x","c":null,"d":true}`: {"a": "1", "b": "x", "c": "", "d": "true"},
		`"{\"a\":\"b=c\"}"`: {"a": "b=c"}, `" {}"`: {}, `"a=1, b = x=y"`: {"a": "1", "b": "x=y"},
	} {
		if got, err := Pairs(json.RawMessage(raw)); err != nil || !maps.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%s: %v, %v", raw, got, err)
		}
	}
	for _, raw := range []string{`"a"`, `"a=1,"`, `"{"`, `7`, `[1]`} {
		if got, err := Pairs(json.RawMessage(raw)); !errors.Is(err, api.ErrRequest) {
			t.Errorf("%s: %v, %v", raw, got, err)
		}
	}
}
