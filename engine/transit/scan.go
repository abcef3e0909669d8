package transit

import (
	"encoding/binary"
	"encoding/json"
	"math/bits"
)

// A scanner reads JSON in one pass, value by value, without copying. It takes what
// encoding/json takes and nothing else. What is wrong makes it bad for good: then it
// returns nothing and ends every loop, so that only the end is asked.
type scanner struct {
	in    []byte
	at    int
	depth int
	bad   bool
}

// maxDepth is how deep values are nested at most, as in encoding/json.
const maxDepth = 10_000

// peek skips space and returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	for ; s.at < len(s.in); s.at++ {
		switch c := s.in[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// take skips space and takes the byte c.
func (s *scanner) take(c byte) {
	if s.bad = s.bad || s.peek() != c; !s.bad {
		s.at++
	}
}

// open takes the beginning of an object or a list.
func (s *scanner) open(c byte) {
	s.take(c)
	s.depth++
	s.bad = s.bad || s.depth > maxDepth
}

// more reports whether there is another member, after n of them, of what ends with
// the byte c. It takes the comma before it, or the end.
func (s *scanner) more(c byte, n int) bool {
	if s.bad {
		return false
	}
	if s.peek() == c {
		s.at++
		s.depth--
		return false
	}
	if n > 0 {
		s.take(',')
	}
	return !s.bad
}

// end reports whether there was one value and nothing behind it.
func (s *scanner) end() bool {
	s.peek()
	return !s.bad && s.at == len(s.in)
}

// name takes the name of a member.
func (s *scanner) name() []byte {
	name := s.text()
	s.take(':')
	return name
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// text takes a text and returns what stands in its quotes, a part of the input unless
// there are escapes in it.
func (s *scanner) text() []byte {
	if s.take('"'); s.bad {
		return nil
	}
	start, escaped := s.at, false
	for s.at < len(s.in) {
		// Eight bytes at once, as long as none is a quote, a backslash or a control
		// character. A byte is 0 in x-ones&^x if it is in x; the lowest such bit is exact.
		for s.at+8 <= len(s.in) {
			x := binary.LittleEndian.Uint64(s.in[s.at:])
			quote, slash := x^(ones*'"'), x^(ones*'\\')
			found := (quote - ones) &^ quote & highs
			found |= (slash - ones) &^ slash & highs
			found |= (x - ones*0x20) &^ x & highs
			if found != 0 {
				s.at += bits.TrailingZeros64(found) / 8
				break
			}
			s.at += 8
		}
		if s.at == len(s.in) {
			break
		}
		switch c := s.in[s.at]; {
		case c == '"':
			text := s.in[start:s.at:s.at]
			s.at++
			if escaped {
				return s.unquote(start - 1)
			}
			return text
		case c == '\\':
			escaped = true
			if s.at++; s.at == len(s.in) {
				s.bad = true
				return nil
			}
		case c < ' ':
			s.bad = true
			return nil
		}
		s.at++
	}
	s.bad = true
	return nil
}

// unquote returns the text with escapes whose token begins at start.
func (s *scanner) unquote(start int) []byte {
	var text string
	if json.Unmarshal(s.in[start:s.at], &text) != nil {
		s.bad = true
		return nil
	}
	return []byte(text)
}

// value takes any value and returns it as it stands.
func (s *scanner) value() []byte {
	c := s.peek()
	start := s.at
	switch c {
	case '{':
		s.open('{')
		for n := 0; s.more('}', n); n++ {
			s.name()
			s.value()
		}
	case '[':
		s.open('[')
		for n := 0; s.more(']', n); n++ {
			s.value()
		}
	case '"':
		s.text()
	case 't':
		s.word("true")
	case 'f':
		s.word("false")
	case 'n':
		s.word("null")
	default:
		s.number()
	}
	if s.bad {
		return nil
	}
	return s.in[start:s.at]
}

func (s *scanner) word(w string) {
	if s.bad = s.bad || len(s.in)-s.at < len(w) || string(s.in[s.at:s.at+len(w)]) != w; !s.bad {
		s.at += len(w)
	}
}

func (s *scanner) number() {
	if s.at < len(s.in) && s.in[s.at] == '-' {
		s.at++
	}
	if s.at < len(s.in) && s.in[s.at] == '0' {
		s.at++
	} else {
		s.digits()
	}
	if s.at < len(s.in) && s.in[s.at] == '.' {
		s.at++
		s.digits()
	}
	if s.at < len(s.in) && s.in[s.at]|0x20 == 'e' {
		if s.at++; s.at < len(s.in) && (s.in[s.at] == '+' || s.in[s.at] == '-') {
			s.at++
		}
		s.digits()
	}
}

// digits takes at least one.
func (s *scanner) digits() {
	start := s.at
	for s.at < len(s.in) && '0' <= s.in[s.at] && s.in[s.at] <= '9' {
		s.at++
	}
	s.bad = s.bad || s.at == start
}

// scalar takes a text, a number or a boolean, as the text that it spells; nil is null.
// What is no scalar is taken, too, and ok is false.
func (s *scanner) scalar() (text []byte, ok bool) {
	switch s.peek() {
	case '"':
		return s.text(), true
	case 'n':
		s.value()
		return nil, true
	case '{', '[':
		s.value()
		return nil, false
	}
	return s.value(), true
}
