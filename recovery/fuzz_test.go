package recovery

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
)

// The golden files are the seeds: each process of the fuzzer has to have the same ones.
func goldenShares(f *testing.F) (lock []byte, shares [][]byte) {
	for text := range strings.FieldsSeq(string(golden(f, "shares"))) {
		b, err := ParseShare(text)
		if err != nil {
			f.Fatal(err)
		}
		shares = append(shares, b)
	}
	return golden(f, "lock"), shares
}

// What is taken for a lock is read without panics, and gives no identity to
// shares of another one.
func FuzzLock(f *testing.F) {
	lock, shares := goldenShares(f)
	for _, seed := range [][]byte{nil, lock, lock[:lockStart], bytes.Repeat([]byte{1}, 300), append(bytes.Clone(lock[:lockStart]), make([]byte, 2*scalarSize+sealOverhead+identitySize)...)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := NewCollection(b)
		if err != nil {
			if !errors.Is(err, ErrLock) {
				t.Error(err)
			}
			return
		}
		to, n, k, err := Recipients(b)
		if err != nil || CheckRecipients(to) != nil || k < 1 || n < k || n > maxShares {
			t.Errorf("%v, %d of %d: %v", to, k, n, err)
		}
		for _, s := range shares {
			if _, err := c.Add(s); err != nil && !errors.Is(err, ErrOtherSet) && !errors.Is(err, ErrWrongShare) {
				t.Error(err)
			}
		}
		if _, err := c.Identity(); err == nil && !bytes.Equal(b, lock) {
			t.Error("another lock opens with these shares")
		}
	})
}

// What is taken for a share is read without panics, and only those that were
// handed out count.
func FuzzShare(f *testing.F) {
	lock, shares := goldenShares(f)
	_, others := split(f, 3, 2)
	for _, seed := range append(append([][]byte{nil, make([]byte, shareSize)}, shares...), others...) {
		f.Add(string(seed))
		f.Add(hex.EncodeToString(seed))
		f.Add(base64.StdEncoding.EncodeToString(seed))
	}
	known := func(b []byte) bool {
		return slices.ContainsFunc(shares, func(s []byte) bool { return bytes.Equal(b, s) })
	}
	f.Fuzz(func(t *testing.T, in string) {
		c := collection(t, lock)
		if _, err := c.Add([]byte(in)); err == nil != known([]byte(in)) {
			t.Errorf("%x: %v", in, err)
		}
		b, err := ParseShare(in)
		if err != nil {
			if !errors.Is(err, ErrShare) {
				t.Error(err)
			}
			return
		}
		c.Reset()
		if _, err := c.Add(b); err == nil != known(b) {
			t.Errorf("%x: %v", b, err)
		}
	})
}

// What is taken for a blob is read without panics, and only the right one opens.
func FuzzBlob(f *testing.F) {
	blob, identity := golden(f, "age.blob"), string(golden(f, "age.txt"))
	for _, seed := range [][]byte{nil, blob, blob[:len(blob)/2], blob[:5], {1, 0, 0, 0, 0}, {1, 0xff, 0xff, 0xff, 0xff}} {
		f.Add(seed, identity)
	}
	f.Add(blob, "AGE-SECRET-KEY-1")
	f.Fuzz(func(t *testing.T, b []byte, identities string) {
		secret, err := Unwrap(identities, b, []byte(goldenAAD))
		switch {
		case err == nil:
			if !bytes.Equal(b, blob) || string(secret) != goldenSecret {
				t.Errorf("%x opens as %q", b, secret)
			}
		case !errors.Is(err, ErrBlob) && !errors.Is(err, ErrIdentity) && !errors.Is(err, ErrOtherIdentity):
			t.Error(err)
		}
	})
}
