package tfstate

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// An info is what Terraform and OpenTofu say of a lock, as far as it matters here; the
// bytes are kept and sent back as they came.
type info struct {
	ID        string `json:"ID"`
	Operation string `json:"Operation"`
	Info      string `json:"Info"`
	Who       string `json:"Who"`
	Version   string `json:"Version"`
	Created   string `json:"Created"`
	Path      string `json:"Path"`
}

// A lock is held on a state, across restarts, until its holder or somebody who may
// force that releases it.
type lock struct {
	Version int             `json:"version"`
	ID      string          `json:"id"`
	Info    json.RawMessage `json:"info"`   // verbatim, but for white space
	Text    []byte          `json:"text"`   // verbatim
	Holder  string          `json:"holder"` // see identity
	Salt    []byte          `json:"salt"`
	Session []byte          `json:"session"` // HMAC-SHA-256 of the holder's token under the salt
	Since   time.Time       `json:"since"`
}

func (e engine) lockPath(path string) string { return e.prefix + "/lock/" + path }

// lock returns the lock of a state, nil when there is none.
func (e engine) lock(tx *storage.Tx, path string) (*lock, error) {
	l := new(lock)
	ok, err := e.get(tx, e.lockPath(path), "a lock", l)
	if !ok {
		return nil, err
	}
	return l, nil
}

// identity says who holds a lock: of a token that a login made, the role or user of the
// method and who that was; of any other the token itself.
func identity(t *access.Token) string {
	switch {
	case t.Method != "":
		return fmt.Sprintf("%s %q %q", t.Method, t.Login, t.DisplayName)
	case t.Accessor != "":
		return "token " + t.Accessor
	}
	id := t.ID()
	return "token " + hex.EncodeToString(id[:])
}

func (l *lock) hash(secret string) []byte {
	h := hmac.New(sha256.New, l.Salt)
	h.Write([]byte(secret))
	return h.Sum(nil)
}

// of reports whether the caller is the lock's holder. One whose proof has ended must
// have shown the same when it took the lock.
func (l *lock) of(c *api.Caller, longest time.Duration, now time.Time) bool {
	return l.Holder == identity(c.Token) && (!c.Ended || l.carries(c, longest, now))
}

// carries reports whether the caller's proof is the one with which the lock was taken,
// not too long ago.
func (l *lock) carries(c *api.Caller, longest time.Duration, now time.Time) bool {
	return now.Before(l.Since.Add(longest)) && hmac.Equal(l.Session, l.hash(c.Bearer))
}

// errLocked is told of a lock that somebody else holds. Terraform and OpenTofu print
// who, from the body.
func errLocked(l *lock) error {
	return &api.Error{Code: api.Locked, Text: fmt.Sprintf("the state is locked by %s, lock ID %s", l.who(), l.ID), Body: l.Text}
}

func (l *lock) who() string {
	var in info
	if json.Unmarshal(l.Text, &in) != nil || in.Who == "" {
		return "somebody"
	}
	return in.Who
}

// operation is what the holder says that it does.
func (l *lock) operation() string {
	var in info
	if json.Unmarshal(l.Text, &in) != nil {
		return ""
	}
	return strings.TrimPrefix(in.Operation, "OperationType")
}

// session reports whether a lock that is held on the state carries a proof that has
// ended.
func session(r *api.Request, tx *storage.Tx) (bool, error) {
	e, path := of(r)
	if r.Op != api.Write && r.Op != api.Unlock {
		return false, nil
	}
	l, err := e.lock(tx, path)
	if err != nil || l == nil {
		return false, err
	}
	s, err := e.settings(tx)
	return err == nil && l.carries(&r.Caller, s.session(), r.Now), err
}

func getLock(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	e, path := of(r)
	l, err := e.lock(tx, path)
	if err != nil {
		return api.Answer{}, err
	}
	if l == nil {
		return api.Answer{}, api.ErrAbsent
	}
	return api.Answer{Data: map[string]any{"lock": l.Info, "since": l.Since}}, nil
}

// putLock takes the lock of a state. Taking it again with the same ID is the retry of a
// client that has not heard the answer.
func putLock(r *api.Request, tx *storage.Tx, in *info) (api.Answer, error) {
	e, path := of(r)
	if err := checkPath(path); err != nil {
		return api.Answer{}, err
	}
	switch {
	case in.ID == "":
		return api.Answer{}, api.Invalid.Errorf("a lock needs an ID: send what Terraform calls LockInfo, as JSON")
	case len(in.ID) > 256:
		return api.Answer{}, api.Invalid.Errorf("a lock's ID has at most 256 bytes")
	}
	s, err := e.settings(tx)
	if err != nil {
		return api.Answer{}, err
	}
	l, err := e.lock(tx, path)
	switch {
	case err != nil:
		return api.Answer{}, err
	case l != nil && l.ID == in.ID && l.of(&r.Caller, s.session(), r.Now):
		return taken(l), nil
	case l != nil:
		return api.Answer{}, errLocked(l)
	}
	l = &lock{Version: 1, ID: in.ID, Info: r.Body, Text: r.Body, Holder: identity(r.Caller.Token), Salt: make([]byte, 16), Since: r.Now.UTC()}
	rand.Read(l.Salt)
	l.Session = l.hash(r.Caller.Bearer)
	return taken(l), e.put(tx, e.lockPath(path), l)
}

func taken(l *lock) api.Answer { return api.Answer{Raw: &api.Raw{Bytes: l.Text}} }

type unlockInput struct {
	ID string `json:"ID"`
}

// unlock releases the lock of a state. Without an ID, as Terraform's force-unlock asks,
// or for somebody else than the holder, that takes update on force-unlock/<path>, too.
func unlock(r *api.Request, tx *storage.Tx, in *unlockInput) (api.Answer, error) {
	e, path := of(r)
	s, err := e.settings(tx)
	if err != nil {
		return api.Answer{}, err
	}
	if in.ID == "" {
		in.ID = r.Query.Get("ID")
	}
	l, err := e.lock(tx, path)
	switch {
	case err != nil:
		return api.Answer{}, err
	case l == nil && r.Caller.Ended:
		return api.Answer{}, access.ErrDenied
	case l == nil:
		return released(nil, false), nil
	case in.ID != "" && in.ID != l.ID:
		return api.Answer{}, errLocked(l)
	case in.ID != "" && l.of(&r.Caller, s.session(), r.Now):
		return released(l, false), tx.Delete(e.lockPath(path))
	case r.Caller.Ended, !r.Caller.ACL.Find(r.Mount.Path + "force-unlock/" + path).Has(access.CanUpdate):
		return api.Answer{}, errLocked(l)
	}
	return released(l, true), tx.Delete(e.lockPath(path))
}

// forceUnlock releases whatever lock there is, or that of an ID.
func forceUnlock(r *api.Request, tx *storage.Tx, in *unlockInput) (api.Answer, error) {
	e, path := of(r)
	l, err := e.lock(tx, path)
	switch {
	case err != nil:
		return api.Answer{}, err
	case l == nil:
		return released(nil, true), nil
	case in.ID != "" && in.ID != l.ID:
		return api.Answer{}, errLocked(l)
	}
	return released(l, true), tx.Delete(e.lockPath(path))
}

// released is the answer when a lock is gone. The audit log has which, and whether it
// was taken from its holder.
func released(l *lock, forced bool) api.Answer {
	record := map[string]any{"forced": forced}
	if l != nil {
		record["lock"] = l.Info
	}
	return api.Answer{Raw: &api.Raw{Bytes: []byte("{}"), Record: record}}
}

// mayChange refuses to change a locked state for anybody but its holder, who says the
// lock's ID; and for somebody who says one that is not held any more.
func (e engine) mayChange(tx *storage.Tx, r *api.Request, path, id string) error {
	l, err := e.lock(tx, path)
	if err != nil {
		return err
	}
	s, err := e.settings(tx)
	switch {
	case err != nil:
		return err
	case l == nil && id == "" && !r.Caller.Ended:
		return nil
	case l == nil:
		return &api.Error{Code: api.Locked, Text: "the lock " + strings.ToValidUTF8(id[:min(len(id), 256)], "") +
			" is not held any more: somebody has released it by force; compare the state before you push yours"}
	case id != l.ID || !l.of(&r.Caller, s.session(), r.Now):
		return errLocked(l)
	}
	return nil
}
