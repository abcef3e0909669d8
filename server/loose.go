package server

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
)

// Vault takes a number, a boolean or a list also as a string, which is all that
// `vault write path name=value` can send. A loose value does the same; null is
// the zero value, and given tells whether there was one at all.
type loose[T any] struct {
	value T
	given bool
}

func (l *loose[T]) UnmarshalJSON(b []byte) error {
	l.given = true
	var err error
	switch to := any(&l.value).(type) {
	case *int:
		*to, err = parseInt(scalar(b))
	case *bool:
		*to, err = parseBool(scalar(b))
	case *time.Duration:
		*to, err = access.ParseDuration(scalar(b))
	case *[]uint64:
		*to, err = parseVersions(b)
	case *[]string:
		*to = parseList(b)
	}
	return err
}

// pointer is nil when no value was given.
func (l *loose[T]) pointer() *T {
	if !l.given {
		return nil
	}
	return &l.value
}

// scalar is the text of a JSON string, or of any other value as it stands;
// empty for null.
func scalar(b []byte) string {
	var text string
	if json.Unmarshal(b, &text) != nil {
		return string(b)
	}
	return text
}

func parseInt(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, invalid("%q is not a whole number", text)
	}
	return n, nil
}

func parseBool(text string) (bool, error) {
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, invalid("%q is neither true nor false", text)
	}
	return b, nil
}

// parseList reads ["a","b"], "a, b" or "a"; null and "" are the empty list.
func parseList(b []byte) []string {
	var texts []string
	var items []json.RawMessage
	if json.Unmarshal(b, &items) == nil {
		for _, item := range items {
			texts = append(texts, scalar(item))
		}
	} else if list := scalar(b); list != "" {
		for text := range strings.SplitSeq(list, ",") {
			texts = append(texts, strings.TrimSpace(text))
		}
	}
	return texts
}

// parseVersions reads [1,2], ["1","2"], "1,2" or 1.
func parseVersions(b []byte) ([]uint64, error) {
	var versions []uint64
	for _, text := range parseList(b) {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return nil, invalid("%q is not the number of a version", text)
		}
		versions = append(versions, n)
	}
	slices.Sort(versions)
	return slices.Compact(versions), nil
}

// parsePairs reads pairs as package login does: an object, a text that has one, or
// "a=1,b=2".
func parsePairs(raw json.RawMessage) (map[string]string, error) {
	text := scalar(raw)
	if text == "" || text == "null" {
		return nil, nil
	}
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			return nil, invalid("failed to parse metadata: it is no JSON object")
		}
		meta := make(map[string]string, len(object))
		for k, v := range object {
			meta[k] = scalar(v)
		}
		return meta, nil
	}
	meta := make(map[string]string)
	for pair := range strings.SplitSeq(text, ",") {
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, invalid("failed to parse metadata: it is a JSON object or a list of key=value")
		}
		meta[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	return meta, nil
}
