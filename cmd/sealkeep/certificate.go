package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/sealkeep/sealkeep/config"
)

const (
	certPoll = time.Second // how often the files of a certificate are checked

	// maxClientChain is how many bytes of certificates a client may present. Parsed certificates stay in memory as long
	// as the connection, so a stranger could otherwise make one expensive.
	maxClientChain = 32 << 10
)

// A certificate is the TLS configuration of a listener, from one reading of its files.
type certificate struct {
	conf config.Listener // names the files
	mark string          // of the files, taken before they were read
	tls  *tls.Config
}

// loadCertificate reads the certificate and the key of a listener, and the authorities of its clients.
func loadCertificate(conf config.Listener) (*certificate, error) {
	c := &certificate{conf: conf, mark: markFiles(conf)}
	pair, err := tls.LoadX509KeyPair(conf.TLSCertFile, conf.TLSKeyFile)
	if err != nil {
		return nil, coded{fmt.Errorf("%s: reading the certificate of the listener: %w", conf.At, err), wrongConfig}
	}
	c.tls = &tls.Config{
		MinVersion:            conf.TLSMinVersion,
		Certificates:          []tls.Certificate{pair},
		ClientAuth:            conf.TLSClientAuth,
		NextProtos:            []string{"http/1.1"},
		VerifyPeerCertificate: limitChain,
	}
	if conf.TLSClientCAFile != "" {
		if c.tls.ClientCAs, err = readAuthorities(conf.TLSClientCAFile); err != nil {
			return nil, coded{fmt.Errorf("%s: reading the authorities of clients: %w", conf.At, err), wrongConfig}
		}
	}
	return c, nil
}

// readAuthorities reads a PEM file of certificates. Unlike the standard library it does not skip damaged ones, which also
// occur in a file that is just being written.
func readAuthorities(file string) (*x509.CertPool, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s has a %s in it: write certificates only", file, strings.ToLower(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of %s: %w", n+1, file, err)
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 || strings.Contains(string(rest), "-----BEGIN") {
		return nil, fmt.Errorf("%s has %d certificates in PEM form and ends with something else", file, n)
	}
	return pool, nil
}

func limitChain(raw [][]byte, _ [][]*x509.Certificate) error {
	size := 0
	for _, cert := range raw {
		size += len(cert)
	}
	if size > maxClientChain {
		return errors.New("the client's certificates are too large")
	}
	return nil
}

// until returns when the certificate expires.
func (c *certificate) until() time.Time { return c.tls.Certificates[0].Leaf.NotAfter }

// watch reloads the files of the certificate when they change, until ctx ends.
func (l *listener) watch(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(certPoll)
	defer tick.Stop()
	var w renewal
	for {
		select {
		case <-tick.C:
			w.look(l, log)
		case <-ctx.Done():
			return
		}
	}
}

// A renewal is the state of watching for changed files.
type renewal struct {
	seen    string // mark at the last look
	refused string // mark of unusable files, already logged
}

// look reloads files that have changed and then stayed the same for two looks, so that a pair is not read while it is
// being written. It logs an unusable pair once.
func (w *renewal) look(l *listener, log *slog.Logger) {
	old := l.cert.Load()
	mark := markFiles(old.conf)
	settled := mark == w.seen
	w.seen = mark
	if !settled || mark == old.mark || mark == w.refused {
		return
	}
	next, err := loadCertificate(old.conf)
	if err != nil {
		w.refused = mark
		log.Error("the certificate has changed and is of no use, the old one stays", "listener", l.url(), "error", err)
		return
	}
	if l.cert.CompareAndSwap(old, next) { // otherwise a reload was faster
		log.Info("the certificate was renewed", "listener", l.url(), "until", next.until())
	}
}

// markFiles returns a text that changes when the files of a listener's certificate do: their names, identities, times
// and sizes.
func markFiles(conf config.Listener) string {
	var b strings.Builder
	for _, name := range []string{conf.TLSCertFile, conf.TLSKeyFile, conf.TLSClientCAFile} {
		info, err := os.Stat(name)
		if err != nil {
			fmt.Fprintf(&b, "%q absent\n", name)
			continue
		}
		var inode uint64
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			inode = s.Ino
		}
		fmt.Fprintf(&b, "%q %d %d %d\n", name, inode, info.ModTime().UnixNano(), info.Size())
	}
	return b.String()
}
