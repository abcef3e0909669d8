package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sealkeep/sealkeep/config"
	"github.com/sealkeep/sealkeep/keep"
	"github.com/sealkeep/sealkeep/seal"
	"github.com/sealkeep/sealkeep/server"
	"github.com/sealkeep/sealkeep/storage"
	"github.com/sealkeep/sealkeep/sys"
	"github.com/sealkeep/sealkeep/token"
)

const (
	drainTimeout = 10 * time.Second // limit for running requests to end when the daemon is told to stop
	closeTimeout = 5 * time.Second  // limit for sealing and closing the store after that

	memoryAim = 128 << 20 // bytes of heap and stacks above which garbage is collected at once, whatever GOGC says
)

func serverCommands() []command {
	return []command{{"server", "", 0, 0, local, "run the keep", `Runs the keep: reads the configuration, listens, and opens the store as soon as one of its key services can be reached.
With -dev it runs an open keep in a temporary folder, to try things out.

SIGTERM and SIGINT end it: requests under way are finished, then it seals. SIGHUP reads the configuration again and takes
over certificates, log level, rate limits, seals and audit devices, whose files it opens anew; a wrong configuration
changes nothing.
Exit code: 78 for a wrong configuration, with which it does not start.`, serve}}
}

// options holds the flags of the server.
type options struct {
	configs                     paths
	dev                         bool
	devToken, devAddr, logLevel string
}

func serve(f *flag.FlagSet) action {
	var o options
	f.Var(&o.configs, "config", "configuration `file or folder` (*.hcl, *.json); can be repeated; none: the environment alone")
	f.BoolVar(&o.dev, "dev", false, "run an open keep in a temporary folder; not safe for production")
	f.StringVar(&o.devToken, "dev-root-token-id", "", "`token` of -dev; else VAULT_DEV_ROOT_TOKEN_ID, else a random one")
	f.StringVar(&o.devAddr, "dev-listen-address", "", "`address` of -dev; else VAULT_DEV_LISTEN_ADDRESS, else 127.0.0.1:8200")
	f.StringVar(&o.logLevel, "log-level", "", "trace, debug, info, warn or error; wins over the configuration")
	return func(c *cli, _ []string) error {
		if _, ok := levels[cmp.Or(o.logLevel, "info")]; !ok {
			return hint(fmt.Errorf("unknown log level %q", o.logLevel), "it is trace, debug, info, warn or error")
		}
		d := &daemon{cli: c, o: o, failed: make(chan error, 1), wake: make(chan struct{}, 1)}
		return d.run()
	}
}

// daemon is the running server.
type daemon struct {
	*cli
	o         options
	conf      *config.Config
	log       *slog.Logger
	level     slog.LevelVar
	listeners []*listener
	keep      *keep.Keep
	server    *server.Server
	failed    chan error    // the first listener that failed
	wake      chan struct{} // the keep's state changed
	notify    *notifier
}

func (d *daemon) run() (err error) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a broken log pipe must not end the keep
	syscall.Umask(0o077)
	var exposed error
	if !d.o.dev { // before any secret is in memory; -dev allows a debugger
		exposed = harden()
	}

	conf, seals, err := d.load()
	if err != nil {
		return offerKey(err, d.stderr, isTerminal)
	}
	if d.o.dev {
		dir, err := os.MkdirTemp("", "sealkeep-dev-")
		if err != nil {
			closeAll(seals)
			return fmt.Errorf("making the folder of -dev: %w", err)
		}
		defer os.RemoveAll(dir)
		conf.Storage.Path = dir + "/sealkeep.db"
	}
	d.conf = conf
	d.level.Set(levels[d.logLevel(conf)])
	if _, ok := d.lookup("GOGC"); !ok {
		// The heap of a keep is a few megabytes, and would be collected a hundred times a second under load.
		debug.SetGCPercent(300)
	}
	if _, ok := d.lookup("GOMEMLIMIT"); !ok {
		debug.SetMemoryLimit(memoryAim)
	}
	tail := newLog(d.stderr, &d.level, conf.LogFormat, d.inJournal())
	d.log = slog.New(tail)
	for _, w := range conf.Warnings {
		d.log.Warn("configuration: " + w)
	}
	if exposed != nil {
		d.log.Warn("hardening the process failed", "error", exposed)
	}
	defer d.closeListeners()
	if err := d.listen(); err != nil {
		closeAll(seals)
		return err
	}
	version, date := build()
	d.log.Info("starting", "version", version, "store", conf.Storage.Path)
	d.keep = keep.New(keep.Config{
		Path: conf.Storage.Path, Storage: storage.Options{InitialMmapSize: conf.Storage.InitialMmapSize, Logger: d.log},
		Seals: asSeals(seals), Recovery: conf.Recovery, EnableGenerateRoot: conf.EnableGenerateRoot,
		Audit: auditConfig(conf), AllowAuditAPI: conf.AllowAuditAPI, Logger: d.log, Version: version, BuildDate: date,
		Changed: func(keep.Status) { d.poke() },
	})
	system := sys.Type(d.keep, sys.Config{Version: version, APIAddr: cmp.Or(conf.APIAddr, d.listeners[0].url()), Tail: tail})
	d.server, err = server.New(server.Config{
		Keep: d.keep, Types: append(types(), system, token.Type()), Logger: d.log, Limits: limits(conf), Version: version,
	})
	if err != nil {
		return explainLock(err, "another keep, or a check, has this store: stop that, or give this keep a store of its own")
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(d), closeTimeout)
		defer cancel()
		if e := d.server.Close(ctx); e != nil {
			err = errors.Join(err, e)
			return
		}
		d.log.Info("sealed and stopped")
	}()
	if conf.PIDFile != "" {
		if err := writeFile(conf.PIDFile, strconv.Itoa(os.Getpid())+"\n", 0o644); err != nil {
			return fmt.Errorf("writing the pid file: %w", err)
		}
		defer os.Remove(conf.PIDFile)
	}
	if d.o.dev {
		if err := d.initDev(); err != nil {
			return err
		}
	}
	d.start()
	defer d.drain() // before the keep is closed
	return d.wait(hangup)
}

// wait reloads on every hangup, until the daemon is told to stop or a listener fails.
func (d *daemon) wait(hangup <-chan os.Signal) error {
	d.notify = &notifier{log: d.log, status: d.keep.Status}
	go d.notify.run(d, d.wake)
	for {
		select {
		case <-hangup:
			d.notify.reloading(d.reload)
			d.poke()
		case err := <-d.failed:
			return err
		case <-d.Done():
			d.notify.stopping()
			d.log.Info("stopping", "reason", context.Cause(d))
			return nil
		}
	}
}

// listen opens all listeners. After an error, those already open stay open; the caller closes them.
func (d *daemon) listen() error {
	for _, conf := range d.conf.Listeners {
		l, err := listen(d, conf)
		if d.o.dev && errors.Is(err, syscall.EADDRINUSE) {
			return hint(fmt.Errorf("the address of -dev is in use: %w", err), "use another one: sealkeep server -dev -dev-listen-address=127.0.0.1:8300")
		}
		if err != nil {
			return err
		}
		d.listeners = append(d.listeners, l)
	}
	return nil
}

// load reads the configuration and makes the seals.
func (d *daemon) load() (*config.Config, []*seal.Seal, error) {
	if !d.o.dev {
		return loadConfig(d.o.configs, d.lookup)
	}
	if d.o.configs != nil {
		return nil, nil, errors.New("-dev takes no -config: it has a configuration of its own")
	}
	return d.devConfig()
}

func (d *daemon) logLevel(conf *config.Config) string {
	return cmp.Or(d.o.logLevel, conf.LogLevel, "info")
}

// poke makes the notifier tell the service manager the state now.
func (d *daemon) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// start serves on every listener.
func (d *daemon) start() {
	for _, l := range d.listeners {
		l.http = d.server.HTTPServer(apiListener(l.conf))
		l.http.ErrorLog = slog.NewLogLogger(d.log.Handler(), slog.LevelDebug)
		d.log.Info("listening", "address", l.url())
		if l.cert.Load() != nil {
			go l.watch(d, d.log)
		}
		go func() {
			if err := l.serve(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
				select {
				case d.failed <- fmt.Errorf("serving on %s: %w", l.url(), err):
				default:
				}
			}
		}()
	}
}

// drain stops accepting requests, and gives running ones some time to end.
func (d *daemon) drain() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d), drainTimeout)
	defer cancel()
	var all sync.WaitGroup
	for _, l := range d.listeners {
		all.Go(func() {
			if err := l.http.Shutdown(ctx); err != nil {
				d.log.Warn("requests were cut off", "listener", l.url(), "error", err)
				l.http.Close()
			}
		})
	}
	all.Wait()
}

func (d *daemon) closeListeners() {
	for _, l := range d.listeners {
		l.Close()
	}
}

// reload applies the settings that may change while running. It reads and checks everything first, so that a mistake
// changes nothing.
func (d *daemon) reload() {
	if d.o.dev {
		d.log.Info("reload: -dev has nothing to reload")
		return
	}
	conf, seals, err := d.load()
	if err != nil {
		d.refuse(err)
		return
	}
	certs := map[*listener]*certificate{}
	known := 0
	for _, next := range conf.Listeners {
		i := slices.IndexFunc(d.listeners, func(l *listener) bool {
			return l.conf.Type == next.Type && l.conf.Address == next.Address && l.conf.TLSDisable == next.TLSDisable
		})
		if i < 0 {
			continue
		}
		if reflect.DeepEqual(apiListener(d.listeners[i].conf), apiListener(next)) {
			known++
		}
		if !next.TLSDisable {
			cert, err := loadCertificate(next)
			if err != nil {
				closeAll(seals)
				d.refuse(err)
				return
			}
			certs[d.listeners[i]] = cert
		}
	}
	if err := d.keep.SetAudit(auditConfig(conf), conf.AllowAuditAPI); err != nil { // the last step that may fail
		closeAll(seals)
		d.refuse(err)
		return
	}
	for l, cert := range certs {
		l.cert.Store(cert)
	}
	if known != len(d.listeners) || known != len(conf.Listeners) || conf.Storage.Path != d.conf.Storage.Path {
		d.log.Warn("reload: listeners and storage change with a restart only")
	}
	for _, w := range conf.Warnings {
		d.log.Warn("configuration: " + w)
	}
	d.level.Set(levels[d.logLevel(conf)])
	d.keep.SetRecovery(conf.Recovery, conf.EnableGenerateRoot)
	d.server.SetLimits(limits(conf))
	d.keep.SetSeals(asSeals(seals))
	d.notify.refused.Store(nil)
	d.log.Info("reloaded", "seals", len(seals), "certificates", len(certs))
}

// refuse logs why a new configuration was refused.
func (d *daemon) refuse(err error) {
	mistakes := []string{err.Error()}
	if e, ok := errors.AsType[*config.Error](err); ok {
		mistakes = e.Mistakes
	}
	for _, m := range mistakes {
		d.log.Error("reload: the configuration is wrong, the old one stays", "mistake", m)
	}
	if err := d.keep.ReopenAudit(); err != nil {
		d.log.Error("reload: the audit devices could not be opened anew", "error", err)
	}
	why := strings.Join(mistakes, "; ")
	d.notify.refused.Store(&why)
}

func limits(conf *config.Config) server.Limits {
	return server.Limits{PerToken: server.Rate(conf.Limits.PerToken), PerSource: server.Rate(conf.Limits.PerSource)}
}

func asSeals(seals []*seal.Seal) []keep.Seal {
	all := make([]keep.Seal, len(seals))
	for i, s := range seals {
		all[i] = s
	}
	return all
}
