//go:build !linux

package main

import (
	"errors"
	"time"
)

func cpuTime(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

func busyTime() (time.Duration, error) { return 0, errors.ErrUnsupported }

func residentMemory(int, string) (memory, error) { return memory{}, errors.ErrUnsupported }

func hardware(string) []string { return nil }
