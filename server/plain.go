package server

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// maxLevels is how deep a secret's data may be nested: Go's decoder, and so
// Vault's clients, read 10,000 levels, two of which are the answer's own.
const maxLevels = 10_000 - 2

var errLevels = invalid("data is nested deeper than %d levels", maxLevels)

// shape is what one pass over valid JSON finds.
type shape struct {
	members map[string]json.RawMessage // of the outermost object: parts of the text; of a name that stands twice, the last
	levels  int
	twice   bool // an object has a name twice
	spaced  bool // there is white space between the tokens
}

// scan costs one pass over the text, which must be valid, and memory for the
// names of the objects that are open.
func scan(raw []byte) shape {
	type set map[string]struct{}
	s := shape{members: make(map[string]json.RawMessage)}
	var open []set // the objects and lists around i; nil for a list
	name := false  // the next string is a name
	member, value := "", 0
	end := func(i int) { // of a member, perhaps
		if len(open) == 1 && value > 0 {
			s.members[member] = raw[value:i]
			value = 0
		}
	}
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{':
			open, name = append(open, set{}), true
			s.levels = max(s.levels, len(open))
		case '[':
			open, name = append(open, nil), false
			s.levels = max(s.levels, len(open))
		case '}', ']':
			end(i)
			open = open[:len(open)-1]
		case ',':
			end(i)
			name = open[len(open)-1] != nil
		case ' ', '\t', '\r', '\n':
			s.spaced = true
		case ':':
			if len(open) == 1 {
				value = i + 1
			}
		case '"':
			start, escapes := i, false
			for i++; raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					escapes = true
					i++
				}
			}
			if !name {
				break
			}
			name = false
			key := string(raw[start+1 : i])
			if escapes || !utf8.ValidString(key) {
				key = scalar(raw[start : i+1])
			}
			_, seen := open[len(open)-1][key]
			s.twice = s.twice || seen
			open[len(open)-1][key] = struct{}{}
			if len(open) == 1 {
				member = key
			}
		}
	}
	return s
}

// last is valid JSON whose objects have each name once, the last that raw has
// of it, as Vault stores it.
func last(raw []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // as many digits as there were
	var data any
	if err := d.Decode(&data); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(data); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
