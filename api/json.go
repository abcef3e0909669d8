package api

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// MaxLevels is how deep a secret's data may be nested: Go's decoder, and so
// Vault's clients, read 10,000 levels, two of which are the answer's own.
const MaxLevels = 10_000 - 2

// ErrLevels is told of data that is nested deeper than MaxLevels.
var ErrLevels error = Invalid.Errorf("data is nested deeper than %d levels", MaxLevels)

// A Shape is what one pass over valid JSON finds.
type Shape struct {
	Members map[string]json.RawMessage // of the outermost object: parts of the text; of a name that stands twice, the last
	Levels  int
	Twice   bool // an object has a name twice
	Spaced  bool // there is white space between the tokens
}

// ShapeOf costs one pass over the text, which must be valid, and memory for the
// names of the objects that are open.
func ShapeOf(raw []byte) Shape {
	type set map[string]struct{}
	s := Shape{Members: make(map[string]json.RawMessage)}
	var open []set // the objects and lists around i; nil for a list
	name := false  // the next string is a name
	member, value := "", 0
	end := func(i int) { // of a member, perhaps
		if len(open) == 1 && value > 0 {
			s.Members[member] = raw[value:i]
			value = 0
		}
	}
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{':
			open, name = append(open, set{}), true
			s.Levels = max(s.Levels, len(open))
		case '[':
			open, name = append(open, nil), false
			s.Levels = max(s.Levels, len(open))
		case '}', ']':
			end(i)
			open = open[:len(open)-1]
		case ',':
			end(i)
			name = open[len(open)-1] != nil
		case ' ', '\t', '\r', '\n':
			s.Spaced = true
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
				key = Scalar(raw[start : i+1])
			}
			_, seen := open[len(open)-1][key]
			s.Twice = s.Twice || seen
			open[len(open)-1][key] = struct{}{}
			if len(open) == 1 {
				member = key
			}
		}
	}
	return s
}

// Last is valid JSON whose objects have each name once, the last that raw has
// of it, as Vault stores it.
func Last(raw []byte) ([]byte, error) {
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

// An Object is what a handler takes whose body is the client's own data: one JSON
// object, whatever its fields, as [Last] has it.
type Object struct {
	JSON json.RawMessage // nil: there is no field
}

// Decode reads the body.
func (o *Object) Decode(r *Request) (given map[string]json.RawMessage, err error) {
	if !utf8.Valid(r.Body) {
		return nil, Invalid.Errorf("failed to parse JSON input: it is not valid UTF-8")
	}
	body := bytes.TrimSpace(r.Body)
	if len(body) == 0 {
		return nil, nil
	}
	given, err = Members(body)
	if err != nil || len(given) == 0 {
		return nil, err
	}
	o.JSON = body
	switch text := ShapeOf(body); {
	case text.Levels > MaxLevels:
		err = ErrLevels
	case text.Twice:
		o.JSON, err = Last(body)
	}
	return given, err
}

// Names are none: the fields are known to the client alone.
func (*Object) Names() []string { return nil }
