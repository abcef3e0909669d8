package config

import (
	"reflect"
	"testing"
)

func TestAudit(t *testing.T) {
	for _, c := range []struct {
		file string
		want []Audit
		api  bool
	}{
		{"testdata/good_audit.hcl", []Audit{
			{"file", "file", "on this machine", map[string]string{"file_path": "/var/log/sealkeep/audit.log", "mode": "0600", "log_raw": "true", "hmac_accessor": "false", "elide_list_responses": "false", "format": "json"}, "testdata/good_audit.hcl:3"},
			{"file", "to-stdout", "", map[string]string{"file_path": "/dev/stdout", "mode": "0600", "log_raw": "false", "hmac_accessor": "true", "elide_list_responses": "false", "format": "json"}, "testdata/good_audit.hcl:9"},
			{"journal", "journal", "", map[string]string{"log_raw": "false", "hmac_accessor": "true", "elide_list_responses": "false", "format": "json"}, "testdata/good_audit.hcl:14"},
			{"socket", "collector", "", map[string]string{"address": "collector.example.com:6514", "socket_type": "tcp", "write_timeout": "2s", "log_raw": "false", "hmac_accessor": "true", "elide_list_responses": "false", "format": "json"}, "testdata/good_audit.hcl:15"},
		}, true},
		{"testdata/good_audit.json", []Audit{
			{"file", "main", "", map[string]string{"file_path": "/var/log/audit.log", "mode": "0640", "log_raw": "false", "hmac_accessor": "true", "elide_list_responses": "false", "format": "json"}, "testdata/good_audit.json:5"},
			{"socket", "collector", "", map[string]string{"address": "/run/collector", "socket_type": "unix", "write_timeout": "2s", "log_raw": "false", "hmac_accessor": "true", "elide_list_responses": "false", "format": "json"}, "testdata/good_audit.json:6"},
		}, false},
	} {
		conf, err := Load([]string{c.file}, nil)
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		if !reflect.DeepEqual(conf.Audit, c.want) || conf.AllowAuditAPI != c.api {
			t.Errorf("%s: got %+v, %t", c.file, conf.Audit, conf.AllowAuditAPI)
		}
	}
}
