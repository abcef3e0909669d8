package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sealkeep/sealkeep/config"
	"github.com/sealkeep/sealkeep/server"
)

// A listener is one open socket of the daemon.
type listener struct {
	net.Listener
	conf config.Listener
	cert atomic.Pointer[certificate] // nil without TLS
	http *http.Server                // set when the listener begins to serve
}

// listen opens the socket that conf describes, but does not serve yet: connections wait.
func listen(ctx context.Context, conf config.Listener) (*listener, error) {
	l := &listener{conf: conf}
	if !conf.TLSDisable {
		cert, err := loadCertificate(conf)
		if err != nil {
			return nil, err
		}
		l.cert.Store(cert)
	}
	var err error
	if conf.Type == "unix" {
		l.Listener, err = listenUnix(ctx, conf)
	} else {
		l.Listener, err = new(net.ListenConfig).Listen(ctx, "tcp", conf.Address)
	}
	if err != nil {
		err = fmt.Errorf("opening the listener of %s: %w", conf.At, err)
		if errors.Is(err, syscall.EADDRINUSE) {
			err = hint(err, "another process has the address: stop it, or give the listener another address")
		}
		return nil, err
	}
	return l, nil
}

// listenUnix opens a unix socket with the owner and the mode of conf. It removes an existing file only if that is a socket
// on which nobody listens.
func listenUnix(ctx context.Context, conf config.Listener) (net.Listener, error) {
	if info, err := os.Lstat(conf.Address); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s is there and is not a socket", conf.Address)
		}
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", conf.Address)
		if err == nil {
			conn.Close()
			return nil, fmt.Errorf("%s: %w", conf.Address, syscall.EADDRINUSE)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("finding out whether anybody listens: %w", err)
		}
		if err := os.Remove(conf.Address); err != nil {
			return nil, fmt.Errorf("removing a socket that nobody listens on: %w", err)
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", conf.Address) // the daemon's umask keeps others out
	if err != nil {
		return nil, err
	}
	uid, gid := -1, -1
	if conf.SocketUser != "" {
		uid, err = number(conf.SocketUser, func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
	}
	if conf.SocketGroup != "" && err == nil {
		gid, err = number(conf.SocketGroup, func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
	}
	if err == nil && (uid >= 0 || gid >= 0) {
		err = os.Chown(conf.Address, uid, gid)
	}
	if err == nil {
		err = os.Chmod(conf.Address, conf.SocketMode)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("setting owner and mode of the socket: %w", err)
	}
	return l, nil
}

// number returns the number of a user or group given by name or number.
func number(name string, lookup func(string) (string, error)) (int, error) {
	if n, err := strconv.Atoi(name); err == nil && n >= 0 {
		return n, nil
	}
	id, err := lookup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(id)
}

// url returns the address as a client writes it.
func (l *listener) url() string {
	switch {
	case l.conf.Type == "unix":
		return "unix://" + l.conf.Address
	case l.cert.Load() != nil:
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

// apiListener returns what the API server must know about a listener.
func apiListener(conf config.Listener) server.Listener {
	return server.Listener{UnauthenticatedMetricsAccess: conf.UnauthenticatedMetricsAccess, Operator: conf.Operator, Forwarded: server.Forwarded(conf.Forwarded)}
}

// serve answers requests until the socket or the server is closed.
func (l *listener) serve() error {
	if l.cert.Load() == nil {
		return server.Serve(l.http, l.Listener, nil)
	}
	return server.Serve(l.http, l.Listener, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return l.cert.Load().tls, nil // the certificate in force when the connection begins
	}})
}
