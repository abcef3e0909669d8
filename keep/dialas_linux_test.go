package keep_test

import (
	"context"
	"net"
	"os"
	"runtime"
	"syscall"
)

// dialAs connects to a unix socket as somebody.
func dialAs(uid int) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		if uid == os.Geteuid() {
			return new(net.Dialer).DialContext(ctx, "unix", address)
		}
		type dialed struct {
			conn net.Conn
			err  error
		}
		out := make(chan dialed)
		go func() { // the kernel asks the thread who it is, and the thread ends with the goroutine
			runtime.LockOSThread()
			if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); e != 0 {
				out <- dialed{nil, e}
				return
			}
			conn, err := net.Dial("unix", address)
			out <- dialed{conn, err}
		}()
		d := <-out
		return d.conn, d.err
	}
}
