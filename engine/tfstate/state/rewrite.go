package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// SetSerial copies a state with another serial, and every other byte as it is. scanned
// has looked at the same state. ErrEncrypted: the serial stands inside, too.
func SetSerial(w io.Writer, r io.Reader, scanned *Scanner, serial uint64) error {
	switch {
	case scanned.Encrypted:
		return ErrEncrypted
	case scanned.SerialTo == 0:
		return fmt.Errorf("%w: it has no serial", ErrNotState)
	}
	if _, err := io.CopyN(w, r, scanned.SerialFrom); err != nil {
		return fmt.Errorf("copying a state: %w", err)
	}
	if _, err := io.WriteString(w, strconv.FormatUint(serial, 10)); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, r, scanned.SerialTo-scanned.SerialFrom); err != nil {
		return fmt.Errorf("copying a state: %w", err)
	}
	_, err := io.Copy(w, r)
	return err
}

// MaxOutputs is how many bytes one value of a state may have for [Outputs]: all of the
// outputs together, or a text in a resource. Its memory is a few times that.
const MaxOutputs = 4 << 20

// Outputs returns a state that has the root outputs of another, sensitive ones included,
// and no resource. ErrEncrypted, ErrTooLarge, ErrNotState, and the errors of r.
func Outputs(r io.Reader) ([]byte, error) {
	in := &bounded{in: r}
	in.decoder = json.NewDecoder(in)
	b, err := outputs(in.decoder)
	switch {
	case in.err != nil: // what could not be read is not to be taken for the end
		return nil, in.err
	case err != nil && !errors.Is(err, ErrEncrypted):
		return nil, fmt.Errorf("%w: %w", ErrNotState, err)
	}
	return b, err
}

// A bounded reader ends when the decoder keeps too much of what it has read.
type bounded struct {
	in      io.Reader
	decoder *json.Decoder
	read    int64
	err     error // but for io.EOF
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.read-b.decoder.InputOffset() > MaxOutputs {
		b.err = fmt.Errorf("a value of it has more than %d MiB: %w", MaxOutputs>>20, ErrTooLarge)
		return 0, b.err
	}
	n, err := b.in.Read(p)
	if b.read += int64(n); err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

var errObject = errors.New("it is not one JSON object")

func outputs(d *json.Decoder) ([]byte, error) {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errObject
	}
	kept := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch name, _ := t.(string); name {
		case "version", "terraform_version", "serial", "lineage", "outputs":
			var raw json.RawMessage
			if err := d.Decode(&raw); err != nil {
				return nil, err
			}
			kept[name] = raw
		case "encrypted_data", "encryption_version":
			return nil, ErrEncrypted
		default:
			if err := skip(d); err != nil {
				return nil, err
			}
		}
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') { // More ends at an error, too
		return nil, errObject
	}
	if string(kept["version"]) != "4" {
		return nil, errors.New("it is not of version 4")
	}
	if kept["outputs"] == nil {
		kept["outputs"] = json.RawMessage("{}")
	}
	b := []byte("{")
	for _, name := range []string{"version", "terraform_version", "serial", "lineage", "outputs"} {
		if raw := kept[name]; raw != nil {
			b = append(append(append(append(b, '"'), name...), `":`...), bytes.TrimSpace(raw)...)
			b = append(b, ',')
		}
	}
	return append(b, "\"resources\":[],\"check_results\":null}\n"...), nil
}

// skip passes over a value, token by token: resources may be large.
func skip(d *json.Decoder) error {
	for depth := 0; ; {
		t, err := d.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}
