package sealtest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Transit is a stand-in for the Transit engine of Vault and OpenBao, mounted at "transit", with their answers. Its token
// may make keys, but the mount has disable_upsert, so that encrypting makes none. Its operations are named encrypt, decrypt,
// renew-self, lookup-self and seal-status, and read and login (see kv.go). It is also an http.Handler, for tests that need
// it behind TLS.
type Transit struct {
	*Server
	faults
	Token string // the only token accepted; SetToken changes it

	mu      sync.Mutex
	keys    map[string]int // name -> newest version
	least   map[string]int // name -> oldest version that decrypts
	seen    [][]byte
	lease   int
	fixed   bool          // the token cannot be renewed
	ttl     time.Duration // 0: the token does not expire
	expires time.Time     // with a ttl
	most    time.Time     // no renewal goes beyond; zero: no limit

	secrets  map[string][]kvVersion
	accounts map[string]string // service account's token -> role
	lookup   map[string]any
	sealed   bool
}

// NewTransit starts a Transit without keys. Its token can be renewed for an hour at a time.
func NewTransit(t testing.TB) *Transit {
	s := &Transit{Token: "fake-transit-token", keys: map[string]int{}, least: map[string]int{}, lease: 3600,
		secrets: map[string][]kvVersion{}, accounts: map[string]string{}}
	s.Server = Serve(t, s)
	t.Cleanup(s.Heal)
	return s
}

// AddKey makes version 1 of a key, or the next version of one that exists.
func (s *Transit) AddKey(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name]++
}

// SetMinVersion sets the oldest version of a key that decrypts.
func (s *Transit) SetMinVersion(name string, version int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.least[name] = version
}

// SetLease sets how long a renewal lasts, in seconds.
func (s *Transit) SetLease(seconds int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease = seconds
}

// SetTTL makes the token expire ttl after now and after each renewal, but at the latest most from now, unless most is 0.
// With a ttl of 0 it lives for ever; a negative one revokes it. Both are whole seconds, as in leases.
func (s *Transit) SetTTL(ttl, most time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ttl, s.most = ttl, time.Time{}
	if most != 0 {
		s.most = time.Now().Add(most)
	}
	s.renew()
}

// SetSealed makes seal-status say that the server is sealed, and everything else fail.
func (s *Transit) SetSealed(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = yes
}

// SetToken makes another token the only one. It lives for ever.
func (s *Transit) SetToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Token, s.ttl = token, 0
}

// SetRenewable sets whether the token can be renewed. At first it can.
func (s *Transit) SetRenewable(yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fixed = !yes
}

// renew restarts the token's TTL and returns it in seconds.
func (s *Transit) renew() int {
	if s.ttl == 0 {
		return s.lease
	}
	s.expires = time.Now().Add(s.ttl)
	if !s.most.IsZero() && s.most.Before(s.expires) {
		s.expires = s.most
	}
	return int(time.Until(s.expires).Round(time.Second).Seconds())
}

// Plaintexts returns everything that encrypt was handed.
func (s *Transit) Plaintexts() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]byte(nil), s.seen...)
}

func (s *Transit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut && r.Method != http.MethodPost && r.Method != http.MethodGet {
		transitError(w, http.StatusMethodNotAllowed, "unsupported operation")
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	var op, key string
	switch {
	case strings.HasPrefix(path, "auth/token/"):
		op = strings.TrimPrefix(path, "auth/token/")
	case path == "sys/seal-status":
		op = "seal-status"
	case path == "auth/kubernetes/login":
		op = "login"
	case strings.HasPrefix(path, "kv/data/"):
		op, key = "read", strings.TrimPrefix(path, "kv/data/")
	case strings.HasPrefix(path, "transit/"):
		op, key, _ = strings.Cut(strings.TrimPrefix(path, "transit/"), "/")
	}
	var in struct {
		Plaintext  []byte
		Ciphertext string
		JWT, Role  string
	}
	json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&in) // an empty body is fine
	f := s.next(r.Context(), w, op)
	if r.Context().Err() != nil {
		return
	}
	if f.Status != 0 {
		transitError(w, f.Status, f.Message)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case op == "seal-status":
		status := map[string]any{"type": "shamir", "initialized": true, "sealed": s.sealed, "t": 1, "n": 1, "progress": 0, "nonce": "", "version": "2.4.4",
			"build_date": "2025-11-24T13:15:05Z", "migration": false, "recovery_seal": false, "storage_type": "raft"}
		if !s.sealed {
			status["cluster_name"], status["cluster_id"] = "bao-cluster-1f3b6c2e", fakeID
		}
		writeJSON(w, status)
		return
	case s.sealed:
		transitError(w, http.StatusServiceUnavailable, "Vault is sealed")
		return
	case op == "login":
		s.logIn(w, in.JWT, in.Role)
		return
	}
	if r.Header.Get("X-Vault-Token") != s.Token || s.ttl != 0 && time.Now().After(s.expires) {
		transitError(w, http.StatusForbidden, "permission denied")
		return
	}
	switch op {
	case "renew-self":
		if s.fixed {
			transitError(w, http.StatusBadRequest, "lease is not renewable")
			return
		}
		s.answerToken(w)
	case "lookup-self":
		s.lookUp(w)
	case "read":
		s.read(w, key, r.URL.Query().Get("version"))
	case "encrypt":
		version := s.keys[key]
		if version == 0 {
			transitError(w, http.StatusBadRequest, "encryption key not found")
			return
		}
		s.seen = append(s.seen, in.Plaintext)
		sealed := sealBytes(fmt.Sprint(key, version), in.Plaintext)
		transitAnswer(w, map[string]any{"data": map[string]any{
			"ciphertext": fmt.Sprintf("vault:v%d:%s", version, base64.StdEncoding.EncodeToString(sealed)), "key_version": version}})
	case "decrypt":
		if s.keys[key] == 0 {
			transitError(w, http.StatusBadRequest, "encryption key not found")
			return
		}
		version, sealed, wrong := s.split(key, in.Ciphertext)
		if wrong != "" {
			transitError(w, http.StatusBadRequest, wrong)
			return
		}
		plain, err := openBytes(fmt.Sprint(key, version), sealed)
		if err != nil {
			transitError(w, http.StatusBadRequest, "cipher: message authentication failed")
			return
		}
		if f.WrongPlaintext {
			for i := range plain {
				plain[i] ^= 0xff
			}
		}
		transitAnswer(w, map[string]any{"data": map[string]any{"plaintext": plain}})
	default:
		transitError(w, http.StatusNotFound, "no handler for route \""+path+"\". route entry not found.")
	}
}

// split takes a ciphertext of a key apart, or says what is wrong with it. s.mu is held.
func (s *Transit) split(key, ciphertext string) (version int, sealed []byte, wrong string) {
	rest, ok := strings.CutPrefix(ciphertext, "vault:v")
	if !ok {
		return 0, nil, "invalid ciphertext: no prefix"
	}
	number, text, ok := strings.Cut(rest, ":")
	if !ok {
		return 0, nil, "invalid ciphertext: wrong number of fields"
	}
	version, err := strconv.Atoi(number)
	switch {
	case err != nil:
		return 0, nil, "invalid ciphertext: version number could not be decoded"
	case version > s.keys[key]:
		return 0, nil, "invalid ciphertext: version is too new"
	case version < s.least[key]:
		return 0, nil, "ciphertext or signature version is disallowed by policy (too old)"
	}
	if sealed, err = base64.StdEncoding.DecodeString(text); err != nil {
		return 0, nil, "invalid ciphertext: could not decode base64"
	}
	return version, sealed, ""
}

// fakeID is every ID and accessor.
const fakeID = "6c2e1f3b-9d0a-4c1e-8f57-0a5be4d37c19"

// answerToken answers with the token and its new life. s.mu is held.
func (s *Transit) answerToken(w http.ResponseWriter) {
	policies := []string{"default", "sealkeep"}
	transitAnswer(w, map[string]any{"auth": map[string]any{"client_token": s.Token, "accessor": fakeID, "policies": policies, "token_policies": policies,
		"metadata": nil, "lease_duration": s.renew(), "renewable": true, "entity_id": "", "token_type": "service", "orphan": true,
		"mfa_requirement": nil, "num_uses": 0}})
}

// transitAnswer answers with all that every answer has, and with what this one has instead.
func transitAnswer(w http.ResponseWriter, part map[string]any) {
	whole := map[string]any{"request_id": fakeID, "lease_id": "", "renewable": false, "lease_duration": 0, "data": nil, "wrap_info": nil, "warnings": nil, "auth": nil}
	maps.Copy(whole, part)
	writeJSON(w, whole)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func transitError(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string][]string{"errors": {message}})
}
