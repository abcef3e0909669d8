package transit

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
	"github.com/sealkeep/sealkeep/storage/storagetest"
)

var start = time.Date(2026, 3, 22, 2, 24, 6, 945319214, time.UTC)

// keep is a mount of the engine over a real store, with a clock that the test moves.
type keep struct {
	testing.TB
	store *storage.Store
	mount *api.Mount
	e     engine
	now   time.Time
	query url.Values // of the next calls
	token *access.Token
}

func newKeep(t testing.TB) *keep {
	t.Helper()
	m := &api.Mount{Path: "transit/", UUID: "7f3a", Type: "transit"}
	return &keep{TB: t, store: storagetest.New(t), mount: m, e: engine{m.Prefix()}, now: start}
}

// frame is the pipeline of the tests, which lets everything through.
type frame struct {
	api.Frame
	k *keep
}

func (f frame) Time() time.Time          { return f.k.now }
func (f frame) Permit(*storage.Tx) error { return nil }
func (f frame) Log() *slog.Logger        { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// call has a route answer.
func (k *keep) call(op api.Op, path, body string) (api.Answer, error) {
	k.Helper()
	for _, route := range Type().Routes {
		names, values, ok := match(route.Path, path)
		h, has := route.Ops[op]
		if !ok || !has {
			continue
		}
		r := &api.Request{
			Context: context.Background(), Op: op, Path: "transit/" + path, Params: api.Params{Names: names, Values: values},
			Mount: k.mount, Now: k.now, Store: k.store, Frame: frame{k: k}, Query: k.query, Caller: api.Caller{Token: k.token},
		}
		if op.HasBody() {
			r.Body = []byte(body)
		}
		in, _, err := h.Decode(r, route.Settings)
		if err != nil {
			return api.Answer{}, err
		}
		return h.Run(r, in)
	}
	k.Fatalf("there is no route of %s %s", op, path)
	panic("unreachable")
}

// must is call that wants no error.
func (k *keep) must(op api.Op, path, body string) api.Answer {
	k.Helper()
	a, err := k.call(op, path, body)
	if err != nil {
		k.Fatalf("%s %s %s: %v", op, path, body, err)
	}
	return a
}

// refuse is call that wants an error with the text.
func (k *keep) refuse(text string, op api.Op, path, body string) {
	k.Helper()
	_, err := k.call(op, path, body)
	if told, ok := errors.AsType[*api.Error](err); !ok || told.Text != text {
		k.Errorf("%s %s %s: %v, want %q", op, path, body, err, text)
	}
}

// match tells whether a path is of a route, none of whose names stands for several
// segments.
func match(route, path string) (names *[api.MaxParams]string, values [api.MaxParams]string, ok bool) {
	want, have := strings.Split(route, "/"), strings.Split(path, "/")
	if len(want) != len(have) {
		return nil, values, false
	}
	names, n := new([api.MaxParams]string), 0
	for i, part := range want {
		if strings.HasPrefix(part, "{") {
			names[n], values[n] = strings.Trim(part, "{}"), have[i]
			n++
		} else if part != have[i] {
			return nil, values, false
		}
	}
	return names, values, true
}
