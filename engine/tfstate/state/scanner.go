package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// maxScalar is the longest name or scalar of the outermost object that is looked at.
const maxScalar = 4 << 10

// A Scanner looks at a state as it streams by. It checks the brackets and strings of
// what it looks at, not all of JSON's grammar: what the client has sent is stored as it
// is, and only garbage is to be told from a state.
type Scanner struct {
	Serial    uint64
	Lineage   string
	Terraform string // version of the program
	Encrypted bool   // by OpenTofu

	// Where the digits of the serial are in the state; 0, 0: there are none.
	SerialFrom, SerialTo int64

	err    error
	at     int64 // bytes seen
	depth  int
	done   bool // all that matters was found
	ended  bool // the outermost object has ended
	last   byte // that is not white space
	str    bool // inside a string
	escape bool // behind a backslash
	value  bool // at the outermost object's level: behind a colon
	name   []byte
	text   []byte // the string or scalar at the outermost object's level
	from   int64  // where it begins
	gap    bool   // there was white space behind it
	has    int    // serial: 1, lineage: 2
}

// Write looks at more of the state. It never fails: see Close.
func (s *Scanner) Write(p []byte) (int, error) {
	n := len(p)
	if t := bytes.TrimRight(p, " \t\r\n"); len(t) > 0 {
		s.last = t[len(t)-1]
	}
	if !s.done && s.err == nil {
		s.scan(p)
	}
	s.at += int64(n)
	return n, nil
}

func (s *Scanner) scan(p []byte) {
	for i := 0; i < len(p) && !s.done && s.err == nil; i++ {
		c := p[i]
		if s.str {
			if s.depth > 1 && !s.escape && c != '"' && c != '\\' { // skip
				j := bytes.IndexAny(p[i:], "\"\\")
				if j < 0 {
					return
				}
				i += j
				c = p[i]
			}
			switch {
			case s.escape:
				s.escape = false
			case c == '\\':
				s.escape = true
			case c == '"':
				s.str = false
			}
			s.keep(c)
			continue
		}
		switch c {
		case ' ', '\t', '\r', '\n':
			s.gap = len(s.text) > 0
		case '{', '[':
			if s.depth == 0 && (c != '{' || s.ended) {
				s.err = fmt.Errorf("%w: it is not one JSON object", ErrNotState)
				return
			}
			if s.depth == 1 && s.value {
				s.member(nil)
			}
			s.depth++
		case '}', ']':
			if s.depth == 1 && s.value {
				s.member(s.text)
			}
			if s.depth--; s.depth == 0 {
				s.ended, s.done = true, true
			}
			s.value, s.text = false, nil
		case ':':
			if s.depth == 1 && !s.value {
				if json.Unmarshal(s.text, (*jsonText)(&s.name)) != nil {
					s.err = fmt.Errorf("%w: byte %d is not where a member of an object can begin", ErrNotState, s.at+int64(i))
					return
				}
				s.value, s.text = true, nil
			}
		case ',':
			if s.depth == 1 {
				if s.value {
					s.member(s.text)
				}
				s.value, s.text = false, nil
			}
		default:
			if s.depth == 0 {
				s.err = fmt.Errorf("%w: it does not begin with {", ErrNotState)
				return
			}
			switch {
			case s.depth > 1:
			case len(s.text) == 0:
				s.from, s.gap = s.at+int64(i), false
			case s.gap || c == '"':
				s.err = fmt.Errorf("%w: at byte %d two values follow each other", ErrNotState, s.at+int64(i))
				return
			}
			s.str = c == '"'
			s.keep(c)
		}
	}
}

// keep keeps what is at the outermost object's level.
func (s *Scanner) keep(c byte) {
	if s.depth == 1 && len(s.text) <= maxScalar {
		s.text = append(s.text, c)
	}
}

// jsonText decodes a JSON string.
type jsonText []byte

func (t *jsonText) UnmarshalJSON(b []byte) error {
	var text string
	err := json.Unmarshal(b, &text)
	*t = []byte(text)
	return err
}

// member takes a member of the outermost object, text being nil for an object or a list.
func (s *Scanner) member(text []byte) {
	var err error
	switch string(s.name) {
	case "serial":
		s.SerialFrom, s.SerialTo = s.from, s.from+int64(len(text))
		s.Serial, err = strconv.ParseUint(string(text), 10, 64)
		err = errors.Join(err, s.once(1))
	case "lineage":
		err = errors.Join(json.Unmarshal(text, &s.Lineage), s.once(2))
	case "terraform_version":
		err = json.Unmarshal(text, &s.Terraform)
	case "encrypted_data", "encryption_version":
		s.Encrypted = true
	case "resources", "modules":
		// The other members are behind only if somebody has sorted them.
		s.done = s.has == 3
	}
	s.name = nil
	if err != nil {
		s.err = fmt.Errorf("%w: what it has as serial, lineage or terraform_version is not such", ErrNotState)
	}
	if s.Encrypted && s.has == 3 {
		s.done = true
	}
}

// once refuses a member that stands twice: which of them counts must not depend on who
// reads it.
func (s *Scanner) once(member int) error {
	if s.has&member != 0 {
		return ErrNotState
	}
	s.has |= member
	return nil
}

// Close says whether it was a state, when all of it was written.
func (s *Scanner) Close() error {
	switch {
	case s.err != nil:
		return s.err
	case s.at == 0 || s.last != '}' || !s.done:
		return fmt.Errorf("%w: it ends before its object does", ErrNotState)
	}
	return nil
}
