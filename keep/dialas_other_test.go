//go:build !linux

package keep_test

import (
	"context"
	"errors"
	"net"
	"os"
)

// dialAs connects to a unix socket: as somebody else only on Linux.
func dialAs(uid int) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		if uid != os.Geteuid() {
			return nil, errors.New("not on this system")
		}
		return new(net.Dialer).DialContext(ctx, "unix", address)
	}
}
