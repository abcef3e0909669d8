package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// A sink is the target of a device. write gets one whole line with its newline; if it
// fails, it removes the part that was written, if possible. It returns within the
// device's deadline, unless the disk hangs. After sync the lines survive a loss of
// power.
type sink interface {
	write(line []byte) error
	sync() error
	close()
}

// tailRead is how much of a file's end is read to find its last lines.
const tailRead = maxLine

// A fileSink is a regular file, or a pipe or device in the file system.
type fileSink struct {
	f       *os.File
	regular bool
	wait    time.Duration // for a pipe
	torn    bool          // a partial line at its end could not be cut off
}

// A tail describes the end of a file when it was opened.
type tail struct {
	regular bool
	empty   bool
	last    Head              // zero if the file does not end in a line of an audit log
	hashes  map[uint64]string // of its last lines, by number
	cut     int64             // bytes of a partial line that were cut off
}

// openFile opens a file to append to, and reads its end. The lock keeps other keeps
// from writing to the log, and this one from writing into its own store.
func openFile(path string, mode fs.FileMode, wait time.Duration) (s *fileSink, t tail, err error) {
	f, err := appendTo(path, mode, true)
	if err != nil {
		return nil, t, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, t, err
	}
	s = &fileSink{f: f, regular: info.Mode().IsRegular(), wait: wait}
	if !s.regular {
		return s, t, nil
	}
	t, err = readTail(f, info.Size())
	return s, t, err
}

// appendTo opens a file, locks it if lock is set and it is a regular file, and sets
// its mode.
func appendTo(path string, mode fs.FileMode, lock bool) (f *os.File, err error) {
	flags := os.O_RDWR | os.O_APPEND | os.O_CREATE
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // a pipe without a reader then fails at once
		flags = os.O_WRONLY | os.O_APPEND | syscall.O_NONBLOCK
	}
	if f, err = os.OpenFile(path, flags, 0o600); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return f, err
	}
	if lock {
		if err := lockFile(f); err != nil {
			return nil, fmt.Errorf("locking %s, which another keep or program has: %w", path, err)
		}
	}
	if mode != 0 && info.Mode().Perm() != mode {
		return f, f.Chmod(mode)
	}
	return f, nil
}

func lockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// unlock lets the same file be opened once more; lock undoes that.
func (s *fileSink) unlock() {
	if s.regular {
		syscall.Flock(int(s.f.Fd()), syscall.LOCK_UN)
	}
}

func (s *fileSink) lock() {
	if s.regular {
		lockFile(s.f) // if another keep has locked the file by now, both write, as both are configured to
	}
}

// readTail finds the last lines of a file, and cuts off a partial line at its end.
func readTail(f *os.File, size int64) (t tail, err error) {
	t = tail{regular: true, empty: size == 0, hashes: make(map[uint64]string)}
	b := make([]byte, min(size, tailRead))
	if _, err := f.ReadAt(b, size-int64(len(b))); err != nil && err != io.EOF {
		return t, err
	}
	end := bytes.LastIndexByte(b, '\n') + 1
	if end < len(b) && (end > 0 || int64(len(b)) == size) {
		t.cut = int64(len(b) - end)
		if err := f.Truncate(size - t.cut); err != nil {
			return t, fmt.Errorf("cutting off half a line: %w", err)
		}
	}
	for b = b[:end]; len(b) > 0; {
		start := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
		h, _, err := parseLine(b[start : len(b)-1])
		if err != nil {
			break
		}
		if t.last.Seq == 0 {
			t.last = h
		}
		t.hashes[h.Seq] = h.Hash
		b = b[:start]
	}
	return t, nil
}

func (s *fileSink) write(line []byte) error {
	if s.torn {
		line = append([]byte{'\n'}, line...)
	}
	if !s.regular {
		s.f.SetWriteDeadline(time.Now().Add(s.wait)) // fails for files that never wait
	}
	n, err := s.f.Write(line)
	if err == nil {
		s.torn = false
		return nil
	}
	if n > 0 {
		s.torn = true
		if info, e := s.f.Stat(); s.regular && e == nil && s.f.Truncate(info.Size()-int64(n)) == nil {
			s.torn = false
		}
	}
	return err
}

func (s *fileSink) sync() error {
	if !s.regular {
		return nil
	}
	return s.f.Sync()
}

func (s *fileSink) close() { s.f.Close() }

// A streamSink is standard output, which has no deadline of its own and may be a pipe
// that nobody reads.
type streamSink struct {
	w    io.Writer
	wait time.Duration
	busy chan struct{} // holds a value during a write
}

func newStream(w io.Writer, wait time.Duration) *streamSink {
	return &streamSink{w, wait, make(chan struct{}, 1)}
}

func (s *streamSink) write(line []byte) error {
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	select {
	case s.busy <- struct{}{}:
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.w.Write(line)
		<-s.busy
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}

func (*streamSink) sync() error { return nil }
func (*streamSink) close()      {}

// A socketSink is a connection to a collector of lines, which never answers.
type socketSink struct {
	network, address string
	wait             time.Duration
	conn             net.Conn
	gone             *atomic.Bool // the other side has closed the connection
}

func (s *socketSink) open() error {
	s.close()
	conn, err := net.DialTimeout(s.network, s.address, s.wait)
	if err != nil {
		return err
	}
	gone := new(atomic.Bool)
	s.conn, s.gone = conn, gone
	go func() { // otherwise the first line after the collector's end would be lost unnoticed
		io.Copy(io.Discard, conn)
		gone.Store(true)
	}()
	return nil
}

func (s *socketSink) write(line []byte) error {
	if s.conn == nil || s.gone.Load() {
		if err := s.open(); err != nil {
			return err
		}
	}
	s.conn.SetWriteDeadline(time.Now().Add(s.wait))
	if _, err := s.conn.Write(line); err != nil {
		s.close() // the collector drops its part of the line
		return err
	}
	return nil
}

func (*socketSink) sync() error { return nil }

func (s *socketSink) close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// journalPath is the socket of systemd's journal.
const journalPath = "/run/systemd/journal/socket"

// journalID is the SYSLOG_IDENTIFIER of the lines in the journal.
const journalID = "sealkeep-audit"

// A journalSink speaks the journal's own protocol: one datagram for each line.
type journalSink struct {
	path, name string // path of the socket, name of the device
	wait       time.Duration
	conn       *net.UnixConn
}

func (s *journalSink) write(line []byte) error {
	if s.conn == nil { // unconnected: a file cannot be passed over a connection
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
		if err != nil {
			return err
		}
		conn.SetWriteBuffer(8 << 20)
		s.conn = conn
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "PRIORITY=6\nSYSLOG_IDENTIFIER=%s\nSEALKEEP_AUDIT_DEVICE=%s\nMESSAGE\n", journalID, s.name)
	binary.Write(&b, binary.LittleEndian, uint64(len(line)-1))
	b.Write(line)
	s.conn.SetWriteDeadline(time.Now().Add(s.wait))
	to := &net.UnixAddr{Name: s.path, Net: "unixgram"}
	_, err := s.conn.WriteToUnix(b.Bytes(), to)
	if errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, syscall.ENOBUFS) {
		err = s.pass(b.Bytes(), to)
	}
	if err != nil {
		s.close()
	}
	return err
}

// pass passes a message that is too long for a datagram in an unlinked file.
func (s *journalSink) pass(message []byte, to *net.UnixAddr) error {
	f, err := os.CreateTemp("/dev/shm", "sealkeep-journal-")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	if _, err := f.Write(message); err != nil {
		return err
	}
	s.conn.SetWriteDeadline(time.Now().Add(s.wait)) // writing the file took some time
	_, _, err = s.conn.WriteMsgUnix(nil, syscall.UnixRights(int(f.Fd())), to)
	return err
}

func (*journalSink) sync() error { return nil }

func (s *journalSink) close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}
