package login

import (
	"encoding/json"
	"strings"

	"github.com/sealkeep/sealkeep/api"
)

// ParsePairs reads names and values as Vault does: an object, a text that has one, or
// "a=1,b=2". The error says what is expected.
func ParsePairs(raw json.RawMessage) (map[string]string, error) {
	text := api.Scalar(raw)
	if text == "" || text == "null" {
		return nil, nil
	}
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			return nil, api.Invalid.Errorf("it is no JSON object")
		}
		meta := make(map[string]string, len(object))
		for k, v := range object {
			meta[k] = api.Scalar(v)
		}
		return meta, nil
	}
	meta := make(map[string]string)
	for pair := range strings.SplitSeq(text, ",") {
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, api.Invalid.Errorf("it is a JSON object or a list of key=value")
		}
		meta[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	return meta, nil
}
