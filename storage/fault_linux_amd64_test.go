package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tests of this file put themselves between a real process and the kernel:
// a seccomp filter stops the child's writes to the store and its
// acknowledgements (SECCOMP_RET_TRACE, ptrace(2)) until the test has recorded
// them and decided whether they succeed.

// faultWork is the child: beneath the filter, it works on the store at path.
func faultWork(path string) error {
	if err := filter(); err != nil {
		return err
	}
	if name, ok := strings.CutSuffix(filepath.Base(path), ".compact"); ok {
		_, _, _ = Compact(context.Background(), filepath.Join(filepath.Dir(path), name[1:]), Options{}) // the tracer looks at what it leaves
		return nil
	}
	return work(path)
}

// filter makes the interesting system calls of this process stop for its
// tracer.
func filter() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ld := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	eq := func(k int, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(k), Jt: yes, Jf: no}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	prog := []unix.SockFilter{
		ld(0), // the system call's number
		eq(unix.SYS_PWRITE64, 6, 0),
		eq(unix.SYS_FDATASYNC, 5, 0),
		eq(unix.SYS_FSYNC, 4, 0),
		eq(unix.SYS_FTRUNCATE, 3, 0),
		eq(unix.SYS_WRITE, 0, 3),
		ld(16), // its first argument
		eq(1, 0, 1),
		ret(unix.SECCOMP_RET_TRACE),
		ret(unix.SECCOMP_RET_ALLOW),
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// work opens a store and writes to it from several goroutines until each has
// had a dozen writes acknowledged, and says each that was.
func work(path string) error {
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	if err := s.Unseal(faultRoot); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for w := range errs {
		wg.Go(func() {
			for n, acked := 0, 0; acked < 12; n++ {
				key := fmt.Sprintf("w%d/%d", w, n)
				err := s.Update(ctx, func(tx *Tx) error {
					return errors.Join(tx.Put(key, faultValue(key)), tx.Put("last", []byte(key)), tx.Delete(fmt.Sprintf("gone/%d", n)))
				})
				switch {
				case err == nil:
					acked++
					os.Stdout.WriteString(key + "\n")
				case errors.Is(err, ErrUnknownOutcome):
				case errors.Is(err, ErrUnavailable):
					n-- // never ran
					runtime.Gosched()
				default:
					errs[w] = fmt.Errorf("%s: %w", key, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, changeSlots(ctx, s), s.Close())...)
}

// changeSlots does everything that changes the keyring. The blob of each slot
// is the root key itself.
func changeSlots(ctx context.Context, s *Store) error {
	slot := func(name string, root []byte, generation uint64) Slot {
		return Slot{Name: name, Type: "test", Blob: root, RootGeneration: generation}
	}
	next := bytes.Repeat([]byte{7}, rootKeySize)
	for _, change := range []func() error{
		func() error { return s.PutSlot(ctx, slot("a", faultRoot, 1)) },
		func() error { return s.PutSlot(ctx, slot("b", faultRoot, 1)) },
		func() error { return s.PutSlot(ctx, slot("a", faultRoot, 1)) },
		func() error { return s.Rotate(ctx) },
		func() error { return s.RemoveSlot(ctx, "a") },
		func() error { return s.Reencrypt(ctx, 1<<20, nil) },
		func() error { return s.RotateRoot(ctx, next, []Slot{slot("b", next, 2), slot("c", next, 2)}) },
		func() error { return s.Reencrypt(ctx, 1<<20, nil) },
	} {
		for unavailable := true; unavailable; {
			err := change()
			switch unavailable = errors.Is(err, ErrUnavailable); { // never ran: again
			case unavailable:
				runtime.Gosched()
			case errors.Is(err, ErrUnknownOutcome), errors.Is(err, ErrNoSlot), errors.Is(err, ErrLastSlot), errors.Is(err, ErrGeneration):
				// It, or what it needs, may or may not be there.
			case err != nil:
				return err
			}
		}
	}
	return nil
}

// faultValue is what stands at a key, some of it over several pages.
func faultValue(key string) []byte {
	r := rand.New(rand.NewPCG(uint64(len(key)), uint64(key[len(key)-1])))
	return bytes.Repeat([]byte(key), 1+r.IntN(2000))
}

// call is one intercepted system call.
type call struct {
	nr   int
	off  int64  // of pwrite64; the length of ftruncate
	data []byte // of pwrite64 and write
}

func (c call) onStore() bool { return c.nr != unix.SYS_WRITE }

func (c call) sync() bool { return c.nr == unix.SYS_FDATASYNC || c.nr == unix.SYS_FSYNC }

// supervise runs work on the store at path, and lets fail decide about each
// call on the store's file: 0 lets it through. It returns the calls that were
// let through, in order.
func supervise(t *testing.T, path string, fail func(call) syscall.Errno) (calls []call) {
	t.Helper()
	// ptrace wants all its requests from one thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command("/proc/self/exe", path)
	cmd.Env = append(os.Environ(), stageVar+"=work")
	cmd.Stderr = out
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		if os.Getenv("SEALKEEP_REQUIRE_FAULTS") == "" {
			t.Skipf("processes cannot be traced here: %v", err)
		}
		t.Fatal(err)
	}
	child := cmd.Process.Pid
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(child, &ws, 0, nil); err != nil || !ws.Stopped() {
		t.Fatalf("waiting for the child: %v %v", err, ws)
	}
	const options = unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_EXITKILL
	if err := syscall.PtraceSetOptions(child, options); err != nil {
		t.Fatal(err)
	}
	pid, signal := child, 0
	for {
		_ = syscall.PtraceCont(pid, signal) // fails only for a thread that is gone
		pid, signal = 0, 0
		for pid == 0 {
			p, err := syscall.Wait4(-1, &ws, unix.WALL, nil)
			switch {
			case err == syscall.EINTR:
			case err != nil:
				t.Fatalf("waiting for the child: %v", err)
			case p == child && (ws.Exited() || ws.Signaled()):
				if said, _ := os.ReadFile(out.Name()); ws.ExitStatus() != 0 {
					t.Fatalf("child: %v: %s", ws, said)
				}
				return calls
			case ws.Stopped():
				pid = p
			}
		}
		switch {
		case ws.TrapCause() == unix.PTRACE_EVENT_SECCOMP:
			if c, ok := intercept(t, pid, path, fail); ok {
				calls = append(calls, c)
			}
		case ws.StopSignal() != syscall.SIGTRAP && ws.StopSignal() != syscall.SIGSTOP:
			signal = int(ws.StopSignal()) // the child's own business
		}
	}
}

// intercept looks at the call in which a thread has stopped, and makes it fail
// if it is to. It reports whether the call is one of ours and goes through.
func intercept(t *testing.T, pid int, path string, fail func(call) syscall.Errno) (c call, ok bool) {
	t.Helper()
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(pid, &regs); err != nil {
		t.Fatalf("reading registers: %v", err)
	}
	c.nr = int(regs.Orig_rax)
	file, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, regs.Rdi))
	if c.onStore() && file != path {
		return c, false
	}
	switch c.nr {
	case unix.SYS_PWRITE64, unix.SYS_WRITE:
		c.off, c.data = int64(regs.R10), make([]byte, regs.Rdx)
		local := []unix.Iovec{{Base: &c.data[0], Len: regs.Rdx}}
		remote := []unix.RemoteIovec{{Base: uintptr(regs.Rsi), Len: int(regs.Rdx)}}
		if _, err := unix.ProcessVMReadv(pid, local, remote, 0); err != nil {
			t.Fatalf("reading the child: %v", err)
		}
	case unix.SYS_FTRUNCATE:
		c.off = int64(regs.Rsi)
	}
	errno := fail(c)
	if errno == 0 {
		return c, true
	}
	regs.Orig_rax = ^uint64(0) // no such call
	regs.Rax = uint64(-int64(errno))
	if err := syscall.PtraceSetRegs(pid, &regs); err != nil {
		t.Fatalf("failing a call: %v", err)
	}
	return c, false
}

// faultStore makes a store for work. Where the free list does not hold it has to
// be made anew before the first write.
func faultStore(t *testing.T, listHolds bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.db")
	first := func(tx *Tx) error {
		for i := range 40 {
			if err := tx.Put(fmt.Sprintf("gone/%d", i), make([]byte, 700)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := Create(path, NewUUID(), faultRoot, nil, first, Options{}); err != nil {
		t.Fatal(err)
	}
	if !listHolds {
		_, ms, l := readAll(t, path)
		if len(l.ids) == 0 || ms.root <= l.ids[len(l.ids)-1] && len(l.ids) > 1 && ms.root <= l.ids[len(l.ids)-2] {
			t.Fatalf("a free list of %v has no place for the root page, %d", l.ids, ms.root)
		}
		patchFile(t, path, int64(ms.free*ms.pageSize)+pageHeader+8*int64(len(l.ids)-1), binary.NativeEndian.AppendUint64(nil, ms.root))
	}
	return path
}

// verify opens the store at path as a new process would, and wants it whole
// with everything that was acknowledged.
func verify(t *testing.T, path string, acked []string) {
	t.Helper()
	damage, err := CheckPages(path, time.Second)
	if err != nil || len(damage) > 0 && len(acked) > 0 {
		t.Fatalf("pages: %v %v", err, damage)
	}
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	slots, err := s.Slots()
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range append(slots, Slot{Name: "none"}) {
		root := slot.Blob
		switch {
		case slot.Name != "none":
		case len(slots) == 0:
			root = faultRoot
		default:
			continue
		}
		if err := s.Unseal(root); err != nil {
			t.Fatalf("slot %s: %v", slot.Name, err)
		}
	}
	if table, err := s.SlotTable(); err != nil || len(table.Trusted) != len(slots) || len(table.Missing)+len(table.Quarantined) > 0 {
		t.Fatalf("slots: %v, table %+v, %v", slots, table, err)
	}
	if len(damage) > 0 { // the list that was not used yet
		put(t, s, "verified", "x")
	}
	if r, err := s.Check(t.Context()); err != nil || !r.OK() {
		t.Fatalf("check: %v %v", err, r.Damage)
	}
	for _, key := range acked {
		if v, err := get(s, key); err != nil || !bytes.Equal(v, faultValue(key)) {
			t.Errorf("acknowledged %s is %d bytes, %v", key, len(v), err)
		}
	}
}

func ackedIn(calls []call) (keys []string) {
	for _, c := range calls {
		if !c.onStore() {
			keys = append(keys, strings.Fields(string(c.data))...)
		}
	}
	return keys
}

// EIO, and a full disk, at each write, sync and growth of the file in turn:
// the process goes on, and what it acknowledged is there.
func TestFailingDisk(t *testing.T) {
	total := 0
	supervise(t, faultStore(t, true), func(c call) syscall.Errno {
		if c.onStore() {
			total++
		}
		return 0
	})
	if total < 20 {
		t.Fatalf("only %d calls to fail", total)
	}
	step := 1
	if os.Getenv("SEALKEEP_LONG") == "" {
		step = max(1, total/12)
	}
	// How many calls the work takes varies with the batches: the last tenth may
	// not come.
	for nth := 0; nth < total*9/10; nth += step {
		for _, length := range []int{1, 5} { // a passing fault, and one that outlasts some tries to recover
			errno := []syscall.Errno{syscall.EIO, syscall.ENOSPC}[nth/step%2]
			t.Run(fmt.Sprintf("%v at %d for %d", errno, nth, length), func(t *testing.T) {
				path := faultStore(t, nth/step%3 != 0)
				n := -1
				calls := supervise(t, path, func(c call) syscall.Errno {
					if !c.onStore() {
						return 0
					}
					if n++; n >= nth && n < nth+length {
						return errno
					}
					return 0
				})
				acked := ackedIn(calls)
				if len(acked) != 48 {
					t.Errorf("%d writes acknowledged, want 48", len(acked))
				}
				verify(t, path, acked)
			})
		}
	}
}

// A power cut at each point: of what was written since the last sync, the disk
// has kept an arbitrary part.
func TestPowerCut(t *testing.T) {
	t.Run("a list that holds", func(t *testing.T) { powerCuts(t, faultStore(t, true)) })
	t.Run("a list that is made anew", func(t *testing.T) { powerCuts(t, faultStore(t, false)) })
}

func powerCuts(t *testing.T, path string) {
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	calls := supervise(t, path, func(call) syscall.Errno { return 0 })
	seed := rand.Uint64()
	t.Logf("seed %d, %d calls", seed, len(calls))
	r := rand.New(rand.NewPCG(seed, 0))
	step := 1
	if os.Getenv("SEALKEEP_LONG") == "" {
		step = max(1, len(calls)/40)
	}
	apply := func(image []byte, c call) []byte {
		switch c.nr {
		case unix.SYS_FTRUNCATE:
			if n := int(c.off); n > len(image) {
				image = append(image, make([]byte, n-len(image))...)
			}
		case unix.SYS_PWRITE64:
			if end := int(c.off) + len(c.data); end > len(image) {
				image = append(image, make([]byte, end-len(image))...)
			}
			copy(image[c.off:], c.data)
		}
		return image
	}
	cut := filepath.Join(t.TempDir(), "cut.db")
	var pending []call
	for i, c := range calls {
		if c.sync() {
			for _, p := range pending {
				image = apply(image, p)
			}
			pending = nil
		} else if c.onStore() {
			pending = append(pending, c)
		}
		if i%step != 0 {
			continue
		}
		kept := slices.Clone(image)
		for _, p := range pending {
			if p.nr == unix.SYS_FTRUNCATE || r.IntN(2) == 0 {
				kept = apply(kept, p)
			}
		}
		if err := os.WriteFile(cut, kept, 0o600); err != nil {
			t.Fatal(err)
		}
		verify(t, cut, ackedIn(calls[:i+1]))
		if t.Failed() {
			t.Fatalf("after a power cut at call %d of %d", i, len(calls))
		}
	}
}
