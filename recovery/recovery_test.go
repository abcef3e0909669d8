package recovery

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"math/bits"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
)

func split(t testing.TB, n, k int) (lock []byte, shares [][]byte) {
	t.Helper()
	lock, shares, err := Split(n, k)
	if err != nil {
		t.Fatal(err)
	}
	if len(shares) != n {
		t.Fatalf("%d shares of %d", len(shares), n)
	}
	return lock, shares
}

func collection(t testing.TB, lock []byte) *Collection {
	t.Helper()
	c, err := NewCollection(lock)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func add(t testing.TB, c *Collection, share []byte, have int) {
	t.Helper()
	if n, err := c.Add(share); err != nil || n != have {
		t.Fatalf("%d shares, %v; want %d", n, err, have)
	}
}

func wrapTo(t testing.TB, lock []byte, secret, aad string) []byte {
	t.Helper()
	to, _, _, err := Recipients(lock)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := Wrap(to, []byte(secret), []byte(aad))
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

// Of every set of shares, in either order: k or more open, fewer tell nothing.
func TestEveryCombination(t *testing.T) {
	for n := 1; n <= 5; n++ {
		for k := 1; k <= n; k++ {
			lock, shares := split(t, n, k)
			blob := wrapTo(t, lock, "secret", "here")
			if _, gotN, gotK, err := Recipients(lock); err != nil || gotN != n || gotK != k {
				t.Errorf("%d of %d, %v; want %d of %d", gotK, gotN, err, k, n)
			}
			for set := range 1 << n {
				for _, backwards := range []bool{false, true} {
					c := collection(t, lock)
					for i := range n {
						if backwards {
							i = n - 1 - i
						}
						if set>>i&1 == 1 {
							if _, err := c.Add(shares[i]); err != nil {
								t.Fatal(err)
							}
						}
					}
					identity, err := c.Identity()
					if bits.OnesCount(uint(set)) < k {
						if !errors.Is(err, ErrTooFew) || identity != "" {
							t.Errorf("%d of %d with set %b: %v", k, n, set, err)
						}
						continue
					}
					if err != nil {
						t.Fatalf("%d of %d with set %b: %v", k, n, set, err)
					}
					if got, err := Unwrap(identity, blob, []byte("here")); err != nil || string(got) != "secret" {
						t.Fatalf("%d of %d with set %b: %q %v", k, n, set, got, err)
					}
				}
			}
		}
	}
}

func TestManyShares(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of scalar multiplications")
	}
	lock, shares := split(t, 255, 40)
	c := collection(t, lock)
	for i := range 40 {
		if _, err := c.Identity(); !errors.Is(err, ErrTooFew) {
			t.Fatalf("%d shares: %v", i, err)
		}
		add(t, c, shares[254-i*6], i+1)
	}
	identity, err := c.Identity()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Unwrap(identity, wrapTo(t, lock, "s", "a"), []byte("a")); err != nil || string(got) != "s" {
		t.Errorf("%q %v", got, err)
	}
}

func TestCounts(t *testing.T) {
	for _, c := range [][2]int{{0, 0}, {1, 0}, {1, 2}, {-1, -1}, {5, -3}, {256, 3}, {300, 300}} {
		if _, _, err := Split(c[0], c[1]); !errors.Is(err, ErrCount) {
			t.Errorf("%d of %d: %v", c[1], c[0], err)
		}
	}
}

// A share that does not count is refused at once, says why, and does no harm to
// those that were given.
func TestRefusedShares(t *testing.T) {
	lock, shares := split(t, 5, 3)
	_, others := split(t, 5, 3)
	forge := func(edit func([]byte)) []byte { // with check digits that fit
		b := bytes.Clone(shares[2][:shareSize-checkSize])
		edit(b)
		var set [setSize]byte
		copy(set[:], b[1:])
		s := encodeShare(set, b[1+setSize], b[2+setSize:])
		s[0] = b[0]
		return s
	}
	c := collection(t, lock)
	add(t, c, shares[0], 1)
	add(t, c, shares[4], 2)
	for name, test := range map[string]struct {
		share []byte
		want  error
	}{
		"nothing":            {nil, ErrShare},
		"cut":                {shares[2][:shareSize-1], ErrShare},
		"longer":             {append(bytes.Clone(shares[2]), 0), ErrShare},
		"other store":        {others[2], ErrOtherSet},
		"repeated":           {shares[0], ErrRepeated},
		"value changed":      {forge(func(b []byte) { b[15] ^= 1 }), ErrWrongShare},
		"number changed":     {forge(func(b []byte) { b[1+setSize] = 4 }), ErrWrongShare},
		"number too large":   {forge(func(b []byte) { b[1+setSize] = 6 }), ErrWrongShare},
		"number zero":        {forge(func(b []byte) { b[1+setSize] = 0 }), ErrShare},
		"value out of range": {forge(func(b []byte) { copy(b[2+setSize:], bytes.Repeat([]byte{0xff}, 32)) }), ErrShare},
		"version":            {func() []byte { s := forge(func([]byte) {}); s[0] = 2; return s }(), ErrShare},
	} {
		if have, err := c.Add(test.share); !errors.Is(err, test.want) || have != 2 {
			t.Errorf("%s: %d shares, %v; want %v", name, have, err, test.want)
		}
	}
	for i := range shareSize * 8 { // every typing error is found
		b := bytes.Clone(shares[2])
		b[i/8] ^= 1 << (i % 8)
		if _, err := c.Add(b); !errors.Is(err, ErrShare) {
			t.Errorf("bit %d: %v", i, err)
		}
	}
	if _, err := c.Identity(); !errors.Is(err, ErrTooFew) || !strings.Contains(err.Error(), "2 of 3") {
		t.Error(err)
	}
	add(t, c, shares[2], 3)
	if _, err := c.Identity(); err != nil {
		t.Error(err)
	}
	add(t, c, shares[1], 4) // one more than needed
	if _, err := c.Identity(); err != nil {
		t.Error(err)
	}
	c.Reset()
	if _, err := c.Identity(); !errors.Is(err, ErrTooFew) {
		t.Error(err)
	}
	add(t, c, shares[0], 1)
}

// The text of a share comes from paper, mail and terminals.
func TestParseShare(t *testing.T) {
	_, shares := split(t, 2, 2)
	for _, share := range shares {
		b64, h := base64.StdEncoding.EncodeToString(share), hex.EncodeToString(share)
		for _, text := range []string{b64, h, strings.ToUpper(h), " " + b64 + "\n", b64[:20] + " \r\n" + b64[20:], h[:8] + "\t" + h[8:],
			base64.URLEncoding.EncodeToString(share), b64 + "="} {
			if got, err := ParseShare(text); err != nil || !bytes.Equal(got, share) {
				t.Errorf("%q: %v", text, err)
			}
		}
		for _, text := range []string{"", "AGE-SECRET-KEY-1", b64[1:], b64 + "AAAA", h[2:], strings.Repeat("g", 96), "ü", b64[1:] + b64[:1]} {
			if _, err := ParseShare(text); !errors.Is(err, ErrShare) {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}

// A lock that was changed in any byte is refused, or gives nothing; no share is
// taken for one of it that is not.
func TestChangedLock(t *testing.T) {
	lock, shares := split(t, 3, 2)
	for i := range lock {
		for _, bit := range []byte{1, 0x80} {
			b := bytes.Clone(lock)
			b[i] ^= bit
			c, err := NewCollection(b)
			if err != nil {
				if !errors.Is(err, ErrLock) {
					t.Errorf("byte %d: %v", i, err)
				}
				continue
			}
			for _, s := range shares[:2] {
				_, _ = c.Add(s)
			}
			if _, err := c.Identity(); !errors.Is(err, ErrTooFew) && !errors.Is(err, ErrLock) {
				t.Errorf("byte %d: %v", i, err)
			}
		}
	}
	for _, b := range [][]byte{nil, {1}, lock[:len(lock)-1], append(bytes.Clone(lock), 0), bytes.Repeat([]byte{1}, 500)} {
		if _, err := NewCollection(b); !errors.Is(err, ErrLock) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
		if _, _, _, err := Recipients(b); !errors.Is(err, ErrLock) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAge(t *testing.T) {
	a, b, stranger := newIdentity(t), newIdentity(t), newIdentity(t)
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	aad := []byte("here")
	blob, err := Wrap([]string{a.Recipient().String(), b.Recipient().String()}, []byte("root"), aad)
	if err != nil {
		t.Fatal(err)
	}
	quantum, err := Wrap([]string{pq.Recipient().String()}, []byte("root"), aad)
	if err != nil {
		t.Fatal(err)
	}
	file := "# created: today\r\n# public key: age1\r\n" + b.String() + "\r\n"
	for name, test := range map[string]struct {
		text string
		blob []byte
		aad  string
		want error
	}{
		"first":             {a.String(), blob, "here", nil},
		"second, as a file": {file, blob, "here", nil},
		"of several":        {stranger.String() + "\n\n" + a.String(), blob, "here", nil},
		"indented":          {"  " + a.String() + " \n", blob, "here", nil},
		"post-quantum":      {pq.String(), quantum, "here", nil},
		"stranger":          {stranger.String(), blob, "here", ErrOtherIdentity},
		"other kind":        {pq.String(), blob, "here", ErrOtherIdentity},
		"elsewhere":         {a.String(), blob, "there", ErrBlob},
		"no place":          {a.String(), blob, "", ErrBlob},
		"no text":           {"", blob, "here", ErrIdentity},
		"comment":           {"# nothing", blob, "here", ErrIdentity},
		"mistyped":          {a.String()[:70] + "QQQQ", blob, "here", ErrIdentity},
		"recipient":         {a.Recipient().String(), blob, "here", ErrIdentity},
		"encrypted":         {armor.Header + "\nYWdl\n" + armor.Footer, blob, "here", ErrIdentity},
		"no blob":           {a.String(), nil, "here", ErrBlob},
		"cut":               {a.String(), blob[:len(blob)-1], "here", ErrBlob},
		"version":           {a.String(), append([]byte{2}, blob[1:]...), "here", ErrBlob},
		"length":            {a.String(), append([]byte{1, 0xff, 0xff, 0xff, 0xff}, blob[5:]...), "here", ErrBlob},
	} {
		got, err := Unwrap(test.text, test.blob, []byte(test.aad))
		if !errors.Is(err, test.want) || test.want == nil && string(got) != "root" {
			t.Errorf("%s: %q, %v; want %v", name, got, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), a.String()[20:40]) {
			t.Errorf("%s: the error shows the identity: %v", name, err)
		}
	}
	for i := range blob {
		b := bytes.Clone(blob)
		b[i] ^= 1
		if _, err := Unwrap(a.String(), b, aad); err == nil {
			// Only the other recipient's part may change without being seen by this one, and the header's MAC sees that.
			t.Errorf("byte %d changed: it opens", i)
		}
	}
}

// The age file of a blob with another length of key is refused.
func TestForgedAgeFile(t *testing.T) {
	id := newIdentity(t)
	for _, size := range []int{0, 31, 33, 100} {
		file, err := encryptKey([]string{id.Recipient().String()}, make([]byte, size))
		if err != nil {
			t.Fatal(err)
		}
		blob := append([]byte{1, 0, 0, byte(len(file) >> 8), byte(len(file))}, file...)
		if _, err := Unwrap(id.String(), append(blob, make([]byte, 64)...), nil); !errors.Is(err, ErrBlob) || !strings.Contains(err.Error(), "no key") {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestCheckRecipients(t *testing.T) {
	a, b := newIdentity(t).Recipient().String(), newIdentity(t).Recipient().String()
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	secret := newIdentity(t).String()
	many := make([]string, MaxRecipients+1)
	for i := range many {
		many[i] = newIdentity(t).Recipient().String()
	}
	for name, test := range map[string]struct {
		recipients []string
		says       string // "": they are good
	}{
		"one":         {[]string{a}, ""},
		"two":         {[]string{a, b}, ""},
		"most":        {many[1:], ""},
		"none":        {nil, "there are 0"},
		"too many":    {many, "there are 17"},
		"twice":       {[]string{a, b, a}, "number 3 was listed before"},
		"mixed":       {[]string{a, pq.Recipient().String()}, "post-quantum"},
		"mistyped":    {[]string{b, a[:61] + "b"}, "number 2"},
		"private":     {[]string{secret}, "number 1 is a private key"},
		"ssh":         {[]string{"ssh-ed25519 AAAA"}, "number 1 does not begin with age1"},
		"empty":       {[]string{""}, "number 1"},
		"with spaces": {[]string{a + "," + b}, "number 1"},
	} {
		err := CheckRecipients(test.recipients)
		if test.says == "" && err != nil || test.says != "" && (!errors.Is(err, ErrRecipients) || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), secret[20:]) {
			t.Errorf("%s: the error shows a private key", name)
		}
	}
}

// What a person decrypts of a share that was handed out encrypted is what is
// typed when it is needed.
func TestEncryptShare(t *testing.T) {
	lock, shares := split(t, 1, 1)
	id := newIdentity(t)
	text, err := EncryptShare(id.Recipient().String(), shares[0])
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(text)), id)
	if err != nil {
		t.Fatal(err)
	}
	typed, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	share, err := ParseShare(string(typed))
	if err != nil {
		t.Fatal(err)
	}
	c := collection(t, lock)
	add(t, c, share, 1)
	if _, err := c.Identity(); err != nil {
		t.Error(err)
	}
	if _, err := EncryptShare("nobody", shares[0]); !errors.Is(err, ErrRecipients) {
		t.Error(err)
	}
}

// Two splits have nothing in common, and a lock shows neither scalar nor identity.
func TestFresh(t *testing.T) {
	lock, shares := split(t, 2, 1)
	other, _ := split(t, 2, 1)
	if bytes.Equal(lock[lockStart:], other[lockStart:]) || bytes.Equal(lock[3:lockStart], other[3:lockStart]) {
		t.Error("two locks are alike")
	}
	c := collection(t, lock)
	add(t, c, shares[1], 1)
	identity, err := c.Identity()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(lock, []byte(identity[20:])) || bytes.Contains(lock, shares[0][2+setSize:shareSize-checkSize]) {
		t.Error("the lock shows a secret")
	}
	id, err := age.ParseX25519Identity(identity)
	if err != nil {
		t.Fatal(err)
	}
	if to, _, _, _ := Recipients(lock); to[0] != id.Recipient().String() {
		t.Error("the identity is not that of the recipient")
	}
}

// The ID of a set is in its lock and in each of its shares, and in no others.
func TestSetID(t *testing.T) {
	lock, shares, err := Split(3, 2)
	if err != nil {
		t.Fatal(err)
	}
	id, err := SetID(lock)
	if err != nil || len(id) != 2*setSize {
		t.Fatalf("%q, %v", id, err)
	}
	for i, share := range shares {
		if got, err := ShareSetID(share); got != id || err != nil {
			t.Errorf("share %d: %q, %v; want %q", i, got, err, id)
		}
	}
	other, _, err := Split(3, 2)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := SetID(other); got == id || err != nil {
		t.Errorf("another lock: %q, %v", got, err)
	}
	if _, err := SetID(lock[1:]); !errors.Is(err, ErrLock) {
		t.Errorf("no lock: %v", err)
	}
	if _, err := ShareSetID(shares[0][1:]); !errors.Is(err, ErrShare) {
		t.Errorf("no share: %v", err)
	}
}
