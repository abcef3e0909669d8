package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// Limits and intervals of the log:
//
//	lineWait       how long a pipe, a socket or the journal may take for one line
//	retryFirst     pause before a failed device is tried again; it doubles each time
//	retryMost      longest such pause
//	headInterval   how often the last line of each log is stored
//	headTimeout    how long storing it may take when the keep is sealed
//	maxDevices     most devices of one keep
const (
	lineWait     = 2 * time.Second
	retryFirst   = 250 * time.Millisecond
	retryMost    = 5 * time.Second
	headInterval = 2 * time.Second
	headTimeout  = 2 * time.Second
	maxDevices   = 16
)

// A DeviceStatus is the state of a device.
type DeviceStatus struct {
	Device
	Head          Head
	Failing       error     // nil while it works
	Since         time.Time // when it began to fail
	Written, Lost uint64    // records since the keep was opened
}

// A Log is the audit log of an open keep: its devices, each of which gets every
// record. Its methods may be called by several goroutines at once.
type Log struct {
	log     *slog.Logger
	now     func() time.Time
	stdout  *streamSink
	devices atomic.Pointer[[]*device]
	wake    chan struct{}
	users   sync.RWMutex  // held for reading from the record of a request to that of its answer
	closed  bool          // guarded by users
	done    chan struct{} // closed after the devices

	changing sync.Mutex // held while devices is changed
}

// newLog returns a log without devices.
func newLog(now func() time.Time, log *slog.Logger) *Log {
	return &Log{log: log, now: now, stdout: newStream(os.Stdout, lineWait), wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// Open opens the given devices and those made over the API, which are in the store.
// [Log.Run] retries a device that cannot be opened; an error comes only from the store.
// An earlier log of the same store must be closed first.
func Open(ctx context.Context, store *storage.Store, devices []Device, now func() time.Time, log *slog.Logger) (*Log, error) {
	l := newLog(now, log)
	l.devices.Store(new([]*device))
	return l, l.set(ctx, store, devices, false)
}

// On reports whether there are devices. Without any, nothing is recorded.
func (l *Log) On() bool { return len(*l.devices.Load()) > 0 }

// Set replaces the devices of the configuration. It reopens the devices that stay the
// same, so that a log that was renamed continues in a new file. If a working device
// cannot be reopened, or a new one cannot be opened, nothing changes.
func (l *Log) Set(ctx context.Context, store *storage.Store, devices []Device) error {
	return l.set(ctx, store, devices, true)
}

// set is Set, but unless all is true, devices that do not open are tried again later.
func (l *Log) set(ctx context.Context, store *storage.Store, devices []Device, all bool) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	var made []Device
	if err := store.View(ctx, func(tx *storage.Tx) (err error) {
		made, err = readDevices(tx)
		return err
	}); err != nil {
		return err
	}
	devices = slices.Clone(devices)
	for _, d := range made {
		d.FromAPI = true
		if i := slices.IndexFunc(devices, func(o Device) bool { return clash(o, d) }); i >= 0 {
			l.log.Error("an audit device made over the API is not used: the configuration has one at its path or with its file", "device", d.Path)
			continue
		}
		devices = append(devices, d)
	}
	old := *l.devices.Load()
	var next, first, late []*device
	var stuck []error
	for _, conf := range devices {
		if i := slices.IndexFunc(old, func(d *device) bool { return d.conf.equal(conf) }); i >= 0 {
			next = append(next, old[i])
			works := old[i].works()
			if err := old[i].reopen(l); err != nil && works { // it continues unchanged
				stuck = append(stuck, err)
			}
			continue
		}
		d, err := l.device(ctx, store, conf)
		if err != nil {
			return err
		}
		next = append(next, d)
		if slices.ContainsFunc(old, func(o *device) bool { return clash(o.conf, conf) }) { // the old one must be closed first
			late = append(late, d)
		} else {
			first = append(first, d)
		}
	}
	if stuck != nil {
		return errors.Join(stuck...)
	}
	for _, d := range first { // before the old ones are closed, so that there is always a device
		if err := d.reopen(l); err != nil && all {
			for _, d := range first {
				d.close()
			}
			return err
		}
	}
	var gone []*device
	for _, d := range old {
		if !slices.Contains(next, d) {
			gone = append(gone, d)
		}
	}
	if err := swap(l, gone, late); err != nil {
		for _, d := range first {
			d.close()
		}
		return err
	}
	l.devices.Store(&next)
	for _, d := range gone {
		d.close()
	}
	l.notify()
	return nil
}

// swap opens devices that take over the path or the file of others, and continue where
// those ended. Records for the others wait in the meantime; if a device cannot be
// opened, the others get them after all.
func swap(l *Log, others, devices []*device) (err error) {
	if len(devices) == 0 {
		return nil
	}
	for _, o := range others {
		o.opening.Lock()
		defer o.opening.Unlock()
		o.mu.Lock()
		defer o.mu.Unlock()
		if file, ok := o.out.(*fileSink); ok {
			file.unlock()
		}
	}
	for _, d := range devices {
		for _, o := range others {
			if o.conf.Path == d.conf.Path {
				d.head = o.head
			}
		}
		if err = d.openFirst(l); err != nil {
			break
		}
	}
	if err == nil {
		return nil
	}
	for _, o := range others {
		for _, d := range devices {
			if d.out != nil && o.conf.file() != "" && o.conf.file() == d.conf.file() {
				o.head = d.head // d has written its first line to the file
			}
		}
	}
	for _, d := range devices {
		d.close()
	}
	for _, o := range others {
		if file, ok := o.out.(*fileSink); ok {
			file.lock()
		}
	}
	return err
}

// device returns a device that is not open yet, with its salt and head from the store.
func (l *Log) device(ctx context.Context, store *storage.Store, conf Device) (*device, error) {
	opts, err := conf.parse()
	if err != nil {
		return nil, err
	}
	var salt []byte
	var head Head
	read := func(tx *storage.Tx) (err error) {
		salt, head, err = readState(tx, conf.Path)
		return err
	}
	if err = store.View(ctx, read); err == nil && salt == nil {
		err = store.Update(ctx, func(tx *storage.Tx) error {
			if err := makeSalt(tx, conf.Path); err != nil {
				return err
			}
			return read(tx)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("opening the audit device %s: %w", conf.Path, err)
	}
	return l.unopened(conf, opts, salt, head), nil
}

// unopened returns a device that is not open yet.
func (l *Log) unopened(conf Device, opts deviceOptions, salt []byte, head Head) *device {
	return &device{
		conf: conf, opts: opts, head: head, saved: head, err: errClosed, log: l.log,
		veil: veil{salt: salt, raw: opts.raw, hmacAccessor: opts.hmacAccessor, elide: opts.elide},
	}
}

var errClosed = errors.New("the device is not open")

// Enable adds a device, writes a first line to it and stores it. The error is
// [ErrInvalid] if the device does not work.
func (l *Log) Enable(ctx context.Context, store *storage.Store, conf Device) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	conf.FromAPI = true
	old := *l.devices.Load()
	switch i := slices.IndexFunc(old, func(d *device) bool { return clash(d.conf, conf) }); {
	case i >= 0:
		return fmt.Errorf("%w: path already in use: the audit device %s has this path or file", ErrInvalid, old[i].conf.Path)
	case len(old) >= maxDevices:
		return fmt.Errorf("%w: there are %d audit devices already", ErrInvalid, len(old))
	}
	d, err := l.device(ctx, store, conf)
	if err != nil {
		return err
	}
	if err := d.reopen(l); err != nil {
		return fmt.Errorf("%w: the audit device does not work: %w", ErrInvalid, err)
	}
	err = store.Update(ctx, func(tx *storage.Tx) error {
		made, err := readDevices(tx)
		if err != nil {
			return err
		}
		return writeDevices(tx, append(made, conf))
	})
	if err != nil {
		d.close()
		return err
	}
	next := append(slices.Clone(old), d)
	l.devices.Store(&next)
	l.notify()
	return nil
}

// Disable removes a device that was made over the API, and reports whether there
// was one. A device of the configuration stays: the error is [ErrInvalid].
func (l *Log) Disable(ctx context.Context, store *storage.Store, path string) (bool, error) {
	l.changing.Lock()
	defer l.changing.Unlock()
	old := *l.devices.Load()
	i := slices.IndexFunc(old, func(d *device) bool { return d.conf.Path == path })
	if i >= 0 && !old[i].conf.FromAPI {
		return false, fmt.Errorf("%w: cannot disable configuration-managed audit device: remove its block and send SIGHUP", ErrInvalid)
	}
	found := false
	err := store.Update(ctx, func(tx *storage.Tx) error {
		made, err := readDevices(tx)
		if err != nil {
			return err
		}
		n := len(made)
		made = slices.DeleteFunc(made, func(d Device) bool { return d.Path == path })
		if found = len(made) < n; !found {
			return nil
		}
		if i >= 0 {
			if err := forgetDevice(tx, path); err != nil {
				return err
			}
		}
		return writeDevices(tx, made)
	})
	if err != nil || i < 0 {
		return found, err
	}
	next := slices.Delete(slices.Clone(old), i, i+1)
	l.devices.Store(&next)
	old[i].close()
	return true, nil
}

// Status lists the devices.
func (l *Log) Status() []DeviceStatus {
	var list []DeviceStatus
	for _, d := range *l.devices.Load() {
		d.mu.Lock()
		list = append(list, DeviceStatus{d.conf, d.head, d.err, d.since, d.total.written, d.total.lost})
		d.mu.Unlock()
	}
	return list
}

// Hash returns the HMAC that replaces text in the lines of a device. The error is
// [ErrInvalid] if there is no such device.
func (l *Log) Hash(path, text string) (string, error) {
	for _, d := range *l.devices.Load() {
		if d.conf.Path == path {
			return string(d.veil.append(nil, []byte(text))), nil
		}
	}
	return "", fmt.Errorf("%w: unknown audit device %q", ErrInvalid, path)
}

// Begin keeps the log open from the record of a request to that of its answer, after
// which [Log.End] must be called. It returns false if the log is being closed.
func (l *Log) Begin() bool {
	if !l.users.TryRLock() {
		return false
	}
	if l.closed {
		l.users.RUnlock()
		return false
	}
	return true
}

// End undoes one Begin.
func (l *Log) End() { l.users.RUnlock() }

// Request records a request before it is carried out. For a refused request, refused
// is the text of its error. The error is [ErrFailed] if no device wrote the record.
func (l *Log) Request(e *Entry, refused string) error {
	return l.record(e, func(d *device) ([]byte, error) {
		b, err := e.of(d)
		return appendError(append([]byte(`"type":"request",`), b...), refused), err
	})
}

// Response records an answer before it is sent. Its errors are those of Request.
func (l *Log) Response(e *Entry, o Outcome) error {
	return l.record(e, func(d *device) ([]byte, error) {
		b, err := e.of(d)
		if err != nil {
			return nil, err
		}
		more, err := d.veil.showOutcome(e.Mount, &o)
		b = append(append([]byte(`"type":"response",`), b...), more...)
		return appendError(b, o.Error), err
	})
}

// of returns the entry as a device shows it, encoded once for request and answer.
func (e *Entry) of(d *device) ([]byte, error) {
	for _, s := range e.shown {
		if s.device == d {
			return s.fields, nil
		}
	}
	b, err := d.veil.show(e)
	if err == nil {
		e.shown = append(e.shown, shownEntry{device: d, fields: b})
	}
	return b, err
}

// record writes a record of an entry to every device. One that succeeds is enough.
func (l *Log) record(e *Entry, show func(*device) ([]byte, error)) error {
	list := l.devices.Load()
	if len(*list) == 0 {
		return nil
	}
	written := false
	for _, d := range *list {
		if d.opts.file == "discard" {
			written = true
			continue
		}
		body, err := show(d)
		if err == nil {
			var before Head
			if before, err = d.record(l, body); err == nil {
				e.wrote(d, before)
			}
		} else {
			l.log.Error("encoding an audit record failed", "device", d.conf.Path, "error", err)
		}
		written = written || err == nil
	}
	switch {
	case written:
		return nil
	case l.devices.Load() != list: // the devices were replaced in the meantime
		return l.record(e, show)
	}
	return ErrFailed
}

// notify wakes Run.
func (l *Log) notify() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run tries failing devices again, and stores the last line of each log, until ctx
// ends.
func (l *Log) Run(ctx context.Context, store *storage.Store) {
	timer := time.NewTimer(headInterval)
	defer timer.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-timer.C:
		}
		pause := time.Hour
		if l.On() {
			pause = min(l.retry(), headInterval)
		}
		if l.On() && time.Since(last) >= headInterval {
			if err := l.save(ctx, store); err != nil && ctx.Err() == nil {
				l.log.Error("storing the last line of each audit log failed", "error", err)
			}
			last = time.Now()
		}
		timer.Reset(pause)
	}
}

// retry opens the failed devices whose pause is over. It returns how long to wait
// until the next one is due.
func (l *Log) retry() time.Duration {
	pause := retryMost
	for _, d := range *l.devices.Load() {
		d.mu.Lock()
		fails, wait := d.err != nil && !d.closed, time.Until(d.next)
		d.mu.Unlock()
		if fails && wait <= 0 {
			if d.reopen(l) == nil {
				continue
			}
			d.mu.Lock()
			wait = time.Until(d.next)
			d.mu.Unlock()
		}
		if fails {
			pause = min(pause, wait)
		}
	}
	return max(pause, time.Millisecond)
}

// save stores the last line of every log, after the line has reached the disk.
func (l *Log) save(ctx context.Context, store *storage.Store) error {
	heads := map[*device]Head{}
	for _, d := range *l.devices.Load() {
		d.mu.Lock()
		out, head, saved := d.out, d.head, d.saved
		d.mu.Unlock()
		if head == saved {
			continue
		}
		if out != nil { // nil: flushed before it was closed
			if err := out.sync(); err != nil {
				if !errors.Is(err, fs.ErrClosed) { // closed: it has been reopened since
					l.log.Error("an audit log could not be flushed to its disk", "device", d.conf.Path, "error", err)
				}
				continue
			}
		}
		heads[d] = head
	}
	if len(heads) == 0 {
		return nil
	}
	err := store.Update(ctx, func(tx *storage.Tx) error {
		for d, head := range heads {
			if err := writeHead(tx, d.conf.Path, head); err != nil {
				return err
			}
		}
		return nil
	})
	for d, head := range heads {
		if err == nil {
			d.mu.Lock()
			d.saved = head
			d.mu.Unlock()
		}
	}
	return err
}

// Save stores the last line of each log before the store is sealed, after [Log.Run]
// has ended.
func (l *Log) Save(store *storage.Store) {
	ctx, cancel := context.WithTimeout(context.Background(), headTimeout)
	defer cancel()
	if err := l.save(ctx, store); err != nil {
		l.log.Error("storing the last line of each audit log failed", "error", err)
	}
}

// Close closes the devices after the last answer has been recorded; see [Log.Begin].
func (l *Log) Close() {
	l.users.Lock()
	l.closed = true
	l.users.Unlock()
	l.changing.Lock()
	defer l.changing.Unlock()
	for _, d := range *l.devices.Load() {
		d.close()
	}
	close(l.done)
}

// Wait waits until the log is closed, for at most 2 s.
func (l *Log) Wait() {
	select {
	case <-l.done:
	case <-time.After(lineWait):
	}
}
