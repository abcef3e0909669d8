package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Device is the configuration of an audit device. Its options have Vault's names.
type Device struct {
	Path        string            `json:"path"` // ends with a slash
	Type        string            `json:"type"` // file, journal or socket
	Description string            `json:"description"`
	Options     map[string]string `json:"options"`

	FromAPI bool `json:"-"` // made over the API
}

// deviceOptions are a Device's Options.
type deviceOptions struct {
	raw, hmacAccessor, elide bool
	file                     string // a path, stdout or discard
	mode                     fs.FileMode
	network, address         string // of a socket; address also of the journal's socket
	wait                     time.Duration
}

// deviceKeys are the options that only one type has.
var deviceKeys = map[string][]string{
	"file":    {"file_path", "mode"},
	"journal": {},
	"socket":  {"address", "socket_type", "write_timeout"},
}

// commonKeys are the options of every type.
var commonKeys = []string{"format", "hmac_accessor", "log_raw", "elide_list_responses"}

// Check returns what is wrong with the configuration, as [ErrInvalid].
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
	o = deviceOptions{hmacAccessor: true, wait: lineWait, mode: 0o600}
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
			o.mode = fs.FileMode(mode) &^ 0o111 // a log is never executable
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

// file returns the path of the file to which the device writes, or "" if there is none.
func (d Device) file() string {
	o, err := d.parse()
	if err != nil || o.file == "discard" || o.file == "stdout" {
		return ""
	}
	return o.file
}

func (d Device) equal(o Device) bool {
	return d.Path == o.Path && d.Type == o.Type && d.FromAPI == o.FromAPI && d.Description == o.Description && maps.Equal(d.Options, o.Options)
}

// probe opens the device's target as the device would, and writes nothing. held means
// that this keep already has the file open.
func (d Device) probe(held bool) error {
	o, err := d.parse()
	if err != nil {
		return err
	}
	switch {
	case d.Type == "socket" || d.Type == "journal":
		network := cmp.Or(o.network, "unixgram")
		conn, err := net.DialTimeout(network, o.address, o.wait)
		if err != nil {
			return fmt.Errorf("opening the audit device %s: %w", d.Path, err)
		}
		return conn.Close()
	case d.file() == "":
		return nil
	}
	f, err := appendTo(o.file, o.mode, !held)
	if err != nil {
		return fmt.Errorf("opening the audit device %s: %w", d.Path, err)
	}
	return f.Close()
}

// Probe opens the devices that are not yet in force, and closes them again. A
// configuration with a device that cannot be opened must not take effect.
func Probe(devices, inForce []Device) error {
	for _, d := range devices {
		if slices.ContainsFunc(inForce, d.equal) {
			continue
		}
		held := d.file() != "" && slices.ContainsFunc(inForce, func(o Device) bool { return o.file() == d.file() })
		if err := d.probe(held); err != nil {
			return err
		}
	}
	return nil
}

// clash reports whether the two devices exclude each other.
func clash(a, b Device) bool {
	return strings.HasPrefix(a.Path, b.Path) || strings.HasPrefix(b.Path, a.Path) || a.file() != "" && a.file() == b.file()
}

// A device is a Device in use.
type device struct {
	conf Device
	opts deviceOptions
	veil veil
	log  *slog.Logger

	opening sync.Mutex // held while the device is opened; taken before mu

	mu     sync.Mutex
	out    sink // nil if it could not be opened
	head   Head
	line   []byte        // the last line; its buffer is reused
	err    error         // why the device fails; nil while it works
	since  time.Time     // when it began to fail
	lost   uint64        // records lost since then
	next   time.Time     // when it is tried again
	pause  time.Duration // before the attempt after that
	closed bool
	saved  Head // in the store
	total  struct{ written, lost uint64 }
}

// record writes one line and returns the head before it. If the device is failing it
// returns at once; [Log.Run] tries the device again.
func (d *device) record(l *Log, body []byte) (before Head, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, err = d.head, d.err
	if err == nil {
		err = d.writeLocked(l, body)
		if err != nil {
			d.failLocked(l, err)
		}
	}
	if err != nil {
		d.lost++
		d.total.lost++
		return before, err
	}
	d.total.written++
	return before, nil
}

func (d *device) writeLocked(l *Log, body []byte) error {
	var next Head
	d.line, next = l.line(d.line[:0], d.head, body)
	if err := d.out.write(d.line); err != nil {
		return err
	}
	d.head = next
	return nil
}

// line appends to b the line that follows h, stamped with the time.
func (l *Log) line(b []byte, h Head, body []byte) ([]byte, Head) {
	stamp := l.now().UTC().AppendFormat([]byte(`"time":"`), time.RFC3339Nano)
	return h.line(b, append(stamp, '"', ','), body)
}

// works reports whether the device is open and not failing.
func (d *device) works() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err == nil
}

// failLocked notes why the device fails and when it is tried again.
func (d *device) failLocked(l *Log, err error) {
	if d.since.IsZero() {
		d.since, d.pause = l.now(), retryFirst
		d.log.Error("an audit device fails: records are lost unless another device works", "device", d.conf.Path, "error", err)
	}
	d.err = err
	d.next = time.Now().Add(d.pause)
	d.pause = min(2*d.pause, retryMost)
	l.notify()
}

// reopen opens a failing device, or reopens a file, which may have been renamed, and
// writes a line that says so. If a working file cannot be reopened, the device keeps
// using it. Records wait only while a working file is reopened; they do not wait for
// failing devices, since a collector may take any time to answer.
func (d *device) reopen(l *Log) error {
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
	failed, lost, head := d.err != nil, d.lost, d.head
	old := d.out
	if file, ok := old.(*fileSink); ok { // the same file may be opened again
		file.unlock()
	}
	if failed {
		d.mu.Unlock()
	}
	out, head, err := d.open(l, head, lost)
	if failed {
		d.mu.Lock()
	}
	if err == nil && d.closed {
		out.close()
		err = errClosed
	}
	switch {
	case err != nil && !failed: // keep using the old file
		old.(*fileSink).lock()
		return fmt.Errorf("opening the audit device %s anew: %w", d.conf.Path, err)
	case err != nil:
		d.failLocked(l, err)
		return fmt.Errorf("opening the audit device %s: %w", d.conf.Path, err)
	}
	if old != nil {
		old.sync() // if that is still possible
		old.close()
	}
	if !d.since.IsZero() {
		d.log.Warn("an audit device works again", "device", d.conf.Path, "lost", d.lost)
	}
	d.out, d.head, d.err, d.since, d.lost = out, head, nil, time.Time{}, d.lost-lost
	return nil
}

// openFirst opens a device that is not in use yet.
func (d *device) openFirst(l *Log) error {
	if d.opts.file == "discard" {
		d.err = nil
		return nil
	}
	out, head, err := d.open(l, d.head, 0)
	if err != nil {
		return fmt.Errorf("opening the audit device %s: %w", d.conf.Path, err)
	}
	d.out, d.head, d.err = out, head, nil
	return nil
}

// open opens a sink for the log that continues after head, and writes its first line.
func (d *device) open(l *Log, head Head, lost uint64) (out sink, next Head, err error) {
	event := deviceEvent{Path: d.conf.Path, Event: "opened", Lost: lost}
	switch {
	case d.conf.Type == "journal":
		out = &journalSink{path: d.opts.address, name: strings.TrimSuffix(d.conf.Path, "/"), wait: d.opts.wait}
	case d.conf.Type == "socket":
		out = &socketSink{network: d.opts.network, address: d.opts.address, wait: d.opts.wait}
	case d.opts.file == "stdout":
		out = l.stdout
	default:
		s, t, err := openFile(d.opts.file, d.opts.mode, d.opts.wait)
		if err != nil {
			return nil, head, err
		}
		out, head = s, d.join(head, t, &event)
	}
	line, next := l.line(nil, head, event.body())
	if err := out.write(line); err != nil {
		out.close()
		return nil, head, err
	}
	return out, next, nil
}

// join returns the head after which the log continues in a file: the file's last line,
// or the known one if the file does not end as expected. It notes that in event and in
// the program's log.
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

// A deviceEvent is the content of a line of type device.
type deviceEvent struct {
	Path  string `json:"path"`
	Event string `json:"event"`           // opened
	Lost  uint64 `json:"lost,omitempty"`  // records that could not be written before it
	Cut   int64  `json:"cut,omitempty"`   // bytes of a partial line
	Found string `json:"found,omitempty"` // what is wrong with the lines before
}

func (e deviceEvent) body() []byte {
	b, _ := json.Marshal(e) // an event always encodes
	return append([]byte(`"type":"device","device":`), b...)
}

// close closes the device for good.
func (d *device) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.out != nil {
		d.out.close()
	}
	d.out, d.err, d.closed = nil, errClosed, true
}
