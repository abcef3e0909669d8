package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

var (
	errInterrupted = errors.New("interrupted") // a signal came while a command waited for input
	errNothing     = errors.New("nothing was entered")
)

// terminal reports whether standard input is a terminal, and which.
func (c *cli) terminal() (fd int, ok bool) {
	in, ok := c.stdin.(*os.File)
	if !ok {
		return 0, false
	}
	return int(in.Fd()), term.IsTerminal(int(in.Fd()))
}

// input returns standard input. When the command is interrupted, reading from it ends
// with errInterrupted; a plain read of a terminal or a pipe would not end.
func (c *cli) input() io.Reader {
	if c.interruptible == nil {
		r, w := io.Pipe()
		go func() {
			_, err := io.Copy(w, c.stdin)
			w.CloseWithError(err)
		}()
		context.AfterFunc(c, func() { w.CloseWithError(errInterrupted) })
		c.interruptible = r
	}
	return c.interruptible
}

// readLine reads a line of standard input. On a terminal it asks for the line and
// does not show it.
func (c *cli) readLine(what string) (string, error) {
	var line string
	var err error
	if fd, ok := c.terminal(); ok {
		fmt.Fprint(c.stderr, what+" (will be hidden): ")
		line, err = c.readHidden(fd)
		fmt.Fprintln(c.stderr)
	} else {
		line, err = bufio.NewReader(io.LimitReader(c.input(), maxToken)).ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	return strings.TrimRight(line, "\r\n"), err
}

// readHidden reads a line of a terminal without echo, and turns echo on again before
// it returns, even if the command is interrupted.
func (c *cli) readHidden(fd int) (string, error) {
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return "", err
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ICANON | unix.ISIG
	quiet.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, setTermios, &quiet); err != nil {
		return "", err
	}
	defer unix.IoctlSetTermios(fd, setTermios, before)
	return c.readTerminal()
}

// readTerminal reads a line of a terminal. Ctrl-D on an empty line gives errNothing.
func (c *cli) readTerminal() (string, error) {
	type result struct {
		line string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(c.stdin, maxToken)).ReadString('\n')
		if errors.Is(err, io.EOF) {
			if err = nil; line == "" {
				err = errNothing
			}
		}
		read <- result{line, err}
	}()
	select {
	case got := <-read:
		return got.line, got.err
	case <-c.Done():
		return "", errInterrupted
	}
}
