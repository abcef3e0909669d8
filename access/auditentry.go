package access

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"sync"
	"time"
)

// What one line has room for. A request and its answer have maxData each for
// their data; above that the HMAC of all of it stands in its place.
const (
	maxData = 64 << 10 // bytes of JSON, after hashing
	maxText = 4 << 10  // bytes of an error, or of a path that is none
	maxNest = 64       // of objects and lists in data
)

// An Entry is one request, in the clear. What of it is secret is hashed for each
// device with the device's salt.
type Entry struct {
	ID         string
	Operation  string // read, list, update, patch or delete; "" when it is none of these
	Path       string
	Mount      EntryMount
	Token      *Token // nil when there was no valid one
	Secret     string // the token that was sent
	Decided    bool   // the policies were asked
	Allowed    bool   // and what they said
	Data       []byte // JSON; nil when there is none
	Plain      []string
	RemoteAddr string
	RemotePort int
	CertSerial string // of a client certificate that was verified
	WrapTTL    time.Duration

	shown []shownEntry
}

// An EntryMount says where the request went.
type EntryMount struct{ Point, Type, Accessor, Class string }

// A shownEntry is the entry as one device shows it.
type shownEntry struct {
	device *device
	fields []byte
}

// An Outcome is the answer to a request, in the clear. The zero value is one
// without content.
type Outcome struct {
	Error    string
	Data     []byte   // JSON; nil when there is none
	Plain    []string // fields of Data that are not hashed
	List     bool     // Data is that of a list
	Auth     *EntryAuth
	Wrap     *EntryWrap
	Warnings []string
}

// EntryAuth is a token, of who asks or in an answer. The names are Vault's.
type EntryAuth struct {
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

// EntryWrap is what is known of an answer that was wrapped.
type EntryWrap struct {
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
	ID            string          `json:"id,omitempty"`
	Operation     string          `json:"operation,omitempty"`
	MountPoint    string          `json:"mount_point,omitempty"`
	MountType     string          `json:"mount_type,omitempty"`
	MountAccessor string          `json:"mount_accessor,omitempty"`
	MountClass    string          `json:"mount_class,omitempty"`
	ClientToken   string          `json:"client_token,omitempty"`
	TokenAccessor string          `json:"client_token_accessor,omitempty"`
	Namespace     shownNamespace  `json:"namespace"`
	Path          string          `json:"path,omitempty"`
	Data          json.RawMessage `json:"data,omitempty"`
	RemoteAddr    string          `json:"remote_address,omitempty"`
	RemotePort    int             `json:"remote_port,omitempty"`
	WrapTTL       int64           `json:"wrap_ttl,omitempty"`
	CertSerial    string          `json:"client_certificate_serial_number,omitempty"`
}

type shownResponse struct {
	Auth          *EntryAuth      `json:"auth,omitempty"`
	MountPoint    string          `json:"mount_point,omitempty"`
	MountType     string          `json:"mount_type,omitempty"`
	MountAccessor string          `json:"mount_accessor,omitempty"`
	MountClass    string          `json:"mount_class,omitempty"`
	Data          json.RawMessage `json:"data,omitempty"`
	Warnings      []string        `json:"warnings,omitempty"`
	Wrap          *EntryWrap      `json:"wrap_info,omitempty"`
}

// A veil hides secrets from those who read the log: with the same salt the same
// text has the same HMAC, so that who knows a value can look for it.
type veil struct {
	salt         []byte
	raw          bool // hides nothing
	hmacAccessor bool
	elide        bool // lists are counted, not shown
	hashes       sync.Pool
}

const hmacPrefix = "hmac-sha256:"

// text is the HMAC of a text, that of "" is "".
func (v *veil) text(s string) string {
	if v.raw || s == "" {
		return s
	}
	return string(v.append(nil, s))
}

func (v *veil) accessor(s string) string {
	if !v.hmacAccessor {
		return s
	}
	return v.text(s)
}

func (v *veil) append(b []byte, s string) []byte {
	h, _ := v.hashes.Get().(hash.Hash)
	if h == nil {
		h = hmac.New(sha256.New, v.salt)
	}
	var sum [sha256.Size]byte
	h.Write([]byte(s))
	h.Sum(sum[:0])
	h.Reset()
	v.hashes.Put(h)
	return hex.AppendEncode(append(b, hmacPrefix...), sum[:])
}

func (v *veil) auth(a EntryAuth) *EntryAuth {
	a.ClientToken, a.Accessor = v.text(a.ClientToken), v.accessor(a.Accessor)
	return &a
}

func (v *veil) wrap(w *EntryWrap) *EntryWrap {
	if w == nil {
		return nil
	}
	c := *w
	c.Token, c.Accessor, c.WrappedAccessor = v.text(c.Token), v.accessor(c.Accessor), v.accessor(c.WrappedAccessor)
	return &c
}

// data hides the texts in JSON; names, numbers, true, false and null stay. What
// is no JSON, is too deep or would be too long is hidden as a whole.
func (v *veil) data(raw []byte, plain []string, list bool) json.RawMessage {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	w := dataWriter{veil: v, in: d, out: make([]byte, 0, 512), plain: plain, list: list && v.elide}
	err := w.value(0, v.raw)
	if err == nil {
		if _, end := d.Token(); end == nil {
			err = errData
		}
	}
	if err != nil {
		w.out = fmt.Appendf(nil, `{"omitted_bytes":%d,"omitted_hmac":"%s"}`, len(raw), v.append(nil, string(raw)))
	}
	return w.out
}

var errData = errors.New("not to be shown")

// A dataWriter copies JSON, hiding texts.
type dataWriter struct {
	veil  *veil
	in    *json.Decoder
	out   []byte
	plain []string // fields of the outermost object that are not hidden
	list  bool
}

func (w *dataWriter) value(depth int, clear bool) error {
	token, err := w.in.Token()
	if err != nil {
		return err
	}
	if depth > maxNest || len(w.out) > maxData {
		return errData
	}
	switch t := token.(type) {
	case json.Delim:
		return w.group(depth, clear, t)
	case string:
		if clear {
			return w.quote(t)
		}
		w.out = append(w.veil.append(append(w.out, '"'), t), '"')
	case json.Number:
		w.out = append(w.out, t...)
	case bool:
		w.out = strconv.AppendBool(w.out, t)
	default:
		w.out = append(w.out, "null"...)
	}
	return nil
}

func (w *dataWriter) quote(text string) error {
	if len(w.out)+len(text) > maxData {
		return errData
	}
	b, err := json.Marshal(text)
	w.out = append(w.out, b...)
	return err
}

// group copies an object or a list, of which the first character has been read.
func (w *dataWriter) group(depth int, clear bool, first json.Delim) error {
	w.out = append(w.out, byte(first))
	for n := 0; w.in.More(); n++ {
		if n > 0 {
			w.out = append(w.out, ',')
		}
		inside := clear
		if first == '{' {
			token, err := w.in.Token()
			if err != nil {
				return err
			}
			name, ok := token.(string)
			if !ok {
				return errData
			}
			if err := w.quote(name); err != nil {
				return err
			}
			w.out = append(w.out, ':')
			if depth == 0 {
				inside = clear || slices.Contains(w.plain, name)
				if w.list && (name == "keys" || name == "key_info") {
					if err := w.count(); err != nil {
						return err
					}
					continue
				}
			}
		}
		if err := w.value(depth+1, inside); err != nil {
			return err
		}
	}
	last, err := w.in.Token()
	if err != nil {
		return err
	}
	w.out = append(w.out, byte(last.(json.Delim)))
	if len(w.out) > maxData {
		return errData
	}
	return nil
}

// count writes how many members a list or an object has in its place.
func (w *dataWriter) count() error {
	var raw json.RawMessage
	if err := w.in.Decode(&raw); err != nil {
		return err
	}
	var list []json.RawMessage
	var object map[string]json.RawMessage
	json.Unmarshal(raw, &list) // one of them fits, or neither
	json.Unmarshal(raw, &object)
	w.out = strconv.AppendInt(w.out, int64(len(list)+len(object)), 10)
	return nil
}

// show writes what a request and its answer have in common, as one device shows
// it.
func (v *veil) show(e *Entry) ([]byte, error) {
	auth := EntryAuth{TokenType: "default"} // as Vault says of nobody
	accessor := ""
	if t := e.Token; t != nil {
		accessor = t.Accessor
		auth = EntryAuth{
			ClientToken: e.Secret, Accessor: t.Accessor, DisplayName: t.DisplayName, Policies: t.Policies, TokenPolicies: t.Policies,
			Metadata: t.Meta, RemainingUses: t.NumUses, EntityID: t.EntityID, TokenType: t.Type, TokenTTL: int64(t.TTL / time.Second),
			IssueTime: t.Created.UTC().Format(time.RFC3339),
		}
	}
	if e.Decided {
		auth.PolicyResults = &policyResults{e.Allowed}
	}
	request := shownRequest{
		ID: e.ID, Operation: e.Operation,
		MountPoint: e.Mount.Point, MountType: e.Mount.Type, MountAccessor: e.Mount.Accessor, MountClass: e.Mount.Class,
		ClientToken: v.text(e.Secret), TokenAccessor: v.accessor(accessor), Namespace: shownNamespace{"root"}, Path: e.Path,
		Data: v.data(e.Data, e.Plain, false), RemoteAddr: e.RemoteAddr, RemotePort: e.RemotePort,
		WrapTTL: int64(e.WrapTTL / time.Second), CertSerial: e.CertSerial,
	}
	b := []byte(`"auth":`)
	a, err := json.Marshal(v.auth(auth))
	if err != nil {
		return nil, err
	}
	r, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	return append(append(append(b, a...), `,"request":`...), r...), nil
}

// showOutcome writes what only the answer has.
func (v *veil) showOutcome(m EntryMount, o *Outcome) ([]byte, error) {
	response := shownResponse{
		MountPoint: m.Point, MountType: m.Type, MountAccessor: m.Accessor, MountClass: m.Class,
		Data: v.data(o.Data, o.Plain, o.List), Warnings: o.Warnings, Wrap: v.wrap(o.Wrap),
	}
	if o.Auth != nil {
		response.Auth = v.auth(*o.Auth)
	}
	r, err := json.Marshal(response)
	return append([]byte(`,"response":`), r...), err
}

func appendError(b []byte, text string) []byte {
	if text == "" {
		return b
	}
	quoted, _ := json.Marshal(Shorten(text)) // texts always encode
	return append(append(b, `,"error":`...), quoted...)
}

// Shorten cuts a text to what the log has room for.
func Shorten(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + "..."
	}
	return text
}
