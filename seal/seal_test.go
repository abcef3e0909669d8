package seal

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"google.golang.org/protobuf/proto"

	"github.com/sealkeep/sealkeep/config"
)

func TestBlobOtherPlace(t *testing.T) {
	key, id := NewKey()
	s := make1(t, block("static", "s", "current_key", key, "current_key_id", id))
	blob, _ := roundTrip(t, s)
	_, err := s.Unwrap(soon(t), blob, []byte("another slot"))
	hasClass(t, err, BlobMismatch, `seal "s"`, "another slot or store")
	for i := range blob { // every byte counts
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		if got, err := s.Unwrap(soon(t), bad, aad); err == nil && !bytes.Equal(got, secret) {
			t.Errorf("byte %d altered: opened to %q", i, got)
		} else if err != nil {
			hasClass(t, err, BlobMismatch)
		}
	}
	for n := range len(blob) {
		_, err := s.Unwrap(soon(t), blob[:n], aad)
		hasClass(t, err, BlobMismatch)
	}
}

func TestDecode(t *testing.T) {
	good := func() *wrapping.BlobInfo {
		return &wrapping.BlobInfo{Iv: make([]byte, nonceSize), Ciphertext: make([]byte, 48),
			KeyInfo: &wrapping.KeyInfo{Mechanism: envelope, KeyId: "k", WrappedKey: []byte("w")}}
	}
	for name, c := range map[string]struct {
		change func(*wrapping.BlobInfo)
		want   string
	}{
		"no key info":    {func(b *wrapping.BlobInfo) { b.KeyInfo = nil }, "does not say how"},
		"raw mechanism":  {func(b *wrapping.BlobInfo) { b.KeyInfo.Mechanism = 0 }, "mechanism 0"},
		"mechanism 2":    {func(b *wrapping.BlobInfo) { b.KeyInfo.Mechanism = 2 }, "mechanism 2"},
		"short IV":       {func(b *wrapping.BlobInfo) { b.Iv = b.Iv[:11] }, "11 bytes"},
		"no IV":          {func(b *wrapping.BlobInfo) { b.Iv = nil }, "0 bytes"},
		"long IV":        {func(b *wrapping.BlobInfo) { b.Iv = make([]byte, 16) }, "16 bytes"},
		"no wrapped key": {func(b *wrapping.BlobInfo) { b.KeyInfo.WrappedKey = nil }, "no data key"},
	} {
		info := good()
		c.change(info)
		b, err := proto.Marshal(info)
		if err != nil {
			t.Fatal(err)
		}
		_, err = decode(append([]byte{blobVersion}, b...))
		if err == nil || classify(err) != BlobMismatch || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	b, err := encode(good())
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"nil": nil, "empty": {}, "version only": {blobVersion}, "version 0": append([]byte{0}, b[1:]...), "version 2": append([]byte{2}, b[1:]...),
		"no protobuf": {blobVersion, 0xff, 0xff}, "oversized": append(bytes.Clone(b), make([]byte, maxBlob)...),
	} {
		if _, err := decode(bad); err == nil || classify(err) != BlobMismatch {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := decode(b); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// AES takes shorter keys, but a data key has 32 bytes.
func TestShortDataKey(t *testing.T) {
	key, id := NewKey()
	s := make1(t, block("static", "s", "current_key", key, "current_key_id", id))
	for _, n := range []int{16, 24} {
		data := make([]byte, n)
		b, err := aes.NewCipher(data)
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCM(b)
		if err != nil {
			t.Fatal(err)
		}
		wrapped, _, err := s.service.(*static).wrap(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		iv := make([]byte, nonceSize)
		blob, err := encode(&wrapping.BlobInfo{Iv: iv, Ciphertext: gcm.Seal(nil, iv, secret, aad),
			KeyInfo: &wrapping.KeyInfo{Mechanism: envelope, KeyId: id, WrappedKey: wrapped}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Unwrap(soon(t), blob, aad)
		hasClass(t, err, BlobMismatch, "not 32")
	}
}

func FuzzUnwrap(f *testing.F) {
	key, id := NewKey()
	s := make1(f, block("static", "s", "current_key", key, "current_key_id", id))
	blob, _ := roundTrip(f, s)
	short, err := encode(&wrapping.BlobInfo{Iv: make([]byte, 12), KeyInfo: &wrapping.KeyInfo{Mechanism: envelope, KeyId: id, WrappedKey: []byte("short")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob)
	f.Add(short)
	f.Add(blob[:len(blob)/2])
	f.Add([]byte{blobVersion, 0x2a, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := s.Unwrap(t.Context(), b, aad)
		switch {
		case err == nil && !bytes.Equal(got, secret):
			t.Errorf("opened to %q", got)
		case err != nil && classify(err) != BlobMismatch:
			t.Errorf("class %s: %v", classify(err), err)
		}
		if info, err := decode(b); err == nil {
			again, err := encode(info)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := decode(again); err != nil || !proto.Equal(back, info) {
				t.Errorf("encoded again it is another blob: %v", err)
			}
		}
	})
}

func TestWrapLimits(t *testing.T) {
	key, id := NewKey()
	s := make1(t, block("static", "s", "current_key", key, "current_key_id", id))
	big := bytes.Repeat([]byte("x"), maxSecret)
	blob, _, err := s.Wrap(soon(t), big, aad)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Unwrap(soon(t), blob, aad); err != nil || !bytes.Equal(got, big) {
		t.Errorf("the largest secret: %v", err)
	}
	for _, bad := range [][]byte{nil, append(big, 'x')} {
		if _, _, err := s.Wrap(soon(t), bad, aad); err == nil {
			t.Errorf("a secret of %d bytes was wrapped", len(bad))
		}
	}
}

// stub is a service whose clients wait until they may go on, and do not heed the context.
type stub struct {
	static
	connected chan struct{} // told of each connect
	release   chan struct{}
}

func (s *stub) connect(context.Context) (client, error) {
	s.connected <- struct{}{}
	<-s.release
	return &s.static, nil
}

func newStub(t *testing.T) (*Seal, *stub) {
	t.Helper()
	key, id := NewKey()
	st, err := newStatic(block("static", "s", "current_key", key, "current_key_id", id))
	if err != nil {
		t.Fatal(err)
	}
	svc := &stub{static: *st.(*static), connected: make(chan struct{}, 10), release: make(chan struct{})}
	return &Seal{config: config.Seal{Name: "stub"}, service: svc, turn: make(chan struct{}, 1)}, svc
}

func TestAttemptThatHangs(t *testing.T) {
	s, svc := newStub(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, _, err := s.Wrap(ctx, secret, aad)
		done <- err
	}()
	<-svc.connected
	cancel()
	err := <-done
	hasClass(t, err, Unreachable, `seal "stub": wrapping`)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}

	// It hangs on: others are told at once, and nobody else connects.
	for range 3 {
		_, _, err := s.Wrap(t.Context(), secret, aad)
		hasClass(t, err, Unreachable, "the previous attempt has not ended yet")
	}
	if len(svc.connected) != 0 {
		t.Error("a second attempt was made")
	}

	// It ends: the seal works again.
	close(svc.release)
	waitFor(t, "the end of the attempt", func() bool {
		_, _, err := s.Wrap(t.Context(), secret, aad)
		return err == nil
	})
}

func TestAttemptsTakeTurns(t *testing.T) {
	s, svc := newStub(t)
	var wg sync.WaitGroup
	errs := make(chan error, 5)
	for range 5 {
		wg.Go(func() {
			_, _, err := s.Wrap(soon(t), secret, aad)
			errs <- err
		})
	}
	for range 5 {
		<-svc.connected
		if len(svc.connected) != 0 {
			t.Error("two attempts at once")
		}
		svc.release <- struct{}{}
	}
	wg.Wait()
	for range 5 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestDeadline(t *testing.T) {
	s, svc := newStub(t)
	defer close(svc.release)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, _, err := s.Wrap(ctx, secret, aad)
	hasClass(t, err, Unreachable)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = s.Wrap(ended, secret, aad)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestClose(t *testing.T) {
	key, id := NewKey()
	s := make1(t, block("static", "s", "current_key", key, "current_key_id", id))
	blob, _ := roundTrip(t, s)
	s.Close()
	s.Close()
	_, err := s.Unwrap(soon(t), blob, aad)
	hasClass(t, err, Unreachable)
	if !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}
