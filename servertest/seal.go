package servertest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"sync"

	"github.com/sealkeep/sealkeep/storage"
)

// Seal is a key service in memory that does as it is told.
type Seal struct {
	Called string
	Kind   string // "" is fake
	Rank   int
	Off    bool
	AEAD   cipher.AEAD

	Mu     sync.Mutex
	do     func(ctx context.Context) error // before every call; nil: nothing
	Lies   bool                            // Unwrap gives another key
	Key    string                          // that it wraps with
	Dead   string                          // a key that opens nothing any more
	Bad    bool                            // Wrap makes what does not open
	ByHand bool
	Calls  int // of Unwrap
	Wraps  int
	inside int // calls of Unwrap under way
	most   int // the most that were
	closed int
}

// Classed is an error with a class, as package seal makes them.
type Classed string

func (c Classed) Error() string { return "the fake key service says " + string(c) }
func (c Classed) Class() string { return string(c) }

func NewSeal(name string, priority int) *Seal {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return &Seal{Called: name, Rank: priority, AEAD: aead, Key: name + "-key"}
}

// Again is the same key service with a new configuration.
func (f *Seal) Again() *Seal {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	return &Seal{Called: f.Called, Rank: f.Rank, AEAD: f.AEAD, Key: f.Key}
}

func (f *Seal) Name() string   { return f.Called }
func (f *Seal) Type() string   { return cmp.Or(f.Kind, "fake") }
func (f *Seal) Priority() int  { return f.Rank }
func (f *Seal) Disabled() bool { return f.Off }

func (f *Seal) Tell(do func(ctx context.Context) error) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.do = do
}

func Fails(class string) func(context.Context) error {
	return func(context.Context) error { return Classed(class) }
}

func Hangs(ctx context.Context) error {
	<-ctx.Done()
	return Classed("unreachable")
}

func (f *Seal) before(ctx context.Context) error {
	f.Mu.Lock()
	do := f.do
	f.Mu.Unlock()
	if do != nil {
		return do(ctx)
	}
	return nil
}

func (f *Seal) Wrap(ctx context.Context, secret, aad []byte) ([]byte, string, error) {
	f.Mu.Lock()
	f.Wraps++
	key, bad := f.Key, f.Bad
	f.Mu.Unlock()
	if err := f.before(ctx); err != nil {
		return nil, "", err
	}
	if bad {
		aad = nil
	}
	return append([]byte(key+"\x00"), f.AEAD.Seal(nil, nil, secret, aad)...), key, nil
}

func (f *Seal) KeyID(ctx context.Context) (string, error) {
	if err := f.before(ctx); err != nil {
		return "", err
	}
	f.Mu.Lock()
	defer f.Mu.Unlock()
	return f.Key, nil
}

// Turn changes the key that it wraps with. The old one still opens.
func (f *Seal) Turn(key string) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.Key = key
}

// Wrapped is how often Wrap was called.
func (f *Seal) Wrapped() int {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	return f.Wraps
}

// End makes a key open nothing any more.
func (f *Seal) End(key string) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.Dead = key
}

func (f *Seal) Manual() bool { return f.ByHand }

func (f *Seal) Unwrap(ctx context.Context, blob, aad []byte) ([]byte, error) {
	f.Mu.Lock()
	f.Calls++
	f.inside++
	f.most = max(f.most, f.inside)
	lie, dead := f.Lies, f.Dead
	f.Mu.Unlock()
	defer func() {
		f.Mu.Lock()
		f.inside--
		f.Mu.Unlock()
	}()
	if err := f.before(ctx); err != nil {
		return nil, err
	}
	if lie {
		return storage.NewRootKey(), nil
	}
	key, sealed, _ := bytes.Cut(blob, []byte{0})
	if string(key) == dead && dead != "" {
		return nil, Classed("key_disabled")
	}
	secret, err := f.AEAD.Open(nil, nil, sealed, aad)
	if err != nil {
		return nil, Classed("blob_mismatch")
	}
	return secret, nil
}

func (f *Seal) Close() error {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.closed++
	if f.inside > 0 {
		return errors.New("closed with a call under way")
	}
	return nil
}

func (f *Seal) Count() (calls, most, closed int) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	return f.Calls, f.most, f.closed
}
