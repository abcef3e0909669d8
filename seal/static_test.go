package seal

import (
	"strings"
	"testing"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/v2/aead"

	"github.com/sealkeep/sealkeep/config"
)

func TestStatic(t *testing.T) {
	clean(t)
	key, id := NewKey()
	s := load(t, `seal "static" {
		name           = "local"
		priority       = 7
		current_key    = "`+key+`"
		current_key_id = "`+id+`"
	}`)
	if s.Name() != "local" || s.Type() != "static" || s.Priority() != 7 || s.Disabled() {
		t.Errorf("got %s, %s, %d, %v", s.Name(), s.Type(), s.Priority(), s.Disabled())
	}
	blob, got := roundTrip(t, s)
	if got != id {
		t.Errorf("key ID is %q, not %q", got, id)
	}
	again, _, err := s.Wrap(soon(t), secret, aad)
	if err != nil || string(again) == string(blob) {
		t.Errorf("two blobs are the same, or %v", err)
	}

	// The next key: the old one still opens, what is new is wrapped with the new one.
	key2, id2 := NewKey()
	t.Setenv("VAULT_SEAL_TYPE", "static")
	t.Setenv("BAO_STATIC_SEAL_CURRENT_KEY", key2)
	t.Setenv("BAO_STATIC_SEAL_CURRENT_KEY_ID", id2)
	t.Setenv("BAO_STATIC_SEAL_PREVIOUS_KEY", key)
	t.Setenv("BAO_STATIC_SEAL_PREVIOUS_KEY_ID", id)
	s2 := environment(t)
	opens(t, s2, blob)
	blob2, got := roundTrip(t, s2)
	if got != id2 {
		t.Errorf("key ID is %q, not %q", got, id2)
	}
	_, err = s.Unwrap(soon(t), blob2, aad)
	hasClass(t, err, BlobMismatch, "local", id2, "previous_key")

	// Another key under the same ID.
	other, _ := NewKey()
	_, err = make1(t, block("static", "s", "current_key", other, "current_key_id", id)).Unwrap(soon(t), blob, aad)
	hasClass(t, err, BlobMismatch, id)
	if strings.Contains(err.Error(), other) {
		t.Error("the error shows the key")
	}
}

func TestStaticShortDataKey(t *testing.T) {
	func() { // trap: the library slices without looking
		defer func() {
			if recover() == nil {
				t.Error("the library has changed: a short ciphertext does not panic")
			}
		}()
		w := aead.NewWrapper()
		if err := w.SetAesGcmKeyBytes(make([]byte, 32)); err != nil {
			t.Error(err)
		}
		w.Decrypt(t.Context(), &wrapping.BlobInfo{Ciphertext: []byte("short")})
	}()
	key, id := NewKey()
	s := make1(t, block("static", "s", "current_key", key, "current_key_id", id))
	for _, n := range []int{1, 3, 11, 12, 27, 28} {
		blob, err := encode(&wrapping.BlobInfo{Iv: make([]byte, nonceSize), Ciphertext: make([]byte, 48),
			KeyInfo: &wrapping.KeyInfo{Mechanism: envelope, KeyId: id, WrappedKey: make([]byte, n)}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Unwrap(soon(t), blob, aad)
		hasClass(t, err, BlobMismatch)
	}
}

func TestStaticWrongParams(t *testing.T) {
	key, id := NewKey()
	key2, id2 := NewKey()
	for _, c := range []struct {
		params []string
		want   string
	}{
		{[]string{"current_key_id", id}, "current_key and current_key_id belong together"},
		{[]string{"current_key", key}, "current_key and current_key_id belong together"},
		{[]string{"current_key", key[:20], "current_key_id", id}, "current_key: "},
		{[]string{"current_key", key, "current_key_id", id, "previous_key", key2}, "previous_key and previous_key_id belong together"},
		{[]string{"current_key", key, "current_key_id", id, "previous_key", key2, "previous_key_id", id}, "two keys have the ID"},
		{[]string{"current_key", key, "current_key_id", id, "previous_key", key, "previous_key_id", id2}, "are IDs of one key"},
		{[]string{"current_key", key, "current_key_id", id, "previous_key", key, "previous_key_id", id}, "previous_key is current_key"},
	} {
		_, err := New(block("static", "local", c.params...))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), `test.hcl:1: seal "local" (static): `) {
			t.Errorf("%v: got %v, want %q", c.params, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), key[:20]) {
			t.Errorf("the error shows a key: %v", err)
		}
	}
	if _, err := New(config.Seal{Type: "gcpckms", Name: "x", At: "a.hcl:9"}); err == nil || !strings.Contains(err.Error(), "use awskms, static, transit") {
		t.Errorf("unknown type: %v", err)
	}
}

func TestNewKey(t *testing.T) {
	key, id := NewKey()
	other, otherID := NewKey()
	if key == other || id == otherID {
		t.Error("two new keys are the same")
	}
	b, err := config.DecodeKey(key)
	if err != nil || len(b) != 32 || len(id) != 16 {
		t.Errorf("key of %d bytes, ID %q, %v", len(b), id, err)
	}
}
