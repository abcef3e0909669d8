package transit

import (
	"time"

	"github.com/sealkeep/sealkeep/api"
)

// Type is the engine as a keep mounts it.
func Type() api.Type {
	mac := map[api.Op]api.Handler{api.Write: api.Do(makeMAC)}
	signs := map[api.Op]api.Handler{api.Write: api.Do(sign)}
	verifies := map[api.Op]api.Handler{api.Write: api.Do(verify)}
	hash := map[api.Op]api.Handler{api.Write: api.Do(hashOf)}
	random := map[api.Op]api.Handler{api.Write: api.Do(randomBytes)}
	exports := map[api.Op]api.Handler{api.Read: api.View(export)}
	restores := map[api.Op]api.Handler{api.Write: api.Do(restore)}
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
			{Path: "keys/{name}/uses", Help: "The tokens that have used a key, and when they last did.",
				Ops: map[api.Op]api.Handler{api.Read: api.View(readUses).Answers(usesAnswer{[]shownUse{{}}})}},
			{Path: "keys/{name}/soft-delete", Help: "Keeps a key from being used, so that it can be brought back.", Ops: map[api.Op]api.Handler{api.Delete: api.Update(softDelete)}},
			{Path: "keys/{name}/soft-delete-restore", Help: "Brings a soft-deleted key back.", Ops: map[api.Op]api.Handler{api.Write: api.Update(softRestore)}},
			{Path: "encrypt/{name}", Help: "Encrypts with a key, which is made if it is not there.", Exists: exists, Body: bodyMost, Timeout: long, Whole: batches,
				Ops: map[api.Op]api.Handler{api.Write: api.Do(encrypt)}},
			{Path: "decrypt/{name}", Help: "Decrypts what was encrypted with a key.", Body: bodyMost, Timeout: long, Whole: batches, Ops: map[api.Op]api.Handler{api.Write: api.Do(decrypt)}},
			{Path: "rewrap/{name}", Help: "Encrypts anew, with the latest version of a key, what was encrypted with it.", Body: bodyMost, Timeout: long, Whole: batches,
				Ops: map[api.Op]api.Handler{api.Write: api.Do(rewrap)}},
			{Path: "datakey/{kind}/{name}", Help: "Makes a key for others to encrypt with, encrypted with this one: wrapped, and as plaintext if the path says so.",
				Ops: map[api.Op]api.Handler{api.Write: api.Do(datakey)}},
			{Path: "hmac/{name}", Help: "Computes HMACs with a key.", Body: bodyMost, Timeout: long, Whole: batches, Ops: mac},
			{Path: "hmac/{name}/{algorithm}", Help: "Computes HMACs with a key and a hash algorithm.", Body: bodyMost, Timeout: long, Whole: batches, Ops: mac},
			{Path: "hash", Help: "Hashes, without a key.", Body: bodyMost, Ops: hash},
			{Path: "hash/{algorithm}", Help: "Hashes with an algorithm, without a key.", Body: bodyMost, Ops: hash},
			{Path: "random", Help: "Random bytes.", Ops: random},
			{Path: "random/{source}", Help: "Random bytes from a source, or so many of them.", Ops: random},
			{Path: "random/{source}/{bytes}", Help: "So many random bytes from a source.", Ops: random},
			{Path: "export/{type}/{name}", Help: "The versions of a key, where they may leave.", Ops: exports},
			{Path: "export/{type}/{name}/{version}", Help: "A version of a key, or the latest, where it may leave.", Ops: exports},
			{Path: "backup/{name}", Help: "A key with all its versions and settings, in plaintext, where it may leave.", Ops: map[api.Op]api.Handler{api.Read: api.Do(makeBackup)}},
			{Path: "restore", Help: "Makes a key from a backup, under the name in it.", Body: bodyMost, Timeout: long, Ops: restores},
			{Path: "restore/{name}", Help: "Makes a key from a backup.", Body: bodyMost, Timeout: long, Ops: restores},
			{Path: "sign/{name}", Help: "Signs with a key.", Body: bodyMost, Timeout: long, Whole: batches, Ops: signs},
			{Path: "sign/{name}/{algorithm}", Help: "Signs with a key and a hash algorithm.", Body: bodyMost, Timeout: long, Whole: batches, Ops: signs},
			{Path: "verify/{name}", Help: "Verifies signatures and HMACs.", Body: bodyMost, Timeout: long, Whole: batches, Ops: verifies},
			{Path: "verify/{name}/{algorithm}", Help: "Verifies signatures and HMACs with a hash algorithm.", Body: bodyMost, Timeout: long, Whole: batches, Ops: verifies},
			{Path: "wrapping_key", Help: "The public key for which keys to be imported are wrapped.", Ops: map[api.Op]api.Handler{api.Read: api.Do(readWrapping)}},
			{Path: "keys/{name}/import", Help: "Makes a key of one that was made elsewhere.", Ops: map[api.Op]api.Handler{api.Write: api.Do(importKey)}},
			{Path: "keys/{name}/import_version", Help: "Adds a version that was made elsewhere to an imported key, or the private key to a version that has only the public one.",
				Ops: map[api.Op]api.Handler{api.Write: api.Do(importVersion)}},
			{Path: "config/keys", Help: "What holds for all keys.", Settings: true,
				Ops: map[api.Op]api.Handler{api.Read: api.View(readConfig), api.Write: api.Update(writeConfig)}},
		},
	}
}

// batches are recorded as one: each text of a large one would cost the audit log more
// than it costs here.
var batches = []string{"batch_input", "batch_results"}

// long is how long a batch may take.
const long = 90 * time.Second
