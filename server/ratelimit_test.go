package server_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/servertest"
	"github.com/sealkeep/sealkeep/storage"
)

// from makes a request from an address and returns the status and Retry-After.
func (f *fixture) from(t testing.TB, addr, method, path, token string) (status int, after, text string) {
	t.Helper()
	req := httptest.NewRequest("GET", "/v1/"+path, nil)
	req.Method, req.RemoteAddr = method, addr
	req.Header.Set("X-Vault-Token", token)
	w := httptest.NewRecorder()
	f.HTTP.ServeHTTP(w, req)
	return w.Code, w.Header().Get("Retry-After"), w.Body.String()
}

func TestRateLimits(t *testing.T) {
	f := fresh(t)
	other := f.Token(t, `{"policies":["root"]}`)
	f.Clock.Stop()
	f.SetLimits(server.Limits{PerToken: server.Rate{PerSecond: 2, Burst: 5}})
	get := func(addr, token string) (int, string) {
		t.Helper()
		status, after, text := f.from(t, addr, "GET", "auth/token/lookup-self", token)
		if status == 429 && !strings.Contains(text, `{"errors":["request path \"auth/token/lookup-self\": rate limit of the `) {
			t.Errorf("%s", text)
		}
		return status, after
	}
	many := func(what string, want int, addr, token string) {
		t.Helper()
		for i := range want {
			if status, _ := get(addr, token); status != 200 {
				t.Fatalf("%s: request %d: %d", what, i, status)
			}
		}
		if status, after := get(addr, token); status != 429 || after == "" {
			t.Fatalf("%s: request %d: %d, Retry-After %q", what, want, status, after)
		}
	}
	const here, there = "192.0.2.1:1000", "192.0.2.2:1000"
	many("a burst", 5, here, f.Root)
	many("from elsewhere", 0, there, f.Root)
	many("another token", 5, here, other)
	f.Clock.Add(time.Second)
	many("a second later", 2, here, f.Root)
	f.Clock.Add(time.Hour)
	many("an hour later", 5, here, f.Root)
	if _, after := get(here, f.Root); after != "1" {
		t.Errorf("Retry-After: %q", after)
	}
	if n := f.Metric(t, `sealkeep_http_requests_limited_total{by="token"}`); n != "6" {
		t.Errorf("%q were counted", n)
	}

	// Whoever they are, those who come from one place share its limit.
	f.SetLimits(server.Limits{PerSource: server.Rate{PerSecond: 3}})
	many("a source", 3, here, f.Root)
	for _, token := range []string{other, "", "hvs.wrong"} {
		many("another token from there", 0, here, token)
	}
	many("another source", 3, there, f.Root)
	many("an IPv6 source", 3, "[2001:db8::1]:1", f.Root)
	many("its neighbour", 0, "[2001:db8::2]:1", f.Root)
	many("IPv4 as IPv6", 0, "[::ffff:192.0.2.1]:1", f.Root)
	for range 10 {
		if status, _ := get("@", f.Root); status != 200 {
			t.Fatalf("on a socket: %d", status)
		}
		// What tells how the keep is.
		for _, path := range []string{"sys/health", "sys/seal-status", "sys/leader", "sys/metrics"} {
			if status, _, text := f.from(t, here, "GET", path, f.Root); status != 200 {
				t.Fatalf("%s: %d %s", path, status, text)
			}
		}
	}
	f.SetLimits(server.Limits{})
	for range 100 {
		if status, _ := get(here, f.Root); status != 200 {
			t.Fatalf("without limits: %d", status)
		}
	}
}

// While more writers come than the disk can serve, those above the queue are told
// to come again, nobody waits long, and who asks how the keep is has an answer.
func TestOverload(t *testing.T) {
	f := fresh(t)
	f.Must(t, 200, "POST", "secret/data/a", `{"data":{"k":"v"}}`)
	release, held := make(chan bool), make(chan bool)
	var once sync.Once
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := f.Unsealed().Store.Update(t.Context(), func(*storage.Tx) error { once.Do(func() { close(held) }); <-release; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-held
	var written, refused atomic.Int64
	write := func(i int) {
		r := f.Call(t, "POST", "secret/data/"+strconv.Itoa(i), `{"data":{"k":"v"}}`)
		switch {
		case r.Status == http.StatusOK:
			written.Add(1)
		case r.Status == http.StatusTooManyRequests && r.Errors() == "too many writes are waiting: try again":
			refused.Add(1)
		default:
			t.Errorf("%d %s", r.Status, r.Text)
		}
	}
	const writers = 3000
	for i := range writers {
		wait.Go(func() { write(i) })
	}
	waiting := func() int { return f.Unsealed().Store.Stats().Waiting }
	for deadline := time.Now().Add(time.Minute); int64(waiting())+refused.Load() < writers; {
		if time.Now().After(deadline) {
			t.Fatalf("%d wait and %d were refused", waiting(), refused.Load())
		}
		<-time.After(time.Millisecond)
	}
	asked := []string{"sys/health", "sys/seal-status", "sys/leader", "sys/metrics", "secret/data/a", "auth/token/lookup-self"}
	began := time.Now()
	for _, path := range asked {
		f.Must(t, 200, "GET", path, "")
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("%v for %d answers while nothing can be written", took, len(asked))
	}
	if status, after, text := f.from(t, "192.0.2.1:1", "DELETE", "secret/data/a", f.Root); status != 429 || after != "1" {
		t.Errorf("one more: %d %q %s", status, after, text)
	}
	close(release)
	wait.Wait()
	if written.Load() != int64(writers)-refused.Load() || refused.Load() == 0 {
		t.Errorf("%d written, %d refused", written.Load(), refused.Load())
	}

	turned := refused.Load()

	// Under steady load.
	stop := make(chan bool)
	for i := range 64 {
		wait.Go(func() {
			for n := i; ; n += 64 {
				select {
				case <-stop:
					return
				default:
					write(n)
				}
			}
		})
	}
	var times []time.Duration
	for range 200 {
		began := time.Now()
		f.Must(t, 200, "GET", "sys/health", "")
		times = append(times, time.Since(began))
		<-time.After(time.Millisecond)
	}
	close(stop)
	wait.Wait()
	slices.Sort(times)
	p50, p99 := times[len(times)/2], times[len(times)*99/100]
	t.Logf("health under 64 writers: p50 %v, p99 %v; %d of %d were refused at the full queue", p50, p99, turned, writers)
	if p99 > time.Second {
		t.Errorf("health takes %v", p99)
	}
}

// BenchmarkLimited is BenchmarkLookupSelf under both limits.
func BenchmarkLimited(b *testing.B) {
	f := fresh(b)
	f.SetLimits(server.Limits{server.Rate{PerSecond: 1_000_000}, server.Rate{PerSecond: 1_000_000}})
	req := httptest.NewRequest("GET", "/v1/auth/token/lookup-self", nil)
	req.Header.Set("X-Vault-Token", f.Root)
	w := &servertest.NullWriter{Head: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		f.HTTP.ServeHTTP(w, req)
	}
	if w.Code != 200 {
		b.Fatal(w.Code)
	}
}

// BenchmarkRefused is what a request costs that is over a limit.
func BenchmarkRefused(b *testing.B) {
	f := fresh(b)
	f.SetLimits(server.Limits{PerSource: server.Rate{PerSecond: 1}})
	req := httptest.NewRequest("GET", "/v1/auth/token/lookup-self", nil)
	req.Header.Set("X-Vault-Token", "hvs.wrong")
	w := &servertest.NullWriter{Head: make(http.Header)}
	f.HTTP.ServeHTTP(w, req)
	b.ReportAllocs()
	for b.Loop() {
		f.HTTP.ServeHTTP(w, req)
	}
}
