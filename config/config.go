package config

import (
	"crypto/tls"
	"io/fs"
	"net/netip"
	"strings"
)

// A Config is the whole configuration of sealkeep, checked and with its defaults filled in.
type Config struct {
	Storage   Storage
	Listeners []Listener // at least one, in the order of the files
	Seals     []Seal     // by priority, best (lowest number) first; names unique; at least one is enabled unless there is a recovery block
	Recovery  []string   // age recipients of the recovery slot, checked only to begin with age1; empty for none

	Audit         []Audit // devices of the audit log, in the order of the files
	AllowAuditAPI bool    // devices may also be made over the API; default false

	APIAddr   string // URL at which clients reach this keep; "" if not set
	LogLevel  string // trace, debug, info, warn or error; default info
	LogFormat string // text or json; default text
	PIDFile   string // "" for none

	Limits Limits

	EnableGenerateRoot bool // recovery shares may make a new root token; default false

	Settings []Setting // everything in force and where it comes from: top level, storage, listeners, seals

	// Warnings are sentences "file:line: text" about settings that have no effect, or an unexpected one.
	Warnings []string
}

// Limits says how many requests are served. The zero value limits nobody.
type Limits struct{ PerToken, PerSource Rate }

// A Rate is a number of requests a second.
type Rate struct {
	PerSecond int // 0: any number
	Burst     int // at once; 0: PerSecond
}

// Storage says where the store is.
type Storage struct {
	Path            string // the bbolt file; never empty
	InitialMmapSize int64  // bytes of address space; 0 lets the store choose
}

// A Listener is one socket that serves the HTTP API.
type Listener struct {
	Type    string // tcp or unix
	Address string // tcp: host:port, the host may be empty; unix: the socket's path

	TLSDisable    bool   // serve plain HTTP; always true on a unix socket and without a certificate
	TLSCertFile   string // PEM, set unless TLSDisable
	TLSKeyFile    string // PEM, set unless TLSDisable
	TLSMinVersion uint16 // tls.VersionTLS12 (the default) or tls.VersionTLS13

	// TLSClientAuth says which certificate clients need: tls.RequestClientCert (the default: requested, but not verified
	// here), tls.NoClientCert (also without TLS) or tls.RequireAndVerifyClientCert.
	TLSClientAuth   tls.ClientAuthType
	TLSClientCAFile string // PEM; "" means the system's authorities; only with tls.RequireAndVerifyClientCert

	Forwarded Forwarded // tcp only

	SocketMode  fs.FileMode // unix only; default 0600
	SocketUser  string      // unix only; name or number, "" leaves the owner
	SocketGroup string      // unix only; name or number, "" leaves the group
	Operator    bool        // unix only, with SocketMode 0600: root may lift the hold of operator seal

	UnauthenticatedMetricsAccess bool // serve metrics without a token after unsealing too

	At string // "file:line", or "default"
}

// An Audit is one device of the audit log.
type Audit struct {
	Type        string // file, journal or socket
	Name        string // its path in the API, without a slash at its end; unique; default is the type
	Description string
	Options     map[string]string // the options of the reference in the package documentation, except description; checked
	At          string            // "file:line"
}

// Forwarded says whose X-Forwarded-For is trusted to give the address of the client. The zero value trusts nobody.
type Forwarded struct {
	Authorized          []netip.Prefix // the proxies that may send it; masked, IPv4 not mapped to IPv6; if empty, the rest is zero
	HopSkips            int            // addresses to skip at its end, 0 or more
	RejectNotPresent    bool           // refuse requests without it, whoever sends them
	RejectNotAuthorized bool           // refuse it from others; otherwise it is ignored
}

// A Seal is the configuration of one key service. Its parameters are those of the reference in the package
// documentation, checked and resolved (secrets are read from where they are kept).
type Seal struct {
	Type     string // awskms, transit, vaultkv or static
	Name     string // the slot's name; default is the type
	Priority int    // 1 or more, lower is better
	Disabled bool
	Params   map[string]Param // set parameters only; booleans are "true" or "false"
	At       string           // "file:line", or "environment" if variables alone made this seal
}

// A Param is one resolved parameter of a seal. Value may be a secret.
type Param struct {
	Value  string
	Origin string // "file:line", followed by the indirection in brackets if there was one; or the variable's name; or "default"
}

// Get returns the value of a parameter, or "" if it is not set.
func (s Seal) Get(key string) string { return s.Params[key].Value }

// An Error lists every mistake of a configuration, by file and line.
type Error struct {
	Mistakes []string // "file:line: what is wrong, and what to write instead"; never a secret

	// NoKey says that KMS_BACKEND=local asks for a static key and there is none. terraform-backend then makes one.
	NoKey bool
}

func (e *Error) Error() string { return strings.Join(e.Mistakes, "\n") }
