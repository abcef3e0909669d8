package sealtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A KMS is a fake AWS KMS. Its ciphertexts depend only on the ARN of the key, so that one KMS opens what another one
// made. It is also an http.Handler, for tests that need it behind TLS.
type KMS struct {
	*Server
	faults

	mu      sync.Mutex
	keys    map[string]*kmsKey // by ARN
	aliases map[string]string  // alias/name -> ARN
	seen    [][]byte
	names   []string
}

type kmsKey struct {
	state    string
	deletion time.Time
	validTo  time.Time
	spec     string
}

// NewKMS starts a KMS without keys.
func NewKMS(t testing.TB) *KMS {
	k := &KMS{keys: map[string]*kmsKey{}, aliases: map[string]string{}}
	k.Server = Serve(t, k)
	t.Cleanup(k.Heal)
	return k
}

// AddKey makes an enabled symmetric key with this ARN ("arn:aws:kms:region:account:key/id").
func (k *KMS) AddKey(arn string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[arn] = &kmsKey{state: "Enabled", spec: "SYMMETRIC_DEFAULT"}
}

// SetState puts a key into one of KMS's key states. The time is the day of deletion, for PendingDeletion only.
func (k *KMS) SetState(arn, state string, deletion time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[arn].state, k.keys[arn].deletion = state, deletion
}

// SetValidTo makes the imported material of a key expire at that time.
func (k *KMS) SetValidTo(arn string, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[arn].validTo = at
}

// SetSpec changes the kind of a key, for instance to "RSA_2048".
func (k *KMS) SetSpec(arn, spec string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[arn].spec = spec
}

// SetAlias makes "alias/name" name the key with this ARN; a second call moves it.
func (k *KMS) SetAlias(alias, arn string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.aliases[alias] = arn
}

// Plaintexts returns everything that Encrypt was handed.
func (k *KMS) Plaintexts() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([][]byte(nil), k.seen...)
}

// KeyIDs returns the KeyId of every request since the last call of KeyIDs, as written, or "" for a request without one.
func (k *KMS) KeyIDs() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.names
	k.names = nil
	return n
}

func (k *KMS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		KeyId                     string
		Plaintext, CiphertextBlob []byte
	}
	op := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&in); err != nil {
		kmsError(w, http.StatusBadRequest, "SerializationException", "not JSON")
		return
	}
	f := k.next(r.Context(), w, op)
	if r.Context().Err() != nil {
		return
	}
	if f.Status != 0 {
		kmsError(w, f.Status, f.Code, f.Message)
		return
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		kmsError(w, http.StatusBadRequest, "MissingAuthenticationTokenException", "Missing Authentication Token")
		return
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	k.names = append(k.names, in.KeyId)
	by, sealed, _ := strings.Cut(string(in.CiphertextBlob), "\x00")
	if op == "Decrypt" && in.KeyId == "" {
		in.KeyId = by
	}
	arn, key := k.find(in.KeyId)
	switch op {
	case "DescribeKey", "Encrypt", "Decrypt":
	default:
		kmsError(w, http.StatusBadRequest, "UnknownOperationException", "")
		return
	}
	if key == nil {
		kmsError(w, http.StatusBadRequest, "NotFoundException", "Key '"+in.KeyId+"' does not exist")
		return
	}
	if op == "DescribeKey" {
		m := map[string]any{"Arn": arn, "KeyId": arn[strings.LastIndex(arn, "/")+1:], "KeyState": key.state,
			"Enabled": key.state == "Enabled", "KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": key.spec}
		if !key.deletion.IsZero() {
			m["DeletionDate"] = float64(key.deletion.Unix())
		}
		if !key.validTo.IsZero() {
			m["ValidTo"] = float64(key.validTo.Unix())
		}
		kmsAnswer(w, map[string]any{"KeyMetadata": m})
		return
	}
	switch key.state {
	case "Enabled":
	case "Disabled":
		kmsError(w, http.StatusBadRequest, "DisabledException", arn+" is disabled.")
		return
	default:
		kmsError(w, http.StatusBadRequest, "KMSInvalidStateException", arn+" is "+key.state+".")
		return
	}
	said := arn
	if f.KeyID != "" {
		said = f.KeyID
	}
	if op == "Encrypt" {
		k.seen = append(k.seen, in.Plaintext)
		kmsAnswer(w, map[string]any{"KeyId": said, "CiphertextBlob": append([]byte(arn+"\x00"), sealBytes(arn, in.Plaintext)...)})
		return
	}
	if by != arn {
		kmsError(w, http.StatusBadRequest, "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
		return
	}
	plain, err := openBytes(arn, []byte(sealed))
	if err != nil {
		kmsError(w, http.StatusBadRequest, "InvalidCiphertextException", "")
		return
	}
	if f.WrongPlaintext {
		for i := range plain {
			plain[i] ^= 0xff
		}
	}
	kmsAnswer(w, map[string]any{"KeyId": said, "Plaintext": plain})
}

// find resolves a key ID, a key's ARN, an alias or an alias's ARN.
func (k *KMS) find(id string) (string, *kmsKey) {
	if _, alias, ok := strings.Cut(id, ":alias/"); ok {
		id = "alias/" + alias
	}
	if arn, ok := k.aliases[id]; ok {
		id = arn
	}
	for arn, key := range k.keys {
		if arn == id || strings.HasSuffix(arn, ":key/"+id) {
			return arn, key
		}
	}
	return "", nil
}

func kmsAnswer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	json.NewEncoder(w).Encode(v)
}

func kmsError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}

// sealBytes encrypts under a key that derives from the name alone.
func sealBytes(name string, plain []byte) []byte {
	nonce := make([]byte, 12)
	rand.Read(nonce)
	return fakeKey(name).Seal(nonce, nonce, plain, nil)
}

func openBytes(name string, sealed []byte) ([]byte, error) {
	if len(sealed) < 12 {
		return nil, errors.New("too short")
	}
	return fakeKey(name).Open(nil, sealed[:12], sealed[12:], nil)
}

func fakeKey(name string) cipher.AEAD {
	sum := sha256.Sum256([]byte("sealtest: a key that everybody knows: " + name))
	block, err := aes.NewCipher(sum[:])
	if err != nil {
		panic(err) // a SHA-256 sum is an AES-256 key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has GCM's block size
	}
	return aead
}
