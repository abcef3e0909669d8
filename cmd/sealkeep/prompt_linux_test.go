package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal returns the two ends of a new terminal: what a person has, and what a program has.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// echoes reports whether a terminal shows what is typed.
func echoes(t *testing.T, f *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// unread is how many bytes were typed that no program has read.
func unread(t *testing.T, f *os.File) int {
	t.Helper()
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A screen collects what a terminal shows.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// TestPromptsEndWithCtrlCAndCtrlD runs the commands that ask for something, on a terminal: Ctrl-C and Ctrl-D end them at
// once, and the terminal echoes as before.
func TestPromptsEndWithCtrlCAndCtrlD(t *testing.T) {
	for _, c := range []struct {
		name, typed, prompt, want string
		args                      []string
		hidden                    bool
	}{
		{"share, Ctrl-C", "\x03", "Recovery share (will be hidden): ", "interrupted", []string{"operator", "unseal", "-"}, true},
		{"share, Ctrl-D", "\x04", "Recovery share (will be hidden): ", "nothing was entered", []string{"operator", "unseal", "-"}, true},
		{"share, half of it", "abc\x03", "Recovery share (will be hidden): ", "interrupted", []string{"operator", "unseal", "-"}, true},
		{"token, Ctrl-C", "\x03", "Token (will be hidden): ", "interrupted", []string{"login"}, true},
		{"token, Ctrl-D", "\x04", "Token (will be hidden): ", "nothing was entered", []string{"login"}, true},
		{"password, Ctrl-C", "\x03", "Password (will be hidden): ", "interrupted", []string{"login", "-method=userpass", "username=a"}, true},
		{"encoded token, Ctrl-C", "\x03", "Encoded token (will be hidden): ", "interrupted", []string{"operator", "generate-root", "-decode=-", "-otp=a"}, true},
		{"data, Ctrl-C", "\x03", "", "interrupted", []string{"kv", "put", "secret/a", "-"}, false},
		{"policy, Ctrl-C", "\x03", "", "interrupted", []string{"policy", "write", "a", "-"}, false},
		{"audit log, Ctrl-C", "\x03", "at the end is not known", "interrupted", []string{"audit", "verify", "-"}, false},
		{"identity, Ctrl-C", "\x03", "", "interrupted", []string{"operator", "unseal", "-identity=-"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			person, program := openTerminal(t)
			var out screen
			go io.Copy(&out, person)
			exe, err := exec.LookPath("sealkeep")
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(exe, c.args...)
			cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "VAULT_TOKEN=none", "VAULT_ADDR=http://127.0.0.1:1")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			deadline := time.After(20 * time.Second)
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			asked, typed := false, false
			for {
				select {
				case err := <-ended:
					var code *exec.ExitError
					if !errors.As(err, &code) || !code.Exited() || code.ExitCode() != 1 {
						t.Errorf("%v, want exit code 1", err)
					}
					if !echoes(t, program) {
						t.Error("the terminal does not echo")
					}
					for !strings.Contains(out.String(), c.want) {
						select {
						case <-deadline:
							t.Fatalf("the terminal shows %q", out.String())
						case <-tick.C:
						}
					}
					return
				case <-deadline:
					cmd.Process.Kill()
					t.Fatalf("it still runs; the terminal shows %q", out.String())
				case <-tick.C:
					switch {
					case typed, !strings.Contains(out.String(), c.prompt), c.hidden == echoes(t, program):
						continue
					case !c.hidden && !asked: // a line that is read shows that the command waits for more
						asked = true
						io.WriteString(person, "{\n")
						continue
					case !c.hidden && (!strings.Contains(out.String(), "{") || unread(t, program) > 0): // echoed, so it has been there
						continue
					}
					typed = true
					if _, err := io.WriteString(person, c.typed); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}
