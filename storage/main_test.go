package storage

import (
	"bytes"
	"fmt"
	"os"
	"testing"
)

const stageVar = "STORAGE_TEST_STAGE"

// faultRoot is the root key of stores that other processes open.
var faultRoot = bytes.Repeat([]byte{7}, rootKeySize)

// TestMain runs the parts of tests that need a process of their own.
func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(stageVar) {
	case "":
		os.Exit(m.Run())
	case "work":
		err = faultWork(os.Args[1])
	case "compact":
		err = compactWork(os.Args[1])
	case "examine":
		err = examineAll(os.Args[1], os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
