package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what all threads of a process have used so far: the clock that
// clock_getcpuclockid(3) would give, in nanoseconds where /proc counts ticks.
func cpuTime(pid int) (time.Duration, error) {
	const ofProcess = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|ofProcess), &t); err != nil {
		return 0, fmt.Errorf("reading the CPU time of a process: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// busyTime is what all cores have used so far, in steps of 10 ms.
func busyTime() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal ...
	if len(fields) < 9 {
		return 0, errors.New("/proc/stat: too short")
	}
	var ticks int64
	for i, f := range fields[1:9] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if i != 3 && i != 4 {
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// residentMemory is that of a process; file is the store's.
func residentMemory(pid int, file string) (m memory, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, err
	}
	if m.resident, err = kilobytes(status, "VmRSS"); err != nil {
		return m, err
	}
	if m.anon, err = kilobytes(status, "RssAnon"); err != nil {
		return m, err
	}
	// Only root may read this of a process that hides its memory.
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if errors.Is(err, fs.ErrPermission) {
		return m, nil
	} else if err != nil {
		return m, err
	}
	for len(maps) > 0 {
		line, rest, _ := bytes.Cut(maps, []byte("\n"))
		if maps = rest; bytes.HasSuffix(line, []byte(" "+file)) {
			n, err := kilobytes(rest, "Rss")
			if err != nil {
				return m, err
			}
			m.mapped += n
		}
	}
	return m, nil
}

// kilobytes finds the first line "NAME:  N kB" and returns N in bytes.
func kilobytes(text []byte, name string) (int64, error) {
	_, rest, _ := bytes.Cut(append([]byte("\n"), text...), []byte("\n"+name+":"))
	value, _, _ := bytes.Cut(rest, []byte(" kB"))
	n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading %s of a process: %w", name, err)
	}
	return n << 10, nil
}

// hardware is the processor, the memory, the kernel, and the file system of dir.
func hardware(dir string) (parts []string) {
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(b), "model name")
		_, rest, _ = strings.Cut(rest, ":")
		model, _, _ := strings.Cut(rest, "\n")
		parts = append(parts, strings.TrimSpace(model))
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		if n, err := kilobytes(b, "MemTotal"); err == nil {
			parts = append(parts, fmt.Sprintf("%.0f GiB", float64(n)/(1<<30)))
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		parts = append(parts, "Linux "+unix.ByteSliceToString(u.Release[:]))
	}
	var f unix.Statfs_t
	if unix.Statfs(dir, &f) == nil {
		known := map[uint32]string{
			unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
			unix.TMPFS_MAGIC: "tmpfs (a sync costs nothing there: the figures of writes mean nothing; use -dir)",
		}
		name, ok := known[uint32(f.Type)]
		if !ok {
			name = fmt.Sprintf("file system %#x", f.Type)
		}
		parts = append(parts, name)
	}
	return parts
}
