package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"github.com/sealkeep/sealkeep/recovery"
	"github.com/sealkeep/sealkeep/storage"
)

func backupCommands() []command {
	return []command{
		{"operator backup", "FILE|-", 1, 1, client, "copy the store of a running keep to a file", backupHelp, operatorBackup},
		{"operator backup inspect", "FILE", 1, 1, local, "show what a backup is of", inspectHelp, backupInspect},
		{"operator restore", "FILE", 1, 1, local, "put a backup in the place of a store that is not in use", restoreHelp, operatorRestore},
		{"operator storage compact", "", 0, 0, local, "rewrite a store file that is not in use", compactHelp, storageCompact},
	}
}

const (
	backupHelp = `Copies the store as it is at one moment, while the keep serves on, to FILE or to standard output (-). It is ciphertext with
its slots: whatever opens the keep now opens the backup, and nothing else does. The keep checks the copy before it sends it; its
length and checksum are compared here. FILE appears when it is complete, with mode 0600; one that is there already is not replaced.
Exit code: 0 done, 2 an error of the keep, 1 a local one.`
	inspectHelp = `Checks the pages of a backup, or of the store file of a keep that is stopped, and shows what it is of: the store, its slots,
how much is in it. It needs no key, and what it shows could have been written by anybody who can write the file; restore and
storage check open it.
Exit code: 0 whole, 2 damaged, 1 the file cannot be read.`

	backupMake  = time.Hour       // limit for the keep to make the backup
	backupStall = 2 * time.Minute // limit without a byte
)

func operatorBackup(f *flag.FlagSet) action {
	force := f.Bool("force", false, "replace FILE if there is one")
	return func(c *cli, args []string) error {
		a, err := c.api()
		if err != nil {
			return err
		}
		path := args[0]
		if path == "-" {
			if out, ok := c.stdout.(*os.File); ok && term.IsTerminal(int(out.Fd())) {
				return hint(errors.New("a backup is not for a terminal"), "sealkeep operator backup - | ..., or name a file")
			}
			_, err := c.download(a, func() (io.Writer, error) { return c.stdout, nil })
			return err
		}
		if err := free(path, *force); err != nil {
			return err
		}
		got, err := c.downloadTo(a, path, *force)
		if err != nil {
			return err
		}
		if asJSON, _ := c.asJSON(); asJSON {
			return c.printValue(map[string]any{"file": path, "store_id": got.store, "size": got.size})
		}
		fmt.Fprintf(c.stdout, "Success! The backup is in %s: store %s, %d bytes\n", path, got.store, got.size)
		return nil
	}
}

// free returns an error unless a file may be created at path.
func free(path string, force bool) error {
	switch fi, err := os.Lstat(path); {
	case err != nil: // not there, or creating it will fail
		return nil
	case !force:
		return hint(fmt.Errorf("%s is there already", path), "choose another name, or replace it with -force")
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	}
	return nil
}

// backup describes a downloaded backup.
type backup struct {
	store, sum string
	size       int64
}

// downloadTo downloads a backup to a durable file at path. After an error, path is as it was.
func (c *cli) downloadTo(a *keepClient, path string, force bool) (got backup, err error) {
	tmp := path + ".sealkeep-part"
	var f *os.File
	defer func() {
		if f != nil {
			f.Close()
			os.Remove(tmp)
		}
	}()
	// The file is created when the answer comes. The keep makes one backup at a time, so an existing file was left by a crash.
	got, err = c.download(a, func() (io.Writer, error) {
		if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		var err error
		f, err = os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return f, err
	})
	if err != nil {
		return got, err
	}
	if err = f.Sync(); err == nil {
		err = free(path, force) // it may have been created in the meantime
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncFolder(path)
	}
	if err != nil {
		return got, fmt.Errorf("writing the backup: %w", err)
	}
	return got, nil
}

// syncFolder makes the entries of path's folder durable.
func syncFolder(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// download writes a backup to the writer that open returns, and checks its length and checksum.
func (c *cli) download(a *keepClient, open func() (io.Writer, error)) (got backup, err error) {
	ctx, cancel := context.WithCancelCause(c)
	defer cancel(nil)
	stall := time.AfterFunc(backupMake, func() { cancel(fmt.Errorf("no data came within %v", backupMake)) })
	defer stall.Stop()
	req, err := a.request(ctx, http.MethodGet, "sys/storage/backup", nil, nil)
	if err != nil {
		return got, err
	}
	slow := *a.http
	slow.Timeout = 0 // no limit on the whole download: stall replaces it
	resp, err := slow.Do(req)
	if err != nil {
		return got, coded{a.explain(cmp.Or(context.Cause(ctx), err)), 2}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // whatever can be read of it says why
		return got, coded{a.refusal(&apiError{method: req.Method, url: req.URL.String(), code: resp.StatusCode, body: body}), 2}
	}
	got = backup{store: resp.Header.Get("X-Sealkeep-Store"), sum: resp.Header.Get("X-Sealkeep-Crc32c"), size: resp.ContentLength}
	if got.sum == "" || got.size < 0 {
		return got, coded{hint(errors.New("the answer is no backup"), "is the address that of a sealkeep server of this version?"), 2}
	}
	to, err := open()
	if err != nil {
		return got, fmt.Errorf("writing the backup: %w", err)
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	buf := make([]byte, 1<<20)
	came := int64(0)
	var werr error
	for err == nil && werr == nil {
		stall.Reset(backupStall)
		var n int
		n, err = io.ReadFull(resp.Body, buf)
		came += int64(n)
		sum.Write(buf[:n])
		_, werr = to.Write(buf[:n])
	}
	if werr != nil {
		return got, fmt.Errorf("writing the backup: %w", werr)
	}
	switch {
	case ctx.Err() != nil:
		return got, coded{fmt.Errorf("reading the backup: %w", context.Cause(ctx)), 2}
	case came != got.size:
		return got, coded{fmt.Errorf("reading the backup: cut off after %d of %d bytes: %w", came, got.size, err), 2}
	case fmt.Sprintf("%08x", sum.Sum32()) != got.sum:
		return got, coded{errors.New("the backup was damaged on the way: its checksum differs"), 2}
	}
	return got, nil
}

func backupInspect(f *flag.FlagSet) action {
	format := f.String("format", "", "`table` or json; else VAULT_FORMAT")
	return func(c *cli, args []string) error {
		c.remote.format = *format
		asJSON, err := c.asJSON()
		if err != nil {
			return err
		}
		info, err := storage.Inspect(args[0])
		if err != nil {
			return damaged(explainLock(err, "stop the keep first; or take a backup of it, and inspect that"))
		}
		if asJSON {
			return c.printValue(inspection(info))
		}
		table(c.stdout, [][]string{{"Key", "Value"},
			{"Store ID", info.UUID},
			{"Store Created", info.Created.Format(time.RFC3339)},
			{"Format", fmt.Sprintf("%d, read by versions that read %d", info.Format, info.Reader)},
			{"File Modified", info.Modified.UTC().Format(time.RFC3339)},
			{"Size", fmt.Sprintf("%d bytes, %d of them in free pages", info.Size, info.Free)},
			{"Records", fmt.Sprintf("%d values, %d chunks of large values", info.Values, info.Chunks)},
			{"Transaction", fmt.Sprint(info.Transaction)},
			{"SHA-256", hex.EncodeToString(info.SHA256[:])},
		})
		rows := [][]string{{"Slot", "Type", "Key ID", "Root Key", "Created", "Set"}}
		for _, s := range info.Slots {
			rows = append(rows, []string{s.Name, s.Type, cmp.Or(s.KeyID, "n/a"), fmt.Sprint(s.RootGeneration), s.Created.Format(time.RFC3339), cmp.Or(shareSet(s), "n/a")})
		}
		fmt.Fprintln(c.stdout)
		table(c.stdout, rows)
		return nil
	}
}

// damaged gives an error about a damaged file the exit code 2.
func damaged(err error) error {
	if errors.Is(err, storage.ErrCorrupt) {
		return coded{hint(err, "keep the file as it is, and take another backup"), 2}
	}
	return err
}

// shareSet returns the ID of the recovery shares that open a slot, according to the file, or "" for other slots.
func shareSet(slot storage.Slot) string {
	if slot.Type != recovery.Shares {
		return ""
	}
	set, err := recovery.SetID(slot.Lock)
	if err != nil {
		return "damaged"
	}
	return set
}

// inspection returns the JSON form of info.
func inspection(info storage.Info) any {
	type slot struct {
		Name           string    `json:"name"`
		Type           string    `json:"type"`
		KeyID          string    `json:"key_id"`
		RootGeneration uint64    `json:"root_generation"`
		Created        time.Time `json:"created"`
		Set            string    `json:"set,omitempty"`
	}
	slots := []slot{}
	for _, s := range info.Slots {
		slots = append(slots, slot{s.Name, s.Type, s.KeyID, s.RootGeneration, s.Created, shareSet(s)})
	}
	return struct {
		Format      int       `json:"format"`
		Reader      int       `json:"reader"`
		StoreID     string    `json:"store_id"`
		Created     time.Time `json:"created"`
		Slots       []slot    `json:"slots"`
		Values      uint64    `json:"values"`
		Chunks      uint64    `json:"chunks"`
		Size        int64     `json:"size"`
		Free        int64     `json:"free"`
		Transaction uint64    `json:"transaction"`
		Modified    time.Time `json:"modified"`
		SHA256      string    `json:"sha256"`
	}{info.Format, info.Reader, info.UUID, info.Created, slots, info.Values, info.Chunks, info.Size, info.Free, info.Transaction,
		info.Modified.UTC(), hex.EncodeToString(info.SHA256[:])}
}
