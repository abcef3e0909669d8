package access

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

// How the log behaves:
//
//	auditWait      that a pipe, a socket or the journal may take for one line
//	retryFirst     after a device failed, until it is tried again; it doubles
//	retryMost      up to this
//	headInterval   at most, between what is written and what the store knows
//	headTimeout    for the store to take it when the keep is sealed
//	maxDevices     of one keep
const (
	auditWait    = 2 * time.Second
	retryFirst   = 250 * time.Millisecond
	retryMost    = 5 * time.Second
	headInterval = 2 * time.Second
	headTimeout  = 2 * time.Second
	maxDevices   = 16
)

// ErrAudit means that there are audit devices and none of them could write.
var ErrAudit = errors.New("no audit device succeeded")

// DeviceStatus is a device as it is now.
type DeviceStatus struct {
	Device
	Head          Head
	Failing       error     // nil while it works
	Since         time.Time // that it fails
	Written, Lost uint64    // records since the keep was opened
}

// An Audit is the audit log of an open keep: its devices, of which each gets every
// record. Its methods may be called by several goroutines at once.
type Audit struct {
	log     *slog.Logger
	now     func() time.Time
	stdout  *streamSink
	devices atomic.Pointer[[]*device]
	wake    chan struct{}
	users   sync.RWMutex  // held for reading from a request's record to its answer's
	closed  bool          // guarded by users
	done    chan struct{} // closed when the devices are

	changing sync.Mutex // held while devices changes
}

// OpenAudit opens the devices, and those that were made over the API, which the
// store knows. A device that cannot be opened is tried again by [Audit.Run]. The
// error is that of the store. The log of the same store that was open before is to
// be closed first.
func OpenAudit(ctx context.Context, store *storage.Store, devices []Device, now func() time.Time, log *slog.Logger) (*Audit, error) {
	a := &Audit{log: log, now: now, stdout: newStream(os.Stdout, auditWait), wake: make(chan struct{}, 1), done: make(chan struct{})}
	a.devices.Store(new([]*device))
	return a, a.set(ctx, store, devices, false)
}

// On tells whether there are devices. Without, nothing is recorded.
func (a *Audit) On() bool { return len(*a.devices.Load()) > 0 }

// Set replaces the devices of the configuration. Those that stay the same are
// opened anew, so that a log that was renamed goes on in a new file. When one that
// worked cannot be, or a new one cannot be opened, the old ones stay as they are.
func (a *Audit) Set(ctx context.Context, store *storage.Store, devices []Device) error {
	return a.set(ctx, store, devices, true)
}

// set is Set; unless all have to open, those that do not are tried again later.
func (a *Audit) set(ctx context.Context, store *storage.Store, devices []Device, all bool) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	var made []Device
	if err := store.View(ctx, func(tx *storage.Tx) (err error) {
		made, err = Devices(tx)
		return err
	}); err != nil {
		return err
	}
	devices = slices.Clone(devices)
	for _, d := range made {
		d.FromAPI = true
		if i := slices.IndexFunc(devices, func(o Device) bool { return clash(o, d) }); i >= 0 {
			a.log.Error("an audit device made over the API is not used: the configuration has one at its path or with its file", "device", d.Path)
			continue
		}
		devices = append(devices, d)
	}
	old := *a.devices.Load()
	var next, first, late []*device
	var stuck []error
	for _, conf := range devices {
		if i := slices.IndexFunc(old, func(d *device) bool { return d.conf.equal(conf) }); i >= 0 {
			next = append(next, old[i])
			works := old[i].works()
			if err := old[i].reopen(a); err != nil && works { // it goes on as it was
				stuck = append(stuck, err)
			}
			continue
		}
		d, err := a.device(ctx, store, conf)
		if err != nil {
			return err
		}
		next = append(next, d)
		if slices.ContainsFunc(old, func(o *device) bool { return clash(o.conf, conf) }) { // which has to be closed first
			late = append(late, d)
		} else {
			first = append(first, d)
		}
	}
	if stuck != nil {
		return errors.Join(stuck...)
	}
	for _, d := range first { // before the others are gone: there should be one at any time
		if err := d.reopen(a); err != nil && all {
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
	if err := swap(a, gone, late); err != nil {
		for _, d := range first {
			d.close()
		}
		return err
	}
	a.devices.Store(&next)
	for _, d := range gone {
		d.close()
	}
	a.poke()
	return nil
}

// swap opens devices that have a path or a file of others, which go on where they
// ended. Records of the others wait meanwhile, and go to them if one cannot be
// opened.
func swap(a *Audit, others, devices []*device) (err error) {
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
		if err = d.openFirst(a); err != nil {
			break
		}
	}
	if err == nil {
		return nil
	}
	for _, o := range others {
		for _, d := range devices {
			if d.out != nil && o.conf.file() != "" && o.conf.file() == d.conf.file() {
				o.head = d.head // its first line is there
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

// device makes a device that is not open.
func (a *Audit) device(ctx context.Context, store *storage.Store, conf Device) (*device, error) {
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
	return a.unopened(conf, opts, salt, head), nil
}

func (a *Audit) unopened(conf Device, opts deviceOptions, salt []byte, head Head) *device {
	return &device{
		conf: conf, opts: opts, head: head, saved: head, err: errClosed, log: a.log,
		veil: veil{salt: salt, raw: opts.raw, hmacAccessor: opts.hmacAccessor, elide: opts.elide},
	}
}

var errClosed = errors.New("the device is not open")

// Enable adds a device, writes a first line to it, and keeps it in the store. The
// error is [ErrInvalid] when it does not work.
func (a *Audit) Enable(ctx context.Context, store *storage.Store, conf Device) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	conf.FromAPI = true
	old := *a.devices.Load()
	switch i := slices.IndexFunc(old, func(d *device) bool { return clash(d.conf, conf) }); {
	case i >= 0:
		return fmt.Errorf("%w: path already in use: the audit device %s has this path or file", ErrInvalid, old[i].conf.Path)
	case len(old) >= maxDevices:
		return fmt.Errorf("%w: there are %d audit devices already", ErrInvalid, len(old))
	}
	d, err := a.device(ctx, store, conf)
	if err != nil {
		return err
	}
	if err := d.reopen(a); err != nil {
		return fmt.Errorf("%w: the audit device does not work: %w", ErrInvalid, err)
	}
	err = store.Update(ctx, func(tx *storage.Tx) error {
		made, err := Devices(tx)
		if err != nil {
			return err
		}
		return PutDevices(tx, append(made, conf))
	})
	if err != nil {
		d.close()
		return err
	}
	next := append(slices.Clone(old), d)
	a.devices.Store(&next)
	a.poke()
	return nil
}

// Disable removes a device that was made over the API, and tells whether there
// was one. One of the configuration stays: the error is [ErrInvalid].
func (a *Audit) Disable(ctx context.Context, store *storage.Store, path string) (bool, error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	old := *a.devices.Load()
	i := slices.IndexFunc(old, func(d *device) bool { return d.conf.Path == path })
	if i >= 0 && !old[i].conf.FromAPI {
		return false, fmt.Errorf("%w: cannot disable configuration-managed audit device: remove its block and send SIGHUP", ErrInvalid)
	}
	found := false
	err := store.Update(ctx, func(tx *storage.Tx) error {
		made, err := Devices(tx)
		if err != nil {
			return err
		}
		n := len(made)
		made = slices.DeleteFunc(made, func(d Device) bool { return d.Path == path })
		if found = len(made) < n; !found {
			return nil
		}
		if i >= 0 {
			if err := ForgetDevice(tx, path); err != nil {
				return err
			}
		}
		return PutDevices(tx, made)
	})
	if err != nil || i < 0 {
		return found, err
	}
	next := slices.Delete(slices.Clone(old), i, i+1)
	a.devices.Store(&next)
	old[i].close()
	return true, nil
}

// Status lists the devices.
func (a *Audit) Status() []DeviceStatus {
	var list []DeviceStatus
	for _, d := range *a.devices.Load() {
		d.mu.Lock()
		list = append(list, DeviceStatus{d.conf, d.head, d.err, d.since, d.total.written, d.total.lost})
		d.mu.Unlock()
	}
	return list
}

// Hash is what stands for a text in the lines of a device; ErrInvalid: there is
// no such device.
func (a *Audit) Hash(path, text string) (string, error) {
	for _, d := range *a.devices.Load() {
		if d.conf.Path == path {
			return string(d.veil.append(nil, []byte(text))), nil
		}
	}
	return "", fmt.Errorf("%w: unknown audit device %q", ErrInvalid, path)
}

// Begin is called before the record of a request, and [Audit.End] after that of
// its answer. It returns false when the log is being closed.
func (a *Audit) Begin() bool {
	if !a.users.TryRLock() {
		return false
	}
	if a.closed {
		a.users.RUnlock()
		return false
	}
	return true
}

// End ends what Begin began.
func (a *Audit) End() { a.users.RUnlock() }

// Request records a request, before it is carried out: refused is the text that
// it is refused with, if it is. The error is [ErrAudit] when no device wrote it.
func (a *Audit) Request(e *Entry, refused string) error {
	return a.record(e, func(d *device) ([]byte, error) {
		b, err := e.of(d)
		return appendError(append([]byte(`"type":"request",`), b...), refused), err
	})
}

// Response records what is about to be answered. The error is that of Request.
func (a *Audit) Response(e *Entry, o Outcome) error {
	return a.record(e, func(d *device) ([]byte, error) {
		b, err := e.of(d)
		if err != nil {
			return nil, err
		}
		more, err := d.veil.showOutcome(e.Mount, &o)
		b = append(append([]byte(`"type":"response",`), b...), more...)
		return appendError(b, o.Error), err
	})
}

// of is the entry as a device shows it, made once for request and answer.
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

// record writes a record of an entry to every device. One that works is enough.
func (a *Audit) record(e *Entry, show func(*device) ([]byte, error)) error {
	list := a.devices.Load()
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
			if before, err = d.record(a, body); err == nil {
				e.wrote(d, before)
			}
		} else {
			a.log.Error("encoding an audit record failed", "device", d.conf.Path, "error", err)
		}
		written = written || err == nil
	}
	switch {
	case written:
		return nil
	case a.devices.Load() != list: // they were replaced meanwhile
		return a.record(e, show)
	}
	return ErrAudit
}

func (a *Audit) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Run tries devices that fail again, and keeps in the store how far the logs
// have come, until ctx ends.
func (a *Audit) Run(ctx context.Context, store *storage.Store) {
	timer := time.NewTimer(headInterval)
	defer timer.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
		}
		pause := time.Hour
		if a.On() {
			pause = min(a.retry(), headInterval)
		}
		if a.On() && time.Since(last) >= headInterval {
			if err := a.save(ctx, store); err != nil && ctx.Err() == nil {
				a.log.Error("keeping in the store how far the audit log has come failed", "error", err)
			}
			last = time.Now()
		}
		timer.Reset(pause)
	}
}

// retry opens the devices that failed and whose time has come. It returns how long
// to wait for the next.
func (a *Audit) retry() time.Duration {
	pause := retryMost
	for _, d := range *a.devices.Load() {
		d.mu.Lock()
		fails, wait := d.err != nil && !d.closed, time.Until(d.next)
		d.mu.Unlock()
		if fails && wait <= 0 {
			if d.reopen(a) == nil {
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

// save lets the store know how far every log has come; what it knows is on the
// disk.
func (a *Audit) save(ctx context.Context, store *storage.Store) error {
	heads := map[*device]Head{}
	for _, d := range *a.devices.Load() {
		d.mu.Lock()
		out, head, saved := d.out, d.head, d.saved
		d.mu.Unlock()
		if head == saved {
			continue
		}
		if out != nil { // else that was done before it was closed
			if err := out.sync(); err != nil {
				if !errors.Is(err, fs.ErrClosed) { // it has been opened anew since
					a.log.Error("an audit log could not be flushed to its disk", "device", d.conf.Path, "error", err)
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
			if err := putHead(tx, d.conf.Path, head); err != nil {
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

// Save is called before the store is sealed: see [Audit.Run], which has ended.
func (a *Audit) Save(store *storage.Store) {
	ctx, cancel := context.WithTimeout(context.Background(), headTimeout)
	defer cancel()
	if err := a.save(ctx, store); err != nil {
		a.log.Error("keeping in the store how far the audit log has come failed", "error", err)
	}
}

// Close closes the devices when the last request has its answer recorded.
func (a *Audit) Close() {
	a.users.Lock()
	a.closed = true
	a.users.Unlock()
	a.changing.Lock()
	defer a.changing.Unlock()
	for _, d := range *a.devices.Load() {
		d.close()
	}
	close(a.done)
}

// Wait waits until the log is closed, 2 s at most.
func (a *Audit) Wait() {
	select {
	case <-a.done:
	case <-time.After(auditWait):
	}
}
