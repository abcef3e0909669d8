//go:build !linux

package main

import (
	"fmt"
	"syscall"
)

// harden keeps the memory of the process out of core files.
func harden() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core files: %w", err)
	}
	return nil
}
