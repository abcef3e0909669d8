package kv

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// Data is a JSON object or null that came from outside and was checked by
// Parse. The zero Data is "not given".
type Data struct{ raw []byte }

// Parse checks and compacts JSON for Put, Patch and the custom metadata; name
// is the field's, for the errors. Empty input gives the zero Data. The rest of
// the text is kept as it is: order and repetition of names, digits of numbers,
// escapes. It may not be nested deeper than 10,000 levels. Errors: ErrInvalid.
func Parse(name string, raw json.RawMessage) (Data, error) {
	if len(raw) == 0 {
		return Data{}, nil
	}
	var b bytes.Buffer
	b.Grow(len(raw))
	if err := json.Compact(&b, raw); err != nil {
		// The decoder's own text quotes the input.
		return Data{}, invalid(name + " is not valid JSON, or is nested too deeply")
	}
	return Compact(name, b.Bytes())
}

// Compact is Parse for what the caller knows to be valid JSON without white
// space between its tokens. The text is not copied.
func Compact(name string, raw json.RawMessage) (Data, error) {
	switch {
	case len(raw) == 0:
		return Data{}, nil
	case !utf8.Valid(raw):
		return Data{}, invalid(name + " is not valid UTF-8")
	case raw[0] != '{' && string(raw) != "null":
		return Data{}, invalid(name + " must be a JSON object")
	}
	return Data{raw}, nil
}

// AppendJSON appends the JSON as it is kept.
func (d Data) AppendJSON(b []byte) []byte { return appendRaw(b, d.raw) }

// Size is how many bytes AppendJSON appends.
func (d Data) Size() int { return len(d.raw) }

// object decodes d in one pass, numbers by their digits; nil for null and for
// no data at all.
func (d Data) object() (map[string]any, error) {
	if len(d.raw) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(d.raw))
	dec.UseNumber()
	var object map[string]any
	if err := dec.Decode(&object); err != nil {
		return nil, err
	}
	return object, nil
}

// merge applies a merge patch (RFC 7396) to target and returns the result,
// which may share parts with both.
func merge(target, patch map[string]any) map[string]any {
	if target == nil {
		target = make(map[string]any, len(patch))
	}
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(target, k)
		case map[string]any:
			inner, _ := target[k].(map[string]any)
			target[k] = merge(inner, v)
		default:
			target[k] = v
		}
	}
	return target
}

// strip replaces what is not a non-empty object by null, in place, and below
// depth levels everything; a depth of 0 or less sets no limit.
func strip(object map[string]any, depth int) {
	for k, v := range object {
		if inner, _ := v.(map[string]any); len(inner) > 0 && depth != 1 {
			strip(inner, depth-1)
		} else {
			object[k] = nil
		}
	}
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// AppendJSON appends the secret as Vault's answer to a read has it under
// "data": {"data":...,"metadata":{...}}.
func (s Secret) AppendJSON(b []byte) []byte {
	b = appendRaw(append(b, `{"data":`...), s.Data)
	b = s.Meta.AppendJSON(append(b, `,"metadata":`...))
	return append(b, '}')
}

// Size is about how many bytes AppendJSON appends.
func (s Secret) Size() int { return len(s.Data) + len(s.Meta.Custom) }

// AppendJSON appends the metadata of a version as Vault's answers have it.
func (m Meta) AppendJSON(b []byte) []byte {
	b = appendTime(append(b, `{"created_time":`...), m.Created)
	b = appendRaw(append(b, `,"custom_metadata":`...), m.Custom)
	b = appendTime(append(b, `,"deletion_time":`...), m.Deletion)
	b = strconv.AppendBool(append(b, `,"destroyed":`...), m.Destroyed)
	b = strconv.AppendUint(append(b, `,"version":`...), m.Version, 10)
	return append(b, '}')
}

// AppendJSON appends the metadata of a secret as Vault's answers have it.
func (m Metadata) AppendJSON(b []byte) []byte {
	b = strconv.AppendBool(append(b, `{"cas_required":`...), m.CASRequired)
	b = appendTime(append(b, `,"created_time":`...), m.Created)
	b = strconv.AppendUint(append(b, `,"current_metadata_version":`...), m.MetadataVersion, 10)
	b = strconv.AppendUint(append(b, `,"current_version":`...), m.Current, 10)
	b = appendRaw(append(b, `,"custom_metadata":`...), m.Custom)
	b = append(b, `,"delete_version_after":"`+m.DeleteVersionAfter.String()+`"`...)
	b = strconv.AppendUint(append(b, `,"max_versions":`...), uint64(m.MaxVersions), 10)
	b = strconv.AppendBool(append(b, `,"metadata_cas_required":`...), m.MetadataCASRequired)
	b = strconv.AppendUint(append(b, `,"oldest_version":`...), m.Oldest, 10)
	b = appendTime(append(b, `,"updated_time":`...), m.Updated)
	b = append(b, `,"versions":{`...)
	for i, v := range m.Versions {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendUint(append(b, '"'), v.Version, 10), '"')
		b = appendTime(append(b, `:{"created_time":`...), v.Created)
		b = appendTime(append(b, `,"deletion_time":`...), v.Deletion)
		b = append(strconv.AppendBool(append(b, `,"destroyed":`...), v.Destroyed), '}')
	}
	return append(b, "}}"...)
}

// AppendJSON appends the settings of a mount as Vault's answers have them.
func (c Config) AppendJSON(b []byte) []byte {
	b = strconv.AppendBool(append(b, `{"cas_required":`...), c.CASRequired)
	b = append(b, `,"delete_version_after":"`+c.DeleteVersionAfter.String()+`"`...)
	b = strconv.AppendUint(append(b, `,"max_versions":`...), uint64(c.MaxVersions), 10)
	b = strconv.AppendBool(append(b, `,"metadata_cas_required":`...), c.MetadataCASRequired)
	return append(b, '}')
}

// MarshalJSON gives what AppendJSON appends.
func (s Secret) MarshalJSON() ([]byte, error) { return s.AppendJSON(nil), nil }

// MarshalJSON gives what AppendJSON appends.
func (m Meta) MarshalJSON() ([]byte, error) { return m.AppendJSON(nil), nil }

// MarshalJSON gives what AppendJSON appends.
func (m Metadata) MarshalJSON() ([]byte, error) { return m.AppendJSON(nil), nil }

// MarshalJSON gives what AppendJSON appends.
func (c Config) MarshalJSON() ([]byte, error) { return c.AppendJSON(nil), nil }

func appendRaw(b []byte, raw json.RawMessage) []byte {
	if raw == nil {
		return append(b, "null"...)
	}
	return append(b, raw...)
}

// appendTime appends a time as Vault prints it, "" for none.
func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	if !t.IsZero() {
		b = t.AppendFormat(b, time.RFC3339Nano)
	}
	return append(b, '"')
}
