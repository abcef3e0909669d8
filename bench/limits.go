package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// serveBare is the process of the bare server: it gives the content of a file
// for every request, tells its address in its first line, and ends with its
// standard input. With a second file it puts what it is sent into that with
// bbolt before it answers.
func serveBare(args []string, stdin io.Reader, stdout io.Writer) error {
	if len(args) != 1 && len(args) != 2 {
		return fmt.Errorf("bare: one argument, the file with the answer, or two, and the file of bbolt")
	}
	answer, err := os.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	put := func(*http.Request) error { return nil }
	if len(args) == 2 {
		g, err := openBolt(args[1])
		if err != nil {
			return err
		}
		put = g.body
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	fmt.Fprintln(stdout, l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		l.Close()
	}()
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := put(r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		w.Write(answer)
	}))
}

// bare is the running process.
type bare struct {
	cmd   *exec.Cmd
	stdin io.Closer
	url   string
}

func startBare(dir string, answer []byte, bolt ...string) (*bare, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "answer.json")
	if err := os.WriteFile(file, answer, 0o600); err != nil {
		return nil, fmt.Errorf("writing the answer: %w", err)
	}
	b := &bare{cmd: exec.Command(self, append([]string{"bare", file}, bolt...)...)}
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the bare server: %w", err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.stop()
		return nil, fmt.Errorf("starting the bare server: %w", err)
	}
	b.url = "http://" + strings.TrimSpace(line)
	return b, nil
}

func (b *bare) pid() int { return b.cmd.Process.Pid }

func (b *bare) stop() {
	b.stdin.Close()
	_ = b.cmd.Wait() // its listener was closed under it
}

// What raw bbolt is given for a secret: a short random key and the plain secret.
// A keep's record is 350 bytes longer, by its encrypted names, its nonce, its tag
// and its metadata.
const (
	boltKeySize   = 16
	boltValueSize = secretSize
)

var boltBucket = []byte("data")

// putBolt is the process of raw bbolt.
func putBolt(args []string, stdout io.Writer) error {
	f := flag.NewFlagSet("bolt", flag.ContinueOnError)
	file := f.String("file", "", "")
	n := f.Int("clients", 1, "")
	d := f.Duration("time", time.Second, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	g, err := openBolt(*file)
	if err != nil {
		return err
	}
	defer g.db.Close()
	before, _ := cpuTime(os.Getpid())
	took, elapsed, err := repeat(*n, *d, func(int) (func() error, error) {
		p := &put{value: make([]byte, boltValueSize), done: make(chan error, 1)}
		return func() error {
			p.key = boltKey()
			g.queue <- p
			return <-p.done
		}, nil
	})
	if err != nil {
		return fmt.Errorf("writing to bbolt: %w", err)
	}
	after, _ := cpuTime(os.Getpid())
	o := summary(took, elapsed)
	o.Commits, o.CPU = g.commits, after-before
	return json.NewEncoder(stdout).Encode(o)
}

func boltKey() []byte {
	k := make([]byte, boltKeySize)
	for i := range k {
		k[i] = byte(rand.Uint32())
	}
	return k
}

// openBolt opens a file, which it makes if need be, and commits to it.
func openBolt(file string) (*group, error) {
	// As quick as bbolt can be: the list of free pages is not written.
	db, err := bolt.Open(file, 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType, InitialMmapSize: 1 << 30})
	if err != nil {
		return nil, fmt.Errorf("opening bbolt: %w", err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		if tx.Bucket(boltBucket) != nil {
			return nil
		}
		b, err := tx.CreateBucket(boltBucket)
		for i := 0; i < perFolder && err == nil; i++ {
			err = b.Put(boltKey(), make([]byte, boltValueSize))
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("filling bbolt: %w", err), db.Close())
	}
	g := &group{db: db, queue: make(chan *put, 256)}
	go g.run()
	return g, nil
}

// body puts what a request brings, no more than a secret.
func (g *group) body(r *http.Request) error {
	value, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("reading the body: %w", err)
	}
	p := &put{key: boltKey(), value: value[:min(len(value), boltValueSize)], done: make(chan error, 1)}
	g.queue <- p
	return <-p.done
}

// group commits what is waiting, together and without a timer.
type group struct {
	db      *bolt.DB
	queue   chan *put
	commits int64 // of run; read it when all puts are done
}

type put struct {
	key, value []byte
	done       chan error
}

func (g *group) run() {
	for p := range g.queue {
		batch := []*put{p}
		for range len(g.queue) {
			batch = append(batch, <-g.queue)
		}
		err := g.db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(boltBucket)
			for _, p := range batch {
				if err := b.Put(p.key, p.value); err != nil {
					return err
				}
			}
			return nil
		})
		g.commits++
		for _, p := range batch {
			p.done <- err
		}
	}
}

// runBolt starts the process of raw bbolt on a file, which it makes if need be.
func runBolt(ctx context.Context, file string, n int, d time.Duration) (s sample, err error) {
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	cmd := exec.CommandContext(ctx, self, "bolt", "-file="+file, "-clients="+strconv.Itoa(n), "-time="+d.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("running raw bbolt: %w", err)
	}
	var o outcome
	if err := json.Unmarshal(out, &o); err != nil {
		return s, fmt.Errorf("running raw bbolt: %w", err)
	}
	s = o.sample()
	s.syncs, s.cpu = 2*float64(o.Commits)/float64(o.Requests), float64(o.CPU)/1e3/float64(o.Requests)
	return s, nil
}
