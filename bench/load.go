package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// target is what a load is put on: a folder of secrets of an HTTP server, or a
// file of raw bbolt.
type target struct {
	url      string // with the folder's path; ends in a slash
	token    string
	pid      int
	secrets  int // there to be read; 0: new ones are written
	counters func(context.Context) (counters, error)

	bolt string // a file; the rest is then unset
}

// counters are a keep's own.
type counters struct{ commits, updates float64 }

// outcome is what a client saw, times in microseconds.
type outcome struct {
	Requests int64 `json:"requests"`
	Micros   int64 `json:"micros"` // how long it lasted
	P50      int64 `json:"p50"`
	P99      int64 `json:"p99"`
	Failed   int64 `json:"failed"`

	Commits int64         `json:"commits"` // of raw bbolt
	CPU     time.Duration `json:"cpu"`     // of raw bbolt
}

// sample is one load, measured.
type sample struct {
	rate     float64 // requests/s
	p50, p99 float64 // ms
	cpu      float64 // µs of the server per request
	syncs    float64 // per write
	others   float64 // the part of all cores that neither server nor client had, 0 to 1
}

// samples are those of one point, one of each turn.
type samples struct{ rate, p50, p99, cpu, syncs []float64 }

func (s *samples) add(one sample) {
	s.rate, s.p50, s.p99 = append(s.rate, one.rate), append(s.p50, one.p50), append(s.p99, one.p99)
	s.cpu, s.syncs = append(s.cpu, one.cpu), append(s.syncs, one.syncs)
}

//go:embed load.lua
var script string

// client makes load. It is used by one goroutine.
type client struct {
	wrk   string // the program; "": load is made by this process
	dir   string
	loads int
}

// newClient looks for wrk; dir is for its script.
func newClient(dir string) (*client, error) {
	wrk, err := exec.LookPath("wrk")
	if err != nil && !errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("looking for wrk: %w", err)
	}
	return &client{wrk: wrk, dir: dir}, nil
}

// load puts n clients on a target for a time.
func (c *client) load(ctx context.Context, t target, n int, d time.Duration) (s sample, err error) {
	c.loads++
	if t.bolt != "" {
		return runBolt(ctx, t.bolt, n, d)
	}
	var before, after counters
	if t.counters != nil {
		if before, err = t.counters(ctx); err != nil {
			return s, err
		}
	}
	began := time.Now()
	server, serverErr := cpuTime(t.pid)
	busy, _ := busyTime()
	run := c.runGo
	if c.wrk != "" {
		run = c.runWrk
	}
	out, clientTime, err := run(ctx, t, n, d)
	if err != nil {
		return s, fmt.Errorf("%s at %s: %w", clients(n), t.url, err)
	}
	if out.Failed > 0 || out.Requests == 0 {
		return s, fmt.Errorf("%s at %s: %d of %d requests failed", clients(n), t.url, out.Failed, out.Requests)
	}
	s = out.sample()
	if serverErr == nil {
		end, err := cpuTime(t.pid)
		if err != nil {
			return s, err
		}
		busyEnd, err := busyTime()
		if err != nil {
			return s, err
		}
		s.cpu = float64(end-server) / 1e3 / float64(out.Requests)
		s.others = max(0, float64(busyEnd-busy-(end-server)-clientTime)/float64(time.Since(began))/float64(runtime.NumCPU()))
	}
	if t.counters != nil {
		if after, err = t.counters(ctx); err != nil {
			return s, err
		}
		s.syncs = 2 * (after.commits - before.commits) / (after.updates - before.updates)
	}
	return s, nil
}

func (o outcome) sample() sample {
	return sample{rate: float64(o.Requests) / float64(o.Micros) * 1e6, p50: float64(o.P50) / 1000, p99: float64(o.P99) / 1000}
}

// runWrk makes the load with wrk and returns what wrk took of the processor.
func (c *client) runWrk(ctx context.Context, t target, n int, d time.Duration) (o outcome, used time.Duration, err error) {
	u, err := url.Parse(t.url)
	if err != nil {
		return o, 0, err
	}
	var lua bytes.Buffer
	fmt.Fprintf(&lua, "token, url, secrets, body, seed = %q, %q, %d, %q, %d\n", t.token, u.Path, t.secrets, secretBody, c.loads)
	lua.WriteString(script)
	file := filepath.Join(c.dir, "load.lua")
	if err := os.WriteFile(file, lua.Bytes(), 0o600); err != nil {
		return o, 0, fmt.Errorf("writing the script of wrk: %w", err)
	}
	cmd := exec.CommandContext(ctx, c.wrk, "-t1", "-c"+strconv.Itoa(n), "-d"+strconv.Itoa(int(d.Seconds()))+"s", "--timeout", "30s", "-s", file, "http://"+u.Host)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return o, 0, fmt.Errorf("running wrk: %w\n%s", err, out)
	}
	for line := range bytes.Lines(out) {
		if bytes.HasPrefix(line, []byte("{")) {
			return o, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), json.Unmarshal(line, &o)
		}
	}
	return o, 0, fmt.Errorf("running wrk: no result in its output\n%s", out)
}

// runGo makes the load in this process: n connections, each with one request
// under way.
func (c *client) runGo(ctx context.Context, t target, n int, d time.Duration) (o outcome, used time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // closes the connections
	before, _ := cpuTime(os.Getpid())
	took, elapsed, err := repeat(n, d, func(id int) (func() error, error) { return c.connection(ctx, t, id) })
	if err != nil {
		return o, 0, err
	}
	after, _ := cpuTime(os.Getpid())
	return summary(took, elapsed), after - before, nil
}

// connection opens one and returns what makes one exchange over it.
func (c *client) connection(ctx context.Context, t target, id int) (exchange func() error, err error) {
	u, err := url.Parse(t.url)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	head, tail := "GET "+u.Path, " HTTP/1.1\r\nHost: "+u.Host+"\r\nX-Vault-Token: "+t.token+"\r\n"
	if t.secrets == 0 {
		head, tail = "POST "+u.Path, tail+"Content-Length: "+strconv.Itoa(len(secretBody))+"\r\n\r\n"+secretBody
	} else {
		tail += "\r\n"
	}
	r := bufio.NewReader(conn)
	written := 0
	return func() error {
		name := ""
		if t.secrets > 0 {
			name = secretName(rand.IntN(t.secrets))
		} else {
			written++
			name = fmt.Sprintf("%d-%d-%d", c.loads, id, written)
		}
		if _, err := conn.Write([]byte(head + name + tail)); err != nil {
			return err
		}
		return readAnswer(r)
	}, nil
}

// readAnswer reads one answer that has a Content-Length, and nothing of it is
// kept.
func readAnswer(r *bufio.Reader) error {
	status, length := "", 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimSpace(line)
		if line == "" {
			break
		}
		if status == "" {
			status = line
		}
		if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			if length, err = strconv.Atoi(v); err != nil {
				return err
			}
		}
	}
	if _, err := r.Discard(length); err != nil {
		return err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 2") {
		return fmt.Errorf("answer %q", status)
	}
	return nil
}

// repeat runs n workers for a time, each doing its work again and again, and
// returns how long each piece of work took and all of them together.
func repeat(n int, d time.Duration, worker func(id int) (func() error, error)) (took []time.Duration, elapsed time.Duration, err error) {
	work := make([]func() error, n)
	for i := range work {
		if work[i], err = worker(i); err != nil {
			return nil, 0, err
		}
	}
	all, errs := make([][]time.Duration, n), make([]error, n)
	var wait sync.WaitGroup
	began := time.Now()
	for i := range work {
		wait.Go(func() {
			for t := time.Now(); t.Sub(began) < d && errs[i] == nil; {
				errs[i] = work[i]()
				end := time.Now()
				all[i], t = append(all[i], end.Sub(t)), end
			}
		})
	}
	wait.Wait()
	return slices.Concat(all...), time.Since(began), cmp.Or(errs...)
}

// summary needs one time at least.
func summary(took []time.Duration, elapsed time.Duration) outcome {
	slices.Sort(took)
	return outcome{
		Requests: int64(len(took)), Micros: elapsed.Microseconds(),
		P50: took[len(took)/2].Microseconds(), P99: took[len(took)*99/100].Microseconds(),
	}
}
