package config

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The checks of the table. Each returns what is wrong with a value and what to write instead, or "".

const noTemplate = "templates in {{ }} are not filled in: write the address, or env(\"NAME\") for one from the environment"

func oneOf(words ...string) func(string) string {
	return func(v string) string {
		if slices.Contains(words, v) {
			return ""
		}
		return fmt.Sprintf("%q is not known: write %s", v, list(words, "or"))
	}
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

func checkName(v string) string {
	switch {
	case strings.HasPrefix(v, "recovery-"):
		return fmt.Sprintf("%q begins with recovery-, as only the slots that people open do: write another name", v)
	case validName.MatchString(v):
		return ""
	}
	return fmt.Sprintf("%q is no name for a seal: use letters, digits, - and _ only", v)
}

// checkPath requires a path of Vault's API.
func checkPath(v string) string {
	if strings.ContainsAny(v, "?#%\\") || slices.ContainsFunc(strings.Split(strings.Trim(v, "/"), "/"), func(s string) bool { return s == "" || s == "." || s == ".." }) {
		return fmt.Sprintf("%q is no path: write names with single slashes between them", v)
	}
	return ""
}

// checkKVPath requires the API's path of a KV version 2 secret, which Vault's command line does not show.
func checkKVPath(v string) string {
	if why := checkPath(v); why != "" {
		return why
	}
	if mount, name, ok := strings.Cut(v, "/data/"); !ok || mount == "" || name == "" {
		return fmt.Sprintf("%q is no path of a KV version 2 secret, which has data/ after the mount: write kv/data/NAME for what Vault's command line calls kv/NAME", v)
	}
	return ""
}

// checkRecipients requires age recipients, and checks only how they begin.
func checkRecipients(v string) string {
	seen := make(map[string]bool)
	for i, r := range strings.Split(v, ",") {
		switch {
		case strings.HasPrefix(r, "AGE-SECRET-KEY-"):
			return "there is a secret key of age in it: write the recipient that belongs to it (age-keygen -y prints it), and take the key off this machine"
		case !strings.HasPrefix(r, "age1") || strings.ContainsAny(r, " \t"):
			return fmt.Sprintf("number %d is no age recipient: write one that begins with age1 (age-keygen makes one)", i+1)
		case seen[r]:
			return fmt.Sprintf("%q is there twice: write it once", r)
		}
		seen[r] = true
	}
	return ""
}

func checkPriority(v string) string {
	if n, err := strconv.ParseInt(v, 10, 32); err != nil || n < 1 {
		return fmt.Sprintf("%q is no priority: write a number from 1 (tried first) up", v)
	}
	return ""
}

// checkURL requires http:// or https:// with a host. It does not quote a value that may contain a password.
func checkURL(v string) string {
	u, err := url.Parse(v)
	switch {
	case strings.Contains(v, "{{"):
		return noTemplate
	case err == nil && u.User != nil:
		return "no user or password may stand in a URL: remove what is before the @"
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || badPort(u.Port()):
		return "this is no URL: write it as https://host:port"
	}
	return ""
}

// checkAddress is like checkURL, for a server that may also listen on a unix socket.
func checkAddress(v string) string {
	if path, ok := strings.CutPrefix(v, "unix://"); ok {
		return checkFile(path)
	}
	return checkURL(v)
}

func checkFile(v string) string {
	if strings.HasSuffix(v, "/") {
		return fmt.Sprintf("%q is a folder: write the path of a file in it", v)
	}
	return ""
}

func checkMode(v string) string {
	if m, err := strconv.ParseUint(v, 8, 32); err != nil || m > 0o777 {
		return fmt.Sprintf("%q are no permissions: write three octal digits in quotes, such as \"0660\"", v)
	}
	return ""
}

func checkHostPort(v string) string {
	if strings.Contains(v, "{{") {
		return noTemplate
	}
	host, port, err := net.SplitHostPort(v)
	if err != nil || port == "" || badPort(port) || strings.ContainsAny(host, "/{} ") {
		return fmt.Sprintf("%q is no address to listen on: write host:port, such as \"127.0.0.1:8200\" or \"[::1]:8200\"", v)
	}
	return ""
}

const maxRate = 1_000_000

func checkRate(v string) string {
	if n, err := strconv.Atoi(v); err != nil || n > maxRate {
		return fmt.Sprintf("%q is too large: write a number up to %d", v, maxRate)
	}
	return ""
}

// badPort reports whether a port is neither empty nor a number up to 65535.
func badPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return port != "" && err != nil
}

var validRegion = regexp.MustCompile(`^[a-z]+(-[a-z0-9]+)+$`)

func checkRegion(v string) string {
	if validRegion.MatchString(v) {
		return ""
	}
	return fmt.Sprintf("%q is no AWS region: write one such as \"eu-central-1\"", v)
}

func checkKMSKey(v string) string {
	if !strings.HasPrefix(v, "arn:") {
		return ""
	}
	f := strings.SplitN(v, ":", 6)
	if len(f) != 6 || f[2] != "kms" || f[3] == "" || !strings.HasPrefix(f[5], "key/") && !strings.HasPrefix(f[5], "alias/") {
		return fmt.Sprintf("%q is no ARN of a KMS key: write arn:aws:kms:REGION:ACCOUNT:key/ID (or alias/NAME)", v)
	}
	return ""
}

// arnRegion returns the region in the ARN of a KMS key, or "" if v is not an ARN.
func arnRegion(v string) string {
	if f := strings.SplitN(v, ":", 6); len(f) == 6 && f[0] == "arn" {
		return f[3]
	}
	return ""
}

func checkKey(v string) string {
	if _, err := DecodeKey(v); err != nil {
		return err.Error()
	}
	return ""
}

// KeyID returns the ID of a static key without a configured one: 64 bits of a hash, which do not reveal the key.
func KeyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("sealkeep static key ID\x00"), key...))
	return hex.EncodeToString(sum[:8])
}

// DecodeKey decodes the key of a static seal: 32 raw bytes, 64 hexadecimal digits, or base64 in either alphabet (44
// characters, or 43 without padding). The error says what is wrong and does not contain the key.
func DecodeKey(s string) ([]byte, error) {
	var key []byte
	var err error
	switch len(s) {
	case 32:
		return []byte(s), nil
	case 64:
		key, err = hex.DecodeString(s)
	case 43, 44:
		s = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimSuffix(s, "="))
		key, err = base64.RawURLEncoding.Strict().DecodeString(s)
	default:
		return nil, fmt.Errorf("a key is 32 raw bytes, 64 hexadecimal digits or 44 (43) characters of base64, this one has %d bytes: make one with sealkeep keygen", len(s))
	}
	if err != nil || len(key) != 32 {
		return nil, errors.New("the key's length fits hexadecimal or base64, its characters do not: was it cut or typed by hand?")
	}
	return key, nil
}

// An endpoint is a host and port in canonical form.
type endpoint struct {
	host string // an IP address, a name in lower case, or a path
	port string
}

// endpointOf reads a listener's address (host:port) or a URL; a URL without a port has its scheme's.
func endpointOf(v string) endpoint {
	if path, ok := strings.CutPrefix(v, "unix://"); ok {
		return endpoint{host: path}
	}
	if strings.Contains(v, "://") {
		u, err := url.Parse(v)
		if err != nil {
			return endpoint{}
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		return endpoint{plainHost(u.Hostname()), port}
	}
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		return endpoint{host: v} // a socket's path
	}
	return endpoint{plainHost(host), port}
}

func plainHost(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" {
		return "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	return host
}

// loopback reports whether the host can only be reached from this machine.
func (e endpoint) loopback() bool {
	ip, err := netip.ParseAddr(e.host)
	return err == nil && ip.IsLoopback()
}

// any reports whether the host means every address of this machine.
func (e endpoint) any() bool {
	ip, err := netip.ParseAddr(e.host)
	return e.host == "" || err == nil && ip.IsUnspecified()
}

// clash reports whether two listeners cannot both have these addresses.
func (e endpoint) clash(o endpoint) bool {
	if e.port != o.port || e.port == "0" {
		return false
	}
	if e.host == o.host {
		return true
	}
	return e.covers(o) || o.covers(e)
}

// covers reports whether e listens on every address of o's family: 0.0.0.0 is IPv4 only, [::] and an empty host are both.
func (e endpoint) covers(o endpoint) bool {
	if !e.any() {
		return false
	}
	ip, err := netip.ParseAddr(o.host)
	return e.host != "0.0.0.0" || err == nil && ip.Is4()
}

// same reports whether a client that dials o may reach the listener e: all loopback and unspecified hosts count as one.
func (e endpoint) same(o endpoint) bool {
	local := func(e endpoint) bool { return e.loopback() || e.any() }
	return e.port == o.port && (e.host == o.host || e.port != "" && local(e) && local(o))
}

// list joins words for a sentence.
func list(words []string, and string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + and + " " + words[len(words)-1]
}
