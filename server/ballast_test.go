package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// ballast is what a keep carries that a request is not about.
type ballast struct{ routes, mounts, policies, tokens int }

// The cost of a request does not grow with the routes, mounts, policies and tokens
// that it is not about. SEALKEEP_LONG=1 takes as many as there may be, and 100,000
// tokens; SEALKEEP_TOKENS=1000000 takes that many. Without either nothing is said of
// times.
func TestBallast(t *testing.T) {
	heavy := ballast{routes: 200, mounts: 50, policies: 500, tokens: 2000}
	long := os.Getenv("SEALKEEP_LONG") != ""
	if long {
		heavy = ballast{routes: 2000, mounts: mount.MaxMounts, policies: 10_000, tokens: 100_000}
	}
	if n, err := strconv.Atoi(os.Getenv("SEALKEEP_TOKENS")); err == nil {
		heavy.tokens = n
	}
	light, loaded := carrying(t, ballast{}), carrying(t, heavy)
	for _, c := range []struct{ method, path, body string }{
		{"GET", "secret/data/a", ""}, {"GET", "auth/token/lookup-self", ""}, {"LIST", "secret/metadata", ""}, {"POST", "secret/data/b", `{"data":{"k":"v"}}`}, {"GET", "nowhere/at/all", ""},
	} {
		ask := func(f *fixture) func() {
			return func() {
				req := httptest.NewRequest(c.method, "/v1/"+c.path, strings.NewReader(c.body))
				req.Header.Set("X-Vault-Token", f.Root)
				f.HTTP.ServeHTTP(&servertest.NullWriter{Head: make(http.Header)}, req)
			}
		}
		one, other := ask(light), ask(loaded)
		if a, b := testing.AllocsPerRun(200, one), testing.AllocsPerRun(200, other); c.method != "POST" && b > a+4 { // a deeper tree of the store has pages more to read
			t.Errorf("%s %s allocates %v times, with the ballast %v", c.method, c.path, a, b)
		}
		best := func(do func()) time.Duration {
			least := time.Hour
			for range 20 {
				began := time.Now()
				for range 20 {
					do()
				}
				least = min(least, time.Since(began)/20)
			}
			return least
		}
		a, b := best(one), best(other)
		t.Logf("%s %s: %v, with the ballast %v", c.method, c.path, a, b)
		if long && b > 2*a+50*time.Microsecond { // what is looked through would be hundreds of times as much
			t.Errorf("%s %s takes %v, with the ballast %v", c.method, c.path, a, b)
		}
	}
}

// carrying runs a keep with a ballast.
func carrying(t *testing.T, b ballast) *fixture {
	t.Helper()
	typ := kv.Type()
	for i := range b.routes {
		typ.Routes = append(typ.Routes, api.Route{Path: fmt.Sprintf("r%d/{path...}", i)}, api.Route{Path: fmt.Sprintf("{path...}/r%d", i)})
	}
	all := append(slices.DeleteFunc(types(), func(t api.Type) bool { return t.Name == typ.Name && t.Version == typ.Version }), typ)
	f := &fixture{servertest.Start(t, servertest.Config{Path: filepath.Join(t.TempDir(), "keep.db"), Types: all, Seals: []keep.Seal{servertest.NewSeal("a", 1)}})}
	f.Initialize(t)
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"v"}}`)
	u := f.Unsealed()
	err := u.Change(t.Context(), &u.Engines, func(_ *storage.Tx, table *mount.Table) (*mount.Table, error) {
		for i := range max(0, b.mounts-table.Len()) {
			table = table.With(fmt.Sprintf("team%d/kv", i), mount.New(fmt.Sprintf("team%d/kv/", i), "kv", "2"))
		}
		return table, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < b.policies; i += 500 {
		err := u.ChangePolicies(t.Context(), func(tx *storage.Tx) error {
			for j := range min(500, b.policies-i) {
				p, err := access.ParsePolicy(fmt.Sprint("policy-", i+j), fmt.Sprintf("path \"secret/data/team%d/*\" { capabilities = [\"read\"] }", i+j))
				if err != nil {
					return err
				}
				if err := access.PutPolicy(tx, p); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	f.Grow(t, b.tokens, func([]string) string { return "" })
	return f
}
