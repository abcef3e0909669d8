package config

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// stateDirectory is the variable in which systemd says where a service keeps its state. It may list several folders,
// separated by colons; the first one counts.
const stateDirectory = "STATE_DIRECTORY"

// A loader collects the contents of the files, then checks them as a whole.
type loader struct {
	env   func(string) (string, bool)
	paths []string // as given
	files []string // read, in this order

	top       map[string]value
	storage   []block
	listeners []block
	seals     []block
	recovery  []block
	audit     []block
	settings  []Setting
	via       []string // functions called by the expression being evaluated

	broken    bool // something was not understood, and may be what seems to be missing
	noStorage bool // there is a storage block, of another kind
	noSeal    bool // there is a seal block, of another kind
	noKey     bool // KMS_BACKEND=local, and no key
	mistakes  []note
	warnings  []note
}

// A note is a mistake or a warning.
type note struct {
	at   pos
	text string
}

func (l *loader) errorf(at pos, format string, args ...any) {
	l.mistakes = append(l.mistakes, note{at, fmt.Sprintf(format, args...)})
}

func (l *loader) warnf(at pos, format string, args ...any) {
	l.warnings = append(l.warnings, note{at, fmt.Sprintf(format, args...)})
}

// Load reads the files and folders of paths and the environment, and returns the whole configuration or an [*Error]
// that lists every mistake in it. A folder stands for its files *.hcl and *.json in the order of their names and may
// be empty; no paths at all mean the environment alone. env is [os.LookupEnv] or the like; nil is an empty
// environment. A variable that is set but empty counts as unset.
//
// Load resolves secrets, and so reads the files that the configuration names for them. It changes nothing and uses no
// network. Calling it again, on a reload, reads everything again.
func Load(paths []string, env func(string) (string, bool)) (*Config, error) {
	l := &loader{env: env, paths: paths, top: make(map[string]value)}
	for _, name := range l.find() {
		l.files = append(l.files, name)
		src, err := readFile(name)
		if err != nil {
			l.unreadable(name, err)
			continue
		}
		l.parse(name, src)
	}
	return l.finish()
}

// find lists the files of l.paths, each once.
func (l *loader) find() []string {
	var names []string
	for _, path := range l.paths {
		info, err := os.Stat(path)
		if err != nil {
			l.unreadable(path, err)
			continue
		}
		if !info.IsDir() {
			names = append(names, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			l.unreadable(path, err)
		}
		for _, e := range entries {
			ext := filepath.Ext(e.Name())
			if !e.IsDir() && (ext == ".hcl" || ext == ".json") && !strings.HasPrefix(e.Name(), ".") {
				names = append(names, filepath.Join(path, e.Name()))
			}
		}
	}
	seen := make(map[string]bool)
	return slices.DeleteFunc(names, func(name string) bool {
		abs, err := filepath.Abs(name)
		again := err == nil && seen[abs]
		seen[abs] = true
		return again
	})
}

func (l *loader) unreadable(path string, err error) {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	l.errorf(pos{path, 0}, "reading the configuration: %v", err)
	l.broken = true
}

// finish checks everything together and fills in the defaults.
func (l *loader) finish() (*Config, error) {
	top := l.read(block{at: l.whole(), values: l.top}, scopeTop)
	c := &Config{
		APIAddr:   top["api_addr"].text,
		LogLevel:  top["log_level"].text,
		LogFormat: top["log_format"].text,
		PIDFile:   top["pid_file"].text,

		EnableGenerateRoot: top["enable_generate_root"].text == "true",
		AllowAuditAPI:      top["unsafe_allow_api_audit_creation"].text == "true",

		Limits: Limits{l.rate(top, "rate_limit_per_token"), l.rate(top, "rate_limit_per_source")},
	}
	l.inForce("top level", top, scopeTop)
	c.Storage = l.finishStorage()
	c.Listeners = l.finishListeners()
	drafts := l.finishSeals()
	l.refuseSelf(drafts, c.Listeners, top["api_addr"])
	slices.SortStableFunc(drafts, func(a, b draft) int { return cmp.Compare(a.priority, b.priority) })
	for _, d := range drafts {
		c.Seals = append(c.Seals, d.seal())
		l.sealInForce(d)
	}
	for _, b := range l.recovery {
		v := l.read(b, scope(fmt.Sprintf("recovery %q", b.label)))
		l.inForce(string(scopeAge), v, scopeAge)
		if r := v["recipients"].text; r != "" {
			c.Recovery = strings.Split(r, ",")
		}
	}
	c.Audit = l.finishAudit()
	c.Settings = l.settings
	c.Warnings = l.lines(l.warnings)
	if len(l.mistakes) > 0 {
		return nil, &Error{Mistakes: l.lines(l.mistakes), NoKey: l.noKey}
	}
	return c, nil
}

// rate reads one of the limits; a burst without a rate has no effect.
func (l *loader) rate(top map[string]value, key string) Rate {
	number := func(key string) int {
		n, _ := strconv.Atoi(top[key].text) // "" is 0, and the rest was checked
		return n
	}
	r := Rate{number(key), number(key + "_burst")}
	if r.PerSecond == 0 && r.Burst > 0 {
		l.warnf(top[key+"_burst"].at, "%s_burst has no effect without %s", key, key)
		delete(top, key+"_burst")
		r.Burst = 0
	}
	return r
}

// whole returns the place to name for a missing setting.
func (l *loader) whole() pos {
	if len(l.paths) == 0 {
		return pos{environment, 0}
	}
	return pos{strings.Join(l.paths, ", "), 0}
}

// lines renders notes without repetitions, in the order of the files and their lines, the environment last.
func (l *loader) lines(notes []note) []string {
	rank := func(p pos) int {
		if p.file == environment {
			return len(l.files)
		}
		return slices.Index(l.files, p.file)
	}
	slices.SortStableFunc(notes, func(a, b note) int {
		return cmp.Or(cmp.Compare(rank(a.at), rank(b.at)), cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.text, b.text))
	})
	var out []string
	for _, n := range slices.Compact(notes) {
		out = append(out, n.at.String()+": "+n.text)
	}
	return out
}

// read resolves the settings of a block that has no variables, and fills in their defaults. A wrong or missing value
// is a mistake, and absent from the result.
func (l *loader) read(b block, in ...scope) map[string]value {
	out := make(map[string]value)
	for _, s := range rows(in...) {
		v, ok := b.values[s.key]
		switch {
		case v.bad:
		case ok && v.text != "":
			v, why := l.resolve(s, v)
			if why != "" {
				l.errorf(v.at, "%s: %s", s.key, why)
				continue
			}
			out[s.key] = v
		case s.def != "":
			out[s.key] = value{text: s.def, at: b.at, name: s.key, def: true}
		case s.required:
			l.errorf(b.at, "%s needs %s: write %s = \"...\" (%s)", in[0], s.key, s.key, s.doc)
		}
	}
	return out
}

func (l *loader) finishStorage() Storage {
	if len(l.storage) == 0 {
		dirs, ok := l.lookup(stateDirectory)
		if dir, _, _ := strings.Cut(dirs, ":"); ok {
			path := filepath.Join(dir, "sealkeep.db")
			l.inForce(string(scopeStorage), map[string]value{"path": {text: path, at: pos{environment, 0}, name: stateDirectory}}, scopeStorage)
			return Storage{Path: path}
		}
		if !l.broken && !l.noStorage {
			l.errorf(l.whole(), "no storage: write storage \"bbolt\" { path = \"/var/lib/sealkeep/sealkeep.db\" }, or set StateDirectory=sealkeep in the systemd unit (which sets STATE_DIRECTORY)")
		}
		return Storage{}
	}
	first := l.storage[0]
	for _, b := range l.storage[1:] {
		l.errorf(b.at, "storage is already set at %s: keep one", first.at)
	}
	values := l.read(first, scopeStorage)
	l.inForce(string(scopeStorage), values, scopeStorage)
	size, _ := strconv.ParseInt(values["initial_mmap_size"].text, 10, 64) // "" is 0, and the rest was checked
	return Storage{Path: values["path"].text, InitialMmapSize: size}
}

func (l *loader) finishListeners() []Listener {
	if len(l.listeners) == 0 {
		l.listeners = []block{{label: "tcp", at: pos{"default", 0}}}
	}
	var out []Listener
	for _, b := range l.listeners {
		own := scope(fmt.Sprintf("listener %q", b.label))
		v := l.read(b, own, scopeTelemetry)
		n := Listener{Type: b.label, Address: v["address"].text, At: b.at.String(),
			UnauthenticatedMetricsAccess: v["unauthenticated_metrics_access"].text == "true"}
		if own == scopeUnix {
			mode, _ := strconv.ParseUint(v["socket_mode"].text, 8, 32) // checked
			n.SocketMode, n.SocketUser, n.SocketGroup = fs.FileMode(mode), v["socket_user"].text, v["socket_group"].text
			n.TLSDisable = true
			if operator := v["operator"]; operator.text == "true" {
				n.Operator = true
				if mode := v["socket_mode"]; mode.text != "" && n.SocketMode != 0o600 {
					l.errorf(mode.at, "socket_mode: operator = true needs 0600, not %s: give others a listener of their own", mode.text)
				}
			}
		} else {
			l.finishTLS(&n, b, v)
			l.finishForwarded(&n, v)
		}
		l.inForce(fmt.Sprintf("%s on %s", own, n.Address), v, own, scopeTelemetry)
		for _, o := range out {
			if n.Address != "" && o.Address != "" && endpointOf(o.Address).clash(endpointOf(n.Address)) {
				l.errorf(v["address"].at, "address: %s is already taken by the listener at %s", n.Address, o.At)
				break
			}
		}
		out = append(out, n)
	}
	return out
}

// finishTLS fills in how a tcp listener encrypts, and refuses to serve other machines unencrypted by accident. It
// removes from v what has no effect.
func (l *loader) finishTLS(n *Listener, b block, v map[string]value) {
	n.TLSMinVersion = tls.VersionTLS12
	if v["tls_min_version"].text == "tls13" {
		n.TLSMinVersion = tls.VersionTLS13
	}
	cert, hasCert := v["tls_cert_file"]
	key, hasKey := v["tls_key_file"]
	disable, ok := v["tls_disable"]
	switch {
	case !ok: // wrong, and reported
	case disable.text == "true":
		n.TLSDisable = true
		if hasCert || hasKey {
			l.warnf(b.at, "tls_cert_file and tls_key_file have no effect: tls_disable is true")
		}
		if n.Address != "" && !endpointOf(n.Address).loopback() {
			l.warnf(disable.at, "%s serves other machines unencrypted: whoever is on the way reads tokens and secrets, unless something in front of it speaks TLS", n.Address)
		}
	case hasCert && !hasKey:
		l.errorf(cert.at, "tls_cert_file needs its private key: write tls_key_file too")
	case hasKey && !hasCert:
		l.errorf(key.at, "tls_key_file needs its certificate: write tls_cert_file too")
	case hasCert:
		n.TLSCertFile, n.TLSKeyFile = cert.text, key.text
	case n.Address == "": // wrong, and reported
	case endpointOf(n.Address).loopback():
		n.TLSDisable = true
		disable.text = "true"
		v["tls_disable"] = disable
	default:
		l.errorf(b.at, "%s serves other machines and would do so unencrypted: write tls_cert_file and tls_key_file, or tls_disable = true if something in front of it speaks TLS", n.Address)
	}
	l.finishClientCerts(n, v)
	if n.TLSDisable {
		for _, key := range []string{"tls_cert_file", "tls_key_file", "tls_min_version", "tls_client_ca_file", "tls_require_and_verify_client_cert", "tls_disable_client_certs"} {
			delete(v, key)
		}
	}
}

// finishClientCerts fills in which certificates a tcp listener requires of clients. It removes from v what has no effect.
func (l *loader) finishClientCerts(n *Listener, v map[string]value) {
	require, none := v["tls_require_and_verify_client_cert"], v["tls_disable_client_certs"]
	ca, hasCA := v["tls_client_ca_file"]
	switch {
	case require.text == "true" && none.text == "true":
		l.errorf(none.at, "tls_disable_client_certs and tls_require_and_verify_client_cert exclude each other: keep one")
	case require.text == "true" && n.TLSDisable:
		l.errorf(require.at, "tls_require_and_verify_client_cert needs TLS, and this listener has none: write tls_cert_file and tls_key_file")
	case require.text == "true":
		n.TLSClientAuth, n.TLSClientCAFile = tls.RequireAndVerifyClientCert, ca.text
	case none.text == "false" && !n.TLSDisable:
		n.TLSClientAuth = tls.RequestClientCert
	}
	if hasCA && require.text == "false" {
		l.warnf(ca.at, "tls_client_ca_file has no effect without tls_require_and_verify_client_cert = true: anyone may connect")
		delete(v, "tls_client_ca_file")
	}
}
