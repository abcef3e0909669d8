package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

const plain = `{
  "version": 4,
  "terraform_version": "1.11.4",
  "serial": 41,
  "lineage": "5ea2a5f5-7e5f-4b4e-9f3d-0c6a1f9f8a11",
  "outputs": {"serial": {"value": "7\"]}", "type": "string"}, "secret": {"value": "x", "type": "string", "sensitive": true}},
  "resources": [{"mode": "managed", "serial": 3, "instances": [{"attributes": {"lineage": "no"}}]}],
  "check_results": null
}
`

const encrypted = `{"serial":7,"lineage":"abc","meta":{"key_provider.x":"eyJ9"},"encrypted_data":"AAAA","encryption_version":"v0"}`

// sorted is the state as jq -S writes it.
const sorted = `{"check_results":null,"lineage":"abc","outputs":{},"resources":[{"serial":9}],"serial":12,"terraform_version":"1.9","version":4}`

func scan(text string, size int) (*Scanner, error) {
	s := new(Scanner)
	for p := []byte(text); len(p) > 0; p = p[min(size, len(p)):] {
		s.Write(p[:min(size, len(p))])
	}
	return s, s.Close()
}

func TestScanner(t *testing.T) {
	for _, c := range []struct {
		text      string
		serial    uint64
		lineage   string
		terraform string
		encrypted bool
	}{
		{plain, 41, "5ea2a5f5-7e5f-4b4e-9f3d-0c6a1f9f8a11", "1.11.4", false},
		{encrypted, 7, "abc", "", true},
		{sorted, 12, "abc", "1.9", false},
		{`{"version":3,"serial":18446744073709551615,"lineage":"\u0061\"","modules":[]}`, 1<<64 - 1, `a"`, "", false},
		{`{}`, 0, "", "", false},
	} {
		for _, size := range []int{1, 7, 1 << 20} {
			s, err := scan(c.text, size)
			if err != nil || s.Serial != c.serial || s.Lineage != c.lineage || s.Terraform != c.terraform || s.Encrypted != c.encrypted {
				t.Errorf("%.60s in pieces of %d: %+v, %v", c.text, size, s, err)
			}
		}
	}
	for _, text := range []string{
		"", " ", "[]", "null", `"x"`, "x", "{", plain[:len(plain)-3], plain[:60], `{"serial":"1"}`, `{"serial":-1}`, `{"serial":{}}`, `{"lineage":3}`,
		`{"serial":1,"lineage":"a","resources":[`, `<html>}`, `{"a":1}x`, `{a:1}`, `{"serial":1 2}`, `{"a" "b"}`,
		`{"serial":1,"serial":2,"resources":[],"lineage":"x"}`,
	} {
		if s, err := scan(text, 5); !errors.Is(err, ErrNotState) {
			t.Errorf("%q is taken for a state: %+v, %v", text, s, err)
		}
	}
}

func TestSetSerial(t *testing.T) {
	for _, text := range []string{plain, sorted} {
		s, err := scan(text, 9)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := SetSerial(&b, iotest.OneByteReader(strings.NewReader(text)), s, 1000); err != nil {
			t.Fatal(err)
		}
		want := strings.Replace(text, fmt.Sprintf(`"serial": %d`, s.Serial), `"serial": 1000`, 1)
		want = strings.Replace(want, fmt.Sprintf(`"serial":%d,`, s.Serial), `"serial":1000,`, 1)
		if b.String() != want {
			t.Errorf("another serial: %s", b.String())
		}
	}
	for text, want := range map[string]error{encrypted: ErrEncrypted, `{"lineage":"a"}`: ErrNotState} {
		s, _ := scan(text, 9)
		if err := SetSerial(new(strings.Builder), strings.NewReader(text), s, 2); !errors.Is(err, want) {
			t.Errorf("another serial for %s: %v", text, err)
		}
	}
}

func TestOutputs(t *testing.T) {
	b, err := Outputs(iotest.HalfReader(strings.NewReader(plain)))
	if err != nil {
		t.Fatal(err)
	}
	var got, want map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(plain), &want); err != nil {
		t.Fatal(err)
	}
	want["resources"] = []any{}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	broken := errors.New("broken")
	if b, err := Outputs(io.MultiReader(strings.NewReader(`{"version":4,"outputs":{}`), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("what cannot be read: %s, %v", b, err)
	}
	for text, want := range map[string]error{
		`{"version":4]`: ErrNotState, `{"version":4,"resources":["` + strings.Repeat("x", 3*MaxOutputs) + `"]}`: ErrTooLarge,
		encrypted: ErrEncrypted, `{"version":3,"modules":[]}`: ErrNotState, plain[:200]: ErrNotState, "": ErrNotState, "[]": ErrNotState,
		`{"version":4,"outputs":{"x":"` + strings.Repeat("x", 3*MaxOutputs) + `"}}`: ErrTooLarge,
	} {
		if _, err := Outputs(strings.NewReader(text)); !errors.Is(err, want) {
			t.Errorf("outputs of %.40s: %v, want %v", text, err, want)
		}
	}
}

func TestCodec(t *testing.T) {
	var c Codec
	random := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, Piece)
	random.Read(noise)
	for _, piece := range [][]byte{{}, []byte("x"), bytes.Repeat([]byte(plain), Piece/len(plain)), noise} {
		frame, err := c.Compress(piece)
		if err != nil {
			t.Fatal(err)
		}
		if len(frame) > 1<<20 {
			t.Errorf("a piece of %d bytes becomes a frame of %d", len(piece), len(frame))
		}
		back, err := c.Decompress(nil, frame)
		if err != nil || !bytes.Equal(back, piece) {
			t.Errorf("a piece of %d bytes comes back as %d, %v", len(piece), len(back), err)
		}
		for _, bad := range [][]byte{frame[:len(frame)/2], append(bytes.Clone(frame), 1)} {
			if back, err := c.Decompress(nil, bad); !errors.Is(err, ErrDamaged) && len(bad) > 0 {
				t.Errorf("a damaged frame decompresses to %d bytes, %v", len(back), err)
			}
		}
	}
	if _, err := c.Compress(make([]byte, Piece+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a piece that is too large: %v", err)
	}
	half, err := c.Compress(make([]byte, Piece))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Decompress(nil, append(half, half...)); !errors.Is(err, ErrDamaged) {
		t.Errorf("two pieces in one: %v", err)
	}
}

func FuzzDecompress(f *testing.F) {
	var c Codec
	frame, _ := c.Compress([]byte(plain))
	f.Add(frame)
	f.Fuzz(func(t *testing.T, b []byte) {
		if piece, err := c.Decompress(nil, b); err == nil && len(piece) > Piece {
			t.Errorf("%d bytes", len(piece))
		}
	})
}

// What a Scanner says of a state is what encoding/json reads in it.
func FuzzScanner(f *testing.F) {
	for _, text := range []string{plain, encrypted, sorted, "{}", `{"serial":1,"serial":2}`} {
		f.Add(text, 3)
	}
	f.Fuzz(func(t *testing.T, text string, size int) {
		s, err := scan(text, max(size, 1))
		if err == nil && s.SerialTo > int64(len(text)) {
			t.Errorf("the serial of %q is at %d", text, s.SerialTo)
		}
		var want struct {
			Serial  uint64 `json:"serial"`
			Lineage string `json:"lineage"`
		}
		d := json.NewDecoder(strings.NewReader(text))
		if d.Decode(&want) != nil || d.More() || strings.Count(text, "serial") > 1 || strings.Count(text, "lineage") > 1 || strings.Contains(text, `\`) || len(text) > maxScalar ||
			strings.Contains(strings.ToLower(strings.NewReplacer("serial", "", "lineage", "").Replace(text)), "serial") ||
			strings.Contains(strings.ToLower(strings.NewReplacer("serial", "", "lineage", "").Replace(text)), "lineage") || strings.Contains(text, "null") {
			return // not valid, or one where encoding/json takes another member
		}
		if err != nil {
			return // stricter: a serial that is no number, say
		}
		if s.Serial != want.Serial || s.Lineage != want.Lineage && strings.ToValidUTF8(s.Lineage, "") == s.Lineage {
			t.Errorf("%q: %+v, want %+v", text, s, want)
		}
	})
}
