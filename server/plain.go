package server

import (
	"bytes"
	"encoding/json"
)

// maxLevels is how deep a secret's data may be nested: Go's decoder, and so
// Vault's clients, read 10,000 levels, two of which are the answer's own.
const maxLevels = 10_000 - 2

// plain looks in valid JSON for what some clients cannot read or would read
// otherwise than others: it refuses too many levels, and where an object has a
// name twice it returns the JSON with the last of each, as Vault stores it. Else
// it returns nil: the JSON can stay as it is. It costs one pass over the text,
// and memory for the names of the objects that are open.
func plain(raw []byte) ([]byte, error) {
	type set map[string]struct{}
	var open []set // the objects and lists around i; nil for a list
	name := false  // the next string is a name
	twice := false
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{':
			open, name = append(open, set{}), true
		case '[':
			open, name = append(open, nil), false
		case '}', ']':
			open = open[:len(open)-1]
		case ',':
			name = open[len(open)-1] != nil
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
			if escapes {
				key = scalar(raw[start : i+1])
			}
			_, seen := open[len(open)-1][key]
			twice = twice || seen
			open[len(open)-1][key] = struct{}{}
		}
		if len(open) > maxLevels {
			return nil, invalid("data is nested deeper than %d levels", maxLevels)
		}
	}
	if !twice {
		return nil, nil
	}
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
