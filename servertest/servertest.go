// Package servertest runs keeps under test: a real store in the test's folder, real
// HTTP handling, a fake clock, and key services in memory that do as they are told.
//
// Engines and login methods are arguments; the system and the login by token are
// there always. A test of a room sits in its folder, in a package of its own with
// _test at the end of its name, and speaks to the API.
package servertest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/storage"
	"github.com/sealkeep/sealkeep/sys"
	"github.com/sealkeep/sealkeep/token"
)

// A Config says which keep to run.
type Config struct {
	Path  string      // of the store; "": Fresh makes a folder
	Types []api.Type  // engines and login methods
	Seals []keep.Seal // see Fresh for one more
	Audit []audit.Device
	Edit  func([]api.Type) []api.Type // optional: changes all types, those of the system among them
}

// A Fixture is a keep under test.
type Fixture struct {
	*server.Server
	*keep.Keep
	Path  string
	Log   *Log
	Tail  *sys.Tail // through which the log goes
	HTTP  http.Handler
	Clock *Clock
	Root  string // the token that calls have

	mu     sync.Mutex
	before map[string]func(*api.Request) // by operation and path
}

// Start runs a keep; it is closed when the test ends.
func Start(t testing.TB, c Config) *Fixture {
	t.Helper()
	f := &Fixture{Path: c.Path, Log: new(Log), Clock: new(Clock), before: make(map[string]func(*api.Request))}
	f.Tail = sys.NewTail(slog.NewTextHandler(f.Log, nil))
	logger := slog.New(f.Tail)
	f.Keep = keep.New(keep.Config{
		Now: f.Clock.Now, Audit: c.Audit, Path: c.Path, Seals: c.Seals, Logger: logger, Version: "1.2.3", BuildDate: "2026-01-02T03:04:05Z",
	})
	types := append(slices.Clone(c.Types), sys.Type(f.Keep, sys.Config{Version: "1.2.3", APIAddr: "https://keep.example:8200", Tail: f.Tail}), token.Type())
	if c.Edit != nil {
		types = c.Edit(types)
	}
	for _, typ := range types {
		f.watch(typ)
	}
	var err error
	if f.Server, err = server.New(server.Config{Keep: f.Keep, Now: f.Clock.Now, Logger: logger, Version: "1.2.3", Types: types}); err != nil {
		t.Fatal(err)
	}
	f.HTTP = f.Handler(server.Listener{})
	t.Cleanup(func() {
		f.Stop(t)
		if t.Failed() {
			t.Logf("the server's log:\n%s", f.Log)
		}
	})
	return f
}

// Stop closes the keep.
func (f *Fixture) Stop(t testing.TB) {
	t.Helper()
	if err := f.Server.Close(context.Background()); err != nil {
		t.Errorf("closing: %v", err)
	}
}

// Fresh runs a new, initialized and unsealed keep. It has one more seal, with whose
// slot the store is checked when the test ends.
func Fresh(t testing.TB, c Config) *Fixture {
	t.Helper()
	c.Path = filepath.Join(t.TempDir(), "keep.db")
	check := NewSeal("check", 99)
	c.Seals = append(slices.Clone(c.Seals), check)
	f := Start(t, c)
	f.Initialize(t)
	t.Cleanup(func() {
		f.Stop(t)
		CheckStore(t, c.Path, check)
	})
	return f
}

// Initialize makes the store; its root token is that of the calls thereafter.
func (f *Fixture) Initialize(t testing.TB) {
	t.Helper()
	out, err := f.Init(context.Background(), keep.InitRequest{})
	if err != nil {
		t.Fatal(err)
	}
	f.Root = out.RootToken
}

// Before has something done before the handler of a route's operation runs, until
// restore is called.
func (f *Fixture) Before(route string, op api.Op, do func(*api.Request)) (restore func()) {
	key := op.String() + " " + route
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before[key] = do
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.before, key)
	}
}

// watch has Before asked whenever a handler of the type runs.
func (f *Fixture) watch(t api.Type) {
	for _, r := range t.Routes {
		for op, h := range r.Ops {
			key := op.String() + " " + t.At + r.Path
			r.Ops[op] = h.Before(func(r *api.Request) {
				f.mu.Lock()
				do := f.before[key]
				f.mu.Unlock()
				if do != nil {
					do(r)
				}
			})
		}
	}
}

// CheckStore opens the store with the seal's slot and has every record checked.
func CheckStore(t testing.TB, path string, seal *Seal) {
	t.Helper()
	seal.Tell(nil)
	store, err := storage.Open(path, storage.Options{})
	if err != nil {
		t.Errorf("opening the store to check it: %v", err)
		return
	}
	defer store.Close()
	slots, err := store.Slots()
	if err != nil {
		t.Error(err)
	}
	for _, slot := range slots {
		if slot.Name != seal.Called {
			continue
		}
		root, err := seal.Unwrap(context.Background(), slot.Blob, slot.Context(store.UUID()))
		if err == nil {
			err = store.Unseal(root)
		}
		if err != nil {
			t.Errorf("unsealing the store to check it: %v", err)
			return
		}
		if r, err := store.Check(context.Background()); err != nil || !r.OK() {
			t.Errorf("the store does not check: %v, %+v", err, r)
		}
		return
	}
	t.Errorf("the store has no slot %q to check it with", seal.Called)
}

// Forget has the keep read tokens and policies again.
func (f *Fixture) Forget(t testing.TB) {
	t.Helper()
	u := f.Unsealed()
	nothing := errors.New("nothing is changed")
	err := u.ChangeToken(t.Context(), access.ID{}, func(*storage.Tx, time.Time) (tree bool, err error) { return false, nothing })
	if err == nothing {
		err = u.ChangePolicies(t.Context(), func(*storage.Tx) error { return nil })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Client is the official client of a running keep.
func (f *Fixture) Client(t testing.TB) *vault.Client {
	t.Helper()
	web := httptest.NewServer(f.HTTP)
	t.Cleanup(web.Close)
	config := vault.DefaultConfig()
	if config.Error != nil {
		t.Fatal(config.Error)
	}
	config.Address = web.URL
	config.MaxRetries = 0
	c, err := vault.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	c.ClearNamespace()
	c.SetToken(f.Root)
	return c
}
