package audit

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/storage"
)

// The fixture of the tests in here and in package audit_test, hence its exported names.

// A textLog collects what a logger writes.
type textLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *textLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *textLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// FileDevice returns a device that writes to the file at path.
func FileDevice(path string) Device {
	return Device{Path: "file/", Type: "file", Options: map[string]string{"file_path": path}}
}

// OpenLog opens an audit log, which the caller closes.
func OpenLog(t testing.TB, s *storage.Store, devices ...Device) (*Log, *textLog) {
	t.Helper()
	log := new(textLog)
	l, err := Open(t.Context(), s, devices, time.Now, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return l, log
}

// WriteSome records n requests, each with its answer.
func (l *Log) WriteSome(t testing.TB, n int) {
	t.Helper()
	for i := range n {
		e := &Entry{ID: storage.NewUUID(), Operation: "read", Path: fmt.Sprint("secret/data/", i), Secret: "hvs.x", Data: []byte(`{"a":"b"}`)}
		if err := l.Request(e, ""); err != nil {
			t.Fatal(err)
		}
		if err := l.Response(e, Outcome{Data: []byte(`{"keys":["k"]}`)}); err != nil {
			t.Fatal(err)
		}
	}
}

// Verify returns what a Verifier finds in files.
func Verify(t testing.TB, known Head, files ...[]byte) Verifier {
	t.Helper()
	v := Verifier{Known: known, From: 1}
	for i, b := range files {
		if err := v.Read(fmt.Sprint("file", i), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	v.Close("end")
	return v
}

// ReadAll returns the content of the file at path.
func ReadAll(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
