package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/storage"
	"github.com/sealkeep/sealkeep/sys"
)

// counterType is an engine that counts: its records are <folder>/<name>, a decimal number.
func counterType() api.Type {
	exists := func(r *api.Request, tx *storage.Tx) (bool, error) {
		value, err := tx.Get(record(r))
		return value != nil, err
	}
	return api.Type{
		Name: "counter", Help: "Counts.", Kind: api.Secrets,
		Routes: []api.Route{
			{Path: "", Help: "The names of the counters.", Ops: map[api.Op]api.Handler{api.List: api.View(list)}},
			{Path: "{name}", Help: "A counter.", Exists: exists, Ops: map[api.Op]api.Handler{
				api.Read: api.View(read), api.Write: api.Update(add), api.Delete: api.Update(remove)}},
		},
	}
}

const most = 1<<53 - 1 // which JSON numbers hold exactly everywhere

// addInput is the body of a write.
type addInput struct {
	By *int `json:"by"` // nil: 1
}

func record(r *api.Request) string { return r.Prefix() + "/" + r.Param("name") }

func list(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	return api.Keys(tx.List(r.Prefix()))
}

func read(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	value, err := tx.Get(record(r))
	if err == nil && value == nil {
		err = api.ErrAbsent
	}
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: map[string]any{"count": string(value)}}, nil
}

func add(r *api.Request, tx *storage.Tx, in *addInput) (api.Answer, error) {
	value, err := tx.Get(record(r))
	if err != nil {
		return api.Answer{}, err
	}
	count := 0
	if value != nil {
		if count, err = strconv.Atoi(string(value)); err != nil {
			return api.Answer{}, fmt.Errorf("reading the counter: %w: %w", storage.ErrCorrupt, err)
		}
	}
	by := 1
	if in.By != nil {
		by = *in.By
	}
	if by < 1 || by > most-count {
		return api.Answer{}, api.Invalid.Errorf("by must be 1 or more, for counters only grow, up to %d", most)
	}
	return api.Answer{}, tx.Put(record(r), strconv.AppendInt(nil, int64(count+by), 10))
}

func remove(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	return api.Answer{}, tx.Delete(record(r))
}

// A new engine is a Type, handed to the server; policies, the audit log, wrapping,
// limits and metrics are there for it without a line of its own.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	k := keep.New(keep.Config{Path: filepath.Join(dir, "keep.db")})
	s, err := server.New(server.Config{Keep: k, Types: []api.Type{sys.Type(k, sys.Config{}), counterType()}})
	if err != nil {
		panic(err)
	}
	defer s.Close(context.Background())
	out, err := k.Init(context.Background(), keep.InitRequest{RecoveryShares: 1, RecoveryThreshold: 1})
	if err != nil {
		panic(err)
	}
	handler := s.Handler(server.Listener{})
	ask := func(method, path, body string) {
		r := httptest.NewRequest(method, "/v1/"+path, strings.NewReader(body))
		r.Header.Set("X-Vault-Token", out.RootToken)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		_, count, _ := strings.Cut(w.Body.String(), `"count":`)
		count, _, _ = strings.Cut(count, "}")
		fmt.Println(strings.TrimSpace(fmt.Sprint(method, " ", path, " ", w.Code, " ", http.StatusText(w.Code), " ", count)))
	}
	ask("POST", "sys/mounts/visits", `{"type":"counter"}`)
	ask("POST", "visits/home", "")
	ask("POST", "visits/home", `{"by":"41"}`)
	ask("GET", "visits/home", "")
	ask("POST", "visits/home", `{"by":-1}`)
	ask("GET", "visits/nothing", "")
	// Output:
	// POST sys/mounts/visits 204 No Content
	// POST visits/home 204 No Content
	// POST visits/home 204 No Content
	// GET visits/home 200 OK "42"
	// POST visits/home 400 Bad Request
	// GET visits/nothing 404 Not Found
}
