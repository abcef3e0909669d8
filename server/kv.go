package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/storage"
)

// kvRoutes is every path below a mount of type kv.
var kvRoutes = []route{
	kvRoute("data/*", [ops]handler{opRead: kvRead, opWrite: kvWrite, opPatch: kvPatch, opDelete: kvDelete}),
	kvRoute("metadata/*", [ops]handler{opRead: kvReadMetadata, opList: kvList, opWrite: kvWriteMetadata,
		opPatch: kvPatchMetadata, opDelete: kvDeleteMetadata}),
	kvRoute("metadata", [ops]handler{opList: kvList}),
	kvRoute("delete/*", [ops]handler{opWrite: kvDeleteVersions}),
	kvRoute("undelete/*", [ops]handler{opWrite: kvUndelete}),
	kvRoute("destroy/*", [ops]handler{opWrite: kvDestroy}),
	kvRoute("subkeys/*", [ops]handler{opRead: kvSubkeys}),
	kvRoute("config", [ops]handler{opRead: kvReadConfig, opWrite: kvWriteConfig}),
}

// kvUnknown answers for every other path below a mount.
var kvUnknown = func() route {
	r := kvRoute("*", [ops]handler{opRead: kvLost, opList: kvLost, opWrite: kvLost, opPatch: kvLost, opDelete: kvLost})
	r.label = "{mount}/{path}"
	return r
}()

func kvRoute(path string, on [ops]handler) route {
	return route{path: path, gate: authenticated, body: bodyKV, timeout: timeoutLong, on: on}
}

// view runs fn on the mount's engine in a read transaction.
func (r *request) view(fn func(*storage.Tx, kv.Engine) error) error {
	return r.keep.store.View(r.ctx, func(tx *storage.Tx) error { return fn(tx, r.mount.engine()) })
}

// update runs fn on the mount's engine, unless the mount has been removed by a
// transaction before this one.
func (r *request) update(fn func(*storage.Tx, kv.Engine) error) error {
	return r.keep.store.Update(r.ctx, func(tx *storage.Tx) error {
		if r.mount.gone.Load() {
			return errNoRoute(r.path)
		}
		return fn(tx, r.mount.engine())
	})
}

// number reads a parameter of the query that is a whole number, 0 when absent.
func (r *request) number(name string) (uint64, error) {
	v := r.query.Get(name)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil {
		return 0, invalid("bad value for %s parameter: %q is not a whole number", name, v)
	}
	return n, nil
}

// patching checks that a PATCH says which kind of patch it is.
func (r *request) patching() error {
	const want = "application/merge-patch+json"
	if kind, _, err := mime.ParseMediaType(r.http.Header.Get("Content-Type")); err != nil || kind != want {
		return &requestError{http.StatusUnsupportedMediaType, fmt.Sprintf("PATCH requires Content-Type of %s, provided %s", want, kind)}
	}
	return nil
}

func kvRead(s *Server, r *request) (answer, error) {
	version, err := r.number("version")
	if err != nil {
		return answer{}, err
	}
	var secret kv.Secret
	err = r.view(func(tx *storage.Tx, e kv.Engine) (err error) {
		secret, err = e.Get(tx, r.rest, version, s.now())
		return err
	})
	return secretAnswer(secret, "", err)
}

func kvSubkeys(s *Server, r *request) (answer, error) {
	version, err := r.number("version")
	if err != nil {
		return answer{}, err
	}
	depth, err := r.number("depth")
	if err != nil {
		return answer{}, err
	}
	var secret kv.Secret
	err = r.view(func(tx *storage.Tx, e kv.Engine) (err error) {
		secret, err = e.Subkeys(tx, r.rest, version, int(depth), s.now())
		return err
	})
	return secretAnswer(secret, "subkeys", err)
}

// secretAnswer shows a secret; one without data is 404 with what is known of it.
// as is the name of the data, "" for "data".
func secretAnswer(secret kv.Secret, as string, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	a := answer{data: secret}
	if secret.Data == nil {
		a.status = http.StatusNotFound
	}
	if as != "" {
		a.data = map[string]any{as: secret.Data, "metadata": secret.Meta}
	}
	return a, nil
}

// writeInput is the body of a write or a patch of data.
type writeInput struct {
	Data    json.RawMessage `json:"data"`
	Options struct {
		CAS json.RawMessage `json:"cas"`
	} `json:"options"`
}

// written reads the body before the transaction begins: a large secret must not
// be checked while other writers wait.
func (r *request) written() (data kv.Data, cas *int, err error) {
	var in writeInput
	if err := r.decode(&in); err != nil {
		return data, nil, err
	}
	if text := scalar(in.Options.CAS); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return data, nil, invalid("error parsing check-and-set parameter")
		}
		cas = &n
	}
	data, err = kv.Parse("data", in.Data)
	return data, cas, err
}

func kvWrite(s *Server, r *request) (answer, error) {
	data, cas, err := r.written()
	if err != nil {
		return answer{}, err
	}
	var meta kv.Meta
	err = r.update(func(tx *storage.Tx, e kv.Engine) (err error) {
		meta, err = e.Put(tx, r.rest, data, cas, s.now())
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return answer{data: meta}, nil
}

func kvPatch(s *Server, r *request) (answer, error) {
	if err := r.patching(); err != nil {
		return answer{}, err
	}
	data, cas, err := r.written()
	if err != nil {
		return answer{}, err
	}
	var meta kv.Meta
	err = r.update(func(tx *storage.Tx, e kv.Engine) (err error) {
		meta, err = e.Patch(tx, r.rest, data, cas, s.now())
		return err
	})
	switch {
	case errors.Is(err, kv.ErrGone):
		return answer{status: http.StatusNotFound, data: meta}, nil
	case err != nil:
		return answer{}, err
	}
	return answer{data: meta}, nil
}

func kvDelete(s *Server, r *request) (answer, error) {
	return answer{}, r.update(func(tx *storage.Tx, e kv.Engine) error { return e.Delete(tx, r.rest, s.now()) })
}

// versions reads the body of the operations on given versions.
func (r *request) versions() ([]uint64, error) {
	var in struct {
		Versions loose[[]uint64] `json:"versions"`
	}
	err := r.decode(&in)
	return in.Versions.value, err
}

func kvDeleteVersions(s *Server, r *request) (answer, error) {
	versions, err := r.versions()
	if err != nil {
		return answer{}, err
	}
	return answer{}, r.update(func(tx *storage.Tx, e kv.Engine) error { return e.DeleteVersions(tx, r.rest, versions, s.now()) })
}

func kvUndelete(s *Server, r *request) (answer, error) {
	versions, err := r.versions()
	if err != nil {
		return answer{}, err
	}
	return answer{}, r.update(func(tx *storage.Tx, e kv.Engine) error { return e.Undelete(tx, r.rest, versions, s.now()) })
}

func kvDestroy(s *Server, r *request) (answer, error) {
	versions, err := r.versions()
	if err != nil {
		return answer{}, err
	}
	return answer{}, r.update(func(tx *storage.Tx, e kv.Engine) error { return e.Destroy(tx, r.rest, versions) })
}

func kvReadMetadata(s *Server, r *request) (answer, error) {
	var m kv.Metadata
	err := r.view(func(tx *storage.Tx, e kv.Engine) (err error) {
		m, err = e.Metadata(tx, r.rest)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return answer{data: m}, nil
}

func kvList(s *Server, r *request) (answer, error) {
	var keys []string
	err := r.view(func(tx *storage.Tx, e kv.Engine) (err error) {
		keys, err = e.List(tx, r.rest)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return answer{data: map[string][]string{"keys": keys}}, nil
}

// settingsInput is the body of a change of settings, of a secret or a mount.
type settingsInput struct {
	MaxVersions        loose[int]           `json:"max_versions"`
	CASRequired        loose[bool]          `json:"cas_required"`
	DeleteVersionAfter loose[time.Duration] `json:"delete_version_after"`
	Custom             json.RawMessage      `json:"custom_metadata"`
}

func (r *request) settings() (kv.Settings, kv.Data, error) {
	var in settingsInput
	if err := r.decode(&in); err != nil {
		return kv.Settings{}, kv.Data{}, err
	}
	custom, err := kv.Parse("custom_metadata", in.Custom)
	return kv.Settings{
		MaxVersions:        in.MaxVersions.pointer(),
		CASRequired:        in.CASRequired.pointer(),
		DeleteVersionAfter: in.DeleteVersionAfter.pointer(),
	}, custom, err
}

func kvWriteMetadata(s *Server, r *request) (answer, error) {
	settings, custom, err := r.settings()
	if err != nil {
		return answer{}, err
	}
	return answer{}, r.update(func(tx *storage.Tx, e kv.Engine) error {
		return e.PutMetadata(tx, r.rest, settings, custom, s.now())
	})
}

func kvPatchMetadata(s *Server, r *request) (answer, error) {
	if err := r.patching(); err != nil {
		return answer{}, err
	}
	settings, custom, err := r.settings()
	if err != nil {
		return answer{}, err
	}
	return answer{}, r.update(func(tx *storage.Tx, e kv.Engine) error {
		return e.PatchMetadata(tx, r.rest, settings, custom, s.now())
	})
}

func kvDeleteMetadata(s *Server, r *request) (answer, error) {
	return answer{}, r.update(func(tx *storage.Tx, e kv.Engine) error { return e.DeleteMetadata(tx, r.rest) })
}

func kvReadConfig(s *Server, r *request) (answer, error) {
	var c kv.Config
	err := r.view(func(tx *storage.Tx, e kv.Engine) (err error) {
		c, err = e.Config(tx)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return answer{data: c}, nil
}

func kvWriteConfig(s *Server, r *request) (answer, error) {
	settings, _, err := r.settings()
	if err != nil {
		return answer{}, err
	}
	return answer{}, r.update(func(tx *storage.Tx, e kv.Engine) error { return e.PutConfig(tx, settings) })
}

// kvLost answers a path that KV version 1 would have, as Vault does.
func kvLost(s *Server, r *request) (answer, error) {
	command := [ops]string{opRead: "get", opList: "list", opWrite: "put", opPatch: "patch", opDelete: "delete"}[r.op]
	return answer{status: http.StatusNotFound, warnings: []string{
		"Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. " +
			"If using the Vault CLI, use 'vault kv " + command + "' for this operation."}}, nil
}
