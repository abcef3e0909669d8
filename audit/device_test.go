package audit

import (
	"testing"
)

func TestDeviceCheck(t *testing.T) {
	for _, d := range []Device{
		{Path: "a/", Type: "file"}, {Path: "a/", Type: "file", Options: map[string]string{"file_path": "/x", "mode": "1777"}},
		{Path: "a/", Type: "file", Options: map[string]string{"file_path": "/x", "log_raw": "perhaps"}},
		{Path: "a/", Type: "file", Options: map[string]string{"file_path": "/x", "format": "jsonx"}},
		{Path: "a/", Type: "socket", Options: map[string]string{"address": "a:1", "write_timeout": "1h"}},
	} {
		if err := d.Check(); err == nil {
			t.Errorf("%+v passes", d)
		}
	}
	d := Device{Path: "a/", Type: "file", Options: map[string]string{"file_path": "/x", "mode": "0777"}}
	if o, err := d.parse(); err != nil || o.mode != 0o666 {
		t.Errorf("mode %v, %v", o.mode, err)
	}
}
