package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"google.golang.org/protobuf/proto"

	"github.com/sealkeep/sealkeep/config"
)

const (
	blobVersion = 1
	maxBlob     = 64 << 10
	maxSecret   = 48 << 10 // leaves room for the wrapped data key
	envelope    = 1        // awskms.AwsKmsEnvelopeAesGcmEncrypt
	keySize     = 32
	nonceSize   = 12

	// maxAttempt bounds an attempt whose context has no deadline or a later one.
	maxAttempt = 30 * time.Second
)

// ErrClosed is wrapped by the errors of a Seal that was closed.
var ErrClosed = errors.New("the seal is closed")

// types maps the names that a configuration uses to the types of seals.
var types = map[string]func(config.Seal) (service, error){
	"awskms":  newAWSKMS,
	"static":  newStatic,
	"transit": newTransit,
	"vaultkv": newVaultKV,
}

// A service makes clients of one key service.
type service interface {
	// connect makes a client. It may ignore the context; the caller does not rely on it.
	connect(ctx context.Context) (client, error)
	// explain says what happened and what to do about it, for an error of that class.
	explain(c Class) string
	// secrets returns strings that no error may show.
	secrets() []string
	// diagnose tries everything, step by step.
	diagnose(ctx context.Context, d *diagnosis)
	close()
}

// A client wraps and unwraps data keys.
type client interface {
	wrap(ctx context.Context, key []byte) (wrapped []byte, keyID string, err error)
	unwrap(ctx context.Context, wrapped []byte, keyID string) (key []byte, err error)
	// keyID returns the ID that wrap would return now.
	keyID(ctx context.Context) (string, error)
}

// A Seal is one configured key service. Its methods may be called concurrently; attempts take turns.
type Seal struct {
	config  config.Seal
	service service
	turn    chan struct{} // holds one token while an attempt runs

	mu     sync.Mutex
	hung   bool // the caller of the running attempt has given up
	closed bool
}

// New checks the parameters of a seal. It does no network I/O. The error names the seal, its place in the
// configuration and what to write instead.
func New(c config.Seal) (*Seal, error) {
	build, ok := types[c.Type]
	if !ok {
		return nil, fmt.Errorf("%s: seal %q: there is no type %q: use %s", c.At, c.Name, c.Type,
			strings.Join(slices.Sorted(maps.Keys(types)), ", "))
	}
	svc, err := build(c)
	if err != nil {
		return nil, fmt.Errorf("%s: seal %q (%s): %w", c.At, c.Name, c.Type, err)
	}
	return &Seal{config: c, service: svc, turn: make(chan struct{}, 1)}, nil
}

// Name returns the name of the seal, which is also the name of its slot.
func (s *Seal) Name() string { return s.config.Name }

// Type returns awskms, static, transit or vaultkv.
func (s *Seal) Type() string { return s.config.Type }

// Priority returns the seal's priority, 1 or more; lower is better.
func (s *Seal) Priority() int { return s.config.Priority }

// Disabled reports whether the configuration says that this seal only opens what it wrapped earlier. Wrap and Unwrap
// ignore it.
func (s *Seal) Disabled() bool { return s.config.Disabled }

// Manual reports whether environment variables alone made this seal. As no file mentions such a seal, an existing store
// gets a slot for it only on request.
func (s *Seal) Manual() bool { return s.config.At == "environment" }

// Warning describes, for an operator, trouble to come that Wrap and Unwrap do not show yet:
//
//   - awskms: the key's material expires within 30 days; the credentials are temporary and never renewed;
//   - transit and vaultkv: the token ends within 30 days, and no renewal changes that;
//   - transit: the token is no longer renewed;
//   - vaultkv: the secret is deleted within 30 days, by a rule of its engine.
//
// It is "" if nothing is known. Nothing is known before the first successful attempt, and nothing about the token's end
// before the first KeyID. Warning makes no request.
func (s *Seal) Warning() string {
	if w, ok := s.service.(interface{ warning() string }); ok {
		return w.warning()
	}
	return ""
}

// TokenTTL returns how long the token of a transit or vaultkv seal still lives unless it is renewed, according to the last
// look-up by [Seal.KeyID]. It returns false if that is not known, if the token never ends, and if the seal gets its tokens
// by logging in. It makes no request.
func (s *Seal) TokenTTL() (time.Duration, bool) {
	if t, ok := s.service.(interface{ tokenTTL() (time.Duration, bool) }); ok {
		return t.tokenTTL()
	}
	return 0, false
}

// Wrap encrypts a secret of 1 byte to 48 KiB so that the key service and the same aad (associated data, not
// stored) are needed to get it back. It opens the blob before it returns, so that a key that can encrypt but not decrypt
// is an error. keyID names the key and, if the key service has versions, its version; it is not a secret.
func (s *Seal) Wrap(ctx context.Context, secret, aad []byte) (blob []byte, keyID string, err error) {
	if len(secret) == 0 || len(secret) > maxSecret {
		return nil, "", fmt.Errorf("seal %q: wrapping: the secret has %d bytes, not 1 to %d", s.config.Name, len(secret), maxSecret)
	}
	secret, aad = bytes.Clone(secret), bytes.Clone(aad) // an attempt may outlive this call
	type result struct {
		blob  []byte
		keyID string
	}
	r, err := attempt(ctx, s, "wrapping", func(ctx context.Context) (r result, err error) {
		defer clear(secret)
		c, err := s.service.connect(ctx)
		if err != nil {
			return r, err
		}
		env, err := wrapping.EnvelopeEncrypt(secret, wrapping.WithAad(aad))
		if err != nil {
			return r, fmt.Errorf("encrypting with a data key: %w", err)
		}
		defer clear(env.Key)
		wrapped, id, err := c.wrap(ctx, env.Key)
		if err != nil {
			return r, err
		}
		info := &wrapping.BlobInfo{Ciphertext: env.Ciphertext, Iv: env.Iv,
			KeyInfo: &wrapping.KeyInfo{Mechanism: envelope, KeyId: id, WrappedKey: wrapped}}
		if r.blob, err = encode(info); err != nil {
			return r, err
		}
		r.keyID = id
		back, err := open(ctx, c, r.blob, aad)
		if err != nil {
			return r, fmt.Errorf("opening again what was wrapped: %w", err)
		}
		defer clear(back)
		if !bytes.Equal(back, secret) {
			return r, mismatch("what was wrapped opened to something else")
		}
		return r, nil
	})
	if err != nil {
		return nil, "", err
	}
	return r.blob, r.keyID, nil
}

// KeyID asks the key service which key Wrap would use now, and returns what Wrap would return as keyID: the ARN behind
// an alias, the latest version of a transit key, the ID of the current static key. A slot with another key ID should be
// wrapped again. Its errors are those of Wrap. With awskms it costs one DescribeKey; with transit a renewal of the token,
// one Encrypt and one look-up of the token; with vaultkv the cost of an Unwrap and the look-up.
func (s *Seal) KeyID(ctx context.Context) (string, error) {
	return attempt(ctx, s, "naming the key", func(ctx context.Context) (string, error) {
		c, err := s.service.connect(ctx)
		if err != nil {
			return "", err
		}
		return c.keyID(ctx)
	})
}

// Unwrap opens a blob of Wrap. The error is of class [BlobMismatch] if the blob is damaged, was made by another key or
// belongs to other associated data.
func (s *Seal) Unwrap(ctx context.Context, blob, aad []byte) (secret []byte, err error) {
	if _, err := decode(blob); err != nil { // no need to ask the key service
		return nil, s.fail("opening", err)
	}
	blob, aad = bytes.Clone(blob), bytes.Clone(aad)
	return attempt(ctx, s, "opening", func(ctx context.Context) ([]byte, error) {
		c, err := s.service.connect(ctx)
		if err != nil {
			return nil, err
		}
		return open(ctx, c, blob, aad)
	})
}

// Close stops the seal's background work, such as the renewal of a token. It does not wait for attempts; later ones
// fail. It always returns nil.
func (s *Seal) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.service.close()
	return nil
}

func open(ctx context.Context, c client, blob, aad []byte) ([]byte, error) {
	info, err := decode(blob)
	if err != nil {
		return nil, err
	}
	key, err := c.unwrap(ctx, info.KeyInfo.WrappedKey, info.KeyInfo.KeyId)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if len(key) != keySize { // AES would accept 16 and 24 bytes, too
		return nil, mismatch("the key service gave a data key of %d bytes, not %d", len(key), keySize)
	}
	secret, err := wrapping.EnvelopeDecrypt(&wrapping.EnvelopeInfo{Ciphertext: info.Ciphertext, Iv: info.Iv, Key: key}, wrapping.WithAad(aad))
	if err != nil {
		return nil, mismatch("the data key does not open the blob: it was altered, or belongs to another slot or store")
	}
	return secret, nil
}

func encode(info *wrapping.BlobInfo) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte{blobVersion}, info)
	if err != nil {
		return nil, fmt.Errorf("encoding the blob: %w", err)
	}
	if len(b) > maxBlob {
		return nil, fmt.Errorf("the key service made the blob %d bytes long, %d is the limit", len(b), maxBlob)
	}
	return b, nil
}

// decode takes a blob apart. Lengths that would make the libraries panic are refused here.
func decode(blob []byte) (*wrapping.BlobInfo, error) {
	if len(blob) < 2 || len(blob) > maxBlob {
		return nil, mismatch("the blob has %d bytes, not 2 to %d", len(blob), maxBlob)
	}
	if blob[0] != blobVersion {
		return nil, mismatch("the blob has format version %d, and this program knows %d", blob[0], blobVersion)
	}
	info := new(wrapping.BlobInfo)
	if err := proto.Unmarshal(blob[1:], info); err != nil {
		return nil, mismatch("the blob is damaged: it is no BlobInfo message")
	}
	switch {
	case info.KeyInfo == nil:
		return nil, mismatch("the blob does not say how it was wrapped")
	case info.KeyInfo.Mechanism != envelope:
		return nil, mismatch("the blob was wrapped by mechanism %d, and only %d (envelope) is accepted", info.KeyInfo.Mechanism, envelope)
	case len(info.Iv) != nonceSize:
		return nil, mismatch("the blob is damaged: its nonce has %d bytes, not %d", len(info.Iv), nonceSize)
	case len(info.KeyInfo.WrappedKey) == 0:
		return nil, mismatch("the blob has no data key")
	}
	return info, nil
}

// attempt runs f in a goroutine of its own and returns its result, or returns when ctx ends. An attempt left behind keeps
// its turn until it ends, so that a client that hangs does so only once.
func attempt[T any](ctx context.Context, s *Seal, op string, f func(context.Context) (T, error)) (T, error) {
	var zero T
	if err := s.take(ctx); err != nil {
		return zero, s.fail(op, err)
	}
	// f's own deadline is a little earlier than the caller's, so that its error still arrives.
	limit := maxAttempt
	if d, ok := ctx.Deadline(); ok {
		left := time.Until(d)
		limit = min(limit, left-min(left/10, 100*time.Millisecond))
	}
	inner, cancel := context.WithTimeout(ctx, limit)
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer cancel()
		v, err := f(inner)
		done <- result{v, err}
		s.mu.Lock()
		s.hung = false
		<-s.turn
		s.mu.Unlock()
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return zero, s.fail(op, r.err)
		}
		return r.value, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case r := <-done: // both happened at once
		if r.err == nil {
			return r.value, nil
		}
		return zero, s.fail(op, r.err)
	default:
	}
	s.hung = true
	return zero, s.fail(op, ctx.Err())
}

// take waits for the turn. It returns at once if the running attempt hangs.
func (s *Seal) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	closed, hung := s.closed, s.hung
	s.mu.Unlock()
	switch {
	case closed:
		return &Error{Kind: Unreachable, Text: "it was replaced or shut down", Err: ErrClosed}
	case hung:
		return &Error{Kind: Unreachable, Text: "the previous attempt has not ended yet", Err: errHung}
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fail makes the error that callers get: it has a class, the seal's name, what to do, and none of its secrets.
func (s *Seal) fail(op string, err error) error {
	e := &Error{Kind: classify(err), Seal: s.config.Name, Op: op, Err: err}
	if own, ok := errors.AsType[*Error](err); ok {
		e.Text, e.Err = own.Text, own.Err
	}
	if e.Text == "" {
		e.Text = s.service.explain(e.Kind)
	}
	if e.Err != nil {
		e.Err = redact(e.Err, s.service.secrets())
	}
	return e
}
