package tfstate

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/engine/tfstate/state"
	"github.com/sealkeep/sealkeep/storage"
)

type getInput struct {
	Version int `json:"version"` // 0: the newest
}

// get sends a state, or an older version of it.
func get(r *api.Request, in *getInput) (api.Answer, error) {
	_, v, content, err := find(r, in.Version)
	if err != nil {
		return api.Answer{}, err
	}
	first := make([]byte, min(v.Size, 512)) // so that what cannot be read is told before the answer begins
	if _, err := io.ReadFull(content, first); err != nil {
		return api.Answer{}, err
	}
	stream := struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(first), content), content}
	return api.Answer{Raw: &api.Raw{
		Stream: stream, Length: v.Size, Header: map[string]string{"Content-MD5": base64.StdEncoding.EncodeToString(v.MD5)}, Record: v.record(),
	}}, nil
}

// record is what the audit log has of a state that was sent or stored.
func (v *version) record() map[string]any {
	return map[string]any{"version": v.Number, "serial": v.Serial, "size": v.Size, "sha256": v.SHA256}
}

// outputs sends a state with nothing but its root outputs. Whoever may not read the
// state, since a policy says so of its path, may not read these.
func outputs(r *api.Request, in *getInput) (api.Answer, error) {
	if r.Caller.ACL.Find(r.Mount.Path+"data/"+r.Param("path")).Capabilities()&access.Denied != 0 {
		return api.Answer{}, access.ErrDenied
	}
	_, v, content, err := find(r, in.Version)
	if err != nil {
		return api.Answer{}, err
	}
	b, err := state.Outputs(content)
	switch {
	case errors.Is(err, state.ErrEncrypted):
		return api.Answer{}, api.Conflict.Errorf("%v: its outputs cannot be taken out here; read all of it, with OpenTofu's encryption block", err)
	case errors.Is(err, state.ErrNotState), errors.Is(err, state.ErrTooLarge):
		return api.Answer{}, api.Conflict.Errorf("the outputs cannot be taken out of it: %v", err)
	case err != nil:
		return api.Answer{}, err
	}
	return api.Answer{Raw: &api.Raw{Bytes: b, Record: v.record()}}, nil
}

type postInput struct {
	ID string `json:"ID"` // of the lock
}

// post stores a state as the newest version. It is refused before its body is read if
// somebody else has the lock, and again when that is stored.
func post(r *api.Request, body io.Reader, in *postInput) (api.Answer, error) {
	e, path := of(r)
	if err := checkPath(path); err != nil {
		return api.Answer{}, err
	}
	if err := r.View(func(tx *storage.Tx) error { return e.mayChange(tx, r, path, in.ID) }); err != nil {
		return api.Answer{}, err
	}
	want, err := contentMD5(r)
	if err != nil {
		return api.Answer{}, err
	}
	c, err := store(r, body)
	if errors.Is(err, state.ErrNotState) {
		return api.Answer{}, api.Invalid.Errorf("%v: nothing was stored", err)
	}
	if err != nil {
		return api.Answer{}, err
	}
	if want != nil && !bytes.Equal(want, c.md5[:]) {
		c.abandon(r)
		return api.Answer{}, api.Invalid.Errorf("the body is not the one of which the header Content-MD5 tells: nothing was stored")
	}
	v, err := commit(r, c, in.ID, "", func(*head) error { return nil })
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Raw: &api.Raw{JSON: v.record()}}, nil
}

// contentMD5 is what the header says (RFC 1864), nil without one.
func contentMD5(r *api.Request) ([]byte, error) {
	text := r.Header.Get("Content-Md5")
	if text == "" {
		return nil, nil
	}
	sum, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(sum) != 16 {
		return nil, api.Invalid.Errorf("the header Content-MD5 is no MD5 in base64")
	}
	return sum, nil
}

// commit makes what was stored the newest version of the state, in one transaction; what
// is there already, byte for byte, is not stored again: it is the retry of a client
// that has not heard the answer. check may refuse it.
func commit(r *api.Request, c *content, id, operation string, check func(*head) error) (v *version, err error) {
	e, path := of(r)
	stored := false
	err = r.Update(func(tx *storage.Tx) error {
		v, stored = nil, false
		if err := e.mayChange(tx, r, path, id); err != nil {
			return err
		}
		h, err := e.head(tx, path)
		if err != nil {
			return err
		}
		if err := check(h); err != nil {
			return err
		}
		if h == nil {
			h = &head{Version: recordVersion, ID: newID(), First: 1}
		}
		s, err := e.settings(tx)
		if err != nil {
			return err
		}
		s = h.Settings.over(s)
		sum, was := hex.EncodeToString(c.sha256[:]), h.Current
		if was != nil && was.SHA256 == sum && h.Deleted.IsZero() {
			v = was
			return nil
		}
		v = &version{
			Number: h.Last + 1, Serial: c.scanned.Serial, Lineage: c.scanned.Lineage, Time: r.Now.UTC(), Size: c.size, SHA256: sum, MD5: c.md5[:],
			Terraform: c.scanned.Terraform, Encrypted: c.scanned.Encrypted, Who: r.Caller.Token.DisplayName, Operation: operation,
		}
		if r.Caller.Source.IsValid() {
			v.From = r.Caller.Source.String()
		}
		if was != nil {
			v.LineageNew = was.Lineage != v.Lineage
			v.SerialBack = !v.LineageNew && v.Serial < was.Serial
		}
		if s.Strict && (v.LineageNew || v.SerialBack) {
			return api.Conflict.Errorf("the state that is stored has serial %d and lineage %s, this one serial %d and lineage %s: the setting strict refuses that",
				was.Serial, was.Lineage, v.Serial, v.Lineage)
		}
		if l, err := e.lock(tx, path); err != nil {
			return err
		} else if l != nil && v.Operation == "" {
			v.Operation = l.operation()
		}
		if err := c.blob.Put(tx, e.dataPath(h.ID, v.Number)); err != nil {
			return err
		}
		if err := e.put(tx, e.versionPath(h.ID, v.Number), v); err != nil {
			return err
		}
		h.Last, h.Current, h.Deleted, stored = v.Number, v, time.Time{}, true
		if err := e.prune(tx, h, s, r.Now); err != nil {
			return err
		}
		return e.put(tx, e.headPath(path), h)
	})
	if err != nil || !stored {
		c.abandon(r)
	}
	return v, err
}

type rollbackInput struct {
	Version int    `json:"version"`
	ID      string `json:"ID"` // of the caller's lock
}

// rollback stores the content of an older version as the newest one, with the serial
// after that of the newest, so that every client takes it.
func rollback(r *api.Request, in *rollbackInput) (api.Answer, error) {
	if in.Version <= 0 {
		return api.Answer{}, api.Invalid.Errorf("say which version, in the parameter version")
	}
	h, old, content, err := find(r, in.Version)
	if err != nil {
		return api.Answer{}, err
	}
	if old.Encrypted {
		return api.Answer{}, api.Conflict.Errorf("%v, which checks its serial: pull version %d and push it with `tofu state push -force`", state.ErrEncrypted, in.Version)
	}
	scanned := new(state.Scanner)
	if _, err := io.Copy(scanned, content); err != nil {
		return api.Answer{}, err
	}
	last := h.Last
	serial := max(h.Current.Serial, old.Serial) + 1
	from, to := io.Pipe()
	content.next, content.rest = 0, nil
	go func() { to.CloseWithError(state.SetSerial(to, content, scanned, serial)) }()
	c, err := store(r, from)
	from.CloseWithError(io.ErrClosedPipe)
	if err != nil {
		return api.Answer{}, err
	}
	v, err := commit(r, c, in.ID, "rollback", func(h *head) error {
		if h == nil || h.Last != last {
			return api.Conflict.Errorf("the state was written meanwhile: look at its history, then roll back again")
		}
		return nil
	})
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: v}, nil
}
