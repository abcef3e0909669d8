package state

import (
	"bytes"
	"encoding/json"
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

// MaxOutputs is how many bytes the outputs of a state may have for [Outputs].
const MaxOutputs = 16 << 20

// Outputs returns a state that has the root outputs of another, sensitive ones included,
// and no resource. ErrEncrypted, ErrTooLarge, ErrNotState.
func Outputs(r io.Reader) ([]byte, error) {
	d := json.NewDecoder(r)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%w: it is not one JSON object", ErrNotState)
	}
	kept := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotState, err)
		}
		switch name, _ := t.(string); name {
		case "version", "terraform_version", "serial", "lineage", "outputs":
			var raw json.RawMessage
			if err := d.Decode(&raw); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrNotState, err)
			}
			if len(raw) > MaxOutputs {
				return nil, fmt.Errorf("the outputs have more than %d MiB: %w", MaxOutputs>>20, ErrTooLarge)
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
	if string(kept["version"]) != "4" {
		return nil, fmt.Errorf("%w of version 4", ErrNotState)
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
			return fmt.Errorf("%w: %w", ErrNotState, err)
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
