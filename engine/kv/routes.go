package kv

import (
	"errors"
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// bodyMost is how many bytes a write may have, which may be indented: what is
// stored of it has at most storage.MaxValue.
const bodyMost = 2 * storage.MaxValue

// Statuses that are part of the API.
const statusGone = 404

// Type is the engine as a keep mounts it.
func Type() api.Type {
	merging := make(turn, 1)
	root := map[api.Op]api.Handler{api.Read: nameless, api.Write: nameless, api.Patch: nameless, api.Delete: nameless}
	return api.Type{
		Name: "kv", Version: "2", From: "1", Kind: api.Secrets, Label: "{mount}", Tidy: tidy,
		Help: "Keeps secrets, each in several versions (KV version 2).",
		Errors: map[error]api.Code{
			ErrNotFound: api.Absent, ErrInvalid: api.Invalid, ErrCASMismatch: api.Invalid, ErrCASRequired: api.Invalid,
			ErrMetadataCASMismatch: api.Invalid, ErrMetadataCASRequired: api.Invalid,
		},
		Routes: []api.Route{
			{Path: "data/{path...}", Help: "A version of a secret, the newest unless the query says version.", Exists: exists, Body: bodyMost, Timeout: long,
				Ops: map[api.Op]api.Handler{
					api.Read: api.View(read).Answers(exampleSecret), api.Write: api.Do(write).Answers(exampleMeta),
					api.Patch: api.Do(merging.patch).Answers(exampleMeta), api.Delete: api.Update(remove)}},
			{Path: "metadata/{path...}", Help: "What is known of a secret and its versions, and the names in a folder.", Exists: exists, Body: bodyMost, Timeout: long, Settings: true,
				Ops: map[api.Op]api.Handler{
					api.Read: api.View(readMetadata).Answers(Metadata{Custom: exampleMeta.Custom}), api.List: api.View(list), api.Scan: api.View(scan), api.Write: api.Update(writeMetadata),
					api.Patch: api.Update(patchMetadata), api.Delete: api.Do(removeMetadata)}},
			{Path: "data", Help: "The folder of all secrets.", Ops: root},
			{Path: "metadata", Help: "The names of the secrets at the top.", Ops: map[api.Op]api.Handler{
				api.Read: nameless, api.List: api.View(list), api.Scan: api.View(scan), api.Write: nameless, api.Patch: nameless, api.Delete: nameless}},
			{Path: "detailed-metadata/{path...}", Help: "The names in a folder, and what is known of each.", Ops: detailed},
			{Path: "detailed-metadata", Help: "The names at the top, and what is known of each.", Ops: detailed},
			{Path: "delete", Help: "The folder of all secrets.", Ops: root},
			{Path: "undelete", Help: "The folder of all secrets.", Ops: root},
			{Path: "destroy", Help: "The folder of all secrets.", Ops: root},
			{Path: "delete/{path...}", Help: "Deletes versions of a secret, so that they can be brought back.", Body: bodyMost, Timeout: long,
				Ops: map[api.Op]api.Handler{api.Write: api.Update(removeVersions)}},
			{Path: "undelete/{path...}", Help: "Brings deleted versions of a secret back.", Body: bodyMost, Timeout: long,
				Ops: map[api.Op]api.Handler{api.Write: api.Update(undelete)}},
			{Path: "destroy/{path...}", Help: "Removes versions of a secret for good.", Body: bodyMost, Timeout: long,
				Ops: map[api.Op]api.Handler{api.Write: api.Do(destroy)}},
			{Path: "subkeys/{path...}", Help: "The names in the data of a secret, without the values.",
				Ops: map[api.Op]api.Handler{api.Read: api.View(subkeys).Answers(subkeysOf(exampleSecret))}},
			{Path: "config", Help: "What holds for all secrets of the mount.", Body: bodyMost, Timeout: long, Settings: true,
				Ops: map[api.Op]api.Handler{api.Read: api.View(readConfig).Answers(Config{}), api.Write: api.Update(writeConfig)}},
			{Path: "{path...}", Help: "A path that KV version 1 would have.", Body: bodyMost, Timeout: long,
				Ops: map[api.Op]api.Handler{api.Read: lost, api.List: lost, api.Scan: lost, api.Write: lost, api.Patch: lost, api.Delete: lost}},
		},
	}
}

// long is how long a write may take, which may wait for a large patch.
const long = 90 * time.Second

var detailed = map[api.Op]api.Handler{
	api.List: api.View(listDetailed).Answers(exampleDetails), api.Scan: api.View(scanDetailed).Answers(exampleDetails),
}

// Examples of answers, with everything that they may have.
var (
	exampleMeta    = Meta{Custom: []byte("{}")}
	exampleSecret  = Secret{Data: exampleMeta.Custom, Meta: exampleMeta}
	exampleDetails = map[string]any{"keys": []string{}, "key_info": map[string]any{}}
)

// of is the engine and the path of the secret that a request is for.
func of(r *api.Request) (Engine, string) {
	return Engine{Prefix: r.Prefix(), Upgrading: r.Mount.From != ""}, r.Param("path")
}

func exists(r *api.Request, tx *storage.Tx) (bool, error) {
	e, path := of(r)
	return e.Exists(tx, path)
}

// updates runs fn in transactions until there is no more to do.
func updates(r *api.Request, fn func(*storage.Tx) (more bool, err error)) error {
	for more := true; more; {
		if err := r.Update(func(tx *storage.Tx) (err error) {
			more, err = fn(tx)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// add runs fn, which adds a version to a secret, and before it removes what that
// pushes out, where it is too much for one transaction.
func add(r *api.Request, fn func(*storage.Tx) error) error {
	e, path := of(r)
	for {
		err := r.Update(fn)
		if !errors.Is(err, ErrTrim) {
			return err
		}
		if err := updates(r, func(tx *storage.Tx) (bool, error) { return e.Trim(tx, path) }); err != nil {
			return err
		}
	}
}

type versionInput struct {
	Version uint32 `json:"version"` // 0: the newest
}

func read(r *api.Request, tx *storage.Tx, in *versionInput) (api.Answer, error) {
	e, path := of(r)
	secret, err := e.Get(tx, path, uint64(in.Version), r.Now)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Status: found(secret), Data: secret}, nil
}

type subkeysInput struct {
	Version uint32 `json:"version"`
	Depth   uint32 `json:"depth"` // 0: all
}

func subkeys(r *api.Request, tx *storage.Tx, in *subkeysInput) (api.Answer, error) {
	e, path := of(r)
	secret, err := e.Subkeys(tx, path, uint64(in.Version), int(in.Depth), r.Now)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Status: found(secret), Data: subkeysOf(secret)}, nil
}

func subkeysOf(s Secret) map[string]any { return map[string]any{"subkeys": s.Data, "metadata": s.Meta} }

// found is the status for a secret: one that is deleted is shown without data.
func found(secret Secret) int {
	if secret.Data == nil {
		return statusGone
	}
	return 0
}

func write(r *api.Request, in *dataInput) (api.Answer, error) {
	e, path := of(r)
	var meta Meta
	err := add(r, func(tx *storage.Tx) (err error) {
		meta, err = e.Put(tx, path, in.data, in.cas, r.Now)
		return err
	})
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Data: meta}, nil
}

// A turn is full while a large patch is merged.
type turn chan struct{}

func (t turn) patch(r *api.Request, in *dataInput) (api.Answer, error) {
	// One at a time: what is being merged takes many times its size in memory,
	// and those that patch one secret would make each other's work vain.
	alone := false
	merging := func() error {
		if alone {
			return nil
		}
		select {
		case t <- struct{}{}:
			alone = true
			return nil
		case <-r.Done():
			return r.Err()
		}
	}
	defer func() {
		if alone {
			<-t
		}
	}()
	if len(r.Body) > MergeInside {
		if err := merging(); err != nil {
			return api.Answer{}, err
		}
	}
	merge, err := NewMerge(in.data)
	if err != nil {
		return api.Answer{}, err
	}
	e, path := of(r)
	var meta Meta
	for {
		err = add(r, func(tx *storage.Tx) (err error) {
			meta, err = e.Patch(tx, path, merge, in.cas, r.Now)
			return err
		})
		if !errors.Is(err, ErrUnprepared) {
			break
		}
		if err = merging(); err != nil {
			return api.Answer{}, err
		}
		if err = r.View(func(tx *storage.Tx) error { return e.Prepare(tx, path, merge) }); err != nil {
			return api.Answer{}, err
		}
	}
	switch {
	case errors.Is(err, ErrGone):
		return api.Answer{Status: statusGone, Data: meta}, nil
	case err != nil:
		return api.Answer{}, err
	}
	return api.Answer{Data: meta}, nil
}

func remove(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	e, path := of(r)
	return api.Answer{}, e.Delete(tx, path, r.Now)
}

type versionsInput struct {
	Versions []uint64 `json:"versions"`
}

func removeVersions(r *api.Request, tx *storage.Tx, in *versionsInput) (api.Answer, error) {
	e, path := of(r)
	return api.Answer{}, e.DeleteVersions(tx, path, in.Versions, r.Now)
}

func undelete(r *api.Request, tx *storage.Tx, in *versionsInput) (api.Answer, error) {
	e, path := of(r)
	return api.Answer{}, e.Undelete(tx, path, in.Versions, r.Now)
}

func destroy(r *api.Request, in *versionsInput) (api.Answer, error) {
	e, path := of(r)
	return api.Answer{}, updates(r, func(tx *storage.Tx) (bool, error) { return e.Destroy(tx, path, in.Versions) })
}

// nameless is what the folders above the secrets do without the name of a secret.
var nameless = api.Do(func(*api.Request, *api.None) (api.Answer, error) {
	return api.Answer{Status: statusGone, Warnings: []string{"Non-listing operations on the root of a K/V v2 mount are not supported."}}, nil
}).Answers(api.None{})

var commands = [api.Ops]string{api.Read: "get", api.List: "list", api.Write: "put", api.Patch: "patch", api.Delete: "delete"}

// lost answers a path that KV version 1 would have, as Vault does.
var lost = api.Do(func(r *api.Request, _ *api.None) (api.Answer, error) {
	use := "the Vault CLI, use 'vault kv " + commands[r.Op]
	if r.Op == api.Scan {
		use = "the OpenBao CLI, use 'bao kv scan"
	}
	return api.Answer{Status: statusGone, Warnings: []string{
		"Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. " +
			"If using " + use + "' for this operation."}}, nil
})
