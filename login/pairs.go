package login

import (
	"encoding/json"
	"strings"

	"github.com/sealkeep/sealkeep/api"
)

// Pairs reads a map of texts as the command line of Vault sends it: a JSON object,
// the same in a text, or "key=value,key=value". Nothing, null and "" are no pairs. The error says what is
// expected.
func Pairs(raw json.RawMessage) (map[string]string, error) {
	text := api.Scalar(raw)
	if text == "" || text == "null" {
		return nil, nil
	}
	pairs := make(map[string]string)
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			return nil, api.Invalid.Errorf("it is no JSON object")
		}
		for k, v := range object {
			pairs[k] = api.Scalar(v)
		}
		return pairs, nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, api.Invalid.Errorf("it is a JSON object or a list of key=value")
		}
		pairs[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	return pairs, nil
}
