package transit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sealkeep/sealkeep/api"
)

// Texts of every length, with what ends or breaks them at every place.
func TestScanText(t *testing.T) {
	for length := range 40 {
		for at := range length {
			for _, c := range []string{`"`, `\n`, `\u00e9`, `\"`, "\x1f", "\x00", "\x7f", "\x80", "é", "!", `\x`, `\`} {
				raw := `"` + strings.Repeat("a", at) + c + strings.Repeat("b", length-at) + `"`
				s := &scanner{in: []byte(raw)}
				text := s.text()
				var want string
				if err := json.Unmarshal([]byte(raw), &want); (err == nil) != s.end() {
					t.Fatalf("%q: %v, and the scanner says %v", raw, err, s.end())
				} else if err == nil && utf8.ValidString(raw) && string(text) != want {
					t.Fatalf("%q is %q, want %q", raw, text, want)
				}
			}
		}
	}
}

func TestScanDepth(t *testing.T) {
	for _, n := range []int{maxDepth, maxDepth + 1} {
		raw := strings.Repeat("[", n) + strings.Repeat("]", n)
		s := &scanner{in: []byte(raw)}
		s.value()
		if s.end() != json.Valid([]byte(raw)) {
			t.Errorf("%d lists in one another: %v", n, s.end())
		}
	}
}

// The bodies that are taken are those that encoding/json takes, and what is read of
// them is the same.
func FuzzInput(f *testing.F) {
	for _, seed := range []string{
		`{}`, ``, `null`, `[]`, `{"plaintext":"eA==","key_version":1}`, `{"plaintext":1e5,"context":true,"reference":null}`,
		`{"batch_input":[{"plaintext":"a","reference":"\u00e9"},{"plaintext":"b","x":[{}]}],"batch_input":null}`,
		`{"batch_input":[{"plaintext":"a"}, 1, "x"]}`, `{"plaintext":"a","plaintext":"b"}`, `{"pl\u0061intext":"a"}`, `{"plaintext":-0.5E+1}`, `{"a":01}`, `{"a":1,}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var in in[encrypting]
		_, err := in.Decode(&api.Request{Op: api.Write, Body: body})
		body = bytes.TrimSpace(body)
		var want map[string]json.RawMessage
		if wrong := json.Unmarshal(body, &want); len(body) > 0 && wrong != nil {
			if err == nil {
				t.Fatalf("%q is taken, which is %v", body, wrong)
			}
			return
		}
		if err != nil || !utf8.Valid(body) {
			if err != nil && strings.HasPrefix(err.Error(), "failed to parse JSON") {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		same(t, want, &in.own)
		var items []map[string]json.RawMessage
		if raw := want["batch_input"]; raw != nil && json.Unmarshal(raw, &items) != nil {
			t.Fatalf("%q is taken as a batch", raw)
		}
		if len(items) != len(in.batch) || in.batched != (items != nil) {
			t.Fatalf("%d items, want %d", len(in.batch), len(items))
		}
		for i := range items {
			same(t, items[i], &in.batch[i])
		}
	})
}

func same(t *testing.T, want map[string]json.RawMessage, it *item) {
	t.Helper()
	for i, name := range textNames {
		if name == textNames[data] || name == textNames[mac] || name == textNames[signature] || name == textNames[ciphertext] {
			continue // of other uses
		}
		raw := want[name]
		if len(raw) > 0 && raw[0] == '"' || len(it.text[i]) > 0 {
			if string(it.text[i]) != api.Scalar(raw) {
				t.Errorf("%s is %q, want %s", name, it.text[i], raw)
			}
		}
	}
}

// What follows the version in what a key has made is never read beyond its end.
func FuzzCiphertext(f *testing.F) {
	for _, seed := range []string{"", "vault:v1:", "vault:v1:eA==", "vault:v", "vault:v99999999999999999999:", "vault:v-1:x", "vault:v1", "vault:v1:" + strings.Repeat("A", 64)} {
		f.Add([]byte(seed))
	}
	keys := make(map[*kind]*key)
	for _, kind := range kinds {
		if !kind.symmetric() {
			continue
		}
		p := &policy{Type: kind.name, Latest: 1, MinDecryption: 1}
		r, err := generate(p)
		if err != nil {
			f.Fatal(err)
		}
		k := &key{policy: *p, kind: kind}
		v, err := k.parse(1, r)
		if err != nil {
			f.Fatal(err)
		}
		k.versions = map[int]*version{1: v}
		keys[kind] = k
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, k := range keys {
			it := &item{v: k.versions[1]}
			it.text[ciphertext] = b
			n, err := k.decryption(0, it)
			if err != nil {
				continue
			}
			if n != 1 {
				t.Errorf("version %d", n)
			}
			if plain, err := k.decrypt(it, nil, new([]byte)); err == nil {
				t.Errorf("%q decrypts to %q", b, plain)
			}
		}
	})
}

func TestFieldsOfUses(t *testing.T) {
	for name, u := range map[string]interface {
		Names() []string
		Fields() []api.Field
	}{"encrypt": new(in[encrypting]), "decrypt": new(in[decrypting]), "rewrap": new(in[rewrapping]), "datakey": new(in[keying]), "hmac": new(in[macing]), "sign": new(in[signing]), "verify": new(in[verifying])} {
		var names []string
		for _, f := range u.Fields() {
			names = append(names, f.Name)
		}
		if !reflect.DeepEqual(names, u.Names()) || len(names) < 4 || slices.Contains(names, "") {
			t.Errorf("%s has %v and %v", name, names, u.Names())
		}
	}
}
