package token_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/servertest"
)

// lookups is how long it takes to look tokens up that are not in memory: of a few turns the shortest, for each token.
func (f *fixture) lookups(t testing.TB, some []string) time.Duration {
	t.Helper()
	u := f.Unsealed()
	best := time.Hour
	for range 5 {
		f.Forget(t)
		began := time.Now()
		for _, secret := range some {
			if _, err := u.Use(t.Context(), secret, netip.Addr{}, true); err != nil {
				t.Fatal(err)
			}
		}
		best = min(best, time.Since(began)/time.Duration(len(some)))
	}
	return best
}

// latencies has four clients read and write secrets until done is closed, and returns the 99th percentile.
func (f *fixture) latencies(t testing.TB, done <-chan struct{}) (p99 time.Duration, n int) {
	var mu sync.Mutex
	var all []time.Duration
	var clients sync.WaitGroup
	for c := range 4 {
		clients.Go(func() {
			var took []time.Duration
			for i := 0; ; i++ {
				select {
				case <-done:
					mu.Lock()
					all = append(all, took...)
					mu.Unlock()
					return
				default:
				}
				method, body := "GET", http.NoBody
				r := httptest.NewRequest(method, "/v1/secret/data/a", body)
				if i%4 == c {
					r = httptest.NewRequest("PUT", fmt.Sprintf("/v1/secret/data/c%d", c), strings.NewReader(`{"data":{"k":"v"}}`))
				}
				r.Header.Set("X-Vault-Token", f.Root)
				w := httptest.NewRecorder()
				began := time.Now()
				f.HTTP.ServeHTTP(w, r)
				took = append(took, time.Since(began))
				if w.Code != 200 {
					t.Errorf("%d %s", w.Code, w.Body)
					return
				}
			}
		})
	}
	clients.Wait()
	slices.Sort(all)
	return all[len(all)*99/100], len(all)
}

// TestManyTokens: with 100,000 tokens a look-up costs what it costs with a thousand, memory is bounded, and revoking a
// tree of 10,000 makes nobody wait. Without SEALKEEP_LONG=1 there are 2,000, and of the times nothing is said.
func TestManyTokens(t *testing.T) {
	n, long := 2000, os.Getenv("SEALKEEP_LONG") != ""
	if long {
		n = 100_000
	}
	f := fresh(t)
	f.Must(t, 200, "PUT", "secret/data/a", `{"data":{"k":"v"}}`)
	alone := func([]string) string { return "" }
	few := f.Grow(t, 1000, alone)
	before := f.lookups(t, few)
	many := f.Grow(t, n-len(few), alone)
	after := f.lookups(t, many[:1000])
	t.Logf("a look-up of a token that is not in memory: %v of %d, %v of %d", before, len(few), after, n)
	if long && after > 3*before {
		t.Error("the more tokens the dearer")
	}

	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	f.Forget(t)
	empty := heap()
	for _, secret := range many {
		if _, err := f.Unsealed().Use(t.Context(), secret, netip.Addr{}, true); err != nil {
			t.Fatal(err)
		}
	}
	grown := int64(heap()) - int64(empty)
	t.Logf("all were used: %d KiB are in memory", grown>>10)
	if grown > 32<<20 {
		t.Error("that is more than 32 MiB")
	}

	for try := 1; ; try++ {
		mother := f.Token(t, `{"policies":["default"],"ttl":"1h"}`)
		tree := f.Grow(t, n/10, func(made []string) string { // ten below each
			if len(made) < 10 {
				return mother
			}
			return made[len(made)/10-1]
		})
		quiet, _ := f.latencies(t, later(time.Second))
		swept := make(chan struct{})
		f.Must(t, 204, "POST", "auth/token/revoke", `{"token":"`+mother+`"}`)
		for _, i := range []int{0, len(tree) / 2, len(tree) - 1} { // at once
			f.Must(t, 403, "GET", "auth/token/lookup-self", "", servertest.As(tree[i]))
		}
		go func() {
			defer close(swept)
			want := fmt.Sprintf("tokens=%d", len(tree))
			for deadline := time.Now().Add(2 * time.Minute); strings.Count(f.Log.String(), want) < try; <-time.After(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Error("the tree was not swept")
					return
				}
			}
		}()
		busy, requests := f.latencies(t, swept)
		t.Logf("99 of 100 requests took at most %v before, %v of %d while a tree of %d was swept", quiet, busy, requests, len(tree))
		if !long || t.Failed() || busy < 5*quiet {
			break
		}
		if try == 3 { // the machine may be busy otherwise
			t.Error("the sweep makes others wait")
			break
		}
	}
}

// later is closed after a while.
func later(d time.Duration) <-chan struct{} {
	done := make(chan struct{})
	time.AfterFunc(d, func() { close(done) })
	return done
}
