package recovery

import (
	"bytes"
	"encoding/base64"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

var makeGolden = flag.Bool("make-golden", false, "write the golden files, if there are none")

const (
	goldenSecret = "the root key of a golden keep, 32"
	goldenAAD    = "its place"
)

// TestGolden opens a lock, shares and blobs of the first release. It must pass
// for ever, with the files as they are.
func TestGolden(t *testing.T) {
	if *makeGolden {
		writeGolden(t)
	}
	lock := golden(t, "lock")
	if _, n, k, err := Recipients(lock); err != nil || n != 5 || k != 3 {
		t.Fatalf("%d of %d, %v", k, n, err)
	}
	shares := strings.Fields(string(golden(t, "shares")))
	if len(shares) != 5 {
		t.Fatalf("%d shares", len(shares))
	}
	c := collection(t, lock)
	for i, text := range []string{shares[4], shares[1], shares[2]} {
		share, err := ParseShare(text)
		if err != nil {
			t.Fatal(err)
		}
		add(t, c, share, i+1)
	}
	identity, err := c.Identity()
	if err != nil {
		t.Fatal(err)
	}
	for blob, identities := range map[string]string{
		"shares.blob": identity,
		"age.blob":    string(golden(t, "age.txt")),
		"pq.blob":     string(golden(t, "pq.txt")),
	} {
		if got, err := Unwrap(identities, golden(t, blob), []byte(goldenAAD)); err != nil || string(got) != goldenSecret {
			t.Errorf("%s: %q %v", blob, got, err)
		}
	}
}

func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "golden", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeGolden(t *testing.T) {
	lock, shares := split(t, 5, 3)
	classic := newIdentity(t)
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	var texts bytes.Buffer
	for _, s := range shares {
		texts.WriteString(base64.StdEncoding.EncodeToString(s) + "\n")
	}
	wrap := func(recipient string) []byte {
		blob, err := Wrap([]string{recipient}, []byte(goldenSecret), []byte(goldenAAD))
		if err != nil {
			t.Fatal(err)
		}
		return blob
	}
	for name, content := range map[string][]byte{
		"lock":        lock,
		"shares":      texts.Bytes(),
		"shares.blob": wrapTo(t, lock, goldenSecret, goldenAAD),
		"age.txt":     []byte(classic.String() + "\n"),
		"age.blob":    wrap(classic.Recipient().String()),
		"pq.txt":      []byte(pq.String() + "\n"),
		"pq.blob":     wrap(pq.Recipient().String()),
	} {
		// O_EXCL: a golden file is never replaced.
		f, err := os.OpenFile(filepath.Join("testdata", "golden", name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
