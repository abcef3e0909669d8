package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/v2/aead"

	"github.com/sealkeep/sealkeep/config"
)

// static wraps data keys with AES-256-GCM under a configured key. A previous key still opens.
type static struct {
	current  string            // ID
	keys     map[string][]byte // by ID; one or two
	settings []string          // the keys as configured
}

func newStatic(c config.Seal) (service, error) {
	s := &static{current: c.Get("current_key_id"), keys: map[string][]byte{}}
	for _, which := range []string{"current", "previous"} {
		id, text := c.Get(which+"_key_id"), c.Get(which+"_key")
		if which == "previous" && id == "" && text == "" {
			break
		}
		if id == "" || text == "" {
			return nil, fmt.Errorf("%s_key and %[1]s_key_id belong together: set both (sealkeep keygen makes them)", which)
		}
		key, err := config.DecodeKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s_key: %w", which, err)
		}
		if len(key) != keySize {
			return nil, fmt.Errorf("%s_key has %d bytes, not %d (sealkeep keygen makes one)", which, len(key), keySize)
		}
		for other, k := range s.keys {
			switch same := bytes.Equal(k, key); {
			case other == id && same:
				return nil, errors.New("previous_key is current_key: remove previous_key and previous_key_id")
			case other == id:
				return nil, fmt.Errorf("two keys have the ID %q: give the new one another current_key_id", id)
			case same:
				return nil, fmt.Errorf("%q and %q are IDs of one key: give current_key a new key, or remove previous_key", other, id)
			}
		}
		s.keys[id] = key
		s.settings = append(s.settings, text)
	}
	return s, nil
}

// NewKey returns a random key for a static seal, 32 bytes in base64, and an ID for it, which does not reveal the key.
func NewKey() (key, id string) {
	b := make([]byte, keySize)
	rand.Read(b) // never fails
	return base64.StdEncoding.EncodeToString(b), config.KeyID(b)
}

func (s *static) connect(context.Context) (client, error) { return s, nil }

func (s *static) close() {}

func (s *static) secrets() []string { return s.settings }

func (s *static) explain(Class) string { return "the static key cannot be used" }

func (s *static) wrapper(ctx context.Context, id string) (*aead.Wrapper, error) {
	key, ok := s.keys[id]
	if !ok {
		return nil, mismatch("the blob was made by the key %q: set it as previous_key with previous_key_id", id)
	}
	w := aead.NewWrapper()
	_, err := w.SetConfig(ctx, wrapping.WithKeyId(id), aead.WithKey(key), aead.WithAeadType(wrapping.AeadTypeAesGcm))
	return w, err
}

func (s *static) keyID(context.Context) (string, error) { return s.current, nil }

func (s *static) wrap(ctx context.Context, key []byte) ([]byte, string, error) {
	w, err := s.wrapper(ctx, s.current)
	if err != nil {
		return nil, "", err
	}
	info, err := w.Encrypt(ctx, key)
	if err != nil {
		return nil, "", err
	}
	return info.Ciphertext, s.current, nil
}

func (s *static) unwrap(ctx context.Context, wrapped []byte, keyID string) ([]byte, error) {
	w, err := s.wrapper(ctx, keyID)
	if err != nil {
		return nil, err
	}
	if len(wrapped) < nonceSize { // the library would panic
		return nil, mismatch("the blob is damaged: its data key has %d bytes", len(wrapped))
	}
	key, err := w.Decrypt(ctx, &wrapping.BlobInfo{Ciphertext: wrapped})
	if err != nil {
		return nil, mismatch("the key %q does not open the blob: it is another key under the same ID, or the blob was altered", keyID)
	}
	return key, nil
}
