package transit

import (
	"encoding/json"
	"fmt"

	"github.com/sealkeep/sealkeep/api"
)

// encoded is an answer that is JSON already.
type encoded []byte

// AppendJSON appends it.
func (e encoded) AppendJSON(b []byte) []byte { return append(b, e...) }

// Size is how long it is.
func (e encoded) Size() int { return len(e) }

// A compute appends the members of an item's result, or says why there is none; an
// error of an [api.Error] or any other is for the client. What it has in scratch it
// returns, to be used again.
type compute func(b []byte, it *item, scratch []byte) (_, kept []byte, err error)

// answer computes the results of the items. In a batch, those that fail have an error
// in the place of a result; what status that has is Vault's: 400 if one has failed,
// or the one that the request asks for if another has not.
func answer(r *api.Request, in *input, items []item, a api.Answer, do compute) (api.Answer, error) {
	b := make([]byte, 0, 64+2*len(r.Body))
	var scratch []byte
	if !in.batched {
		var err error
		it := &items[0]
		if it.err == "" {
			if b, _, err = do(append(b, '{'), it, nil); err != nil {
				it.fail(err)
			}
		}
		if it.err != "" {
			return api.Answer{}, api.Invalid.Errorf("%s", it.err)
		}
		a.Data = encoded(append(b, '}'))
		return a, nil
	}
	b = append(b, `{"batch_results":[`...)
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		it := &items[i]
		b = append(b, '{')
		if it.err == "" {
			if err := r.Err(); err != nil { // nobody waits any more
				return api.Answer{}, err
			}
			start := len(b)
			var err error
			if b, scratch, err = do(b, it, scratch); err != nil {
				b = b[:start]
				it.fail(err)
			}
		}
		if it.err != "" {
			b = appendText(append(append(b, in.failing...), `"error":`...), []byte(it.err))
		}
		b = appendText(append(b, `,"reference":`...), it.text[reference])
		b = append(b, '}')
	}
	a.Data = encoded(append(b, "]}"...))
	return a, nil
}

// badRequest is a status that is part of the API.
const badRequest = 400

// partly gives the answer to a batch its status: 400 if an item has failed, or the one
// that the request asks for if another has not. Vault has it so where it encrypts and
// decrypts; other batches are 200 whatever their items are.
func (in *input) partly(items []item, a api.Answer, err error) (api.Answer, error) {
	if !in.batched || err != nil {
		return a, err
	}
	failed := 0
	for i := range items {
		if items[i].err != "" {
			failed++
		}
	}
	if failed == 0 {
		return a, nil
	}
	a.Status = badRequest
	switch n := in.partial; {
	case n == 0 || failed == len(items):
	case n < 200 || n > 599:
		a.Warnings = append(a.Warnings, fmt.Sprintf("invalid HTTP response code override from partial_failure_response_code, reverting to %d", a.Status))
	default:
		a.Status = n
	}
	return a, nil
}

// appendText appends a JSON text.
func appendText(b, text []byte) []byte {
	for _, c := range text {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(string(text)) // texts always encode
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}
