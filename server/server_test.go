package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/audit"
	"github.com/sealkeep/sealkeep/engine/cubbyhole"
	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/engine/kvv1"
	"github.com/sealkeep/sealkeep/engine/transit"
	"github.com/sealkeep/sealkeep/login/approle"
	"github.com/sealkeep/sealkeep/login/cert"
	"github.com/sealkeep/sealkeep/login/jwt"
	"github.com/sealkeep/sealkeep/login/peer"
	"github.com/sealkeep/sealkeep/login/userpass"
	"github.com/sealkeep/sealkeep/storage"
)

// fakeSeal is a key service in memory that does as it is told.
type fakeSeal struct {
	name     string
	typ      string // "" is fake
	priority int
	disabled bool
	aead     cipher.AEAD

	mu     sync.Mutex
	do     func(ctx context.Context) error // before every call; nil: nothing
	lie    bool                            // Unwrap gives another key
	key    string                          // that it wraps with
	dead   string                          // a key that opens nothing any more
	bad    bool                            // Wrap makes what does not open
	manual bool
	calls  int // of Unwrap
	wraps  int
	inside int // calls of Unwrap under way
	most   int // the most that were
	closed int
}

// classed is an error with a class, as package seal makes them.
type classed string

func (c classed) Error() string { return "the fake key service says " + string(c) }
func (c classed) Class() string { return string(c) }

func newSeal(name string, priority int) *fakeSeal {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return &fakeSeal{name: name, priority: priority, aead: aead, key: name + "-key"}
}

// again is the same key service with a new configuration.
func (f *fakeSeal) again() *fakeSeal {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fakeSeal{name: f.name, priority: f.priority, aead: f.aead, key: f.key}
}

func (f *fakeSeal) Name() string   { return f.name }
func (f *fakeSeal) Type() string   { return cmp.Or(f.typ, "fake") }
func (f *fakeSeal) Priority() int  { return f.priority }
func (f *fakeSeal) Disabled() bool { return f.disabled }

func (f *fakeSeal) tell(do func(ctx context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.do = do
}

func fails(class string) func(context.Context) error {
	return func(context.Context) error { return classed(class) }
}

func hangs(ctx context.Context) error {
	<-ctx.Done()
	return classed("unreachable")
}

func (f *fakeSeal) before(ctx context.Context) error {
	f.mu.Lock()
	do := f.do
	f.mu.Unlock()
	if do != nil {
		return do(ctx)
	}
	return nil
}

func (f *fakeSeal) Wrap(ctx context.Context, secret, aad []byte) ([]byte, string, error) {
	f.mu.Lock()
	f.wraps++
	key, bad := f.key, f.bad
	f.mu.Unlock()
	if err := f.before(ctx); err != nil {
		return nil, "", err
	}
	if bad {
		aad = nil
	}
	return append([]byte(key+"\x00"), f.aead.Seal(nil, nil, secret, aad)...), key, nil
}

func (f *fakeSeal) KeyID(ctx context.Context) (string, error) {
	if err := f.before(ctx); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.key, nil
}

// turn changes the key that it wraps with. The old one still opens.
func (f *fakeSeal) turn(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.key = key
}

// wrapped is how often Wrap was called.
func (f *fakeSeal) wrapped() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wraps
}

// end makes a key open nothing any more.
func (f *fakeSeal) end(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = key
}

func (f *fakeSeal) Manual() bool { return f.manual }

func (f *fakeSeal) Unwrap(ctx context.Context, blob, aad []byte) ([]byte, error) {
	f.mu.Lock()
	f.calls++
	f.inside++
	f.most = max(f.most, f.inside)
	lie, dead := f.lie, f.dead
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.inside--
		f.mu.Unlock()
	}()
	if err := f.before(ctx); err != nil {
		return nil, err
	}
	if lie {
		return storage.NewRootKey(), nil
	}
	key, sealed, _ := bytes.Cut(blob, []byte{0})
	if string(key) == dead && dead != "" {
		return nil, classed("key_disabled")
	}
	secret, err := f.aead.Open(nil, nil, sealed, aad)
	if err != nil {
		return nil, classed("blob_mismatch")
	}
	return secret, nil
}

func (f *fakeSeal) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed++
	if f.inside > 0 {
		return errors.New("closed with a call under way")
	}
	return nil
}

func (f *fakeSeal) count() (calls, most, closed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls, f.most, f.closed
}

// logBuffer collects a log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take empties it and returns what it had.
func (l *logBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fixture is a keep under test.
type fixture struct {
	*Server
	path  string
	log   *logBuffer
	http  http.Handler
	clock *clock
	root  string // token
}

// start runs a keep on the store at path; it is closed and its store checked
// when the test ends. A first seal opens the store for the check.
func start(t testing.TB, path string, seals ...Seal) *fixture {
	t.Helper()
	return startAudited(t, path, nil, seals...)
}

// startAudited is start with audit devices.
func startAudited(t testing.TB, path string, devices []audit.Device, seals ...Seal) *fixture {
	t.Helper()
	log, clock := new(logBuffer), new(clock)
	s, err := New(Config{
		Now: clock.now, Audit: devices,
		Path: path, Seals: seals, Types: []api.Type{cubbyhole.Type(), kv.Type(), kvv1.Type(), transit.Type(), approle.Type(), cert.Type(), jwt.Type(), peer.Type(), userpass.Type()}, Version: "1.2.3", BuildDate: "2026-01-02T03:04:05Z", APIAddr: "https://keep.example:8200",
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Server: s, path: path, log: log, http: s.Handler(Listener{}), clock: clock}
	t.Cleanup(func() {
		f.stop(t)
		if t.Failed() {
			t.Logf("the server's log:\n%s", log)
		}
	})
	return f
}

// stop closes the keep.
func (f *fixture) stop(t testing.TB) {
	t.Helper()
	if err := f.Close(context.Background()); err != nil {
		t.Errorf("closing: %v", err)
	}
}

// fresh runs a new, initialized and unsealed keep.
func fresh(t testing.TB, seals ...Seal) *fixture {
	t.Helper()
	return freshAudited(t, nil, seals...)
}

// freshAudited is fresh with audit devices.
func freshAudited(t testing.TB, devices []audit.Device, seals ...Seal) *fixture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keep.db")
	check := newSeal("check", 99)
	f := startAudited(t, path, devices, append(seals, check)...)
	f.init(t)
	t.Cleanup(func() {
		f.stop(t)
		checkStore(t, path, check)
	})
	return f
}

func (f *fixture) init(t testing.TB) {
	t.Helper()
	out, err := f.Init(context.Background(), InitRequest{})
	if err != nil {
		t.Fatal(err)
	}
	f.root = out.RootToken
}

// checkStore opens the store with the seal's slot and has every record checked.
func checkStore(t testing.TB, path string, seal *fakeSeal) {
	t.Helper()
	seal.tell(nil)
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
		if slot.Name != seal.name {
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
	t.Errorf("the store has no slot %q to check it with", seal.name)
}

// forget has the keep read tokens and policies again.
func (f *fixture) forget(t testing.TB) {
	t.Helper()
	k := f.keep.Load()
	nothing := errors.New("nothing is changed")
	err := k.ChangeToken(t.Context(), access.ID{}, func(*storage.Tx, time.Time) (tree bool, err error) { return false, nothing })
	if err == nothing {
		err = k.ChangePolicies(t.Context(), func(*storage.Tx) error { return nil })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The tests see every type that the program has.
func TestTheFixtureHasEveryType(t *testing.T) {
	called := regexp.MustCompile(`\b\w+\.Type\(\)`)
	types := func(path string) []string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		names := called.FindAllString(string(text), -1)
		slices.Sort(names)
		return slices.Compact(names)
	}
	program, tests := types("../cmd/sealkeep/types.go"), types("server_test.go")
	for _, name := range program {
		if !slices.Contains(tests, name) {
			t.Errorf("%s is in the list of the program; add it to that of startAudited", name)
		}
	}
}

// kv is the table of the KV engine.
func (f *fixture) kv() *table { return f.tables.types[typeKey{api.Secrets, "kv", "2"}].table }

// A handler stands in for that of a route.
type handler func(*Server, *request) (api.Answer, error)

// undecoded is what it takes.
type undecoded struct{}

func (*undecoded) Decode(*api.Request) (map[string]json.RawMessage, error) { return nil, nil }
func (*undecoded) Names() []string                                         { return nil }

func (h handler) api() api.Handler {
	return api.Do(func(ar *api.Request, _ *undecoded) (api.Answer, error) {
		r := ar.Frame.(*request)
		return h(r.server, r)
	})
}

// set replaces the handler of an operation.
func (r *route) set(op api.Op, h handler) (restore func()) {
	old, new := r.on[op], h.api()
	r.on[op] = &new
	return func() { r.on[op] = old }
}

// interpose has something done before the handler of an operation runs.
func (r *route) interpose(op api.Op, do func(*request)) (restore func()) {
	old := r.on[op]
	next := api.Do(func(ar *api.Request, _ *undecoded) (api.Answer, error) {
		do(ar.Frame.(*request))
		in, _, err := old.Decode(ar, r.Settings)
		if err != nil {
			return api.Answer{}, err
		}
		return old.Run(ar, in)
	})
	r.on[op] = &next
	return func() { r.on[op] = old }
}

// client is the official client of a running keep.
func (f *fixture) client(t testing.TB) *vault.Client {
	t.Helper()
	web := httptest.NewServer(f.http)
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
	c.SetToken(f.root)
	return c
}

// reply is an answer, decoded.
type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

// call sends a request with the root token. Headers are "Name: value"; where the
// request comes from is one, too: "RemoteAddr: 10.0.0.1:1".
func (f *fixture) call(t testing.TB, method, path, body string, headers ...string) reply {
	t.Helper()
	req := httptest.NewRequest(method, "http://keep/", strings.NewReader(body))
	setURL(req, path)
	if f.root != "" {
		req.Header.Set("X-Vault-Token", f.root)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
		if value == "" || name == "RemoteAddr" {
			req.Header.Del(name)
			req.RemoteAddr = cmp.Or(value, req.RemoteAddr)
		}
	}
	w := httptest.NewRecorder()
	f.http.ServeHTTP(w, req)
	r := reply{status: w.Code, header: w.Header(), text: w.Body.String()}
	if w.Body.Len() > 0 && strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		d := json.NewDecoder(strings.NewReader(r.text))
		d.UseNumber()
		if err := d.Decode(&r.body); err != nil {
			t.Fatalf("%s %s: %v in %q", method, path, err, r.text)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			t.Fatalf("%s %s: more than one JSON value in %q", method, path, r.text)
		}
	}
	return r
}

// must is call that wants the status.
func (f *fixture) must(t testing.TB, status int, method, path, body string, headers ...string) reply {
	t.Helper()
	r := f.call(t, method, path, body, headers...)
	if r.status != status {
		t.Fatalf("%s %s %s: status %d, want %d: %s", method, path, body, r.status, status, r.text)
	}
	return r
}

// get walks the answer: get("data", "keys").
func (r reply) get(path ...string) any {
	var v any = r.body
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

// errors is the list of errors as one text.
func (r reply) errors() string {
	list, ok := r.body["errors"].([]any)
	if !ok {
		return "(no list of errors) " + r.text
	}
	var texts []string
	for _, e := range list {
		texts = append(texts, fmt.Sprint(e))
	}
	return strings.Join(texts, "; ")
}

// setURL gives the request the path below /v1/ as it is, however odd.
func setURL(req *http.Request, path string) {
	path, req.URL.RawQuery, _ = strings.Cut(path, "?")
	req.URL.Path, req.URL.RawPath = "/v1/"+path, ""
}
