package access

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/sealkeep/sealkeep/storage"
)

// Users are those of a login method of type userpass: the folder of its records.
//
//	<folder>/user/<name>  JSON {"version":1,"data":{...}}: a [User]
type Users string

// A User logs in with a password.
type User struct {
	Name     string       `json:"-"`
	Password PasswordHash `json:"password"`
	Token    TokenParams  `json:"token"`
}

const userKind = "a user"

func (u Users) path(name string) string { return string(u) + "/user/" + name }

// Get returns a user, nil when there is none.
func (u Users) Get(tx *storage.Tx, name string) (*User, error) {
	name, err := methodName("user", name)
	if err != nil {
		return nil, err
	}
	user, err := readRecord[User](tx, u.path(name), userKind)
	if user != nil {
		user.Name = name
	}
	return user, err
}

// Put writes a user.
func (u Users) Put(tx *storage.Tx, user *User) error {
	name, err := methodName("user", user.Name)
	if err != nil {
		return err
	}
	if user.Password == "" {
		return mistake("missing password")
	}
	if err := user.Token.Check(); err != nil {
		return err
	}
	return writeRecord(tx, u.path(name), userKind, user)
}

// Delete deletes a user, whose tokens are renewed no more.
func (u Users) Delete(tx *storage.Tx, name string) error {
	name, err := methodName("user", name)
	if err != nil {
		return err
	}
	if err := tx.Delete(u.path(name)); err != nil {
		return fmt.Errorf("deleting %s: %w", userKind, err)
	}
	return nil
}

// List lists the users by name.
func (u Users) List(tx *storage.Tx) ([]string, error) { return tx.List(string(u) + "/user") }

// A PasswordHash is what is kept of a password, in the usual text:
// $argon2id$v=19$m=<KiB>,t=<passes>,p=<threads>$<salt>$<hash>, the last two in
// base64 without padding.
type PasswordHash string

// What a hash of a password costs; making and checking one takes this much
// memory. What is read back may cost no more than the bounds.
const (
	argonMemory = 19 << 10 // KiB
	argonPasses = 2
	argonSalt   = 16 // bytes
	argonHash   = 32

	maxArgonMemory = 64 << 10
	maxArgonPasses = 8
)

// HashPassword takes about as long as [PasswordHash.Matches], and 19 MiB: neither
// belongs in a transaction.
func HashPassword(password string) PasswordHash {
	salt := make([]byte, argonSalt)
	rand.Read(salt)
	hash := argon2.IDKey([]byte(password), salt, argonPasses, argonMemory, 1, argonHash)
	text := base64.RawStdEncoding.EncodeToString
	return PasswordHash(fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, argonMemory, argonPasses, text(salt), text(hash)))
}

// noPassword is compared with where there is no user, so that this takes as long.
var noPassword = PasswordHash(fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, argonMemory, argonPasses,
	strings.Repeat("A", base64.RawStdEncoding.EncodedLen(argonSalt)), strings.Repeat("A", base64.RawStdEncoding.EncodedLen(argonHash))))

// Matches tells whether the hash is that of the password. The empty hash is
// nobody's, and takes as long.
func (p PasswordHash) Matches(password string) (bool, error) {
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

func (p PasswordHash) decode() (memory, passes uint32, salt, hash []byte, err error) {
	parts := strings.Split(string(p), "$")
	wrong := fmt.Errorf("decoding the hash of a password: %w", storage.ErrCorrupt)
	if len(parts) != 6 || len(p) > 512 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
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
