package sys

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/keep"
)

// profiles are those that the program keeps anyway.
var profiles = [...]struct{ name, help string }{
	{"allocs", "Where memory was allocated since the start."},
	{"block", "Where goroutines waited for each other; nothing, since that is not sampled."},
	{"goroutine", "Where all goroutines are."},
	{"heap", "Where the memory that is in use was allocated."},
	{"mutex", "Where contended locks were held; nothing, since that is not sampled."},
	{"threadcreate", "Where threads were made."},
}

const (
	profileTime = 30 * time.Second // of a CPU profile that says nothing else
	traceTime   = time.Second
	maxProfile  = time.Minute
	maxTrace    = 32 << 20 // bytes
)

// pprofRoutes show where the program spends time and memory, below sys/. They have
// addresses and names of functions, and no value that a function was called with.
func pprofRoutes() []api.Route {
	var routes []api.Route
	add := func(path, help string, h api.Handler) {
		routes = append(routes, api.Route{Path: "pprof" + path, Help: help, Sudo: []api.Op{api.Read}, Ops: map[api.Op]api.Handler{api.Read: h}})
	}
	add("", "The profiles that there are.", api.Do(listProfiles))
	for _, p := range profiles {
		add("/"+p.name, p.help, api.Do(func(_ *api.Request, in *profileInput) (api.Answer, error) { return readProfile(p.name, in.Debug) }))
	}
	add("/profile", "Where the program spends its time, in the seconds to come.", api.Do(profileCPU))
	add("/trace", "What the program does in the seconds to come.", api.Do(traceAll))
	add("/symbol", "The functions at some addresses.", api.Do(readSymbols))
	add("/cmdline", "The program's name; its arguments may be secrets.", api.Do(readCommand))
	return routes
}

type profileInput struct {
	Debug int `json:"debug"` // 0: what go tool pprof reads; else text, 2 of goroutines: each by itself
}

type recordInput struct {
	Period *time.Duration `json:"seconds"`
}

// profileAnswer is sent as a stream, so that the audit log does not have it.
func profileAnswer(kind string, b []byte) api.Answer {
	return api.Answer{Raw: &api.Raw{Type: kind, Stream: io.NopCloser(bytes.NewReader(b)), Length: int64(len(b))}}
}

const (
	plainText = "text/plain; charset=utf-8"
	binary    = "application/octet-stream"
)

func listProfiles(*api.Request, *api.None) (api.Answer, error) {
	var b bytes.Buffer
	for _, p := range profiles {
		fmt.Fprintf(&b, "%-14s%5d  %s\n", p.name, pprof.Lookup(p.name).Count(), p.help)
	}
	return profileAnswer(plainText, b.Bytes()), nil
}

func readProfile(name string, debug int) (api.Answer, error) {
	var b bytes.Buffer
	if err := pprof.Lookup(name).WriteTo(&b, debug); err != nil {
		return api.Answer{}, fmt.Errorf("writing the profile %s: %w", name, err)
	}
	if debug == 0 {
		return profileAnswer(binary, b.Bytes()), nil
	}
	return profileAnswer(plainText, api.StackWithoutValues(b.Bytes())), nil
}

// profileCPU answers 429 while another one runs, of which the runtime has one.
func profileCPU(r *api.Request, in *recordInput) (api.Answer, error) {
	return record(r, in, profileTime, pprof.StartCPUProfile, pprof.StopCPUProfile)
}

// traceAll is the same with a trace.
func traceAll(r *api.Request, in *recordInput) (api.Answer, error) {
	return record(r, in, traceTime, trace.Start, trace.Stop)
}

// record runs what records for some time. It ends before that when nobody wants it
// any more.
func record(r *api.Request, in *recordInput, d time.Duration, start func(io.Writer) error, stop func()) (api.Answer, error) {
	if in.Period != nil {
		d = *in.Period
	}
	if d <= 0 || d > maxProfile {
		return api.Answer{}, invalid("seconds must be more than 0, and %d at most", maxProfile/time.Second)
	}
	out := &recording{full: make(chan struct{})}
	if err := start(out); err != nil { // that one runs is its only error
		return api.Answer{}, api.Busy.Errorf("another profile of this kind is being recorded: try again when it is done")
	}
	r.Frame.TakeTime()
	err := pass(r, d, out.full)
	stop() // after which nothing is written
	switch {
	case err != nil:
		return api.Answer{}, err
	case out.over:
		return api.Answer{}, invalid("more than %d MiB were recorded: ask for fewer seconds", maxTrace>>20)
	}
	return profileAnswer(binary, out.Bytes()), nil
}

// pass waits for d, or until full is closed.
func pass(r *api.Request, d time.Duration, full <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-full:
	case <-r.Done():
		return r.Err()
	case <-keep.Of(r).Done():
		return api.ErrSealed
	case <-r.Frame.Stopping():
		return api.Unavailable.Errorf("the server stops")
	}
	return nil
}

// A recording is what was recorded, unless that was too much.
type recording struct {
	bytes.Buffer
	over bool
	once sync.Once
	full chan struct{} // closed when it is too much
}

func (r *recording) Write(b []byte) (int, error) {
	if r.over = r.over || r.Len()+len(b) > maxTrace; r.over {
		r.once.Do(func() { close(r.full) })
		return len(b), nil
	}
	return r.Buffer.Write(b)
}

// readSymbols names the functions at the addresses of the query, which go tool
// pprof joins with "+".
func readSymbols(r *api.Request, _ *api.None) (api.Answer, error) {
	var b bytes.Buffer
	b.WriteString("num_symbols: 1\n") // 0 would mean that there are no names
	for _, key := range slices.Sorted(maps.Keys(r.Query)) {
		for text := range strings.FieldsSeq(key) {
			pc, err := strconv.ParseUint(text, 0, 64)
			if err != nil {
				continue
			}
			if f := runtime.FuncForPC(uintptr(pc)); f != nil {
				fmt.Fprintf(&b, "%#x %s\n", pc, f.Name())
			}
		}
	}
	return profileAnswer(plainText, b.Bytes()), nil
}

func readCommand(*api.Request, *api.None) (api.Answer, error) {
	return profileAnswer(plainText, []byte(os.Args[0])), nil
}
