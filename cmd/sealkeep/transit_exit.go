package main

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sealkeep/sealkeep/engine/transit"
	"github.com/sealkeep/sealkeep/mount"
	"github.com/sealkeep/sealkeep/seal"
	"github.com/sealkeep/sealkeep/storage"
)

const transitExportHelp = `Writes a symmetric transit KEY with all its versions as JSON, for sealkeep transit convert-state; with -version one version
alone as base64, which seal "static" (current_key) and KMS_BACKEND=local (KMS_KEY) take. Whoever has it can decrypt what the
key has encrypted: -out makes a file that only you can read.

It asks the keep, which gives a key that was made exportable. When there is no keep any more, it reads the store that -config
or -store names, such as a copy of a backup, opened by a seal of the configuration or by recovery (-identity, -share). Whoever
can open the store gets every key, also those that are not exportable.`

const transitConvertHelp = `Converts a file that transit has encrypted ("vault:v1:...", any version), such as a state of terraform-backend, with a key
that sealkeep transit export has written, without a keep. The result is what KMS_BACKEND=local of terraform-backend reads with
the latest version of the key as KMS_KEY; with -plaintext it is decrypted. A state or plan that OpenTofu has encrypted by its
key providers openbao or external (sealkeep tofu-key-provider) with the method aes_gcm can be decrypted, too. FILE may be - for
standard input; -out makes a new file.`

func transitExport(f *flag.FlagSet) action {
	m := mountFlag(f)
	version := f.String("version", "", "write this `version` alone, or the latest, as base64")
	out := f.String("out", "", "`file` to make, mode 0600 (default: standard output)")
	store := f.String("store", "", "the `file` of a store that no keep has open")
	var o restore
	f.Var(&o.configs, "config", "configuration `file or folder` of a keep that is stopped; can be repeated")
	o.identity = identityFlag(f)
	f.Var(&o.shares, "share", "recovery `share`; can be repeated; - reads them from standard input, one a line")
	return func(c *cli, args []string) error {
		offline := *store != "" || o.configs != nil
		if !offline && (*o.identity != "" || o.shares != nil) {
			return hint(errors.New("-identity and -share open a store, and none is named"), "name it with -store=FILE, or with the -config of the keep")
		}
		var x *transit.Exported
		var err error
		if offline {
			x, err = c.exportFromStore(o, *store, *m, args[0])
		} else {
			x, err = c.exportFromKeep(*m, args[0])
		}
		if err != nil {
			return err
		}
		text, err := json.MarshalIndent(x, "", "  ")
		if err != nil {
			return fmt.Errorf("encoding the key: %w", err)
		}
		if *version != "" {
			n := x.Latest()
			if *version != "latest" {
				if n, err = strconv.Atoi(strings.TrimPrefix(*version, "v")); err != nil || x.Keys[n] == nil {
					return hint(fmt.Errorf("the key %s has no version %s to be exported", args[0], *version), "its latest is %d", x.Latest())
				}
			}
			text = []byte(x.Text(n))
		}
		return c.deliver(*out, append(text, '\n'))
	}
}

// deliver writes to a new file, or to standard output when file is "".
func (c *cli) deliver(file string, b []byte) error {
	if file == "" || file == "-" {
		_, err := c.stdout.Write(b)
		return err
	}
	err := createFile(file, string(b))
	if errors.Is(err, fs.ErrExist) {
		return hint(fmt.Errorf("%s is there already", file), "choose another name")
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}

func (c *cli) exportFromKeep(mount, name string) (*transit.Exported, error) {
	a, err := c.api()
	if err != nil {
		return nil, err
	}
	b, err := a.do(c, http.MethodGet, keyPath(mount, "export", "encryption-key", name), nil, nil)
	if notFound(err) {
		return nil, coded{fmt.Errorf("there is no key %s at %s", name, strings.Trim(mount, "/")), 2}
	}
	if e, ok := errors.AsType[*apiError](err); ok && strings.Contains(strings.Join(e.errors, " "), "not exportable") {
		return nil, coded{hint(fmt.Errorf("the keep does not give away the key %s: it was not made exportable", name),
			"with -store or -config, it is read from a store that is opened by a seal, or by -share or -identity"), 2}
	}
	if err != nil {
		return nil, noMount(err, mount)
	}
	var answer struct{ Data json.RawMessage }
	if err := decode(b, &answer); err != nil {
		return nil, err
	}
	x, err := transit.ParseExported(answer.Data)
	if err != nil {
		return nil, fmt.Errorf("exporting %s: %w", name, err)
	}
	return x, nil
}

// exportFromStore reads a key from the store at path, or from that of the configuration when path is "".
func (c *cli) exportFromStore(o restore, path, at, name string) (x *transit.Exported, err error) {
	var seals []*seal.Seal
	if o.configs != nil {
		conf, made, err := loadConfig(o.configs, c.lookup)
		if err != nil {
			return nil, coded{err, 1}
		}
		defer closeAll(made)
		seals = made
		if path == "" {
			path = conf.Storage.Path
		}
	}
	k, err := c.openers(o, seals)
	if err != nil {
		return nil, err
	}
	store, err := storage.Open(path, storage.Options{LockTimeout: checkLockWait})
	if err != nil {
		return nil, explainLock(err, "stop the keep first, or name a copy of a backup with -store")
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if _, err := k.open(c, store); err != nil {
		return nil, hint(fmt.Errorf("nothing given here opens the store: %w", err), "give -identity, enough -share, or a -config with one of its seals")
	}
	err = store.View(c, func(tx *storage.Tx) error {
		table, err := mount.ReadTable(tx, mount.EnginesPath)
		if err != nil {
			return err
		}
		m := table.At(strings.Trim(at, "/"))
		if m == nil || m.Type != "transit" {
			return hint(fmt.Errorf("the store has no transit engine at %s", at), "-mount says where it was mounted")
		}
		x, err = transit.Export(tx, m, name)
		return err
	})
	if err != nil {
		return nil, damaged(fmt.Errorf("exporting %s: %w", name, err))
	}
	return x, nil
}

// maxState bounds what is read to be converted.
const maxState = 256 << 20

func transitConvert(f *flag.FlagSet) action {
	key := f.String("key", "", "`file` that sealkeep transit export has written")
	plain := f.Bool("plaintext", false, "decrypt it")
	out := f.String("out", "", "`file` to make, mode 0600 (default: standard output)")
	return func(c *cli, args []string) error {
		if *key == "" {
			return hint(errors.New("no key is given"), "-key names a file that sealkeep transit export has written")
		}
		b, err := readShort(*key, maxInput)
		if err != nil {
			return fmt.Errorf("reading the key: %w", err)
		}
		x, err := transit.ParseExported(b)
		if err != nil {
			return fmt.Errorf("reading the key: %s: %w", *key, err)
		}
		if !*plain && x.Type != "aes256-gcm96" {
			return hint(fmt.Errorf("KMS_BACKEND=local takes no key of the type %s", x.Type), "-plaintext decrypts the file")
		}
		in, err := c.readAll(args[0], maxState)
		if err != nil {
			return err
		}
		convert := x.Local
		switch in = bytes.TrimSpace(in); {
		case bytes.HasPrefix(in, []byte("{")) && !*plain:
			return hint(fmt.Errorf("%s is not what terraform-backend has stored, but JSON", source(args[0])), "if OpenTofu has encrypted it, -plaintext decrypts it")
		case bytes.HasPrefix(in, []byte("{")):
			convert = func(b []byte) ([]byte, error) { return openTofu(x, b) }
		case *plain:
			convert = x.Open
		}
		made, err := convert(in)
		if err != nil {
			return fmt.Errorf("converting %s: %w", source(args[0]), err)
		}
		return c.deliver(*out, made)
	}
}

// openTofu decrypts what OpenTofu has encrypted by the method aes_gcm, with a data key of a transit key.
func openTofu(x *transit.Exported, b []byte) ([]byte, error) {
	var file struct {
		Meta      map[string][]byte `json:"meta"` // by key provider
		Encrypted []byte            `json:"encrypted_data"`
		Version   string            `json:"encryption_version"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, fmt.Errorf("decoding it: %w", err)
	}
	if file.Version != "v0" {
		return nil, fmt.Errorf("OpenTofu has not encrypted it: its encryption_version is %.20q, not v0", file.Version)
	}
	why := errors.New("none of its key providers is openbao or external")
	for _, provider := range slices.Sorted(maps.Keys(file.Meta)) {
		var meta struct {
			Ciphertext []byte `json:"ciphertext"` // of openbao
			tofuMeta
		}
		if json.Unmarshal(file.Meta[provider], &meta) != nil {
			continue // another provider's
		}
		wrapped := cmp.Or(string(meta.Ciphertext), meta.External.Ciphertext)
		if wrapped == "" {
			continue
		}
		key, err := x.Open([]byte(wrapped))
		if err != nil {
			why = fmt.Errorf("the data key of %s: %w", provider, err)
			continue
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("the data key of %s: %w", provider, err)
		}
		gcm, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		plain, err := gcm.Open(nil, nil, file.Encrypted, nil)
		if err == nil {
			return plain, nil
		}
		why = fmt.Errorf("the data key of %s does not open it: the file was altered, or its method is not aes_gcm, or has an aad", provider)
	}
	return nil, why
}

// readAll reads a file, or standard input when that is "-".
func (c *cli) readAll(file string, most int64) ([]byte, error) {
	var in io.Reader
	if file == "-" {
		in = c.input()
	} else {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", source(file), err)
	}
	return b, nil
}
