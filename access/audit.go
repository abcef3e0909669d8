package access

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
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

// A Device is the configuration of an audit device. The names of its options are
// Vault's.
type Device struct {
	Path        string            `json:"path"` // ends in a slash
	Type        string            `json:"type"` // file, journal or socket
	Description string            `json:"description"`
	Options     map[string]string `json:"options"`

	FromAPI bool `json:"-"` // made over the API
}

// deviceOptions are a Device's Options.
type deviceOptions struct {
	raw, hmacAccessor, elide bool
	file                     string // or stdout, or discard
	mode                     fs.FileMode
	network, address         string // of a socket; address also of the journal's
	wait                     time.Duration
}

// deviceKeys are the options of each type beside those of all.
var deviceKeys = map[string][]string{
	"file":    {"file_path", "mode"},
	"journal": {},
	"socket":  {"address", "socket_type", "write_timeout"},
}

var commonKeys = []string{"format", "hmac_accessor", "log_raw", "elide_list_responses"}

// Check says what is wrong with the configuration; the error is [ErrInvalid].
func (d Device) Check() error {
	_, err := d.parse()
	return err
}

func (d Device) parse() (o deviceOptions, err error) {
	wrong := func(format string, args ...any) (deviceOptions, error) {
		return o, fmt.Errorf("%w audit device %s: %s", ErrInvalid, d.Path, fmt.Sprintf(format, args...))
	}
	keys, ok := deviceKeys[d.Type]
	if !ok {
		return wrong("there is no type %q: it is file, journal or socket", d.Type)
	}
	for key := range d.Options {
		if !slices.Contains(keys, key) && !slices.Contains(commonKeys, key) {
			return wrong("there is no option %q: there are %s", key, strings.Join(slices.Concat(keys, commonKeys), ", "))
		}
	}
	o = deviceOptions{hmacAccessor: true, wait: auditWait, mode: 0o600}
	for key, to := range map[string]*bool{"log_raw": &o.raw, "hmac_accessor": &o.hmacAccessor, "elide_list_responses": &o.elide} {
		if v := d.Options[key]; v != "" {
			if *to, err = strconv.ParseBool(v); err != nil {
				return wrong("%s is true or false, not %q", key, v)
			}
		}
	}
	if f := d.Options["format"]; f != "" && f != "json" {
		return wrong("the format is json, not %q", f)
	}
	switch d.Type {
	case "file":
		if o.file = d.Options["file_path"]; o.file == "" {
			return wrong("file_path is required")
		}
		switch low := strings.ToLower(o.file); low {
		case "stdout", "discard":
			o.file = low
		case "/dev/stdout":
			o.file = "stdout"
		default:
			if !strings.HasPrefix(o.file, "/") {
				return wrong("file_path must be absolute, stdout or discard, not %q", o.file)
			}
		}
		if m := d.Options["mode"]; m != "" {
			mode, err := strconv.ParseUint(m, 8, 32)
			if err != nil || mode > 0o777 {
				return wrong("the mode is three octal digits such as 0640, or 0000 to leave it, not %q", m)
			}
			o.mode = fs.FileMode(mode) &^ 0o111 // nobody runs it
		}
	case "journal":
		o.address = journalPath
	case "socket":
		if o.address = d.Options["address"]; o.address == "" {
			return wrong("address is required: host:port, or the path of a unix socket")
		}
		if o.network = cmp.Or(d.Options["socket_type"], "tcp"); o.network != "tcp" && o.network != "unix" {
			return wrong("the socket_type is tcp or unix, not %q: with others, lines are lost and nobody knows", o.network)
		}
		if t := d.Options["write_timeout"]; t != "" {
			o.wait, err = time.ParseDuration(t)
			if n, e := strconv.Atoi(t); e == nil && n < 1e6 {
				o.wait, err = time.Duration(n)*time.Second, nil
			}
			if err != nil || o.wait < time.Millisecond || o.wait > time.Minute {
				return wrong("the write_timeout is a duration such as 2s, up to a minute, not %q", t)
			}
		}
	}
	return o, nil
}

// file is the file that the device writes to, "" when it is none.
func (d Device) file() string {
	o, err := d.parse()
	if err != nil || o.file == "discard" || o.file == "stdout" {
		return ""
	}
	return o.file
}

// A device is a Device that is in use.
type device struct {
	conf Device
	opts deviceOptions
	veil veil
	log  *slog.Logger

	opening sync.Mutex // held while it is opened; taken before mu

	mu     sync.Mutex
	out    sink // nil: it could not be opened
	head   Head
	err    error // that it failed with; nil while it works
	since  time.Time
	lost   uint64 // records since then
	next   time.Time
	pause  time.Duration // until it is tried again
	closed bool
	kept   Head // that the store knows
	total  struct{ written, lost uint64 }
}

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
	return a, a.Set(ctx, store, devices)
}

// On tells whether there are devices. Without, nothing is recorded.
func (a *Audit) On() bool { return len(*a.devices.Load()) > 0 }

// Set replaces the devices of the configuration. Those that stay the same are
// opened anew, so that a log that was renamed goes on in a new file.
func (a *Audit) Set(ctx context.Context, store *storage.Store, devices []Device) error {
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
	var next []*device
	for _, conf := range devices {
		if i := slices.IndexFunc(old, func(d *device) bool { return d.conf.equal(conf) }); i >= 0 {
			next = append(next, old[i])
			continue
		}
		d, err := a.device(ctx, store, conf)
		if err != nil {
			return err
		}
		next = append(next, d)
	}
	for _, d := range old {
		if !slices.Contains(next, d) {
			d.close()
		}
	}
	for _, d := range next {
		d.reopen(a)
	}
	a.devices.Store(&next)
	a.poke()
	return nil
}

func (d Device) equal(o Device) bool {
	return d.Path == o.Path && d.Type == o.Type && d.FromAPI == o.FromAPI && d.Description == o.Description && maps.Equal(d.Options, o.Options)
}

// clash tells whether there cannot be both devices.
func clash(a, b Device) bool {
	return strings.HasPrefix(a.Path, b.Path) || strings.HasPrefix(b.Path, a.Path) || a.file() != "" && a.file() == b.file()
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
	return &device{
		conf: conf, opts: opts, head: head, kept: head, err: errClosed, log: a.log,
		veil: veil{salt: salt, raw: opts.raw, hmacAccessor: opts.hmacAccessor, elide: opts.elide},
	}, nil
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
	return a.record(func(d *device) ([]byte, error) {
		b, err := e.of(d)
		return appendError(append([]byte(`"type":"request",`), b...), refused), err
	})
}

// Response records what is about to be answered. The error is that of Request.
func (a *Audit) Response(e *Entry, o Outcome) error {
	return a.record(func(d *device) ([]byte, error) {
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
		e.shown = append(e.shown, shownEntry{d, b})
	}
	return b, err
}

// record writes a record to every device. One that works is enough.
func (a *Audit) record(show func(*device) ([]byte, error)) error {
	devices := *a.devices.Load()
	if len(devices) == 0 {
		return nil
	}
	written := false
	for _, d := range devices {
		if d.opts.file == "discard" {
			written = true
			continue
		}
		body, err := show(d)
		if err == nil {
			err = d.record(a, body)
		} else {
			a.log.Error("encoding an audit record failed", "device", d.conf.Path, "error", err)
		}
		written = written || err == nil
	}
	if !written {
		return ErrAudit
	}
	return nil
}

func (a *Audit) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// record writes one line. A device that fails is not tried again by who comes
// next: [Audit.Run] does that.
func (d *device) record(a *Audit, body []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.err
	if err == nil {
		err = d.writeLocked(a, body)
		if err != nil {
			d.failLocked(a, err)
		}
	}
	if err != nil {
		d.lost++
		d.total.lost++
		return err
	}
	d.total.written++
	return nil
}

func (d *device) writeLocked(a *Audit, body []byte) error {
	line, next := a.line(d.head, body)
	if err := d.out.write(line); err != nil {
		return err
	}
	d.head = next
	return nil
}

// line makes the line that follows h.
func (a *Audit) line(h Head, body []byte) ([]byte, Head) {
	b := make([]byte, 0, len(body)+64)
	b = a.now().UTC().AppendFormat(append(b, `"time":"`...), time.RFC3339Nano)
	b = append(append(b, '"', ','), body...)
	return h.line(make([]byte, 0, len(b)+256), b)
}

func (d *device) failLocked(a *Audit, err error) {
	if d.since.IsZero() {
		d.since, d.pause = a.now(), retryFirst
		d.log.Error("an audit device fails: records are lost unless another device works", "device", d.conf.Path, "error", err)
	}
	d.err = err
	d.next = time.Now().Add(d.pause)
	d.pause = min(2*d.pause, retryMost)
	a.poke()
}

// reopen opens the device, with a line that says so: one that fails, or a file,
// which may have been renamed. Records wait for a file that works, and for nothing
// else: how long a collector takes to answer is not known.
func (d *device) reopen(a *Audit) error {
	d.opening.Lock()
	defer d.opening.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return errClosed
	case d.opts.file == "discard":
		d.err = nil
		return nil
	case d.err == nil && d.conf.file() == "":
		return nil
	}
	if d.out != nil {
		d.out.close()
		d.out = nil
	}
	failed, lost, head := d.err != nil, d.lost, d.head
	if failed {
		d.mu.Unlock()
	}
	out, head, err := d.open(a, head, lost)
	if failed {
		d.mu.Lock()
	}
	if err == nil && d.closed {
		out.close()
		err = errClosed
	}
	if err != nil {
		d.failLocked(a, err)
		return err
	}
	if !d.since.IsZero() {
		d.log.Warn("an audit device works again", "device", d.conf.Path, "lost", d.lost)
	}
	d.out, d.head, d.err, d.since, d.lost = out, head, nil, time.Time{}, d.lost-lost
	return nil
}

// open opens a sink that goes on after a line, and writes the first line to it.
func (d *device) open(a *Audit, head Head, lost uint64) (out sink, next Head, err error) {
	event := deviceEvent{Path: d.conf.Path, Event: "opened", Lost: lost}
	switch {
	case d.conf.Type == "journal":
		out = &journalSink{path: d.opts.address, name: strings.TrimSuffix(d.conf.Path, "/"), wait: d.opts.wait}
	case d.conf.Type == "socket":
		out = &socketSink{network: d.opts.network, address: d.opts.address, wait: d.opts.wait}
	case d.opts.file == "stdout":
		out = a.stdout
	default:
		s, t, err := openFile(d.opts.file, d.opts.mode, d.opts.wait)
		if err != nil {
			return nil, head, err
		}
		out, head = s, d.join(head, t, &event)
	}
	line, next := a.line(head, event.body())
	if err := out.write(line); err != nil {
		out.close()
		return nil, head, err
	}
	return out, next, nil
}

// join returns the line after which the log goes on in a file: where the file ends,
// unless that is not where it should end, which it tells.
func (d *device) join(known Head, t tail, event *deviceEvent) Head {
	event.Cut = t.cut
	log := d.log.With("device", d.conf.Path, "file", d.opts.file)
	if t.cut > 0 {
		log.Warn("half a line at the end of the audit log was cut off, as a crash or a full disk leaves it", "bytes", t.cut)
	}
	hash, seen := t.hashes[known.Seq]
	switch {
	case !t.regular:
	case t.empty && known.Seq > 0:
		log.Info("the audit log goes on in an empty file", "line", known.Seq+1)
	case t.empty:
	case t.last.Seq == 0:
		event.Found = "the file does not end in a line of the audit log"
	case t.last.Seq < known.Seq:
		event.Found = fmt.Sprintf("the file ends with line %d, line %d was written: lines are missing", t.last.Seq, known.Seq)
	case known.Seq > 0 && seen && hash != known.Hash:
		event.Found = fmt.Sprintf("line %d is not the one that was written", known.Seq)
	default:
		return t.last
	}
	if event.Found != "" {
		log.Warn("the audit log is not as it was left: "+event.Found, "next", "find out who changed it; sealkeep audit verify shows where")
	}
	return known
}

// A deviceEvent is what a line says that is no request.
type deviceEvent struct {
	Path  string `json:"path"`
	Event string `json:"event"`           // opened
	Lost  uint64 `json:"lost,omitempty"`  // records that could not be written before
	Cut   int64  `json:"cut,omitempty"`   // bytes of half a line
	Found string `json:"found,omitempty"` // what is wrong with the lines before
}

func (e deviceEvent) body() []byte {
	b, _ := json.Marshal(e) // always encodes
	return append([]byte(`"type":"device","device":`), b...)
}

func (d *device) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.out != nil {
		d.out.close()
	}
	d.out, d.err, d.closed = nil, errClosed, true
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
			if err := a.keep(ctx, store); err != nil && ctx.Err() == nil {
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

// keep lets the store know how far every log has come; what it knows is on the
// disk.
func (a *Audit) keep(ctx context.Context, store *storage.Store) error {
	heads := map[*device]Head{}
	for _, d := range *a.devices.Load() {
		d.mu.Lock()
		out, head, kept := d.out, d.head, d.kept
		d.mu.Unlock()
		if out == nil || head == kept {
			continue
		}
		if err := out.sync(); err != nil {
			if !errors.Is(err, fs.ErrClosed) { // it has been opened anew since
				a.log.Error("an audit log could not be flushed to its disk", "device", d.conf.Path, "error", err)
			}
			continue
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
			d.kept = head
			d.mu.Unlock()
		}
	}
	return err
}

// Keep is called before the store is sealed: see [Audit.Run], which has ended.
func (a *Audit) Keep(store *storage.Store) {
	ctx, cancel := context.WithTimeout(context.Background(), headTimeout)
	defer cancel()
	if err := a.keep(ctx, store); err != nil {
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
