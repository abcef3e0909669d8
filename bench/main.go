// Command bench measures a whole sealkeep process beside the limits of the
// machine, in one run:
//
//	go run ./bench -o BENCHMARKS.json     # prints a table in Markdown; about seven minutes
//	go run ./bench -short                 # shows that it works; under a minute, and its figures mean nothing
//
// It builds the program, stripped, and starts it with a static seal on stores
// of its own, in a temporary folder under -dir that is removed at the end. The
// disk of that folder is what the writes measure: it must be the kind of disk
// that a keep would have, and never a tmpfs. A million secrets and what is
// written beside them take 4 GB.
//
// # What is compared
//
//   - Reads stand beside a bare net/http server, a process of its own, that
//     answers the same requests of the same client with the very bytes of a
//     keep's answer.
//   - Writes stand beside bbolt in a process of its own, without HTTP and
//     without encryption: keys of the same shape, records of the same size, one
//     committer that takes all waiting puts into one transaction. And beside
//     that same bbolt behind a bare net/http server that reads a body, puts it
//     and gives a fixed answer: what is left for a keep to be quicker in, since
//     raw bbolt has neither requests nor a client on its cores. All files begin
//     with 1,000 records and grow by what they are given.
//   - A store of -secrets secrets stands beside one of 1,000.
//
// What is compared takes turns, -runs times, and the medians count: what slows
// the machine down meanwhile slows down both.
//
// # The client
//
// The client runs on the same cores. wrk is used when it is on the PATH (one
// thread, with load.lua): a client in Go costs as much as the server, and takes
// that away from it. Without wrk there is a lean one in Go, and the output says
// so; its figures are not to be compared with those of wrk. An answer other
// than 2xx fails the run.
//
// # The figures
//
// The server's CPU time is the process's own clock over the run, divided by the
// requests; that of bbolt has its clients in it. Syncs are two per commit, by the
// keep's own counters of commits and writes. Boot is from before the start of the
// process until sys/health answers 200, asked every half millisecond. The first
// write after that waits until the free list of the file is proven. Memory at
// rest is what is resident -settle after that, without the mapped pages of the
// store where the system tells them apart. The large store is filled without the
// server, by the packages that the server consists of; the server makes it and
// reads it.
//
// CPU, memory and the description of the machine are there on Linux only.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		os.Exit(1)
	}
}

// run is one command line. The first argument may name one of the processes
// that the benchmark starts of itself.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "bare":
			return serveBare(args[1:], stdin, stdout)
		case "bolt":
			return putBolt(args[1:], stdout)
		}
	}
	var s settings
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	out := f.String("o", "", "`file` for the figures as JSON")
	dir := f.String("dir", "", "`folder` on the disk to measure; default: the folder for temporary files")
	short := f.Bool("short", false, "only show that it works: short for -runs=1 -boots=2 -time=1s -settle=1s -secrets=2000")
	f.IntVar(&s.Runs, "runs", 3, "how often each load is measured")
	f.IntVar(&s.Boots, "boots", 25, "how often each boot is measured")
	f.DurationVar(&s.Time, "time", 5*time.Second, "how long a load lasts, in whole seconds")
	f.DurationVar(&s.Settle, "settle", 5*time.Second, "how long a keep rests before its memory is read")
	f.IntVar(&s.Secrets, "secrets", 1_000_000, "secrets of the large store, a multiple of 1000")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		f.SetOutput(stdout)
		f.PrintDefaults()
		return nil
	} else if err != nil {
		return fmt.Errorf("%w: see -h", err)
	}
	if *short {
		s = settings{Runs: 1, Boots: 2, Time: time.Second, Settle: time.Second, Secrets: 2000}
	}
	switch {
	case f.NArg() > 0:
		return fmt.Errorf("unknown argument %q: there are flags only, see -h", f.Arg(0))
	case s.Secrets < perFolder || s.Secrets%perFolder != 0:
		return fmt.Errorf("-secrets=%d: it must be a multiple of %d", s.Secrets, perFolder)
	case s.Time < time.Second || s.Time%time.Second != 0:
		return fmt.Errorf("-time=%v: it must be whole seconds", s.Time)
	case s.Runs < 1 || s.Boots < 1:
		return fmt.Errorf("-runs and -boots must be 1 or more")
	}
	folder, err := os.MkdirTemp(*dir, "sealkeep-bench-")
	if err != nil {
		return fmt.Errorf("making the folder: %w", err)
	}
	defer os.RemoveAll(folder)
	b := &bench{settings: s, dir: folder, log: func(format string, a ...any) { fmt.Fprintf(stderr, "bench: "+format+"\n", a...) }}
	b.report = report{Settings: s, Machine: describe(folder), Short: *short}
	if err := b.measure(ctx); err != nil {
		return err
	}
	fmt.Fprint(stdout, b.report.table())
	if *out == "" {
		return nil
	}
	j, err := json.MarshalIndent(b.report, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the figures: %w", err)
	}
	if err := os.WriteFile(*out, append(j, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the figures: %w", err)
	}
	return nil
}

// settings are how much is measured.
type settings struct {
	Runs    int           `json:"runs"`
	Boots   int           `json:"boots"`
	Time    time.Duration `json:"time_ns"`
	Settle  time.Duration `json:"settle_ns"`
	Secrets int           `json:"secrets"`
}

const perFolder = 1000 // secrets, also all of the small store

var levels = []int{1, 16, 64} // clients

// bench is one run.
type bench struct {
	settings
	dir    string
	log    func(string, ...any)
	client *client
	report report
}

// measure takes all figures, in the order of the table but for the writes,
// which come after all reads of the store that they change.
func (b *bench) measure(ctx context.Context) error {
	var err error
	if b.client, err = newClient(b.dir); err != nil {
		return err
	}
	b.report.Client = "wrk, one thread"
	if b.client.wrk == "" {
		b.report.Client = "in Go, for wrk was not found"
	}
	b.log("building the program")
	program := filepath.Join(b.dir, "sealkeep")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/sealkeep/sealkeep/cmd/sealkeep")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the program: %w\n%s", err, out)
	}
	fi, err := os.Stat(program)
	if err != nil {
		return err
	}
	b.report.add(row{Figure: "size of the stripped binary", Unit: "MiB", Samples: []float64{mib(fi.Size())}, Max: 30})

	small, large := newKeep(program, filepath.Join(b.dir, "small")), newKeep(program, filepath.Join(b.dir, "large"))
	defer small.stop()
	defer large.stop()
	if err := b.prepare(ctx, small, large); err != nil {
		return err
	}
	if b.report.Version, err = small.version(ctx); err != nil {
		return err
	}
	if err := b.reads(ctx, small, large); err != nil {
		return fmt.Errorf("measuring reads: %w", err)
	}
	if err := b.writes(ctx, small); err != nil {
		return fmt.Errorf("measuring writes: %w", err)
	}
	if err := b.atSize(ctx, large); err != nil {
		return fmt.Errorf("measuring the store of %s secrets: %w", count(b.Secrets), err)
	}
	return nil
}

// prepare makes and fills the two stores and measures the boot and the memory
// at rest of an empty and of the large one. Both run afterwards.
func (b *bench) prepare(ctx context.Context, small, large *keep) error {
	for _, k := range []*keep{small, large} {
		if err := k.init(ctx); err != nil {
			return err
		}
	}
	if err := b.boots(ctx, small, "without secrets", 32); err != nil {
		return err
	}
	b.log("filling the stores")
	if err := small.fill(ctx, perFolder); err != nil {
		return fmt.Errorf("filling: %w", err)
	}
	began := time.Now()
	if err := large.fill(ctx, b.Secrets); err != nil {
		return fmt.Errorf("filling: %w", err)
	}
	b.log("%s secrets in %v", count(b.Secrets), time.Since(began).Round(time.Second/10))
	if err := b.boots(ctx, large, "with "+count(b.Secrets), 40); err != nil {
		return err
	}
	if err := b.firstWrites(ctx, large); err != nil {
		return err
	}
	if fi, err := os.Stat(large.store); err == nil {
		b.report.add(row{Figure: "file with " + count(b.Secrets) + " secrets of 1 KiB", Unit: "MiB", Samples: []float64{mib(fi.Size())}})
	}
	_, err := small.start(ctx)
	return err
}

// firstWrites measures the first write after a start, which waits for the proof of
// the free list, and leaves the keep running.
func (b *bench) firstWrites(ctx context.Context, k *keep) error {
	var took []float64
	for range min(b.Boots, 5) {
		k.stop()
		if _, err := k.start(ctx); err != nil {
			return fmt.Errorf("booting: %w", err)
		}
		began := time.Now()
		if _, err := k.write(ctx); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		took = append(took, ms(time.Since(began)))
	}
	b.report.add(row{Figure: "first write after a start, with " + count(b.Secrets), Unit: "ms", Samples: took, Max: 300})
	return nil
}

// boots measures the starts of a keep and leaves it running.
func (b *bench) boots(ctx context.Context, k *keep, what string, maxMemory float64) error {
	b.log("booting a keep %s", what)
	var took []float64
	for range b.Boots {
		k.stop()
		d, err := k.start(ctx)
		if err != nil {
			return fmt.Errorf("booting: %w", err)
		}
		took = append(took, ms(d))
	}
	b.report.add(row{Figure: "exec to health 200, " + what, Unit: "ms", Samples: took, Max: 25})
	if err := sleep(ctx, b.Settle); err != nil {
		return err
	}
	m, err := residentMemory(k.pid(), k.store)
	if err != nil {
		b.log("memory at rest: %v", err)
		return nil
	}
	b.report.addMemory("memory at rest, "+what, m, maxMemory)
	return nil
}

// reads measures reads of the small store, of the large one and of the bare
// server, in turns.
func (b *bench) reads(ctx context.Context, small, large *keep) error {
	answer, err := small.read(ctx)
	if err != nil {
		return err
	}
	bare, err := startBare(b.dir, answer)
	if err != nil {
		return err
	}
	defer bare.stop()
	of := func(url, token string, pid, secrets int) target {
		return target{url: url + secretsPath + readFolder, token: token, pid: pid, secrets: secrets}
	}
	targets := []target{
		of(small.url, small.token, small.pid(), perFolder), of(large.url, large.token, large.pid(), b.Secrets),
		of(bare.url, small.token, bare.pid(), perFolder),
	}
	got, err := b.turns(ctx, "reads", targets)
	if err != nil {
		return err
	}
	for _, n := range levels {
		keep, limit := got[0][n], got[2][n]
		r := row{Figure: "read, " + clients(n), Unit: "requests/s", Samples: keep.rate, Against: limit.rate, Limit: "net/http"}
		cpu := row{Figure: "– server CPU", Unit: "µs", Samples: keep.cpu, Against: limit.cpu, Limit: "net/http"}
		if n > 1 {
			r.MinRatio, cpu.MaxRatio = 0.5, 2.5 // 30 µs where net/http takes 12
		}
		b.report.add(r)
		b.report.add(cpu)
		b.report.add(row{Figure: "– p50", Unit: "ms", Samples: keep.p50, Against: limit.p50, Limit: "net/http"})
		b.report.add(row{Figure: "– p99", Unit: "ms", Samples: keep.p99, Against: limit.p99, Limit: "net/http"})
	}
	for _, n := range levels {
		r := row{Figure: fmt.Sprintf("read p50 with %s secrets, %s", count(b.Secrets), clients(n)), Unit: "ms",
			Samples: got[1][n].p50, Against: got[0][n].p50, Limit: "1,000 secrets"}
		if n == 1 { // with more it is the wait for the cores
			r.MaxRatio = 1.3
		}
		b.report.add(r)
	}
	return nil
}

// writes measures writes of new secrets, raw bbolt, and bbolt behind net/http,
// in turns.
func (b *bench) writes(ctx context.Context, k *keep) error {
	answer, err := k.write(ctx)
	if err != nil {
		return err
	}
	bare, err := startBare(b.dir, answer, filepath.Join(b.dir, "served.db"))
	if err != nil {
		return err
	}
	defer bare.stop()
	got, err := b.turns(ctx, "writes", []target{
		{url: k.url + secretsPath + "written/", token: k.token, pid: k.pid(), counters: k.counters},
		{bolt: filepath.Join(b.dir, "raw.db")},
		{url: bare.url + secretsPath + "written/", token: k.token, pid: bare.pid()},
	})
	if err != nil {
		return err
	}
	maxSyncs := map[int]float64{1: 2, 16: 0.3, 64: 0.1}
	for _, n := range levels {
		keep, limit, served := got[0][n], got[1][n], got[2][n]
		b.report.add(row{Figure: "write of new secrets, " + clients(n), Unit: "requests/s", Samples: keep.rate, Against: limit.rate, Limit: "bbolt", MinRatio: 0.7})
		b.report.add(row{Figure: "– beside bbolt behind net/http", Unit: "requests/s", Samples: keep.rate, Against: served.rate, Limit: "net/http, bbolt"})
		b.report.add(row{Figure: "– syncs per write", Samples: keep.syncs, Against: limit.syncs, Limit: "bbolt", Max: maxSyncs[n]})
		b.report.add(row{Figure: "– server CPU", Unit: "µs", Samples: keep.cpu, Against: limit.cpu, Limit: "bbolt"})
		b.report.add(row{Figure: "– p50", Unit: "ms", Samples: keep.p50, Against: limit.p50, Limit: "bbolt"})
		p99 := row{Figure: "– p99", Unit: "ms", Samples: keep.p99, Against: limit.p99, Limit: "bbolt"}
		if n == 64 {
			p99.Max = 15
		}
		b.report.add(p99)
	}
	return nil
}

// turns measures every target with every number of clients, one after the
// other, Runs times. The result is by target and clients.
func (b *bench) turns(ctx context.Context, what string, targets []target) ([]map[int]*samples, error) {
	got := make([]map[int]*samples, len(targets))
	for i := range targets {
		got[i] = map[int]*samples{}
		if _, err := b.client.load(ctx, targets[i], 16, time.Second); err != nil { // to warm up
			return nil, err
		}
	}
	for turn := range b.Runs {
		b.log("%s, turn %d of %d", what, turn+1, b.Runs)
		for _, n := range levels {
			for i, t := range targets {
				s, err := b.client.load(ctx, t, n, b.Time)
				if err != nil {
					return nil, err
				}
				if got[i][n] == nil {
					got[i][n] = new(samples)
				}
				got[i][n].add(s)
				if t.pid > 0 {
					b.report.Others = append(b.report.Others, s.others)
				}
			}
		}
	}
	return got, nil
}

// atSize measures what else must not grow with the store.
func (b *bench) atSize(ctx context.Context, k *keep) error {
	var took []float64
	for i := range 50 {
		folder := i * 7919 % (b.Secrets / perFolder)
		d, err := k.list(ctx, fmt.Sprintf("%sf%d/", readFolder, folder), perFolder)
		if err != nil {
			return err
		}
		took = append(took, ms(d))
	}
	b.report.add(row{Figure: "list a folder of 1,000 among " + count(b.Secrets), Unit: "ms", Samples: took, Max: 5})

	var commits []float64
	took = nil
	for range b.Runs {
		before, err := k.counters(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := k.call(ctx, "POST", "sys/rotate", "", nil); err != nil {
			return err
		}
		took = append(took, ms(time.Since(began)))
		after, err := k.counters(ctx)
		if err != nil {
			return err
		}
		commits = append(commits, after.commits-before.commits)
	}
	b.report.add(row{Figure: "commits to rotate the barrier key among " + count(b.Secrets), Samples: commits, Max: 1})
	b.report.add(row{Figure: "– time", Unit: "ms", Samples: took})
	if m, err := residentMemory(k.pid(), k.store); err == nil {
		b.report.addMemory("memory after all reads of "+count(b.Secrets), m, 0)
	}
	return nil
}

func clients(n int) string {
	if n == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", n)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
