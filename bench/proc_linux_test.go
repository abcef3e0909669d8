package main

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// TestCPUTime compares the clock with what the kernel accounts to the process.
func TestCPUTime(t *testing.T) {
	for began := time.Now(); time.Since(began) < 50*time.Millisecond; {
	}
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		t.Fatal(err)
	}
	got, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		t.Fatal(err)
	}
	used := func(r syscall.Rusage) time.Duration { return time.Duration(r.Utime.Nano() + r.Stime.Nano()) }
	const tick = 20 * time.Millisecond
	if got < used(before)-tick || got > used(after)+tick {
		t.Errorf("%v, while getrusage says %v to %v", got, used(before), used(after))
	}
	if _, err := busyTime(); err != nil {
		t.Error(err)
	}
}

func TestResidentMemory(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "mapped")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const size = 1 << 20
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	pages, err := syscall.Mmap(int(file.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_SHARED|syscall.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(pages)
	m, err := residentMemory(os.Getpid(), file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if m.mapped != size || m.anon <= 0 || m.resident < m.anon+m.mapped {
		t.Errorf("%+v", m)
	}
}
