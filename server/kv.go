package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/storage"
)

// kvRoutes is every path below a mount of type kv.
var kvRoutes = []route{
	kvSecretRoute("data/*", [ops]handler{opRead: kvRead, opWrite: kvWrite, opPatch: kvPatch, opDelete: kvDelete}),
	kvSecretRoute("metadata/*", [ops]handler{opRead: kvReadMetadata, opList: kvList, opScan: kvScan, opWrite: kvWriteMetadata,
		opPatch: kvPatchMetadata, opDelete: kvDeleteMetadata}),
	kvRoute("data", kvRoot),
	kvRoute("metadata", [ops]handler{opRead: kvNameless, opList: kvList, opScan: kvScan, opWrite: kvNameless, opPatch: kvNameless, opDelete: kvNameless}),
	kvRoute("detailed-metadata/*", [ops]handler{opList: kvListDetailed, opScan: kvScanDetailed}),
	kvRoute("detailed-metadata", [ops]handler{opList: kvListDetailed, opScan: kvScanDetailed}),
	kvRoute("delete", kvRoot),
	kvRoute("undelete", kvRoot),
	kvRoute("destroy", kvRoot),
	kvRoute("delete/*", [ops]handler{opWrite: kvDeleteVersions}),
	kvRoute("undelete/*", [ops]handler{opWrite: kvUndelete}),
	kvRoute("destroy/*", [ops]handler{opWrite: kvDestroy}),
	kvRoute("subkeys/*", [ops]handler{opRead: kvSubkeys}),
	kvRoute("config", [ops]handler{opRead: kvReadConfig, opWrite: kvWriteConfig}),
}

// kvRoot is what the folders above the secrets do without the name of a secret.
var kvRoot = [ops]handler{opRead: kvNameless, opWrite: kvNameless, opPatch: kvNameless, opDelete: kvNameless}

// kvUnknown answers for every other path below a mount.
var kvUnknown = func() route {
	r := kvRoute("*", [ops]handler{opRead: kvLost, opList: kvLost, opScan: kvLost, opWrite: kvLost, opPatch: kvLost, opDelete: kvLost})
	r.label = "{mount}/{path}"
	return r
}()

func kvRoute(path string, on [ops]handler) route {
	return route{path: path, gate: authenticated, body: bodyKV, timeout: timeoutLong, on: on}
}

// kvSecretRoute is one where a secret is created or updated.
func kvSecretRoute(path string, on [ops]handler) route {
	r := kvRoute(path, on)
	r.exists = kvExists
	return r
}

func kvExists(r *request, tx *storage.Tx) (bool, error) {
	return r.mount.engine().Exists(tx, r.rest)
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
		if err := r.mayWrite(tx); err != nil { // again: another may have been quicker
			return err
		}
		return fn(tx, r.mount.engine())
	})
}

// updates runs fn in transactions until there is no more to do.
func (r *request) updates(fn func(*storage.Tx, kv.Engine) (more bool, err error)) error {
	for more := true; more; {
		if err := r.update(func(tx *storage.Tx, e kv.Engine) (err error) {
			more, err = fn(tx, e)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// add runs fn, which adds a version to a secret, and before it removes what that
// pushes out, where it is too much for one transaction.
func (r *request) add(fn func(*storage.Tx, kv.Engine) error) error {
	for {
		err := r.update(fn)
		if !errors.Is(err, kv.ErrTrim) {
			return err
		}
		if err := r.updates(func(tx *storage.Tx, e kv.Engine) (bool, error) { return e.Trim(tx, r.rest) }); err != nil {
			return err
		}
	}
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

// What the endpoints take, in the query or in the body, of all their operations.
var (
	dataFields     = []string{"path", "version", "options", "data"}
	subkeysFields  = []string{"path", "version", "depth"}
	configFields   = []string{"max_versions", "cas_required", "metadata_cas_required", "delete_version_after"}
	metadataFields = []string{"path", "max_versions", "cas_required", "metadata_cas_required", "metadata_cas", "delete_version_after", "custom_metadata", "after", "limit", "list", "scan"}
)

// ignored warns of parameters that the endpoint does not have, as Vault does
// where it sends an answer at all.
func ignored[V any](given map[string]V, known []string) []string {
	var unknown []string
	for name := range given {
		if !slices.Contains(known, name) {
			unknown = append(unknown, name)
		}
	}
	if unknown == nil {
		return nil
	}
	slices.Sort(unknown)
	return []string{fmt.Sprintf("Endpoint ignored these unrecognized parameters: %v", unknown)}
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
	if err != nil {
		return answer{}, err
	}
	return answer{status: found(secret), data: secret, warnings: ignored(r.query, dataFields)}, nil
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
	if err != nil {
		return answer{}, err
	}
	data := map[string]any{"subkeys": secret.Data, "metadata": secret.Meta}
	return answer{status: found(secret), data: data, warnings: ignored(r.query, subkeysFields)}, nil
}

// found is the status for a secret: one that is deleted is shown without data.
func found(secret kv.Secret) int {
	if secret.Data == nil {
		return http.StatusNotFound
	}
	return http.StatusOK
}

// written is the body of a write or a patch of data.
type written struct {
	data     kv.Data
	cas      *int
	warnings []string
}

// written reads the body before the transaction begins: a large secret must not
// be checked while other writers wait.
func (r *request) written() (w written, err error) {
	var in, options map[string]json.RawMessage
	var text shape
	if body := bytes.TrimSpace(r.body); len(body) > 0 && body[0] == '{' && json.Valid(body) {
		text = scan(body)
		in = text.members
	} else if err = r.decode(&in); err != nil {
		return w, err
	}
	w.warnings = ignored(in, dataFields)
	if raw := in["options"]; raw != nil {
		if err := json.Unmarshal(raw, &options); err != nil {
			return w, invalid("options must be a JSON object")
		}
	}
	if raw, given := options["cas"]; given { // null counts as 0, as in Vault: it checks
		n, err := strconv.Atoi(cmp.Or(scalar(raw), "0"))
		if err != nil {
			return w, invalid("error parsing check-and-set parameter")
		}
		w.cas = &n
	}
	data := in["data"]
	if text.levels > maxLevels+1 {
		return w, errLevels
	}
	if text.twice && data != nil {
		if data, err = last(data); err != nil {
			return w, err
		}
	}
	if text.twice || text.spaced {
		w.data, err = kv.Parse("data", data)
	} else {
		w.data, err = kv.Compact("data", data)
	}
	return w, err
}

func kvWrite(s *Server, r *request) (answer, error) {
	w, err := r.written()
	if err != nil {
		return answer{}, err
	}
	var meta kv.Meta
	err = r.add(func(tx *storage.Tx, e kv.Engine) (err error) {
		meta, err = e.Put(tx, r.rest, w.data, w.cas, s.now())
		return err
	})
	if err != nil {
		return answer{}, err
	}
	return answer{data: meta, warnings: w.warnings}, nil
}

func kvPatch(s *Server, r *request) (answer, error) {
	if err := r.patching(); err != nil {
		return answer{}, err
	}
	w, err := r.written()
	if err != nil {
		return answer{}, err
	}
	// One at a time: what is being merged takes many times its size in memory,
	// and those that patch one secret would make each other's work vain.
	alone := false
	merging := func() error {
		if alone {
			return nil
		}
		select {
		case s.merging <- struct{}{}:
			alone = true
			return nil
		case <-r.ctx.Done():
			return r.ctx.Err()
		}
	}
	defer func() {
		if alone {
			<-s.merging
		}
	}()
	if len(r.body) > kv.MergeInside {
		if err := merging(); err != nil {
			return answer{}, err
		}
	}
	merge, err := kv.NewMerge(w.data)
	if err != nil {
		return answer{}, err
	}
	var meta kv.Meta
	for {
		err = r.add(func(tx *storage.Tx, e kv.Engine) (err error) {
			meta, err = e.Patch(tx, r.rest, merge, w.cas, s.now())
			return err
		})
		if !errors.Is(err, kv.ErrUnprepared) {
			break
		}
		if err = merging(); err != nil {
			return answer{}, err
		}
		if err = r.view(func(tx *storage.Tx, e kv.Engine) error { return e.Prepare(tx, r.rest, merge) }); err != nil {
			return answer{}, err
		}
	}
	switch {
	case errors.Is(err, kv.ErrGone):
		return answer{status: http.StatusNotFound, data: meta}, nil
	case err != nil:
		return answer{}, err
	}
	return answer{data: meta, warnings: w.warnings}, nil
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
	return answer{}, r.updates(func(tx *storage.Tx, e kv.Engine) (bool, error) { return e.Destroy(tx, r.rest, versions) })
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
	return answer{data: m, warnings: ignored(r.query, metadataFields)}, nil
}

// settingsInput is the body of a change of settings, of a secret or a mount.
type settingsInput struct {
	MaxVersions         loose[int]           `json:"max_versions"`
	CASRequired         loose[bool]          `json:"cas_required"`
	MetadataCASRequired loose[bool]          `json:"metadata_cas_required"`
	DeleteVersionAfter  loose[time.Duration] `json:"delete_version_after"`
	Custom              json.RawMessage      `json:"custom_metadata"` // of a secret alone, as is the next
	MetadataCAS         loose[int]           `json:"metadata_cas"`
}

func (in *settingsInput) settings() kv.Settings {
	return kv.Settings{
		MaxVersions:         in.MaxVersions.pointer(),
		CASRequired:         in.CASRequired.pointer(),
		MetadataCASRequired: in.MetadataCASRequired.pointer(),
		DeleteVersionAfter:  in.DeleteVersionAfter.pointer(),
	}
}

func kvWriteMetadata(s *Server, r *request) (answer, error) {
	return s.changeMetadata(r, kv.Engine.PutMetadata)
}

func kvPatchMetadata(s *Server, r *request) (answer, error) {
	if err := r.patching(); err != nil {
		return answer{}, err
	}
	return s.changeMetadata(r, kv.Engine.PatchMetadata)
}

// changeMetadata warns of settings that the mount overrules.
func (s *Server) changeMetadata(r *request, change func(kv.Engine, *storage.Tx, string, kv.Settings, kv.Data, *int, time.Time) error) (a answer, err error) {
	var in settingsInput
	if err := r.settings(&in); err != nil {
		return a, err
	}
	custom, err := kv.Parse("custom_metadata", in.Custom)
	if err != nil {
		return a, err
	}
	err = r.update(func(tx *storage.Tx, e kv.Engine) error {
		c, err := e.Config(tx)
		if err != nil {
			return err
		}
		overrule := func(name string, set loose[bool], mandated bool) {
			if mandated && set.given && !set.value {
				a.warnings = append(a.warnings, fmt.Sprintf("%q set to false, but is mandated by backend config. This value will be ignored.", name))
			}
		}
		overrule("cas_required", in.CASRequired, c.CASRequired)
		overrule("metadata_cas_required", in.MetadataCASRequired, c.MetadataCASRequired)
		return change(e, tx, r.rest, in.settings(), custom, in.MetadataCAS.pointer(), s.now())
	})
	return a, err
}

func kvDeleteMetadata(s *Server, r *request) (answer, error) {
	return answer{}, r.updates(func(tx *storage.Tx, e kv.Engine) (bool, error) { return e.DeleteMetadata(tx, r.rest) })
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
	return answer{data: c, warnings: ignored(r.query, configFields)}, nil
}

func kvWriteConfig(s *Server, r *request) (answer, error) {
	var in settingsInput
	if err := r.settings(&in); err != nil {
		return answer{}, err
	}
	return answer{}, r.update(func(tx *storage.Tx, e kv.Engine) error { return e.PutConfig(tx, in.settings()) })
}

func kvNameless(s *Server, r *request) (answer, error) {
	return answer{status: http.StatusNotFound, warnings: []string{
		"Non-listing operations on the root of a K/V v2 mount are not supported."}}, nil
}

// kvLost answers a path that KV version 1 would have, as Vault does.
func kvLost(s *Server, r *request) (answer, error) {
	use := "the Vault CLI, use 'vault kv " + [ops]string{opRead: "get", opList: "list", opWrite: "put", opPatch: "patch", opDelete: "delete"}[r.op]
	if r.op == opScan {
		use = "the OpenBao CLI, use 'bao kv scan"
	}
	return answer{status: http.StatusNotFound, warnings: []string{
		"Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. " +
			"If using " + use + "' for this operation."}}, nil
}
