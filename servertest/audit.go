package servertest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/audit"
)

// AuditFile is a device that writes to a file, and the file's path.
func AuditFile(t testing.TB, options ...string) (audit.Device, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	d := audit.Device{Path: "file/", Type: "file", Options: map[string]string{"file_path": path}}
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		d.Options[key] = value
	}
	return d, path
}

// A Record is a line of the audit log, decoded.
type Record map[string]any

// Get walks the line as [Reply.Get] does.
func (r Record) Get(path ...string) any { return Reply{Body: r}.Get(path...) }

// Records verifies a log and returns its lines but those of devices.
func Records(t testing.TB, files ...string) (list []Record) {
	t.Helper()
	var v audit.Verifier
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Read(file, strings.NewReader(string(b))); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var r Record
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%v in %q", err, line)
			}
			if r["type"] != "device" {
				list = append(list, r)
			}
		}
	}
	v.Close("the log")
	if v.Findings != nil {
		t.Fatalf("the log does not verify: %q", v.Findings)
	}
	return list
}
