package audit

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// The journal gets its own protocol, and a file for what is too long for a datagram.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	sink := &journalSink{path: path, name: "main", wait: 100 * time.Millisecond}
	defer sink.close()
	for _, n := range []int{1, 100, 16 << 20} {
		line := append(bytes.Repeat([]byte{'x'}, n), '\n')
		if err := sink.write(line); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		b, oob := make([]byte, 1<<20), make([]byte, 100)
		m, k, _, _, err := server.ReadMsgUnix(b, oob)
		if err != nil {
			t.Fatal(err)
		}
		b = b[:m]
		if k > 0 {
			msgs, err := syscall.ParseSocketControlMessage(oob[:k])
			if err != nil {
				t.Fatal(err)
			}
			fds, err := syscall.ParseUnixRights(&msgs[0])
			if err != nil {
				t.Fatal(err)
			}
			f := os.NewFile(uintptr(fds[0]), "message")
			if b, err = io.ReadAll(io.NewSectionReader(f, 0, 32<<20)); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		head := "PRIORITY=6\nSYSLOG_IDENTIFIER=sealkeep-audit\nSEALKEEP_AUDIT_DEVICE=main\nMESSAGE\n"
		want := slices.Concat([]byte(head), binary.LittleEndian.AppendUint64(nil, uint64(n)), line)
		if !bytes.Equal(b, want) || (k > 0) != (n > 1<<19) {
			t.Errorf("of %d bytes came %d: %.200q", n, len(b), b)
		}
	}
	// The journal stops reading: the deadline ends the write.
	began := time.Now()
	for n := 0; sink.write([]byte("x\n")) == nil; n++ {
		if n > 10_000 {
			t.Fatal("the journal takes everything")
		}
	}
	if time.Since(began) > 5*time.Second {
		t.Errorf("it took %v", time.Since(began))
	}
	// The journal is gone.
	server.Close()
	if err := sink.write([]byte("x\n")); err == nil {
		t.Error("a journal that is gone takes lines")
	}
}

// Standard output that hangs has a deadline, and recovers.
func TestStream(t *testing.T) {
	r, w := io.Pipe()
	s := newStream(w, 20*time.Millisecond)
	for range 3 {
		if err := s.write([]byte("x\n")); err == nil {
			t.Error("nobody reads, and it is written")
		}
	}
	go io.Copy(io.Discard, r)
	for end := time.Now().Add(10 * time.Second); s.write([]byte("x\n")) != nil; {
		if time.Now().After(end) {
			t.Fatal("it does not recover")
		}
	}
}
