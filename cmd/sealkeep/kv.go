package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

func kvCommands() []command {
	const path = "\n\nPATH is the mount and the secret's name: secret/app/db. With -mount=secret it is the name alone."
	return []command{
		{"kv get", "PATH", 1, 1, client, "read a secret", "Reads the newest version of a secret, or the one that -version names." + path, kvGet},
		{"kv put", "PATH DATA...", 2, -1, client, "write a new version of a secret", "Writes a new version of a secret; keys that are not given are not in it." + path + "\n" + dataHelp, kvPut},
		{"kv patch", "PATH [DATA...]", 1, -1, client, "change some keys of a secret", "Writes a new version with the given keys changed, those that -remove-data names removed and the others as they were." + path + "\n" + dataHelp, kvPatch},
		{"kv delete", "PATH", 1, 1, client, "mark versions as deleted", "Marks the newest version, or those that -versions names, as deleted; undelete brings them back." + path, kvDelete},
		{"kv undelete", "PATH", 1, 1, client, "bring deleted versions back", "Brings back the versions that -versions names." + path, kvVersions("undelete")},
		{"kv destroy", "PATH", 1, 1, client, "remove versions for good", "Removes the data of the versions that -versions names. Nothing brings them back." + path, kvVersions("destroy")},
		{"kv rollback", "PATH", 1, 1, client, "write an old version again", "Writes the data of an old version as the newest one." + path, kvRollback},
		{"kv list", "[PATH]", 0, 1, client, "list the names in a folder", "Lists the names of secrets and folders (which end in /). For the root of a mount PATH is the mount; with -mount it is left out." + path, kvList},
		{"kv scan", "[PATH]", 0, 1, client, "list the secrets in a folder and beneath", "Lists the secrets in a folder and in all folders in it. For the root of a mount PATH is the mount; with -mount it is left out." + path, kvScan},
		{"kv enable-versioning", "MOUNT", 1, 1, client, "make a KV version 1 engine keep versions", "Makes a KV version 1 secrets engine one of version 2, with all that is in it, at once and for good. Each secret becomes version 1 of itself; the engine is read and written all the while.\n\nThe paths of the API, and so those in policies, are other ones then: secret/data/app/db and secret/metadata/app/db in place of secret/app/db. kv get, put, delete, list and scan work with both versions.", kvEnableVersioning},
		{"kv metadata get", "PATH", 1, 1, client, "show a secret's settings and versions", "Shows the settings, the custom metadata and the versions of a secret, without its data." + path, kvMetadataGet},
		{"kv metadata put", "PATH", 1, 1, client, "set a secret's settings", "Sets the settings of a secret; custom metadata is replaced as a whole." + path, kvMetadataPut(http.MethodPost)},
		{"kv metadata patch", "PATH", 1, 1, client, "change a secret's settings", "Changes the settings that are given and leaves the others." + path, kvMetadataPut(http.MethodPatch)},
		{"kv metadata delete", "PATH", 1, 1, client, "remove a secret with all its versions", "Removes a secret, its versions and its metadata for good." + path, kvMetadataDelete},
	}
}

// place is a secret or a folder of a KV mount.
type place struct {
	api         *keepClient
	mount, name string
	v1          bool // of KV version 1, where a secret is at its own path
}

// at returns the API path of the place beneath kind: data, metadata, delete, undelete, destroy.
func (p place) at(kind string) string {
	if p.v1 {
		return strings.TrimSuffix(p.mount+"/"+p.name, "/")
	}
	return strings.TrimSuffix(p.mount+"/"+kind+"/"+p.name, "/")
}

// kvAction returns an action that first finds the mount of its first argument.
func kvAction(f *flag.FlagSet, act func(c *cli, p place) error) action {
	mount := f.String("mount", "", "`path` of the secrets engine; PATH is then relative to it")
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		path := ""
		if len(args) > 0 {
			path = args[0]
		} else if *mount == "" {
			return hint(errors.New("no path is given"), "name a mount or a folder: secret, secret/app or -mount=secret")
		}
		p, err := c.find(a, strings.Trim(*mount, "/"), strings.Trim(path, "/"))
		if err != nil {
			return err
		}
		return act(c, p)
	}
}

// kvVersionedAction is kvAction for actions that KV version 1 does not have.
func kvVersionedAction(f *flag.FlagSet, name string, act func(c *cli, p place) error) action {
	return kvAction(f, func(c *cli, p place) error {
		if err := p.versioned(name); err != nil {
			return err
		}
		return act(c, p)
	})
}

// versioned refuses a mount of KV version 1, since what needs version 2.
func (p place) versioned(what string) error {
	if !p.v1 {
		return nil
	}
	return hint(fmt.Errorf("%s/ is a KV version 1 secrets engine, which keeps no versions and no metadata: %s takes version 2", p.mount, what),
		"sealkeep kv enable-versioning %s makes it one of version 2", p.mount)
}

// find asks the server which mount a path belongs to.
func (c *cli) find(a *keepClient, mount, path string) (place, error) {
	b, err := a.plain().do(c, http.MethodGet, "sys/internal/ui/mounts/"+cmp.Or(mount, path), nil, nil)
	if err != nil {
		return place{}, err
	}
	var answer struct {
		Data struct {
			Path, Type string
			Options    map[string]string
		}
	}
	if err := decode(b, &answer); err != nil {
		return place{}, err
	}
	d := answer.Data
	at := strings.Trim(d.Path, "/")
	version := cmp.Or(d.Options["version"], "1") // as in Vault
	p := place{a, at, strings.TrimPrefix(strings.TrimPrefix(path, at), "/"), version == "1"}
	if d.Type != "kv" || version != "1" && version != "2" {
		return place{}, hint(fmt.Errorf("%s/ is not a KV secrets engine of version 1 or 2", at), "sealkeep read, write, list and delete work with every engine")
	}
	switch {
	case mount == "":
	case at == mount, strings.HasSuffix(at, "/"+mount): // Vault may prefix a namespace
		p.mount, p.name = mount, path
	default:
		return place{}, hint(coded{fmt.Errorf("no secrets engine is mounted at %s/", mount), 2}, "the mount is %s/: -mount=%s", at, at)
	}
	return p, nil
}

// named refuses the root of a mount where a secret is needed.
func (p place) named() error {
	if p.name == "" {
		return hint(fmt.Errorf("%s is a mount, not a secret", p.mount), "name a secret in it: %s/NAME", p.mount)
	}
	return nil
}

// absent returns the error for something that does not exist, in Vault's words.
func (p place) absent(kind string) error {
	err := coded{fmt.Errorf("no value found at %s", p.at(kind)), 2}
	if rest, ok := strings.CutPrefix(p.name, "data/"); ok && !p.v1 {
		return hint(err, "kv commands take the path without data/: %s/%s", p.mount, rest)
	}
	return err
}

func kvGet(f *flag.FlagSet) action {
	field := f.String("field", "", "print only the field with this `name`")
	version := f.Int("version", 0, "the version to read, 0 for the newest")
	return kvAction(f, func(c *cli, p place) error {
		if err := p.named(); err != nil {
			return err
		}
		if *version != 0 {
			if err := p.versioned("-version"); err != nil {
				return err
			}
		}
		b, err := p.read(c, *version)
		if err != nil {
			return err
		}
		return c.printSecret(p, b, *field)
	})
}

// read returns the answer for a version. A deleted version has metadata and no data; Vault answers 404 with a body.
func (p place) read(c *cli, version int) ([]byte, error) {
	query := url.Values{}
	if version != 0 {
		query.Set("version", strconv.Itoa(version))
	}
	b, err := p.api.do(c, http.MethodGet, p.at("data"), query, nil)
	if notFound(err) {
		e, _ := errors.AsType[*apiError](err)
		var s secret
		if decode(e.body, &s) == nil && s.Data != nil {
			return e.body, nil
		}
		return nil, p.absent("data")
	}
	return b, err
}

// printSecret prints the answer of a read or a write.
func (c *cli) printSecret(p place, b []byte, field string) error {
	asJSON, err := c.asJSON()
	if err != nil {
		return err
	}
	if p.v1 && (asJSON || field != "" || len(b) == 0) {
		return c.answer(b, field, "Success! Data written to: "+p.at("data"))
	}
	if asJSON && field == "" {
		return c.printJSON(b)
	}
	var s secret
	if err := decode(b, &s); err != nil {
		return err
	}
	c.warnings(s)
	if p.v1 {
		c.printSection("Data", s.Data)
		return nil
	}
	data, read := s.Data["data"].(map[string]any)
	metadata, ok := s.Data["metadata"].(map[string]any)
	if !ok {
		metadata = s.Data // the answer of a write is the metadata
	}
	if field != "" {
		if !ok {
			data = metadata
		} else if !read {
			return coded{fmt.Errorf("no data found at %s: the version is deleted", p.at("data")), 2}
		} else if _, own := data["data"]; field == "data" && !own {
			data = s.Data // all of the data, as in Vault
		}
		return c.printField(data, field)
	}
	fmt.Fprintf(c.stdout, "%s\n%s\n\n", headline("Secret Path", len(p.at("data"))), p.at("data"))
	c.printSection("Metadata", metadata)
	if read {
		fmt.Fprintln(c.stdout)
		c.printSection("Data", data)
	}
	return nil
}

// kvWrite returns an action whose arguments after the first are data.
func kvWrite(f *flag.FlagSet, write func(c *cli, p place, data object) ([]byte, error)) action {
	field := f.String("field", "", "print only the field with this `name`")
	var data object
	act := kvAction(f, func(c *cli, p place) error {
		if err := p.named(); err != nil {
			return err
		}
		b, err := write(c, p, data)
		if err != nil {
			return err
		}
		return c.printSecret(p, b, *field)
	})
	return func(c *cli, args []string) (err error) {
		if data, err = c.data(args[1:]); err != nil { // before anything goes to the server
			return err
		}
		return act(c, args)
	}
}

// send writes data: with POST as it is, with PATCH as changes. A cas that is not negative must be the number of the newest
// version.
func (p place) send(c *cli, method string, data any, cas int64) ([]byte, error) {
	body := object{"data": data}
	if cas >= 0 {
		body["options"] = object{"cas": cas}
	}
	return p.api.do(c, method, p.at("data"), nil, body)
}

func kvPut(f *flag.FlagSet) action {
	cas := f.Int64("cas", -1, "write only if the newest version has this `number`; 0: only if there is none")
	return kvWrite(f, func(c *cli, p place, data object) ([]byte, error) {
		if p.v1 && *cas >= 0 {
			return nil, p.versioned("-cas")
		}
		if p.v1 {
			return p.api.do(c, http.MethodPost, p.at("data"), nil, data)
		}
		return p.send(c, http.MethodPost, data, *cas)
	})
}

func kvPatch(f *flag.FlagSet) action {
	cas := f.Int64("cas", 0, "write only if the newest version has this `number`; 0 for any")
	method := f.String("method", "", "`way` to do it: patch sends the changes; rw reads the secret and writes it whole; else patch, and rw where that is not allowed")
	var remove list
	f.Var(&remove, "remove-data", "`key` to remove; can be repeated")
	act := kvWrite(f, func(c *cli, p place, changes object) ([]byte, error) {
		if err := p.versioned("kv patch"); err != nil {
			return nil, err
		}
		for _, k := range remove {
			changes[k] = nil
		}
		if *method == "rw" {
			return p.rewrite(c, changes, *cas)
		}
		number := *cas
		if number == 0 {
			number = -1
		}
		b, err := p.send(c, http.MethodPatch, changes, number)
		refused, _ := errors.AsType[*apiError](err)
		switch {
		case notFound(err):
			return nil, p.absent("data")
		case *method == "" && refused != nil && (refused.code == http.StatusForbidden || refused.code == http.StatusMethodNotAllowed):
			if b, err = p.rewrite(c, changes, *cas); err == nil {
				c.warnf("the server does not let this token PATCH %s: the secret was read and written as a whole; the policy lacks the capability \"patch\"", p.at("data"))
			}
		}
		return b, err
	})
	return func(c *cli, args []string) error {
		switch {
		case *method != "" && *method != "patch" && *method != "rw":
			return hint(fmt.Errorf("unknown method %q", *method), "-method is patch or rw")
		case len(args) == 1 && remove == nil:
			return hint(errors.New("no data is given"), "write KEY=VALUE after the path, or name keys with -remove-data")
		}
		return act(c, args)
	}
}

// rewrite reads the newest version and writes it with the changes, unless somebody else wrote one in between; a nil value
// removes a key. A cas that is not 0 must be the number of the newest version.
func (p place) rewrite(c *cli, changes object, cas int64) ([]byte, error) {
	data, version, err := p.content(c, 0)
	if err != nil {
		return nil, err
	}
	if data == nil {
		return nil, coded{fmt.Errorf("no data found at %s: the version is deleted", p.at("data")), 2}
	}
	for k, v := range changes {
		if data[k] = v; v == nil {
			delete(data, k)
		}
	}
	return p.send(c, http.MethodPost, data, cmp.Or(cas, version))
}

// content returns the data of a version (0: the newest), or nil if it is deleted, and the version's number.
func (p place) content(c *cli, version int) (map[string]any, int64, error) {
	p.api = p.api.plain()
	b, err := p.read(c, version)
	if err != nil {
		return nil, 0, err
	}
	var s struct {
		Data struct {
			Data     map[string]any
			Metadata struct{ Version int64 }
		}
	}
	err = decode(b, &s)
	return s.Data.Data, s.Data.Metadata.Version, err
}

func kvDelete(f *flag.FlagSet) action {
	var which versions
	f.Var(&which, "versions", "the `versions` to delete, with commas; else the newest")
	return kvAction(f, func(c *cli, p place) error {
		if err := p.named(); err != nil {
			return err
		}
		var err error
		if which != nil {
			err = p.versioned("-versions")
		}
		switch {
		case err != nil:
			return err
		case which == nil:
			_, err = p.api.do(c, http.MethodDelete, p.at("data"), nil, nil)
		default:
			_, err = p.api.do(c, http.MethodPost, p.at("delete"), nil, object{"versions": which})
		}
		return c.done(err, "Success! Data deleted (if it existed) at: "+p.at("data"))
	})
}

// done prints a sentence of success, unless the output is JSON.
func (c *cli) done(err error, sentence string) error {
	if err != nil {
		return err
	}
	if asJSON, _ := c.asJSON(); !asJSON {
		fmt.Fprintln(c.stdout, sentence)
	}
	return nil
}

func kvVersions(kind string) func(f *flag.FlagSet) action {
	return func(f *flag.FlagSet) action {
		var which versions
		f.Var(&which, "versions", "the `versions`, with commas; required")
		return kvVersionedAction(f, "kv "+kind, func(c *cli, p place) error {
			if err := p.named(); err != nil {
				return err
			}
			if which == nil {
				return hint(errors.New("no versions are named"), "give them: sealkeep kv %s -versions=1,2 %s/%s", kind, p.mount, p.name)
			}
			_, err := p.api.do(c, http.MethodPost, p.at(kind), nil, object{"versions": which})
			return c.done(err, "Success! Data written to: "+p.at(kind))
		})
	}
}

func kvRollback(f *flag.FlagSet) action {
	version := f.Int("version", 0, "the `version` whose data is written again; required")
	return kvVersionedAction(f, "kv rollback", func(c *cli, p place) error {
		if err := p.named(); err != nil {
			return err
		}
		if *version < 1 {
			return hint(errors.New("no version is named"), "give it: sealkeep kv rollback -version=1 %s/%s", p.mount, p.name)
		}
		_, newest, err := p.content(c, 0)
		if err != nil {
			return err
		}
		data, _, err := p.content(c, *version)
		if err != nil {
			return err
		}
		if data == nil {
			return coded{fmt.Errorf("version %d of %s is deleted or destroyed", *version, p.at("data")), 2}
		}
		b, err := p.send(c, http.MethodPost, data, newest)
		if err != nil {
			return err
		}
		return c.answer(b, "", "")
	})
}

func kvList(f *flag.FlagSet) action {
	return kvAction(f, func(c *cli, p place) error { return c.list(p.api, "LIST", p.at("metadata")) })
}

func kvScan(f *flag.FlagSet) action {
	return kvAction(f, func(c *cli, p place) error { return c.list(p.api, "SCAN", p.at("metadata")) })
}

// list prints the names beneath path, for the method LIST or SCAN.
func (c *cli) list(a *keepClient, method, path string) error {
	b, err := a.do(c, method, path, nil, nil)
	if err != nil && !notFound(err) {
		return err
	}
	var s secret
	if err == nil {
		if err := decode(b, &s); err != nil {
			return err
		}
	}
	c.warnings(s)
	asJSON, _ := c.asJSON()
	keys, _ := s.Data["keys"].([]any)
	if len(keys) == 0 {
		if asJSON { // Vault's way to say so
			fmt.Fprintln(c.stdout, "{}")
			return exit{2}
		}
		return coded{fmt.Errorf("no value found at %s", path), 2}
	}
	if asJSON {
		return c.printValue(keys)
	}
	rows := [][]string{{"Keys"}}
	for _, k := range keys {
		rows = append(rows, []string{text(k)})
	}
	table(c.stdout, rows)
	return nil
}

func kvMetadataGet(f *flag.FlagSet) action {
	field := f.String("field", "", "print only the field with this `name`")
	return kvVersionedAction(f, "kv metadata", func(c *cli, p place) error {
		b, err := p.api.do(c, http.MethodGet, p.at("metadata"), nil, nil)
		if notFound(err) {
			return p.absent("metadata")
		}
		if err != nil {
			return err
		}
		if asJSON, _ := c.asJSON(); asJSON && *field == "" {
			return c.printJSON(b)
		}
		var s secret
		if err := decode(b, &s); err != nil {
			return err
		}
		c.warnings(s)
		if *field != "" {
			return c.printField(s.Data, *field)
		}
		all, _ := s.Data["versions"].(map[string]any)
		delete(s.Data, "versions")
		fmt.Fprintf(c.stdout, "%s\n%s\n\n", headline("Metadata Path", len(p.at("metadata"))), p.at("metadata"))
		c.printSection("Metadata", s.Data)
		number := func(s string) int { n, _ := strconv.Atoi(s); return n }
		for _, n := range slices.SortedFunc(maps.Keys(all), func(a, b string) int { return cmp.Compare(number(a), number(b)) }) {
			version, _ := all[n].(map[string]any)
			fmt.Fprintln(c.stdout)
			c.printSection("Version "+n, version)
		}
		return nil
	})
}

func kvMetadataPut(method string) func(f *flag.FlagSet) action {
	return func(f *flag.FlagSet) action {
		custom := pairs{}
		var remove list
		cas := f.Bool("cas-required", false, "refuse writes without cas")
		metadataCAS := f.Int64("metadata-cas", 0, "write only if current_metadata_version is this `number`, which is 0 until metadata is written")
		metadataCASRequired := f.Bool("metadata-cas-required", false, "refuse writes of metadata without metadata-cas")
		after := f.String("delete-version-after", "", "`time` after which a version is deleted, such as 720h; 0s for never")
		keep := f.Int("max-versions", 0, "`number` of versions to keep; 0 for the mount's setting")
		f.Var(custom, "custom-metadata", "`key=value` to keep with the secret; can be repeated")
		if method == http.MethodPatch {
			f.Var(&remove, "remove-custom-metadata", "`key` to remove; can be repeated")
		}
		return kvVersionedAction(f, "kv metadata", func(c *cli, p place) error {
			if err := p.named(); err != nil {
				return err
			}
			body := object{}
			changes := object{}
			for k, v := range custom {
				changes[k] = v
			}
			for _, k := range remove {
				changes[k] = nil
			}
			f.Visit(func(fl *flag.Flag) {
				switch fl.Name {
				case "cas-required":
					body["cas_required"] = *cas
				case "metadata-cas":
					body["metadata_cas"] = *metadataCAS
				case "metadata-cas-required":
					body["metadata_cas_required"] = *metadataCASRequired
				case "delete-version-after":
					body["delete_version_after"] = *after
				case "max-versions":
					body["max_versions"] = *keep
				case "custom-metadata", "remove-custom-metadata":
					body["custom_metadata"] = changes
				}
			})
			b, err := p.api.do(c, method, p.at("metadata"), nil, body)
			if method == http.MethodPatch && notFound(err) {
				return p.absent("metadata")
			}
			if err != nil {
				return err
			}
			return c.answer(b, "", "Success! Data written to: "+p.at("metadata")) // which may have warnings
		})
	}
}

func kvMetadataDelete(f *flag.FlagSet) action {
	return kvVersionedAction(f, "kv metadata", func(c *cli, p place) error {
		if err := p.named(); err != nil {
			return err
		}
		_, err := p.api.do(c, http.MethodDelete, p.at("metadata"), nil, nil)
		return c.done(err, "Success! Data deleted (if it existed) at: "+p.at("metadata"))
	})
}

func kvEnableVersioning(*flag.FlagSet) action {
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		at := strings.Trim(args[0], "/")
		_, err = a.do(c, http.MethodPost, "sys/mounts/"+at+"/tune", nil, object{"options": object{"version": "2"}})
		return c.done(err, fmt.Sprintf("Success! Tuned the secrets engine at: %s/", at))
	}
}
