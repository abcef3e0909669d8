package storage

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// lockHolder names the process that has the file locked, from /proc/locks.
func lockHolder(path string) string {
	const unknown = "which one cannot be told"
	fi, err := os.Stat(path)
	if err != nil {
		return unknown
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return unknown
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return unknown
	}
	defer f.Close()
	// 1: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF
	inode := fmt.Sprintf(":%d", st.Ino)
	for sc := bufio.NewScanner(f); sc.Scan(); {
		w := strings.Fields(sc.Text())
		if len(w) >= 6 && w[1] == "FLOCK" && strings.HasSuffix(w[5], inode) {
			name, err := os.ReadFile("/proc/" + w[4] + "/comm")
			if err != nil {
				return "process " + w[4]
			}
			return fmt.Sprintf("process %s (%s)", w[4], strings.TrimSpace(string(name)))
		}
	}
	return unknown
}
