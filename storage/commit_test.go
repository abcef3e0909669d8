package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Increments from many goroutines: none is lost, and they share commits.
func TestGroupCommit(t *testing.T) {
	s, _ := newStore(t)
	const workers, each = 32, 40
	before := s.Stats()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				err := s.Update(t.Context(), func(tx *Tx) error {
					v, err := tx.Get("n")
					if err != nil {
						return err
					}
					n, _ := strconv.Atoi(string(v))
					return tx.Put("n", []byte(strconv.Itoa(n+1)))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := mustGet(t, s, "n"); got != strconv.Itoa(workers*each) {
		t.Errorf("%s increments of %d survived", got, workers*each)
	}
	st := s.Stats()
	commits, updates := st.Commits-before.Commits, st.Updates-before.Updates
	if updates != workers*each || commits > updates/2 {
		t.Errorf("%d updates in %d commits", updates, commits)
	}
}

// What a function wrote before it failed is undone, in every way to fail, and
// its neighbours in the batch stay.
func TestUndo(t *testing.T) {
	s, _ := newStore(t)
	put(t, s, "kept", "old")
	failed := errors.New("failed")
	spoil := func(tx *Tx) {
		for _, err := range []error{tx.Put("kept", []byte("new")), tx.Put("kept", []byte("newer")), tx.Put("extra", nil), tx.Delete("kept")} {
			if err != nil {
				t.Error(err)
			}
		}
	}
	ways := map[string]func(*Tx) error{
		"error":  func(tx *Tx) error { spoil(tx); return failed },
		"panic":  func(tx *Tx) error { spoil(tx); panic(failed) },
		"goexit": func(tx *Tx) error { spoil(tx); runtime.Goexit(); return nil },
	}
	for name, fn := range ways {
		// A function that holds the committer lets the others gather in one batch.
		release, held := make(chan bool), make(chan bool)
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = s.Update(t.Context(), func(*Tx) error { close(held); <-release; return nil })
		})
		<-held
		for i := range 6 {
			wg.Go(func() {
				if i%2 == 0 {
					put(t, s, fmt.Sprint(name, i), "good")
					return
				}
				defer func() {
					if r := recover(); (r == failed) != (name == "panic") {
						t.Errorf("%s: recovered %v", name, r)
					}
				}()
				if err := s.Update(t.Context(), fn); !errors.Is(err, failed) {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		waitQueue(t, s, 6)
		close(release)
		wg.Wait()
		if got := mustGet(t, s, "kept") + mustGet(t, s, "extra"); got != "old(none)" {
			t.Errorf("%s: %q", name, got)
		}
		for i := 0; i < 6; i += 2 {
			if got := mustGet(t, s, fmt.Sprint(name, i)); got != "good" {
				t.Errorf("%s: neighbour %d: %q", name, i, got)
			}
		}
	}
}

func waitQueue(t *testing.T, s *Store, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(s.queue) < n; {
		if time.Now().After(deadline) {
			t.Fatalf("%d waiting, want %d", len(s.queue), n)
		}
		runtime.Gosched()
	}
}

func TestCancel(t *testing.T) {
	s, _ := newStore(t)
	release, held := make(chan bool), make(chan bool)
	var wg sync.WaitGroup
	running, stop := context.WithCancel(t.Context())
	wg.Go(func() {
		// Picked up: the cancellation comes too late, the commit counts.
		err := s.Update(running, func(tx *Tx) error {
			close(held)
			<-release
			return tx.Put("running", []byte("done"))
		})
		if err != nil {
			t.Errorf("running: %v", err)
		}
	})
	<-held
	waiting, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		err := s.Update(waiting, func(tx *Tx) error { t.Error("ran"); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("waiting: %v", err)
		}
		stop()
		close(release)
	})
	waitQueue(t, s, 1)
	cancel()
	wg.Wait()
	if got := mustGet(t, s, "running"); got != "done" {
		t.Errorf("running = %q", got)
	}
	if err := s.Update(waiting, func(tx *Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("after: %v", err)
	}
	if err := s.View(waiting, func(tx *Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("view after: %v", err)
	}
}

func TestNesting(t *testing.T) {
	s, _ := newStore(t)
	inner := func(*Tx) error { return nil }
	for _, outer := range []func(context.Context, func(*Tx) error) error{s.Update, s.View} {
		err := outer(t.Context(), func(tx *Tx) error {
			for _, call := range []func(context.Context, func(*Tx) error) error{s.Update, s.View} {
				if err := call(tx.Context(), inner); !errors.Is(err, ErrNested) {
					t.Errorf("nested: %v", err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	var kept *Tx
	_ = s.View(t.Context(), func(tx *Tx) error { kept = tx; return nil })
	if _, err := kept.Get("a"); !errors.Is(err, ErrClosed) {
		t.Errorf("a transaction that ended: %v", err)
	}
	_ = s.Update(t.Context(), func(tx *Tx) error { kept = tx; return nil })
	if err := kept.Put("a", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a transaction that ended: %v", err)
	}
}

// A View sees one state, ends at its deadline, and Seal waits for it.
func TestView(t *testing.T) {
	s, root := newStore(t)
	put(t, s, "a", "1")
	var now sync.Map
	now.Store("", time.Now())
	s.o.Now = func() time.Time { v, _ := now.Load(""); return v.(time.Time) }
	sealed := make(chan bool)
	err := s.View(t.Context(), func(tx *Tx) error {
		put(t, s, "a", "2")
		if err := s.Rotate(t.Context()); err != nil {
			t.Error(err)
		}
		if v, err := tx.Get("a"); string(v) != "1" || err != nil {
			t.Errorf("a = %q, %v", v, err)
		}
		if st := s.Stats(); st.Views != 1 {
			t.Errorf("%d views", st.Views)
		}
		now.Store("", s.o.Now().Add(31*time.Second))
		if st := s.Stats(); st.OldestView != 31*time.Second {
			t.Errorf("oldest view: %v", st.OldestView)
		}
		if _, err := tx.Get("a"); !errors.Is(err, ErrExpired) {
			t.Errorf("after the deadline: %v", err)
		}
		go func() { s.Seal(); close(sealed) }()
		for !s.Sealed() {
			runtime.Gosched()
		}
		if _, err := tx.Get("a"); !errors.Is(err, ErrSealed) {
			t.Errorf("while sealing: %v", err)
		}
		select {
		case <-sealed:
			t.Error("sealed while a View holds the keys")
		default:
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	<-sealed
	if err := s.Unseal(root); err != nil {
		t.Fatal(err)
	}
	if got := mustGet(t, s, "a"); got != "2" {
		t.Errorf("a = %q", got)
	}
}

func TestClose(t *testing.T) {
	s, _ := newStore(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for {
				err := s.Update(t.Context(), func(tx *Tx) error { return tx.Put(fmt.Sprint("k", i), nil) })
				if err != nil {
					if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrSealed) {
						t.Error(err)
					}
					return
				}
				if _, err := get(s, "k"); err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrSealed) {
					t.Error(err)
				}
			}
		})
	}
	for s.Stats().Updates < 200 {
		runtime.Gosched()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("update: %v", err)
	}
	if _, err := get(s, "k"); !errors.Is(err, ErrClosed) {
		t.Errorf("get: %v", err)
	}
}

// A file cut short under a running store is an error, not the end of the
// process.
func TestTruncatedUnderneath(t *testing.T) {
	s, _ := newStore(t)
	for i := range 200 {
		put(t, s, fmt.Sprintf("f%d/k", i), strings.Repeat("v", 5000))
	}
	path := s.Path()
	saved, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	if _, err := get(s, "f77/k"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("get: %v", err)
	}
	if err := s.View(t.Context(), func(tx *Tx) error { _, err := tx.List(""); return err }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("list: %v", err)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.Put("f77/k", nil) }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("put: %v", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(saved); err != nil {
		t.Fatal(err)
	}
	if got := mustGet(t, s, "f77/k"); len(got) != 5000 {
		t.Errorf("after the file is back: %d bytes", len(got))
	}
}

// The store against a map, with failing functions, rotations and reopening.
func TestModel(t *testing.T) {
	s, root := newStore(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	model := map[string]string{}
	random := func() string {
		p := make([]string, 1+r.IntN(4))
		for i := range p {
			p[i] = string('a' + rune(r.IntN(4)))
		}
		return strings.Join(p, "/")
	}
	for step := range 400 {
		next := map[string]string{}
		for k, v := range model {
			next[k] = v
		}
		fail := r.IntN(5) == 0
		err := s.Update(t.Context(), func(tx *Tx) error {
			for range r.IntN(6) {
				p := random()
				if r.IntN(3) == 0 {
					delete(next, p)
					if err := tx.Delete(p); err != nil {
						return err
					}
				} else {
					v := strings.Repeat("v", r.IntN(3000))
					next[p] = v
					if err := tx.Put(p, []byte(v)); err != nil {
						return err
					}
				}
			}
			if fail {
				return errAborted
			}
			return nil
		})
		if fail != (err != nil) {
			t.Fatalf("step %d: %v", step, err)
		}
		if !fail {
			model = next
		}
		switch {
		case step%97 == 0:
			if err := s.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
		case step%83 == 0:
			path := s.Path()
			s.Close()
			s = reopen(t, path, root)
		}
		p := random()
		v, err := get(s, p)
		if want, ok := model[p]; err != nil || ok != (v != nil) || want != string(v) {
			t.Fatalf("step %d: %s is %d bytes (%v), want %d (%v); %v", step, p, len(v), v != nil, len(want), ok, err)
		}
		folder := random()
		children := map[string]bool{}
		for k := range model {
			if rest, ok := strings.CutPrefix(k, folder+"/"); ok {
				name, _, below := strings.Cut(rest, "/")
				if below {
					name += "/"
				}
				children[name] = true
			}
		}
		if got := strings.Fields(list(t, s, folder)); len(got) != len(children) {
			t.Fatalf("step %d: list %s = %v, want %v", step, folder, got, children)
		}
	}
	if r, err := s.Check(t.Context()); err != nil || r.Values != len(model) {
		t.Errorf("check: %d values, want %d; %v", r.Values, len(model), err)
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(strconv.Itoa(clients), func(b *testing.B) {
			s, _ := newStore(b)
			value := make([]byte, 1024)
			b.SetParallelism(clients / runtime.GOMAXPROCS(0))
			b.ResetTimer()
			before := s.Stats()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					key := binary.BigEndian.AppendUint64(nil, rand.Uint64())
					err := s.Update(context.Background(), func(tx *Tx) error { return tx.Put(fmt.Sprintf("bench/%x", key), value) })
					if err != nil {
						b.Fatal(err)
					}
				}
			})
			b.ReportMetric(float64(s.Stats().Commits-before.Commits)/float64(b.N), "commits/op")
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s, _ := newStore(b)
	put(b, s, "mount/uuid/s/key", strings.Repeat("v", 1024))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := get(s, "mount/uuid/s/key"); err != nil {
			b.Fatal(err)
		}
	}
}

// While as many updates wait as may, another is turned away at once; who is
// patient waits; and when there is room again all is as before.
func TestQueueIsBounded(t *testing.T) {
	s, _ := newStore(t)
	release, held := make(chan bool), make(chan bool)
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := s.Update(t.Context(), func(*Tx) error { close(held); <-release; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-held
	add := func(ctx context.Context) error {
		return s.Update(ctx, func(tx *Tx) error {
			v, err := tx.Get("n")
			if err != nil {
				return err
			}
			n, _ := strconv.Atoi(string(v))
			return tx.Put("n", []byte(strconv.Itoa(n+1)))
		})
	}
	for range maxQueue {
		wait.Go(func() {
			if err := add(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	for s.Stats().Waiting < maxQueue {
		runtime.Gosched()
	}
	if err := add(t.Context()); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	ctx, cancel := context.WithTimeout(Patient(t.Context()), 10*time.Millisecond)
	defer cancel()
	if err := add(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who is patient, but not for ever: %v", err)
	}
	wait.Go(func() {
		if err := add(Patient(t.Context())); err != nil {
			t.Error(err)
		}
	})
	close(release)
	wait.Wait()
	if got := mustGet(t, s, "n"); got != strconv.Itoa(maxQueue+1) {
		t.Errorf("%s updates ran", got)
	}
	if st := s.Stats(); st.Waiting != 0 || st.Refused != 1 {
		t.Errorf("%+v", st)
	}
	if err := add(t.Context()); err != nil {
		t.Error(err)
	}
}
