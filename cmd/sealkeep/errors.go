package main

import (
	"errors"
	"fmt"

	"github.com/sealkeep/sealkeep/config"
)

// exit ends the command with a code and without a message.
type exit struct{ code int }

func (e exit) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// coded is an error with an exit code of its own.
type coded struct {
	error
	code int
}

func (e coded) Unwrap() error { return e.error }

// hinted is an error with the next step.
type hinted struct {
	error
	hint string
}

func (e hinted) Unwrap() error { return e.error }

func hint(err error, format string, args ...any) error {
	return hinted{err, fmt.Sprintf(format, args...)}
}

// report prints err and its hint, and returns the exit code.
func (c *cli) report(err error) int {
	if err == nil {
		return 0
	}
	code := 1
	if e, ok := errors.AsType[coded](err); ok {
		code = e.code
	}
	if e, ok := errors.AsType[exit](err); ok {
		return e.code
	}
	if e, ok := errors.AsType[*config.Error](err); ok {
		for _, mistake := range e.Mistakes {
			fmt.Fprintf(c.stderr, "sealkeep: error: %s\n", mistake)
		}
		return code
	}
	fmt.Fprintf(c.stderr, "sealkeep: error: %v\n", err)
	if h, ok := errors.AsType[hinted](err); ok {
		fmt.Fprintf(c.stderr, "sealkeep: hint: %s\n", h.hint)
	}
	return code
}

func (c *cli) warnf(format string, args ...any) {
	fmt.Fprintf(c.stderr, "sealkeep: warning: "+format+"\n", args...)
}
