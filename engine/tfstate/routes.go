package tfstate

import (
	"time"

	"github.com/sealkeep/sealkeep/api"
	"github.com/sealkeep/sealkeep/storage"
)

// MaxSize is the largest state that is taken, in bytes.
const MaxSize = 256 << 20

const (
	maxInfo       = 64 << 10
	uploadTimeout = time.Hour
)

// Type is the engine as a keep mounts it.
func Type() api.Type {
	type ops = map[api.Op]api.Handler
	return api.Type{
		Name: "tfstate", Kind: api.Secrets, First: "state/", TakesBasic: true, Aliases: aliases(), Tidy: tidy,
		Help: "Keeps the state of Terraform and OpenTofu, with locks and every version.",
		Routes: []api.Route{
			{Path: "config", Help: "The settings of all states of the mount.", Settings: true,
				Ops: ops{api.Read: api.View(readConfig), api.Write: api.Update(writeConfig)}},
			{Path: "data", Help: "The names of states and folders at the top.", Ops: ops{api.List: api.View(list)}},
			{Path: "data/{path...}", Help: "A state: its address for the backend \"http\".", Body: MaxSize, Timeout: uploadTimeout,
				Exists: exists, Session: session,
				Ops: ops{api.Read: api.Do(get), api.Write: api.Upload(post), api.Delete: api.Update(remove), api.List: api.View(list)}},
			{Path: "lock/{path...}", Help: "The lock of a state.", Session: session, Body: maxInfo,
				Ops: ops{api.Read: api.View(getLock), api.Write: api.Update(putLock), api.Lock: api.Update(putLock), api.Unlock: api.Update(unlock)}},
			{Path: "force-unlock/{path...}", Help: "Releases the lock that somebody else holds.", Body: maxInfo,
				Ops: ops{api.Write: api.Update(forceUnlock)}},
			{Path: "outputs/{path...}", Or: "data/{path...}", Help: "A state with its root outputs alone, sensitive ones included.", Ops: ops{api.Read: api.Do(outputs)}},
			{Path: "history/{path...}", Help: "The versions of a state, the newest first.", Ops: ops{api.Read: api.View(history)}},
			{Path: "version/{path...}", Help: "One version of a state, which is deleted for good.", Ops: ops{api.Delete: api.Update(removeVersion)}},
			{Path: "rollback/{path...}", Help: "Makes an older version the newest, with the next serial.", Timeout: uploadTimeout,
				Ops: ops{api.Write: api.Do(rollback)}},
			{Path: "undelete/{path...}", Help: "Brings back a state that was deleted.", Ops: ops{api.Write: api.Update(undelete)}},
			{Path: "metadata/{path...}", Help: "What is known of a state, and its settings; deleting that purges the state.", Settings: true,
				Ops: ops{api.Read: api.View(readMetadata), api.Write: api.Update(writeMetadata), api.Delete: api.Do(purge)}},
			{Path: "states", Help: "All states, with what is known of each.", Ops: ops{api.Read: api.View(listStates), api.List: api.View(listStates)}},
			{Path: "states/{path...}", Help: "The states in a folder and in all folders in it.", Ops: ops{api.Read: api.View(listStates), api.List: api.View(listStates)}},
		},
	}
}

// aliases are the ways in which the backends http of Terraform and OpenTofu ask, with
// LOCK and UNLOCK, or as with GitLab; and the addresses of other servers.
func aliases() (list []api.Alias) {
	below := func(method, path string, op api.Op, to string) {
		list = append(list, api.Alias{Method: method, Path: path, Op: op, To: to})
	}
	for _, path := range []string{"data/{path...}", "data/{path...}/lock", "lock/{path...}"} {
		below("LOCK", path, api.Lock, "lock/{path...}")
		below("UNLOCK", path, api.Unlock, "lock/{path...}")
		if path != "data/{path...}" {
			below("POST", path, api.Lock, "lock/{path...}")
			below("PUT", path, api.Lock, "lock/{path...}")
			below("DELETE", path, api.Unlock, "lock/{path...}")
		}
	}
	list = append(list, api.Alias{Method: "GET", Query: "outputs", Path: "data/{path...}", Op: api.Read, To: "outputs/{path...}"})
	below("GET", "data/{path...}/lock", api.Read, "lock/{path...}")
	for path, to := range map[string]string{
		"/state/{path...}": "{path...}", // nimbolus/terraform-backend
		"/api/v4/projects/{id...}/terraform/state/{name}":      "{id...}/{name}", // GitLab
		"/api/v4/projects/{id...}/terraform/state/{name}/lock": "{id...}/{name}/lock",
		"/api/packages/{owner}/terraform/state/{name}":         "{owner}/{name}", // Gitea
		"/api/packages/{owner}/terraform/state/{name}/lock":    "{owner}/{name}/lock",
	} {
		list = append(list, api.Alias{Path: path, To: "state/data/" + to})
	}
	return list
}

// exists reports whether a state is there, so that writing it is an update.
func exists(r *api.Request, tx *storage.Tx) (bool, error) {
	e, path := of(r)
	h, err := e.head(tx, path)
	return h != nil && h.Current != nil, err
}
