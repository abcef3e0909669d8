package sealtest

import (
	"maps"
	"net/http"
	"strconv"
	"time"
)

// A Transit also has a KV version 2 engine, mounted at "kv", with the operation read, and a login for Kubernetes service
// accounts, mounted at auth/kubernetes, with the operation login.

// kvVersion is one version of a secret.
type kvVersion struct {
	data      map[string]any
	deleted   time.Time
	destroyed bool
}

// Write makes the next version of the secret kv/data/NAME, with one field.
func (s *Transit) Write(name, field string, value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[name] = append(s.secrets[name], kvVersion{data: map[string]any{field: value}})
}

// Delete deletes a version of a secret at that time, which may be in the future; the zero time restores it.
func (s *Transit) Delete(name string, version int, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[name][version-1].deleted = at
}

// Destroy destroys a version of a secret.
func (s *Transit) Destroy(name string, version int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[name][version-1].destroyed = true
}

// AllowAccount lets the service account with this token log in to a role; the token that it gets is the fake's Token.
func (s *Transit) AllowAccount(jwt, role string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[jwt] = role
}

// SetLookup sets fields of the answer to lookup-self, which by default describes an orphan, periodic token.
func (s *Transit) SetLookup(fields map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookup = maps.Clone(fields)
}

// read answers with one version of a secret; 0 is the newest. s.mu is held.
func (s *Transit) read(w http.ResponseWriter, name, version string) {
	versions := s.secrets[name]
	n := len(versions)
	if version != "" {
		n, _ = strconv.Atoi(version)
	}
	if n < 1 || n > len(versions) {
		w.WriteHeader(http.StatusNotFound)
		writeJSON(w, map[string]any{"errors": []string{}})
		return
	}
	v := versions[n-1]
	meta := map[string]any{"version": n, "destroyed": v.destroyed, "deletion_time": ""}
	if !v.deleted.IsZero() {
		meta["deletion_time"] = v.deleted.UTC().Format(time.RFC3339Nano)
	}
	body := map[string]any{"data": v.data, "metadata": meta}
	if v.destroyed || !v.deleted.IsZero() && v.deleted.Before(time.Now()) {
		body["data"] = nil
		w.WriteHeader(http.StatusNotFound)
	}
	transitAnswer(w, map[string]any{"data": body})
}

// logIn answers to a service account. s.mu is held.
func (s *Transit) logIn(w http.ResponseWriter, jwt, role string) {
	may, ok := s.accounts[jwt]
	switch {
	case !ok:
		transitError(w, http.StatusForbidden, "permission denied")
	case may != role:
		transitError(w, http.StatusBadRequest, "invalid role name \""+role+"\"")
	default:
		s.answerToken(w)
	}
}

// lookUp answers to a token that asks about itself. s.mu is held.
func (s *Transit) lookUp(w http.ResponseWriter) {
	created := time.Now().UTC()
	data := map[string]any{"accessor": fakeID, "creation_time": created.Unix(), "creation_ttl": s.lease, "display_name": "token", "entity_id": "",
		"expire_time": created.Add(time.Duration(s.lease) * time.Second).Format(time.RFC3339Nano), "explicit_max_ttl": 0, "id": s.Token,
		"issue_time": created.Format(time.RFC3339Nano), "meta": nil, "num_uses": 0, "orphan": true, "path": "auth/token/create-orphan", "period": s.lease,
		"policies": []string{"default", "sealkeep"}, "renewable": !s.fixed, "ttl": s.lease, "type": "service"}
	if s.ttl != 0 {
		data["ttl"] = int(time.Until(s.expires).Round(time.Second).Seconds())
		data["creation_ttl"] = int(s.ttl.Seconds())
		data["expire_time"] = s.expires.UTC().Format(time.RFC3339Nano)
		delete(data, "period")
	}
	maps.Copy(data, s.lookup)
	transitAnswer(w, map[string]any{"data": data})
}
