package userpass

import (
	"errors"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/storage"
)

func TestPasswordHash(t *testing.T) {
	hash := hashPassword("secret")
	if !strings.HasPrefix(string(hash), "$argon2id$v=19$m=19456,t=2,p=1$") || hash == hashPassword("secret") {
		t.Errorf("%s", hash)
	}
	for password, want := range map[string]bool{"secret": true, "Secret": false, "": false, "secret ": false} {
		if ok, err := hash.matches(password); ok != want || err != nil {
			t.Errorf("%q: %v %v", password, ok, err)
		}
	}
	// A hash that the reference implementation made.
	other := passwordHash("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$ZVrRXqxlLcWfcXCnMyv0m4Rpvh/bnCi7")
	if ok, err := other.matches("password"); !ok || err != nil {
		t.Errorf("another's hash: %v %v", ok, err)
	}
	if ok, err := passwordHash("").matches(""); ok || err != nil {
		t.Errorf("unknown user: %v %v", ok, err)
	}
	// Where there is no user, the same work is done.
	memory, passes, salt, want, err := hash.decode()
	noMemory, noPasses, noSalt, noWant, noErr := noPassword.decode()
	if err != nil || noErr != nil || memory != noMemory || passes != noPasses || len(salt) != len(noSalt) || len(want) != len(noWant) {
		t.Errorf("%s costs another than %s: %v, %v", noPassword, hash, noErr, err)
	}
	for _, damaged := range []passwordHash{"x", hash[:len(hash)-1] + "!", "$argon2id$v=18" + hash[14:], "$argon2i$v=19" + hash[14:], "$argon2id$v=19$m=9999999,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAA"} {
		if _, err := damaged.matches("secret"); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v", damaged, err)
		}
	}
}

// FuzzPasswordHash: whatever the store holds, reading it takes no more than the
// bounds allow.
func FuzzPasswordHash(f *testing.F) {
	f.Add(string(hashPassword("x")))
	f.Add("$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$$$$$")
	f.Fuzz(func(t *testing.T, text string) {
		memory, passes, salt, hash, err := passwordHash(text).decode()
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Error(err)
			}
			return
		}
		if memory > maxArgonMemory || passes > maxArgonPasses || len(salt)+len(hash) > 512 {
			t.Errorf("%d %d %d %d", memory, passes, len(salt), len(hash))
		}
	})
}

func BenchmarkPassword(b *testing.B) {
	hash := hashPassword("secret")
	for b.Loop() {
		if ok, err := hash.matches("secret"); !ok || err != nil {
			b.Fatal(err)
		}
	}
}
