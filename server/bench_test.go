package server_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/servertest"
)

// BenchmarkKV reads and writes secrets of 1 KB over real connections. Bare is
// the same exchange with net/http alone: the limit.
func BenchmarkKV(b *testing.B) {
	f := fresh(b, servertest.NewSeal("fake", 1))
	value := `{"data":{"v":"` + strings.Repeat("x", 1024) + `"}}`
	f.Must(b, http.StatusOK, "POST", "secret/data/read", value)
	bare := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, value)
	}
	bench := func(b *testing.B, clients int, h http.Handler, method string, path func() string) {
		web := httptest.NewServer(h)
		defer web.Close()
		transport := &http.Transport{MaxIdleConnsPerHost: clients}
		defer transport.CloseIdleConnections()
		b.SetParallelism((clients + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				body := io.Reader(http.NoBody)
				if method == "POST" {
					body = strings.NewReader(value)
				}
				req, err := http.NewRequest(method, web.URL+path(), body)
				if err != nil {
					b.Fatal(err)
				}
				req.Header.Set("X-Vault-Token", f.Root)
				resp, err := transport.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					b.Fatalf("status %d", resp.StatusCode)
				}
			}
		})
	}
	read := func() string { return "/v1/secret/data/read" }
	write := func() string { return fmt.Sprintf("/v1/secret/data/write/%d", rand.Int()) }
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("Read/%d", clients), func(b *testing.B) { bench(b, clients, f.HTTP, "GET", read) })
		b.Run(fmt.Sprintf("ReadBare/%d", clients), func(b *testing.B) { bench(b, clients, http.HandlerFunc(bare), "GET", read) })
		b.Run(fmt.Sprintf("Write/%d", clients), func(b *testing.B) { bench(b, clients, f.HTTP, "POST", write) })
		b.Run(fmt.Sprintf("WriteBare/%d", clients), func(b *testing.B) { bench(b, clients, http.HandlerFunc(bare), "POST", write) })
	}
}
