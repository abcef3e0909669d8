// Package kvv1 is the engine of plain secrets: Vault's KV version 1, a JSON object
// at each path and nothing else. What is written replaces what was there, what is
// deleted is gone.
//
// The object is kept as it came, with every digit of its numbers; white space
// between its tokens is left out, and of a name that stands twice the last counts.
// "ttl" in it, or "lease", says how long readers may use the secret before they ask
// again: a duration or a number of seconds. It is an advice that the answer repeats
// as lease_duration; nothing ends with it. Without one, the mount's default lease
// TTL is told, which is 32 days unless it is tuned.
//
// # Cost
//
// A read is one Get, a write one Get (does it create?) and one Put, a deletion one
// Delete. "ttl" is read when the secret is written, so no read decodes JSON.
//
// # Format
//
// The records are package kv's, which reads them when the mount has been upgraded
// to version 2 (see its documentation): below the mount's prefix
//
//	<prefix>/1/<path>     format(1)=1 | written(8) | lease(8) | data
//
// Integers are big endian, the time is nanoseconds since 1970 UTC, the lease is in
// nanoseconds, 0 for none, and data is the JSON object. It has at most [kv.MaxV1]
// bytes, so that it fits a record of version 2, too. Paths are those of version 2.
package kvv1

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sealkeep/sealkeep/access"
	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/engine/kv"
	"github.com/sealkeep/sealkeep/storage"
)

// bodyMost is how many bytes a write may have, which may be indented: what is
// stored of it has at most kv.MaxV1.
const bodyMost = 2 * storage.MaxValue

// Type is the engine as a keep mounts it.
func Type() api.Type {
	return api.Type{
		Name: "kv", Version: "1", Kind: api.Secrets, Label: "{kv-v1}",
		Help:   "Keeps secrets, each a JSON object (KV version 1).",
		Errors: map[error]api.Code{kv.ErrNotFound: api.Absent, kv.ErrInvalid: api.Invalid},
		Routes: []api.Route{
			{Path: "{path...}", Help: "A secret, and the names in a folder.", Exists: exists, Body: bodyMost, Free: true,
				Ops: map[api.Op]api.Handler{
					api.Read: api.View(read), api.List: api.View(list), api.Scan: api.View(scan),
					api.Write: api.Update(write), api.Delete: api.Update(remove)}},
		},
	}
}

// of is the mount and the path of the secret that a request is for.
func of(r *api.Request) (kv.V1, string) { return kv.V1{Prefix: r.Prefix()}, r.Param("path") }

// A path that ends in a slash is a folder, which has no data.
func folder(r *api.Request) bool { return r.Slash || r.Param("path") == "" }

func exists(r *api.Request, tx *storage.Tx) (bool, error) {
	if folder(r) {
		return false, nil
	}
	v, path := of(r)
	return v.Exists(tx, path)
}

func read(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	if folder(r) {
		return api.Answer{}, api.ErrAbsent
	}
	v, path := of(r)
	s, err := v.Get(tx, path)
	if err != nil {
		return api.Answer{}, err
	}
	a := api.Answer{Data: s.Data, Lease: cmp.Or(s.Lease, time.Duration(r.Mount.Config.DefaultLeaseTTL)*time.Second, access.SystemMax)}
	if most := r.Mount.Longest(); a.Lease > most {
		a.Warnings = []string{fmt.Sprintf("TTL of %q exceeded the effective max_ttl of %q; TTL value is capped accordingly", a.Lease, most)}
		a.Lease = most
	}
	return a, nil
}

func list(r *api.Request, tx *storage.Tx, in *kv.Page) (api.Answer, error) {
	v, path := of(r)
	names, err := v.List(tx, path)
	return api.Keys(in.Of(names), err)
}

func scan(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	v, path := of(r)
	names, err := v.Scan(tx, path, kv.MaxScanned+1)
	return kv.Scanned(names, kv.MaxScanned, err)
}

func write(r *api.Request, tx *storage.Tx, in *secretInput) (api.Answer, error) {
	v, path := of(r)
	if r.Slash && path != "" {
		return api.Answer{}, api.Invalid.Errorf("cannot write to a path ending in '/'")
	}
	return api.Answer{}, v.Put(tx, path, kv.V1Secret{Data: in.data, Written: r.Now, Lease: in.lease})
}

func remove(r *api.Request, tx *storage.Tx, _ *api.None) (api.Answer, error) {
	if folder(r) {
		return api.Answer{}, nil
	}
	v, path := of(r)
	return api.Answer{}, v.Delete(tx, path)
}

// secretInput is the body of a write, all of which is the secret. It is read before
// the transaction begins: a large secret must not be checked while other writers
// wait.
type secretInput struct {
	data  kv.Data // zero where there is nothing in the body
	lease time.Duration
}

// Names are the fields that are known: none, since all are the client's own.
func (*secretInput) Names() []string { return nil }

// Decode reads the body.
func (in *secretInput) Decode(r *api.Request) (given map[string]json.RawMessage, err error) {
	var body api.Object
	if given, err = body.Decode(r); err != nil || body.JSON == nil {
		return given, err
	}
	in.lease = lease(given)
	in.data, err = kv.Parse("the secret", body.JSON)
	return given, err
}

// lease is what a secret's "ttl" says, or its "lease" where it has none; 0 for
// what says nothing that is a time, as in Vault.
func lease(members map[string]json.RawMessage) time.Duration {
	raw, ok := members["ttl"]
	if !ok {
		raw = members["lease"]
	}
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || raw[0] == '{' || raw[0] == '[' {
		return 0
	}
	d, err := access.ParseDuration(api.Scalar(raw))
	if err != nil {
		return 0
	}
	return max(d, 0)
}
