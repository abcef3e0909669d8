package keep_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	vault "github.com/hashicorp/vault/api"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

func TestInit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	a, b, off := servertest.NewSeal("a", 2), servertest.NewSeal("b", 1), servertest.NewSeal("off", 3)
	off.Off = true
	f := start(t, path, a, b, off)
	t.Cleanup(func() { f.Stop(t); servertest.CheckStore(t, path, a) })
	c := f.Client(t)

	if done, err := c.Sys().InitStatus(); err != nil || done {
		t.Fatalf("initialized %v, %v", done, err)
	}
	out, err := c.Sys().Init(&vault.InitRequest{RecoveryShares: 5, RecoveryThreshold: 3})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Keys) != 0 || len(out.RecoveryKeys) != 5 || out.RootToken == "" {
		t.Errorf("answer: %+v", out)
	}
	if done, err := c.Sys().InitStatus(); err != nil || !done {
		t.Errorf("initialized %v, %v", done, err)
	}
	c.SetToken(out.RootToken)
	status, err := c.Sys().SealStatus()
	if err != nil {
		t.Fatal(err)
	}
	if status.Sealed || !status.Initialized || status.Type != "fake" || status.StorageType != "bbolt" || status.Version != "1.2.3" ||
		!status.RecoverySeal || status.ClusterID == "" || status.ClusterName == "" || status.N != 5 || status.T != 3 || status.BuildDate == "" {
		t.Errorf("seal status: %+v", status)
	}
	self, err := c.Auth().Token().LookupSelf()
	if err != nil {
		t.Fatal(err)
	}
	if policies, err := self.TokenPolicies(); err != nil || len(policies) != 1 || policies[0] != "root" {
		t.Errorf("policies %v, %v", policies, err)
	}
	if id, err := self.TokenID(); err != nil || id != out.RootToken {
		t.Errorf("id %q, %v", id, err)
	}
	if off.Wraps != 0 {
		t.Error("a disabled seal has wrapped the root key")
	}
	if got := f.Slot(t, "off"); got.State != keep.SlotPending {
		t.Errorf("the disabled seal: %+v", got)
	}
	if _, err := c.Sys().Init(&vault.InitRequest{}); err == nil || !strings.Contains(err.Error(), "Code: 400") ||
		!strings.Contains(err.Error(), "Vault is already initialized") {
		t.Errorf("second init: %v", err)
	}
	f.Stop(t)

	// Both slots open it, each alone.
	for _, seal := range []*servertest.Seal{a.Again(), b.Again()} {
		again := start(t, path, seal)
		if err := again.Unseal(t.Context()); err != nil || again.Status().Sealed {
			t.Errorf("slot %s did not open: %v, %+v", seal.Called, err, again.Status())
		}
		again.Root = out.RootToken
		again.Must(t, 200, "GET", "auth/token/lookup-self", "")
		again.Stop(t)
	}
}

func TestInitAnswer(t *testing.T) {
	f := start(t, filepath.Join(t.TempDir(), "keep.db"), servertest.NewSeal("a", 1))
	r := f.Must(t, 200, "PUT", "sys/init", `{"secret_shares":5,"secret_threshold":3,"recovery_shares":0}`)
	if w, ok := r.Get("warnings").([]any); !ok || len(w) != 2 || !strings.Contains(w[0].(string), "has no unseal keys") ||
		!strings.Contains(w[1].(string), "there is no recovery slot") {
		t.Errorf("warnings: %v", r.Get("warnings"))
	}
	for _, name := range []string{"keys", "keys_base64", "recovery_keys", "recovery_keys_base64"} {
		if list, ok := r.Get(name).([]any); !ok || len(list) != 0 {
			t.Errorf("%s: %v", name, r.Get(name))
		}
	}
	status := f.Must(t, 200, "GET", "sys/seal-status", "")
	if fp := r.Get("fingerprint"); fp == nil || fp == "" || fp != status.Get("fingerprint") {
		t.Errorf("fingerprint %v, then %v", fp, status.Get("fingerprint"))
	}
}

func TestInitRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	f := start(t, path, servertest.NewSeal("a", 1))
	for body, want := range map[string]string{
		`{"secret_shares":3,"secret_threshold":5}`:        "secret_threshold",
		`{"secret_shares":5,"pgp_keys":["x"]}`:            "PGP",
		`{"recovery_shares":1,"recovery_pgp_keys":["x"]}`: "PGP",
		`{"root_token_pgp_key":"x"}`:                      "PGP",
		`{"recovery_shares":1,"recovery_threshold":2}`:    "recovery_threshold",
		`{`:                          "failed to parse JSON input",
		`{"recovery_shares":"many"}`: "the parameter recovery_shares: it is not a whole number",
		`{} {}`:                      "failed to parse JSON input",
		`{"padding":"` + strings.Repeat("x", api.DefaultBody) + `"}`: "request body too large",
	} {
		r := f.Call(t, "PUT", "sys/init", body)
		want400 := r.Status == 400 || (strings.Contains(want, "large") && r.Status == 413)
		if !want400 || !strings.Contains(r.Errors(), want) {
			t.Errorf("%.60s: %d %s", body, r.Status, r.Errors())
		}
	}
	if _, err := f.Init(t.Context(), keep.InitRequest{RootToken: "a b"}); !errors.Is(err, access.ErrToken) {
		t.Errorf("a bad root token: %v", err)
	}
	mustBeEmpty(t, path)
	f.SetSeals(nil)
	if r := f.Call(t, "PUT", "sys/init", `{"recovery_shares":0}`); r.Status != 400 || !strings.Contains(r.Errors(), "no enabled seal") {
		t.Errorf("without seals: %d %s", r.Status, r.Errors())
	}
	mustBeEmpty(t, path)
}

// mustBeEmpty fails unless the folder of path is empty.
func mustBeEmpty(t *testing.T, path string) {
	t.Helper()
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

// When any seal servertest.Fails, nothing is written and the error says which, why and what
// to do.
func TestInitFailureWritesNothing(t *testing.T) {
	decryptDenied := func(f *servertest.Seal) {
		f.Tell(func(context.Context) error {
			f.Mu.Lock()
			defer f.Mu.Unlock()
			if f.Calls > 0 {
				return servertest.Classed("auth_denied")
			}
			return nil
		})
	}
	for name, bad := range map[string]func(*servertest.Seal){
		"encrypt denied": func(f *servertest.Seal) { f.Tell(servertest.Fails("auth_denied")) },
		"hangs":          func(f *servertest.Seal) { f.Tell(servertest.Hangs) },
		"decrypt denied": decryptDenied,
		"lies":           func(f *servertest.Seal) { f.Lies = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "keep.db")
				a, b := servertest.NewSeal("good", 1), servertest.NewSeal("bad", 2)
				bad(b)
				f := start(t, path, a, b)
				began := time.Now()
				r := f.Call(t, "PUT", "sys/init", "{}")
				if r.Status != 400 || !strings.Contains(r.Errors(), `seal "bad" (fake)`) || !strings.Contains(r.Errors(), "nothing was written") {
					t.Errorf("answer: %d %s", r.Status, r.Errors())
				}
				if d := time.Since(began); d > keep.WrapTimeout {
					t.Errorf("it took %v", d)
				}
				mustBeEmpty(t, path)
				b.Tell(nil)
				b.Lies = false
				f.Initialize(t) // the cause gone, init works in the same process
				f.Stop(t)
				servertest.CheckStore(t, path, a)
			})
		})
	}
}

func TestInitAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	a := servertest.NewSeal("a", 1)
	f := start(t, path, a)
	t.Cleanup(func() { f.Stop(t); servertest.CheckStore(t, path, a) })
	const n = 8
	var wait sync.WaitGroup
	tokens, errs := make([]string, n), make([]error, n)
	for i := range n {
		wait.Go(func() {
			out, err := f.Init(t.Context(), keep.InitRequest{})
			if errs[i] = err; err == nil {
				tokens[i] = out.RootToken
			}
		})
	}
	wait.Wait()
	won := 0
	for i := range n {
		switch {
		case errs[i] == nil:
			won++
			f.Root = tokens[i]
		case !errors.Is(errs[i], keep.ErrInitialized):
			t.Error(errs[i])
		}
	}
	if won != 1 {
		t.Errorf("%d of %d calls have initialized the keep", won, n)
	}
	f.Must(t, 200, "GET", "auth/token/lookup-self", "")
}

// A file that appears after the start is not overwritten.
func TestInitOverAnotherStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keep.db")
	a := servertest.NewSeal("a", 1)
	late := start(t, path, a.Again())
	first := start(t, path, a)
	first.Initialize(t)
	first.Stop(t)
	if r := late.Call(t, "PUT", "sys/init", "{}"); r.Status != 400 || !strings.Contains(r.Errors(), "already initialized") {
		t.Errorf("answer: %d %s", r.Status, r.Errors())
	}
	servertest.CheckStore(t, path, a)
}

func TestNewLocked(t *testing.T) {
	a := servertest.NewSeal("a", 1)
	f := fresh(t, a)
	b := a.Again()
	_, err := server.New(server.Config{Keep: keep.New(keep.Config{Path: f.Path, Seals: []keep.Seal{b}, Storage: storage.Options{LockTimeout: 10 * time.Millisecond}})})
	if !errors.Is(err, storage.ErrLocked) {
		t.Errorf("%v, want ErrLocked", err)
	}
	if _, _, closed := b.Count(); closed != 1 {
		t.Errorf("the seal was closed %d times", closed)
	}
}

// A chosen root token works, for -dev.
func TestInitWithRootToken(t *testing.T) {
	f := start(t, filepath.Join(t.TempDir(), "keep.db"), servertest.NewSeal("a", 1))
	out, err := f.Init(t.Context(), keep.InitRequest{RootToken: "root"})
	if err != nil || out.RootToken != "root" {
		t.Fatalf("%+v, %v", out, err)
	}
	f.Root = "root"
	f.Must(t, 200, "GET", "auth/token/lookup-self", "")
}
