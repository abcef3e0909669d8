package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// auditTypes lists the types of audit devices, in the order of the table.
var auditTypes = []string{"file", "journal", "socket"}

// nameAudit names audit blocks that have no name after their type. In JSON the name is required.
func nameAudit(b hcl.Body) {
	native, ok := b.(*hclsyntax.Body)
	if !ok {
		return
	}
	for _, b := range native.Blocks {
		if b.Type == "audit" && len(b.Labels) == 1 {
			b.Labels, b.LabelRanges = append(b.Labels, b.Labels[0]), append(b.LabelRanges, b.LabelRanges[0])
		}
	}
}

// auditBlock reads a device. Its options may be in the block itself or, as in OpenBao, in a nested block "options".
func (l *loader) auditBlock(b *hcl.Block, typ, name string, at pos) {
	if typ == "syslog" {
		l.errorf(at, "audit %q does not exist here: write audit \"journal\" {}, or a file or a socket that a collector reads", typ)
		return
	}
	if !slices.Contains(auditTypes, typ) {
		l.errorf(at, "audit %q does not exist here: %s", typ, suggest(typ, auditTypes))
		return
	}
	scopes := []scope{scope(fmt.Sprintf("audit %q", typ)), scopeAudit}
	values, blocks := l.body(b.Body, scopes, hcl.BlockHeaderSchema{Type: "options"})
	for _, o := range blocks {
		more, _ := l.body(o.Body, scopes)
		maps.Copy(values, more)
	}
	l.audit = append(l.audit, block{label: typ, name: strings.Trim(name, "/"), at: at, values: values})
}

var validPath = regexp.MustCompile(`^[a-zA-Z0-9_.-]+(/[a-zA-Z0-9_.-]+)*$`)

func (l *loader) finishAudit() []Audit {
	var out []Audit
	for _, b := range l.audit {
		own := scope(fmt.Sprintf("audit %q", b.label))
		v := l.read(b, own, scopeAudit)
		a := Audit{Type: b.label, Name: b.name, Description: v["description"].text, Options: make(map[string]string), At: b.at.String()}
		if !validPath.MatchString(b.name) {
			l.errorf(b.at, "%q is no name for an audit device: use letters, digits, -, _ and ., with single slashes between them", b.name)
		}
		for key, value := range v {
			if key != "description" {
				a.Options[key] = value.text
			}
		}
		l.inForce(fmt.Sprintf("%s at %s", own, b.name), v, own, scopeAudit)
		if v["log_raw"].text == "true" {
			l.warnf(v["log_raw"].at, "log_raw writes tokens and secrets into the audit log in the clear: who reads it can use them")
		}
		for _, o := range out {
			file := a.Options["file_path"]
			switch {
			case strings.HasPrefix(a.Name+"/", o.Name+"/") || strings.HasPrefix(o.Name+"/", a.Name+"/"):
				l.errorf(b.at, "audit device %s: its name, or the begin of it, is that of the one at %s: write audit %q \"NAME\" { ... } with another name", a.Name, o.At, a.Type)
			case file != "" && !special(file) && file == o.Options["file_path"]:
				l.errorf(v["file_path"].at, "file_path: the audit device at %s writes to %s: write another file", o.At, file)
			}
		}
		out = append(out, a)
	}
	return out
}

// special reports whether a file_path means something other than a file.
func special(v string) bool {
	return strings.EqualFold(v, "stdout") || strings.EqualFold(v, "discard") || v == "/dev/stdout"
}

func checkAuditFile(v string) string {
	if special(v) {
		return ""
	}
	if !strings.HasPrefix(v, "/") {
		return fmt.Sprintf("%q is no absolute path: write one such as \"/var/log/sealkeep/audit.log\", stdout or discard", v)
	}
	return checkFile(v)
}

// checkTimeout requires seconds or a duration.
func checkTimeout(v string) string {
	d, err := time.ParseDuration(v)
	if n, notNumber := strconv.Atoi(v); notNumber == nil {
		d, err = time.Duration(min(n, 1e6))*time.Second, nil
	}
	if err != nil || d < time.Millisecond || d > time.Minute {
		return fmt.Sprintf("%q is no time for one line: write one such as \"2s\", up to a minute", v)
	}
	return ""
}
