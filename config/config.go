package config

import (
	"crypto/tls"
	"io/fs"
	"net/netip"
	"strings"
)

// A Config is everything that sealkeep is told, checked and with its defaults filled in.
type Config struct {
	Storage   Storage
	Listeners []Listener // one at least, in the order of the files
	Seals     []Seal     // by priority, best (lowest number) first; names unique; one at least is enabled unless there is a recovery block
	Recovery  []string   // age recipients of the recovery slot; each begins with age1, no more is known of it; empty when not wanted

	Audit         []Audit // devices of the audit log, in the order of the files
	AllowAuditAPI bool    // devices may also be made over the API; default false

	APIAddr   string // URL under which clients reach this keep; "" when not set
	LogLevel  string // trace, debug, info, warn or error; default info
	LogFormat string // text or json; default text
	PIDFile   string // "" when not wanted

	Limits Limits

	EnableGenerateRoot bool // a lost root token may be made anew from recovery shares; default false

	Settings []Setting // everything that is in force and where it comes from: top level, storage, listeners, seals

	// Warnings are sentences "file:line: text" about what was read but has no effect, or not the likely one.
	Warnings []string
}

// Limits say how many requests are answered. The zero value limits nobody.
type Limits struct{ PerToken, PerSource Rate }

// A Rate is a number of requests a second.
type Rate struct {
	PerSecond int // 0: any number
	Burst     int // at once; 0: PerSecond
}

// Storage says where the store is.
type Storage struct {
	Path            string // the bbolt file; never empty
	InitialMmapSize int64  // bytes of address space; 0 leaves the choice to the store
}

// A Listener is one socket that serves the HTTP API.
type Listener struct {
	Type    string // tcp or unix
	Address string // tcp: host:port, the host may be empty; unix: the socket's path

	TLSDisable    bool   // serve plain HTTP; always true on a unix socket and when there is no certificate
	TLSCertFile   string // PEM, set unless TLSDisable
	TLSKeyFile    string // PEM, set unless TLSDisable
	TLSMinVersion uint16 // tls.VersionTLS12 (the default) or tls.VersionTLS13

	// TLSClientAuth says what is wanted of clients: tls.RequestClientCert (the default: asked for, not verified here),
	// tls.NoClientCert (also without TLS) or tls.RequireAndVerifyClientCert.
	TLSClientAuth   tls.ClientAuthType
	TLSClientCAFile string // PEM; "" is the system's authorities, and without tls.RequireAndVerifyClientCert

	Forwarded Forwarded // tcp only

	SocketMode  fs.FileMode // unix only; default 0600
	SocketUser  string      // unix only; name or number, "" leaves the owner
	SocketGroup string      // unix only; name or number, "" leaves the group
	Operator    bool        // unix only, with SocketMode 0600: root may lift what operator seal holds

	UnauthenticatedMetricsAccess bool // serve metrics without a token after unsealing too

	At string // "file:line", or "default"
}

// An Audit is one device of the audit log.
type Audit struct {
	Type        string // file, journal or socket
	Name        string // its path in the API, without a slash at its end; unique; default is the type
	Description string
	Options     map[string]string // those of the reference in the package documentation but the description; checked
	At          string            // "file:line"
}

// Forwarded says whose X-Forwarded-For tells the address of the client. The zero value believes nobody.
type Forwarded struct {
	Authorized          []netip.Prefix // the proxies that may send it; masked, IPv4 in its own form; without any the rest is zero
	HopSkips            int            // addresses at its end that are passed over, 0 or more
	RejectNotPresent    bool           // refuse requests without it, whoever sends them
	RejectNotAuthorized bool           // refuse it from others; else it is ignored
}

// A Seal is the configuration of one key service. Its parameters are those of the reference in the package
// documentation, resolved (secrets read from where they are kept) and checked.
type Seal struct {
	Type     string // awskms, transit, vaultkv or static
	Name     string // the slot's name; default is the type
	Priority int    // 1 or more, lower is better
	Disabled bool
	Params   map[string]Param // set parameters only; booleans are "true" or "false"
	At       string           // "file:line", or "environment" when variables alone made this seal
}

// A Param is one resolved parameter of a seal. Value may be a secret.
type Param struct {
	Value  string
	Origin string // "file:line", followed by the indirection in brackets if there was one; or the variable's name; or "default"
}

// Get returns the value of a parameter, "" when it is not set.
func (s Seal) Get(key string) string { return s.Params[key].Value }

// An Error lists every mistake of a configuration, by file and line.
type Error struct {
	Mistakes []string // "file:line: what is wrong, and what to write instead"; never a secret

	// NoKey says that KMS_BACKEND=local asks for a static key and there is none. terraform-backend then makes one.
	NoKey bool
}

func (e *Error) Error() string { return strings.Join(e.Mistakes, "\n") }
