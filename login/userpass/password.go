package userpass

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// maxPassword is the length of the longest password, in bytes.
const maxPassword = 4096

// A passwordHash is what is stored of a password, in the usual text:
// $argon2id$v=19$m=<KiB>,t=<passes>,p=<threads>$<salt>$<hash>, the last two in
// base64 without padding.
type passwordHash string

// The cost of a hash. Making and checking one takes this much memory. A stored hash
// may cost no more than the bounds.
const (
	argonMemory = 19 << 10 // KiB
	argonPasses = 2
	argonSalt   = 16 // bytes
	argonHash   = 32

	maxArgonMemory = 64 << 10
	maxArgonPasses = 8
)

// hashPassword takes as long as [passwordHash.matches], and 19 MiB: neither belongs
// in a transaction.
func hashPassword(password string) passwordHash {
	salt := make([]byte, argonSalt)
	rand.Read(salt)
	hash := argon2.IDKey([]byte(password), salt, argonPasses, argonMemory, 1, argonHash)
	text := base64.RawStdEncoding.EncodeToString
	return passwordHash(fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, argonMemory, argonPasses, text(salt), text(hash)))
}

// noPassword is a dummy hash for unknown users, so that timing says nothing.
var noPassword = passwordHash(fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, argonMemory, argonPasses,
	strings.Repeat("A", base64.RawStdEncoding.EncodedLen(argonSalt)), strings.Repeat("A", base64.RawStdEncoding.EncodedLen(argonHash))))

// matches reports whether the hash is that of the password. The empty hash matches
// no password, and takes as long to say so.
func (p passwordHash) matches(password string) (bool, error) {
	hash := p
	if p == "" {
		hash = noPassword
	}
	memory, passes, salt, want, err := hash.decode()
	if err != nil {
		return false, err
	}
	got := argon2.IDKey([]byte(password), salt, passes, memory, 1, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1 && p != "", nil
}

func (p passwordHash) decode() (memory, passes uint32, salt, hash []byte, err error) {
	wrong := fmt.Errorf("decoding the hash of a password: %w", storage.ErrCorrupt)
	if len(p) > 512 {
		return 0, 0, nil, nil, wrong
	}
	parts := strings.Split(string(p), "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return 0, 0, nil, nil, wrong
	}
	var threads int
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &threads); err != nil || n != 3 {
		return 0, 0, nil, nil, wrong
	}
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[4])
	hash, hashErr := base64.RawStdEncoding.DecodeString(parts[5])
	if saltErr != nil || hashErr != nil || len(salt) < 8 || len(hash) < 16 || threads != 1 ||
		memory < 8 || memory > maxArgonMemory || passes < 1 || passes > maxArgonPasses {
		return 0, 0, nil, nil, wrong
	}
	return memory, passes, salt, hash, nil
}

// hashWait is how long a password waits for its turn to be hashed.
const hashWait = 10 * time.Second

// hashesAtOnce is how many passwords are hashed at once, each with 19 MiB: half of
// the processors stay free for other requests.
func hashesAtOnce() int { return max(1, min(4, runtime.GOMAXPROCS(0)/2)) }

// turns holds a value for each password that is being hashed.
type turns chan struct{}

// take runs fn, which hashes a password, when it is its turn.
func (t turns) take(r *api.Request, fn func()) error {
	wait := time.NewTimer(hashWait)
	defer wait.Stop()
	select {
	case t <- struct{}{}:
	case <-wait.C:
		return &api.Error{Code: api.Busy, Text: "too many logins with passwords at once: try again", After: time.Second}
	case <-r.Done():
		return r.Err()
	}
	defer func() { <-t }()
	fn()
	return nil
}
