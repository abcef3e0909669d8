package transit

import (
	"time"

	"github.com/sealkeep/sealkeep/api"
)

// Type is the engine as a keep mounts it.
func Type() api.Type {
	return api.Type{
		Name: "transit", Kind: api.Secrets,
		Help: "Encrypts, signs and verifies for others, with keys that stay here.",
		Tidy: tidy,
		Routes: []api.Route{
			{Path: "keys", Help: "The names of the keys.", Ops: map[api.Op]api.Handler{api.List: api.View(list)}},
			{Path: "keys/{name}", Help: "A key: what it is like, and its versions. A write makes it, unless it is there.",
				Ops: map[api.Op]api.Handler{api.Read: api.View(read), api.Write: api.Do(create), api.Delete: api.Do(remove)}},
			{Path: "keys/{name}/config", Help: "Changes the settings of a key.", Ops: map[api.Op]api.Handler{api.Write: api.Update(configure)}},
			{Path: "keys/{name}/rotate", Help: "Adds a version to a key.", Ops: map[api.Op]api.Handler{api.Write: api.Do(rotate)}},
			{Path: "keys/{name}/trim", Help: "Removes old versions of a key for good.", Ops: map[api.Op]api.Handler{api.Write: api.Do(trim)}},
			{Path: "keys/{name}/soft-delete", Help: "Keeps a key from being used, so that it can be brought back.", Ops: map[api.Op]api.Handler{api.Delete: api.Update(softDelete)}},
			{Path: "keys/{name}/soft-delete-restore", Help: "Brings a soft-deleted key back.", Ops: map[api.Op]api.Handler{api.Write: api.Update(softRestore)}},
			{Path: "encrypt/{name}", Help: "Encrypts with a key, which is made if it is not there.", Exists: exists, Body: bodyMost, Timeout: long,
				Ops: map[api.Op]api.Handler{api.Write: api.Do(encrypt)}},
			{Path: "decrypt/{name}", Help: "Decrypts what was encrypted with a key.", Body: bodyMost, Timeout: long, Ops: map[api.Op]api.Handler{api.Write: api.Do(decrypt)}},
			{Path: "rewrap/{name}", Help: "Encrypts anew, with the latest version of a key, what was encrypted with it.", Body: bodyMost, Timeout: long,
				Ops: map[api.Op]api.Handler{api.Write: api.Do(rewrap)}},
			{Path: "datakey/{kind}/{name}", Help: "Makes a key for others to encrypt with, encrypted with this one: wrapped, and as plaintext if the path says so.",
				Ops: map[api.Op]api.Handler{api.Write: api.Do(datakey)}},
			{Path: "config/keys", Help: "What holds for all keys.", Settings: true,
				Ops: map[api.Op]api.Handler{api.Read: api.View(readConfig), api.Write: api.Update(writeConfig)}},
		},
	}
}

// long is how long a batch may take.
const long = 90 * time.Second
