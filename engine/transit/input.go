package transit

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/sealkeep/sealkeep/api"
)

// A text is one of those that an item may have.
type text uint8

const (
	plaintext text = iota
	ciphertext
	keyContext
	associated
	nonce
	data // "input"
	mac
	signature
	reference
	texts // how many there are
)

var textNames = [texts]string{"plaintext", "ciphertext", "context", "associated_data", "nonce", "input", "hmac", "signature", "reference"}

// An item is what one result of an answer is for: the request itself, or one item of
// its batch.
type item struct {
	text    [texts][]byte // nil: not given, or null
	version int           // key_version

	// What the handlers find out.
	v   *version
	to  *version // of a rewrap
	err string   // why there is no result; "": none yet
}

// fail notes why an item has no result.
func (it *item) fail(err error) { it.err = err.Error() }

// An input is the body of a use of a key. It is read in one pass, in which the items
// of a batch become parts of the body.
type input struct {
	own     item
	batch   []item // nil: the request is the only item
	batched bool

	partial       int // partial_failure_response_code
	bits          *int
	typ           string
	convergent    bool
	algorithm     string
	hashAlgorithm string
	signing       signOptions
	failing       string // members that the result of a failed item has, too
}

// maxItems is how many items a batch has at most, as in Vault.
const maxItems = 10_000

// bodyMost is how long a body may be that has a batch, as in Vault.
const bodyMost = 32 << 20

// textFields are parameters of these names.
func textFields(names ...text) (fields []api.Field) {
	for _, name := range names {
		fields = append(fields, api.Field{Name: textNames[name], Kind: api.TextField})
	}
	return fields
}

// A use is what a body is read for.
type use interface{ fields() []api.Field }

// in is the input of a use.
type in[U use] struct{ input }

// Decode reads the body.
func (in *in[U]) Decode(r *api.Request) (given map[string]json.RawMessage, err error) {
	var u U
	return in.decode(r.Body, u.fields())
}

// Fields says what the parameters are.
func (*in[U]) Fields() []api.Field {
	var u U
	return u.fields()
}

// Names are the parameters.
func (in *in[U]) Names() (names []string) {
	for _, f := range in.Fields() {
		names = append(names, f.Name)
	}
	return names
}

// decode returns the fields only where one is not known, for the warning of it.
func (in *input) decode(body []byte, known []api.Field) (given map[string]json.RawMessage, err error) {
	if body = bytes.TrimSpace(body); len(body) == 0 || string(body) == "null" { // what Vault's client sends for no parameters
		return nil, nil
	}
	s := &scanner{in: body}
	unknown := false
	s.open('{')
	for n := 0; s.more('}', n); n++ {
		name := s.name()
		if !slices.ContainsFunc(known, func(f api.Field) bool { return f.Name == string(name) }) {
			unknown = true
			s.value()
			continue
		}
		if wrong := in.member(s, string(name)); wrong != nil && err == nil {
			err = wrong
		}
	}
	if !s.end() {
		if _, err := api.Members(body); err != nil {
			return nil, err
		}
		return nil, api.Invalid.Errorf("failed to parse JSON input: it must be one JSON object")
	}
	if unknown {
		given, _ = api.Members(body) // it is valid
	}
	return given, err
}

// member takes a parameter of the request.
func (in *input) member(s *scanner, name string) error {
	switch name {
	case "batch_input":
		return in.items(s)
	case "partial_failure_response_code":
		n, err := s.int(name)
		in.partial = n
		return err
	case "bits":
		n, err := s.int(name)
		in.bits = &n
		return err
	case "type":
		return s.string(name, &in.typ)
	case "algorithm":
		return s.string(name, &in.algorithm)
	case "hash_algorithm":
		return s.string(name, &in.hashAlgorithm)
	case "convergent_encryption":
		text, ok := s.scalar()
		if len(text) == 0 && ok {
			in.convergent = false
			return nil
		}
		b, err := strconv.ParseBool(string(text))
		if in.convergent = b; err != nil {
			return api.Invalid.Errorf("the parameter %s must be true or false", name)
		}
		return nil
	}
	if known, err := in.signing.member(s, name); known {
		return err
	}
	_, err := in.own.member(s, name)
	return err
}

// member takes a parameter that an item may have, too.
func (it *item) member(s *scanner, name string) (known bool, err error) {
	if name == "key_version" {
		it.version, err = s.int(name)
		return true, err
	}
	for i, is := range textNames {
		if is == name {
			text, ok := s.scalar()
			if it.text[i] = text; !ok {
				err = api.Invalid.Errorf("the parameter %s must be a text, not an object or a list", name)
			}
			return true, err
		}
	}
	return false, nil
}

// items takes a batch.
func (in *input) items(s *scanner) (err error) {
	in.batch, in.batched = nil, false
	switch s.peek() {
	case 'n':
		s.value()
		return nil
	case '[':
	default:
		s.value()
		return api.Invalid.Errorf("failed to parse batch input: it must be a list of objects")
	}
	in.batched = true
	s.open('[')
	first := s.at
	for n := 0; s.more(']', n); n++ {
		switch {
		case n >= maxItems:
			s.value()
			err = api.Invalid.Errorf("batch_input has more than the %d items that one request may have", maxItems)
			continue
		case s.peek() != '{':
			s.value()
			err = api.Invalid.Errorf("failed to parse batch input: '[%d]' must be an object", n)
			continue
		}
		if n == 1 && in.batch != nil { // the others are mostly as long as the first
			in.batch = slices.Grow(in.batch, min(maxItems, (len(s.in)-s.at)/max(s.at-first, 1)+1))
		}
		in.batch = append(in.batch, item{})
		it := &in.batch[len(in.batch)-1]
		s.open('{')
		for n := 0; s.more('}', n); n++ {
			name := s.name()
			known, wrong := it.member(s, string(name))
			if !known {
				s.value()
			} else if wrong != nil {
				err = api.Invalid.Errorf("failed to parse batch input: '[%d]': %v", len(in.batch)-1, wrong)
			}
		}
	}
	return err
}

// each returns the items of the request, in their order.
func (in *input) each() ([]item, error) {
	if !in.batched {
		return []item{in.own}, nil
	}
	if len(in.batch) == 0 {
		return nil, api.Invalid.Errorf("missing batch input to process")
	}
	return in.batch, nil
}

// int takes a whole number, perhaps in quotes.
func (s *scanner) int(name string) (int, error) {
	text, ok := s.scalar()
	if len(text) == 0 && ok {
		return 0, nil
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		return 0, api.Invalid.Errorf("the parameter %s must be a whole number", name)
	}
	return n, nil
}

// string takes a text.
func (s *scanner) string(name string, to *string) error {
	text, ok := s.scalar()
	if *to = string(text); !ok {
		return api.Invalid.Errorf("the parameter %s must be a text, not an object or a list", name)
	}
	return nil
}
