package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// Limits of one line. Data of a request or an answer that exceeds them is replaced by
// a single HMAC of all of it.
const (
	maxData = 64 << 10 // bytes of JSON, after hashing
	maxText = 4 << 10  // bytes of an error, or of a path that is not valid
	maxNest = 64       // depth of objects and lists in data
)

// An Entry is one request, in the clear. Each device hides its secrets with the
// device's own salt.
type Entry struct {
	ID         string
	Operation  string // read, list, update, patch or delete; "" for any other
	Path       string
	Mount      Mount
	Auth       *Auth    // the token, without ClientToken; nil if there was no valid one
	Secret     string   // the token as sent
	Decided    bool     // the policies were consulted
	Allowed    bool     // what the policies said
	Data       []byte   // JSON; nil if there is none
	Plain      []string // names of fields whose texts in Data are shown; all others are hidden
	Whole      []string // names of fields of Data that have one HMAC if they are an object or a list
	RemoteAddr string
	RemotePort int
	CertSerial string // serial number of a verified client certificate
	WrapTTL    time.Duration

	shown []shownEntry
}

// A Mount says where the request went.
type Mount struct{ Point, Type, Accessor, Class string }

// A shownEntry is an entry as one device shows it.
type shownEntry struct {
	device *device
	fields []byte
	before Head // the line before the request's; zero until that is written
}

// Before returns the last line that the device at path wrote before the request's own,
// or head if the device has no line of the request.
func (e *Entry) Before(path string, head Head) Head {
	if e == nil {
		return head
	}
	for _, s := range e.shown {
		if s.device.conf.Path == path && s.before.Seq > 0 {
			return s.before
		}
	}
	return head
}

// wrote notes the line before the request's. The request's is the first line of an entry.
func (e *Entry) wrote(d *device, before Head) {
	for i := range e.shown {
		if s := &e.shown[i]; s.device == d && s.before.Seq == 0 {
			s.before = before
		}
	}
}

// An Outcome is the answer to a request, in the clear. The zero value is an answer
// without content.
type Outcome struct {
	Error    string
	Data     []byte   // JSON; nil if there is none
	Plain    []string // see Entry
	Whole    []string // see Entry
	List     bool     // Data is the answer to a list
	Auth     *Auth    // a token that is handed out
	Wrap     *Wrap    // set if the answer was wrapped
	Warnings []string
}

// Auth describes a token: the one with which a request was sent, or one that an answer
// hands out. The names are Vault's.
type Auth struct {
	ClientToken   string            `json:"client_token,omitempty"`
	Accessor      string            `json:"accessor,omitempty"`
	DisplayName   string            `json:"display_name,omitempty"`
	Policies      []string          `json:"policies,omitempty"`
	TokenPolicies []string          `json:"token_policies,omitempty"`
	PolicyResults *policyResults    `json:"policy_results,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	NumUses       int               `json:"num_uses,omitempty"`
	RemainingUses int               `json:"remaining_uses,omitempty"`
	EntityID      string            `json:"entity_id,omitempty"`
	TokenType     string            `json:"token_type,omitempty"`
	TokenTTL      int64             `json:"token_ttl,omitempty"` // seconds
	IssueTime     string            `json:"token_issue_time,omitempty"`
}

type policyResults struct {
	Allowed bool `json:"allowed"`
}

// Wrap describes a wrapped answer. The names are Vault's.
type Wrap struct {
	TTL             int64  `json:"ttl,omitempty"` // seconds
	Token           string `json:"token,omitempty"`
	Accessor        string `json:"accessor,omitempty"`
	CreationTime    string `json:"creation_time,omitempty"`
	CreationPath    string `json:"creation_path,omitempty"`
	WrappedAccessor string `json:"wrapped_accessor,omitempty"`
}

type shownNamespace struct {
	ID string `json:"id"`
}

type shownRequest struct {
	ID            string         `json:"id,omitempty"`
	Operation     string         `json:"operation,omitempty"`
	MountPoint    string         `json:"mount_point,omitempty"`
	MountType     string         `json:"mount_type,omitempty"`
	MountAccessor string         `json:"mount_accessor,omitempty"`
	MountClass    string         `json:"mount_class,omitempty"`
	ClientToken   string         `json:"client_token,omitempty"`
	TokenAccessor string         `json:"client_token_accessor,omitempty"`
	Namespace     shownNamespace `json:"namespace"`
	Path          string         `json:"path,omitempty"`
	RemoteAddr    string         `json:"remote_address,omitempty"`
	RemotePort    int            `json:"remote_port,omitempty"`
	WrapTTL       int64          `json:"wrap_ttl,omitempty"`
	CertSerial    string         `json:"client_certificate_serial_number,omitempty"`
}

type shownResponse struct {
	Auth          *Auth    `json:"auth,omitempty"`
	MountPoint    string   `json:"mount_point,omitempty"`
	MountType     string   `json:"mount_type,omitempty"`
	MountAccessor string   `json:"mount_accessor,omitempty"`
	MountClass    string   `json:"mount_class,omitempty"`
	Warnings      []string `json:"warnings,omitempty"`
	Wrap          *Wrap    `json:"wrap_info,omitempty"`
}

// A veil hides secrets from the readers of a log. The same text has the same HMAC
// under the same salt, so that anybody who knows a value can search for it.
type veil struct {
	salt         []byte
	raw          bool // hide nothing
	hmacAccessor bool
	elide        bool // count the members of lists instead of showing them
	hashes       sync.Pool
}

const hmacPrefix = "hmac-sha256:"

// text returns the HMAC of s, and "" for "".
func (v *veil) text(s string) string {
	if v.raw || s == "" {
		return s
	}
	return string(v.append(nil, []byte(s)))
}

func (v *veil) accessor(s string) string {
	if !v.hmacAccessor {
		return s
	}
	return v.text(s)
}

// append appends the HMAC of s to b.
func (v *veil) append(b, s []byte) []byte {
	h, _ := v.hashes.Get().(hash.Hash)
	if h == nil {
		h = hmac.New(sha256.New, v.salt)
	}
	var sum [sha256.Size]byte
	h.Write(s)
	h.Sum(sum[:0])
	h.Reset()
	v.hashes.Put(h)
	return hex.AppendEncode(append(b, hmacPrefix...), sum[:])
}

func (v *veil) auth(a Auth) *Auth {
	a.ClientToken, a.Accessor, a.DisplayName = v.text(a.ClientToken), v.accessor(a.Accessor), v.text(a.DisplayName)
	if !v.raw && len(a.Metadata) > 0 {
		hidden := make(map[string]string, len(a.Metadata))
		for name, value := range a.Metadata {
			hidden[name] = v.text(value)
		}
		a.Metadata = hidden
	}
	return &a
}

func (v *veil) wrap(w *Wrap) *Wrap {
	if w == nil {
		return nil
	}
	c := *w
	c.Token, c.Accessor, c.WrappedAccessor = v.text(c.Token), v.accessor(c.Accessor), v.accessor(c.WrappedAccessor)
	return &c
}

// data hides the texts in JSON, except those whose nearest name is in plain, whether
// alone or in a list, as Vault does. Names, numbers, true, false and null stay. Data
// that is not valid JSON, too deep or too long is hidden as a whole. So is an object or
// a list that is in a field of a name in whole, which costs one HMAC, however many texts
// there are in it: that of its bytes as they came.
func (v *veil) data(raw []byte, plain, whole []string, list bool) []byte {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil
	}
	w := dataWriter{veil: v, in: raw, out: make([]byte, 0, 512), plain: plain, whole: whole, list: list && v.elide}
	if !utf8.Valid(raw) || !json.Valid(raw) || !w.value(0, v.raw) {
		return fmt.Appendf(nil, `{"omitted_bytes":%d,"omitted_hmac":"%s"}`, len(raw), v.append(nil, raw))
	}
	return w.out
}

// A dataWriter copies valid JSON without its space, and hides texts. Its methods
// return false if the data exceeds a limit.
type dataWriter struct {
	veil  *veil
	in    []byte // the rest
	out   []byte
	plain []string // names of fields; texts whose nearest name is one of them are not hidden
	whole []string // names of fields of the outermost object
	list  bool
}

// next skips space and returns the first byte after it.
func (w *dataWriter) next() byte {
	w.in = bytes.TrimLeft(w.in, " \t\r\n")
	return w.in[0]
}

// value copies one value. If clear is true, texts in it are not hidden.
func (w *dataWriter) value(depth int, clear bool) bool {
	c := w.next()
	switch {
	case depth > maxNest || len(w.out) > maxData:
		return false
	case c == '{' || c == '[':
		return w.group(depth, clear)
	case c == '"' && !clear:
		w.out = append(w.veil.append(append(w.out, '"'), unquote(w.text())), '"')
		return true
	case c == '"':
		return w.copy(w.text())
	}
	n := bytes.IndexAny(w.in, ",]} \t\r\n")
	if n < 0 {
		n = len(w.in)
	}
	word := w.in[:n]
	w.in = w.in[n:]
	return w.copy(word)
}

func (w *dataWriter) copy(token []byte) bool {
	w.out = append(w.out, token...)
	return len(w.out) <= maxData
}

// text takes a text with its quotes from in.
func (w *dataWriter) text() []byte {
	n := 1
	for w.in[n] != '"' {
		if w.in[n] == '\\' {
			n++
		}
		n++
	}
	token := w.in[:n+1]
	w.in = w.in[n+1:]
	return token
}

// unquote returns the text of a quoted token.
func unquote(token []byte) []byte {
	if bytes.IndexByte(token, '\\') < 0 {
		return token[1 : len(token)-1]
	}
	var text string
	json.Unmarshal(token, &text) // the token is valid
	return []byte(text)
}

// group copies an object or a list.
func (w *dataWriter) group(depth int, clear bool) bool {
	first := w.in[0]
	w.out, w.in = append(w.out, first), w.in[1:]
	for {
		c := w.next()
		if c == ']' || c == '}' || c == ',' {
			w.out, w.in = append(w.out, c), w.in[1:]
			if c != ',' {
				return len(w.out) <= maxData
			}
			w.next()
		}
		inside := clear
		if first == '{' {
			token := w.text()
			if !w.copy(token) {
				return false
			}
			w.next()
			w.out, w.in = append(w.out, ':'), w.in[1:]
			name := string(unquote(token))
			inside = w.veil.raw || slices.Contains(w.plain, name)
			if depth == 0 {
				if w.list && (name == "keys" || name == "key_info") && (w.next() == '[' || w.in[0] == '{') {
					w.out = strconv.AppendInt(w.out, int64(w.count()), 10)
					continue
				}
				if !inside && slices.Contains(w.whole, name) && (w.next() == '[' || w.in[0] == '{') {
					from := w.in
					w.count()
					w.out = append(w.veil.append(append(w.out, '"'), from[:len(from)-len(w.in)]), '"')
					continue
				}
			}
		}
		if !w.value(depth+1, inside) {
			return false
		}
	}
}

// count takes an object or a list from in and returns how many members it has.
func (w *dataWriter) count() (members int) {
	depth, empty := 0, true
	for {
		switch c := w.next(); c {
		case '"':
			w.text()
			empty = false
			continue
		case '{', '[':
			empty = empty && depth == 0
			depth++
		case '}', ']':
			depth--
		case ',':
			if depth == 1 {
				members++
			}
		default:
			empty = false
		}
		if w.in = w.in[1:]; depth == 0 {
			if !empty {
				members++
			}
			return members
		}
	}
}

// show returns what the lines of a request and of its answer have in common.
func (v *veil) show(e *Entry) ([]byte, error) {
	auth := &Auth{TokenType: "default"} // as Vault writes if there is no token
	secret := v.text(e.Secret)
	if e.Auth != nil {
		auth = v.auth(*e.Auth)
		auth.ClientToken = secret
	}
	if e.Decided {
		auth.PolicyResults = &policyResults{e.Allowed}
	}
	request := shownRequest{
		ID: e.ID, Operation: e.Operation,
		MountPoint: e.Mount.Point, MountType: e.Mount.Type, MountAccessor: e.Mount.Accessor, MountClass: e.Mount.Class,
		ClientToken: secret, TokenAccessor: auth.Accessor, Namespace: shownNamespace{"root"}, Path: e.Path,
		RemoteAddr: e.RemoteAddr, RemotePort: e.RemotePort,
		WrapTTL: int64(e.WrapTTL / time.Second), CertSerial: e.CertSerial,
	}
	b := []byte(`"auth":`)
	a, err := json.Marshal(auth)
	if err != nil {
		return nil, err
	}
	r, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	return appendData(append(append(append(b, a...), `,"request":`...), r...), v.data(e.Data, e.Plain, e.Whole, false)), nil
}

// appendData adds the field data to the object at the end of b.
func appendData(b, data []byte) []byte {
	if data == nil {
		return b
	}
	b = b[:len(b)-1]
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return append(append(append(b, `"data":`...), data...), '}')
}

// showOutcome returns the fields that only the line of an answer has.
func (v *veil) showOutcome(m Mount, o *Outcome) ([]byte, error) {
	response := shownResponse{
		MountPoint: m.Point, MountType: m.Type, MountAccessor: m.Accessor, MountClass: m.Class,
		Warnings: o.Warnings, Wrap: v.wrap(o.Wrap),
	}
	if o.Auth != nil {
		response.Auth = v.auth(*o.Auth)
	}
	r, err := json.Marshal(response)
	if err != nil {
		return nil, err
	}
	return appendData(append([]byte(`,"response":`), r...), v.data(o.Data, o.Plain, o.Whole, o.List)), nil
}

func appendError(b []byte, text string) []byte {
	if text == "" {
		return b
	}
	quoted, _ := json.Marshal(Shorten(text)) // strings always encode
	return append(append(b, `,"error":`...), quoted...)
}

// Shorten cuts text to the length allowed in a line.
func Shorten(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + "..."
	}
	return text
}
